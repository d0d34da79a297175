//! Helpers of the tests on a broker: they write messages, and read topics.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::program::PATIENCE;

/// The number of partitions of every topic, by the default configuration.
pub const PARTITIONS: i32 = 3;
/// A size limit larger than any message of the tests, in bytes.
pub const LARGEST_MESSAGE: &str = "4000000";

/// A record as it is written or was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// Returns the text of the last header with that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Returns the partition and offset of the input record, from the header `weir-source`.
    pub fn source(&self) -> (i32, i64) {
        let mut source = self.header("weir-source").unwrap_or_else(|| panic!("{self:?}")).rsplitn(3, '/');
        let offset = source.next().and_then(|offset| offset.parse().ok());
        let partition = source.next().and_then(|partition| partition.parse().ok());
        partition.zip(offset).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Returns the partition and offset of this record.
    pub fn place(&self) -> (i32, i64) {
        (self.partition, self.offset)
    }

    /// Returns the value, as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().unwrap_or_default()).unwrap()
    }
}

/// Writes `records` to `topic`, and returns when the broker has them.
pub fn write(brokers: &str, topic: &str, records: &[Record]) {
    let producer: BaseProducer = settings(brokers).set("message.max.bytes", LARGEST_MESSAGE).create().unwrap();
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_ref() }));
        let mut message = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition).headers(headers);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        message.timestamp = record.timestamp;
        producer.send(message).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// A reader of a topic from its beginning.
pub struct Reader {
    consumer: BaseConsumer,
    topic: &'static str,
    /// The records that were read so far. Those of one partition are in their order.
    pub records: Vec<Record>,
}

impl Reader {
    pub fn open(brokers: &str, topic: &'static str) -> Reader {
        let mut settings = settings(brokers);
        settings.set("group.id", "tests").set("enable.auto.commit", "false").set("fetch.message.max.bytes", LARGEST_MESSAGE);
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&partitions).unwrap();
        Reader { consumer, topic, records: Vec::new() }
    }

    /// Reads on until `enough` of the records is true, and returns all records.
    pub fn until(&mut self, what: &str, mut enough: impl FnMut(&[Record]) -> bool) -> &[Record] {
        let until = Instant::now() + PATIENCE;
        while !enough(&self.records) {
            let (read, topic) = (self.records.len(), self.topic);
            assert!(Instant::now() < until, "within {PATIENCE:?} {what} did not arrive at {topic}; {read} messages did");
            self.poll();
        }
        &self.records
    }

    /// Reads the next record, if there is one. Returns the number of all records so far.
    pub fn poll(&mut self) -> usize {
        if let Some(message) = self.consumer.poll(Duration::from_millis(50)) {
            self.records.push(record(&message.unwrap()));
        }
        self.records.len()
    }

    /// Reads all records that are in the topic.
    pub fn catch_up(&mut self) {
        let mut known = self.records.len();
        while self.poll() > known {
            known = self.records.len();
        }
    }

    /// Reads on until there are `count` records.
    pub fn count(&mut self, count: usize) -> &[Record] {
        self.until(&format!("all of {count} messages"), |records| records.len() >= count)
    }
}

pub fn settings(brokers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers);
    settings
}

pub fn record(message: &impl Message<Headers = impl Headers>) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
    }
}
