//! `[kafka.properties]`: which properties exist, by librdkafka's own table, and which of them can't be passed through.
//!
//! An error text of librdkafka quotes the value of the property, and passwords are among the values. Therefore no such text is
//! passed on. Whether clients can be made with the properties is checked in [`super::proof`].

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::native;
use weir_core::secret::Secret;

/// Properties that can't be passed through, each with the reason or the remedy.
pub(crate) const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `kafka.brokers`"),
    ("metadata.broker.list", "set `kafka.brokers`"),
    ("group.id", "set `kafka.group`"),
    ("group.protocol", "the engine serves rebalances of the classic protocol"),
    ("enable.auto.commit", "offsets are committed after the outputs, never before"),
    ("enable.auto.offset.store", "offsets are committed after the outputs, never before"),
    ("auto.commit.interval.ms", "offsets are committed after the outputs, never before"),
    ("auto.offset.reset", "set `kafka.start`; a position that is lost is never replaced silently"),
    ("retry.backoff.ms", "it tells whether a commit was tried twice"),
    ("retry.backoff.max.ms", "it tells whether a commit was tried twice"),
    ("isolation.level", "only committed messages are read"),
    ("partition.assignment.strategy", "partitions are given up before others take them, which needs an eager strategy"),
    ("enable.partition.eof", "by it the engine passes what is no message"),
    ("transactional.id", "set `kafka.transactional_id`"),
    ("enable.idempotence", "order and acknowledgements rest on it"),
    ("acks", "a message is done when all replicas have it"),
    ("request.required.acks", "a message is done when all replicas have it"),
    ("partitioner", "keys have to meet the partitions that Java clients choose"),
    ("queuing.strategy", "messages are never reordered"),
    ("log.queue", "the client needs it"),
    ("delivery.report.only.error", "what is delivered is known without a report"),
    ("test.mock.num.brokers", "set `kafka.brokers = \"embedded\"`"),
];

/// Properties that name a file. The file has to exist.
pub(super) const FILES: &[&str] =
    &["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];
/// Properties that Java's client has, each with the replacement here.
const OF_JAVA: &[(&str, &str)] = &[
    ("ssl.truststore.location", "set `ssl.ca.location` to a file of certificates (PEM)"),
    ("ssl.truststore.password", "set `ssl.ca.location` to a file of certificates (PEM), which has no password"),
    ("ssl.truststore.type", "set `ssl.ca.location` to a file of certificates (PEM)"),
    ("ssl.keystore.type", "the keystore has to be PKCS#12"),
    ("sasl.jaas.config", "set `sasl.username` and `sasl.password`"),
];

/// A property that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// None if the properties are wrong as a whole.
    pub name: Option<String>,
    pub problem: PropertyProblem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyProblem {
    /// librdkafka knows no property of this name.
    Unknown,
    /// A text that says what is wrong. It reads as in `it <says>`.
    Wrong(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(out, "`kafka.properties.{name}` ")?,
            None => out.write_str("`[kafka.properties]` ")?,
        }
        self.problem.fmt(out)
    }
}

impl fmt::Display for PropertyProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PropertyProblem::Unknown => out.write_str("is no property that librdkafka knows"),
            PropertyProblem::Wrong(says) => out.write_str(says),
        }
    }
}

impl Unusable {
    pub(crate) fn wrong(name: &str, says: impl Into<String>) -> Unusable {
        Unusable { name: Some(name.to_owned()), problem: PropertyProblem::Wrong(says.into()) }
    }
}

/// Refuses properties that the engine's promises rest on.
///
/// # Errors
/// If such a property is set. The error names the first one, and the remedy or the reason.
pub fn reserved(properties: &BTreeMap<String, Secret>) -> Result<(), Unusable> {
    match RESERVED.iter().find(|(name, _)| properties.contains_key(*name)) {
        Some((name, reason)) => Err(Unusable::wrong(name, format!("cannot be set: {reason}"))),
        None => Ok(()),
    }
}

/// Returns every name that librdkafka knows.
pub fn names() -> Vec<String> {
    rows().into_iter().map(|row| row.name).collect()
}

/// Checks that librdkafka knows the property, and takes its value.
pub(crate) fn known(name: &str, value: &str) -> Result<(), Unusable> {
    if let Some((_, instead)) = OF_JAVA.iter().find(|(known, _)| *known == name) {
        return Err(Unusable::wrong(name, format!("is of Java's client: {instead}")));
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config().err() {
        None => Ok(()),
        Some(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err(Unusable { name: Some(name.to_owned()), problem: PropertyProblem::Unknown })
        }
        Some(_) => {
            let range = rows().into_iter().find(|row| row.name == name).map(|row| row.range).unwrap_or_default();
            let expected = if range.is_empty() { String::new() } else { format!("; expected {}", range.replace(" .. ", " to ")) };
            Err(Unusable::wrong(name, format!("has a value that librdkafka does not take{expected}")))
        }
    }
}

/// Returns the names of the properties that may have any value.
pub(super) fn free() -> Vec<String> {
    rows().into_iter().filter(|row| row.range.is_empty()).map(|row| row.name).collect()
}

/// A property, as librdkafka lists it.
pub(crate) struct PropertyRow {
    pub(crate) name: String,
    /// The values that it may have. Empty if it may have any value.
    range: String,
    /// The property whose other name this is. None if this is no alias.
    alias: Option<String>,
}

pub(crate) fn rows() -> Vec<PropertyRow> {
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim);
        let (name, _, range) = (cells.next()?, cells.next()?, cells.next()?);
        let alias = line.split_once("Alias for `").and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| name.to_owned());
        let is_name = name != "Property" && !name.starts_with('-') && !name.is_empty();
        is_name.then(|| PropertyRow { name: name.to_owned(), range: range.to_owned(), alias })
    };
    native::properties().lines().filter_map(row).collect()
}

/// Returns the property that the alias `name` stands for. Returns `name` itself if it is no alias.
pub(crate) fn proper<'a>(rows: &'a [PropertyRow], name: &'a str) -> &'a str {
    rows.iter().find(|row| row.name == name).and_then(|row| row.alias.as_deref()).unwrap_or(name)
}
