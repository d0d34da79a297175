//! Plain data that flows through the engine: a batch of records in, a step of outputs and rejections out.
//!
//! Bytes lie in one arena per batch and are referred to by spans. A batch therefore costs a handful of allocations, however many
//! records it has, and none once its buffers have grown. An arena can be shared: a producer keeps it for as long as it reads from
//! it, without a copy, and a new arena takes its place if that is longer than the batch. Nothing here depends on Kafka, Wasm, JSON
//! or the time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::position::{self, Position};
use crate::reserved::Reason;

/// The capacity to which a buffer shrinks between batches, in bytes: enough for a batch, and less than a rule may return.
pub(crate) const MAX_KEPT_BYTES: usize = 32 << 20;

/// The bytes of a batch or of a step. Who clones the `Arc` can read them for as long as the clone lives.
pub type Arena = Arc<Vec<u8>>;

/// Empties `arena`, and keeps its buffer, unless somebody still reads from it.
fn empty(arena: &mut Arena) {
    match Arc::get_mut(arena) {
        Some(bytes) => {
            bytes.clear();
            bytes.shrink_to(MAX_KEPT_BYTES);
        }
        None => *arena = Arena::default(),
    }
}

/// A range of bytes in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The position after the last byte.
    pub end: u32,
}

impl Span {
    /// Returns the bytes of `arena` that this span refers to.
    #[inline]
    pub fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start as usize..self.end as usize]
    }
}

/// The position of a record in the input, and the places of its bytes in the batch's arena.
#[derive(Clone, Debug)]
pub struct Record {
    /// The input partition.
    pub partition: i32,
    /// The offset in that partition.
    pub offset: i64,
    /// Milliseconds since the epoch, if the record has a timestamp.
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

/// Records of one input topic in the order in which they were polled. Within a partition this is the order of their offsets.
#[derive(Debug, Default)]
pub struct Batch {
    /// The input topic.
    pub topic: Arc<str>,
    /// The time at which processing began, in milliseconds since the epoch, UTC. It is the only time that rules and counts see.
    pub processed_at: i64,
    arena: Arena,
    records: Vec<Record>,
    headers: Vec<Header>,
    refusals: BTreeMap<u32, Refusal>,
}

/// The reason why the output of a record cannot be written, known from an earlier attempt to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason for which the broker refuses the output.
    pub reason: Reason,
    /// The details, for an operator.
    pub detail: String,
}

impl Batch {
    /// Returns an empty batch for `topic`.
    pub fn new(topic: impl Into<Arc<str>>) -> Batch {
        Batch { topic: topic.into(), ..Batch::default() }
    }

    /// Removes the records and keeps the buffers.
    pub fn clear(&mut self) {
        empty(&mut self.arena);
        self.records.clear();
        self.headers.clear();
        self.refusals.clear();
    }

    /// Returns the first `records` records, as a batch of their own.
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

    /// Removes the records from index `records` on, and returns them as a batch of their own.
    pub fn split_off(&mut self, records: usize) -> Batch {
        let rest = self.part(records..self.len());
        self.truncate(records);
        rest
    }

    /// Removes the records from index `records` on.
    pub fn truncate(&mut self, records: usize) {
        self.records.truncate(records);
        self.headers.truncate(self.records.last().map_or(0, |last| last.headers.end as usize));
        self.refusals.split_off(&(records as u32));
    }

    /// Marks the output of record `index` as one that cannot be written. The engine then rejects the record.
    pub fn refuse(&mut self, index: usize, refusal: Refusal) {
        self.refusals.insert(index as u32, refusal);
    }

    /// Returns the reason why the output of record `index` cannot be written, if there is a known one.
    #[inline]
    pub fn refusal(&self, index: usize) -> Option<&Refusal> {
        self.refusals.get(&(index as u32))
    }

    /// Appends a record. Its headers follow with [`Batch::push_header`].
    pub fn push(&mut self, partition: i32, offset: i64, timestamp: Option<i64>, key: Option<&[u8]>, value: Option<&[u8]>) {
        let arena = Arc::make_mut(&mut self.arena);
        let key = key.map(|bytes| store(bytes, arena));
        let value = value.map(|bytes| store(bytes, arena));
        let next = self.headers.len() as u32;
        self.records.push(Record { partition, offset, timestamp, key, value, headers: next..next });
    }

    /// Appends a header to the record that was pushed last.
    ///
    /// # Panics
    /// If no record was pushed.
    pub fn push_header(&mut self, name: &str, value: Option<&[u8]>) {
        let arena = Arc::make_mut(&mut self.arena);
        let name = store(name.as_bytes(), arena);
        let value = value.map(|bytes| store(bytes, arena));
        self.headers.push(Header { name, value });
        self.records.last_mut().expect("a header follows its message").headers.end += 1;
    }

    /// Returns the records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the number of bytes that keys, values and headers take together.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Returns the arena in which keys, values and headers lie.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Returns the position of record `index` in the input.
    pub fn position(&self, index: usize) -> Position {
        let Record { partition, offset, .. } = self.records[index];
        Position { topic: self.topic.clone(), partition, offset: offset as u64 }
    }

    /// Writes the position of record `index` in the input into `text`, in place of what is there, and returns it.
    pub fn position_in<'a>(&self, index: usize, text: &'a mut String) -> &'a str {
        let Record { partition, offset, .. } = self.records[index];
        text.clear();
        position::push(text, &self.topic, partition, offset as u64);
        text
    }

    /// Returns the value of record `index`. None for a tombstone.
    #[inline]
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        self.records[index].value.map(|span| span.of(&self.arena))
    }

    /// Returns the key of record `index`.
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        self.records[index].key.map(|span| span.of(&self.arena))
    }

    /// Returns the headers of record `index`, in order. A name that was sent several times is returned several times.
    pub fn headers(&self, index: usize) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let Range { start, end } = self.records[index].headers.clone();
        self.headers[start as usize..end as usize].iter().map(|header| {
            let name = std::str::from_utf8(header.name.of(&self.arena)).expect("stored from a str");
            (name, header.value.map(|span| span.of(&self.arena)))
        })
    }
}

/// Copies `bytes` to the end of `arena`, and returns their span.
///
/// # Panics
/// If the arena would exceed 4 GiB. Sources bound a batch to far less.
fn store(bytes: &[u8], arena: &mut Vec<u8>) -> Span {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    let end = u32::try_from(arena.len()).expect("a batch is far below 4 GiB");
    Span { start: start as u32, end }
}

/// A record that passed every rule.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The index of the record in its batch.
    pub record: u32,
    /// The place of the new value in the step's bytes. None if no rule wrote anything: then the original value goes on.
    value: Option<Span>,
}

/// A record that goes no further, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The index of the record in its batch.
    pub record: u32,
    /// The rule that rejected the record, or the engine, and the reason.
    pub cause: Cause,
    /// The details, for an operator.
    pub detail: Option<String>,
    /// True if the rule's policy is to drop: the record is counted, but no dead letter is produced.
    pub drop: bool,
}

/// The cause for which a record goes no further. Rules are given by their index in the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule rejected the record, for the reason at this index of its `manifest.reasons`.
    Rejected { rule: usize, reason: usize },
    /// A rule failed on the record. The backtrace, if it is known, has one function a line, the innermost first.
    Fault { rule: usize, backtrace: Option<String> },
    /// A rule was not called with the record, because the rule fails on everything.
    Skipped { rule: usize },
    /// The engine itself can't use the record, or can't write its output.
    Engine(Reason),
}

impl Rejection {
    /// Returns the rule that caused the rejection. None if the engine itself did.
    pub fn rule(&self) -> Option<usize> {
        match self.cause {
            Cause::Rejected { rule, .. } | Cause::Fault { rule, .. } | Cause::Skipped { rule } => Some(rule),
            Cause::Engine(_) => None,
        }
    }

    /// Returns whether a rule has decided to reject the record.
    pub fn is_decision(&self) -> bool {
        matches!(self.cause, Cause::Rejected { .. })
    }

    /// Returns whether a rule came to no decision: the rule failed, or was not called.
    pub fn is_fault(&self) -> bool {
        matches!(self.cause, Cause::Fault { .. } | Cause::Skipped { .. })
    }

    /// Returns the backtrace of the rule's failure, if it is known.
    pub fn backtrace(&self) -> Option<&str> {
        match &self.cause {
            Cause::Fault { backtrace, .. } => backtrace.as_deref(),
            _ => None,
        }
    }
}

/// A batch with its step. A transaction has one chunk or several, in the order in which they were read.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The records that were read. Empty if only time has passed.
    pub batch: Batch,
    /// The result of the batch.
    pub step: Step,
}

/// The result of a batch. Its buffers can be used again for the next batch.
#[derive(Debug, Default)]
pub struct Step {
    /// The records that passed, in the order of the batch.
    pub outputs: Vec<Output>,
    /// The records that did not pass, in the order of the batch.
    pub rejections: Vec<Rejection>,
    /// The records that went on although a rule failed on them. Each is given as the rejection that it would have been otherwise.
    pub passed_despite_fault: Vec<Rejection>,
    /// The additions to the counts once this step is committed, and the windows that end with it.
    pub counts: crate::counts::Delta,
    /// The statistics of each rule of the pipeline, in their order. Empty if only time has passed.
    pub rules: Vec<RuleStats>,
    /// The reason why this step must not be committed, if there is one: a rule failed on a record, and its policy is to stop.
    pub stop: Option<String>,
    /// `Some(n)`: only the first n records of the batch were processed, because the bisection ran out of its budget.
    /// n is at least 1. The other records have to be processed again once this step is committed.
    pub processed_records: Option<usize>,
    /// True if this step only serves a trial: the set before processes the records once more, for comparison. It is never
    /// committed. `clear` keeps this field.
    pub compared: bool,
    arena: Arena,
}

/// Appends outputs to a step.
pub struct Outputs<'a> {
    outputs: &'a mut Vec<Output>,
    arena: &'a mut Vec<u8>,
}

/// The statistics of one rule in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleStats {
    /// The number of rows that reached the rule.
    pub rows: u64,
    /// The number of calls: usually one, more in a bisection. None if no row is left, or while the circuit breaker is open, except
    /// for probes.
    pub calls: u64,
    /// The number of rows on which the rule failed.
    pub faults: u64,
    /// The number of rows that the rule was not called with, because its circuit breaker is open.
    pub skipped: u64,
    /// The time that the calls took, in nanoseconds.
    pub nanos: u64,
    /// True if the circuit breaker is open: the rule failed so often that it is left out, except for a probe now and then.
    pub open: bool,
}

impl RuleStats {
    /// Adds the statistics of a later step.
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
    /// Removes the contents and keeps the buffers.
    pub fn clear(&mut self) {
        self.outputs.clear();
        self.rejections.clear();
        self.passed_despite_fault.clear();
        self.counts = crate::counts::Delta::default();
        self.rules.clear();
        self.stop = None;
        self.processed_records = None;
        empty(&mut self.arena);
    }

    /// Returns the means to append outputs. Outputs that were there stay.
    pub fn outputs_mut(&mut self) -> Outputs<'_> {
        Outputs { outputs: &mut self.outputs, arena: Arc::make_mut(&mut self.arena) }
    }

    /// Returns the value of `output`. `batch` is the batch that this step was made from.
    pub fn value<'a>(&'a self, output: &Output, batch: &'a Batch) -> &'a [u8] {
        match output.value {
            Some(span) => span.of(&self.arena),
            None => batch.value(output.record as usize).unwrap_or_default(),
        }
    }

    /// Returns the arena in which the value of `output` lies. `batch` is the batch that this step was made from.
    pub fn arena<'a>(&'a self, output: &Output, batch: &'a Batch) -> &'a Arena {
        if output.value.is_some() { &self.arena } else { batch.arena() }
    }
}

impl Outputs<'_> {
    /// Appends the record `record` with its value unchanged.
    pub fn pass(&mut self, record: u32) {
        self.outputs.push(Output { record, value: None });
    }

    /// Appends the record `record` with the value that `write` appends to the buffer it is given. If `write` fails, nothing is
    /// appended.
    ///
    /// # Errors
    /// The error of `write`.
    #[inline]
    pub fn pass_with<E>(&mut self, record: u32, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.arena.len();
        if let Err(error) = write(self.arena) {
            self.arena.truncate(start);
            return Err(error);
        }
        let end = u32::try_from(self.arena.len()).expect("a step is far below 4 GiB");
        self.outputs.push(Output { record, value: Some(Span { start: start as u32, end }) });
        Ok(())
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
        step.outputs_mut().pass_with(0, write).unwrap();
        step.clear();
        assert!(step.arena.capacity() <= MAX_KEPT_BYTES);
    }

    #[test]
    fn an_arena_is_used_again_unless_somebody_reads_from_it() {
        let (mut batch, mut step) = (Batch::new("user-login"), Step::default());
        let fill = |batch: &mut Batch, step: &mut Step, value: &[u8]| {
            batch.clear();
            step.clear();
            batch.push(0, 0, None, None, Some(value));
            step.outputs_mut().pass(0);
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(value);
                Ok::<(), ()>(())
            };
            step.outputs_mut().pass_with(0, write).unwrap();
            [0, 1].map(|output| step.arena(&step.outputs[output], batch).clone())
        };
        let kept = fill(&mut batch, &mut step, b"first");
        let next = fill(&mut batch, &mut step, b"other");
        assert_eq!((kept[0].as_slice(), kept[1].as_slice()), (&b"first"[..], &b"first"[..]), "it stays as long as it is kept");
        let places = next.map(|arena| arena.as_ptr());
        let again = fill(&mut batch, &mut step, b"third");
        assert_eq!(again.each_ref().map(|arena| arena.as_ptr()), places);
        assert_eq!((again[0].as_slice(), again[1].as_slice()), (&b"third"[..], &b"third"[..]));
    }
}
