//! A session of one data loop with Kafka: what it reads and what it writes, which are committed together.
//!
//! A step is sent, all of it is seen delivered, then the offsets are committed: within a transaction, which makes it exactly
//! once, or without one, which makes it at least once. The source is polled, its offsets are committed and its rebalances are
//! served on one thread, the data loop's: a partition is never taken away while a batch of it is being worked on. A process may
//! have several sessions, each a member of the group and a producer of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use weir_core::record::{Batch, Part};

use super::failure::Failure;
use super::offsets::Committed;
use super::reset::Reset;
use super::settings::Settings;
use super::sink::{Sink, Work};
use super::source::{Polled, Source};
use super::troubles::Troubles;

/// A consumer and a producer whose transactions carry its offsets.
pub struct Session {
    source: Source,
    sink: Sink,
    troubles: Arc<Troubles>,
}

/// What a session goes on from.
pub struct Restored {
    /// By partition, what is committed; where nothing is, the offset is the one to begin with.
    pub committed: Vec<Committed>,
    /// The id of the input topic, or nothing if nobody has told it.
    pub topic: String,
}

impl Session {
    /// Joins the group. The first assignment comes with a later poll. `largest_batch` bounds what is sent in one go to what the
    /// topics take.
    ///
    /// # Errors
    /// If a client does not take its settings.
    pub fn open(settings: &Settings, brokers: &str, largest_batch: Option<u32>) -> anyhow::Result<Session> {
        let troubles = Arc::new(Troubles::of(&settings.client));
        Ok(Session {
            source: Source::open(settings, brokers, troubles.clone())?,
            sink: Sink::open(settings, brokers, largest_batch, troubles.clone())?,
            troubles,
        })
    }

    /// Fills `batch`, waiting at most `wait` for a first record. Serves rebalances, so it has to be called at least every
    /// `max.poll.interval.ms`.
    pub fn poll(&mut self, batch: &mut Batch, wait: Duration) -> Result<Polled, Failure> {
        self.source.poll(batch, wait)
    }

    /// Sees that the producer can be used, and that nothing of a former one is undecided: offsets that are read after this are
    /// final.
    pub fn prepare(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.sink.prepare(give_up)
    }

    /// Returns to the committed offsets, or finds out where to begin, and asks anew where to write. The producer comes first:
    /// until a transaction of a former one is decided, it is not known what is committed.
    pub fn restore(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<Restored, Failure> {
        self.prepare(give_up)?;
        let committed = self.source.restore()?;
        if committed.is_empty() {
            return Ok(Restored { committed, topic: String::new() });
        }
        self.sink.learn_partitions()?;
        Ok(Restored { committed, topic: self.sink.input_id() })
    }

    /// Refuses those records of `batch` whose outputs are known not to be taken. To be called before they are processed.
    pub fn refuse_known(&self, batch: &mut Batch) {
        self.sink.refuse_known(batch);
    }

    /// Holds what is to be written about a batch against the rules of its topic that are known. Returns whether something will
    /// not be taken: then the batch is to be processed again, after [`Session::refuse_known`].
    pub fn foresee(&mut self, work: Work<'_>) -> bool {
        self.sink.foresee(work)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.sink.begin(give_up)
    }

    /// Sends what became of the last of `parts`, which are all that were sent in this transaction. Returns before it is
    /// delivered. An error says why, also where it is only the consequence of something that was sent before.
    pub fn send(&mut self, parts: &[Part], work: Work<'_>, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.sink.send(work, give_up).map_err(|failure| self.sink.cause(parts, failure, give_up))
    }

    /// Commits `parts`, all of which were sent: waits until they are delivered, and commits their offsets with `states`. If it
    /// fails, or if sending has failed, the transaction is to be abandoned and the records are to be read again.
    pub fn commit(&mut self, parts: &[Part], states: &[(i32, String)], give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let offsets = self.source.offsets(parts, states)?;
        self.sink.drain(parts, give_up)?;
        if self.sink.is_transactional() {
            let lost = || Failure::Wait(anyhow!("failed to commit: this process is no member of the group any more"));
            let membership = self.source.membership().ok_or_else(lost)?;
            self.sink.commit(&offsets, self.source.topic(), membership, give_up)?;
        } else {
            self.source.commit(&offsets, give_up)?;
        }
        self.source.advance(&offsets);
        self.sink.forget(parts);
        Ok(())
    }

    /// Gives up what was sent since the last commit.
    pub fn abandon(&mut self, parts: &[Part], give_up: &mut dyn FnMut() -> bool) {
        self.sink.abandon(parts, give_up);
    }

    /// Returns whether something was learned from the transaction that has failed, so that the next attempt goes further and need
    /// not wait. Then nothing of it is committed: a commit is only tried where there was nothing to learn.
    pub fn has_learned(&mut self) -> bool {
        self.sink.has_learned()
    }

    /// Serves the producer's events. To be called now and then while there is nothing to commit.
    pub fn serve(&mut self) {
        self.sink.serve();
    }

    /// Lets go of partitions that are revoked. Until then no other process gets them, and what was read of them can still be
    /// committed.
    pub fn release(&mut self) {
        self.source.release();
    }

    /// Takes note that something which was read will not be sent, and is read again from what is committed.
    pub fn cut(&mut self) {
        self.source.cut();
    }

    /// Returns the input topic.
    pub fn topic(&self) -> &Arc<str> {
        self.source.topic()
    }

    /// Returns the id of the input topic, which tells it from one of the same name that was there before; nothing if it has none,
    /// or if nobody answers.
    pub fn topic_id(&self) -> String {
        self.sink.input_id()
    }

    /// Sees that the input topic is there. While it is not, the group has no partitions of it to assign.
    pub fn find_topic(&self) -> Result<(), Failure> {
        self.source.find_topic()
    }

    /// Returns, by partition, the next offset to read: one past what is committed.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        self.source.positions()
    }

    /// Returns the partitions whose position can be committed further than what was committed: past what is no record.
    pub fn ahead(&self) -> impl Iterator<Item = i32> {
        self.source.ahead()
    }

    /// Returns, by partition, how many records are not committed, as far as the client knows.
    pub fn lag(&self) -> BTreeMap<i32, i64> {
        self.source.lag()
    }

    /// Returns how people set the offsets that are committed.
    pub fn reset(&self) -> &Reset {
        self.source.reset()
    }

    /// Returns the current outage, if any. Call it only while there is nothing to read or write: it sends a request.
    pub fn outage(&mut self) -> Option<String> {
        self.sink.outage()
    }

    /// Returns what the clients say of the cluster.
    pub fn troubles(&self) -> &Arc<Troubles> {
        &self.troubles
    }

    /// Leaves the group, so that others take over at once. Returns whether that was done `within` the time given; if not, the
    /// group finds out by itself when the session times out.
    pub fn close(self, within: Duration) -> bool {
        self.source.close(within)
    }
}
