//! The state of a data loop for observers: totals, counts and the last records, renewed with every commit.
//!
//! The data loop writes the snapshot; the terminal view and the admin interface read the sum over all loops of the process
//! ([`crate::process_snapshot`]), which is a snapshot, too. Neither waits for the other longer than a copy takes. All numbers are totals since the start of the process; readers derive rates from them. Only committed records
//! are counted here, so a replay does not count twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::protocol::LiveReason;
use crate::trial::TrialReport;
use parking_lot::{Mutex, MutexGuard};
use weir_core::counts::{Counts, Window};
use weir_core::pipeline::{Manifest, reason_name, rule_name};
use weir_core::record::{Batch, RuleStats, Step};
use weir_wasm::description::SetDescription;

/// The number of last records that are kept.
pub const MAX_RECENT: usize = 40;
/// The most of a record's value that is kept, in bytes before the conversion to text.
pub const PREVIEW_BYTES: usize = 320;

/// The state of a data loop, or of all data loops of a process, after the last commit.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The present activity.
    pub state: LoopState,
    /// The set of rules in force. The hash of the set is the one in the header `weir-ruleset`.
    pub live: Arc<SetDescription>,
    /// The reason why the set was activated.
    pub why: LiveReason,
    /// The time since which the set is in force, in milliseconds since the epoch.
    pub since: i64,
    /// The set's trial, while it lasts.
    pub trial: Option<TrialReport>,
    /// The number of times that sets have changed.
    pub swaps: Swaps,
    /// The input partitions that the group has assigned.
    pub partitions: Vec<i32>,
    /// The number of committed batches.
    pub batches: u64,
    /// The records that were read and committed: `written`, plus those rejected, whether dead-lettered or dropped.
    pub read: u64,
    /// The records that passed every rule.
    pub written: u64,
    /// The records that did not pass, by rule and reason, in the order in which these first occurred.
    pub rejected: Vec<Rejected>,
    /// The counts by device type since the start.
    pub totals: BTreeMap<String, u64>,
    /// The counts by device type in the window that is open.
    pub open: BTreeMap<String, u64>,
    /// The end of the open window, in milliseconds since the epoch. None if the window has counted nothing.
    pub closes: Option<i64>,
    /// The time until which no counts are sent, because a clock was ahead, in milliseconds since the epoch.
    pub counts_wait: Option<i64>,
    /// The window that was sent last.
    pub closed: Option<Window>,
    /// The work of each rule since the start, by the rule's name: for all sets that had a rule of this name.
    pub stats: BTreeMap<String, RuleStats>,
    /// The durations of transactions, in seconds, from the first record to the commit.
    pub transaction_seconds: Histogram,
    /// The numbers of records per transaction.
    pub transaction_records: Histogram,
    /// The number of records that are not committed, by assigned input partition, where that number is known.
    pub lag: BTreeMap<i32, i64>,
    /// The last records with their verdicts, the oldest first, at most [`MAX_RECENT`].
    pub last: VecDeque<RecentRecord>,
}

/// The number of times that sets have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swaps {
    /// The sets that went live after the first one, including those that came back when another set was taken back.
    pub live: u64,
    /// The sets that were taken back by their trial.
    pub taken_back: u64,
}

/// The present activity of the data loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LoopState {
    /// Not at work yet: reaching the cluster, preparing the topics, or joining the group.
    #[default]
    Connecting,
    /// Reading and writing, or idle because there are no records.
    Running,
    /// Waiting before the next attempt, for this reason.
    Waiting(String),
    /// Asked to stop: finishing the chunks in hand.
    Stopping,
    /// Ended.
    Stopped,
}

/// The number of records that one rule has rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The name of the rule, or [`ENGINE`](weir_core::reserved::ENGINE).
    pub rule: String,
    /// The reason: one that the rule declares, or one of the engine's fixed set.
    pub reason: Arc<str>,
    /// The number of records, including dropped ones.
    pub messages: u64,
}

/// A record, shortened for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRecord {
    /// The input partition of the record.
    pub partition: i32,
    /// The offset of the record in the partition.
    pub offset: i64,
    /// The first [`PREVIEW_BYTES`] of the value as it was read. Bytes that are not UTF-8 are replaced. Control characters stay:
    /// the code that displays the text has to escape them.
    pub text: String,
    /// The changed part of the value that was written, if the record passed: from the first to the last byte that rules have
    /// changed, at most [`PREVIEW_BYTES`].
    pub written: String,
    /// The verdict on the record.
    pub verdict: Verdict,
}

/// The verdict on a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The record passed every rule.
    Passed,
    /// The record was rejected.
    Rejected {
        /// The name of the rule, or [`ENGINE`](weir_core::reserved::ENGINE).
        rule: String,
        /// The reason.
        reason: Arc<str>,
        /// The detail, in words for operators.
        detail: Option<String>,
    },
}

/// The distribution of numbers over buckets. The bounds of the buckets are powers of ten, and halves of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

/// The bounds for the durations of transactions, in seconds.
const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// The bounds for the numbers of records.
const RECORDS: &[f64] = &[1.0, 10.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0];

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Adds a number.
    pub fn add(&mut self, number: f64) {
        self.counts[self.bounds.partition_point(|bound| *bound < number)] += 1;
        self.sum += number;
    }

    /// Returns each upper bound with the count of the numbers up to it and above the bound before. The last one is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds.iter().copied().chain([f64::INFINITY]).zip(self.counts.iter().copied())
    }

    /// Adds the numbers of another distribution over the same buckets.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// Returns how many numbers were added.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of the numbers.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// A snapshot that the data loop and its observers share.
#[derive(Clone, Debug, Default)]
pub struct SharedSnapshot {
    snapshot: Arc<Mutex<Snapshot>>,
    /// The last time at which the data loop was seen alive, in milliseconds since the epoch.
    heartbeat: Arc<AtomicI64>,
}

impl SharedSnapshot {
    /// Returns a copy of the snapshot.
    pub fn get(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Returns the present activity of the data loop.
    pub fn state(&self) -> LoopState {
        self.lock().state.clone()
    }

    /// Notes that the data loop is alive at the time `now`, in milliseconds since the epoch.
    pub fn heartbeat(&self, now: i64) {
        self.heartbeat.store(now, Ordering::Relaxed);
    }

    /// Returns the last time at which the data loop was alive, in milliseconds since the epoch.
    pub fn last_heartbeat(&self) -> i64 {
        self.heartbeat.load(Ordering::Relaxed)
    }

    /// Changes the snapshot. `change` must be short, because the data loop waits on the same lock.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    /// Locks the snapshot. A panic of another holder does not poison the lock, and the numbers stay useful.
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock()
    }
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot {
            state: LoopState::default(),
            live: Arc::default(),
            why: LiveReason::default(),
            since: 0,
            trial: None,
            swaps: Swaps::default(),
            partitions: Vec::new(),
            batches: 0,
            read: 0,
            written: 0,
            rejected: Vec::new(),
            totals: BTreeMap::new(),
            open: BTreeMap::new(),
            closes: None,
            counts_wait: None,
            closed: None,
            stats: BTreeMap::new(),
            transaction_seconds: Histogram::new(SECONDS),
            transaction_records: Histogram::new(RECORDS),
            lag: BTreeMap::new(),
            last: VecDeque::new(),
        }
    }
}

impl Snapshot {
    /// Takes over the counts after a commit.
    pub fn count(&mut self, counts: &Counts) {
        self.totals = counts.totals();
        self.open = counts.open();
        self.closes = counts.next_close();
    }

    /// Adds a committed batch and its results.
    pub fn add(&mut self, batch: &Batch, step: &Step, manifests: &[Manifest]) {
        self.batches += u64::from(!batch.is_empty());
        self.read += batch.len() as u64;
        self.written += step.outputs.len() as u64;
        for rejection in &step.rejections {
            self.reject(rule_name(rejection.rule(), manifests), reason_name(rejection, manifests));
        }
        if let Some(window) = step.counts.windows.last() {
            self.closed = Some(window.clone());
        }
        self.add_stats(step, manifests);
        self.preview(batch, step, manifests);
    }

    /// Adds a transaction of `records` records that lasted for `took`.
    pub fn add_transaction(&mut self, took: Duration, records: usize) {
        self.transaction_seconds.add(took.as_secs_f64());
        self.transaction_records.add(records as f64);
    }

    fn add_stats(&mut self, step: &Step, manifests: &[Manifest]) {
        for (stats, manifest) in step.rules.iter().zip(manifests) {
            match self.stats.get_mut(&manifest.name) {
                Some(known) => known.add(stats),
                None => drop(self.stats.insert(manifest.name.clone(), *stats)),
            }
        }
    }

    /// Returns the number of all records that did not pass.
    pub fn rejections(&self) -> u64 {
        self.rejected.iter().map(|rejected| rejected.messages).sum()
    }

    fn reject(&mut self, rule: &str, reason: &str) {
        match self.rejected.iter_mut().find(|known| known.rule == rule && *known.reason == *reason) {
            Some(known) => known.messages += 1,
            None => self.rejected.push(Rejected { rule: rule.into(), reason: reason.into(), messages: 1 }),
        }
    }

    /// Keeps the last records of the batch, in the order of the batch.
    fn preview(&mut self, batch: &Batch, step: &Step, manifests: &[Manifest]) {
        let passed = step.outputs.iter().rev().take(MAX_RECENT).map(|output| {
            let before = batch.value(output.record as usize).unwrap_or_default();
            let written = shorten(changed(before, step.value(output, batch)));
            (output.record, shorten(before), written, Verdict::Passed)
        });
        let rejected = step.rejections.iter().rev().take(MAX_RECENT).map(|rejection| {
            let rule = rule_name(rejection.rule(), manifests).to_string();
            let reason = reason_name(rejection, manifests).into();
            let verdict = Verdict::Rejected { rule, reason, detail: rejection.detail.clone() };
            let text = shorten(batch.value(rejection.record as usize).unwrap_or_default());
            (rejection.record, text, String::new(), verdict)
        });
        let mut last: Vec<_> = passed.chain(rejected).collect();
        last.sort_unstable_by_key(|(record, ..)| *record);
        for (record, text, written, verdict) in last {
            let record = &batch.records()[record as usize];
            self.last.push_back(RecentRecord { partition: record.partition, offset: record.offset, text, written, verdict });
        }
        let excess = self.last.len().saturating_sub(MAX_RECENT);
        self.last.drain(..excess);
    }
}

/// Returns the part of `after` that is not in `before`: the rest between their common beginning and their common end.
fn changed<'a>(before: &[u8], after: &'a [u8]) -> &'a [u8] {
    let alike = |(one, other): &(&u8, &u8)| one == other;
    let start = before.iter().zip(after).take_while(alike).count();
    let end = before[start..].iter().rev().zip(after[start..].iter().rev()).take_while(alike).count();
    &after[start..after.len() - end]
}

fn shorten(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(PREVIEW_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(values: &[&str]) -> Batch {
        let mut batch = Batch::new("user-login");
        for (offset, value) in values.iter().enumerate() {
            batch.push(0, offset as i64, None, None, Some(value.as_bytes()));
        }
        batch
    }

    use weir_core::record::{Cause, Rejection};
    use weir_core::reserved::{ENGINE, Reason};

    fn rejection(record: u32, cause: Cause) -> Rejection {
        Rejection { record, cause, detail: None, drop: false }
    }

    #[test]
    fn totals_are_kept_by_rule_and_reason() {
        let manifest = Manifest { name: "validation".into(), reasons: vec!["missing_field".into()], ..Manifest::default() };
        let manifests = [manifest];
        let mut step = Step::default();
        step.outputs_mut().pass(1);
        step.rejections =
            vec![rejection(0, Cause::Rejected { rule: 0, reason: 0 }), rejection(2, Cause::Engine(Reason::MalformedJson))];
        let mut snapshot = Snapshot::default();
        for _ in 0..2 {
            snapshot.add(&batch(&["a", "b", "c"]), &step, &manifests);
        }
        assert_eq!((snapshot.batches, snapshot.read, snapshot.written, snapshot.rejections()), (2, 6, 2, 4));
        let rejected: Vec<_> =
            snapshot.rejected.iter().map(|known| (known.rule.as_str(), &*known.reason, known.messages)).collect();
        assert_eq!(rejected, [("validation", "missing_field", 2), (ENGINE, "malformed_json", 2)]);
    }

    #[test]
    fn the_last_messages_stand_in_the_order_of_the_batch() {
        let mut step = Step::default();
        step.outputs_mut().pass(0);
        let written: Result<(), ()> = step.outputs_mut().pass_with(2, |out| {
            out.extend_from_slice(b"C");
            Ok(())
        });
        written.unwrap();
        step.rejections = vec![rejection(1, Cause::Engine(Reason::TooDeep))];
        let mut snapshot = Snapshot::default();
        snapshot.add(&batch(&["a", "b", "c"]), &step, &[]);
        let texts: Vec<_> = snapshot.last.iter().map(|message| message.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        let written: Vec<_> = snapshot.last.iter().map(|message| message.written.as_str()).collect();
        assert_eq!(written, ["", "", "C"]);
        for _ in 0..MAX_RECENT {
            snapshot.add(&batch(&["a", "b", "c"]), &step, &[]);
        }
        assert_eq!(snapshot.last.len(), MAX_RECENT);
        assert_eq!(snapshot.last.back().map(|message| message.offset), Some(2));
    }

    #[test]
    fn what_rules_have_written_is_what_both_do_not_share() {
        let written = |before: &str, after: &'static str| String::from_utf8_lossy(changed(before.as_bytes(), after.as_bytes()));
        assert_eq!(written(r#"{"a":1}"#, r#"{"a":1,"b":2}"#), r#","b":2"#);
        assert_eq!(written(r#"{"a":1,"b":2}"#, r#"{"a":3,"b":4}"#), r#"3,"b":4"#);
        assert_eq!(written("{}", "{}"), "");
        assert_eq!((written("", "{}"), written("aa", "a"), written("a", "aa")), ("{}".into(), "".into(), "a".into()));
    }

    #[test]
    fn long_messages_are_shortened() {
        let mut step = Step::default();
        step.outputs_mut().pass(0);
        let mut snapshot = Snapshot::default();
        snapshot.add(&batch(&[&"x".repeat(PREVIEW_BYTES + 1)]), &step, &[]);
        assert_eq!(snapshot.last[0].text.len(), PREVIEW_BYTES);
    }
}
