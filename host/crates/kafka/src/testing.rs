//! For tests: an embedded broker, and functions that write to it, read from it and make it fail.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
pub use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr as Code};

use super::Embedded;
use super::client;
use super::client_log::Quiet;
use super::native::Outgoing;
use super::producer::Producer;
use super::settings::{BatchLimits, ClientSettings, Delivery, Settings, Start, Topics};
use super::writer::header_list;
use weir_core::secret::Secret;

/// The most time that a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An embedded broker with the topics of a configuration.
pub struct Broker {
    pub settings: Settings,
    pub address: String,
    embedded: Embedded,
}

/// A record to be written to the input: partition, key, value.
pub type Input<'a> = (i32, Option<&'a str>, Option<&'a [u8]>);

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Received {
    /// Returns the value as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).unwrap()
    }

    /// Returns the last header with that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}

/// Returns the settings of a client as a configuration has them by default.
pub fn client() -> ClientSettings {
    ClientSettings {
        brokers: Some("localhost:9092".into()),
        group: "weir".into(),
        delivery: Delivery::ExactlyOnce,
        transactional_id: None,
        start: Start::Earliest,
        properties: BTreeMap::new(),
        headers: true,
    }
}

/// Returns settings for a broker inside the process.
pub fn settings() -> Settings {
    Settings {
        client: ClientSettings { brokers: None, delivery: Delivery::AtLeastOnce, properties: quick_rejoin(), ..client() },
        topics: Topics {
            input: "user-login".into(),
            output: "processed-user-login".into(),
            rejected: "user-login-rejected".into(),
            counts: "device_type_count".into(),
            create: true,
            partitions: 3,
            replication: 1,
            settings: BTreeMap::new(),
        },
        batch: BatchLimits { rows: 20_000, bytes: 4 << 20, linger: Duration::ZERO },
    }
}

/// Returns properties with a short session timeout. After its last member has left, the mock broker forms a group again only when
/// a session timeout has passed.
fn quick_rejoin() -> BTreeMap<String, Secret> {
    [("session.timeout.ms", "1500"), ("heartbeat.interval.ms", "300")].map(|(name, value)| (name.into(), value.into())).into()
}

impl Broker {
    pub fn start(settings: Settings) -> Broker {
        // The log is shown when a test fails. Only the first test of the process sets it up.
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::DEBUG).try_init();
        let embedded = Embedded::start(&settings.topics).unwrap();
        Broker { address: embedded.bootstrap_servers().unwrap(), settings, embedded }
    }

    /// Makes the next requests of a kind fail, one with each of `errors`.
    pub fn fail(&self, requests: Request, errors: &[Code]) {
        self.cluster().request_errors(requests, errors);
    }

    pub fn cluster(&self) -> MockCluster<'_, Quiet> {
        self.embedded.cluster().unwrap()
    }

    /// Writes records to the input, given as (partition, key, value). Returns when they are there.
    pub fn produce(&self, messages: &[Input<'_>]) {
        self.produce_with(messages, &[], None);
    }

    pub fn produce_with(&self, messages: &[Input<'_>], headers: &[(&str, &[u8])], timestamp: Option<i64>) {
        let settings = client::producer_settings(&self::settings().client, &self.address).unwrap();
        let mut producer = Producer::open(settings, Default::default()).unwrap();
        for (partition, key, value) in messages {
            let outgoing = Outgoing {
                topic: &self.settings.topics.input,
                partition: Some(*partition),
                key: key.map(str::as_bytes),
                value: *value,
                arena: None,
                timestamp,
                headers: (!headers.is_empty()).then(|| header_list(headers.iter().map(|(name, value)| (*name, Some(*value))))),
                tag: 0,
            };
            assert_eq!(producer.send(outgoing, &mut || false).unwrap(), None);
        }
        assert_eq!(producer.drain(&mut || false).unwrap(), []);
    }

    /// Writes a record to the input with a header of any name. The Rust client takes only UTF-8.
    pub fn produce_with_raw_header(&self, partition: i32, value: &[u8], name: &CStr) {
        use rdkafka::bindings::{rd_kafka_producev, rd_kafka_vtype_t as vtype};
        let settings = client::producer_settings(&self::settings().client, &self.address).unwrap();
        let producer: BaseProducer = settings.create().unwrap();
        let topic = CString::new(self.settings.topics.input.as_str()).unwrap();
        // SAFETY: every tag is followed by what it asks for, and librdkafka copies all of it.
        let code = unsafe {
            rd_kafka_producev(
                producer.client().native_ptr(),
                vtype::RD_KAFKA_VTYPE_TOPIC,
                topic.as_ptr(),
                vtype::RD_KAFKA_VTYPE_PARTITION,
                partition,
                vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                rdkafka::bindings::RD_KAFKA_MSG_F_COPY,
                vtype::RD_KAFKA_VTYPE_VALUE,
                value.as_ptr(),
                value.len(),
                vtype::RD_KAFKA_VTYPE_HEADER,
                name.as_ptr(),
                c"1".as_ptr(),
                1_isize,
                vtype::RD_KAFKA_VTYPE_END,
            )
        };
        assert_eq!(code, Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        producer.flush(PATIENCE).unwrap();
    }

    /// Reads `topic` from its beginning until `count` records have come, and returns them ordered by partition and offset.
    pub fn read(&self, topic: &str, count: usize) -> Vec<Received> {
        let mut settings = client::settings(&self.settings.client, &self.address).unwrap();
        settings.set("group.id", "reader").set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..self.settings.topics.partitions {
            partitions.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&partitions).unwrap();
        let mut received = Vec::new();
        let until = Instant::now() + PATIENCE;
        while received.len() < count {
            assert!(Instant::now() < until, "{count} messages expected on {topic}, but only {received:?} came");
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let mut headers = Vec::new();
                super::native::headers(&message, |name, value| headers.push((name.into_owned(), value.map(<[u8]>::to_vec))));
                received.push(Received {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers,
                });
            }
        }
        received.sort_by_key(|message| (message.partition, message.offset));
        received
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what} did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
