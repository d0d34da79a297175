//! The set of rules in force, the one that is to take its place, and the trial that a new one stands.
//!
//! Sets change between two transactions. While one is on trial the set before it is kept, and comes back without asking anybody
//! if the trial fails. If that was on trial as well, so is the one before: two sets are kept then, and never more. What
//! is left out: which set should run, which is for the loader, and what becomes of records.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use weir_core::record::Part;

use crate::instances::RuleInstances;
use crate::protocol::{Activated, Activation, Event, OnTrial, Why};
use crate::settings::TrialBounds;
use crate::snapshot::{Snapshot, Swaps};
use crate::trial::{TrackRecord, Trial, TrialReport, Verdict};

/// The set in force, and those around it. The data loop that owns it is the only one that changes it.
pub(crate) struct ActiveRules {
    live: RuleInstances,
    why: Why,
    /// Since when it is in force: milliseconds since the epoch.
    since: i64,
    /// Takes its place before the next record is read.
    next: Option<Box<Activation>>,
    trial: Option<Probation>,
    /// What the set in force has done lately; while it is on trial, the one before.
    lately: TrackRecord,
    swaps: Swaps,
}

/// A trial that is under way.
struct Probation {
    trial: Trial,
    /// The last set that has passed its trial, or stood none. It comes back if the trial fails.
    before: RuleInstances,
    /// Unless this one does first: the set that was replaced while it was on trial itself. Nothing speaks against it.
    replaced: Option<Replaced>,
}

/// A set whose trial was cut short by the next set.
struct Replaced {
    rules: RuleInstances,
    bounds: TrialBounds,
}

impl ActiveRules {
    /// Begins `now` with `rules`, which stand no trial.
    pub(crate) fn new(rules: RuleInstances, why: Why, now: i64) -> ActiveRules {
        let (lately, swaps) = (TrackRecord::default(), Swaps::default());
        ActiveRules { live: rules, why, since: now, next: None, trial: None, lately, swaps }
    }

    /// Returns the set in force.
    pub(crate) fn live(&self) -> &RuleInstances {
        &self.live
    }

    /// Returns the set in force, to process by it.
    pub(crate) fn live_mut(&mut self) -> &mut RuleInstances {
        &mut self.live
    }

    /// Returns whether the set in force is on trial.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Has `next` take its place soon.
    pub(crate) fn propose(&mut self, next: Box<Activation>) {
        self.next = Some(next);
    }

    /// Activates the next set, if there is one: `from` are the offsets to be read next, and `now` is in milliseconds since the
    /// epoch. What is committed was processed by the set before, and nothing else is. Returns what the loader is to be told.
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

    /// Takes into account how the rules did in `parts`, which are committed. Returns what the loader is to be told, where that
    /// ends the trial: it was passed, or the set was rolled back.
    pub(crate) fn appraise(&mut self, parts: &[Part], now: i64) -> Option<Event> {
        let Some(probation) = &mut self.trial else {
            parts.iter().for_each(|part| self.lately.add(part));
            self.lately.fade();
            return None;
        };
        for part in parts {
            probation.trial.add(part, &self.live.manifests);
            probation.trial.compare(part, &mut probation.before);
        }
        match probation.trial.verdict(now) {
            Verdict::GoesOn => None,
            Verdict::Failed(reason) => self.roll_back(&reason, now),
            Verdict::Passed => {
                let passed = self.trial.take()?;
                self.lately = passed.trial.record();
                let retired = [Some(passed.before), passed.replaced.map(|replaced| replaced.rules)];
                Some(Event::Passed { hash: self.live.hash().to_owned(), retired: retired.into_iter().flatten().collect() })
            }
        }
    }

    /// Goes on without the set in force, if that is on trial; nothing is returned if it is not. The set that it has replaced
    /// comes back and stands its own trial anew, where it was on trial then; else the last one that had passed.
    pub(crate) fn roll_back(&mut self, reason: &str, now: i64) -> Option<Event> {
        let Probation { trial, before, replaced } = self.trial.take()?;
        let back = match replaced {
            Some(Replaced { rules, bounds }) => {
                self.trial = Some(Probation { trial: Trial::new(bounds, self.lately, now), before, replaced: None });
                rules
            }
            None => before,
        };
        let retired = mem::replace(&mut self.live, back);
        (self.why, self.since) = (Why::LastGood, now);
        self.swaps.live += 1;
        self.swaps.rolled_back += 1;
        let (evidence, back, on_trial) = (trial.evidence(), self.live.hash().to_owned(), self.trial.is_some());
        tracing::error!(failed = retired.hash(), back, on_trial, ?evidence, "rules are taken back: {reason}");
        Some(Event::RolledBack { retired, back, reason: reason.to_owned(), evidence })
    }

    /// Lets observers see which set is in force, why, and how its trial goes.
    pub(crate) fn show(&self, snapshot: &mut Snapshot) {
        snapshot.live = Arc::clone(&self.live.set);
        (snapshot.why, snapshot.since, snapshot.swaps) = (self.why, self.since, self.swaps);
        snapshot.trial = self.trial.as_ref().map(Probation::report);
    }
}

impl Probation {
    /// Returns what operators are told.
    fn report(&self) -> TrialReport {
        let back = self.replaced.as_ref().map_or(&self.before, |replaced| &replaced.rules);
        self.trial.report(back.hash())
    }
}
