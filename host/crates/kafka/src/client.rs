//! Client settings.
//!
//! The settings come in three layers: defaults that suit this engine, over them the properties of `[kafka.properties]`, and over
//! those the settings that the engine's promises rest on. A property of the last layer can't be overridden: [`super::properties`]
//! refuses it with the reason.
//!
//! The memory of clients is bounded here. [`FETCHED_AHEAD_KIB`] bounds the records that are fetched ahead, except for what one
//! fetch unpacks to (see [`FETCH_BYTES`]). [`UNSENT_KIB`] bounds the records that wait to be sent. If the operator allows larger
//! records (`message.max.bytes`), a fetch may bring more, and more may wait.

use std::time::Duration;

use anyhow::anyhow;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::properties;
use super::settings::ClientSettings;

/// The records that are fetched but not yet read, in KiB over all partitions. Some batches' worth: a batch never waits for a
/// fetch.
const FETCHED_AHEAD_KIB: &str = "4096";
/// The number of records of one partition that are fetched but not yet read. At this number the client asks for no more. It is a
/// twentieth of the default: the larger default takes more memory and saves no time.
const FETCHED_AHEAD: &str = "5000";
/// The time for which the group waits for a process that does not report, in milliseconds. After it, other processes get the
/// partitions of that process. A process that was killed waits as long when it comes back, so this is the least that brokers
/// allow by default.
const SESSION_MILLIS: &str = "6000";
/// The time between two reports of a process to the group, in milliseconds: two reports may be lost.
const HEARTBEAT_MILLIS: &str = "2000";
/// The largest answer to a fetch, in bytes. The answer takes memory in addition to the records that were fetched before. All its
/// batches are unpacked together, and no bound on memory holds for what they unpack to. README.md says how the operator sets a
/// bound.
const FETCH_BYTES: usize = 2_097_152;
/// The part of one partition in an answer to a fetch, in bytes; a single batch may be larger. A fourth of the default takes less
/// memory, and no more time, because an answer then has records of more partitions.
const FETCH_PARTITION_BYTES: &str = "262144";
/// The largest answer of a broker, and the most that a batch compressed with zstd may unpack to, in bytes. This is the largest
/// value that librdkafka takes. It takes no memory by itself. With librdkafka's default of 100 MB the client would call a batch
/// damaged that a broker takes.
const RECEIVED_BYTES: &str = "2147483647";
/// The records that wait to be sent or acknowledged, in KiB. When this is reached, sending waits.
pub(super) const UNSENT_KIB: &str = "32768";
/// The largest record that the client tries to send, in bytes. The broker decides what a topic takes.
const LARGEST_RECORD: &str = "16777216";
/// The longest time that a record may wait for its acknowledgement, in milliseconds. It is longer than a partition is without a
/// leader in a rolling restart, and shorter than the time for which the consumer may go without a poll (`max.poll.interval.ms`,
/// 5 min).
const DELIVERY_MILLIS: &str = "60000";
/// The longest time that a transaction may be open, in milliseconds. Readers of committed records wait until a killed process is
/// back, or its transaction has timed out. Therefore the time is not longer. A broker that needs more time to answer can't be
/// worked with anyway.
const TRANSACTION_MILLIS: &str = "15000";
/// The time after which the client sends a request again, in milliseconds. The client subtracts up to a fifth. The time is long
/// enough for an answer from a cluster in another region: such an answer is not mistaken for the answer to a second attempt.
const RETRY_MILLIS: &str = "250";
/// The longest pause before a client tries again to reach a broker, in milliseconds. The default of ten seconds would be added to
/// an outage that is over. Java's clients do not wait longer than this either.
const RECONNECT_MILLIS: &str = "1000";
/// The time that a broker may take to say which versions it speaks, in milliseconds. It is for clients that only ask. The default
/// is 10 s.
const ANSWER_MILLIS: &str = "3000";
/// The time that the setup of a connection may take, TLS included, in milliseconds. It is for clients that only ask. The default
/// is 30 s.
const SETUP_MILLIS: &str = "5000";
/// The largest batch of records that is sent in one go, in bytes, unless a topic takes less. It is librdkafka's default.
pub(super) const BATCH_BYTES: u32 = 1_000_000;

/// Returns the settings of every client.
///
/// # Errors
/// If a property must not be overridden.
pub fn settings(kafka: &ClientSettings, brokers: &str) -> anyhow::Result<ClientConfig> {
    properties::reserved(&kafka.properties).map_err(|unusable| anyhow!("{unusable}"))?;
    let mut settings = ClientConfig::new();
    let is_debugged = kafka.properties.contains_key("debug");
    settings.set_log_level(if is_debugged { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    settings.set("client.id", "weir");
    settings.set("socket.keepalive.enable", "true");
    settings.set("topic.metadata.refresh.interval.ms", "60000");
    settings.set("reconnect.backoff.max.ms", RECONNECT_MILLIS);
    settings.extend(kafka.properties.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())));
    settings.set("bootstrap.servers", brokers);
    // The search for a missing topic must not create it with the broker's defaults.
    settings.set("allow.auto.create.topics", "false");
    Ok(settings)
}

/// Returns the settings of every kind of consumer: those of [`settings`], and those that librdkafka compares with properties of
/// the operator.
fn reading_settings(kafka: &ClientSettings, brokers: &str) -> anyhow::Result<ClientConfig> {
    let mut settings = settings(kafka, brokers)?;
    let fetched = FETCH_BYTES.max(largest_record(kafka)).to_string();
    set_unless_given(&mut settings, kafka, "fetch.max.bytes", &fetched);
    set_unless_given(&mut settings, kafka, "session.timeout.ms", SESSION_MILLIS);
    Ok(settings)
}

/// Returns the settings of a consumer that only asks: those of [`reading_settings`], and short time limits. So the consumer soon
/// reports a connection that is accepted but on which nothing is answered.
///
/// # Errors
/// If a property must not be overridden.
pub fn probe_settings(kafka: &ClientSettings, brokers: &str) -> anyhow::Result<ClientConfig> {
    let mut settings = reading_settings(kafka, brokers)?;
    set_unless_given(&mut settings, kafka, "api.version.request.timeout.ms", ANSWER_MILLIS);
    set_unless_given(&mut settings, kafka, "socket.connection.setup.timeout.ms", SETUP_MILLIS);
    Ok(settings)
}

/// Returns the settings of the consumer that reads records, on top of [`reading_settings`].
pub fn consumer_settings(kafka: &ClientSettings, brokers: &str) -> anyhow::Result<ClientConfig> {
    let mut settings = reading_settings(kafka, brokers)?;
    for (name, value) in [
        ("queued.max.messages.kbytes", FETCHED_AHEAD_KIB),
        ("receive.message.max.bytes", RECEIVED_BYTES),
        // When the bound is reached, the next fetch waits this long. The default of a second would starve the loop.
        ("fetch.queue.backoff.ms", "10"),
        ("queued.min.messages", FETCHED_AHEAD),
        ("fetch.message.max.bytes", FETCH_PARTITION_BYTES),
        ("heartbeat.interval.ms", HEARTBEAT_MILLIS),
    ] {
        set_unless_given(&mut settings, kafka, name, value);
    }
    if kafka.brokers.is_none() {
        // The embedded broker lets a fetch wait its full time even if records arrive. The default is half a second.
        set_unless_given(&mut settings, kafka, "fetch.wait.max.ms", "50");
    }
    settings.set("group.id", &kafka.group);
    settings.set("enable.auto.commit", "false");
    settings.set("enable.auto.offset.store", "false");
    // Only the event of a partition's end tells that entries that are no records, such as the marker of a commit, were passed.
    settings.set("enable.partition.eof", "true");
    // The engine decides where a group begins. After that, an offset that is gone is an error.
    settings.set("auto.offset.reset", "error");
    settings.set("isolation.level", "read_committed");
    settings.set("partition.assignment.strategy", "range");
    Ok(settings)
}

/// Returns the settings of a producer, on top of [`settings`].
pub fn producer_settings(kafka: &ClientSettings, brokers: &str) -> anyhow::Result<ClientConfig> {
    let mut settings = settings(kafka, brokers)?;
    let unsent = UNSENT_KIB.parse::<usize>()?.max(largest_record(kafka).div_ceil(1 << 10)).to_string();
    for (name, value) in [
        ("queue.buffering.max.kbytes", unsent.as_str()),
        ("message.max.bytes", LARGEST_RECORD),
        ("delivery.timeout.ms", DELIVERY_MILLIS),
        // A record is sent at once, or with those that gather while the requests before it are unanswered.
        ("linger.ms", "0"),
        ("compression.type", "lz4"),
    ] {
        set_unless_given(&mut settings, kafka, name, value);
    }
    settings.set("enable.idempotence", "true");
    settings.set("acks", "all");
    settings.set("partitioner", "murmur2_random");
    // A report for each record would cost more than writing the record into a batch.
    settings.set("delivery.report.only.error", "true");
    Ok(settings)
}

/// Returns the settings of a producer of transactions, on top of [`producer_settings`].
pub fn transactional_settings(kafka: &ClientSettings, brokers: &str, id: &str) -> anyhow::Result<ClientConfig> {
    let mut settings = producer_settings(kafka, brokers)?;
    set_unless_given(&mut settings, kafka, "transaction.timeout.ms", TRANSACTION_MILLIS);
    // Readers see a record only after the commit, and before the commit all records are flushed. So fuller batches cost no time.
    set_unless_given(&mut settings, kafka, "linger.ms", "5");
    // The client refuses a time for one record that is longer than the time for the whole transaction.
    if !kafka.properties.contains_key("delivery.timeout.ms") && !kafka.properties.contains_key("message.timeout.ms") {
        settings.remove("delivery.timeout.ms");
    }
    settings.set("retry.backoff.ms", RETRY_MILLIS);
    settings.set("transactional.id", id);
    Ok(settings)
}

/// Other names that librdkafka has for the properties above.
const ALIASES: &[(&str, &str)] = &[
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("compression.type", "compression.codec"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
];

/// Returns the error for a client that can't be made. The error leaves out values, because passwords are among them.
pub(super) fn refused(error: &KafkaError) -> anyhow::Error {
    let problem = match error {
        KafkaError::ClientConfig(_, _, name, _) => format!("librdkafka does not take `{name}`"),
        error => error.to_string(),
    };
    anyhow!("failed to set up a client of Kafka: {problem}: check `[kafka.properties]`")
}

/// Returns `wait` in whole milliseconds, rounded up. The client waits for whole milliseconds only, and would spend the rest
/// asking without a pause.
pub fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(wait.as_micros().div_ceil(1_000) as u64)
}

/// Returns the largest record that the operator allows, in bytes. Returns 0 if the operator sets no bound.
fn largest_record(kafka: &ClientSettings) -> usize {
    let given = kafka.properties.get("message.max.bytes");
    given.and_then(|bytes| bytes.reveal().parse().ok()).unwrap_or_default()
}

fn set_unless_given(settings: &mut ClientConfig, kafka: &ClientSettings, name: &str, value: &str) {
    let alias = ALIASES.iter().find(|(known, _)| *known == name).map(|(_, alias)| *alias);
    if !kafka.properties.contains_key(name) && !alias.is_some_and(|alias| kafka.properties.contains_key(alias)) {
        settings.set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(properties: &[(&str, &str)]) -> ClientSettings {
        let properties = properties.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect();
        ClientSettings { properties, ..crate::testing::client() }
    }

    #[test]
    fn properties_are_passed_through_and_win_over_defaults() {
        let kafka = kafka(&[("security.protocol", "SASL_SSL"), ("linger.ms", "50"), ("compression.codec", "zstd")]);
        let settings = producer_settings(&kafka, "broker:9092").unwrap();
        assert_eq!(settings.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(settings.get("linger.ms"), Some("50"));
        assert_eq!(settings.get("compression.type"), None, "it would compete with its alias");
        let reading = consumer_settings(&self::kafka(&[("max.partition.fetch.bytes", "1000")]), "broker:9092").unwrap();
        assert_eq!(reading.get("fetch.message.max.bytes"), None, "its alias is Java's name");
        assert_eq!(settings.get("enable.idempotence"), Some("true"));
    }

    #[test]
    fn what_is_asked_to_be_debugged_is_told() {
        let level = |properties: &[(&str, &str)]| settings(&kafka(properties), "broker:9092").unwrap().log_level;
        assert!(matches!(level(&[("debug", "cgrp")]), RDKafkaLogLevel::Debug));
        assert!(matches!(level(&[]), RDKafkaLogLevel::Info));
    }

    #[test]
    fn a_record_that_people_allow_fits_into_a_fetch_and_into_the_queue_unless_they_bound_these_as_well() {
        let bounds = |properties: &[(&str, &str)]| {
            let (kafka, all) = (kafka(properties), [probe_settings, consumer_settings, producer_settings]);
            let [probe, consumer, producer] = all.map(|settings| settings(&kafka, "broker:9092").unwrap());
            let get = |settings: &ClientConfig, name: &str| settings.get(name).unwrap().to_owned();
            assert_eq!(get(&probe, "fetch.max.bytes"), get(&consumer, "fetch.max.bytes"));
            [get(&consumer, "fetch.max.bytes"), get(&producer, "queue.buffering.max.kbytes")]
        };
        let largest = |bytes: &str| bounds(&[("message.max.bytes", bytes)]);
        assert_eq!(bounds(&[]), ["2097152", UNSENT_KIB]);
        assert_eq!(largest("20000"), bounds(&[]));
        assert_eq!(largest("33554432"), ["33554432", UNSENT_KIB]);
        assert_eq!(largest("67108865"), ["67108865", "65537"]);
        let given = [("message.max.bytes", "67108864"), ("fetch.max.bytes", "70000000"), ("queue.buffering.max.kbytes", "7")];
        assert_eq!(bounds(&given), ["70000000", "7"]);
    }

    #[test]
    fn librdkafka_takes_the_settings() {
        probe_settings(&kafka(&[]), "broker:9092").unwrap().create_native_config().unwrap();
        consumer_settings(&kafka(&[]), "broker:9092").unwrap().create_native_config().unwrap();
        producer_settings(&kafka(&[]), "broker:9092").unwrap().create_native_config().unwrap();
    }
}
