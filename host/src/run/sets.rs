//! The set of rules in force, the one that is to take its place, and the trial that a new one stands.
//!
//! Sets change between two transactions. While one is on trial the set before it is kept, and comes back without asking anybody
//! if the trial fails. What is left out: which set should run, which is for the loader, and what becomes of messages.

use std::collections::BTreeMap;
use std::mem;
use std::sync::mpsc::Sender;

use crate::record::Part;
use crate::swap::report::Why;
use crate::swap::{self, Judge, Note, OnTrial, Prepared, Taken, Trial, Verdict};

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
    /// The set before, which comes back if the trial fails.
    before: Judge,
    notes: Sender<Note>,
    status: swap::SharedStatus,
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
        // A set that is replaced while it is on trial has not earned to be gone back to.
        let before = match self.trial.take() {
            Some(cut_short) => {
                swap::update(&cut_short.status, |status| status.trial = None);
                retired.push(old);
                cut_short.before
            }
            None => old,
        };
        match trial.filter(|_| before.hash != self.judge.hash) {
            Some(bounds) => {
                let trial = Trial::new(bounds, self.lately, now);
                self.trial = Some(Probation { trial, before, notes, status });
            }
            None => {
                retired.push(before);
                self.lately = swap::Record::default();
            }
        }
        let trial = self.trial.as_ref().map(|trial| OnTrial { before: trial.before.hash.clone(), usual: self.lately });
        // Where nobody waits for the answer, the old rules are put away here.
        let _ = taken.send(Taken { from: from.clone(), retired, trial });
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
        parts.iter().for_each(|part| probation.trial.add(part, &self.judge.manifests));
        let verdict = probation.trial.verdict(now);
        let report = (verdict == Verdict::GoesOn).then(|| probation.trial.report(&probation.before.hash));
        swap::update(&probation.status, |status| status.trial = report);
        match verdict {
            Verdict::GoesOn => false,
            Verdict::Failed(reason) => self.take_back(&reason),
            Verdict::Passed => {
                if let Some(passed) = self.trial.take() {
                    self.lately = passed.trial.record();
                    // Without a loader there is nobody to tell.
                    let _ = passed.notes.send(Note::Passed { passed: self.judge.hash.clone(), retired: passed.before });
                }
                false
            }
        }
    }

    /// Goes on with the set from before the trial, if there is a trial. Returns whether that is so.
    pub(super) fn take_back(&mut self, reason: &str) -> bool {
        let Some(Probation { trial, before, notes, status }) = self.trial.take() else { return false };
        let retired = mem::replace(&mut self.judge, before);
        let evidence = trial.evidence();
        tracing::error!(failed = retired.hash, back = self.judge.hash, ?evidence, "rules are taken back: {reason}");
        // The loader says the rest when it has time: it may be compiling.
        swap::update(&status, |status| (status.trial, status.why) = (None, Why::LastGood));
        let _ = notes.send(Note::TakenBack { retired, reason: reason.to_owned(), evidence });
        true
    }
}
