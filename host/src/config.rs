//! Configuration: what was written (raw) becomes what is meant (validated). Every default stands here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub kafka: Kafka,
    pub topics: Topics,
    pub batch: Batch,
    pub counts: Counts,
    pub rules: Vec<Rule>,
}

/// How to reach Kafka. `[kafka]`
#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// `host:port,…`, or none for the embedded broker (`brokers = "embedded"`).
    pub brokers: Option<String>,
    pub group: String,
    /// Passed to librdkafka as they are. `[kafka.properties]`
    pub properties: BTreeMap<String, String>,
    /// Add the headers `weir-ruleset` and `weir-source` to outputs.
    pub headers: bool,
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
pub struct Batch {
    pub rows: usize,
    pub bytes: usize,
    pub linger: Duration,
}

/// The device counts. `[counts]`
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// The member whose values are counted.
    pub member: String,
    pub every: Duration,
    pub emit_empty: bool,
}

/// One rule of the pipeline, in its order. `[rules] folder, pipeline`, `[rule.NAME]`, `[rule.NAME.config]`
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// `folder/NAME.wasm` unless `file` says otherwise.
    pub file: PathBuf,
    /// `on_reject = "drop"`: count what it rejects, produce no dead letter.
    pub drop: bool,
    /// Largest linear memory, bytes.
    pub memory: usize,
    /// Longest time for one batch.
    pub deadline: Duration,
    /// What the rule's `configure` gets, a JSON object.
    pub config: serde_json::Value,
}
