//! The loader: a thread that reads, compiles and proves sets of rules, and hands sets that may run to the data loops.
//!
//! Only the loader decides which set should run, by the precedence of docs/rules.md:
//!
//! 1. the set that an operator has pinned, if it can be proven;
//! 2. the set of the folder and the configuration, if it can be proven and was not taken back by a trial;
//! 3. the last set that was live, was not taken back, and is not on trial.
//!
//! A trial outlives the process: if the folder's set was on trial, or has never been live, a process begins with the set from
//! before. The folder's set takes its place at once, on trial.
//!
//! The loader decides anew whenever a file, the configuration or a decision in the state folder has changed. A refusal changes
//! nothing but the status, which shows the refusal until it is resolved. The data loops never wait for the loader.

mod activation;
mod commands;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::bootstrap::{Bootstrap, last_good, pending_in_folder, prove_folder, prove_kept, warn_of_pin};
use super::decision::{Decision, Folder, Pin, Standing, decide};
use super::report::SetRefusal;
use super::settings::{Settings, SettingsSource};
use super::store::{Decisions, Store};
use super::watch::FileWatch;
use super::{File, Handle, PendingRequest, SharedStatus, update};
use activation::{ActivationCause, Pending};
use weir_engine::protocol::{self, LiveReason, Loops};
use weir_engine::shadow::Candidate;
use weir_engine::trial::TrackRecord;
use weir_system::clock::now;
use weir_wasm::Runtime;
use weir_wasm::definition::Definition;
use weir_wasm::description::SetDescription;
use weir_wasm::ruleset::RuleSet;

/// The pause between two looks at the files. A change is taken once two looks have found the same.
const LOOK: Duration = Duration::from_millis(150);
/// The time that the data loops get for activating a set, before the operator is told that the set goes live later.
const TAKING: Duration = Duration::from_secs(20);
/// The time for which a file that is being copied may rest before its error is reported again.
const COPYING: Duration = Duration::from_secs(5);

/// Reads, proves and hands over sets of rules.
pub struct Loader {
    settings: Settings,
    source: Box<dyn SettingsSource>,
    runtime: Runtime,
    store: Store,
    status: SharedStatus,
    live: Live,
    /// The set that ran before, for as long as a trial may bring it back.
    before: Option<Live>,
    /// The set that the set on trial has replaced, if that set was on trial itself.
    replaced: Option<Live>,
    /// The set that was handed over but is not live yet, because a data loop waits for Kafka.
    pending: Option<Pending>,
    /// The time that the data loops get for activating a set. Zero while there is no data loop.
    patience: Duration,
    /// Watches the files and the decisions. The decisions are None if they can't be read.
    watch: FileWatch<Option<Decisions>>,
    /// The time at which the folder's rules were refused last.
    refused: Option<Instant>,
    candidate: Option<(Candidate, Vec<File>)>,
    /// The baseline of the first set, if the folder's set has to stand its trial against it anew.
    again: Option<TrackRecord>,
    /// The pin about which the log has already said that it can't be used.
    unusable: Option<String>,
    loops: Loops,
}

/// A set, and the reason why it runs.
struct Live {
    definition: Definition,
    set: Arc<SetDescription>,
    why: LiveReason,
}

impl Loader {
    /// Returns a loader for a process that begins with `first`. The loader reads its configuration again from `source`.
    pub fn new(settings: Settings, source: Box<dyn SettingsSource>, runtime: Runtime, store: Store, first: &Bootstrap) -> Loader {
        let live = Live::of(&first.rules, first.why);
        let status = SharedStatus::default();
        update(&status, |status| {
            status.live.clone_from(&live.set.hash);
            (status.why, status.refusal) = (first.why, first.refusal.clone());
            status.folder.clone_from(&first.folder);
            status.refused = u64::from(first.refusal.is_some());
        });
        Loader {
            settings,
            source,
            runtime,
            store,
            status,
            live,
            before: None,
            replaced: None,
            pending: None,
            patience: TAKING,
            watch: FileWatch::default(),
            refused: None,
            candidate: None,
            again: first.again,
            unusable: first.unusable.clone(),
            loops: protocol::connect(0).0,
        }
    }

    /// Starts the thread of the loader, which hands sets to the data loops `loops`.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn start(mut self, loops: Loops) -> anyhow::Result<Handle> {
        let (handle, asked) = Handle::new(self.status.clone(), self.store.clone());
        self.loops = loops;
        self.save(&self.live);
        if self.again.is_some() {
            // The data loops do not run yet, so waiting for them is useless. They find the set before they read the first record.
            let patience = std::mem::take(&mut self.patience);
            self.review();
            self.patience = patience;
        }
        let started = thread::Builder::new().name("weir-loader".into()).spawn(move || self.run(&asked));
        started.context("failed to start the loader")?;
        Ok(handle)
    }

    /// Answers requests and looks for changes, until no handle is left.
    fn run(mut self, asked: &Receiver<PendingRequest>) {
        let _alarm = Alarm(self.status.clone());
        let mut looked = Instant::now();
        loop {
            match asked.recv_timeout(LOOK.saturating_sub(looked.elapsed())) {
                Ok(PendingRequest { request, answer }) => {
                    let answered = self.answer(request).map_err(|error| refusal(&error));
                    if let Err(refusal) = &answered {
                        tracing::warn!("refused: {}", refusal.message);
                    }
                    // The caller may have gone.
                    let _ = answer.send(answered);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() >= LOOK {
                self.look();
                looked = Instant::now();
            }
        }
    }

    /// Looks for events of the data loops, and for changes of the files and decisions.
    fn look(&mut self) {
        self.handle_events();
        if let Some((candidate, _)) = &self.candidate {
            let report = candidate.report();
            update(&self.status, |status| status.shadow = Some(report));
        }
        if self.pending.is_some() || !self.settings.watch {
            return;
        }
        let (files, decisions) = (self.files(), self.store.decisions().ok());
        if self.watch.look(files.into_iter(), decisions) {
            self.review();
        }
    }

    /// Decides which set should run, and puts a refusal into the status.
    fn review(&mut self) {
        if let Err(error) = self.follow() {
            let refusal = refusal(&error);
            let mut known = false;
            update(&self.status, |status| known = status.refusal.as_ref().is_some_and(|last| last.message == refusal.message));
            let is_copied = self.watch.have_only_grown(self.files().into_iter())
                && self.refused.is_some_and(|refused| refused.elapsed() < COPYING);
            self.refused = Some(Instant::now());
            if known {
                return; // The refusal stands in the status until it is resolved. Repeating it is of no use.
            }
            if !is_copied {
                self.count_refused();
                tracing::error!(
                    running = self.live.set.hash,
                    "changed rules are refused, nothing has changed: {}",
                    refusal.message
                );
            }
            update(&self.status, |status| status.refusal = Some(refusal));
        }
    }

    /// Makes the set run that should run. Returns as an error the reason why the folder's set does not run.
    fn follow(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let pin = self.look_at_pin()?;
        let live = if self.is_taken_back() { Standing::TakenBack } else { Standing::Good };
        match decide(pin, || self.look_at_folder(), live) {
            Decision::Wait => Ok(()),
            Decision::Keep(LiveReason::Pinned) => self.check_pending_in_folder(),
            Decision::Keep(_) => {
                self.keep_folder();
                Ok(())
            }
            Decision::Activate(rules, why) => self.go_live(&rules, ActivationCause::Found(why), began).map(drop),
            Decision::Refuse(error) => {
                self.keep_last_good();
                Err(error)
            }
            Decision::FallBack(error) => {
                self.keep_last_good();
                self.fall_back(began).context(format!("{error:#}")).and(Err(error))
            }
        }
    }

    /// Returns whether a set is pinned, and whether it can run.
    fn look_at_pin(&mut self) -> anyhow::Result<Pin<RuleSet>> {
        let Some(pin) = self.store.pin()? else {
            self.unusable = None;
            return Ok(Pin::None);
        };
        // A pinned set that is still on trial could be taken back by the trial, so its trial has to end.
        if pin == self.live.set.hash && self.before.is_none() {
            self.unusable = None;
            return Ok(Pin::Live);
        }
        match prove_kept(&self.settings, &self.runtime, &self.store, &pin) {
            // Another process that shares the state folder has pinned this set.
            Ok(rules) => Ok(Pin::Other(rules)),
            Err(error) => {
                if self.unusable.as_ref() != Some(&pin) {
                    warn_of_pin(Some(&pin), &error);
                }
                self.unusable = Some(pin);
                Ok(Pin::None)
            }
        }
    }

    /// Returns the set of the folder and the configuration, or the reason why it can't run.
    fn look_at_folder(&mut self) -> Folder<RuleSet, anyhow::Error> {
        let files = self.files();
        let definition = self.reload().and_then(|()| self.settings.definition());
        if !self.watch.still(files.into_iter()) {
            return Folder::Unsettled; // Some files that were read may be older than the others. The next looks see the change.
        }
        let is_live = |definition: &Definition| definition.hash() == self.live.set.hash && !self.is_taken_back();
        match definition {
            Ok(definition) if is_live(&definition) => Folder::Live,
            Ok(definition) => match prove_folder(&self.runtime, &self.store, definition) {
                Ok(rules) => Folder::Other(rules),
                Err(error) => Folder::Nothing(error),
            },
            Err(error) => Folder::Nothing(error),
        }
    }

    /// Returns whether a trial speaks against the set in force. If it does, the trial was one of another process, and the set
    /// still runs in this one.
    fn is_taken_back(&self) -> bool {
        self.store.taken_back(&self.live.set.hash).is_some()
    }

    /// Notes that the folder has the set in force.
    fn keep_folder(&mut self) {
        let mut news = std::mem::replace(&mut self.live.why, LiveReason::Folder) != LiveReason::Folder;
        update(&self.status, |status| {
            news |= status.refusal.is_some();
            (status.why, status.refusal, status.folder) = (LiveReason::Folder, None, None);
        });
        if news {
            tracing::info!(ruleset = self.live.set.hash, "the folder has the rules that run");
        }
    }

    /// Notes that the set in force stays, although the folder has another one, which can't run.
    fn keep_last_good(&mut self) {
        self.live.why = LiveReason::LastGood;
        update(&self.status, |status| status.why = LiveReason::LastGood);
    }

    /// Activates the last good set.
    fn fall_back(&mut self, began: Instant) -> anyhow::Result<()> {
        let rules = last_good(&self.settings, &self.runtime, &self.store).context("there is no other set to go on with")?;
        self.go_live(&rules, ActivationCause::Found(LiveReason::LastGood), began).map(drop)
    }

    /// Checks which set waits in the folder while a set is pinned. Returns as an error the reason why it could not run.
    fn check_pending_in_folder(&mut self) -> anyhow::Result<()> {
        self.live.why = LiveReason::Pinned;
        let folder =
            self.reload().and_then(|()| pending_in_folder(&self.settings, &self.runtime, &self.store, &self.live.set.hash));
        let (folder, failed) = match folder {
            Ok(folder) => (folder, Ok(())),
            Err(error) => (None, Err(error)),
        };
        update(&self.status, |status| {
            if let Some(folder) = folder.as_ref().filter(|_| folder != status.folder) {
                tracing::warn!(
                    pinned = self.live.set.hash,
                    folder,
                    "the folder's rules are others, and wait: `weir rules resume` takes them"
                );
            }
            (status.why, status.folder) = (LiveReason::Pinned, folder);
            if failed.is_ok() {
                status.refusal = None;
            }
        });
        failed
    }

    /// Reads the configuration again. Takes only the settings of rules, trials and shadows. Other changes are reported.
    fn reload(&mut self) -> anyhow::Result<()> {
        let (Settings { pipeline, folder, trial, shadow_share, .. }, pending) = self.source.read()?;
        self.tell_pending(pending);
        let Settings { watch, state, history, counted, .. } = self.settings.clone();
        self.settings = Settings { pipeline, folder, trial, shadow_share, watch, state, history, counted };
        Ok(())
    }

    fn tell_pending(&self, pending: Vec<String>) {
        let keys = pending.join(", ");
        let mut before = Vec::new();
        update(&self.status, |status| before = std::mem::replace(&mut status.pending, pending));
        match keys.as_str() {
            keys if keys == before.join(", ") => {}
            "" => tracing::info!("nothing of the configuration waits for a restart any more"),
            keys => tracing::warn!("changed in the configuration, and taken only by a restart: {keys}"),
        }
    }

    fn count_refused(&self) {
        update(&self.status, |status| status.refused += 1);
    }

    /// Returns the files that are watched: those of the rules, and the configuration.
    fn files(&self) -> Vec<PathBuf> {
        let rules = self.settings.pipeline.iter().map(|rule| rule.file.clone());
        rules.chain(self.source.file()).collect()
    }
}

/// Reports a panic of the loader. Otherwise it would go unnoticed until the next swap, because records flow on.
struct Alarm(SharedStatus);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            let message =
                "the loader of rules has failed, and swaps nothing any more; see the log of the process, and restart it";
            tracing::error!("{message}");
            update(&self.0, |status| status.refusal = Some(SetRefusal { at: now(), message: message.into() }));
        }
    }
}

impl Live {
    fn of(rules: &RuleSet, why: LiveReason) -> Live {
        Live { definition: rules.definition().clone(), set: Arc::clone(rules.description()), why }
    }
}

pub(crate) fn refusal(error: &anyhow::Error) -> SetRefusal {
    SetRefusal { at: now(), message: format!("{error:#}") }
}
