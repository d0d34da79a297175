//! A producer that waits instead of failing when its queue is full, and that accounts for every record: after a drain no record
//! is on its way any more, and the records that were not delivered are known.
//!
//! One record that is not delivered makes its whole transaction fail. Without transactions the client would go on with the other
//! records. But the client has numbered them, and brokers refuse every record after a gap in the numbers, so the client would
//! send them in vain until they time out. Therefore they are dropped, and the next producer begins with new numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};

use super::client_log::ClientLog;
use super::failure::{Operation, refused};
use super::native::{self, Lending, Outgoing, Topic};
use super::{Failure, client};

/// The pause before the next check whether the queue has room.
const PAUSE: Duration = Duration::from_micros(200);
/// The time for which draining waits before reports are served, and before it looks for a failure.
const FLUSH: Duration = Duration::from_millis(5);
/// The time for which reports of single records may still come after the news that their transaction has failed.
const LATE_REPORTS: Duration = Duration::from_millis(100);
/// The interval at which queued records are dropped while the client waits for answers about the others. Dropping is repeated
/// because a refusal puts records back into the queue.
const DROP_EVERY: Duration = Duration::from_millis(5);
/// The time that a broker may take to describe a topic.
const ANSWER: Duration = Duration::from_secs(2);
/// The interval at which a broker is asked for a sign of life during an outage, and the time that it may take to answer. Nothing
/// is read meanwhile.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The divisor by which batches shrink that are too large for a topic. With it the right size is found in a few steps.
const SHRINK: usize = 4;

/// The facility with which the client logs that a transaction, or the producer, has failed.
const TRANSACTION_FAILED: &str = "TXNERR";

/// A record that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undelivered {
    pub(super) tag: usize,
    /// The bytes of key, value and headers.
    pub(super) bytes: usize,
    pub(super) code: RDKafkaErrorCode,
}

/// A producer, and the parts from which the next producer is made.
pub(super) struct Producer {
    settings: ClientConfig,
    /// The producer's handles on topics, by name. They are dropped before the producer.
    topics: Vec<(String, Topic)>,
    inner: Arc<BaseProducer<Lending<Reports>>>,
    client_log: Arc<ClientLog>,
    /// True if the settings have changed since the producer was made, or if the producer reaches no broker.
    outdated: bool,
    /// The time at which a broker was last asked for a sign of life.
    asked: Option<Instant>,
}

impl Producer {
    pub(super) fn open(settings: ClientConfig, client_log: Arc<ClientLog>) -> anyhow::Result<Producer> {
        let inner = create(&settings, &client_log)?;
        Ok(Producer { settings, topics: Vec::new(), inner, client_log, outdated: false, asked: None })
    }

    /// Hands a record over. Waits while the queue is full. Returns the reason if the record will never be taken.
    pub(super) fn send(
        &mut self,
        mut outgoing: Outgoing<'_>,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Option<RDKafkaErrorCode>, Failure> {
        let topic = self.topic(outgoing.topic)?;
        let mut was_empty = false;
        loop {
            let Err(code) = self.topics[topic].1.send(&mut outgoing) else { return Ok(None) };
            match code {
                // The record is larger than the whole queue, so waiting makes no room for it. The send is tried once more after
                // the queue was seen empty, because all the other records may have been delivered just then.
                RDKafkaErrorCode::QueueFull if was_empty => return Ok(Some(RDKafkaErrorCode::MessageSizeTooLarge)),
                RDKafkaErrorCode::QueueFull if self.outstanding() == 0 => was_empty = true,
                RDKafkaErrorCode::QueueFull if cancelled() => return Err(Failure::Cancelled),
                RDKafkaErrorCode::QueueFull if self.has_failed() => {
                    return Err(Failure::Wait(anyhow!(
                        "failed to write to topic {}: the transaction has failed",
                        outgoing.topic
                    )));
                }
                RDKafkaErrorCode::QueueFull => self.pause(),
                code if refused(code).is_some() => return Ok(Some(code)),
                code => return Err(Failure::of_writing(code, outgoing.topic)),
            }
        }
    }

    /// Returns the index of the producer's handle on the topic `name`.
    fn topic(&mut self, name: &str) -> Result<usize, Failure> {
        if let Some(known) = self.topics.iter().position(|(known, _)| known == name) {
            return Ok(known);
        }
        let handle = Topic::open_lending(self.inner.client(), name);
        let handle = handle.ok_or_else(|| Failure::of_writing(RDKafkaErrorCode::InvalidTopic, name))?;
        self.topics.push((name.to_owned(), handle));
        Ok(self.topics.len() - 1)
    }

    /// Waits until no record is on its way, and returns the records that were not delivered. Does not wait for a transaction that
    /// has failed: its records would only time out. The next transactional call returns the cause.
    ///
    /// Without transactions this waits for every record that was sent. Otherwise such a record could be written after the records
    /// of the next producer.
    pub(super) fn drain(&mut self, cancelled: &mut dyn FnMut() -> bool) -> Result<Vec<Undelivered>, Failure> {
        while self.outstanding() > 0 && !self.is_lost() {
            if cancelled() {
                return Err(Failure::Cancelled);
            }
            match self.has_failed() && !self.is_transactional() {
                true => self.drop_queued(),
                false => self.flush(),
            }
        }
        native::give_back(self.inner.client());
        Ok(self.inner.context().take())
    }

    /// Returns whether the transaction has failed and no more reports are expected.
    fn is_lost(&self) -> bool {
        self.is_transactional() && self.inner.context().has_failed_for(LATE_REPORTS)
    }

    /// Drops the records that were not sent yet, and gives the client a moment for the answers about the others.
    fn drop_queued(&self) {
        self.inner.purge(PurgeConfig::default().queue().non_blocking());
        thread::sleep(DROP_EVERY);
        self.serve();
    }

    fn is_transactional(&self) -> bool {
        self.inner.context().transactional
    }

    /// Sends at once what waits for more, waits for its delivery for a moment, and serves events.
    fn flush(&self) {
        native::flush(self.inner.client(), FLUSH);
        self.serve();
    }

    /// Lets the client work for a moment, and serves its events. The client's own wait asks without a pause in its last
    /// millisecond, which costs a third of a core on a stream of single records.
    fn pause(&self) {
        thread::sleep(PAUSE);
        self.serve();
    }

    /// Returns how many partitions `topic` has. `operation` is what is to be done with the topic.
    pub(super) fn partitions(&self, topic: &str, operation: Operation) -> Result<i32, Failure> {
        let found = super::topics::partitions(self.inner.client(), topic, operation)?;
        found.ok_or_else(|| Failure::of_topic(RDKafkaErrorCode::UnknownTopicOrPartition, Operation::Describe, topic))
    }

    /// Serves the events that are there, without waiting.
    pub(super) fn serve(&self) {
        self.inner.poll(Duration::ZERO);
    }

    /// Returns the settings of the producer, or of the next one if they have changed.
    pub(super) fn client_settings(&self) -> &ClientConfig {
        &self.settings
    }

    /// Returns the size, in bytes, at which the client sends a batch. A larger record is sent alone.
    pub(super) fn batch_bytes(&self) -> usize {
        self.settings.get("batch.size").and_then(|bytes| bytes.parse().ok()).unwrap_or(client::BATCH_BYTES as usize)
    }

    /// Makes the next producer send smaller batches, and returns their size in bytes.
    pub(super) fn shrink_batches(&mut self) -> usize {
        let bytes = (self.batch_bytes() / SHRINK).max(1);
        self.settings.set("batch.size", bytes.to_string());
        self.outdated = true;
        bytes
    }

    /// Marks the producer: the next call of [`Producer::renew_if_dead`] replaces it.
    pub(super) fn replace_producer(&mut self) {
        self.outdated = true;
    }

    /// Replaces the producer if it has outdated settings, reaches no broker, has a gap among its records, or has met a fatal
    /// error. Until then sends would fail.
    pub(super) fn renew_if_dead(&mut self) -> anyhow::Result<()> {
        let fatal = self.inner.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            tracing::warn!(code = native::name(*code), reason, "the producer is beyond repair; starting a new one");
        }
        match fatal.is_some() || self.outdated || self.has_failed() {
            true => self.renew(),
            false => Ok(()),
        }
    }

    /// Replaces the producer. Records that the old one has not sent are dropped.
    pub(super) fn renew(&mut self) -> anyhow::Result<()> {
        let inner = create(&self.settings, &self.client_log)?;
        self.topics.clear();
        (self.inner, self.outdated) = (inner, false);
        Ok(())
    }

    /// Returns whether the transaction, or the producer, has failed. Without transactions: whether a record was not delivered.
    pub(super) fn has_failed(&self) -> bool {
        self.inner.context().has_failed_for(Duration::ZERO)
    }

    /// Returns the current outage, if any. To be called only while there is nothing to read or write, because traffic clears an
    /// outage by itself. The client reports when the last connection is lost, but not when there is a connection again. So a
    /// broker is asked about `topic`. A consumer would ask on a connection where a fetch waits for records, and its answer would
    /// wait as long.
    pub(super) fn outage(&mut self, topic: &str) -> Option<String> {
        let outage = self.client_log.outage()?;
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            let answered = self.inner.client().fetch_metadata(Some(topic), ASK_EVERY).is_ok();
            self.asked = Some(Instant::now());
            if answered {
                self.client_log.clear_outage();
                return None;
            }
        }
        Some(outage)
    }

    /// Returns the producer, for its transactional calls.
    pub(super) fn inner(&self) -> Arc<BaseProducer<impl ProducerContext + use<>>> {
        self.inner.clone()
    }

    /// Returns the id of `topic`, if the cluster gives its topics ids.
    pub(super) fn topic_id(&self, topic: &str) -> Option<String> {
        native::topic_id(self.inner.client(), topic, ANSWER)
    }

    /// Returns those of `topics` that this client may not write to, as far as the cluster tells.
    pub(super) fn denied<'a>(&self, topics: &[&'a str]) -> Vec<&'a str> {
        native::denied(self.inner.client(), topics, ANSWER)
    }

    /// Returns the settings of `topic`, if this client may know them.
    pub(super) fn settings(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        native::settings(self.inner.client(), topic, ANSWER)
    }

    /// Returns the number of records on their way, plus that of reports and other events that are not served yet.
    fn outstanding(&self) -> usize {
        self.inner.in_flight_count().max(0) as usize
    }
}

fn create(settings: &ClientConfig, client_log: &Arc<ClientLog>) -> anyhow::Result<Arc<BaseProducer<Lending<Reports>>>> {
    let (client_log, transactional) = (client_log.clone(), settings.get("transactional.id").is_some());
    let reports = Reports { client_log, transactional, bad: Mutex::default(), failed: OnceLock::new() };
    let producer = settings.create_with_context(Lending::new(reports)).map_err(|error| client::refused(&error))?;
    Ok(Arc::new(producer))
}

/// The records that were not delivered since the last drain. The client reports them on the thread that polls.
struct Reports {
    client_log: Arc<ClientLog>,
    transactional: bool,
    bad: Mutex<Vec<Undelivered>>,
    /// The time at which the transaction, or the producer for good, has failed. Without transactions: at which the first record
    /// was not delivered.
    failed: OnceLock<Instant>,
}

impl Reports {
    fn has_failed_for(&self, time: Duration) -> bool {
        self.failed.get().is_some_and(|at| at.elapsed() >= time)
    }

    fn take(&self) -> Vec<Undelivered> {
        std::mem::take(&mut self.bad.lock())
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The client has no event for this failure, only a log line.
        if facility == TRANSACTION_FAILED {
            self.failed.get_or_init(Instant::now);
        }
        self.client_log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client_log.on_error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        if let Err((error, message)) = result {
            if !self.transactional {
                self.failed.get_or_init(Instant::now);
            }
            let code = match native::refused_for_others(message) {
                true => RDKafkaErrorCode::InvalidDifferentRecord,
                false => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
            };
            let mut bytes = message.key_len() + message.payload_len();
            native::headers(message, |name, value| bytes += name.len() + value.map_or(0, <[u8]>::len));
            self.bad.lock().push(Undelivered { tag, bytes, code });
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_core::record::Arena;

    use super::*;
    use crate::testing::{Broker, settings};

    const VALUE: &[u8] = b"a value in an arena";

    fn outgoing<'a>(value: &'a [u8], arena: &'a Arena) -> Outgoing<'a> {
        let (topic, arena) = ("processed-user-login", Some(arena));
        Outgoing { topic, partition: Some(0), key: None, value: Some(value), arena, timestamp: None, headers: None, tag: 0 }
    }

    #[test]
    fn an_arena_is_kept_until_its_records_are_delivered_or_the_producer_is_gone() {
        let broker = Broker::start(settings());
        let settings = client::producer_settings(&settings().client, &broker.address).unwrap();
        let mut producer = Producer::open(settings, Arc::default()).unwrap();
        let arena = Arena::new(VALUE.to_vec());
        let send = |producer: &mut Producer, value| producer.send(outgoing(value, &arena), &mut || false).unwrap();

        assert_eq!(send(&mut producer, b"a value elsewhere"), None);
        assert_eq!(Arc::strong_count(&arena), 1, "what does not lie in the arena is copied");
        assert_eq!(producer.drain(&mut || false).unwrap(), []);

        broker.cluster().broker_down(-1).unwrap();
        for value in [&arena[..], &arena[2..7], &arena[3..3]] {
            assert_eq!(send(&mut producer, value), None);
        }
        assert!(matches!(producer.drain(&mut || true), Err(Failure::Cancelled)));
        assert_eq!(Arc::strong_count(&arena), 2, "it is kept once");
        broker.cluster().broker_up(-1).unwrap();
        assert_eq!(producer.drain(&mut || false).unwrap(), []);
        assert_eq!(Arc::strong_count(&arena), 1, "all is delivered");
        let read = broker.read("processed-user-login", 4);
        let read: Vec<&str> = read.iter().map(crate::testing::Received::text).collect();
        assert_eq!(read, ["a value elsewhere", "a value in an arena", "value", ""]);

        broker.cluster().broker_down(-1).unwrap();
        assert_eq!(send(&mut producer, &arena), None);
        assert_eq!(Arc::strong_count(&arena), 2);
        drop(producer);
        assert_eq!(Arc::strong_count(&arena), 1, "nobody is left who reads");
    }
}
