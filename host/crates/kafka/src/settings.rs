//! The settings of the Kafka side: how to reach the cluster, the topics, and how large a batch may get.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_core::secret::Secret;

/// All settings of the Kafka side.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub client: ClientSettings,
    pub topics: Topics,
    pub batch: BatchLimits,
}

/// The cluster, how clients reach it, and who they are there. `[kafka]`
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// The addresses `host:port,…`. None for the embedded broker (`brokers = "embedded"`).
    pub brokers: Option<String>,
    pub group: String,
    pub delivery: Delivery,
    /// None: the id is made from the group and the name of the host.
    pub transactional_id: Option<String>,
    pub start: Start,
    /// Properties that are passed to librdkafka as they are. Passwords are among them. `[kafka.properties]`
    pub properties: BTreeMap<String, Secret>,
    /// True if outputs get the headers `weir-ruleset` and `weir-source`.
    pub headers: bool,
}

/// The promise for every record. `kafka.delivery`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Outputs, dead letters, counts and offsets are committed in one transaction.
    ExactlyOnce,
    /// Offsets are committed after the outputs, so after a fault some records are processed again. The embedded broker has no
    /// transactions, so this delivery is always used with it.
    AtLeastOnce,
}

/// The position at which a group begins if it has no offsets yet. `kafka.start`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record that is there.
    Earliest,
    /// The records that arrive from now on.
    Latest,
    /// The first record of this time, in milliseconds since the epoch, or of a later time.
    At(i64),
}

/// The topics, and how missing topics are created. `[topics]`
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    pub input: String,
    pub output: String,
    pub rejected: String,
    pub counts: String,
    pub create: bool,
    pub partitions: i32,
    pub replication: i32,
    /// Topic settings for the topics that are created, such as `retention.ms`. `[topics.settings]`
    pub settings: BTreeMap<String, String>,
}

/// The limits of a batch. `[batch]`
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLimits {
    pub rows: usize,
    pub bytes: usize,
    pub linger: Duration,
}
