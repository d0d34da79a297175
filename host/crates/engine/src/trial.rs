//! The trial of a new set of rules: its first records decide whether it stays.
//!
//! Three things speak against a set:
//! - records on which its rules fail;
//! - records that it rejects beyond the share that the set before rejected, if the set before has processed enough of them;
//! - records that it lets pass, although the set before rejects them.
//!
//! For the last of these the set before processes some of the same records again. A falling share alone says nothing, because the
//! records may have got better. The comparison is made for each rule of the set before, because otherwise a rule that rejects
//! little would go unnoticed among the others, and for all rules together. It does not matter which rule of the new set rejects a
//! record, so a changed order of the rules does no harm. Rejections by the engine itself count against no set.
//!
//! This module is pure: the time comes from outside. [`SharedTrial`](crate::shared_trial::SharedTrial) makes one trial of what all
//! data loops of a process see, and the data loops act on the verdict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::instances::RuleInstances;
use crate::settings::TrialBounds;
use weir_core::counts::Counts;
use weir_core::pipeline::{Manifest, reason_name, rule_name};
use weir_core::printable::excerpt;
use weir_core::record::{Cause, Chunk, Rejection, Step};

/// The smallest denominator for a share of records: one bad record among the first three says little.
const FEWEST: u64 = 100;
/// The smallest denominator for the share of rejected records that pass now.
const FEWEST_REJECTED: u64 = 20;
/// The most records of a chunk that the set before processes again: far more than a comparison needs, in a few milliseconds.
const COMPARED_ROWS: usize = 1_000;
/// The most time that the set before may take for processing again in one trial, in nanoseconds. Live records wait meanwhile.
const COMPARING: u64 = 5_000_000_000;
/// The number of records after which the track record is halved, so that the baseline describes the last minutes, not the last
/// week.
const MEMORY: u64 = 20_000;
/// The most records that are shown as evidence.
const MAX_EVIDENCE: usize = 10;
/// The most of a rejection's detail that is shown, in characters.
const MAX_DETAIL: usize = 200;

/// The results of the rules in force for the latest records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRecord {
    pub records: u64,
    pub rejected: u64,
    pub faults: u64,
}

impl TrackRecord {
    /// Adds the results of a chunk.
    pub fn add(&mut self, chunk: &Chunk) {
        self.records += chunk.batch.len() as u64;
        self.rejected += chunk.step.rejections.iter().filter(|rejection| rejection.is_decision()).count() as u64;
        self.faults += faults(chunk);
    }

    /// Halves the numbers once there are many, so that old results count less.
    pub fn fade(&mut self) {
        if self.records > MEMORY {
            *self = TrackRecord { records: self.records / 2, rejected: self.rejected / 2, faults: self.faults / 2 };
        }
    }
}

fn faults(chunk: &Chunk) -> u64 {
    chunk.step.rules.iter().map(|rule| rule.faults + rule.skipped).sum()
}

/// The report of a trial for operators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// The records processed so far.
    pub records: u64,
    /// The number of records that the trial takes.
    pub of: u64,
    /// The time at which the trial ends at the latest, in milliseconds since the epoch.
    pub until: i64,
    /// The records on which a rule failed.
    pub faults: u64,
    /// The records that were rejected.
    pub rejected: u64,
    /// The hash of the set that comes back if the trial fails.
    pub previous: String,
}

/// The state of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialState {
    GoesOn,
    Passed,
    /// The trial has failed: the bound that was exceeded, and by how much.
    Failed(String),
}

/// A trial under way.
#[derive(Debug)]
pub struct Trial {
    bounds: TrialBounds,
    before: TrackRecord,
    /// The time at which the trial ends at the latest, in milliseconds since the epoch.
    until: i64,
    so_far: TrackRecord,
    compared: Compared,
    /// Some of the records on which a rule failed and, in `rejections`, some of those that were rejected.
    faults: Vec<String>,
    rejections: Vec<String>,
}

/// The results for the records that the set before has processed again.
#[derive(Debug, Default)]
struct Compared {
    /// The number of records that the set before has processed again.
    records: u64,
    /// The rules of the set before that reject some of these records, by their index in that set.
    rules: BTreeMap<usize, Strictness>,
    /// The time that processing again has taken so far, in nanoseconds.
    nanos: u64,
}

/// The records that a rule of the set before rejects, and how many of them pass now.
#[derive(Debug)]
struct Strictness {
    rule: String,
    rejected: u64,
    /// The number of these records that the set on trial lets pass.
    passed: u64,
    /// Some of the records that pass.
    passes: Vec<String>,
}

impl Strictness {
    fn of(rule: &str) -> Strictness {
        Strictness { rule: rule.to_owned(), rejected: 0, passed: 0, passes: Vec::new() }
    }
}

/// Returns whether `passed` of `rejected` records are more than the share `most`.
fn is_lax(passed: u64, rejected: u64, most: f64) -> bool {
    passed as f64 > most * rejected.max(FEWEST_REJECTED) as f64
}

impl Trial {
    /// Returns a trial that begins at the time `now`, in milliseconds since the epoch. `before` are the results of the set
    /// before.
    pub fn new(bounds: TrialBounds, before: TrackRecord, now: i64) -> Trial {
        let until = now.saturating_add(bounds.time.as_millis() as i64);
        let (faults, rejections) = Default::default();
        Trial { bounds, before, until, so_far: TrackRecord::default(), compared: Compared::default(), faults, rejections }
    }

    /// Returns the baseline: the results of the set before.
    pub fn baseline(&self) -> TrackRecord {
        self.before
    }

    /// Returns whether the set before should process some records again, for [`Trial::compare`].
    pub fn compares(&self) -> bool {
        self.bounds.fewer_rejections < 1.0 && self.compared.nanos < COMPARING
    }

    /// Counts those records of `chunk` that the set before rejects and the new set has let pass. `again` is the result of
    /// [`process_again`], and `manifests` are those of the set before.
    pub fn compare(&mut self, chunk: &Chunk, again: &Step, manifests: &[Manifest]) {
        let Compared { records, rules, nanos } = &mut self.compared;
        *records += again.processed_records.unwrap_or(chunk.batch.len().min(COMPARED_ROWS)) as u64;
        *nanos += again.rules.iter().map(|rule| rule.nanos).sum::<u64>();
        for rejection in &again.rejections {
            let Cause::Rejected { rule, .. } = rejection.cause else { continue };
            let name = rule_name(Some(rule), manifests);
            let strictness = rules.entry(rule).or_insert_with(|| Strictness::of(name));
            strictness.rejected += 1;
            if chunk.step.outputs.binary_search_by_key(&rejection.record, |output| output.record).is_ok() {
                strictness.passed += 1;
                if strictness.passes.len() < MAX_EVIDENCE {
                    strictness.passes.push(describe(chunk, rejection, manifests));
                }
            }
        }
    }

    /// Adds the results of a chunk.
    pub fn add(&mut self, chunk: &Chunk, manifests: &[Manifest]) {
        self.so_far.add(chunk);
        let Step { rejections, passed_despite_fault, .. } = &chunk.step;
        let note = |list: &mut Vec<String>, telling: &mut dyn Iterator<Item = &Rejection>| {
            let room = MAX_EVIDENCE - list.len();
            list.extend(telling.take(room).map(|rejection| describe(chunk, rejection, manifests)));
        };
        note(&mut self.faults, &mut rejections.iter().filter(|rejection| rejection.is_fault()).chain(passed_despite_fault));
        note(&mut self.rejections, &mut rejections.iter().filter(|rejection| rejection.is_decision()));
    }

    /// Returns the state of the trial at the time `now`.
    pub fn verdict(&self, now: i64) -> TrialState {
        let TrackRecord { records, rejected, faults } = self.so_far;
        let of = records.max(FEWEST) as f64;
        let share = faults as f64 / of;
        if share > self.bounds.faults {
            return TrialState::Failed(format!(
                "its rules failed on {faults} of its first {records} messages, and at most {} % may (trial.faults)",
                percent(self.bounds.faults)
            ));
        }
        let baseline = self.before.rejected as f64 / self.before.records.max(1) as f64;
        let rise = (rejected as f64 - baseline * records as f64) / of;
        // If the set before has processed next to nothing, as after a start, there is no baseline.
        if self.before.records >= FEWEST && rise > self.bounds.rejections {
            return TrialState::Failed(format!(
                "it rejected {rejected} of its first {records} messages, where the set before rejected {} %, and at most {} % \
                 more may be (trial.rejections)",
                percent(baseline),
                percent(self.bounds.rejections)
            ));
        }
        if let Some(reason) = self.laxity() {
            return TrialState::Failed(reason);
        }
        if records >= self.bounds.records || now >= self.until { TrialState::Passed } else { TrialState::GoesOn }
    }

    /// Returns the reason against a set that lets pass too much of what the set before rejects, if it does.
    fn laxity(&self) -> Option<String> {
        let Compared { records, rules, .. } = &self.compared;
        let (bound, most) = (self.bounds.fewer_rejections, percent(self.bounds.fewer_rejections));
        if let Some(lax) = rules.values().find(|rule| is_lax(rule.passed, rule.rejected, bound)) {
            let Strictness { rule, rejected, passed, .. } = lax;
            return Some(format!(
                "rule {rule} rejected {rejected} of {records} messages before, and now {passed} of these {rejected} pass, where \
                 at most {most} % may (trial.fewer_rejections)"
            ));
        }
        let sum = |what: fn(&Strictness) -> u64| rules.values().map(what).sum::<u64>();
        let (rejected, passed) = (sum(|rule| rule.rejected), sum(|rule| rule.passed));
        is_lax(passed, rejected, bound).then(|| {
            format!(
                "it let pass {passed} of {rejected} messages that the set before rejects, and at most {most} % may be \
                 (trial.fewer_rejections)"
            )
        })
    }

    /// Returns the results of the set so far.
    pub fn record(&self) -> TrackRecord {
        self.so_far
    }

    /// Returns some of the records that speak against the set. Faults come first, because they say more. Next come the records
    /// that pass now, those first that were rejected by a rule of which too many pass. Rejections come last.
    pub fn evidence(self) -> Vec<String> {
        let mut rules: Vec<Strictness> = self.compared.rules.into_values().collect();
        rules.sort_by_key(|rule| !is_lax(rule.passed, rule.rejected, self.bounds.fewer_rejections));
        let passes = rules.into_iter().flat_map(|rule| rule.passes);
        self.faults.into_iter().chain(passes).chain(self.rejections).take(MAX_EVIDENCE).collect()
    }

    /// Returns the report for operators. `previous` is the hash of the set before.
    pub fn report(&self, previous: &str) -> TrialReport {
        TrialReport {
            records: self.so_far.records,
            of: self.bounds.records,
            until: self.until,
            faults: self.so_far.faults,
            rejected: self.so_far.rejected,
            previous: previous.to_owned(),
        }
    }
}

/// Lets the set `before` process some records of `chunk` again, into `step`.
pub(crate) fn process_again(chunk: &Chunk, before: &mut RuleInstances, step: &mut Step) {
    let some = (chunk.batch.len() > COMPARED_ROWS).then(|| chunk.batch.first(COMPARED_ROWS));
    step.compared = true;
    // The counts of this step are thrown away.
    before.process(&Counts::new(60_000, false), some.as_ref().unwrap_or(&chunk.batch), step);
}

fn percent(share: f64) -> f64 {
    (share * 1_000.0).round() / 10.0
}

fn describe(chunk: &Chunk, rejection: &Rejection, manifests: &[Manifest]) -> String {
    let (position, rule) = (chunk.batch.position(rejection.record as usize), rule_name(rejection.rule(), manifests));
    let (reason, detail) = (reason_name(rejection, manifests), rejection.detail.as_deref().unwrap_or_default());
    format!("{position} {rule}: {reason} {}", excerpt(detail.as_bytes(), MAX_DETAIL)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use crate::instances::set;
    use std::time::Duration;

    use super::*;
    use weir_core::record::{Batch, RuleStats};
    use weir_core::reserved::RULE_FAULT;

    const BOUNDS: TrialBounds =
        TrialBounds { records: 1_000, time: Duration::from_secs(60), faults: 0.01, rejections: 0.2, fewer_rejections: 0.5 };

    /// Returns a chunk of `records` records. The first `rejected` of them were rejected, and rules failed on the next `faults`.
    fn chunk(records: usize, rejected: usize, faults: usize) -> Chunk {
        let mut chunk = Chunk { batch: Batch::new("user-login"), ..Chunk::default() };
        (0..records).for_each(|offset| chunk.batch.push(0, offset as i64, None, None, Some(b"{}")));
        let rejection = |record: usize, cause: Cause| {
            let detail = Some("why\n".into());
            Rejection { record: record as u32, cause, detail, drop: false }
        };
        let rejected_by = |record| rejection(record, Cause::Rejected { rule: 0, reason: 0 });
        let failed = |record| rejection(record, Cause::Fault { rule: 0, backtrace: None });
        chunk.step.rejections.extend((0..rejected).map(rejected_by));
        chunk.step.rejections.extend((rejected..rejected + faults).map(failed));
        chunk.step.rules = vec![RuleStats { faults: faults as u64, ..RuleStats::default() }];
        chunk
    }

    fn verdict(before: TrackRecord, chunks: &[Chunk], now: i64) -> TrialState {
        let mut trial = Trial::new(BOUNDS, before, 0);
        chunks.iter().for_each(|chunk| trial.add(chunk, &[]));
        trial.verdict(now)
    }

    #[test]
    fn a_set_that_does_well_passes_after_its_messages_or_its_time() {
        assert_eq!(verdict(TrackRecord::default(), &[chunk(999, 100, 9)], 0), TrialState::GoesOn);
        assert_eq!(verdict(TrackRecord::default(), &[chunk(999, 100, 9), chunk(1, 0, 0)], 0), TrialState::Passed);
        assert_eq!(verdict(TrackRecord::default(), &[chunk(3, 0, 1)], 60_000), TrialState::Passed);
    }

    #[test]
    fn faults_beyond_the_bound_fail_it_early() {
        let TrialState::Failed(reason) = verdict(TrackRecord::default(), &[chunk(20, 0, 2)], 0) else { panic!("it fails") };
        assert!(reason.contains("2 of its first 20") && reason.contains("1 %"), "{reason}");
    }

    #[test]
    fn rejections_are_measured_against_the_set_before() {
        let before = TrackRecord { records: 10_000, rejected: 5_000, faults: 0 };
        assert_eq!(verdict(before, &[chunk(500, 300, 0)], 0), TrialState::GoesOn);
        let TrialState::Failed(reason) = verdict(before, &[chunk(500, 400, 0)], 0) else { panic!("it fails") };
        assert!(reason.contains("rejected 50 %") && reason.contains("20 %"), "{reason}");
        let before = TrackRecord { rejected: 0, ..before };
        assert!(matches!(verdict(before, &[chunk(500, 300, 0)], 0), TrialState::Failed(_)));
        assert_eq!(verdict(TrackRecord::default(), &[chunk(500, 300, 0)], 0), TrialState::GoesOn, "nobody knows what is usual");
    }

    /// Rules, each of which rejects every record whose offset is below a number.
    type Rules = &'static [(&'static str, i64)];

    /// Returns a set of `rules` in this order. A record that one rule has rejected does not reach the next rule.
    fn strict(rules: Rules) -> RuleInstances {
        let manifest = |name: &str| Manifest { name: name.into(), reasons: vec!["bad".into()], ..Manifest::default() };
        let process = move |_: &Counts, batch: &Batch, step: &mut Step| {
            step.clear();
            for (record, found) in (0..).zip(batch.records()) {
                match rules.iter().position(|(_, below)| found.offset < *below) {
                    Some(rule) => {
                        let cause = Cause::Rejected { rule, reason: 0 };
                        step.rejections.push(Rejection { record, cause, detail: None, drop: false });
                    }
                    None => step.outputs_mut().pass(record),
                }
            }
        };
        let manifests = rules.iter().map(|(name, _)| manifest(name)).collect();
        RuleInstances::new(process, manifests, set("cafe"))
    }

    /// Returns the verdict and the evidence about the set `after`, after 600 records, if `before` was in force before.
    fn replaced(bounds: TrialBounds, before: Rules, after: Rules) -> (TrialState, Vec<String>) {
        let mut trial = Trial::new(bounds, TrackRecord { records: 1_000, rejected: 900, faults: 0 }, 0);
        let mut chunk = chunk(600, 0, 0);
        let mut after = strict(after);
        after.process(&Counts::new(60_000, false), &chunk.batch, &mut chunk.step);
        trial.add(&chunk, &after.manifests);
        compare(&mut trial, &chunk, &mut strict(before));
        (trial.verdict(0), trial.evidence())
    }

    /// Lets the set `before` process `chunk` again, and hands the result to `trial`.
    fn compare(trial: &mut Trial, chunk: &Chunk, before: &mut RuleInstances) {
        let mut again = Step::default();
        if trial.compares() {
            process_again(chunk, before, &mut again);
            trial.compare(chunk, &again, &before.manifests);
        }
    }

    #[test]
    fn a_set_that_lets_pass_what_the_set_before_rejects_fails() {
        let (verdict, evidence) = replaced(BOUNDS, &[("a", 40)], &[]);
        let TrialState::Failed(reason) = verdict else { panic!("it fails") };
        let expected = "rule a rejected 40 of 600 messages before, and now 40 of these 40 pass, where at most 50 % may \
                        (trial.fewer_rejections)";
        assert_eq!(reason, expected);
        assert_eq!((evidence.len(), evidence[0].as_str()), (MAX_EVIDENCE, "user-login/0/0 a: bad"));
        assert!(matches!(replaced(BOUNDS, &[("a", 40)], &[("a", 19)]).0, TrialState::Failed(_)));
        assert_eq!(replaced(BOUNDS, &[("a", 40)], &[("a", 20)]).0, TrialState::GoesOn, "half of them may be");
        assert_eq!(replaced(BOUNDS, &[("a", 10)], &[]).0, TrialState::GoesOn, "a few say little");
        let intended = TrialBounds { fewer_rejections: 1.0, ..BOUNDS };
        assert_eq!(replaced(intended, &[("a", 40)], &[]).0, TrialState::GoesOn, "it is intended");
    }

    #[test]
    fn a_rule_that_rejects_nothing_any_more_fails_the_set_however_much_the_others_reject() {
        let (verdict, evidence) = replaced(BOUNDS, &[("a", 200), ("b", 240)], &[("a", 200), ("b", 0)]);
        let TrialState::Failed(reason) = verdict else { panic!("it fails") };
        assert!(reason.starts_with("rule b rejected 40 of 600 messages before, and now 40 of these 40 pass"), "{reason}");
        assert!(evidence[0].ends_with("/200 b: bad"), "{evidence:?}");
        assert!(matches!(replaced(BOUNDS, &[("a", 200), ("b", 240)], &[("b", 200)]).0, TrialState::Failed(_)), "it may be gone");
        assert_eq!(replaced(BOUNDS, &[("a", 200), ("b", 210)], &[("a", 200)]).0, TrialState::GoesOn, "a few say little");
    }

    #[test]
    fn rules_that_reject_a_few_each_fail_a_set_together() {
        let TrialState::Failed(reason) = replaced(BOUNDS, &[("a", 10), ("b", 20), ("c", 30)], &[]).0 else { panic!("it fails") };
        assert!(reason.contains("let pass 30 of 30") && reason.contains("50 % may be (trial.fewer_rejections)"), "{reason}");
    }

    #[test]
    fn messages_that_speak_against_a_set_are_first_of_all_those_of_the_rule_that_fails_it() {
        let (verdict, evidence) = replaced(BOUNDS, &[("a", 200), ("b", 240)], &[("a", 140)]);
        assert!(matches!(&verdict, TrialState::Failed(reason) if reason.contains("rule b ")), "{verdict:?}");
        assert!(evidence.iter().all(|message| message.ends_with(" b: bad")), "{evidence:?}");
    }

    #[test]
    fn rules_in_another_order_reject_the_same_and_pass() {
        let (before, after): (Rules, Rules) = (&[("a", 200), ("b", 240)], &[("b", 240), ("a", 200)]);
        assert_eq!(replaced(BOUNDS, before, after).0, TrialState::GoesOn);
        assert_eq!(replaced(BOUNDS, after, before).0, TrialState::GoesOn);
        assert_eq!(replaced(BOUNDS, before, &[("one for both", 240)]).0, TrialState::GoesOn);
    }

    #[test]
    fn the_set_before_is_told_that_it_is_only_compared() {
        let (seen, mut trial) =
            (std::sync::Arc::new(std::sync::Mutex::new(Vec::new())), Trial::new(BOUNDS, TrackRecord::default(), 0));
        let sees = seen.clone();
        let process = move |_: &Counts, _: &Batch, step: &mut Step| {
            step.clear();
            sees.lock().unwrap().push(step.compared);
        };
        let mut before = RuleInstances::new(process, Vec::new(), set("cafe"));
        compare(&mut trial, &chunk(3, 0, 0), &mut before);
        compare(&mut trial, &chunk(3, 0, 0), &mut before);
        assert_eq!(*seen.lock().unwrap(), [true, true]);
    }

    #[test]
    fn messages_that_have_got_better_are_not_held_against_a_set() {
        // The set before rejected nine of ten records lately, but would reject none of these.
        assert_eq!(replaced(BOUNDS, &[("a", 0)], &[]).0, TrialState::GoesOn);
    }

    #[test]
    fn what_a_rule_rejects_is_rejected_whatever_it_calls_it() {
        let manifest = Manifest { reasons: vec![RULE_FAULT.into()], ..Manifest::default() };
        let mut trial = Trial::new(BOUNDS, TrackRecord { records: 1_000, rejected: 0, faults: 0 }, 0);
        trial.add(&chunk(100, 100, 0), &[manifest]);
        assert_eq!(trial.record(), TrackRecord { records: 100, rejected: 100, faults: 0 });
        assert!(matches!(trial.verdict(0), TrialState::Failed(_)));
    }

    #[test]
    fn evidence_is_bounded_and_safe_to_print() {
        let mut trial = Trial::new(BOUNDS, TrackRecord::default(), 0);
        trial.add(&chunk(100, 50, 1), &[]);
        let evidence = trial.evidence();
        assert_eq!(evidence.len(), MAX_EVIDENCE);
        assert_eq!(evidence[0], format!("user-login/0/50 {}: {RULE_FAULT} why\\n", rule_name(Some(0), &[])));
    }

    #[test]
    fn evidence_has_the_faults_also_where_rejections_came_first_or_faults_are_forgiven() {
        let mut trial = Trial::new(BOUNDS, TrackRecord::default(), 0);
        let mut forgiving = chunk(3, 0, 1);
        forgiving.step.passed_despite_fault = std::mem::take(&mut forgiving.step.rejections);
        let manifest = Manifest { name: "a".into(), reasons: vec!["bad".into()], ..Manifest::default() };
        let chunks = [chunk(50, 50, 0), chunk(20, 0, 1), forgiving];
        chunks.iter().for_each(|chunk| trial.add(chunk, std::slice::from_ref(&manifest)));
        let evidence = trial.evidence();
        assert_eq!(evidence.len(), MAX_EVIDENCE);
        assert!(evidence[..2].iter().all(|message| message.contains(" a: rule_fault ")), "{evidence:?}");
        assert!(evidence[2..].iter().all(|message| message.contains(" a: bad ")), "{evidence:?}");
    }

    #[test]
    fn what_was_long_ago_fades() {
        let mut record = TrackRecord { records: MEMORY + 2, rejected: 100, faults: 4 };
        record.fade();
        assert_eq!(record, TrackRecord { records: MEMORY / 2 + 1, rejected: 50, faults: 2 });
    }
}
