//! What the Kafka side is told: how to reach the cluster, the topics, and how large a batch may get.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_core::secret::Secret;

/// All that this side is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub client: ClientSettings,
    pub topics: Topics,
    pub batch: BatchLimits,
}

/// How clients reach the cluster, and as whom. `[kafka]`
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// `host:port,…`, or none for the embedded broker (`brokers = "embedded"`).
    pub brokers: Option<String>,
    pub group: String,
    pub delivery: Delivery,
    /// None: made from the group and the name of the host.
    pub transactional_id: Option<String>,
    pub start: Start,
    /// Passed to librdkafka as they are; passwords are among them. `[kafka.properties]`
    pub properties: BTreeMap<String, Secret>,
    /// Add the headers `weir-ruleset` and `weir-source` to outputs.
    pub headers: bool,
}

/// What is promised of every message. `kafka.delivery`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Outputs, dead letters, counts and offsets are committed in one transaction.
    ExactlyOnce,
    /// Offsets are committed after the outputs: after a fault some messages are processed again. Always so on the embedded
    /// broker, which has no transactions.
    AtLeastOnce,
}

/// Where a group begins that has no offsets yet. `kafka.start`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first message that is there.
    Earliest,
    /// With what arrives from now on.
    Latest,
    /// With the first message of this time, in milliseconds since the epoch, or a later one.
    At(i64),
}

/// The topics, and how missing ones are created. `[topics]`
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    pub input: String,
    pub output: String,
    pub rejected: String,
    pub counts: String,
    pub create: bool,
    pub partitions: i32,
    pub replication: i32,
    /// Topic settings for topics that are created, such as `retention.ms`. `[topics.settings]`
    pub settings: BTreeMap<String, String>,
}

/// How large a batch may get. `[batch]`
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLimits {
    pub rows: usize,
    pub bytes: usize,
    pub linger: Duration,
}
