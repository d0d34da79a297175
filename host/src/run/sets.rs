//! The set of rules in force, the one that is to take its place, and the trial that a new one stands.
//!
//! Sets change between two transactions. While one is on trial the set before it is kept, and comes back without asking anybody
//! if the trial fails. If that was on trial as well, so is the one before: two sets are kept then, and never more. What
//! is left out: which set should run, which is for the loader, and what becomes of messages.

use std::collections::BTreeMap;
use std::mem;
use std::sync::mpsc::Sender;

use crate::run::TrialBounds;
use crate::swap::report::Why;
use crate::swap::{self, Judge, Note, OnTrial, Prepared, Taken, Trial, Verdict};
use weir_core::record::Part;

/// The set in force, and those around it.
pub(super) struct Sets {
    judge: Judge,
    /// Takes its place before the next message is read.
    next: Option<Box<Prepared>>,
    trial: Option<Probation>,
    /// What the set in force has done lately; while it is on trial, the one before.
    lately: swap::Record,
}

/// A trial that is under way.
struct Probation {
    trial: Trial,
    /// The last set that has passed its trial, or stood none. It comes back if the trial fails.
    before: Judge,
    /// Unless this one does first: the set that was replaced while it was on trial itself. Nothing speaks against it.
    replaced: Option<Replaced>,
    notes: Sender<Note>,
    status: swap::SharedStatus,
}

/// A set whose trial was cut short by the next set.
struct Replaced {
    judge: Judge,
    bounds: TrialBounds,
}

impl Sets {
    /// Begins with `judge`, which stands no trial.
    pub(super) fn new(judge: Judge) -> Sets {
        Sets { judge, next: None, trial: None, lately: swap::Record::default() }
    }

    /// The set in force.
    pub(super) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// The same, to judge by it.
    pub(super) fn judge_mut(&mut self) -> &mut Judge {
        &mut self.judge
    }

    /// Has `next` take its place soon.
    pub(super) fn propose(&mut self, next: Box<Prepared>) {
        self.next = Some(next);
    }

    /// Judges by the next set from here on, if there is one: `from` are the offsets to be read next, and `now` is in milliseconds
    /// since the epoch. What is committed was judged by the set before, and nothing else is. Returns whether that is so.
    pub(super) fn advance(&mut self, from: &BTreeMap<i32, i64>, now: i64) -> bool {
        let Some(next) = self.next.take() else { return false };
        let Prepared { judge, trial, usual, taken, notes, status } = *next;
        if self.lately.records < usual.records {
            self.lately = usual;
        }
        let old = mem::replace(&mut self.judge, judge);
        let mut retired = Vec::new();
        let (before, replaced) = match self.trial.take() {
            Some(cut_short) => {
                swap::update(&cut_short.status, |status| status.trial = None);
                retired.extend(cut_short.replaced.map(|replaced| replaced.judge));
                (cut_short.before, Some(Replaced { judge: old, bounds: cut_short.trial.bounds() }))
            }
            None => (old, None),
        };
        match trial.filter(|_| before.hash != self.judge.hash) {
            Some(bounds) => {
                let trial = Trial::new(bounds, self.lately, now);
                self.trial = Some(Probation { trial, before, replaced, notes, status });
            }
            None => {
                retired.extend(replaced.map(|replaced| replaced.judge));
                retired.push(before);
                self.lately = swap::Record::default();
            }
        }
        let trial = self.trial.as_ref().map(|trial| OnTrial { before: trial.before.hash.clone(), usual: self.lately });
        let replaced = self.trial.as_ref().and_then(|trial| Some(trial.replaced.as_ref()?.judge.hash.clone()));
        // Where nobody waits for the answer, the old rules are put away here.
        let _ = taken.send(Taken { from: from.clone(), retired, trial, replaced });
        true
    }

    /// Takes into account how the rules did in `parts`, which are committed. Returns whether the set was taken back, because it
    /// has failed its trial.
    pub(super) fn appraise(&mut self, parts: &[Part], now: i64) -> bool {
        let Some(probation) = &mut self.trial else {
            parts.iter().for_each(|part| self.lately.add(part));
            self.lately.fade();
            return false;
        };
        for part in parts {
            probation.trial.add(part, &self.judge.manifests);
            probation.trial.compare(part, &mut probation.before);
        }
        let verdict = probation.trial.verdict(now);
        let report = (verdict == Verdict::GoesOn).then(|| probation.report());
        swap::update(&probation.status, |status| status.trial = report);
        match verdict {
            Verdict::GoesOn => false,
            Verdict::Failed(reason) => self.take_back(&reason, now),
            Verdict::Passed => {
                if let Some(passed) = self.trial.take() {
                    self.lately = passed.trial.record();
                    let retired =
                        [Some(passed.before), passed.replaced.map(|replaced| replaced.judge)].into_iter().flatten().collect();
                    // Without a loader there is nobody to tell.
                    let _ = passed.notes.send(Note::Passed { passed: self.judge.hash.clone(), retired });
                }
                false
            }
        }
    }

    /// Goes on without the set in force, if that is on trial. Returns whether that is so. The set that it has replaced comes back
    /// and stands its own trial anew, where it was on trial then; else the last one that had passed.
    pub(super) fn take_back(&mut self, reason: &str, now: i64) -> bool {
        let Some(Probation { trial, before, replaced, notes, status }) = self.trial.take() else { return false };
        let back = match replaced {
            Some(Replaced { judge, bounds }) => {
                let (trial, notes, status) = (Trial::new(bounds, self.lately, now), notes.clone(), status.clone());
                self.trial = Some(Probation { trial, before, replaced: None, notes, status });
                judge
            }
            None => before,
        };
        let retired = mem::replace(&mut self.judge, back);
        let (evidence, back, on_trial) = (trial.evidence(), self.judge.hash.clone(), self.trial.is_some());
        tracing::error!(failed = retired.hash, back, on_trial, ?evidence, "rules are taken back: {reason}");
        let report = self.trial.as_ref().map(Probation::report);
        // The loader says the rest when it has time: it may be compiling.
        swap::update(&status, |status| (status.trial, status.why) = (report, Why::LastGood));
        let _ = notes.send(Note::TakenBack { retired, back, reason: reason.to_owned(), evidence });
        true
    }
}

impl Probation {
    /// What operators are told.
    fn report(&self) -> swap::report::Trial {
        let back = self.replaced.as_ref().map_or(&self.before, |replaced| &replaced.judge);
        self.trial.report(&back.hash)
    }
}
