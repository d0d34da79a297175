//! The way of a proven set to the data loops, and the notes about a set that is live, has passed its trial, or was taken back.
//!
//! The order of the steps decides what a refusal and a crash leave behind. There is therefore only one order, in
//! [`Loader::go_live`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::{Live, Loader};
use crate::report::{Deployed, SetRefusal, TakenBack};
use crate::store::{Saved, Store};
use crate::update;
use weir_engine::RuleInstances;
use weir_engine::protocol::{Activated, Activation, Command, Event, Judgement, LiveReason, LoopId, OnTrial};
use weir_engine::shared_trial::SharedTrial;
use weir_system::clock::now;
use weir_system::files;
use weir_wasm::Occasion;
use weir_wasm::description::{SetDescription, changes};
use weir_wasm::ruleset::RuleSet;

/// A set that not all data loops have activated yet.
pub(crate) struct Pending {
    next: Live,
    /// The loops that have not activated the set yet.
    waiting: Vec<LoopId>,
    /// The reports of the other loops.
    reports: ActivationReports,
    /// The verdict on the set, if the loops that have activated it have reached one already. It is handled once the set is live.
    verdict: Option<Judgement>,
}

/// The reports of data loops that have activated a set.
#[derive(Default)]
struct ActivationReports {
    from: BTreeMap<i32, i64>,
    trial: Option<OnTrial>,
    replaced: Option<String>,
}

impl ActivationReports {
    fn add(&mut self, activated: Activated) {
        self.from.extend(activated.from);
        // The trial is one for all loops, and all loops have kept the same sets.
        self.replaced = self.replaced.take().or(activated.replaced);
        self.trial = self.trial.take().or(activated.trial);
    }
}

/// A set that all data loops have activated.
pub(crate) struct Completed {
    from: BTreeMap<i32, i64>,
    /// The result of writing to the state folder that the set is live.
    kept: anyhow::Result<()>,
}

/// The cause for which a set goes live.
pub(crate) enum ActivationCause<'a> {
    /// The folder has the set, or another process has decided for it.
    Found(LiveReason),
    /// An operator deploys these files: they are put in place, and the folder is followed from now on.
    Deployed(Vec<(PathBuf, &'a [u8])>),
    /// An operator goes back to the set.
    Rollback,
    /// An operator asks to follow the folder again.
    Resumed,
}

impl ActivationCause<'_> {
    fn why(&self) -> LiveReason {
        match self {
            ActivationCause::Found(why) => *why,
            ActivationCause::Deployed(_) | ActivationCause::Resumed => LiveReason::Folder,
            ActivationCause::Rollback => LiveReason::Pinned,
        }
    }

    /// Returns an error if the set that an operator has made live is not `kept`. If no operator has asked, only the status says
    /// so.
    fn told(&self, kept: anyhow::Result<()>, hash: &str) -> anyhow::Result<()> {
        match self {
            ActivationCause::Found(_) => Ok(()),
            _ => kept.with_context(|| format!("failed to keep the set {hash}, which is live all the same")),
        }
    }
}

impl Loader {
    /// Makes a set live, and waits until it is live.
    ///
    /// Everything that can be refused is refused before anything has changed. The state folder then gets the trial and the
    /// description of the set, before a restart can find the set in the folder and before a record bears its hash. Once the data
    /// loops have activated the set, it is in the history. A process that ends in between, or a refusal, therefore leaves the set
    /// from before in force, or this one on trial.
    ///
    /// If the state folder can't be written, a set that an operator deploys or resumes is refused. Other decisions take effect
    /// all the same, because a refusal would make nothing better, and the status says that the set is not kept. A set that is in
    /// force already, or that can't be kept in the last step, stays live, too. Then the operator also gets an error.
    pub(crate) fn go_live(&mut self, rules: &RuleSet, cause: ActivationCause<'_>, began: Instant) -> anyhow::Result<Deployed> {
        ensure!(self.pending.is_none(), "another set waits for a data loop, which waits for Kafka; try again later");
        let next = Live::of(rules, cause.why());
        let deployed = self.deployed(&next.set, began);
        // A pin ends the trial of the set in force, and only the data loops can end a trial.
        let trial_ends = next.why == LiveReason::Pinned && self.before.is_some();
        if next.set.hash == self.live.set.hash && !trial_ends {
            self.carry_out(&cause, &next.set.hash)?;
            let kept = self.note_live(next, None);
            cause.told(kept, &self.live.set.hash)?;
            return Ok(deployed);
        }
        let instances = self.loops.ids().map(|id| Ok((id, RuleInstances::start(rules, Occasion::Live)?)));
        let instances = instances.collect::<anyhow::Result<Vec<_>>>()?;
        // The set that was live before has passed its trial, or stood none. It stands no trial against itself.
        let before = self.before.as_ref().unwrap_or(&self.live).set.hash.clone();
        let stands_trial = next.why == LiveReason::Folder && self.settings.trial.records > 0 && before != next.set.hash;
        let trial = stands_trial.then(|| SharedTrial::new(self.settings.trial));
        let (hash, baseline) = (next.set.hash.clone(), self.again.unwrap_or_default());
        let (marked, saved) = (self.store.on_trial(&hash), self.store.saved(&hash));
        let undo = |store: &Store| {
            let _ = restore(store, &hash, marked.as_ref()); // The first error is the one to report.
            store.unsave(&hash, saved.as_ref());
        };
        // A data loop later reports the set and the baseline of the trial.
        let was_live = saved.as_ref().is_some_and(|saved| saved.live);
        let kept = self.keep(&next, was_live, stands_trial.then_some(&OnTrial { before, baseline }));
        let kept = kept.inspect_err(|_| undo(&self.store));
        match kept {
            Err(error) if matches!(cause, ActivationCause::Deployed(_) | ActivationCause::Resumed) => {
                return Err(error.context(format!("failed to keep the set {hash}, so it does not go live")));
            }
            kept => self.tell_kept(&kept),
        }
        self.carry_out(&cause, &hash).inspect_err(|_| undo(&self.store))?;
        self.again = None;
        for (id, rules) in instances {
            self.tell(id, Command::Activate(Box::new(Activation { rules, why: next.why, trial: trial.clone(), baseline })))?;
        }
        self.wait(next, &cause, Deployed { took: began.elapsed().as_millis() as u64, ..deployed }, began)
    }

    /// Carries out the rest of an operator's decision: pins, unpins, or puts files in place. If that fails, nothing of it was
    /// done.
    fn carry_out(&mut self, cause: &ActivationCause<'_>, hash: &str) -> anyhow::Result<()> {
        match cause {
            ActivationCause::Found(_) => return Ok(()),
            // The watch is not amended, so the next look updates the status of the folder's set.
            ActivationCause::Rollback => return self.store.set_pin(Some(hash)),
            ActivationCause::Resumed => self.store.set_pin(None)?,
            ActivationCause::Deployed(files) => {
                let files: Vec<(&Path, &[u8])> = files.iter().map(|(file, bytes)| (file.as_path(), *bytes)).collect();
                files.iter().filter_map(|(file, _)| file.parent()).for_each(files::sweep);
                // The pin is removed last: while a set is pinned, a folder that is only half new can't go live.
                files::replace_all(&files, || self.store.set_pin(None))?;
                self.store.clear_verdict(hash);
            }
        }
        self.watch.amend(|decisions| {
            if let Some(decisions) = decisions {
                decisions.pin = None;
                decisions.taken_back.remove(hash);
            }
        });
        Ok(())
    }

    /// Waits until all data loops have activated a set, but no longer than the caller can be kept waiting.
    fn wait(&mut self, next: Live, cause: &ActivationCause<'_>, deployed: Deployed, began: Instant) -> anyhow::Result<Deployed> {
        let until = Instant::now() + self.patience;
        let (set, why) = (next.set.clone(), next.why);
        let (waiting, reports) = (self.loops.ids().collect(), ActivationReports::default());
        self.pending = Some(Pending { next, waiting, reports, verdict: None });
        loop {
            match self.loops.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((id, event)) => {
                    let Some(Completed { from, kept }) = self.handle_event(id, event) else { continue };
                    cause.told(kept, &self.live.set.hash)?;
                    return Ok(Deployed { from, took: began.elapsed().as_millis() as u64, ..deployed });
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !self.patience.is_zero() {
                        tracing::warn!(ruleset = set.hash, "proven rules wait for a data loop, which waits for Kafka");
                    }
                    if why == LiveReason::Folder {
                        update(&self.status, |status| status.folder = Some(set.hash.clone()));
                    }
                    return Ok(Deployed { live: false, waiting: true, ..deployed });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.pending = None;
                    bail!("the process is stopping");
                }
            }
        }
    }

    /// Notes that a set is live, and writes that to the state folder. Returns the error if it can't be written, which is also in
    /// the status then.
    fn note_live(&mut self, next: Live, reports: Option<ActivationReports>) -> anyhow::Result<()> {
        let last = std::mem::replace(&mut self.live, next);
        let (set, why) = (self.live.set.clone(), self.live.why);
        let (from, trial) = match reports {
            Some(ActivationReports { from, trial, replaced }) => {
                // The data loops say which of these sets they have kept.
                let mut known: Vec<Live> = [Some(last), self.before.take(), self.replaced.take()].into_iter().flatten().collect();
                let mut kept = |hash: Option<&String>| {
                    let index = known.iter().position(|known| Some(&known.set.hash) == hash)?;
                    Some(known.swap_remove(index))
                };
                self.before = kept(trial.as_ref().map(|trial| &trial.before));
                self.replaced = kept(replaced.as_ref());
                if trial.is_none() {
                    self.store.end_trial(&set.hash);
                }
                (Some(from), trial)
            }
            // The set may still be on trial. Its baseline is unknown if it was not written.
            None => {
                let trial = self.before.as_ref().map(|before| OnTrial {
                    before: before.set.hash.clone(),
                    baseline: self.store.on_trial(&set.hash).unwrap_or_default().baseline,
                });
                (None, trial)
            }
        };
        let kept = self.keep(&self.live, true, trial.as_ref());
        self.tell_kept(&kept);
        if let Some(from) = from {
            tracing::info!(ruleset = set.hash, %why, ?from, "rules are live");
        }
        update(&self.status, |status| {
            status.live.clone_from(&set.hash);
            (status.why, status.taken_back) = (why, None);
            if why != LiveReason::Pinned {
                // A pin does not resolve a refusal of the folder's set.
                (status.refusal, status.folder) = (None, None);
            }
        });
        kept
    }

    /// Handles the events that the data loops have sent meanwhile.
    pub(crate) fn handle_events(&mut self) {
        while let Ok((id, event)) = self.loops.events.try_recv() {
            // The request for the set has been answered already.
            drop(self.handle_event(id, event));
        }
    }

    /// Handles an event of a data loop. Returns the pending set if all data loops have activated it now.
    fn handle_event(&mut self, id: LoopId, event: Event) -> Option<Completed> {
        match event {
            Event::Activated(activated) => return self.activated(id, activated),
            Event::Dismissed => return self.complete(id, None),
            Event::Retired(retired) => drop(retired),
            Event::Judged(verdict) => match self.pending.as_mut().filter(|pending| pending.next.set.hash == verdict.hash()) {
                Some(pending) => pending.verdict = Some(verdict),
                None => self.handle_verdict(verdict),
            },
        }
        None
    }

    /// Handles the verdict on a set. Only one loop reports it.
    fn handle_verdict(&mut self, verdict: Judgement) {
        match verdict {
            Judgement::Passed { hash, retired } => {
                drop(retired);
                if hash == self.live.set.hash {
                    (self.before, self.replaced) = (None, None);
                }
                self.store.end_trial(&hash);
                tracing::info!(ruleset = hash, "the set has passed its trial");
            }
            Judgement::TakenBack { retired, back, reason, evidence } => {
                let hash = retired.hash().to_owned();
                self.taken_back(TakenBack { hash, at: now(), reason, evidence, back: Some(back) });
            }
        }
    }

    fn activated(&mut self, id: LoopId, activated: Activated) -> Option<Completed> {
        let is_pending = self.pending.as_ref().is_some_and(|pending| pending.next.set.hash == activated.hash);
        if is_pending { self.complete(id, Some(activated)) } else { None }
    }

    /// Takes note that the loop `id` has activated the pending set, or does not run. If no loop is left, the set is live.
    fn complete(&mut self, id: LoopId, activated: Option<Activated>) -> Option<Completed> {
        let pending = self.pending.as_mut()?;
        pending.waiting.retain(|waiting| *waiting != id);
        activated.into_iter().for_each(|activated| pending.reports.add(activated));
        let Pending { next, reports, verdict, .. } = self.pending.take_if(|pending| pending.waiting.is_empty())?;
        let completed = Completed { from: reports.from.clone(), kept: self.note_live(next, Some(reports)) };
        if let Some(verdict) = verdict {
            self.handle_verdict(verdict);
        }
        Some(completed)
    }

    fn taken_back(&mut self, verdict: TakenBack) {
        match self.store.take_back(&verdict) {
            Ok(()) => {
                self.store.end_trial(&verdict.hash);
                self.watch.amend(|decisions| {
                    if let Some(decisions) = decisions {
                        decisions.taken_back.insert(verdict.hash.clone());
                    }
                });
            }
            Err(error) => self.tell_kept(&Err(error.context("failed to keep the verdict of a trial"))),
        }
        // If another set has taken the place of the set that was taken back, the verdict does not concern the set in force.
        if verdict.hash != self.live.set.hash {
            return;
        }
        let is_back = |known: &mut Live| verdict.back.as_ref() == Some(&known.set.hash);
        let Some(back) = self.replaced.take_if(is_back).or_else(|| self.before.take_if(is_back)) else { return };
        self.live = Live { why: LiveReason::LastGood, ..back };
        let message = format!(
            "the set {} was taken back by its trial: {}; `weir rules deploy` tries it once more",
            verdict.hash, verdict.reason
        );
        update(&self.status, |status| {
            status.live.clone_from(&self.live.set.hash);
            status.why = self.live.why;
            status.refusal = Some(SetRefusal { at: verdict.at, message });
            status.taken_back = Some(verdict);
        });
        self.save(&self.live);
    }

    /// Keeps the set in force in the history. If that fails, the status says so.
    pub(super) fn save(&self, live: &Live) {
        self.tell_kept(&self.keep(live, true, None));
    }

    /// Puts into the status whether the decisions are kept.
    fn tell_kept(&self, kept: &anyhow::Result<()>) {
        let problem = kept.as_ref().err().map(|error| format!("{error:#}"));
        if let Some(problem) = &problem {
            tracing::error!("what is decided about rules is not kept, and would be lost with this process: {problem}");
        }
        update(&self.status, |status| status.unkept = problem);
    }

    /// Writes the `trial` of a set, if it is on trial, and the set itself: as one of the history, if it `was_live`.
    fn keep(&self, live: &Live, was_live: bool, trial: Option<&OnTrial>) -> anyhow::Result<()> {
        const REMEDY: &str = "make room in the state folder, or let this process write there; then repeat the command, or deploy \
             the rules that are to be in force";
        let Live { definition, set, why } = live;
        if let Some(trial) = trial {
            self.store.put_on_trial(&set.hash, trial).context(REMEDY)?;
        }
        let saved = Saved { set: SetDescription::clone(set), at: now(), why: *why, live: was_live };
        let pin = self.store.pin().ok().flatten();
        let kept = [&self.before, &self.replaced].map(|kept| kept.as_ref().map(|kept| kept.set.hash.as_str()));
        let needed = [Some(set.hash.as_str()), Some(self.live.set.hash.as_str()), pin.as_deref(), kept[0], kept[1]];
        let needed: Vec<&str> = needed.into_iter().flatten().collect();
        self.store.save(definition, &saved, &needed).context(REMEDY)
    }

    pub(crate) fn deployed(&self, next: &SetDescription, began: Instant) -> Deployed {
        let old = &self.live.set;
        Deployed {
            live: true,
            waiting: false,
            old: old.hash.clone(),
            new: next.hash.clone(),
            from: Default::default(),
            changes: changes(old, next),
            took: began.elapsed().as_millis() as u64,
        }
    }

    /// Sends a command to a data loop.
    pub(crate) fn tell(&self, id: LoopId, command: Command) -> anyhow::Result<()> {
        ensure!(self.loops.tell(id, command), "the process is stopping");
        Ok(())
    }
}

/// Writes that a set is on `trial`, or removes its trial if there is none.
fn restore(store: &Store, hash: &str, trial: Option<&OnTrial>) -> anyhow::Result<()> {
    match trial {
        Some(trial) => store.put_on_trial(hash, trial).context("failed to keep that a set is on trial"),
        None => {
            store.end_trial(hash);
            Ok(())
        }
    }
}
