//! The sizes of records as the client sends them: each in a batch of its own, compressed.
//!
//! A topic's bound (`max.message.bytes`) is for compressed batches, so only a broker knows whether a record is too large. To ask
//! the broker costs a transaction. The first refusal ends that transaction, so one transaction can ask about only a few records.
//! Therefore the client itself compresses the records, with the settings of the real producer: it sends them to a broker within
//! this process, and this module sees the sizes of its requests. The sizes are exact.
//!
//! A broker may compress records again, and then checks both sizes against its bound. So a record that is too large here is
//! refused there. Whether the other records are taken, only the broker decides. The same is true of records that are larger than
//! the client sends at all.
//!
//! The broker within the process listens on loopback and knows no users. It refuses what Weir sends, so that it keeps nothing
//! that another process could read. It may keep what other processes send, within the memory of this process. Therefore it ends
//! when it has not been needed for a while.
//!
//! What this module leaves out: which records topics take, and what becomes of records that are too large.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::client;
use super::client_log::{ClientLog, Quiet};
use super::native::{LENGTH_BYTES, Outgoing, Sent, Topic, WatchedProducer};

/// The settings that decide how large a record is when it is sent.
const SETTINGS: [&str; 5] =
    ["compression.type", "compression.codec", "compression.level", "message.max.bytes", "message.copy.max.bytes"];
/// The topic that records are sent to, in order to be weighed.
const TOPIC: &str = "scale";
/// The most time in which the records of a call are compressed and sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts while the queue is full.
const PAUSE: Duration = Duration::from_micros(200);
/// The time after which the broker ends if it was not needed.
const REST: Duration = Duration::from_secs(5);
/// The time for which nothing is weighed after a failure.
const BROKEN_FOR: Duration = Duration::from_secs(60);
/// The largest record that the client sends by default, in bytes.
const LARGEST: usize = 1_000_000;

/// The bytes that a batch takes beside its records.
const BATCH_OVERHEAD: usize = 61;
/// The most bytes that a record takes beside key, value and headers: its length, attributes, timestamp, offset, and three more
/// lengths.
const RECORD_OVERHEAD: usize = 5 * LENGTH_BYTES + 3;
/// A value that no codec makes smaller, and the size of its batch in bytes.
const INCOMPRESSIBLE: &[u8] = b"x";
const LIGHT_BATCH: usize = BATCH_OVERHEAD + 8;
/// A value that every codec makes much smaller.
const COMPRESSIBLE: &[u8] = &[0; 10_000];
/// The first version of the produce request in which a length takes as many bytes as it needs. Before, it takes four.
const FLEXIBLE: i16 = 9;

/// The means to weigh records. It is opened at the first need.
#[derive(Default)]
pub(super) enum Scale {
    #[default]
    Unused,
    /// The open weigher, and the time at which it was last needed.
    Works(Box<Weigher>, Instant),
    /// Weighing has failed at this time.
    Broken(Instant),
}

impl Scale {
    /// Returns, for each of `records`, whether it is larger than `limit` bytes if a producer with `settings` sends it. A record
    /// that can't be weighed counts as not larger.
    pub(super) fn larger(&mut self, settings: &ClientConfig, records: Vec<Outgoing<'_>>, limit: usize) -> Vec<bool> {
        let sendable = largest(settings);
        let is_suspect = |bytes: usize| bytes > limit && bytes <= sendable;
        let suspects: Vec<bool> = records.iter().map(|record| is_suspect(at_most(record))).collect();
        if !suspects.contains(&true) {
            return suspects;
        }
        let suspected = records.into_iter().zip(&suspects).filter_map(|(record, suspect)| suspect.then_some(record));
        let sizes = self.weigh(settings, suspected.collect());
        let mut sizes = sizes.into_iter().flatten();
        suspects.iter().map(|suspect| *suspect && sizes.next().is_some_and(|size| size > limit)).collect()
    }

    fn weigh(&mut self, settings: &ClientConfig, records: Vec<Outgoing<'_>>) -> Option<Vec<usize>> {
        let is_due = match self {
            Scale::Unused => true,
            Scale::Works(..) => false,
            Scale::Broken(since) => since.elapsed() >= BROKEN_FOR,
        };
        if is_due {
            *self = Weigher::open(settings).map_or_else(Scale::broken, |weigher| Scale::Works(Box::new(weigher), Instant::now()));
        }
        let Scale::Works(weigher, used) = self else { return None };
        *used = Instant::now();
        weigher.weigh(records).map_err(|error| *self = Scale::broken(error)).ok()
    }

    /// Closes a weigher that was not needed for a while. To be called now and then.
    pub(super) fn rest(&mut self) {
        if matches!(self, Scale::Works(_, used) if used.elapsed() >= REST) {
            *self = Scale::Unused;
        }
    }

    fn broken(error: anyhow::Error) -> Scale {
        tracing::warn!("records can't be weighed: each one that is too large for its topic costs time: {error:#}");
        Scale::Broken(Instant::now())
    }
}

/// Returns a bound on the size of the batch that has only `record`, in bytes.
fn at_most(record: &Outgoing<'_>) -> usize {
    let headers = record.headers.as_ref().map_or(0, |headers| headers.bytes());
    BATCH_OVERHEAD + RECORD_OVERHEAD + headers + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
}

/// A producer that sends each record in a batch of its own.
pub(super) struct Weigher {
    /// It is the first field, so that it is dropped before its producer.
    topic: Topic,
    producer: WatchedProducer<Quiet>,
    /// The bytes that a request takes beside its batch and the length of the batch.
    overhead: usize,
}

impl Weigher {
    fn open(settings: &ClientConfig) -> anyhow::Result<Weigher> {
        let producer = WatchedProducer::open(&sending(settings), Quiet(Arc::new(ClientLog::silent())))?;
        producer.client().mock_cluster().context("there is no broker")?.create_topic(TOPIC, 1, 1)?;
        let topic = Topic::open(producer.client(), TOPIC).context("there is no topic")?;
        let mut weigher = Weigher { topic, producer, overhead: 0 };
        let sent = weigher.send(vec![alone(INCOMPRESSIBLE)])?[0];
        weigher.overhead = sent.bytes - LIGHT_BATCH - length_bytes(sent.version, LIGHT_BATCH);
        let hollow = weigher.weigh(vec![alone(COMPRESSIBLE)])?[0];
        match compresses(settings) && hollow > COMPRESSIBLE.len() / 2 {
            true => Err(anyhow!("nothing is compressed")),
            false => Ok(weigher),
        }
    }

    /// Returns the size of each of `records` in a batch of its own, in bytes.
    fn weigh(&mut self, records: Vec<Outgoing<'_>>) -> anyhow::Result<Vec<usize>> {
        let sent = self.send(records)?;
        sent.iter().map(|sent| batch_bytes(*sent, self.overhead).context("a request is too small")).collect()
    }

    fn send(&mut self, records: Vec<Outgoing<'_>>) -> anyhow::Result<Vec<Sent>> {
        let (count, until) = (records.len(), Instant::now() + PATIENCE);
        let cluster = self.producer.client().mock_cluster().context("there is no broker")?;
        cluster.request_errors(RDKafkaApiKey::Produce, &vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; count]);
        for record in records {
            let mut record = Outgoing { partition: Some(0), tag: 0, ..record };
            while let Err(code) = self.topic.send(&mut record) {
                if code != RDKafkaErrorCode::QueueFull || Instant::now() >= until {
                    return Err(anyhow!("the client does not take a record: {code}"));
                }
                thread::sleep(PAUSE);
            }
        }
        let sent = self.producer.take(count, until.saturating_duration_since(Instant::now()));
        // More requests than records would mean that a record was sent twice.
        match sent.len() == count {
            true => Ok(sent),
            false => Err(anyhow!("{} requests were seen, of {count}", sent.len())),
        }
    }
}

/// Returns the settings of a producer that sends each record alone, but compresses it as a producer with `settings` does.
fn sending(settings: &ClientConfig) -> ClientConfig {
    let mut sending = ClientConfig::new();
    sending.set_log_level(RDKafkaLogLevel::Error);
    let same = SETTINGS.iter().filter_map(|name| settings.get(name).map(|value| (*name, value)));
    let own = [
        ("test.mock.num.brokers", "1"),
        ("batch.num.messages", "1"),
        ("linger.ms", "0"),
        ("message.send.max.retries", "0"),
        ("queue.buffering.max.kbytes", client::UNSENT_KIB),
    ];
    sending.extend(same.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())));
    sending
}

/// Returns the size of the largest record that a producer with `settings` sends and that fits into this producer's queue, in
/// bytes.
fn largest(settings: &ClientConfig) -> usize {
    let bytes = settings.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(LARGEST);
    let queue = client::UNSENT_KIB.parse::<usize>().expect("it is a number") << 10;
    bytes.min(queue)
}

fn compresses(settings: &ClientConfig) -> bool {
    let codec = settings.get("compression.type").or(settings.get("compression.codec"));
    codec.is_some_and(|codec| !matches!(codec, "none" | "inherit"))
}

fn alone(value: &[u8]) -> Outgoing<'_> {
    let (topic, partition, value) = (TOPIC, Some(0), Some(value));
    Outgoing { topic, partition, key: None, value, arena: None, timestamp: None, headers: None, tag: 0 }
}

/// Returns the size of the batch in `sent`, in bytes. A request takes `overhead` bytes beside the batch and the length of the
/// batch. Returns None if no size fits.
fn batch_bytes(sent: Sent, overhead: usize) -> Option<usize> {
    let both = sent.bytes.checked_sub(overhead)?;
    (1..=LENGTH_BYTES)
        .filter_map(|length| both.checked_sub(length))
        .find(|batch| batch + length_bytes(sent.version, *batch) == both)
}

/// Returns the number of bytes in which a request of this version writes the length of a batch of `batch` bytes.
fn length_bytes(version: i16, batch: usize) -> usize {
    match version >= FLEXIBLE {
        true => (usize::BITS - (batch + 1).leading_zeros()).div_ceil(7) as usize,
        false => size_of::<i32>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(codec: &str) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("compression.type", codec).set("message.max.bytes", "16777216");
        settings
    }

    fn weigh(codec: &str, values: &[&[u8]]) -> Vec<usize> {
        let mut scale = Scale::default();
        scale.weigh(&settings(codec), values.iter().map(|value| alone(value)).collect()).unwrap()
    }

    #[test]
    fn records_weigh_what_the_protocol_says() {
        let values = [1, 50, 60, 110, 130, 300, 8_000, 16_200, 16_400, 2_000_000, 3_000_000].map(|size| vec![0; size]);
        let weighed = weigh("none", &values.each_ref().map(Vec::as_slice));
        let length = |bytes: usize| (usize::BITS - (2 * bytes).leading_zeros()).div_ceil(7).max(1) as usize;
        let record = |value: usize| 5 + length(value) + value;
        let batch = |value: usize| BATCH_OVERHEAD + length(record(value)) + record(value);
        assert_eq!(weighed, values.map(|value| batch(value.len())));
    }

    #[test]
    fn they_are_compressed_with_each_codec() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5_000).collect();
        for codec in ["gzip", "snappy", "lz4", "zstd"] {
            let weighed = weigh(codec, &[COMPRESSIBLE, &noise, COMPRESSIBLE]);
            assert!(weighed[0] < 1_000 && weighed[1] > 5_000 && weighed[2] == weighed[0], "{codec}: {weighed:?}");
        }
    }

    #[test]
    fn only_what_is_larger_than_the_limit_is_told() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(700).collect();
        let records = || vec![alone(b"small"), alone(COMPRESSIBLE), alone(&noise), alone(&noise[..600])];
        let mut scale = Scale::default();
        assert_eq!(scale.larger(&settings("lz4"), records(), 700), [false, false, true, false]);
        let exact = weigh("lz4", &[&noise])[0];
        assert_eq!(scale.larger(&settings("lz4"), records(), exact), [false; 4], "as large as the limit is not too large");
        assert!(scale.larger(&settings("lz4"), records(), exact - 1)[2]);
    }

    #[test]
    fn a_scale_that_was_not_needed_for_a_while_is_put_away_and_had_again() {
        let mut scale = Scale::default();
        let larger = |scale: &mut Scale| scale.larger(&settings("lz4"), vec![alone(COMPRESSIBLE)], 1);
        assert_eq!(larger(&mut scale), [true]);
        scale.rest();
        let Scale::Works(_, used) = &mut scale else { panic!("it was needed a moment ago") };
        *used -= REST;
        scale.rest();
        assert!(matches!(scale, Scale::Unused));
        assert_eq!(larger(&mut scale), [true]);
    }

    #[test]
    fn a_scale_that_can_t_be_had_finds_nothing_too_large() {
        let mut scale = Scale::default();
        let large = vec![b'x'; 10_000];
        assert_eq!(scale.larger(&settings("no codec"), vec![alone(&large)], 100), [false]);
        assert!(matches!(scale, Scale::Broken(_)));
    }

    #[test]
    fn what_the_client_does_not_send_is_not_weighed_and_breaks_nothing() {
        let (huge, larger) = (vec![0; 20 << 20], vec![0; 40 << 20]);
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5_000).collect();
        for most in ["16777216", "100000000"] {
            let (mut scale, mut settings) = (Scale::default(), settings("none"));
            settings.set("message.max.bytes", most);
            let records = vec![alone(&huge), alone(&larger), alone(&noise)];
            assert_eq!(scale.larger(&settings, records, 1_000)[1..], [false, true], "{most}");
            assert!(matches!(scale, Scale::Works(..)));
        }
    }

    #[test]
    fn a_batch_is_found_in_requests_of_old_and_new_versions() {
        for (version, batch) in [(7, 69), (7, 2_000_000), (9, 126), (9, 127), (10, 16_382), (10, 16_383), (10, 5_000_000)] {
            let sent = Sent { version, bytes: 40 + length_bytes(version, batch) + batch };
            assert_eq!(batch_bytes(sent, 40), Some(batch), "{version}, {batch}");
        }
    }
}
