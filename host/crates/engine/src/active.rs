//! The set of rules in force in a data loop, the next set, and the sets that a trial may bring back.
//!
//! Sets change between two transactions. While a set is on trial, the set before it is kept. If the trial fails, that set comes
//! back without any further question. If the set before was on trial as well, the one before that is kept, too: two sets are kept
//! then, and never more.
//!
//! Each loop of a process has instances of its own, and all loops share the trial: this module acts on its verdict, whichever loop
//! has reached it. Not here: the choice of the set, which is the loader's, and the processing of records.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_core::record::{Chunk, Step};

use crate::instances::RuleInstances;
use crate::protocol::{Activated, Activation, Event, Judgement, LiveReason, OnTrial};
use crate::shared_trial::{SharedTrial, TrialEnd, Verdict};
use crate::snapshot::{Snapshot, Swaps};
use crate::trial::{self, TrackRecord};

/// The set in force, and the sets around it. Only the data loop that owns this value changes it.
pub(crate) struct ActiveRules {
    live: RuleInstances,
    why: LiveReason,
    /// The time since which the set is in force, in milliseconds since the epoch.
    since: i64,
    /// The set that takes the place of the set in force before the next record is read.
    next: Option<Box<Activation>>,
    trial: Option<Probation>,
    /// The baseline of all loops of the process: what the set in force has done lately or, while it is on trial, what the set before
    /// has done.
    lately: Arc<Mutex<TrackRecord>>,
    swaps: Swaps,
}

/// A trial that is under way.
struct Probation {
    trial: Arc<SharedTrial>,
    /// The last set that has passed its trial, or stood none. It comes back if the trial fails, unless there is a `replaced` set.
    before: RuleInstances,
    /// The set that was replaced while it was still on trial itself. Nothing speaks against it, so it comes back first.
    replaced: Option<Replaced>,
    /// What the set before makes of records that it processes again.
    again: Step,
}

/// A set whose trial was ended early by the next set.
struct Replaced {
    rules: RuleInstances,
    trial: Arc<SharedTrial>,
}

impl Probation {
    fn new(trial: Arc<SharedTrial>, before: RuleInstances, replaced: Option<Replaced>) -> Probation {
        Probation { trial, before, replaced, again: Step::default() }
    }

    /// Returns the instances that are no longer needed once the set has passed.
    fn into_retired(self) -> Vec<RuleInstances> {
        [Some(self.before), self.replaced.map(|replaced| replaced.rules)].into_iter().flatten().collect()
    }
}

impl ActiveRules {
    /// Returns the state that begins at the time `now` with `rules`, which stand no trial. `lately` is shared with the other loops.
    pub(crate) fn new(rules: RuleInstances, why: LiveReason, now: i64, lately: Arc<Mutex<TrackRecord>>) -> ActiveRules {
        ActiveRules { live: rules, why, since: now, next: None, trial: None, lately, swaps: Swaps::default() }
    }

    /// Returns the set in force.
    pub(crate) fn live(&self) -> &RuleInstances {
        &self.live
    }

    /// Returns the set in force, for processing.
    pub(crate) fn live_mut(&mut self) -> &mut RuleInstances {
        &mut self.live
    }

    /// Returns whether the set in force is on trial.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Makes `next` take the place of the set in force soon.
    pub(crate) fn propose(&mut self, next: Box<Activation>) {
        self.next = Some(next);
    }

    /// Acts on the verdict of the trial if another loop has reached it, and activates the next set, if there is one. `from` are the
    /// offsets to be read next, and `now` is in milliseconds since the epoch. Everything that is committed was processed by the set
    /// before, and nothing else was. Returns the events for the loader.
    pub(crate) fn turn(&mut self, from: &BTreeMap<i32, i64>, now: i64) -> Vec<Event> {
        // Allocates nothing unless there are events.
        let mut events = Vec::new();
        events.extend(self.follow(now));
        if let Some(next) = self.next.take() {
            // After this the trial of the set in force has ended for all loops, perhaps by a verdict of another loop just now.
            if let Some(probation) = &self.trial {
                probation.trial.replace();
            }
            events.extend(self.follow(now));
            events.push(self.activate(*next, from, now));
            events.extend(self.follow(now));
        }
        events
    }

    /// Acts on the end of the trial, if another loop has ended it.
    fn follow(&mut self, now: i64) -> Option<Event> {
        let retired = match self.trial.as_ref()?.trial.end()? {
            TrialEnd::Passed => self.trial.take()?.into_retired(),
            TrialEnd::Failed(reason) => vec![self.go_back(&reason, now)?],
            // The next set is on its way to this loop.
            TrialEnd::Replaced => return None,
        };
        Some(Event::Retired(retired))
    }

    fn activate(&mut self, next: Activation, from: &BTreeMap<i32, i64>, now: i64) -> Event {
        let Activation { rules, why, trial, baseline } = next;
        let mut lately = self.lately.lock();
        if lately.records < baseline.records {
            *lately = baseline;
        }
        if rules.hash() != self.live.hash() {
            self.since = now;
            self.swaps.live += 1;
        }
        self.why = why;
        let old = mem::replace(&mut self.live, rules);
        let mut retired = Vec::new();
        let (before, replaced) = match self.trial.take() {
            Some(cut_short) => {
                retired.extend(cut_short.replaced.map(|replaced| replaced.rules));
                (cut_short.before, Some(Replaced { rules: old, trial: cut_short.trial }))
            }
            None => (old, None),
        };
        let mut on_trial = None;
        match trial.filter(|_| before.hash() != self.live.hash()) {
            Some(trial) => {
                on_trial = Some(OnTrial { before: before.hash().to_owned(), baseline: trial.begin(*lately, now) });
                self.trial = Some(Probation::new(trial, before, replaced));
            }
            None => {
                retired.extend(replaced.map(|replaced| replaced.rules));
                retired.push(before);
                *lately = TrackRecord::default();
            }
        }
        let replaced = self.trial.as_ref().and_then(|trial| Some(trial.replaced.as_ref()?.rules.hash().to_owned()));
        let hash = self.live.hash().to_owned();
        tracing::debug!(ruleset = hash, "this data loop has activated a set");
        Event::Activated(Activated { hash, from: from.clone(), retired, trial: on_trial, replaced })
    }

    /// Takes into account how the rules did in `chunks`, which are committed. If that ends the trial, returns the event for the
    /// loader: the set has passed, or was taken back.
    pub(crate) fn add_committed(&mut self, chunks: &[Chunk], now: i64) -> Option<Judgement> {
        let Some(Probation { trial, before, again, .. }) = &mut self.trial else {
            let mut lately = self.lately.lock();
            chunks.iter().for_each(|chunk| lately.add(chunk));
            lately.fade();
            return None;
        };
        for chunk in chunks {
            let compared = !chunk.batch.is_empty() && trial.compares();
            if compared {
                trial::process_again(chunk, before, again);
            }
            trial.add(chunk, &self.live.manifests, compared.then_some((again, &before.manifests)));
        }
        match trial.decide(now)? {
            Verdict::Passed(record) => {
                *self.lately.lock() = record;
                let retired = self.trial.take()?.into_retired();
                Some(Judgement::Passed { hash: self.live.hash().to_owned(), retired })
            }
            Verdict::Failed { reason, evidence } => self.tell_taken_back(reason, evidence, now),
        }
    }

    /// Takes the set in force back, if it is on trial and the trial has not ended in another loop. Returns None if not.
    pub(crate) fn take_back(&mut self, reason: &str, now: i64) -> Option<Judgement> {
        match self.trial.as_ref()?.trial.fail(reason)? {
            Verdict::Failed { reason, evidence } => self.tell_taken_back(reason, evidence, now),
            Verdict::Passed(_) => None,
        }
    }

    /// Returns whether another loop has ended the trial of the set in force. The set then stays in force only until the next turn.
    pub(crate) fn is_over(&self) -> bool {
        self.trial.as_ref().is_some_and(|probation| probation.trial.end().is_some())
    }

    /// Takes the set in force back, and returns the event for the loader.
    fn tell_taken_back(&mut self, reason: String, evidence: Vec<String>, now: i64) -> Option<Judgement> {
        let retired = self.go_back(&reason, now)?;
        let (back, on_trial) = (self.live.hash().to_owned(), self.trial.is_some());
        tracing::error!(failed = retired.hash(), back, on_trial, ?evidence, "rules are taken back: {reason}");
        Some(Judgement::TakenBack { retired, back, reason, evidence })
    }

    /// Takes the set in force back, and returns it. If the set has replaced another one that was on trial itself, that one comes
    /// back and stands its trial anew; else the last set comes back that has passed.
    fn go_back(&mut self, reason: &str, now: i64) -> Option<RuleInstances> {
        let Probation { before, replaced, .. } = self.trial.take()?;
        let back = match replaced {
            Some(Replaced { rules, trial }) => {
                let again = trial.again(*self.lately.lock(), now);
                self.trial = Some(Probation::new(again, before, None));
                rules
            }
            None => before,
        };
        let failed = mem::replace(&mut self.live, back);
        (self.why, self.since) = (LiveReason::LastGood, now);
        self.swaps.live += 1;
        self.swaps.taken_back += 1;
        tracing::debug!(failed = failed.hash(), back = self.live.hash(), "the rules before are in force again: {reason}");
        Some(failed)
    }

    /// Shows observers which set is in force, why, and how its trial goes.
    pub(crate) fn show(&self, snapshot: &mut Snapshot) {
        snapshot.live = Arc::clone(&self.live.set);
        (snapshot.why, snapshot.since, snapshot.swaps) = (self.why, self.since, self.swaps);
        snapshot.trial = self.trial.as_ref().and_then(Probation::report);
    }
}

impl Probation {
    /// Returns the report of the trial for operators.
    fn report(&self) -> Option<trial::TrialReport> {
        let back = self.replaced.as_ref().map_or(&self.before, |replaced| &replaced.rules);
        self.trial.report(back.hash())
    }
}
