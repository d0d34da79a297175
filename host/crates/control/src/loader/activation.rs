//! How a proven set comes to the data loop, and what is noted when it is live, has passed its trial, or is taken back.
//!
//! The order of the steps is what a refusal and a crash leave behind, so there is one, in [`Loader::go_live`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::{Live, Loader};
use crate::report::{Deployed, Refusal, TakenBack};
use crate::store::{Saved, Store};
use crate::update;
use weir_engine::RuleInstances;
use weir_engine::protocol::{Activated, Activation, Command, Event, LoopId, OnTrial, Why};
use weir_system::clock::now;
use weir_system::files;
use weir_wasm::Occasion;
use weir_wasm::description::{SetDescription, changes};
use weir_wasm::ruleset::RuleSet;

/// A set that not all data loops have activated yet.
pub(crate) struct Pending {
    next: Live,
    /// The loops that have not.
    waiting: Vec<LoopId>,
    /// What the others have said.
    said: Said,
}

/// What data loops have said when they activated a set.
#[derive(Default)]
struct Said {
    from: BTreeMap<i32, i64>,
    trial: Option<OnTrial>,
    replaced: Option<String>,
}

impl Said {
    fn add(&mut self, activated: Activated) {
        self.from.extend(activated.from);
        self.replaced = self.replaced.take().or(activated.replaced);
        match (&mut self.trial, activated.trial) {
            (Some(trial), Some(more)) => trial.baseline.merge(&more.baseline),
            (trial, more) => *trial = trial.take().or(more),
        }
    }
}

/// A set that all data loops have activated.
pub(crate) struct Completed {
    from: BTreeMap<i32, i64>,
    /// Whether that is kept.
    kept: anyhow::Result<()>,
}

/// What makes a set live.
pub(crate) enum Cause<'a> {
    /// The folder has it, or another process has decided it.
    Found(Why),
    /// An operator hands in these files: they are put in place, and the folder is followed from now on.
    Deployed(Vec<(PathBuf, &'a [u8])>),
    /// An operator goes back to it.
    RolledBack,
    /// An operator follows the folder again.
    Resumed,
}

impl Cause<'_> {
    fn why(&self) -> Why {
        match self {
            Cause::Found(why) => *why,
            Cause::Deployed(_) | Cause::Resumed => Why::Folder,
            Cause::RolledBack => Why::Pinned,
        }
    }

    /// Tells an operator where the set that they have made live is not `kept`. Where nobody has asked, the status alone says so.
    fn told(&self, kept: anyhow::Result<()>, hash: &str) -> anyhow::Result<()> {
        match self {
            Cause::Found(_) => Ok(()),
            _ => kept.with_context(|| format!("failed to keep the set {hash}, which is live all the same")),
        }
    }
}

impl Loader {
    /// Makes a set live, and waits until it is.
    ///
    /// Whatever can be refused is refused before anything has changed. Then it is written down what is about to happen: that the
    /// set is on trial, and what it is made of, before it can be what a restart finds in the folder and before a message
    /// bears its hash. It is in the history once the data loop has taken it. So a process that ends in between, or is refused,
    /// leaves the set from before in force, or this one on trial. What an operator hands in is refused where it can't be kept.
    /// What is decided otherwise happens all the same, since refusing it would make nothing better, and the status says that it
    /// is not kept. So does a set that is in force already, or that can't be kept in the last step: an operator is told that too.
    pub(crate) fn go_live(&mut self, rules: &RuleSet, cause: Cause<'_>, began: Instant) -> anyhow::Result<Deployed> {
        ensure!(self.pending.is_none(), "another set waits for the data loop, which waits for Kafka; try again later");
        let next = Live::of(rules, cause.why());
        let deployed = self.deployed(&next.set, began);
        // A pin ends the trial of the set in force, and only the data loop can do that.
        let trial_ends = next.why == Why::Pinned && self.before.is_some();
        if next.set.hash == self.live.set.hash && !trial_ends {
            self.carry_out(&cause, &next.set.hash)?;
            let kept = self.is_live(next, None);
            cause.told(kept, &self.live.set.hash)?;
            return Ok(deployed);
        }
        let instances = self.loops.ids().map(|id| Ok((id, RuleInstances::start(rules, Occasion::Live)?)));
        let instances = instances.collect::<anyhow::Result<Vec<_>>>()?;
        // What was live before has stood its trial, or never needed one. It stands none against itself.
        let before = self.before.as_ref().unwrap_or(&self.live).set.hash.clone();
        let stands_trial = next.why == Why::Folder && self.settings.trial.records > 0 && before != next.set.hash;
        let trial = stands_trial.then_some(self.settings.trial);
        let (hash, baseline) = (next.set.hash.clone(), self.again.unwrap_or_default());
        let (marked, saved) = (self.store.on_trial(&hash), self.store.saved(&hash));
        let undo = |store: &Store| {
            let _ = restore(store, &hash, marked.as_ref()); // The first error is the one to tell.
            store.unsave(&hash, saved.as_ref());
        };
        // The data loop says later what it is held against.
        let was_live = saved.as_ref().is_some_and(|saved| saved.live);
        let kept = self.keep(&next, was_live, stands_trial.then_some(&OnTrial { before, baseline }));
        let kept = kept.inspect_err(|_| undo(&self.store));
        match kept {
            Err(error) if matches!(cause, Cause::Deployed(_) | Cause::Resumed) => {
                return Err(error.context(format!("failed to keep the set {hash}, so it does not go live")));
            }
            kept => self.tell_kept(&kept),
        }
        self.carry_out(&cause, &hash).inspect_err(|_| undo(&self.store))?;
        self.again = None;
        for (id, rules) in instances {
            self.tell(id, Command::Activate(Box::new(Activation { rules, why: next.why, trial, baseline })))?;
        }
        self.wait(next, &cause, Deployed { took: began.elapsed().as_millis() as u64, ..deployed }, began)
    }

    /// Does what an operator has decided besides: pins, unpins, puts files in place. If it fails, nothing of it was done.
    fn carry_out(&mut self, cause: &Cause<'_>, hash: &str) -> anyhow::Result<()> {
        match cause {
            Cause::Found(_) => return Ok(()),
            // With the next look it is told what of the folder waits now.
            Cause::RolledBack => return self.store.set_pin(Some(hash)),
            Cause::Resumed => self.store.set_pin(None)?,
            Cause::Deployed(files) => {
                let files: Vec<(&Path, &[u8])> = files.iter().map(|(file, bytes)| (file.as_path(), *bytes)).collect();
                files.iter().filter_map(|(file, _)| file.parent()).for_each(files::sweep);
                // The pin last: what is pinned stands in the way of a folder that is only half new.
                files::replace_all(&files, || self.store.set_pin(None))?;
                self.store.pardon(hash);
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

    /// Waits until all data loops have activated a set, for as long as whoever asked can be kept waiting.
    fn wait(&mut self, next: Live, cause: &Cause<'_>, deployed: Deployed, began: Instant) -> anyhow::Result<Deployed> {
        let until = Instant::now() + self.patience;
        let (set, why) = (next.set.clone(), next.why);
        self.pending = Some(Pending { next, waiting: self.loops.ids().collect(), said: Said::default() });
        loop {
            match self.loops.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((id, event)) => {
                    let Some(Completed { from, kept }) = self.hear(id, event) else { continue };
                    cause.told(kept, &self.live.set.hash)?;
                    return Ok(Deployed { from, took: began.elapsed().as_millis() as u64, ..deployed });
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !self.patience.is_zero() {
                        tracing::warn!(ruleset = set.hash, "proven rules wait for the data loop, which waits for Kafka");
                    }
                    if why == Why::Folder {
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

    /// Takes note that a set is live, and keeps that. An error says why it is not kept, as the status does then.
    fn is_live(&mut self, next: Live, said: Option<Said>) -> anyhow::Result<()> {
        let last = std::mem::replace(&mut self.live, next);
        let (set, why) = (self.live.set.clone(), self.live.why);
        let (from, trial) = match said {
            Some(Said { from, trial, replaced }) => {
                // The data loop knows which ones it has kept.
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
            // It may be on trial still. What the set before has done is not known any more where that was not kept.
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
            if why != Why::Pinned {
                // A pin does not mend the folder.
                (status.refusal, status.folder) = (None, None);
            }
        });
        kept
    }

    /// Hears what the data loops have said meanwhile.
    pub(crate) fn listen(&mut self) {
        while let Ok((id, event)) = self.loops.events.try_recv() {
            // Whoever asked for a set has been answered.
            drop(self.hear(id, event));
        }
    }

    /// Takes note of what a data loop says. Returns something if the set that was pending is live in all of them now.
    fn hear(&mut self, id: LoopId, event: Event) -> Option<Completed> {
        match event {
            Event::Activated(activated) => return self.activated(id, activated),
            Event::Passed { hash, retired } => {
                drop(retired);
                if hash == self.live.set.hash {
                    (self.before, self.replaced) = (None, None);
                }
                self.store.end_trial(&hash);
                tracing::info!(ruleset = hash, "the set has passed its trial");
            }
            Event::RolledBack { retired, back, reason, evidence } => {
                let hash = retired.hash().to_owned();
                self.taken_back(TakenBack { hash, at: now(), reason, evidence, back: Some(back) });
            }
        }
        None
    }

    fn activated(&mut self, id: LoopId, activated: Activated) -> Option<Completed> {
        let mut pending = self.pending.take_if(|pending| pending.next.set.hash == activated.hash)?;
        pending.waiting.retain(|waiting| *waiting != id);
        pending.said.add(activated);
        if !pending.waiting.is_empty() {
            self.pending = Some(pending);
            return None;
        }
        let from = pending.said.from.clone();
        Some(Completed { from, kept: self.is_live(pending.next, Some(pending.said)) })
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
        // Unless another set has taken its place meanwhile: then nothing of this is in force any more.
        if verdict.hash != self.live.set.hash {
            return;
        }
        let is_back = |known: &mut Live| verdict.back.as_ref() == Some(&known.set.hash);
        let Some(back) = self.replaced.take_if(is_back).or_else(|| self.before.take_if(is_back)) else { return };
        self.live = Live { why: Why::LastGood, ..back };
        let message = format!(
            "the set {} was taken back by its trial: {}; `weir rules deploy` tries it once more",
            verdict.hash, verdict.reason
        );
        update(&self.status, |status| {
            status.live.clone_from(&self.live.set.hash);
            status.why = self.live.why;
            status.refusal = Some(Refusal { at: verdict.at, message });
            status.taken_back = Some(verdict);
        });
        self.save(&self.live);
    }

    /// Keeps the set in force in the history. Where that fails, the status says so.
    pub(super) fn save(&self, live: &Live) {
        self.tell_kept(&self.keep(live, true, None));
    }

    /// Says whether what happens is kept.
    fn tell_kept(&self, kept: &anyhow::Result<()>) {
        let problem = kept.as_ref().err().map(|error| format!("{error:#}"));
        if let Some(problem) = &problem {
            tracing::error!("what is decided about rules is not kept, and would be lost with this process: {problem}");
        }
        update(&self.status, |status| status.unkept = problem);
    }

    /// Keeps that a set is on `trial`, if it is, and keeps the set: in the history, if it `was_live`.
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

    /// Tells a data loop something.
    pub(crate) fn tell(&self, id: LoopId, command: Command) -> anyhow::Result<()> {
        ensure!(self.loops.tell(id, command), "the process is stopping");
        Ok(())
    }
}

/// Keeps that a set is on `trial`, or that it is not.
fn restore(store: &Store, hash: &str, trial: Option<&OnTrial>) -> anyhow::Result<()> {
    match trial {
        Some(trial) => store.put_on_trial(hash, trial).context("failed to keep that a set is on trial"),
        None => {
            store.end_trial(hash);
            Ok(())
        }
    }
}
