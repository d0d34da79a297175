//! One trial for all data loops of a process: each loop adds what it has committed, and the sum decides.
//!
//! The loops activate a set one after the other, each between two of its transactions, and act on the verdict in the same way. The
//! verdict is therefore reached once, and is final: what the loops see later of the same set no longer counts. The loop that
//! reaches it tells the loader, and the others follow at their next turn. Not here: the rules for the verdict, which are in
//! [`crate::trial`], and the instances of the sets, of which each loop has its own.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::settings::TrialBounds;
use crate::trial::{TrackRecord, Trial, TrialReport, TrialState};
use weir_core::pipeline::Manifest;
use weir_core::record::{Chunk, Step};

/// The trial of a set in a process. A loop locks it a few times for each commit, and holds no lock while rules run.
#[derive(Debug)]
pub struct SharedTrial {
    bounds: TrialBounds,
    stage: Mutex<Stage>,
    /// The trial that the same set stands if it comes back after another set has replaced it.
    again: OnceLock<Arc<SharedTrial>>,
}

#[derive(Debug)]
enum Stage {
    /// No loop has activated the set yet.
    Pending,
    UnderWay(Trial),
    Ended(TrialEnd),
}

/// The end of a trial. It is the same for all loops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrialEnd {
    /// The set has passed.
    Passed,
    /// The set has failed. It is taken back for this reason.
    Failed(String),
    /// Another set has taken the place of this one before there was a verdict.
    Replaced,
}

/// The verdict on a set, for the loop that has reached it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The set has passed, with these results.
    Passed(TrackRecord),
    /// The set has failed, and these are some of the records that speak against it.
    Failed { reason: String, evidence: Vec<String> },
}

impl SharedTrial {
    /// Returns a trial within `bounds`. It begins when the first loop activates the set.
    pub fn new(bounds: TrialBounds) -> Arc<SharedTrial> {
        Arc::new(SharedTrial { bounds, stage: Mutex::new(Stage::Pending), again: OnceLock::new() })
    }

    /// Begins the trial at the time `now`, in milliseconds since the epoch, against the results `baseline` of the set before. Does
    /// nothing if another loop has begun it. Returns the baseline that counts.
    pub(crate) fn begin(&self, baseline: TrackRecord, now: i64) -> TrackRecord {
        let mut stage = self.stage.lock();
        if let Stage::Pending = *stage {
            *stage = Stage::UnderWay(Trial::new(self.bounds, baseline, now));
        }
        match &*stage {
            Stage::UnderWay(trial) => trial.baseline(),
            Stage::Pending | Stage::Ended(_) => baseline,
        }
    }

    /// Returns the trial that the set stands when it comes back after it was replaced: the same one for all loops.
    pub(crate) fn again(&self, baseline: TrackRecord, now: i64) -> Arc<SharedTrial> {
        let again = self.again.get_or_init(|| SharedTrial::new(self.bounds));
        again.begin(baseline, now);
        Arc::clone(again)
    }

    /// Returns whether the set before should process some records again, for [`SharedTrial::add`].
    pub(crate) fn compares(&self) -> bool {
        matches!(&*self.stage.lock(), Stage::UnderWay(trial) if trial.compares())
    }

    /// Adds the results of a committed chunk, and what the set before has made of the same records: the step and the manifests of
    /// that set. Does nothing if the trial has ended.
    pub(crate) fn add(&self, chunk: &Chunk, manifests: &[Manifest], before: Option<(&Step, &[Manifest])>) {
        if let Stage::UnderWay(trial) = &mut *self.stage.lock() {
            trial.add(chunk, manifests);
            if let Some((again, manifests)) = before {
                trial.compare(chunk, again, manifests);
            }
        }
    }

    /// Ends the trial if what was added so far is enough for a verdict at the time `now`. Returns the verdict only to the caller
    /// that has ended the trial by this call.
    pub(crate) fn decide(&self, now: i64) -> Option<Verdict> {
        let mut stage = self.stage.lock();
        let Stage::UnderWay(trial) = &*stage else { return None };
        let (state, record) = (trial.verdict(now), trial.record());
        match state {
            TrialState::GoesOn => None,
            TrialState::Passed => {
                *stage = Stage::Ended(TrialEnd::Passed);
                Some(Verdict::Passed(record))
            }
            TrialState::Failed(reason) => fail(&mut stage, reason),
        }
    }

    /// Ends the trial with a verdict against the set. Returns the verdict only if the trial has not ended before.
    pub(crate) fn fail(&self, reason: &str) -> Option<Verdict> {
        fail(&mut self.stage.lock(), reason.to_owned())
    }

    /// Ends the trial because another set takes the place of this one. Returns how the trial has ended, which may have been before.
    pub(crate) fn replace(&self) -> TrialEnd {
        let mut stage = self.stage.lock();
        match &*stage {
            Stage::Ended(end) => end.clone(),
            Stage::Pending | Stage::UnderWay(_) => {
                *stage = Stage::Ended(TrialEnd::Replaced);
                TrialEnd::Replaced
            }
        }
    }

    /// Returns how the trial has ended, if it has.
    pub(crate) fn end(&self) -> Option<TrialEnd> {
        match &*self.stage.lock() {
            Stage::Ended(end) => Some(end.clone()),
            Stage::Pending | Stage::UnderWay(_) => None,
        }
    }

    /// Returns the report for operators while the trial is under way. `previous` is the hash of the set that comes back.
    pub(crate) fn report(&self, previous: &str) -> Option<TrialReport> {
        match &*self.stage.lock() {
            Stage::UnderWay(trial) => Some(trial.report(previous)),
            Stage::Pending | Stage::Ended(_) => None,
        }
    }
}

/// Ends a trial that is under way with a verdict against the set.
fn fail(stage: &mut Stage, reason: String) -> Option<Verdict> {
    match std::mem::replace(stage, Stage::Ended(TrialEnd::Failed(reason.clone()))) {
        Stage::UnderWay(trial) => Some(Verdict::Failed { reason, evidence: trial.evidence() }),
        before => {
            *stage = before;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use weir_core::record::{Batch, Cause, Rejection};

    /// Returns a chunk of `records` records, the first `rejected` of which were rejected.
    fn chunk(records: usize, rejected: usize) -> Chunk {
        let mut chunk = Chunk { batch: Batch::new("user-login"), ..Chunk::default() };
        (0..records).for_each(|offset| chunk.batch.push(0, offset as i64, None, None, Some(b"{}")));
        let rejection = |record| Rejection { record, cause: Cause::Rejected { rule: 0, reason: 0 }, detail: None, drop: false };
        chunk.step.rejections.extend((0..rejected as u32).map(rejection));
        chunk
    }

    fn begun() -> Arc<SharedTrial> {
        let trial = SharedTrial::new(TrialBounds { records: 1_000, ..TrialBounds::default() });
        trial.begin(TrackRecord { records: 10_000, rejected: 0, faults: 0 }, 0);
        trial
    }

    #[test]
    fn what_all_loops_have_seen_decides_and_one_of_them_is_told() {
        let trial = begun();
        let told = thread::scope(|scope| {
            let loops = [(); 4].map(|()| {
                scope.spawn(|| {
                    let add = |_| {
                        trial.add(&chunk(10, 0), &[], None);
                        trial.decide(0)
                    };
                    (0..50).filter_map(add).collect::<Vec<_>>()
                })
            });
            loops.map(|running| running.join().unwrap()).into_iter().flatten().collect::<Vec<_>>()
        });
        let [Verdict::Passed(record)] = &told[..] else { panic!("one of them is told, not {told:?}") };
        // Each of the other loops may have added a chunk before the one that decided.
        assert!((1_000..=1_030).contains(&record.records), "no loop alone has seen {}", record.records);
        assert_eq!(trial.end(), Some(TrialEnd::Passed));
        assert_eq!((trial.fail("late"), trial.replace()), (None, TrialEnd::Passed), "and that is final");
    }

    #[test]
    fn a_few_bad_records_in_each_loop_fail_a_set() {
        let trial = begun();
        trial.add(&chunk(50, 15), &[], None);
        assert_eq!(trial.decide(0), None);
        trial.add(&chunk(50, 15), &[], None);
        let Some(Verdict::Failed { reason, evidence }) = trial.decide(0) else { panic!("it fails") };
        assert!(reason.contains("30 of its first 100") && evidence.len() == 10, "{reason} {evidence:?}");
        assert_eq!((trial.decide(0), trial.end()), (None, Some(TrialEnd::Failed(reason))));
    }

    #[test]
    fn a_set_that_was_replaced_fails_and_passes_no_more_and_stands_one_new_trial_in_all_loops() {
        let trial = begun();
        assert_eq!(trial.replace(), TrialEnd::Replaced);
        trial.add(&chunk(1_000, 1_000), &[], None);
        assert_eq!((trial.decide(0), trial.fail("late"), trial.end()), (None, None, Some(TrialEnd::Replaced)));
        let (first, second) = (trial.again(TrackRecord::default(), 7), trial.again(TrackRecord::default(), 9));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.report("before").map(|report| (report.until, report.records)), Some((60_007, 0)));
    }

    #[test]
    fn the_first_loop_that_activates_a_set_begins_its_trial() {
        let trial = SharedTrial::new(TrialBounds::default());
        assert_eq!((trial.report("before"), trial.decide(i64::MAX)), (None, None));
        let baseline = TrackRecord { records: 7, ..TrackRecord::default() };
        assert_eq!(trial.begin(baseline, 0), baseline);
        assert_eq!(trial.begin(TrackRecord::default(), 1_000), baseline, "and that baseline counts for all");
        assert_eq!(trial.report("before").map(|report| report.until), Some(60_000));
    }
}
