//! Client settings, and how librdkafka's troubles are told: once each, with fields, and not again for a minute.
//!
//! Settings come in three layers: what suits this engine, over that whatever `[kafka.properties]` says, over that what the
//! engine's promises rest on. Of the last nothing may be overridden; [`check`] refuses it with the reason.
//!
//! Memory is bounded here: what is fetched ahead by [`FETCHED_AHEAD_KIB`], what waits to be sent by [`UNSENT_KIB`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config;

/// Fetched but not yet read messages, in KiB over all partitions. Some batches' worth: a batch never waits for a fetch.
const FETCHED_AHEAD_KIB: &str = "16384";
/// The largest answer to a fetch, in bytes. It is held beside what was fetched before.
const FETCH_BYTES: &str = "8388608";
/// Messages that wait to be sent or acknowledged, in KiB. Past it, sending waits.
const UNSENT_KIB: &str = "32768";
/// The largest record that the client tries to send, in bytes. What a topic takes is for the broker to judge.
const LARGEST_RECORD: &str = "16777216";
/// The longest time that a record may wait for its acknowledgement, in milliseconds. Longer than a rolling restart keeps a
/// partition without a leader, shorter than the consumer may go without a poll (`max.poll.interval.ms`, 5 min).
const DELIVERY_MILLIS: &str = "60000";
/// The largest batch of records that is sent in one go unless a topic takes less: librdkafka's default.
pub(super) const BATCH_BYTES: u32 = 1_000_000;
/// How long the same trouble is not told again.
const QUIET: Duration = Duration::from_secs(60);
/// How many different troubles are remembered.
const MAX_TOLD: usize = 64;

/// Properties that cannot be passed through, and why.
const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `kafka.brokers`"),
    ("metadata.broker.list", "set `kafka.brokers`"),
    ("group.id", "set `kafka.group`"),
    ("group.protocol", "the engine serves rebalances of the classic protocol"),
    ("enable.auto.commit", "offsets are committed after the outputs, never before"),
    ("enable.auto.offset.store", "offsets are committed after the outputs, never before"),
    ("auto.commit.interval.ms", "offsets are committed after the outputs, never before"),
    ("auto.offset.reset", "a group without offsets starts at the earliest message, so that none is lost"),
    ("isolation.level", "only committed messages are read"),
    ("partition.assignment.strategy", "partitions are given up before others take them, which needs an eager strategy"),
    ("enable.partition.eof", "the end of a partition is nothing special"),
    ("transactional.id", "the engine chooses it"),
    ("enable.idempotence", "order and acknowledgements rest on it"),
    ("acks", "a message is done when all replicas have it"),
    ("request.required.acks", "a message is done when all replicas have it"),
    ("partitioner", "keys have to meet the partitions that Java clients choose"),
    ("queuing.strategy", "messages are never reordered"),
    ("log.queue", "the client needs it"),
    ("test.mock.num.brokers", "set `kafka.brokers = \"embedded\"`"),
];

/// Refuses properties that the engine's promises rest on.
///
/// # Errors
/// Names the first one, and what to do instead.
pub fn check(properties: &BTreeMap<String, String>) -> anyhow::Result<()> {
    for (name, reason) in RESERVED {
        if properties.contains_key(*name) {
            bail!("`{name}` cannot be set under `[kafka.properties]`: {reason}");
        }
    }
    Ok(())
}

/// What every client has.
///
/// # Errors
/// If a property is not to be overridden.
pub fn settings(kafka: &config::Kafka, brokers: &str) -> anyhow::Result<ClientConfig> {
    check(&kafka.properties)?;
    let mut settings = ClientConfig::new();
    settings.set_log_level(RDKafkaLogLevel::Info);
    settings.set("client.id", "weir");
    settings.set("socket.keepalive.enable", "true");
    settings.set("topic.metadata.refresh.interval.ms", "60000");
    settings.extend(kafka.properties.clone());
    settings.set("bootstrap.servers", brokers);
    // Looking for a missing topic must not bring it into being with the broker's defaults.
    settings.set("allow.auto.create.topics", "false");
    Ok(settings)
}

/// What the consumer has on top of [`settings`].
pub fn consumer_settings(kafka: &config::Kafka, brokers: &str) -> anyhow::Result<ClientConfig> {
    let mut settings = settings(kafka, brokers)?;
    for (name, value) in [
        ("queued.max.messages.kbytes", FETCHED_AHEAD_KIB),
        ("fetch.max.bytes", FETCH_BYTES),
        // Once the bound is met the next fetch waits this long; the default of a second would starve the loop.
        ("fetch.queue.backoff.ms", "10"),
    ] {
        set_unless_given(&mut settings, kafka, name, value);
    }
    settings.set("group.id", &kafka.group);
    settings.set("enable.auto.commit", "false");
    settings.set("enable.auto.offset.store", "false");
    settings.set("auto.offset.reset", "earliest");
    settings.set("isolation.level", "read_committed");
    settings.set("partition.assignment.strategy", "range");
    Ok(settings)
}

/// What a producer has on top of [`settings`].
pub fn producer_settings(kafka: &config::Kafka, brokers: &str) -> anyhow::Result<ClientConfig> {
    let mut settings = settings(kafka, brokers)?;
    for (name, value) in [
        ("queue.buffering.max.kbytes", UNSENT_KIB),
        ("message.max.bytes", LARGEST_RECORD),
        ("delivery.timeout.ms", DELIVERY_MILLIS),
        // A batch is handed over in one go; waiting longer than it takes to do so only adds latency.
        ("linger.ms", "1"),
        ("compression.type", "lz4"),
    ] {
        set_unless_given(&mut settings, kafka, name, value);
    }
    settings.set("enable.idempotence", "true");
    settings.set("acks", "all");
    settings.set("partitioner", "murmur2_random");
    Ok(settings)
}

/// librdkafka's other names for the properties above.
const ALIASES: &[(&str, &str)] = &[
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("compression.type", "compression.codec"),
];

fn set_unless_given(settings: &mut ClientConfig, kafka: &config::Kafka, name: &str, value: &str) {
    let alias = ALIASES.iter().find(|(known, _)| *known == name).map(|(_, alias)| *alias);
    if !kafka.properties.contains_key(name) && !alias.is_some_and(|alias| kafka.properties.contains_key(alias)) {
        settings.set(name, value);
    }
}

/// The troubles of all clients of a process, so that they are told once and not once per client.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Leaves the telling to the owner, who asks for [`Troubles::last`].
    silent: bool,
    /// No broker could be reached when last heard of.
    down: AtomicBool,
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

impl Troubles {
    /// Troubles that are kept, not told.
    pub fn silent() -> Troubles {
        Troubles { silent: true, ..Troubles::default() }
    }

    /// What was last heard, such as `127.0.0.1:9092: Connect to ipv4#127.0.0.1:9092 failed: Connection refused`.
    pub fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says so if no broker could be reached before. To be called when something went well.
    pub fn over(&self) {
        if self.down.swap(false, Ordering::Relaxed) {
            tracing::info!("kafka can be reached again");
        }
    }

    pub(super) fn hear(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if code == RDKafkaErrorCode::AllBrokersDown {
            self.down.store(true, Ordering::Relaxed);
            return;
        }
        let (broker, reason) = parse(reason);
        let text = broker.map_or_else(|| reason.to_string(), |broker| format!("{broker}: {reason}"));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, text));
        if self.silent || told_elsewhere(code) {
            return;
        }
        // One broker has several reasons at a time, one per address and attempt: the code is enough to tell them apart.
        let key = format!("{code:?} {}", broker.unwrap_or(reason));
        if let Some(again) = self.due(key) {
            let code = super::native::name(code);
            tracing::warn!(broker, code, reason, again, "kafka trouble");
        }
    }

    /// How often `key` was heard since it was last told, if it is time to tell it.
    fn due(&self, key: String) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_TOLD && !told.contains_key(&key) {
            told.clear();
        }
        let now = Instant::now();
        match told.get_mut(&key) {
            Some(known) if now.duration_since(known.at) < QUIET => {
                known.since += 1;
                None
            }
            known => {
                let again = known.map_or(0, |known| known.since);
                told.insert(key, Told { at: now, since: 0 });
                Some(again)
            }
        }
    }

    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let warning = (level as i32) <= RDKafkaLogLevel::Warning as i32;
        // FAIL and ERROR come as errors too; CONFWARN is about properties of consumers that producers do not need.
        if self.silent || !warning || matches!(facility, "FAIL" | "ERROR" | "CONFWARN") {
            tracing::debug!(facility, "{message}");
        } else if let Some(again) = self.due(format!("{facility} {}", parse(message).1)) {
            tracing::warn!(facility, again, "{message}");
        }
    }
}

/// Errors that also reach the caller, who tells them with what it was doing.
fn told_elsewhere(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::Fatal
    )
}

/// Splits `localhost:9092/bootstrap: Connect to … failed: Connection refused (after 0ms in state CONNECT)` into the broker's
/// address and the reason without what differs from one attempt to the next.
fn parse(reason: &str) -> (Option<&str>, &str) {
    let reason = reason.split(" (after ").next().unwrap_or(reason).trim();
    let reason = reason.strip_prefix("GroupCoordinator: ").unwrap_or(reason);
    let Some((name, rest)) = reason.split_once(": ") else { return (None, reason) };
    let address = name.rsplit("://").next().unwrap_or(name);
    let address = address.split('/').next().unwrap_or(address);
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) || address.contains(' ') {
        return (None, reason);
    }
    (Some(address), rest)
}

/// A client's context that only tells of trouble.
#[derive(Clone, Debug)]
pub struct Quiet(pub Arc<Troubles>);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear(&error, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(properties: &[(&str, &str)]) -> config::Kafka {
        let properties = properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        config::Kafka { brokers: None, group: "weir".into(), properties, headers: true }
    }

    #[test]
    fn properties_are_passed_through_and_win_over_defaults() {
        let kafka = kafka(&[("security.protocol", "SASL_SSL"), ("linger.ms", "50"), ("compression.codec", "zstd")]);
        let settings = producer_settings(&kafka, "broker:9092").unwrap();
        assert_eq!(settings.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(settings.get("linger.ms"), Some("50"));
        assert_eq!(settings.get("compression.type"), None, "it would compete with its alias");
        assert_eq!(settings.get("enable.idempotence"), Some("true"));
    }

    #[test]
    fn properties_that_promises_rest_on_are_refused() {
        for (name, _) in RESERVED {
            let error = settings(&kafka(&[(name, "x")]), "broker:9092").unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn librdkafka_takes_the_settings() {
        consumer_settings(&kafka(&[]), "broker:9092").unwrap().create_native_config().unwrap();
        producer_settings(&kafka(&[]), "broker:9092").unwrap().create_native_config().unwrap();
    }

    #[test]
    fn reasons_are_split_into_broker_and_rest() {
        let refused = "Connect to ipv4#127.0.0.1:1 failed: Connection refused";
        assert_eq!(
            parse(&format!("127.0.0.1:1/bootstrap: {refused} (after 0ms in state CONNECT)")),
            (Some("127.0.0.1:1"), refused)
        );
        assert_eq!(parse(&format!("sasl_ssl://kafka:9093/1: {refused}, 3 identical error(s) suppressed")).0, Some("kafka:9093"));
        assert_eq!(parse(&format!("GroupCoordinator: kafka:9093: {refused}")), (Some("kafka:9093"), refused));
        assert_eq!(parse("1/1 brokers are down"), (None, "1/1 brokers are down"));
        assert_eq!(parse("note: nothing here is an address"), (None, "note: nothing here is an address"));
    }

    #[test]
    fn the_same_trouble_is_told_once() {
        let troubles = Troubles::default();
        assert_eq!(troubles.due("a".into()), Some(0));
        assert_eq!(troubles.due("a".into()), None);
        assert_eq!(troubles.due("b".into()), Some(0));
        for index in 0..10 * MAX_TOLD {
            troubles.due(index.to_string());
        }
        assert!(troubles.told.lock().unwrap().len() <= MAX_TOLD);
    }

    #[test]
    fn an_outage_is_over_once() {
        let troubles = Troubles::silent();
        troubles
            .hear(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "kafka:1/bootstrap: Connect failed (after 0ms)");
        troubles.hear(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(troubles.last().unwrap().1, "kafka:1: Connect failed", "the reason names the broker");
        troubles.over();
        assert!(!troubles.down.load(Ordering::Relaxed));
    }
}
