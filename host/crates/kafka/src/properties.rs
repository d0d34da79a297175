//! `[kafka.properties]`: whether librdkafka can be set up with them, found out before anything starts.
//!
//! librdkafka itself is asked, which knows its properties and loads keys and certificates. What it says of a value quotes the
//! value, and passwords are among them: none of it is passed on, or [`super::secrets`] takes them out before.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::sync::Arc;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;
use rdkafka::types::RDKafkaConfRes;

use super::secrets::Secrets;
use super::settings::{ClientSettings, Delivery};
use super::troubles::{Quiet, Troubles};
use super::{client, native};
use weir_core::secret::Secret;

/// Properties that cannot be passed through, and why.
const RESERVED: &[(&str, &str)] = &[
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

/// Properties that name a file which has to be there.
pub(super) const FILES: &[&str] =
    &["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];
/// What people know from Java's client, and what it is here.
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
    /// None: it is the whole of them.
    pub name: Option<String>,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// librdkafka knows no property of this name.
    Unknown,
    /// Says what is wrong, and reads as in `it <says>`.
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

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unknown => out.write_str("is no property that librdkafka knows"),
            Problem::Wrong(says) => out.write_str(says),
        }
    }
}

impl Unusable {
    fn wrong(name: &str, says: impl Into<String>) -> Unusable {
        Unusable { name: Some(name.to_owned()), problem: Problem::Wrong(says.into()) }
    }
}

/// Refuses properties that the engine's promises rest on.
///
/// # Errors
/// Names the first one, and what to do instead.
pub fn reserved(properties: &BTreeMap<String, Secret>) -> Result<(), Unusable> {
    match RESERVED.iter().find(|(name, _)| properties.contains_key(*name)) {
        Some((name, reason)) => Err(Unusable::wrong(name, format!("cannot be set: {reason}"))),
        None => Ok(()),
    }
}

/// Refuses properties with which no client can be set up.
///
/// # Errors
/// Names the first one, and what is wrong with it.
pub fn prove(kafka: &ClientSettings) -> Result<(), Unusable> {
    reserved(&kafka.properties)?;
    for (name, value) in &kafka.properties {
        known(name, value.reveal())?;
    }
    for name in FILES {
        kafka.properties.get(*name).map_or(Ok(()), |file| readable(name, file.reveal()))?;
    }
    together(kafka)
}

/// Every name that librdkafka knows.
pub fn names() -> Vec<String> {
    rows().into_iter().map(|row| row.name).collect()
}

/// That librdkafka knows the property, and takes its value.
fn known(name: &str, value: &str) -> Result<(), Unusable> {
    if let Some((_, instead)) = OF_JAVA.iter().find(|(known, _)| *known == name) {
        return Err(Unusable::wrong(name, format!("is of Java's client: {instead}")));
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config().err() {
        None => Ok(()),
        Some(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err(Unusable { name: Some(name.to_owned()), problem: Problem::Unknown })
        }
        Some(_) => {
            let range = rows().into_iter().find(|row| row.name == name).map(|row| row.range).unwrap_or_default();
            let expected = if range.is_empty() { String::new() } else { format!("; expected {}", range.replace(" .. ", " to ")) };
            Err(Unusable::wrong(name, format!("has a value that librdkafka does not take{expected}")))
        }
    }
}

fn readable(name: &str, file: &str) -> Result<(), Unusable> {
    if file.contains("-----BEGIN") || file.contains('\n') {
        let pem = name.replace(".location", ".pem");
        return Err(Unusable::wrong(name, format!("is the text of a PEM file and has to be its name; for the text set `{pem}`")));
    }
    // librdkafka looks for the usual places.
    if file == "probe" {
        return Ok(());
    }
    File::open(file)
        .map(drop)
        .map_err(|error| Unusable::wrong(name, format!("names the file {file}, which cannot be read: {error}")))
}

/// That clients can be made with all of them: each kind of client that any command makes.
fn together(kafka: &ClientSettings) -> Result<(), Unusable> {
    let quiet = || Quiet(Arc::new(Troubles::silent_of(kafka)));
    let consumer = |settings: &ClientConfig| settings.create_with_context::<_, BaseConsumer<Quiet>>(quiet()).map(drop);
    let producer = |settings: &ClientConfig| settings.create_with_context::<_, BaseProducer<Quiet>>(quiet()).map(drop);
    let prove = |settings: anyhow::Result<ClientConfig>, make: &dyn Fn(&ClientConfig) -> KafkaResult<()>| {
        let mut settings = settings.map_err(|error| Unusable { name: None, problem: Problem::Wrong(format!("{error:#}")) })?;
        // Nobody is to be reached by these clients.
        settings.remove("bootstrap.servers");
        make(&settings).map_err(|error| unusable(&error, &settings, kafka))
    };
    prove(client::consumer_settings(kafka, ""), &consumer)?;
    prove(client::probe_settings(kafka, ""), &consumer)?;
    prove(client::settings(kafka, ""), &producer)?;
    prove(client::producer_settings(kafka, ""), &producer)?;
    match kafka.delivery {
        Delivery::ExactlyOnce => prove(client::transactional_settings(kafka, "", "proof"), &producer),
        Delivery::AtLeastOnce => Ok(()),
    }
}

/// Why no client can be made with `settings`. Each property has the name by which people have given it. A number that they have not
/// given stands beside its name.
fn unusable(error: &KafkaError, settings: &ClientConfig, kafka: &ClientSettings) -> Unusable {
    let (mut says, rows) = (shown(error, kafka), rows());
    let has_mechanism = ["sasl.mechanism", "sasl.mechanisms"].iter().any(|name| kafka.properties.contains_key(*name));
    if says.contains("SASL mechanism") && !has_mechanism {
        let mechanism =
            "lacks `sasl.mechanism`: set it to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, as the listener has it";
        return Unusable { name: None, problem: Problem::Wrong(mechanism.to_owned()) };
    }
    for (name, value) in settings.config_map() {
        let is_same = |row: &&Row| proper(&rows, &row.name) == proper(&rows, name);
        let mut same = rows.iter().filter(is_same).map(|row| format!("`{}`", row.name));
        if let Some(said) = same.find(|said| says.contains(said)) {
            let is_own_number = !kafka.properties.contains_key(name) && value.bytes().all(|byte| byte.is_ascii_digit());
            let beside = if is_own_number { format!(" ({value})") } else { String::new() };
            says = says.replace(&said, &format!("`{name}`{beside}"));
        }
    }
    // librdkafka names what is at fault, if it is a single one.
    let named = |name: &&String| says.contains(name.as_str()) || name.starts_with("sasl.mech") && says.contains("SASL mechanism");
    let named = kafka.properties.keys().filter(named).max_by_key(|name| name.len());
    Unusable { name: named.cloned(), problem: Problem::Wrong(format!("cannot be used: {says}")) }
}

/// What librdkafka says, without any value that may be a secret.
fn shown(error: &KafkaError, kafka: &ClientSettings) -> String {
    match error {
        KafkaError::ClientCreation(says) => Secrets::of(kafka).hide(says),
        KafkaError::ClientConfig(_, _, name, _) => format!("librdkafka does not take `{name}`"),
        error => Secrets::of(kafka).hide(&error.to_string()),
    }
}

/// The names of the properties that may have any value.
pub(super) fn free() -> Vec<String> {
    rows().into_iter().filter(|row| row.range.is_empty()).map(|row| row.name).collect()
}

/// A property, as librdkafka lists it.
struct Row {
    name: String,
    /// Its values; empty if it may have any.
    range: String,
    /// The property that this is another name of.
    alias: Option<String>,
}

fn rows() -> Vec<Row> {
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim);
        let (name, _, range) = (cells.next()?, cells.next()?, cells.next()?);
        let alias = line.split_once("Alias for `").and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| name.to_owned());
        let is_name = name != "Property" && !name.starts_with('-') && !name.is_empty();
        is_name.then(|| Row { name: name.to_owned(), range: range.to_owned(), alias })
    };
    native::properties().lines().filter_map(row).collect()
}

/// The property that `name` stands for, which may be an alias.
fn proper<'a>(rows: &'a [Row], name: &'a str) -> &'a str {
    rows.iter().find(|row| row.name == name).and_then(|row| row.alias.as_deref()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(properties: &[(&str, &str)]) -> Result<(), Unusable> {
        let properties = properties.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect();
        prove(&ClientSettings { properties, ..crate::testing::client() })
    }

    fn refusal(properties: &[(&str, &str)]) -> Unusable {
        proven(properties).unwrap_err()
    }

    #[test]
    fn properties_that_promises_rest_on_are_refused() {
        for (name, reason) in RESERVED {
            let said = refusal(&[(name, "x")]).to_string();
            assert!(said.contains(name) && said.contains(reason), "{said}");
        }
    }

    #[test]
    fn what_is_refused_is_named_and_no_value_is_shown() {
        let hunter = [
            ("sasl.passwd", "is no property that librdkafka knows"),
            ("linger.ms", "expected 0 to 900000"),
            ("security.protocol", "expected plaintext, ssl, sasl_plaintext, sasl_ssl"),
            ("sasl.mechanism", "cannot be used"),
            ("ssl.truststore.password", "is of Java's client: set `ssl.ca.location`"),
            ("ssl.key.pem", "cannot be used"),
        ];
        for (name, says) in hunter {
            let protocol = if name == "ssl.key.pem" { "SSL" } else { "SASL_SSL" };
            let said = refusal(&[("security.protocol", protocol), (name, "hunter2")]).to_string();
            assert!(said.contains(name) && said.contains(says), "{name}: {said}");
            assert!(!said.contains("hunter2"), "{name}: {said}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        for name in FILES {
            let said = refusal(&[(name, "no/such.pem")]).to_string();
            assert!(said.contains(name) && said.contains("no/such.pem") && said.contains("No such file"), "{said}");
            let said = refusal(&[(name, "-----BEGIN PRIVATE KEY-----\nhunter2")]).to_string();
            assert!(said.contains(".pem`") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn what_suits_the_consumer_and_what_a_remedy_says_suits_every_kind_of_client() {
        for (name, value) in [
            ("receive.message.max.bytes", "9000000"),
            ("max.poll.interval.ms", "10000"),
            ("message.max.bytes", "33554432"),
            ("message.max.bytes", "1000000000"),
            ("fetch.max.bytes", "2147483135"),
        ] {
            assert_eq!(proven(&[(name, value)]), Ok(()), "{name} = {value}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named_as_it_was_written_with_the_value_of_what_was_not() {
        for (name, value, says) in [
            ("receive.message.max.bytes", "8000000", "must be >= `fetch.max.bytes` (8388608)"),
            ("max.poll.interval.ms", "5000", "must be >= `session.timeout.ms` (6000)"),
            ("delivery.timeout.ms", "60000", "`delivery.timeout.ms` must be set <= `transaction.timeout.ms` (15000)"),
            ("message.timeout.ms", "60000", "`message.timeout.ms` must be set <= `transaction.timeout.ms` (15000)"),
            ("max.in.flight.requests.per.connection", "7", "`max.in.flight.requests.per.connection` must be set"),
        ] {
            let refused = refusal(&[(name, value)]);
            assert_eq!(refused.name.as_deref(), Some(name), "{refused}");
            assert!(refused.to_string().contains(says), "{refused}");
        }
    }

    #[test]
    fn a_mechanism_that_is_missing_is_named() {
        for protocol in ["SASL_SSL", "SASL_PLAINTEXT"] {
            let said = refusal(&[("security.protocol", protocol), ("sasl.username", "weir"), ("sasl.password", "hunter2")]);
            assert!(said.to_string().starts_with("`[kafka.properties]` lacks `sasl.mechanism`: set it to PLAIN, "), "{said}");
        }
    }

    #[test]
    fn names_for_a_suggestion_are_known() {
        let names = names();
        for name in ["sasl.password", "ssl.ca.location", "sasl.mechanism", "compression.type"] {
            assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
        }
        prove(&crate::testing::client()).unwrap();
    }
}
