//! Reads topics from the beginning to the end that they have now, without membership in a group.
//!
//! The end is asked for first, as an offset. So a topic that grows meanwhile does not keep the reader busy forever. Only
//! committed records are read. If a transaction is still open at the end, the reader waits for it ([`Reader::wait_for_stable`]).
//! Otherwise the records that it commits would seem to be missing, because a coordinator that has committed a transaction tells
//! the partitions one after another.
//!
//! A partition is read to its end if a record at or past the end comes, or if the broker reports that there is nothing more.
//! Every [`Reader::read`] gets a fresh report, after all records below the end are decided, so an old report is never used.
//!
//! Each request is repeated until the patience of the owner ends. The error is a [`Failure`], which says whether waiting can
//! help.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client_log::{ClientLog, Quiet};
use super::failure::Operation;
use super::native::TopicConfig;
use super::offsets::{self, Committed};
use super::settings::ClientSettings;
use super::{Failure, client, native, topics, writer};

/// The time that a broker may take to answer one question.
const ANSWER: Duration = Duration::from_secs(5);
/// The time that a broker may take to describe topics. The embedded broker never describes topics.
const DESCRIPTION: Duration = Duration::from_secs(2);
/// The time without an answer after which the reason is logged.
const TELL: Duration = Duration::from_secs(2);
/// The time for which the reader waits for the client's reason for a failed attempt.
const LISTEN: Duration = Duration::from_millis(20);
/// The pause before a question is repeated.
const PAUSE: Duration = Duration::from_millis(50);
/// The time for which a poll waits for a record.
const POLL: Duration = Duration::from_millis(200);
/// The number of records after which the owner is asked whether to go on.
const LOOK_EVERY: u64 = 4_096;
/// The most bytes of a header that are kept. Our own headers are much shorter.
const MAX_HEADER_BYTES: usize = 512;

/// The values of our headers in a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeirHeaders {
    /// The number of headers `weir-source`. The value of the last of them is in `source`.
    pub sources: u32,
    pub source: Vec<u8>,
    /// The number of headers `weir-ruleset`. The value of the last of them is in `ruleset`.
    pub rulesets: u32,
    pub ruleset: Vec<u8>,
}

/// A record as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub partition: i32,
    pub offset: i64,
    pub headers: &'a WeirHeaders,
    pub value: Option<&'a [u8]>,
}

/// Offsets by partition, from the first to one past the last.
pub type OffsetRanges = BTreeMap<i32, Range<i64>>;

/// The interface by which the owner of a reader sees its work, and can stop it.
pub trait ReadObserver {
    /// An event: reading of `topic` begins.
    fn begin(&mut self, topic: &str);
    /// An event: `read` of `there` offsets are read. Returns whether to go on.
    fn reading(&mut self, read: u64, there: u64) -> bool;
    /// Waits for `time`. Returns whether to go on.
    fn wait(&mut self, time: Duration) -> bool;
}

/// Reads topics.
pub struct Reader {
    /// The client that sees only committed records.
    consumer: BaseConsumer<Quiet>,
    /// The client that also sees records that are not committed: its end of a partition is the high watermark.
    probe: BaseConsumer<Quiet>,
    /// The client that asks first. If a server is no Kafka, this client finds its answer too long and reports that. The other
    /// clients would wait for the rest of the answer.
    first: BaseConsumer<Quiet>,
    admin: AdminClient<Quiet>,
    client_log: Arc<ClientLog>,
    brokers: String,
    group: String,
    patience: Duration,
    headers: WeirHeaders,
}

impl Reader {
    /// Opens a reader that asks for the offsets of the group of `kafka`. A question that is not answered within `patience` fails.
    /// The reader connects in the background.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(kafka: &ClientSettings, brokers: &str, patience: Duration) -> anyhow::Result<Reader> {
        let plain = client::settings(kafka, brokers)?;
        let client_log = Arc::new(ClientLog::silent_with(kafka, plain.clone()));
        let mut settings = client::consumer_settings(kafka, brokers)?;
        settings.set("client.id", "weir-verify");
        settings.set("auto.offset.reset", "earliest");
        settings.set("enable.partition.eof", "true");
        // A fetch that waited this long in vain for a record reports that a partition has no more records.
        settings.set("fetch.wait.max.ms", "20");
        let refused = |error| client::refused(&error);
        let consumer = settings.create_with_context(Quiet(client_log.clone())).map_err(refused)?;
        settings.set("isolation.level", "read_uncommitted");
        let probe = settings.create_with_context(Quiet(client_log.clone())).map_err(refused)?;
        let first = client::probe_settings(kafka, brokers)?.create_with_context(Quiet(client_log.clone())).map_err(refused)?;
        let admin = plain.create_with_context(Quiet(client_log.clone())).map_err(refused)?;
        let (brokers, group) = (brokers.to_owned(), kafka.group.clone());
        Ok(Reader { consumer, probe, first, admin, client_log, brokers, group, patience, headers: WeirHeaders::default() })
    }

    /// Returns how many partitions `topic` has.
    ///
    /// # Errors
    /// If there is no such topic, or if no broker answers.
    pub fn partitions(&self, topic: &str, observer: &mut dyn ReadObserver) -> Result<i32, Failure> {
        let found = self.retry(observer, || topics::partitions(self.first.client(), topic, Operation::Read))?;
        let missing = || Failure::Stop(anyhow!("failed to find topic {topic}: check `[topics]` and `kafka.brokers`"));
        found.ok_or_else(missing)
    }

    /// Returns the offsets that the group has committed for all `partitions` of `topic`, at one moment.
    ///
    /// # Errors
    /// If the group's coordinator does not answer.
    pub fn committed(&self, topic: &str, partitions: i32, observer: &mut dyn ReadObserver) -> Result<Vec<Committed>, Failure> {
        self.retry(observer, || offsets::committed(&self.consumer, topic, 0..partitions))
    }

    /// Returns the offsets that the partitions have, including the offsets of records that are not committed yet.
    ///
    /// # Errors
    /// If a leader does not answer.
    pub fn offset_ranges(&self, topic: &str, partitions: i32, observer: &mut dyn ReadObserver) -> Result<OffsetRanges, Failure> {
        self.retry(observer, || offset_ranges(&self.probe, topic, partitions))
    }

    /// Returns the offsets that the partitions have, up to the first offset that is not decided yet.
    ///
    /// # Errors
    /// If a leader does not answer.
    pub fn committed_ranges(
        &self,
        topic: &str,
        partitions: i32,
        observer: &mut dyn ReadObserver,
    ) -> Result<OffsetRanges, Failure> {
        self.retry(observer, || offset_ranges(&self.consumer, topic, partitions))
    }

    /// Waits until all transactions with records in `offset_ranges` are committed or aborted.
    ///
    /// # Errors
    /// If one of the transactions stays open, if a leader does not answer, or if the owner stops the wait.
    pub fn wait_for_stable(
        &self,
        topic: &str,
        offset_ranges: &OffsetRanges,
        observer: &mut dyn ReadObserver,
    ) -> Result<(), Failure> {
        let (patience, until) = (self.patience, Instant::now() + self.patience);
        loop {
            let decided = self.committed_ranges(topic, offset_ranges.len() as i32, observer)?;
            let open = offset_ranges.iter().find_map(|(partition, range)| {
                let decided = decided.get(partition)?.end;
                (decided < range.end).then_some((partition, decided))
            });
            match open {
                None => return Ok(()),
                Some((partition, offset)) if Instant::now() >= until => {
                    return Err(Failure::Wait(anyhow!(
                        "failed to read all of topic {topic}: a transaction has been open for {patience:?} at \
                         {topic}/{partition}/{offset}: wait until it times out, or end it with kafka-transactions.sh"
                    )));
                }
                Some(_) if observer.wait(PAUSE) => {}
                Some(_) => return Err(Failure::Cancelled),
            }
        }
    }

    /// Reads the offsets `left` of `topic`, and calls `each` for every record. All transactions in `left` have to be decided.
    /// Offsets that were read are removed from `left`, even if reading fails.
    ///
    /// # Errors
    /// If no record comes within the reader's patience, or if the owner stops the reading.
    pub fn read(
        &mut self,
        topic: &str,
        left: &mut OffsetRanges,
        observer: &mut dyn ReadObserver,
        each: impl FnMut(Seen<'_>),
    ) -> Result<(), Failure> {
        left.retain(|_, range| !range.is_empty());
        if left.is_empty() {
            return Ok(());
        }
        observer.begin(topic);
        let failed = |error: KafkaError| Failure::of_topic_from_client(&error, Operation::Read, topic);
        let starts = list(topic, left.iter().map(|(partition, range)| (*partition, Offset::Offset(range.start))));
        let starts = starts.map_err(failed)?;
        self.consumer.assign(&starts).map_err(failed)?;
        let outcome = self.read_assigned(topic, left, observer, each);
        // A pause would last beyond the assignment, and the next assignment of this partition would bring no records.
        let ended = self.consumer.resume(&starts).and_then(|()| self.consumer.unassign()).map_err(failed);
        outcome.and(ended)
    }

    fn read_assigned(
        &mut self,
        topic: &str,
        left: &mut OffsetRanges,
        observer: &mut dyn ReadObserver,
        mut each: impl FnMut(Seen<'_>),
    ) -> Result<(), Failure> {
        let failed = |error: &KafkaError| Failure::of_topic_from_client(error, Operation::Read, topic);
        let (there, mut report, mut messages) = (length(left), Instant::now(), 0_u64);
        while !left.is_empty() {
            let done = match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    report = Instant::now();
                    messages += 1;
                    take(&message, left, &mut self.headers, &mut each)
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => Some(partition),
                Some(Err(error)) => match failed(&error) {
                    stop @ Failure::Stop(_) => return Err(self.client_log.too_large_an_answer().unwrap_or(stop)),
                    Failure::Wait(_) | Failure::Missing(_) | Failure::Cancelled => None,
                },
                None => None,
            };
            if let Some(partition) = done.filter(|partition| left.remove(partition).is_some()) {
                let read = list(topic, [(partition, Offset::Invalid)].into_iter());
                read.and_then(|read| self.consumer.pause(&read)).map_err(|error| failed(&error))?;
            }
            let look = messages.is_multiple_of(LOOK_EVERY) || report.elapsed() >= POLL;
            if look && !observer.reading(there - length(left), there) {
                return Err(Failure::Cancelled);
            }
            if report.elapsed() >= self.patience {
                let silent = anyhow!("failed to read topic {topic}: no message has come for {:?}", self.patience);
                return Err(self.client_log.unreachable(&self.brokers).unwrap_or(Failure::Wait(silent)));
            }
        }
        Ok(())
    }

    /// Returns for each of `topics` whether it is compacted. An entry is None if the cluster does not tell.
    pub fn compacted(&self, topics: &[&str]) -> Vec<Option<bool>> {
        let described = native::settings_of(self.admin.inner(), topics, DESCRIPTION);
        let compacted = |settings: Option<TopicConfig>| Some(settings?.get("cleanup.policy")?.contains("compact"));
        described.into_iter().map(compacted).collect()
    }

    /// Returns the id of `topic`, by which it differs from an earlier topic of the same name.
    ///
    /// # Errors
    /// If the cluster does not tell the id.
    pub fn topic_id(&self, topic: &str, observer: &mut dyn ReadObserver) -> Result<String, Failure> {
        let unknown = || {
            Failure::Wait(anyhow!(
                "failed to find the id of topic {topic}: without it nobody can say whether the topic was deleted and created anew: \
                 check that the cluster is Kafka 2.8 or later, and that this client may DESCRIBE the topic"
            ))
        };
        self.retry(observer, || native::topic_id(self.admin.inner(), topic, DESCRIPTION).ok_or_else(unknown))
    }

    /// Repeats `ask` until there is an answer, as long as waiting can help and the patience lasts.
    fn retry<T>(&self, observer: &mut dyn ReadObserver, ask: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let failure = match ask() {
                Ok(answer) => {
                    self.client_log.clear_outage();
                    return Ok(answer);
                }
                Err(failure) => self.explain(failure),
            };
            match failure {
                Failure::Wait(error) | Failure::Missing(error) if begun.elapsed() >= self.patience => {
                    return Err(Failure::Wait(error));
                }
                Failure::Wait(error) | Failure::Missing(error) if !told && begun.elapsed() >= TELL => {
                    let seconds = self.patience.as_secs();
                    tracing::warn!(brokers = self.brokers, "{error:#}; trying again until {seconds} s are over");
                    told = true;
                }
                Failure::Wait(_) | Failure::Missing(_) => {}
                stop => return Err(stop),
            }
            if !observer.wait(PAUSE) {
                return Err(Failure::Cancelled);
            }
        }
    }

    /// Returns the failure with the reason why no broker answers, if the client knows it.
    fn explain(&self, failure: Failure) -> Failure {
        let until = Instant::now() + LISTEN;
        for client in [&self.first, &self.consumer, &self.probe] {
            // `poll` returns errors that the context gets too. No partition is assigned while a question is asked, so no record
            // is lost.
            let _ = client.poll(until.saturating_duration_since(Instant::now()));
        }
        if self.client_log.group_is_denied() {
            return Failure::of_offsets_denied(&self.group);
        }
        match (failure, self.client_log.unreachable(&self.brokers)) {
            (Failure::Wait(_), Some(unreachable)) => unreachable,
            (failure, _) => failure,
        }
    }
}

/// Hands a record to `each`. Returns its partition if that partition is now read to its end.
fn take(
    message: &BorrowedMessage<'_>,
    left: &mut OffsetRanges,
    headers: &mut WeirHeaders,
    each: &mut impl FnMut(Seen<'_>),
) -> Option<i32> {
    let (partition, offset) = (message.partition(), message.offset());
    let range = left.get_mut(&partition)?;
    if offset < range.end {
        range.start = offset + 1;
        note(message, headers);
        each(Seen { partition, offset, headers, value: message.payload() });
    }
    (offset + 1 >= range.end).then_some(partition)
}

/// Fills `headers` with what the headers of `message` say.
fn note(message: &BorrowedMessage<'_>, headers: &mut WeirHeaders) {
    (headers.sources, headers.rulesets) = (0, 0);
    native::headers(message, |name, value| {
        let (count, kept) = match &*name {
            writer::SOURCE => (&mut headers.sources, &mut headers.source),
            writer::RULESET => (&mut headers.rulesets, &mut headers.ruleset),
            _ => return,
        };
        *count += 1;
        let value = value.unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(&value[..value.len().min(MAX_HEADER_BYTES)]);
    });
}

/// Returns the first offset and the end of each partition, as `consumer` sees them.
pub(super) fn offset_ranges<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: i32,
) -> Result<OffsetRanges, Failure> {
    let what = format!("ask for the offsets of topic {topic}");
    let failed = |error: KafkaError| Failure::from_client(&error, &what);
    // `Offset::Beginning` and `Offset::End` go into the request as the special times -2 and -1, which ask for the two ends.
    let ask = |end: Offset| {
        let list = list(topic, (0..partitions).map(|partition| (partition, end))).map_err(failed)?;
        let answer = consumer.offsets_for_times(list, ANSWER).map_err(failed)?;
        native::elements(&answer)
            .map(|element| match element.code {
                rdkafka::error::RDKafkaErrorCode::NoError => Ok((element.partition, element.offset)),
                code => Err(Failure::of(code, &what)),
            })
            .collect::<Result<BTreeMap<i32, i64>, Failure>>()
    };
    let (starts, ends) = (ask(Offset::Beginning)?, ask(Offset::End)?);
    Ok(ends.into_iter().map(|(partition, end)| (partition, starts.get(&partition).copied().unwrap_or_default()..end)).collect())
}

fn list(topic: &str, partitions: impl Iterator<Item = (i32, Offset)>) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}

fn length(offset_ranges: &OffsetRanges) -> u64 {
    offset_ranges.values().map(|range| (range.end - range.start).max(0) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Broker, Input, settings};
    use super::*;

    /// The number of records: more than the reader reads before it asks the owner.
    const MESSAGES: i64 = LOOK_EVERY as i64 + 100;

    /// Stops a reader once it has read a record, if `stops` is set.
    struct Impatient {
        stops: bool,
    }

    impl ReadObserver for Impatient {
        fn begin(&mut self, _: &str) {}

        fn reading(&mut self, read: u64, _: u64) -> bool {
            !self.stops || read == 0
        }

        fn wait(&mut self, _: Duration) -> bool {
            true
        }
    }

    #[test]
    fn a_reader_that_fails_goes_on_where_it_was() {
        let broker = Broker::start(settings());
        let messages: Vec<Input<'_>> = (0..MESSAGES).map(|_| (0, None, Some(&b"{}"[..]))).collect();
        broker.produce(&messages);
        let mut reader = Reader::open(&broker.settings.client, &broker.address, Duration::from_secs(60)).unwrap();
        let (mut left, mut seen) = (OffsetRanges::from([(0, 0..MESSAGES), (1, 0..0)]), Vec::new());
        let topic = &broker.settings.topics.input;
        let stopped = reader.read(topic, &mut left, &mut Impatient { stops: true }, |record| seen.push(record.offset));
        assert!(matches!(stopped, Err(Failure::Cancelled)), "{stopped:?}");
        assert_eq!(left, OffsetRanges::from([(0, seen.len() as i64..MESSAGES)]));
        assert!(!seen.is_empty() && seen.len() < MESSAGES as usize, "{} were read", seen.len());
        reader.read(topic, &mut left, &mut Impatient { stops: false }, |record| seen.push(record.offset)).unwrap();
        assert!(left.is_empty() && seen.into_iter().eq(0..MESSAGES), "each was read once");
    }
}
