//! What observers may see of a running engine: totals, counts and the last messages, renewed once per batch.
//!
//! The data loop writes it, the terminal view and later the admin page read it, and neither waits for the other longer than
//! a copy takes. All numbers are totals since the start of the process; rates are for the reader to derive. Only what is
//! committed is counted here, so a replay does not count twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::protocol::Why;
use crate::trial::TrialReport;
use weir_core::counts::{Counts, Window};
use weir_core::pipeline::{Manifest, reason_name, rule_name};
use weir_core::record::{Batch, RuleStats, Step};
use weir_wasm::description::SetDescription;

/// How many of the last messages are kept.
pub const LAST_MESSAGES: usize = 40;
/// How much of a message is kept, in bytes before the conversion to text.
pub const PREVIEW_BYTES: usize = 320;

/// The engine as it was after its last committed batch.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the data loop is doing.
    pub state: State,
    /// The set of rules in force. Its hash is that of the header `weir-ruleset`.
    pub live: Arc<SetDescription>,
    /// Why it was activated.
    pub why: Why,
    /// Since when: milliseconds since the epoch.
    pub since: i64,
    /// Its trial, while it lasts.
    pub trial: Option<TrialReport>,
    /// How often sets have changed.
    pub swaps: Swaps,
    /// The input partitions that this process has.
    pub partitions: Vec<i32>,
    /// Committed batches.
    pub batches: u64,
    /// Messages read and committed: `written`, plus those rejected, whether dead-lettered or dropped.
    pub read: u64,
    /// Messages that passed every rule.
    pub written: u64,
    /// Messages that did not, by rule and reason, in the order in which they first occurred.
    pub rejected: Vec<Rejected>,
    /// Device types since the start.
    pub totals: BTreeMap<String, u64>,
    /// Device types in the window that is open.
    pub open: BTreeMap<String, u64>,
    /// When the open window ends: milliseconds since the epoch; none if it has counted nothing.
    pub closes: Option<i64>,
    /// Until when no counts are sent, since a clock was ahead; milliseconds since the epoch.
    pub counts_wait: Option<i64>,
    /// The window that was sent last.
    pub closed: Option<Window>,
    /// What each rule did since the start, by name: of all that ran under it.
    pub stats: BTreeMap<String, RuleStats>,
    /// How long transactions took, in seconds, from the first message to the commit.
    pub transaction_seconds: Histogram,
    /// How many messages were in a transaction.
    pub transaction_records: Histogram,
    /// Messages of each input partition of this process that are not committed, where that is known.
    pub lag: BTreeMap<i32, i64>,
    /// The last messages with their verdicts, the oldest first, at most [`LAST_MESSAGES`].
    pub last: VecDeque<Message>,
}

/// How often sets have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swaps {
    /// Sets that went live after the first one, those rolled back to included.
    pub live: u64,
    /// Sets that were rolled back by their trial.
    pub rolled_back: u64,
}

/// What the data loop is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not at work yet: reaching the cluster, seeing to the topics, or joining the group.
    #[default]
    Connecting,
    /// Reading and writing, or idle for want of messages.
    Running,
    /// Waiting before it tries again, and why.
    Waiting(String),
    /// Asked to stop: finishing what it has in hand.
    Stopping,
    /// Done.
    Stopped,
}

/// How many messages one rule has rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The rule, or [`ENGINE`](weir_core::reserved::ENGINE).
    pub rule: String,
    /// The reason, one of the rule's or the engine's fixed set.
    pub reason: Arc<str>,
    /// How many, dropped ones included.
    pub messages: u64,
}

/// A message, shortened for showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it came from.
    pub partition: i32,
    /// Where in the partition.
    pub offset: i64,
    /// The first [`PREVIEW_BYTES`] of its value, as it was read. What is not UTF-8 is replaced; control characters are left to
    /// whoever shows it.
    pub text: String,
    /// What is other in the value that was written, if it passed: from the first to the last byte that rules have changed, of
    /// which as many are kept.
    pub written: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed every rule.
    Passed,
    /// It went no further.
    Rejected {
        /// The rule, or [`ENGINE`](weir_core::reserved::ENGINE).
        rule: String,
        /// The reason.
        reason: Arc<str>,
        /// What exactly, for a person.
        detail: Option<String>,
    },
}

/// Numbers in bounds that are powers of ten, and half of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

/// Bounds of times of transactions, in seconds.
const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Bounds of numbers of messages.
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

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they add up to.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// A snapshot that the data loop and its observers share.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    snapshot: Arc<Mutex<Snapshot>>,
    /// When the data loop was seen last: milliseconds since the epoch.
    sign: Arc<AtomicI64>,
}

impl Shared {
    /// A copy of what is known now.
    pub fn get(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Says that the data loop is alive `now`.
    pub fn sign(&self, now: i64) {
        self.sign.store(now, Ordering::Relaxed);
    }

    /// When it said so last.
    pub fn last_sign(&self) -> i64 {
        self.sign.load(Ordering::Relaxed)
    }

    /// Changes what is known. Keep `change` short: the data loop waits on the same lock.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    /// A snapshot is plain numbers, still of use after a reader or writer has panicked.
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot {
            state: State::default(),
            live: Arc::default(),
            why: Why::default(),
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

    /// Adds a committed batch and what became of it.
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

    /// Adds a transaction, of so many messages.
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

    /// All messages that did not pass.
    pub fn rejections(&self) -> u64 {
        self.rejected.iter().map(|rejected| rejected.messages).sum()
    }

    fn reject(&mut self, rule: &str, reason: &str) {
        match self.rejected.iter_mut().find(|known| known.rule == rule && *known.reason == *reason) {
            Some(known) => known.messages += 1,
            None => self.rejected.push(Rejected { rule: rule.into(), reason: reason.into(), messages: 1 }),
        }
    }

    /// Keeps the last messages of the batch, in its order.
    fn preview(&mut self, batch: &Batch, step: &Step, manifests: &[Manifest]) {
        let passed = step.outputs.iter().rev().take(LAST_MESSAGES).map(|output| {
            let before = batch.value(output.record as usize).unwrap_or_default();
            let written = shorten(changed(before, step.value(output, batch)));
            (output.record, shorten(before), written, Verdict::Passed)
        });
        let rejected = step.rejections.iter().rev().take(LAST_MESSAGES).map(|rejection| {
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
            self.last.push_back(Message { partition: record.partition, offset: record.offset, text, written, verdict });
        }
        let excess = self.last.len().saturating_sub(LAST_MESSAGES);
        self.last.drain(..excess);
    }
}

/// The part of `after` that is not in `before`: what is left between their common beginning and end.
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
        step.pass(1);
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
        step.pass(0);
        let written: Result<(), ()> = step.pass_with(2, |out| {
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
        for _ in 0..LAST_MESSAGES {
            snapshot.add(&batch(&["a", "b", "c"]), &step, &[]);
        }
        assert_eq!(snapshot.last.len(), LAST_MESSAGES);
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
        step.pass(0);
        let mut snapshot = Snapshot::default();
        snapshot.add(&batch(&[&"x".repeat(PREVIEW_BYTES + 1)]), &step, &[]);
        assert_eq!(snapshot.last[0].text.len(), PREVIEW_BYTES);
    }
}
