//! The set of rules in force, the next set, and the trial of a new set.
//!
//! Sets change between two transactions. While a set is on trial, the set before it is kept. If the trial fails, that set comes
//! back without any further question. If the set before was on trial as well, the one before that is kept, too: two sets are kept
//! then, and never more. Not here: the choice of the set, which is the loader's, and the processing of records.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use weir_core::record::Chunk;

use crate::instances::RuleInstances;
use crate::protocol::{Activated, Activation, Event, LiveReason, OnTrial};
use crate::settings::TrialBounds;
use crate::snapshot::{Snapshot, Swaps};
use crate::trial::{TrackRecord, Trial, TrialReport, TrialState};

/// The set in force, and the sets around it. Only the data loop that owns this value changes it.
pub(crate) struct ActiveRules {
    live: RuleInstances,
    why: LiveReason,
    /// The time since which the set is in force, in milliseconds since the epoch.
    since: i64,
    /// The set that takes the place of the set in force before the next record is read.
    next: Option<Box<Activation>>,
    trial: Option<Probation>,
    /// The baseline: what the set in force has done lately or, while it is on trial, what the set before has done.
    lately: TrackRecord,
    swaps: Swaps,
}

/// A trial that is under way.
struct Probation {
    trial: Trial,
    /// The last set that has passed its trial, or stood none. It comes back if the trial fails, unless there is a `replaced` set.
    before: RuleInstances,
    /// The set that was replaced while it was still on trial itself. Nothing speaks against it, so it comes back first.
    replaced: Option<Replaced>,
}

/// A set whose trial was ended early by the next set.
struct Replaced {
    rules: RuleInstances,
    bounds: TrialBounds,
}

impl ActiveRules {
    /// Returns the state that begins at the time `now` with `rules`, which stand no trial.
    pub(crate) fn new(rules: RuleInstances, why: LiveReason, now: i64) -> ActiveRules {
        let (lately, swaps) = (TrackRecord::default(), Swaps::default());
        ActiveRules { live: rules, why, since: now, next: None, trial: None, lately, swaps }
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

    /// Activates the next set, if there is one. `from` are the offsets to be read next, and `now` is in milliseconds since the
    /// epoch. Everything that is committed was processed by the set before, and nothing else was. Returns the event for the
    /// loader.
    pub(crate) fn activate(&mut self, from: &BTreeMap<i32, i64>, now: i64) -> Option<Event> {
        let Activation { rules, why, trial, baseline } = *self.next.take()?;
        if self.lately.records < baseline.records {
            self.lately = baseline;
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
                (cut_short.before, Some(Replaced { rules: old, bounds: cut_short.trial.bounds() }))
            }
            None => (old, None),
        };
        match trial.filter(|_| before.hash() != self.live.hash()) {
            Some(bounds) => {
                self.trial = Some(Probation { trial: Trial::new(bounds, self.lately, now), before, replaced });
            }
            None => {
                retired.extend(replaced.map(|replaced| replaced.rules));
                retired.push(before);
                self.lately = TrackRecord::default();
            }
        }
        let trial = self.trial.as_ref().map(|trial| OnTrial { before: trial.before.hash().to_owned(), baseline: self.lately });
        let replaced = self.trial.as_ref().and_then(|trial| Some(trial.replaced.as_ref()?.rules.hash().to_owned()));
        let hash = self.live.hash().to_owned();
        Some(Event::Activated(Activated { hash, from: from.clone(), retired, trial, replaced }))
    }

    /// Takes into account how the rules did in `chunks`, which are committed. If that ends the trial, returns the event for the
    /// loader: the set has passed, or was taken back.
    pub(crate) fn add_committed(&mut self, chunks: &[Chunk], now: i64) -> Option<Event> {
        let Some(probation) = &mut self.trial else {
            chunks.iter().for_each(|chunk| self.lately.add(chunk));
            self.lately.fade();
            return None;
        };
        for chunk in chunks {
            probation.trial.add(chunk, &self.live.manifests);
            probation.trial.compare(chunk, &mut probation.before);
        }
        match probation.trial.verdict(now) {
            TrialState::GoesOn => None,
            TrialState::Failed(reason) => self.take_back(&reason, now),
            TrialState::Passed => {
                let passed = self.trial.take()?;
                self.lately = passed.trial.record();
                let retired = [Some(passed.before), passed.replaced.map(|replaced| replaced.rules)];
                Some(Event::Passed { hash: self.live.hash().to_owned(), retired: retired.into_iter().flatten().collect() })
            }
        }
    }

    /// Takes the set in force back, if it is on trial. Returns None if it is not. If the set has replaced another one that was on
    /// trial itself, that one comes back and stands its trial anew; else the last set comes back that has passed.
    pub(crate) fn take_back(&mut self, reason: &str, now: i64) -> Option<Event> {
        let Probation { trial, before, replaced } = self.trial.take()?;
        let back = match replaced {
            Some(Replaced { rules, bounds }) => {
                self.trial = Some(Probation { trial: Trial::new(bounds, self.lately, now), before, replaced: None });
                rules
            }
            None => before,
        };
        let retired = mem::replace(&mut self.live, back);
        (self.why, self.since) = (LiveReason::LastGood, now);
        self.swaps.live += 1;
        self.swaps.taken_back += 1;
        let (evidence, back, on_trial) = (trial.evidence(), self.live.hash().to_owned(), self.trial.is_some());
        tracing::error!(failed = retired.hash(), back, on_trial, ?evidence, "rules are taken back: {reason}");
        Some(Event::TakenBack { retired, back, reason: reason.to_owned(), evidence })
    }

    /// Shows observers which set is in force, why, and how its trial goes.
    pub(crate) fn show(&self, snapshot: &mut Snapshot) {
        snapshot.live = Arc::clone(&self.live.set);
        (snapshot.why, snapshot.since, snapshot.swaps) = (self.why, self.since, self.swaps);
        snapshot.trial = self.trial.as_ref().map(Probation::report);
    }
}

impl Probation {
    /// Returns the report of the trial for operators.
    fn report(&self) -> TrialReport {
        let back = self.replaced.as_ref().map_or(&self.before, |replaced| &replaced.rules);
        self.trial.report(back.hash())
    }
}
