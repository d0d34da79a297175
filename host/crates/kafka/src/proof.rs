//! Checks that librdkafka can be set up with `[kafka.properties]`, before anything starts.
//!
//! librdkafka itself is asked, because it knows its properties and loads keys and certificates. Its error texts quote values, and
//! passwords are among them: [`super::secrets`] hides them.

use std::fs::File;
use std::sync::Arc;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;

use super::client;
use super::client_log::{ClientLog, Quiet};
use super::properties::{FILES, PropertyProblem, PropertyRow, Unusable, known, proper, reserved, rows};
use super::secrets::Secrets;
use super::settings::{ClientSettings, Delivery};

/// Refuses properties with which no client can be set up.
///
/// # Errors
/// If a property is refused. The error names the first such property, and what is wrong with it.
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

fn readable(name: &str, file: &str) -> Result<(), Unusable> {
    if file.contains("-----BEGIN") || file.contains('\n') {
        let pem = name.replace(".location", ".pem");
        return Err(Unusable::wrong(name, format!("is the text of a PEM file and has to be its name; for the text set `{pem}`")));
    }
    // For `probe`, librdkafka looks in the usual places for certificates.
    if file == "probe" {
        return Ok(());
    }
    File::open(file)
        .map(drop)
        .map_err(|error| Unusable::wrong(name, format!("names the file {file}, which cannot be read: {error}")))
}

/// Checks that clients can be made with all properties together: each kind of client that any command makes.
fn together(kafka: &ClientSettings) -> Result<(), Unusable> {
    let quiet = || Quiet(Arc::new(ClientLog::silent_of(kafka)));
    let consumer = |settings: &ClientConfig| settings.create_with_context::<_, BaseConsumer<Quiet>>(quiet()).map(drop);
    let producer = |settings: &ClientConfig| settings.create_with_context::<_, BaseProducer<Quiet>>(quiet()).map(drop);
    let prove = |settings: anyhow::Result<ClientConfig>, make: &dyn Fn(&ClientConfig) -> KafkaResult<()>| {
        let mut settings =
            settings.map_err(|error| Unusable { name: None, problem: PropertyProblem::Wrong(format!("{error:#}")) })?;
        // These clients must not reach a broker.
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

/// Returns the reason why no client can be made with `settings`. Each property is named as the operator has set it. If a property
/// that the operator has not set has a number, the number stands beside its name.
fn unusable(error: &KafkaError, settings: &ClientConfig, kafka: &ClientSettings) -> Unusable {
    let (mut says, rows) = (shown(error, kafka), rows());
    let has_mechanism = ["sasl.mechanism", "sasl.mechanisms"].iter().any(|name| kafka.properties.contains_key(*name));
    if says.contains("SASL mechanism") && !has_mechanism {
        let mechanism =
            "lacks `sasl.mechanism`: set it to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, as the listener has it";
        return Unusable { name: None, problem: PropertyProblem::Wrong(mechanism.to_owned()) };
    }
    for (name, value) in settings.config_map() {
        let is_same = |row: &&PropertyRow| proper(&rows, &row.name) == proper(&rows, name);
        let mut same = rows.iter().filter(is_same).map(|row| format!("`{}`", row.name));
        if let Some(said) = same.find(|said| says.contains(said)) {
            let is_own_number = !kafka.properties.contains_key(name) && value.bytes().all(|byte| byte.is_ascii_digit());
            let beside = if is_own_number { format!(" ({value})") } else { String::new() };
            says = says.replace(&said, &format!("`{name}`{beside}"));
        }
    }
    // librdkafka names the property that is at fault, if it is a single one.
    let named = |name: &&String| says.contains(name.as_str()) || name.starts_with("sasl.mech") && says.contains("SASL mechanism");
    let named = kafka.properties.keys().filter(named).max_by_key(|name| name.len());
    Unusable { name: named.cloned(), problem: PropertyProblem::Wrong(format!("cannot be used: {says}")) }
}

/// Returns librdkafka's text, without any value that may be a secret.
fn shown(error: &KafkaError, kafka: &ClientSettings) -> String {
    match error {
        KafkaError::ClientCreation(says) => Secrets::of(kafka).hide(says),
        KafkaError::ClientConfig(_, _, name, _) => format!("librdkafka does not take `{name}`"),
        error => Secrets::of(kafka).hide(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::{RESERVED, names};

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
            ("receive.message.max.bytes", "2000000", "must be >= `fetch.max.bytes` (2097152)"),
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
