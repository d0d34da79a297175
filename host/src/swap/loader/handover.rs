//! How a proven set comes to the data loop, and what is noted when it is live, has passed its trial, or is taken back.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};

use super::{Live, Loader};
use crate::events::Event;
use crate::ruleset::RuleSet;
use crate::start::now;
use crate::swap::judge::{Judge, Note, Prepared, Taken};
use crate::swap::report::{Deployed, Refusal, Set, TakenBack, Why};
use crate::swap::store::{OnTrial, Saved, changes};
use crate::swap::update;

/// How long the data loop may take to take a set before whoever asked is told that it will come later.
const TAKING: Duration = Duration::from_secs(20);

/// A set that the data loop has not taken yet.
pub(super) struct Pending {
    next: Live,
    taken: Receiver<Taken>,
}

impl Loader {
    /// Hands `rules` to the data loop, and waits until they are live.
    pub(super) fn go_live(&mut self, rules: &RuleSet, why: Why, began: Instant) -> anyhow::Result<Deployed> {
        ensure!(self.pending.is_none(), "another set waits for the data loop, which waits for Kafka; try again later");
        let next = Live::of(rules, why);
        let mut deployed = self.deployed(&next.set, began);
        if next.set.hash == self.live.set.hash {
            self.is_live(next, None);
            return Ok(deployed);
        }
        let (taken, live) = mpsc::channel();
        // What was live before has stood its trial, or never needed one.
        let trial = (why == Why::Folder && self.config.trial.records > 0).then_some(self.config.trial);
        let (notes, status, usual) = (self.notes.0.clone(), self.status.clone(), self.again.take().unwrap_or_default());
        let judge = Judge::new(rules)?;
        if trial.is_some() {
            // Before it judges anything: what happens next may be a crash. The data loop says later what it is held against.
            let before = self.before.as_ref().unwrap_or(&self.live).set.hash.clone();
            self.mark(&next.set.hash, &OnTrial { before, usual });
        }
        self.send(Event::Swap(Box::new(Prepared { judge, trial, usual, taken, notes, status })))?;
        match live.recv_timeout(TAKING) {
            Ok(taken) => {
                deployed.from.clone_from(&taken.from);
                deployed.took = began.elapsed().as_millis() as u64;
                self.is_live(next, Some(taken));
                Ok(deployed)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.pending = Some(Pending { next, taken: live });
                bail!(
                    "the set is proven and handed over, and goes live as soon as the data loop has Kafka's answer; `weir rules status` tells"
                );
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the process is stopping"),
        }
    }

    /// Takes note that a set is live.
    fn is_live(&mut self, next: Live, taken: Option<Taken>) {
        let swapped = taken.is_some();
        let last = std::mem::replace(&mut self.live, next);
        let (set, why) = (self.live.set.clone(), self.live.why);
        if let Some(Taken { from, trial, .. }) = taken {
            // The data loop knows which one it has kept: the last one, or one from before a trial that was cut short.
            let known = [Some(last), self.before.take()].into_iter().flatten();
            self.before = known.into_iter().find(|known| trial.as_ref().is_some_and(|trial| trial.before == known.set.hash));
            match &trial {
                Some(trial) => self.mark(&set.hash, trial),
                None => self.store.end_trial(&set.hash),
            }
            tracing::info!(ruleset = set.hash, %why, ?from, "rules are live");
        }
        update(&self.status, |status| {
            if swapped {
                status.since = now();
                status.swaps.live += 1;
            }
            (status.live, status.why, status.taken_back) = (set, why, None);
            if why != Why::Pinned {
                // A pin does not mend the folder.
                (status.refusal, status.folder) = (None, None);
            }
        });
        self.save();
    }

    /// Hears what the data loop has to say.
    pub(super) fn listen(&mut self) {
        if let Some(Pending { next, taken }) = self.pending.take() {
            match taken.try_recv() {
                Ok(taken) => self.is_live(next, Some(taken)),
                Err(mpsc::TryRecvError::Empty) => self.pending = Some(Pending { next, taken }),
                Err(mpsc::TryRecvError::Disconnected) => {}
            }
        }
        while let Ok(note) = self.notes.1.try_recv() {
            match note {
                Note::Passed { passed, retired } => {
                    drop(retired);
                    if passed == self.live.set.hash {
                        self.before = None;
                    }
                    self.store.end_trial(&passed);
                    tracing::info!(ruleset = passed, "the set has passed its trial");
                }
                Note::TakenBack { retired, reason, evidence } => self.taken_back(&retired, reason, evidence),
            }
        }
    }

    fn taken_back(&mut self, retired: &Judge, reason: String, evidence: Vec<String>) {
        let verdict = TakenBack { hash: retired.hash.clone(), at: now(), reason, evidence };
        match self.store.take_back(&verdict) {
            Ok(()) => self.store.end_trial(&verdict.hash),
            Err(error) => {
                tracing::error!("failed to keep the verdict of a trial; after a restart the set is tried again: {error:#}");
            }
        }
        // Unless another set has taken its place meanwhile.
        let back = self.before.take_if(|_| retired.hash == self.live.set.hash);
        if let Some(before) = back {
            self.live = Live { why: Why::LastGood, ..before };
        }
        let message = format!(
            "the set {} was taken back by its trial: {}; `weir rules deploy` tries it once more",
            verdict.hash, verdict.reason
        );
        update(&self.status, |status| {
            (status.live, status.why, status.since) = (self.live.set.clone(), self.live.why, now());
            status.swaps.live += 1;
            status.swaps.taken_back += 1;
            (status.trial, status.refusal) = (None, Some(Refusal { at: verdict.at, message }));
            status.taken_back = Some(verdict);
        });
        self.save();
        self.watch.expect(self.store.decisions());
    }

    /// Keeps the set in force in the history.
    pub(super) fn save(&self) {
        let Live { definition, set, why } = &self.live;
        let saved = Saved { set: set.clone(), at: now(), why: *why };
        let pin = self.store.pin();
        let needed = [Some(set.hash.as_str()), pin.as_deref(), self.before.as_ref().map(|before| before.set.hash.as_str())];
        let needed: Vec<&str> = needed.into_iter().flatten().collect();
        if let Err(error) = self.store.save(definition, &saved, &needed) {
            tracing::error!("failed to keep a set of rules in the history; nobody can go back to it: {error:#}");
        }
    }

    /// Keeps that a set is on trial.
    fn mark(&self, hash: &str, trial: &OnTrial) {
        if let Err(error) = self.store.put_on_trial(hash, trial) {
            tracing::error!("failed to keep that a set is on trial; a restart ends the trial: {error:#}");
        }
    }

    pub(super) fn deployed(&self, next: &Set, began: Instant) -> Deployed {
        let old = &self.live.set;
        Deployed {
            live: true,
            old: old.hash.clone(),
            new: next.hash.clone(),
            from: Default::default(),
            changes: changes(old, next),
            took: began.elapsed().as_millis() as u64,
        }
    }

    pub(super) fn send(&self, event: Event) -> anyhow::Result<()> {
        self.events.send(event).map_err(|_| anyhow!("the process is stopping"))
    }
}
