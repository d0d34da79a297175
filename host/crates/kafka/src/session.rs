//! A session of one data loop with Kafka: a consumer of the input, and a producer whose records are committed together with the
//! offsets.
//!
//! The session sends a step, waits until all of it is delivered, and then commits the offsets. With a transaction this makes it
//! exactly once, without a transaction at least once. Polls, commits of offsets and rebalances all run on one thread, that of the
//! data loop. So a partition is never taken away while a batch of it is being processed. A process may have several sessions.
//! Each is a member of the group and a producer of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use weir_core::record::{Batch, Chunk};

use super::client_log::ClientLog;
use super::failure::Failure;
use super::offsets::Committed;
use super::reset::Reset;
use super::settings::Settings;
use super::sink::{Sink, Work};
use super::source::{Polled, Source};

/// A consumer and a producer whose transactions carry its offsets.
pub struct Session {
    source: Source,
    sink: Sink,
    client_log: Arc<ClientLog>,
}

/// The committed state from which a session goes on.
pub struct Restored {
    /// The committed offset and state of each partition. For a partition without a committed offset, the offset is the one to
    /// begin with.
    pub committed: Vec<Committed>,
    /// The id of the input topic. Empty if the cluster did not return it.
    pub topic: String,
}

impl Session {
    /// Joins the group. The first assignment comes with a later poll. `largest_batch` is the largest batch in bytes
    /// that all topics take. The producer fills none beyond it, unless the operator has set `batch.size`. `settings` are those of
    /// this session alone ([`Identity::settings_of`](super::Identity::settings_of)).
    ///
    /// # Errors
    /// If a client does not take its settings.
    pub fn open(settings: &Settings, brokers: &str, largest_batch: Option<u32>) -> anyhow::Result<Session> {
        let client_log = Arc::new(ClientLog::of(&settings.client));
        Ok(Session {
            source: Source::open(settings, brokers, client_log.clone())?,
            sink: Sink::open(settings, brokers, largest_batch, client_log.clone())?,
            client_log,
        })
    }

    /// Fills `batch`, and waits at most `wait` for the first record, and then until the next transaction can begin. Serves
    /// rebalances too, so it has to be called at least once per `max.poll.interval.ms`.
    pub fn poll(&mut self, batch: &mut Batch, wait: Duration) -> Result<Polled, Failure> {
        self.source.poll(batch, wait, self.sink.earliest())
    }

    /// Makes sure that the producer can be used, and that no transaction of a former producer is undecided. Offsets that are read
    /// after this are final.
    pub fn prepare(&mut self, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.sink.prepare(cancelled)
    }

    /// Returns to the committed offsets, or finds the offsets to begin with, and asks again how many partitions the topics have.
    /// The producer is prepared first: until a transaction of a former producer is decided, the committed offsets are not known.
    pub fn restore(&mut self, cancelled: &mut dyn FnMut() -> bool) -> Result<Restored, Failure> {
        self.prepare(cancelled)?;
        let committed = self.source.restore()?;
        if committed.is_empty() {
            return Ok(Restored { committed, topic: String::new() });
        }
        self.sink.learn_partitions()?;
        Ok(Restored { committed, topic: self.sink.input_id() })
    }

    /// Refuses those records of `batch` whose outputs are known to be refused by the topic. To be called before the records are
    /// processed.
    pub fn refuse_known(&self, batch: &mut Batch) {
        self.sink.refuse_known(batch);
    }

    /// Checks the outputs of a batch against the known rules of their topic, and remembers those that it will refuse. Returns
    /// whether there are any. If so, the batch is to be processed again, after [`Session::refuse_known`].
    pub fn predict_refusals(&mut self, work: Work<'_>) -> bool {
        self.sink.predict_refusals(work)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.sink.begin(cancelled)
    }

    /// Sends the outputs, dead letters and windows of `work`, the last of `chunks`. Returns before they are delivered. `chunks`
    /// are all chunks of this transaction. An error gives the cause, even if the failure is only a consequence of something that
    /// was sent before.
    pub fn send(&mut self, chunks: &[Chunk], work: Work<'_>, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.sink.send(work, cancelled).map_err(|failure| self.sink.cause(chunks, failure, cancelled))
    }

    /// Commits `chunks`, all of which were sent: waits until they are delivered, and commits their offsets with `states`. If this
    /// fails, or if sending has failed, the transaction is to be abandoned and the records are to be read again.
    pub fn commit(
        &mut self,
        chunks: &[Chunk],
        states: &[(i32, String)],
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let offsets = self.source.offsets(chunks, states)?;
        self.sink.drain(chunks, cancelled)?;
        if self.sink.is_transactional() {
            let lost = || Failure::Wait(anyhow!("failed to commit: this process is no member of the group any more"));
            let membership = self.source.membership().ok_or_else(lost)?;
            self.sink.commit(&offsets, self.source.topic(), membership, cancelled)?;
        } else {
            self.source.commit(&offsets, cancelled)?;
        }
        self.source.advance(&offsets);
        self.sink.forget(chunks);
        Ok(())
    }

    /// Abandons what was sent since the last commit.
    pub fn abandon(&mut self, chunks: &[Chunk], cancelled: &mut dyn FnMut() -> bool) {
        self.sink.abandon(chunks, cancelled);
    }

    /// Returns whether something was learned from the transaction that has failed, so that the next attempt gets further and need
    /// not wait. If so, nothing of that transaction is committed: a commit is tried only if there was nothing to learn.
    pub fn take_learned(&mut self) -> bool {
        self.sink.take_learned()
    }

    /// Serves the producer's events. To be called now and then while there is nothing to commit.
    pub fn serve(&mut self) {
        self.sink.serve();
    }

    /// Releases the revoked partitions. Until then no other process gets them, and what was read of them can still be committed.
    pub fn release(&mut self) {
        self.source.release();
    }

    /// Takes note that some of the records that were read will not be sent, and that they are read again from the committed
    /// offsets.
    pub fn cut(&mut self) {
        self.source.cut();
    }

    /// Returns the input topic.
    pub fn topic(&self) -> &Arc<str> {
        self.source.topic()
    }

    /// Returns the id of the input topic, by which it differs from an earlier topic of the same name. Empty if the topic has no
    /// id, or if no broker answers.
    pub fn topic_id(&self) -> String {
        self.sink.input_id()
    }

    /// Checks that the input topic exists. While it does not, the group has no partitions of it to assign.
    pub fn find_topic(&self) -> Result<(), Failure> {
        self.source.find_topic()
    }

    /// Returns the next offset to read of each partition: one past what is committed.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        self.source.positions()
    }

    /// Returns the partitions whose committed offset can move forward past entries that are no records, such as the markers of
    /// transactions.
    pub fn ahead(&self) -> impl Iterator<Item = i32> {
        self.source.ahead()
    }

    /// Returns the number of records of each partition that are not committed, as far as the client knows.
    pub fn lag(&self) -> BTreeMap<i32, i64> {
        self.source.lag()
    }

    /// Returns the commands by which operators set the committed offsets.
    pub fn reset(&self) -> &Reset {
        self.source.reset()
    }

    /// Returns the current outage, if any. Call it only while there is nothing to read or write, because it sends a request.
    pub fn outage(&mut self) -> Option<String> {
        self.sink.outage()
    }

    /// Returns the log of what the clients report.
    pub fn client_log(&self) -> &Arc<ClientLog> {
        &self.client_log
    }

    /// Leaves the group, so that other processes take over its partitions at once. Returns whether this was done `within` the
    /// given time. If it was not, the group notices when the member's session times out.
    pub fn close(self, within: Duration) -> bool {
        self.source.close(within)
    }
}
