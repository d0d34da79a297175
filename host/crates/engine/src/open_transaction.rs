//! The records in the hands of a data loop: those read since the last commit, in the chunks in which they were read and
//! processed, and the transaction in which their results are sent.
//!
//! Chunks are buffers that are used again. After a transaction was abandoned, its chunks may be sent once more, if all records
//! that were read since the last commit are still there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_core::record::{Batch, Chunk, Step};
use weir_kafka::{BatchLimits, Delivery};

/// The time for which a transaction takes in new records under lag: long enough that its cost vanishes, and short enough that
/// readers of the output do not wait for long.
const OPEN: Duration = Duration::from_millis(100);
/// The most chunks in a transaction. Each costs the same, however few records it has, and keeps its buffers.
const CHUNKS: usize = 128;
/// If the rules took at least this long in one transaction, the next one carries a single chunk, and so is opened only after the
/// rules have finished. If it were open meanwhile, it could exceed `transaction.timeout.ms`, again and again.
const SLOW: Duration = Duration::from_secs(1);
/// The time for which the chunks in hand are sent again and again. The consumer is not polled meanwhile, and a rebalance of the
/// group waits for that poll.
const RESENDING: Duration = Duration::from_secs(10);

/// The transaction of a data loop, which may be open or not.
pub(crate) struct OpenTransaction {
    topic: Arc<str>,
    limits: BatchLimits,
    /// True if others can read what was sent before the commit.
    is_read_early: bool,
    /// The buffers. The results of the first `sent` chunks were sent since `begun`.
    chunks: Vec<Chunk>,
    sent: usize,
    /// The time at which the transaction was opened. None while it is not open.
    begun: Option<Instant>,
    /// The time that the rules took for all chunks of the transaction.
    processing: Duration,
    /// Whether only one chunk is sent per transaction, because rules were slow or the last commit failed.
    single_chunk: bool,
    /// The number of chunks that can be sent again after the transaction was abandoned: all that was read since the last commit.
    held: usize,
    /// The time at which sending again began.
    resending: Option<Instant>,
    /// True if a record that was read is in none of the chunks and must be read again.
    incomplete: bool,
}

impl OpenTransaction {
    /// Returns a transaction for records of `topic` that is not open. The transaction is full once its chunks together reach
    /// `limits`.
    pub(crate) fn new(topic: Arc<str>, limits: BatchLimits, delivery: Delivery) -> OpenTransaction {
        OpenTransaction {
            topic,
            limits,
            is_read_early: delivery == Delivery::AtLeastOnce,
            chunks: Vec::new(),
            sent: 0,
            begun: None,
            processing: Duration::ZERO,
            single_chunk: false,
            held: 0,
            resending: None,
            incomplete: false,
        }
    }

    /// Returns the time at which the transaction was opened, if it is open.
    pub(crate) fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Returns whether the transaction is open.
    pub(crate) fn is_open(&self) -> bool {
        self.begun.is_some()
    }

    /// Notes that the transaction is open from now on.
    pub(crate) fn open(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// Returns the time to wait for more records before the commit. With exactly-once delivery there is none: what was sent can
    /// be read only after the commit. With at-least-once delivery it is there for readers at once, and commits that are further
    /// apart keep fewer of the next records waiting.
    pub(crate) fn patience(&self) -> Duration {
        self.begun.filter(|_| self.is_read_early).map_or(Duration::ZERO, |begun| OPEN.saturating_sub(begun.elapsed()))
    }

    /// Returns whether the transaction should take no more chunks.
    pub(crate) fn is_full(&self) -> bool {
        let batches = || self.sent().iter().map(|chunk| &chunk.batch);
        self.single_chunk && self.sent > 0
            || self.sent >= CHUNKS
            || self.begun.is_some_and(|begun| begun.elapsed() >= OPEN)
            || batches().map(Batch::len).sum::<usize>() >= self.limits.rows
            || batches().map(Batch::bytes).sum::<usize>() >= self.limits.bytes
    }

    /// Returns the next chunk, to be filled and processed.
    pub(crate) fn next(&mut self) -> &mut Chunk {
        if self.chunks.len() == self.sent {
            self.chunks.push(Chunk { batch: Batch::new(self.topic.clone()), step: Step::default() });
        }
        &mut self.chunks[self.sent]
    }

    /// Returns the index of the next chunk among those of the transaction.
    pub(crate) fn index(&self) -> usize {
        self.sent
    }

    /// Returns the chunks whose results were sent.
    pub(crate) fn sent(&self) -> &[Chunk] {
        &self.chunks[..self.sent]
    }

    /// Counts the next chunk among those whose results were sent, or are about to be. Returns all of these chunks, and the next
    /// one.
    pub(crate) fn send(&mut self) -> (&[Chunk], &Chunk) {
        self.sent += 1;
        self.held = self.held.max(self.sent);
        let sent = &self.chunks[..self.sent];
        (sent, &sent[self.sent - 1])
    }

    /// Adds the time that the rules took for the next chunk.
    pub(crate) fn took(&mut self, time: Duration) {
        self.processing += time;
    }

    /// Returns the time that the rules took for all chunks of the transaction.
    pub(crate) fn processing(&self) -> Duration {
        self.processing
    }

    /// Notes whether a record that was read is in none of the chunks.
    pub(crate) fn set_incomplete(&mut self, incomplete: bool) {
        self.incomplete = incomplete;
    }

    /// Ends the transaction: it is committed.
    pub(crate) fn committed(&mut self) {
        self.single_chunk = self.processing >= SLOW;
        (self.begun, self.sent, self.processing) = (None, 0, Duration::ZERO);
        (self.held, self.resending) = (0, None);
    }

    /// Ends the transaction: it is abandoned. The chunks in hand are kept.
    pub(crate) fn abandoned(&mut self) {
        (self.begun, self.sent, self.processing) = (None, 0, Duration::ZERO);
    }

    /// Notes that the transaction has failed. `learned` says whether the next attempt can go further than this one. Returns
    /// whether the chunks in hand can be sent again as they are.
    pub(crate) fn failed(&mut self, learned: bool) -> bool {
        self.single_chunk = true;
        if !learned {
            return false;
        }
        let begun = self.resending.get_or_insert_with(Instant::now);
        self.held > 0 && !self.incomplete && begun.elapsed() < RESENDING
    }

    /// Returns whether chunks are left to be sent again.
    pub(crate) fn has_more(&self) -> bool {
        self.sent < self.held
    }

    /// Forgets the chunks in hand: their records are read again from the committed offsets.
    pub(crate) fn forget(&mut self) {
        (self.held, self.resending, self.incomplete) = (0, None, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(rows: usize) -> OpenTransaction {
        delivered(rows, Delivery::ExactlyOnce)
    }

    fn delivered(rows: usize, delivery: Delivery) -> OpenTransaction {
        let limits = BatchLimits { rows, bytes: 1 << 20, linger: Duration::ZERO };
        OpenTransaction::new("in".into(), limits, delivery)
    }

    fn fill(transaction: &mut OpenTransaction, records: usize) {
        let batch = &mut transaction.next().batch;
        batch.clear();
        (0..records).for_each(|offset| batch.push(0, offset as i64, None, None, Some(b"{}")));
        transaction.open();
        transaction.send();
    }

    #[test]
    fn it_is_full_at_its_limits_and_empty_once_it_is_committed() {
        let mut transaction = transaction(4);
        fill(&mut transaction, 3);
        assert!(!transaction.is_full() && transaction.is_open());
        fill(&mut transaction, 1);
        assert!(transaction.is_full());
        assert_eq!(transaction.sent().len(), 2);
        transaction.committed();
        assert!(!transaction.is_full() && !transaction.is_open() && transaction.sent().is_empty());
    }

    #[test]
    fn the_commit_waits_for_more_only_where_it_keeps_no_reader_waiting() {
        let (mut exactly, mut at_least) = (transaction(100), delivered(100, Delivery::AtLeastOnce));
        assert_eq!(at_least.patience(), Duration::ZERO, "it is not open");
        fill(&mut exactly, 1);
        fill(&mut at_least, 1);
        assert_eq!(exactly.patience(), Duration::ZERO);
        assert!(!at_least.patience().is_zero() && at_least.patience() <= OPEN);
        at_least.begun = Some(Instant::now() - OPEN);
        assert!(at_least.patience().is_zero() && at_least.is_full());
    }

    #[test]
    fn it_is_full_at_a_number_of_chunks_however_small_they_are() {
        let mut transaction = delivered(1_000_000, Delivery::AtLeastOnce);
        (1..CHUNKS).for_each(|_| fill(&mut transaction, 1));
        assert!(!transaction.is_full());
        fill(&mut transaction, 1);
        assert!(transaction.is_full());
    }

    #[test]
    fn what_is_in_hand_is_sent_again_where_something_was_learned_and_all_of_it_is_there() {
        let mut transaction = transaction(100);
        fill(&mut transaction, 1);
        transaction.abandoned();
        assert!(transaction.has_more() && !transaction.failed(false) && transaction.failed(true));
        transaction.set_incomplete(true);
        assert!(!transaction.failed(true), "something is missing");
        transaction.forget();
        assert!(!transaction.has_more() && !transaction.failed(true), "nothing is there");
    }

    #[test]
    fn after_a_failure_and_after_slow_rules_a_transaction_has_one_part() {
        let mut transaction = transaction(100);
        transaction.failed(false);
        fill(&mut transaction, 1);
        assert!(transaction.is_full());
        transaction.committed();
        fill(&mut transaction, 1);
        assert!(!transaction.is_full(), "it went well");
        transaction.took(SLOW);
        transaction.committed();
        fill(&mut transaction, 1);
        assert!(transaction.is_full());
    }
}
