//! The input: batches of what is there now, and the offsets up to which they are done.
//!
//! A batch ends with the last message that can be had at once, with its bound in rows or bytes, or when its first message has
//! waited for `batch.linger`. Under little load that is a message or two, under lag it is the bound.
//!
//! Offsets are this module's own: one past the last message of a committed batch, never the client's idea of a position.
//! Rebalances come back from [`Source::poll`] as values, between batches. The eager protocol takes all partitions away before
//! any are given anew, so a batch that was being filled is dropped: whoever gets its partitions reads it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Failure;
use super::client;
use super::native;
use super::troubles::Troubles;
use crate::config::{self, Config};
use crate::record::Batch;

/// How long the group's coordinator may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// What a poll came back with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing arrived in time.
    Nothing,
    /// The batch has messages.
    Messages,
    /// These partitions are read from now on, and no others. They start at their committed offsets.
    Assigned(Vec<i32>),
    /// No partition is read until the next assignment.
    Revoked,
}

/// A consumer of the input topic.
pub struct Source {
    consumer: BaseConsumer<Member>,
    topic: Arc<str>,
    group: String,
    limits: config::Batch,
    troubles: Arc<Troubles>,
    assigned: BTreeSet<i32>,
    /// The first offset that was read of a partition since it was assigned: where to return to if nothing is committed yet.
    first: BTreeMap<i32, i64>,
}

impl Source {
    /// Joins the group. The first assignment comes with a later poll.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(config: &Config, brokers: &str, troubles: Arc<Troubles>) -> anyhow::Result<Source> {
        let member = Member { troubles: troubles.clone(), changes: Mutex::default() };
        let settings = client::consumer_settings(&config.kafka, brokers)?;
        let consumer: BaseConsumer<Member> =
            settings.create_with_context(member).context("failed to set up the consumer: check `[kafka.properties]`")?;
        let topic = config.topics.input.as_str();
        consumer.subscribe(&[topic]).with_context(|| format!("failed to subscribe to topic {topic}"))?;
        Ok(Source {
            consumer,
            topic: topic.into(),
            group: config.kafka.group.clone(),
            limits: config.batch.clone(),
            troubles,
            assigned: BTreeSet::new(),
            first: BTreeMap::new(),
        })
    }

    /// The input topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Fills `batch`, waiting at most `wait` for a first message. Serves rebalances, so it has to be called at least every
    /// `max.poll.interval.ms`.
    pub fn poll(&mut self, batch: &mut Batch, wait: Duration) -> Result<Polled, Failure> {
        batch.clear();
        let mut until = Instant::now() + wait;
        while batch.len() < self.limits.rows && batch.bytes() < self.limits.bytes {
            if let Some(change) = self.consumer.context().next_change() {
                batch.clear();
                return Ok(self.change(change));
            }
            let rest = until.saturating_duration_since(Instant::now());
            match self.consumer.poll(client::whole_millis(rest)) {
                Some(Ok(message)) => {
                    if batch.is_empty() {
                        until = Instant::now() + self.limits.linger;
                    }
                    store(&message, batch);
                }
                Some(Err(error)) => self.judge(&error)?,
                None if rest.is_zero() => break,
                // An event of another kind was served, or the time is up: the next round tells.
                None => {}
            }
        }
        if batch.is_empty() {
            return Ok(Polled::Nothing);
        }
        for (partition, extent) in extents(batch) {
            self.first.entry(partition).or_insert(extent.start);
        }
        Ok(Polled::Messages)
    }

    fn change(&mut self, change: Polled) -> Polled {
        self.first.clear();
        self.assigned.clear();
        if let Polled::Assigned(partitions) = &change {
            self.assigned.extend(partitions);
        }
        change
    }

    /// Most errors of a consumer are news of brokers, which its context has told of and which it gets over by itself.
    fn judge(&self, error: &KafkaError) -> Result<(), Failure> {
        let what = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => format!("join group {}", self.group),
            _ => format!("read topic {}", self.topic),
        };
        match Failure::from_client(error, &what) {
            // The client tries again with new credentials, if there are any, and says so.
            Failure::Stop(_) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) => Ok(()),
            Failure::Wait(error_) if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Err(Failure::Stop(error_)),
            Failure::Stop(error) => Err(Failure::Stop(error)),
            Failure::Wait(_) | Failure::GaveUp => Ok(()),
        }
    }

    /// Commits the offsets after `batch`, and waits for the answer or until `give_up` says so.
    pub fn commit(&self, batch: &Batch, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let what = format!("commit offsets of group {}", self.group);
        let offsets = extents(batch).into_iter().map(|(partition, extent)| (partition, extent.end));
        let offsets = self.list(offsets).map_err(|error| Failure::from_client(&error, &what))?;
        if offsets.count() == 0 {
            return Ok(());
        }
        match native::commit(&self.consumer, &offsets, give_up) {
            Some(RDKafkaErrorCode::NoError) => {
                self.troubles.over();
                Ok(())
            }
            Some(code) => Err(Failure::of(code, &what)),
            None => Err(Failure::GaveUp),
        }
    }

    /// Returns to the committed offsets, so that what was read since is read again.
    pub fn rewind(&mut self) -> Result<(), Failure> {
        let what = format!("return to the committed offsets of group {}", self.group);
        let failed = |error: KafkaError| Failure::from_client(&error, &what);
        let wanted = self.list(self.first.keys().map(|partition| (*partition, 0))).map_err(failed)?;
        if wanted.count() == 0 {
            return Ok(());
        }
        let committed = self.consumer.committed_offsets(wanted, ANSWER).map_err(failed)?;
        let mut targets = Vec::new();
        for element in committed.elements() {
            element.error().map_err(failed)?;
            match element.offset() {
                Offset::Offset(offset) => targets.push((element.partition(), offset)),
                _ => targets.extend(self.first.get(&element.partition()).map(|first| (element.partition(), *first))),
            }
        }
        let targets = self.list(targets.into_iter()).map_err(failed)?;
        let sought = self.consumer.seek_partitions(targets, ANSWER).map_err(failed)?;
        for element in sought.elements() {
            element.error().map_err(failed)?;
        }
        Ok(())
    }

    fn list(&self, offsets: impl Iterator<Item = (i32, i64)>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        Ok(list)
    }

    /// The partitions that are read.
    pub fn assigned(&self) -> Vec<i32> {
        self.assigned.iter().copied().collect()
    }

    /// Leaves the group, so that others take over at once. Returns whether that was done `within` the time given; if not, the
    /// group finds out by itself when the session times out.
    pub fn close(self, within: Duration) -> bool {
        let (done, closed) = mpsc::channel();
        let consumer = self.consumer;
        // Leaving waits for the coordinator, which may be gone.
        let closing = std::thread::Builder::new().name("close".into()).spawn(move || {
            drop(consumer);
            let _ = done.send(());
        });
        closing.is_ok() && closed.recv_timeout(within).is_ok()
    }
}

/// The offsets of `batch` by partition: from the first to one past the last.
pub(super) fn extents(batch: &Batch) -> BTreeMap<i32, Range<i64>> {
    let mut extents = BTreeMap::new();
    for run in batch.records().chunk_by(|a, b| a.partition == b.partition) {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        extents.entry(first.partition).or_insert(first.offset..first.offset).end = last.offset + 1;
    }
    extents
}

/// Copies a message to the end of `batch`.
fn store(message: &BorrowedMessage<'_>, batch: &mut Batch) {
    let timestamp = message.timestamp().to_millis();
    batch.push(message.partition(), message.offset(), timestamp, message.key(), message.payload());
    native::headers(message, |name, value| batch.push_header(&name, value));
}

/// What the consumer tells from within a poll.
struct Member {
    troubles: Arc<Troubles>,
    changes: Mutex<VecDeque<Polled>>,
}

impl Member {
    fn next_change(&self) -> Option<Polled> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.troubles.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.hear(&error, reason);
    }
}

impl ConsumerContext for Member {
    fn post_rebalance(&self, _: &BaseConsumer<Member>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(list) => Polled::Assigned(list.elements().iter().map(|element| element.partition()).collect()),
            Rebalance::Revoke(_) => Polled::Revoked,
            Rebalance::Error(error) => {
                tracing::warn!(%error, "failed to take part in a rebalance; the group will try again");
                return;
            }
        };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_go_from_the_first_offset_to_one_past_the_last() {
        let mut batch = Batch::new("user-login");
        for (partition, offset) in [(0, 5), (0, 6), (2, 9), (0, 8)] {
            batch.push(partition, offset, None, None, None);
        }
        assert_eq!(extents(&batch), BTreeMap::from([(0, 5..9), (2, 9..10)]));
    }
}
