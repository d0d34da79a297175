//! The input: batches of the records that are there now, and the offsets up to which they are done.
//!
//! A batch ends at its bound in rows or bytes. Otherwise it ends when its first record has waited for `batch.linger` and no more
//! records are there at once. Under little load it has a record or two. Under lag several batches become the chunks of one
//! transaction.
//!
//! This module keeps the offsets itself: one past the last record of a committed batch, or the end of the partition once all
//! records before it are sent. So a position also moves past entries that are no records: the markers that end transactions, and
//! aborted records. [`Source::poll`] returns rebalances as values, between batches. The eager protocol takes all partitions away
//! before it assigns any of them again. So a batch that is being filled is dropped, and the process that gets its partitions
//! reads the records again. Batches that were sent before are committed first, and then the partitions are released.
//!
//! Nothing is read of a new partition until [`Source::restore`] has found the offset to begin with. Records that are not there
//! any more are never skipped silently: a committed offset that the topic does not have stops the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::client_log::ClientLog;
use super::failure::Operation;
use super::native::{ConsumerEvent, Events, Fetched};
use super::offsets::{Committed, committed};
use super::reset::{Reset, ResetTo};
use super::settings::{BatchLimits, Settings};
use super::start_offsets::StartOffsets;
use super::{Failure, client, native, start_offsets};
use weir_core::record::{Batch, Chunk};

/// The most records in a chunk of a transaction: so many that the overhead of a chunk hardly matters, and so few that the broker
/// has something to do while the next chunk is read.
const MAX_CHUNK_ROWS: usize = 2_000;

/// The result of a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing arrived in time.
    Nothing,
    /// The batch has records.
    Messages,
    /// This process has these partitions now, and no others. They are read once they are restored.
    Assigned(Vec<i32>),
    /// The partitions are revoked. The caller has to answer with [`Source::release`].
    Revoked,
}

/// A consumer of the input topic.
pub struct Source {
    events: Events,
    consumer: BaseConsumer<ConsumerCallbacks>,
    topic: Arc<str>,
    group: String,
    start_offsets: StartOffsets,
    limits: BatchLimits,
    reset: Reset,
    client_log: Arc<ClientLog>,
    assigned: Vec<i32>,
    /// The next offset of each restored partition: one past what is committed.
    next: BTreeMap<i32, i64>,
    /// The ends of partitions that were reported before the current batch. A partition is read up to its end.
    ends: BTreeMap<i32, i64>,
    /// The ends that were reported since. They hold once the current batch is sent.
    new_ends: BTreeMap<i32, i64>,
    /// This process's membership in the group. It is taken with the assignment, so that a later commit under this membership is
    /// refused if the partitions have gone to other processes since.
    membership: Option<Arc<ConsumerGroupMetadata>>,
    /// True if the client reads what is assigned. Until then the assignment is only answered.
    reading: bool,
}

impl Source {
    /// Joins the group. The first assignment comes with a later poll.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(settings: &Settings, brokers: &str, client_log: Arc<ClientLog>) -> anyhow::Result<Source> {
        let callbacks = ConsumerCallbacks { client_log: client_log.clone() };
        let consumer = client::consumer_settings(&settings.client, brokers)?;
        let consumer: BaseConsumer<ConsumerCallbacks> =
            consumer.create_with_context(callbacks).map_err(|error| client::refused(&error))?;
        let topic = settings.topics.input.as_str();
        consumer.subscribe(&[topic]).with_context(|| format!("failed to subscribe to topic {topic}"))?;
        Ok(Source {
            events: Events::of(&consumer).context("failed to set up the consumer: it has no queue")?,
            consumer,
            topic: topic.into(),
            group: settings.client.group.clone(),
            start_offsets: StartOffsets {
                start: settings.client.start,
                written: [settings.topics.output.clone(), settings.topics.rejected.clone()],
                headers: settings.client.headers,
                doubted: false,
            },
            limits: BatchLimits { rows: settings.batch.rows.min(MAX_CHUNK_ROWS), ..settings.batch.clone() },
            reset: Reset::new(&settings.client, brokers, topic),
            client_log,
            assigned: Vec::new(),
            next: BTreeMap::new(),
            ends: BTreeMap::new(),
            new_ends: BTreeMap::new(),
            membership: None,
            reading: false,
        })
    }

    /// Returns the input topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Returns the commands by which operators set the committed offsets.
    pub fn reset(&self) -> &Reset {
        &self.reset
    }

    /// Returns the next offset to read of each partition: one past what is committed.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// Returns the number of records of each partition that are not committed, as far as the client knows.
    pub fn lag(&self) -> BTreeMap<i32, i64> {
        let lag = |(partition, next): (&i32, &i64)| {
            Some((*partition, (native::high_watermark(&self.consumer, &self.topic, *partition)? - next).max(0)))
        };
        self.next.iter().filter_map(lag).collect()
    }

    /// Fills `batch`, and waits at most `wait` for the first record. A batch that is not full is not returned before `earliest`.
    /// Serves rebalances too, so it has to be called at least once per `max.poll.interval.ms`.
    pub fn poll(&mut self, batch: &mut Batch, wait: Duration, earliest: Option<Instant>) -> Result<Polled, Failure> {
        batch.clear();
        let mut until = Instant::now() + wait;
        let mut rest = Duration::ZERO;
        // By now the last batch is sent, so the ends that were reported with it hold. If some of it was left out, `cut` has
        // removed them.
        self.ends.append(&mut self.new_ends);
        while batch.len() < self.limits.rows && batch.bytes() < self.limits.bytes {
            // The clock is read only if no event is there at once.
            let change = match self.events.poll(client::whole_millis(rest), &**self.consumer.context()) {
                Some(ConsumerEvent::Message(message)) => {
                    if batch.is_empty() {
                        let linger = Instant::now() + self.limits.linger.min(wait);
                        until = earliest.map_or(linger, |earliest| linger.max(earliest));
                    }
                    store(&message, batch);
                    rest = Duration::ZERO;
                    continue;
                }
                Some(ConsumerEvent::End(partition, offset)) => {
                    self.new_ends.insert(partition, offset);
                    None
                }
                Some(ConsumerEvent::Assigned(partitions)) => Some(Polled::Assigned(partitions)),
                Some(ConsumerEvent::Revoked) => Some(Polled::Revoked),
                Some(ConsumerEvent::Error(error, place)) => {
                    self.classify(&error, place)?;
                    None
                }
                // An event of another kind was served.
                Some(ConsumerEvent::Served) => None,
                None if rest.is_zero() && Instant::now() >= until => break,
                None => None,
            };
            if let Some(change) = change {
                batch.clear();
                self.new_ends.clear();
                if let Polled::Assigned(partitions) = &change {
                    self.take(partitions);
                }
                return Ok(change);
            }
            // After the time is up, all events that are already there are still taken: a rebalance may be queued behind many
            // events about an outage.
            rest = until.saturating_duration_since(Instant::now());
        }
        Ok(if batch.is_empty() { Polled::Nothing } else { Polled::Messages })
    }

    /// Returns the partitions whose committed offset can move forward to the reported end, past the markers of transactions and
    /// aborted records. All records before that end are sent or committed.
    pub fn ahead(&self) -> impl Iterator<Item = i32> {
        let next = |partition| self.next.get(partition);
        self.ends.iter().filter(move |(partition, end)| next(partition).is_some_and(|next| *end > next)).map(|(known, _)| *known)
    }

    /// Takes note that some of the records that were read will not be sent, and that they are read again from the committed
    /// offsets. Until then none of the reported ends is reached.
    pub fn cut(&mut self) {
        self.ends.clear();
        self.new_ends.clear();
    }

    /// Takes over the assignment of `partitions`, with the membership under which it was made.
    fn take(&mut self, partitions: &[i32]) {
        self.forget();
        self.assigned = partitions.to_vec();
        self.reading = false;
        let membership = self.consumer.group_metadata().filter(|_| native::generation(&self.consumer).is_some());
        self.membership = membership.map(Arc::new);
        self.answer();
    }

    /// Answers an assignment at once, and reads nothing of it yet: reading needs the offsets, and they may take long to get.
    /// Until an assignment is answered, the client does not take part when the group shares out its partitions again, and all
    /// other members wait.
    fn answer(&self) {
        if let Err(error) = self.consumer.assign(&TopicPartitionList::new()) {
            tracing::warn!(%error, "failed to answer an assignment of the group");
        }
    }

    /// Releases the revoked partitions. Until then no other process gets them, and what was read of them can still be committed.
    pub fn release(&mut self) {
        self.forget();
        self.assigned.clear();
        self.membership = None;
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "failed to let go of partitions");
        }
    }

    fn forget(&mut self) {
        self.next.clear();
        self.cut();
    }

    /// Decides whether an error of the consumer is a failure. Most errors are only news of brokers. The context has reported
    /// them, and the client recovers by itself.
    fn classify(&self, error: &KafkaError, place: Option<(i32, i64)>) -> Result<(), Failure> {
        let damage = [Some(RDKafkaErrorCode::BadMessage), Some(RDKafkaErrorCode::BadCompression)];
        let unread = place.filter(|_| damage.contains(&error.rdkafka_error_code()));
        let what = match (error.rdkafka_error_code(), unread) {
            (Some(RDKafkaErrorCode::AutoOffsetReset), _) => return Err(self.lost_position()),
            (_, Some((partition, offset))) => format!("read partition {partition} of topic {} at offset {offset}", self.topic),
            (Some(RDKafkaErrorCode::GroupAuthorizationFailed), _) => format!("join group {}", self.group),
            _ => format!("read topic {}", self.topic),
        };
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            return Err(Failure::of_topic_from_client(error, Operation::Read, &self.topic));
        }
        match Failure::from_client(error, &what) {
            // The answer is not one of Kafka's, and the context has reported it. If it is only too large, the same answer would
            // come forever.
            Failure::Stop(_)
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BadMessage) && self.client_log.is_of_connection() =>
            {
                self.client_log.too_large_an_answer().map_or(Ok(()), Err)
            }
            Failure::Stop(unreadable) if let Some((partition, offset)) = unread => {
                Err(Failure::Stop(anyhow!("{unreadable}; {}", self.reset.passing(partition, offset))))
            }
            // The client tries again with new credentials, if there are any, and reports that.
            Failure::Stop(_) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) => Ok(()),
            Failure::Wait(error_) if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Err(Failure::Stop(error_)),
            Failure::Wait(_) | Failure::Cancelled => Ok(()),
            failure @ (Failure::Missing(_) | Failure::Stop(_)) => Err(failure),
        }
    }

    /// Returns to the committed offsets, or finds the offsets to begin with, and reads on from there. Returns what is committed
    /// for each partition. For a partition without a committed offset, the offset is the one to begin with.
    pub fn restore(&mut self) -> Result<Vec<Committed>, Failure> {
        self.forget();
        if self.assigned.is_empty() {
            return Ok(Vec::new());
        }
        if self.membership.is_none() {
            // The membership was lost before the assignment was answered. Now that the client has its answer, it joins the group
            // again.
            tracing::warn!(group = self.group, "the membership was lost with the assignment; joining again");
            return Ok(Vec::new());
        }
        let mut found = committed(&self.consumer, &self.topic, self.assigned.iter().copied())?;
        if found.iter().any(|found| found.offset.is_none()) {
            start_offsets::resolve(&self.consumer, &self.topic, &mut self.start_offsets, &self.reset, &mut found)?;
        }
        self.next = found.iter().filter_map(|found| Some((found.partition, found.offset?))).collect();
        let positions = self.list(self.next.iter().map(|(partition, offset)| (*partition, *offset, "")));
        let what = format!("read topic {} from the committed offsets on", self.topic);
        positions.and_then(|positions| self.read_from(&positions)).map_err(|error| Failure::from_client(&error, &what))?;
        self.reading = true;
        Ok(found)
    }

    /// Checks that the topic exists. While it does not, the group has no partitions of it to assign.
    pub fn find_topic(&self) -> Result<(), Failure> {
        start_offsets::partitions(&self.consumer, &self.topic).map(drop)
    }

    /// Reads from `positions` on. If the client reads already, it seeks: a new assignment would drop all that was fetched ahead.
    /// But if an offset was not there, the client has stopped reading, and only a new assignment makes it read again.
    fn read_from(&self, positions: &TopicPartitionList) -> Result<(), KafkaError> {
        if self.reading && self.seek(positions).is_ok() {
            return Ok(());
        }
        self.consumer.assign(positions)
    }

    fn seek(&self, positions: &TopicPartitionList) -> Result<(), KafkaError> {
        let sought = self.consumer.seek_partitions(positions.clone(), start_offsets::ANSWER)?;
        sought.elements().iter().try_for_each(|element| element.error())
    }

    /// Returns the offsets to commit once `chunks` are done, with the state of each partition.
    pub(super) fn offsets(&self, chunks: &[Chunk], states: &[(i32, String)]) -> Result<TopicPartitionList, Failure> {
        let end_offsets = end_offsets(chunks);
        let read = |partition| end_offsets.get(partition).or(self.next.get(partition)).copied();
        let next = |partition| Some(read(partition)?.max(self.ends.get(partition).copied().unwrap_or_default()));
        let offsets = states.iter().filter_map(|(partition, state)| Some((*partition, next(partition)?, state.as_str())));
        self.list(offsets).map_err(|error| Failure::from_client(&error, "note offsets"))
    }

    /// Returns this process's membership in the group, or None if it is not a member.
    pub(super) fn membership(&self) -> Option<&Arc<ConsumerGroupMetadata>> {
        self.membership.as_ref()
    }

    /// Commits `offsets` on their own, and waits for the answer, or until `cancelled` cancels the wait.
    pub(super) fn commit(&self, offsets: &TopicPartitionList, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        if offsets.count() == 0 {
            return Ok(());
        }
        match native::commit(&self.consumer, offsets, cancelled) {
            Some(RDKafkaErrorCode::NoError) => Ok(()),
            Some(code) => {
                let what = format!("commit offsets of group {} in topic {}", self.group, self.topic);
                Err(Failure::of_offsets(code, &what, &self.topic))
            }
            None => Err(Failure::Cancelled),
        }
    }

    /// Takes note that `offsets` are committed.
    pub(super) fn advance(&mut self, offsets: &TopicPartitionList) {
        self.client_log.clear_outage();
        self.next.extend(native::elements(offsets).map(|element| (element.partition, element.offset)));
    }

    /// Returns the failure for an offset that was not there: it stops the engine if the topic still does not have the offset. The
    /// questions about all partitions together take no longer than [`start_offsets::ANSWER`], because the group would not wait
    /// longer.
    fn lost_position(&self) -> Failure {
        let (mut lost, mut expired, mut shortened) = (Vec::new(), Vec::new(), Vec::new());
        let until = Instant::now() + start_offsets::ANSWER;
        for (partition, next) in &self.next {
            let rest = until.saturating_duration_since(Instant::now());
            let Ok((low, high)) = self.consumer.fetch_watermarks(&self.topic, *partition, rest) else { continue };
            if (low..=high).contains(next) {
                continue;
            }
            let what = match next < &low {
                true => format!("offsets {next} to {} are gone before they were read, and messages may have been there", low - 1),
                false => "it was truncated, or deleted and created anew".into(),
            };
            lost.push(format!("partition {partition} is to be read from offset {next} and has {low} to {high}: {what}"));
            if next < &low { expired.push(*partition) } else { shortened.push(*partition) }
        }
        if lost.is_empty() {
            return Failure::Wait(anyhow!("failed to read topic {}: an offset was not there", self.topic));
        }
        let of_expired = (!expired.is_empty()).then(|| self.reset.remedy(&expired, ResetTo::Earliest));
        let of_shortened = (!shortened.is_empty()).then(|| self.reset.shortened(&shortened));
        lost.extend(of_expired.into_iter().chain(of_shortened));
        Failure::Stop(anyhow!("failed to read on in topic {} as group {}: {}", self.topic, self.group, lost.join("; ")))
    }

    fn list<'a>(&self, offsets: impl Iterator<Item = (i32, i64, &'a str)>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset, metadata) in offsets {
            let mut element = list.add_partition(&self.topic, partition);
            element.set_offset(Offset::Offset(offset))?;
            if !metadata.is_empty() {
                element.set_metadata(metadata);
            }
        }
        Ok(list)
    }

    /// Leaves the group, so that other processes take over its partitions at once. Returns whether this was done `within` the
    /// given time. If it was not, the group notices when the member's session times out.
    pub fn close(self, within: Duration) -> bool {
        let (done, closed) = mpsc::channel();
        drop(self.events);
        let consumer = self.consumer;
        // Leaving the group waits for the coordinator, which may be gone.
        let closing = std::thread::Builder::new().name("close".into()).spawn(move || {
            drop(consumer);
            let _ = done.send(());
        });
        closing.is_ok() && closed.recv_timeout(within).is_ok()
    }
}

/// Returns the offset one past the last record of each partition in `chunks`.
pub(super) fn end_offsets(chunks: &[Chunk]) -> BTreeMap<i32, i64> {
    let records = chunks.iter().flat_map(|chunk| chunk.batch.records().chunk_by(|a, b| a.partition == b.partition));
    records.filter_map(|run| run.last()).map(|last| (last.partition, last.offset + 1)).collect()
}

/// Copies a record to the end of `batch`.
fn store(message: &Fetched, batch: &mut Batch) {
    batch.push(message.partition(), message.offset(), message.timestamp(), message.key(), message.value());
    message.headers(|name, value| batch.push_header(&name, value));
}

/// The consumer's context: it passes log lines and errors on to the [`ClientLog`].
struct ConsumerCallbacks {
    client_log: Arc<ClientLog>,
}

impl ClientContext for ConsumerCallbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client_log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client_log.on_error(&error, reason);
    }
}

impl ConsumerContext for ConsumerCallbacks {
    /// Assignments are served as events. The client calls this function only while it leaves the group: it waits for the answer,
    /// and goes on in any case.
    fn rebalance(&self, consumer: &BaseConsumer<ConsumerCallbacks>, _: RDKafkaRespErr, _: &mut TopicPartitionList) {
        let _ = consumer.unassign();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Broker, Code, Request, eventually, settings};

    #[test]
    fn extents_go_to_one_past_the_last_offset_of_all_parts() {
        let chunk = |places: &[(i32, i64)]| {
            let mut chunk = Chunk::default();
            places.iter().for_each(|(partition, offset)| chunk.batch.push(*partition, *offset, None, None, None));
            chunk
        };
        let chunks = [chunk(&[(0, 5), (0, 6), (2, 9), (0, 8)]), chunk(&[]), chunk(&[(0, 11)])];
        assert_eq!(end_offsets(&chunks), BTreeMap::from([(0, 12), (2, 10)]));
    }

    #[test]
    fn a_poll_that_must_not_wait_still_takes_all_events_that_are_there() {
        let mut settings = settings();
        settings.topics.partitions = 8;
        let broker = Broker::start(settings);
        let (mut source, mut batch) =
            (Source::open(&broker.settings, &broker.address, Arc::default()).unwrap(), Batch::default());
        assert_eq!(assigned(&mut source).len(), 8);
        source.restore().unwrap();
        eventually("the end of each partition is told", || source.lag().len() == 8 && source.events.len() >= 8);
        assert_eq!(source.poll(&mut batch, Duration::ZERO, None).unwrap(), Polled::Nothing);
        assert_eq!(source.events.len(), 0, "what is behind them, such as a rebalance, would wait for the next polls");
        assert_eq!(source.new_ends.len(), 8);
    }

    #[test]
    fn an_end_that_was_told_does_not_hold_for_what_was_cut_off_before_it() {
        let broker = Broker::start(settings());
        let mut source = Source::open(&broker.settings, &broker.address, Arc::default()).unwrap();
        let (mut chunk, mut next) = (Chunk::default(), Batch::default());
        assigned(&mut source);
        source.restore().unwrap();
        broker.produce(&[(0, None, Some(&b"{}"[..])); 3]);
        eventually("three messages are read", || {
            if chunk.batch.len() < 3 {
                source.poll(&mut chunk.batch, Duration::from_millis(20), None).unwrap();
            }
            chunk.batch.len() == 3
        });
        eventually("their end is told", || {
            assert_eq!(source.poll(&mut next, Duration::from_millis(20), None).unwrap(), Polled::Nothing);
            source.ends.get(&0) == Some(&3)
        });
        let next_offset = |source: &Source, chunk: &Chunk| {
            let states = [(0, String::new())];
            source.offsets(std::slice::from_ref(chunk), &states).unwrap().elements()[0].offset()
        };
        assert_eq!(next_offset(&source, &chunk), Offset::Offset(3));
        chunk.batch.truncate(1);
        source.cut();
        assert_eq!(next_offset(&source, &chunk), Offset::Offset(1));
    }

    /// Polls `source` until partitions are assigned, and returns them.
    fn assigned(source: &mut Source) -> Vec<i32> {
        let (mut batch, mut assigned) = (Batch::default(), None);
        eventually("partitions are assigned", || {
            match source.poll(&mut batch, Duration::from_millis(20), None).unwrap() {
                Polled::Assigned(partitions) => assigned = Some(partitions),
                Polled::Revoked => source.release(),
                Polled::Nothing | Polled::Messages => {}
            }
            assigned.is_some()
        });
        assigned.unwrap()
    }

    /// Polls both sources until the group has shared out `partitions` partitions between them. Returns how many each of them has.
    fn shared_out(sources: &mut [Source; 2], partitions: usize) -> [usize; 2] {
        let (mut batch, mut own) = (Batch::default(), [None, None]);
        eventually("the partitions are shared out", || {
            for (source, own) in sources.iter_mut().zip(&mut own) {
                match source.poll(&mut batch, Duration::from_millis(10), None).unwrap() {
                    Polled::Assigned(partitions) => *own = Some(partitions.len()),
                    Polled::Revoked => {
                        source.release();
                        *own = None;
                    }
                    Polled::Nothing | Polled::Messages => {}
                }
            }
            own.into_iter().flatten().sum::<usize>() == partitions && own.iter().all(Option::is_some)
        });
        own.map(Option::unwrap)
    }

    #[test]
    fn a_process_without_partitions_takes_over_from_one_that_leaves() {
        let mut settings = settings();
        settings.topics.partitions = 1;
        let broker = Broker::start(settings);
        let mut sources = [(); 2].map(|()| Source::open(&broker.settings, &broker.address, Arc::default()).unwrap());
        let has_one = shared_out(&mut sources, 1)[0] == 1;
        let [first, second] = sources;
        let (leaving, mut left) = if has_one { (first, second) } else { (second, first) };
        assert!(leaving.close(Duration::from_secs(10)));
        assert_eq!(assigned(&mut left), [0]);
    }

    #[test]
    fn a_membership_that_is_lost_before_the_offsets_are_had_is_taken_up_again() {
        let broker = Broker::start(settings());
        let mut source = Source::open(&broker.settings, &broker.address, Arc::default()).unwrap();
        assert_eq!(assigned(&mut source).len(), 3);
        broker.fail(Request::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
        assert_eq!(assigned(&mut source).len(), 3);
    }

    #[test]
    fn an_offset_that_was_not_there_for_a_moment_is_read() {
        let broker = Broker::start(settings());
        let mut source = Source::open(&broker.settings, &broker.address, Arc::default()).unwrap();
        assert_eq!(assigned(&mut source).len(), 3);
        let ahead = source.list([(0, 1, "")].into_iter()).unwrap();
        source.commit(&ahead, &mut || false).unwrap();
        source.restore().unwrap();
        eventually("an error and two ends are told", || source.events.len() >= 3);
        // Like a broker that has just taken over a partition: it learns only by and by how far the partition goes.
        (0..3).for_each(|partition| broker.produce(&[(partition, None, Some(b"{}")), (partition, None, Some(b"{}"))]));
        let mut batch = Batch::default();
        let failed = source.poll(&mut batch, Duration::ZERO, None);
        assert!(matches!(failed, Err(Failure::Wait(_))), "{failed:?}");
        source.restore().unwrap();
        let mut read = Vec::new();
        eventually("all partitions are read", || {
            source.poll(&mut batch, Duration::from_millis(20), None).unwrap();
            read.extend(batch.records().iter().map(|record| (record.partition, record.offset)));
            read.len() == 5
        });
        read.sort_unstable();
        assert_eq!(read, [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn a_process_that_has_no_offsets_yet_keeps_nobody_waiting() {
        let broker = Broker::start(settings());
        let open = || Source::open(&broker.settings, &broker.address, Arc::default()).unwrap();
        let mut first = open();
        assert_eq!(assigned(&mut first).len(), 3);
        let shares = shared_out(&mut [first, open()], 3);
        assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    }
}
