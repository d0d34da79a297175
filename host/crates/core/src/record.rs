//! Plain data that flows through the engine: a batch of messages in, a step of outputs and rejections out.
//!
//! Bytes live in one arena per batch and are named by spans, so that a batch costs a handful of allocations however many
//! messages it has, and none once its buffers have grown. Nothing here knows Kafka, Wasm, JSON or the time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::reserved::Reason;

/// What a buffer keeps of its room from batch to batch, in bytes: enough for a batch, and less than a rule may hand back.
pub(crate) const MAX_KEPT_BYTES: usize = 32 << 20;

/// A range of bytes in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes that this span names in `arena`.
    #[inline]
    pub fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start as usize..self.end as usize]
    }
}

/// Where a message stands in the input, and where its bytes are in the batch's arena.
#[derive(Clone, Debug)]
pub struct Record {
    /// The input partition.
    pub partition: i32,
    /// The offset in that partition.
    pub offset: i64,
    /// Milliseconds since the epoch, if the message has a timestamp.
    pub timestamp: Option<i64>,
    key: Option<Span>,
    value: Option<Span>,
    headers: Range<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    name: Span,
    value: Option<Span>,
}

/// Messages of one input topic in the order in which they were polled; per partition that is their offset order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The input topic.
    pub topic: Arc<str>,
    /// When processing began: milliseconds since the epoch, UTC. The only time that rules and counts know.
    pub processed_at: i64,
    arena: Vec<u8>,
    records: Vec<Record>,
    headers: Vec<Header>,
    refusals: BTreeMap<u32, Refusal>,
}

/// Why the output of a message cannot be written, found out when it was tried before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the broker holds against it.
    pub reason: Reason,
    /// What exactly, for a person.
    pub detail: String,
}

impl Batch {
    /// An empty batch for `topic`.
    pub fn new(topic: impl Into<Arc<str>>) -> Batch {
        Batch { topic: topic.into(), ..Batch::default() }
    }

    /// Forgets the messages and keeps the buffers.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.records.clear();
        self.headers.clear();
        self.refusals.clear();
    }

    /// The first `records` messages, as a batch of their own.
    pub fn first(&self, records: usize) -> Batch {
        self.part(0..records.min(self.len()))
    }

    fn part(&self, records: Range<usize>) -> Batch {
        let mut part = Batch { topic: self.topic.clone(), processed_at: self.processed_at, ..Batch::default() };
        for index in records {
            let Record { partition, offset, timestamp, .. } = self.records[index];
            part.push(partition, offset, timestamp, self.key(index), self.value(index));
            self.headers(index).for_each(|(name, value)| part.push_header(name, value));
            if let Some(refusal) = self.refusal(index) {
                part.refuse(part.len() - 1, refusal.clone());
            }
        }
        part
    }

    /// Takes away the messages from the one with index `records` on, and gives them back as a batch of their own.
    pub fn split_off(&mut self, records: usize) -> Batch {
        let rest = self.part(records..self.len());
        self.truncate(records);
        rest
    }

    /// Takes away the messages from the one with index `records` on.
    pub fn truncate(&mut self, records: usize) {
        self.records.truncate(records);
        self.headers.truncate(self.records.last().map_or(0, |last| last.headers.end as usize));
        self.refusals.split_off(&(records as u32));
    }

    /// Says that the output of message `index` cannot be written. The message is then rejected by the engine.
    pub fn refuse(&mut self, index: usize, refusal: Refusal) {
        self.refusals.insert(index as u32, refusal);
    }

    /// Why the output of message `index` cannot be written, if that is known.
    pub fn refusal(&self, index: usize) -> Option<&Refusal> {
        self.refusals.get(&(index as u32))
    }

    /// Appends a message. Its headers follow with [`Batch::push_header`].
    pub fn push(&mut self, partition: i32, offset: i64, timestamp: Option<i64>, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key.map(|bytes| self.store(bytes));
        let value = value.map(|bytes| self.store(bytes));
        let next = self.headers.len() as u32;
        self.records.push(Record { partition, offset, timestamp, key, value, headers: next..next });
    }

    /// Appends a header to the message pushed last.
    ///
    /// # Panics
    /// If no message was pushed.
    pub fn push_header(&mut self, name: &str, value: Option<&[u8]>) {
        let name = self.store(name.as_bytes());
        let value = value.map(|bytes| self.store(bytes));
        self.headers.push(Header { name, value });
        self.records.last_mut().expect("a header follows its message").headers.end += 1;
    }

    /// Copies `bytes` to the end of the arena.
    ///
    /// # Panics
    /// If the arena would pass 4 GiB; sources bound a batch to far less.
    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        let end = u32::try_from(self.arena.len()).expect("a batch is far below 4 GiB");
        Span { start: start as u32, end }
    }

    /// The messages.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many bytes the keys, values and headers take.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Where message `index` stands in the input: `topic/partition/offset`.
    pub fn place(&self, index: usize) -> String {
        let record = &self.records[index];
        format!("{}/{}/{}", self.topic, record.partition, record.offset)
    }

    /// The value of message `index`; none for a tombstone.
    #[inline]
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        self.records[index].value.map(|span| span.of(&self.arena))
    }

    /// The key of message `index`.
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        self.records[index].key.map(|span| span.of(&self.arena))
    }

    /// The headers of message `index`, in order, names repeated as they were sent.
    pub fn headers(&self, index: usize) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let Range { start, end } = self.records[index].headers.clone();
        self.headers[start as usize..end as usize].iter().map(|header| {
            let name = std::str::from_utf8(header.name.of(&self.arena)).expect("stored from a str");
            (name, header.value.map(|span| span.of(&self.arena)))
        })
    }
}

/// A message that passed every rule.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Index of the message in its batch.
    pub record: u32,
    /// Where its new value is in the step's bytes; none if no rule wrote anything, and the original value goes on.
    value: Option<Span>,
}

/// A message that goes no further, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Index of the message in its batch.
    pub record: u32,
    /// Who rejected it, and for what.
    pub cause: Cause,
    /// What exactly, for a person.
    pub detail: Option<String>,
    /// The rule's policy is to drop: count it, but produce no dead letter.
    pub drop: bool,
}

/// Why a message goes no further. A rule is its index in the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule rejected it, for the reason at this index of its `manifest.reasons`.
    Rejected { rule: usize, reason: usize },
    /// A rule failed on it. Where, if that is known: functions, the innermost first, one a line.
    Fault { rule: usize, backtrace: Option<String> },
    /// A rule was not asked about it, because it fails on everything.
    Skipped { rule: usize },
    /// The engine itself can't use the message, or can't write what became of it.
    Engine(Reason),
}

impl Rejection {
    /// The rule that is behind it; none where that is the engine itself.
    pub fn rule(&self) -> Option<usize> {
        match self.cause {
            Cause::Rejected { rule, .. } | Cause::Fault { rule, .. } | Cause::Skipped { rule } => Some(rule),
            Cause::Engine(_) => None,
        }
    }

    /// Whether a rule has decided it.
    pub fn is_decision(&self) -> bool {
        matches!(self.cause, Cause::Rejected { .. })
    }

    /// Whether a rule has not come to a decision: it failed, or was not asked.
    pub fn is_fault(&self) -> bool {
        matches!(self.cause, Cause::Fault { .. } | Cause::Skipped { .. })
    }

    /// Where in the rule it failed.
    pub fn backtrace(&self) -> Option<&str> {
        match &self.cause {
            Cause::Fault { backtrace, .. } => backtrace.as_deref(),
            _ => None,
        }
    }
}

/// Messages, and what became of them. A transaction has one such part or several, in the order in which they were read.
#[derive(Debug, Default)]
pub struct Part {
    /// What was read; empty where only time has passed.
    pub batch: Batch,
    /// What became of it.
    pub step: Step,
}

/// What became of a batch. Its buffers can be used again for the next one.
#[derive(Debug, Default)]
pub struct Step {
    /// What passed, in the order of the batch.
    pub outputs: Vec<Output>,
    /// What did not, in the order of the batch.
    pub rejections: Vec<Rejection>,
    /// What went on though a rule failed on it, as it would have been rejected.
    pub forgiven: Vec<Rejection>,
    /// What to add to the counts once this step is committed, and the windows that end with it.
    pub counts: crate::counts::Delta,
    /// What each rule of the pipeline did, in its order; none where no rule was asked.
    pub rules: Vec<RuleStats>,
    /// Why this step must not be committed: a rule failed on a message, and its policy is to stop.
    pub stop: Option<String>,
    /// If this is not about all messages of the batch, about how many: the others are to be judged again, once it is committed.
    /// To find out on which of them a rule fails would have taken too long. It is one at least.
    pub judged: Option<usize>,
    /// The set before judges messages once more for the trial of another one, and nothing comes of it.
    pub compared: bool,
    bytes: Vec<u8>,
}

/// What a rule did in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleStats {
    /// Rows that reached it.
    pub rows: u64,
    /// How often it was called: once, unless it failed.
    pub calls: u64,
    /// Rows on which it failed.
    pub faults: u64,
    /// Rows that it was not asked for, because it is short-circuited.
    pub skipped: u64,
    /// How long its calls took, in nanoseconds.
    pub nanos: u64,
    /// It is short-circuited: it failed so often that it is left out but for a probe now and then.
    pub open: bool,
}

impl RuleStats {
    /// Adds what came later.
    pub fn add(&mut self, later: &RuleStats) {
        let RuleStats { rows, calls, faults, skipped, nanos, open } = *later;
        self.rows += rows;
        self.calls += calls;
        self.faults += faults;
        self.skipped += skipped;
        self.nanos += nanos;
        self.open = open;
    }
}

impl Step {
    /// Forgets the contents and keeps the buffers.
    pub fn clear(&mut self) {
        self.outputs.clear();
        self.rejections.clear();
        self.forgiven.clear();
        self.counts = crate::counts::Delta::default();
        self.rules.clear();
        self.stop = None;
        self.judged = None;
        self.bytes.clear();
        self.bytes.shrink_to(MAX_KEPT_BYTES);
    }

    /// Appends the message `record` with its value unchanged.
    pub fn pass(&mut self, record: u32) {
        self.outputs.push(Output { record, value: None });
    }

    /// Appends the message `record` with the value that `write` appends to the buffer it is given. If `write` fails, nothing
    /// is appended.
    ///
    /// # Errors
    /// What `write` fails with.
    pub fn pass_with<E>(&mut self, record: u32, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let end = u32::try_from(self.bytes.len()).expect("a step is far below 4 GiB");
        self.outputs.push(Output { record, value: Some(Span { start: start as u32, end }) });
        Ok(())
    }

    /// The value that `output` goes on with. `batch` is the one that this step was made from.
    pub fn value<'a>(&'a self, output: &Output, batch: &'a Batch) -> &'a [u8] {
        match output.value {
            Some(span) => span.of(&self.bytes),
            None => batch.value(output.record as usize).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_split_with_all_that_belongs_to_its_messages() {
        let mut batch = Batch::new("user-login");
        for offset in 0..4 {
            batch.push(1, offset, Some(9), Some(b"key"), Some(offset.to_string().as_bytes()));
            batch.push_header("h", Some(offset.to_string().as_bytes()));
        }
        let refusal = Refusal { reason: Reason::RecordRefused, detail: "too large".into() };
        [0, 3].iter().for_each(|index| batch.refuse(*index, refusal.clone()));
        let rest = batch.split_off(3);
        assert_eq!((batch.len(), rest.len()), (3, 1));
        assert_eq!((batch.refusal(0), batch.refusal(3)), (Some(&refusal), None));
        assert_eq!((rest.refusal(0), rest.key(0), rest.value(0)), (Some(&refusal), Some(&b"key"[..]), Some(&b"3"[..])));
        assert_eq!((rest.records()[0].offset, &*rest.topic), (3, "user-login"));
        assert_eq!(rest.headers(0).collect::<Vec<_>>(), [("h", Some(&b"3"[..]))]);
        batch.push(1, 4, None, None, None);
        batch.push_header("i", None);
        assert_eq!(batch.headers(3).collect::<Vec<_>>(), [("i", None)]);
    }

    #[test]
    fn a_step_does_not_keep_the_room_that_one_odd_batch_took() {
        let mut step = Step::default();
        let write = |out: &mut Vec<u8>| {
            out.resize(3 * MAX_KEPT_BYTES, 0);
            Ok::<(), ()>(())
        };
        step.pass_with(0, write).unwrap();
        step.clear();
        assert!(step.bytes.capacity() <= MAX_KEPT_BYTES);
    }
}
