//! A producer that waits instead of failing when its queue is full, and that accounts for every message: none is on its way any
//! more, and those that were not delivered are known.
//!
//! One message that is not delivered makes the whole transaction fail. Without transactions the client would go on with the others.
//! But it has numbered them, and brokers refuse whatever follows a gap, so it would send them in vain until they time out. They are
//! dropped instead, and the next producer begins with new numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext, PurgeConfig};

use super::failure::{Operation, refused};
use super::native::{self, Outgoing, Topic};
use super::troubles::Troubles;
use super::{Failure, client};

/// How long to wait until all is delivered, or for room in the queue, before looking again. It bounds what draining adds to the
/// latency of a batch.
const PAUSE: Duration = Duration::from_micros(200);
/// How long the reports of single messages may come after the news that their transaction has failed.
const LATE_REPORTS: Duration = Duration::from_millis(100);
/// How often what is queued is dropped while answers about the others are waited for: a refusal puts messages back into the queue.
const DROP_EVERY: Duration = Duration::from_millis(5);
/// How long a broker may take to describe a topic.
const ANSWER: Duration = Duration::from_secs(2);
/// How often a broker is asked for a sign of life while none is known to have one, and how long it may take to give one.
/// Nothing is read meanwhile.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How many times smaller batches become that are too large for a topic: it is found out in a few steps.
const SHRINK: usize = 4;

/// Under this name the client logs that a transaction, or the producer, has failed.
const TRANSACTION_FAILED: &str = "TXNERR";

/// A message that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undelivered {
    pub(super) tag: usize,
    /// What key, value and headers take.
    pub(super) bytes: usize,
    pub(super) code: RDKafkaErrorCode,
}

/// A producer, and what it takes to make the next one.
pub(super) struct Outbox {
    settings: ClientConfig,
    /// The producer's handles on topics, by name; dropped before it.
    topics: Vec<(String, Topic)>,
    producer: Arc<BaseProducer<Reports>>,
    troubles: Arc<Troubles>,
    /// The settings have changed since the producer was made, or it reaches nobody.
    outdated: bool,
    /// When a broker was asked for a sign of life last.
    asked: Option<Instant>,
}

impl Outbox {
    pub(super) fn open(settings: ClientConfig, troubles: Arc<Troubles>) -> anyhow::Result<Outbox> {
        let producer = producer(&settings, &troubles)?;
        Ok(Outbox { settings, topics: Vec::new(), producer, troubles, outdated: false, asked: None })
    }

    /// Hands a message over. A full queue is waited for. Returns why, if the message will never be taken.
    pub(super) fn send(
        &mut self,
        mut outgoing: Outgoing<'_>,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<Option<RDKafkaErrorCode>, Failure> {
        let topic = self.topic(outgoing.topic)?;
        let mut was_empty = false;
        loop {
            let Err(code) = self.topics[topic].1.send(&mut outgoing) else { return Ok(None) };
            match code {
                // Larger than the whole queue: waiting makes no room for it. Unless all the others were delivered just now.
                RDKafkaErrorCode::QueueFull if was_empty => return Ok(Some(RDKafkaErrorCode::MessageSizeTooLarge)),
                RDKafkaErrorCode::QueueFull if self.outstanding() == 0 => was_empty = true,
                RDKafkaErrorCode::QueueFull if give_up() => return Err(Failure::GaveUp),
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

    /// The index of the producer's handle on the topic `name`.
    fn topic(&mut self, name: &str) -> Result<usize, Failure> {
        if let Some(known) = self.topics.iter().position(|(known, _)| known == name) {
            return Ok(known);
        }
        let handle = Topic::open(self.producer.client(), name);
        let handle = handle.ok_or_else(|| Failure::of_writing(RDKafkaErrorCode::InvalidTopic, name))?;
        self.topics.push((name.to_owned(), handle));
        Ok(self.topics.len() - 1)
    }

    /// Waits until nothing is on its way, and returns what was not delivered. A transaction that has failed is not waited for: its
    /// messages would only time out. The next transactional call says why.
    ///
    /// Without transactions whatever was sent is waited for, or it could be written after what the next producer writes.
    pub(super) fn drain(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<Vec<Undelivered>, Failure> {
        while self.outstanding() > 0 && !self.is_lost() {
            if give_up() {
                return Err(Failure::GaveUp);
            }
            match self.has_failed() && !self.is_transactional() {
                true => self.drop_queued(),
                false => self.pause(),
            }
        }
        Ok(self.producer.context().take())
    }

    /// Whether the transaction has failed, and no more reports are to be expected.
    fn is_lost(&self) -> bool {
        self.is_transactional() && self.producer.context().has_failed_for(LATE_REPORTS)
    }

    /// Drops what was not sent yet, and gives the client a moment for the answers about the rest.
    fn drop_queued(&self) {
        self.producer.purge(PurgeConfig::default().queue().non_blocking());
        thread::sleep(DROP_EVERY);
        self.serve();
    }

    fn is_transactional(&self) -> bool {
        self.producer.context().transactional
    }

    /// Lets the client work for a moment, and serves what it tells. The client's own wait asks without a pause through its last
    /// millisecond, which costs a third of a core on a stream of single messages.
    fn pause(&self) {
        thread::sleep(PAUSE);
        self.serve();
    }

    /// How many partitions `topic` has, on which `operation` is to be done.
    pub(super) fn partitions(&self, topic: &str, operation: Operation) -> Result<i32, Failure> {
        let found = super::topics::partitions(self.producer.client(), topic, operation)?;
        found.ok_or_else(|| Failure::of_topic(RDKafkaErrorCode::UnknownTopicOrPartition, Operation::Describe, topic))
    }

    /// Serves what is there to be served, without waiting.
    pub(super) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// The settings of the producer, or of the next one.
    pub(super) fn client_settings(&self) -> &ClientConfig {
        &self.settings
    }

    /// How large batches get before the client sends them, in bytes. A record that is larger goes alone.
    pub(super) fn batch_bytes(&self) -> usize {
        self.settings.get("batch.size").and_then(|bytes| bytes.parse().ok()).unwrap_or(client::BATCH_BYTES as usize)
    }

    /// Has the next producer send smaller batches, and returns how small.
    pub(super) fn shrink_batches(&mut self) -> usize {
        let bytes = (self.batch_bytes() / SHRINK).max(1);
        self.settings.set("batch.size", bytes.to_string());
        self.outdated = true;
        bytes
    }

    /// Has the producer replaced before anything is sent again.
    pub(super) fn replace_producer(&mut self) {
        self.outdated = true;
    }

    /// Replaces a producer that has outdated settings, reaches nobody, has a gap among its messages, or has met a fatal error: until
    /// then sends would fail.
    pub(super) fn renew_if_dead(&mut self) -> anyhow::Result<()> {
        let fatal = self.producer.client().fatal_error();
        if let Some((code, reason)) = &fatal {
            tracing::warn!(code = native::name(*code), reason, "the producer is beyond repair; starting a new one");
        }
        match fatal.is_some() || self.outdated || self.has_failed() {
            true => self.renew(),
            false => Ok(()),
        }
    }

    /// Replaces the producer. What it has not sent is dropped.
    pub(super) fn renew(&mut self) -> anyhow::Result<()> {
        let producer = producer(&self.settings, &self.troubles)?;
        self.topics.clear();
        (self.producer, self.outdated) = (producer, false);
        Ok(())
    }

    /// Whether the transaction, or the producer, has failed; without transactions, whether something was not delivered.
    pub(super) fn has_failed(&self) -> bool {
        self.producer.context().has_failed_for(Duration::ZERO)
    }

    /// What stands in the way, if no broker answers. To be asked while there is nothing to read or write: what is read or written
    /// tells as well. The client says when the last connection is lost, and not when there is one again, so a broker is asked,
    /// about `topic`. A consumer would ask on a connection where a fetch waits for messages, and wait as long.
    pub(super) fn outage(&mut self, topic: &str) -> Option<String> {
        let outage = self.troubles.outage()?;
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            let answered = self.producer.client().fetch_metadata(Some(topic), ASK_EVERY).is_ok();
            self.asked = Some(Instant::now());
            if answered {
                self.troubles.over();
                return None;
            }
        }
        Some(outage)
    }

    /// The producer, for its transactional calls.
    pub(super) fn producer(&self) -> Arc<BaseProducer<impl ProducerContext + use<>>> {
        self.producer.clone()
    }

    /// The id of `topic`, if the cluster gives its topics ids.
    pub(super) fn topic_id(&self, topic: &str) -> Option<String> {
        native::topic_id(self.producer.client(), topic, ANSWER)
    }

    /// Those of `topics` that this client may not write to, as far as the cluster tells.
    pub(super) fn denied<'a>(&self, topics: &[&'a str]) -> Vec<&'a str> {
        native::denied(self.producer.client(), topics, ANSWER)
    }

    /// The settings of `topic`, if this client may know them.
    pub(super) fn settings(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        native::settings(self.producer.client(), topic, ANSWER)
    }

    /// How many messages are on their way, and reports to be served.
    fn outstanding(&self) -> usize {
        self.producer.in_flight_count().max(0) as usize
    }
}

fn producer(settings: &ClientConfig, troubles: &Arc<Troubles>) -> anyhow::Result<Arc<BaseProducer<Reports>>> {
    let (troubles, transactional) = (troubles.clone(), settings.get("transactional.id").is_some());
    let reports = Reports { troubles, transactional, bad: Mutex::default(), failed: OnceLock::new() };
    let producer = settings.create_with_context(reports).map_err(|error| client::refused(&error))?;
    Ok(Arc::new(producer))
}

/// What was not delivered since the last drain. It is told on the thread that polls.
struct Reports {
    troubles: Arc<Troubles>,
    transactional: bool,
    bad: Mutex<Vec<Undelivered>>,
    /// When the transaction has failed, or the producer for good; without transactions, when the first message was not delivered.
    failed: OnceLock<Instant>,
}

impl Reports {
    fn has_failed_for(&self, time: Duration) -> bool {
        self.failed.get().is_some_and(|at| at.elapsed() >= time)
    }

    fn take(&self) -> Vec<Undelivered> {
        std::mem::take(&mut self.bad.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // There is no event for it.
        if facility == TRANSACTION_FAILED {
            self.failed.get_or_init(Instant::now);
        }
        self.troubles.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.hear(&error, reason);
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
            self.bad.lock().unwrap_or_else(PoisonError::into_inner).push(Undelivered { tag, bytes, code });
        }
    }
}
