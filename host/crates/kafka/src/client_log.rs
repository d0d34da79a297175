//! The troubles that librdkafka reports. Each is logged once, with fields, and not again for a minute.
//!
//! A dead broker makes every client of the process report several times a second, with the same words or nearly so. This module
//! logs one line that names the broker, and one line when the outage is over. [`super::connection`] has the words for known
//! causes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::Span;

use super::connection::{self, Diagnosis};
use super::secrets::Secrets;
use super::settings::ClientSettings;
use super::{Failure, native};
use weir_system::throttle::KeyedThrottle;

/// The time for which a report with a surer cause outlasts later reports about the same broker.
const RECENT: Duration = Duration::from_secs(5);
/// The most time in which a broker has to show its certificate once more.
const SHOWING: Duration = Duration::from_secs(5);

/// The log of the clients of a session. It logs each trouble once, and not once per client.
#[derive(Debug)]
pub struct ClientLog {
    /// True if nothing is logged, because the owner asks for [`ClientLog::last`] and reports it.
    silent: bool,
    /// True if no broker could be reached at the last report.
    down: AtomicBool,
    last: Mutex<Option<ClientReport>>,
    /// Troubles that were logged, by code and broker.
    throttle: Mutex<KeyedThrottle>,
    /// The settings to connect with, in order to find the reason why a certificate is not accepted.
    settings: Option<ClientConfig>,
    /// The values that are hidden in all texts of librdkafka.
    secrets: Secrets,
    /// The span in which the log was made, such as that of a data loop. The client reports on threads of its own.
    span: Span,
}

/// A report of a client.
#[derive(Clone, Debug)]
struct ClientReport {
    at: Instant,
    code: RDKafkaErrorCode,
    /// The broker's address, if the report names it.
    broker: Option<String>,
    reason: String,
    diagnosis: Option<Diagnosis>,
}

impl ClientReport {
    /// Returns how sure the cause is: 0 if it is not known, 1 if it is likely, 2 if it is certain.
    fn sureness(&self) -> u8 {
        self.diagnosis.as_ref().map_or(0, |diagnosis| 1 + u8::from(diagnosis.lasting))
    }
}

impl Default for ClientLog {
    fn default() -> ClientLog {
        ClientLog {
            silent: false,
            down: AtomicBool::default(),
            last: Mutex::default(),
            throttle: Mutex::default(),
            settings: None,
            secrets: Secrets::default(),
            span: Span::current(),
        }
    }
}

impl ClientLog {
    /// Returns a log for clients with the properties of `kafka`.
    pub fn of(kafka: &ClientSettings) -> ClientLog {
        ClientLog { secrets: Secrets::of(kafka), ..ClientLog::default() }
    }

    /// Returns a log that keeps reports and logs no warnings, for clients without properties from a configuration.
    pub fn silent() -> ClientLog {
        ClientLog { silent: true, ..ClientLog::default() }
    }

    /// Returns a log that keeps reports and logs no warnings, for clients with the properties of `kafka`.
    pub fn silent_of(kafka: &ClientSettings) -> ClientLog {
        ClientLog { silent: true, ..ClientLog::of(kafka) }
    }

    /// Returns a log that keeps reports and logs no warnings, for clients that connect by `settings`. If a certificate is not
    /// accepted, the reason is looked up with these settings.
    pub fn silent_with(kafka: &ClientSettings, settings: ClientConfig) -> ClientLog {
        ClientLog { settings: Some(settings), ..ClientLog::silent_of(kafka) }
    }

    /// Returns the words about the broker at `address`. If its certificate is not accepted, they give the reason.
    fn words(&self, diagnosis: Diagnosis, address: &str) -> String {
        let because = || {
            let mut settings = self.settings.clone().filter(|_| diagnosis.certificate)?;
            settings.set("bootstrap.servers", address);
            connection::of_certificate(native::unaccepted(&settings, SHOWING)?, address)
        };
        because().unwrap_or(diagnosis.words)
    }

    fn last(&self) -> Option<ClientReport> {
        self.last.lock().clone()
    }

    /// Returns the failure that none of `brokers` answers, with the reason. Returns None if nothing was reported.
    pub fn unreachable(&self, brokers: &str) -> Option<Failure> {
        self.last().map(|report| self.failure(report, brokers))
    }

    fn failure(&self, report: ClientReport, brokers: &str) -> Failure {
        let ClientReport { code, broker, reason, diagnosis, .. } = report;
        let address = broker.as_deref().unwrap_or(brokers);
        let what = format!("reach kafka at {address}");
        match (diagnosis, Failure::of(code, &what)) {
            (Some(known), _) => {
                let (lasting, error) = (known.lasting, anyhow!("failed to {what}: {}", self.words(known, address)));
                if lasting { Failure::Stop(error) } else { Failure::Wait(error) }
            }
            (None, Failure::Stop(error)) => Failure::Stop(error.context(reason)),
            (None, _) => Failure::Wait(anyhow!("failed to {what}: {reason}")),
        }
    }

    /// Returns the failure if the last report is about an answer that is larger than the client takes: the same answer would come
    /// forever.
    pub(super) fn too_large_an_answer(&self) -> Option<Failure> {
        let is_too_large = |report: &ClientReport| report.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.too_large);
        self.last().filter(is_too_large).map(|report| self.failure(report, "a broker"))
    }

    /// Returns whether, by the last report, this client may not ask for the group's coordinator.
    pub(super) fn group_is_denied(&self) -> bool {
        self.last().is_some_and(|report| report.code == RDKafkaErrorCode::GroupAuthorizationFailed)
    }

    /// Returns whether the last report is about how to speak with a broker, and not about a topic.
    pub(super) fn is_of_connection(&self) -> bool {
        self.last().is_some_and(|report| report.diagnosis.is_some())
    }

    /// Returns the outage, with its reason, if no broker could be reached at the last report.
    pub fn outage(&self) -> Option<String> {
        let reason = || self.last().map_or_else(String::new, |report| format!(": {}", report.reason));
        self.down.load(Ordering::Relaxed).then(|| format!("no broker answers{}", reason()))
    }

    /// Takes note that a broker answers. Logs the end of an outage, if there was one. To be called when something went well.
    pub fn clear_outage(&self) {
        *self.last.lock() = None;
        if self.down.swap(false, Ordering::Relaxed) && !self.silent {
            tracing::info!("kafka can be reached again");
        }
    }

    pub(super) fn on_error(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if code == RDKafkaErrorCode::AllBrokersDown {
            self.down.store(true, Ordering::Relaxed);
            return;
        }
        // The end of a partition is no trouble. The Rust client passes it on as an error while a consumer leaves its group.
        if code != RDKafkaErrorCode::PartitionEOF {
            self.note(code, reason);
        }
    }

    fn note(&self, code: RDKafkaErrorCode, raw: &str) {
        let (broker, reason) = parse(raw);
        let diagnosis = connection::diagnose(raw, broker.unwrap_or("HOST:PORT"));
        let reason = diagnosis.as_ref().map_or_else(|| self.secrets.hide(reason), |diagnosis| diagnosis.words.clone());
        self.keep(ClientReport {
            at: Instant::now(),
            code,
            broker: broker.map(str::to_owned),
            reason: reason.clone(),
            diagnosis,
        });
        if self.silent || is_reported_by_caller(code) {
            return;
        }
        // One broker causes several reasons at a time, one per address and attempt. So for a known broker only the code tells
        // troubles apart.
        let key = format!("{code:?} {}", broker.unwrap_or(&reason));
        if let Some(again) = self.due(&key) {
            let (code, _of_loop) = (native::name(code), self.span.enter());
            tracing::warn!(broker, code, reason, again, "kafka trouble");
        }
    }

    /// Keeps `report` as the last report, unless a recent report about the same broker is surer. Less sure is, for example, that
    /// nothing listens at another address of the broker (`localhost` may have two addresses), or that another client's connection
    /// is closed.
    fn keep(&self, report: ClientReport) {
        let mut last = self.last.lock();
        let surer = |last: &ClientReport| {
            last.sureness() > report.sureness() && last.broker == report.broker && last.at.elapsed() < RECENT
        };
        if !last.as_ref().is_some_and(surer) {
            *last = Some(report);
        }
    }

    /// Asks the throttle about a line, and releases it before the line is logged.
    fn due(&self, key: &str) -> Option<u64> {
        self.throttle.lock().admit(key)
    }

    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The client does not treat a closed connection as an error, although the broker may have closed it for a reason. So a
        // silent log takes note of it. Clients with a log that is not silent were connected before: for them it only means that
        // the broker has ended.
        let raw = message.split_once("]: ").map_or(message, |(_, rest)| rest);
        let closed = self.silent && facility == "FAIL" && level as i32 > RDKafkaLogLevel::Error as i32;
        if closed && connection::diagnose(raw, "").is_some() {
            return self.note(RDKafkaErrorCode::BrokerTransportFailure, raw);
        }
        let warning = (level as i32) <= RDKafkaLogLevel::Warning as i32;
        // FAIL and ERROR come as errors too, and TXNERR comes with the next call. CONFWARN is about properties of consumers that
        // producers do not need. What is tried again at once is no trouble yet.
        let idle = matches!(facility, "FAIL" | "ERROR" | "CONFWARN" | "TXNERR") || message.ends_with("retrying");
        let (message, _of_loop) = (self.secrets.hide(message), self.span.enter());
        if self.silent || !warning || idle {
            tracing::debug!(facility, "{message}");
        } else if let Some(again) = self.due(&format!("{facility} {}", parse(&message).1)) {
            tracing::warn!(facility, again, "{message}");
        }
    }
}

/// Returns whether the caller gets this error, too, and reports it together with the operation.
fn is_reported_by_caller(code: RDKafkaErrorCode) -> bool {
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
/// address and the reason. Leaves out of the reason what differs from one attempt to the next.
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

/// A client's context that only passes on troubles.
#[derive(Clone, Debug)]
pub struct Quiet(pub Arc<ClientLog>);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.on_error(&error, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_connection_that_is_closed_for_a_reason_is_a_trouble() {
        let client_log = ClientLog::silent();
        let closed = "Disconnected: connection closed by peer: receive 0 after POLLIN (after 4ms in state APIVERSION_QUERY)";
        client_log.log(RDKafkaLogLevel::Info, "FAIL", &format!("[thrd:kafka:9093/bootstrap]: kafka:9093/bootstrap: {closed}"));
        let Some(Failure::Wait(error)) = client_log.unreachable("other:9092") else { panic!("{client_log:?}") };
        assert!(error.to_string().starts_with("failed to reach kafka at kafka:9093: the connection is closed"), "{error}");
        let refused = "kafka:9093/bootstrap: Connect to ipv6#[::1]:9093 failed: Connection refused (after 0ms in state CONNECT)";
        client_log.on_error(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), refused);
        assert!(client_log.is_of_connection(), "nobody listens at the other address: {client_log:?}");
    }

    #[test]
    fn what_is_no_kafka_is_not_called_a_damaged_log() {
        let client_log = ClientLog::silent();
        let reason = "web:80/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase \
                      receive.message.max.bytes (after 1ms in state APIVERSION_QUERY)";
        client_log.on_error(&KafkaError::Global(RDKafkaErrorCode::BadMessage), reason);
        let Some(Failure::Stop(error)) = client_log.unreachable("web:80") else { panic!("{client_log:?}") };
        assert!(error.to_string().contains("at web:80: what answers there is no Kafka but a web server"), "{error}");
        assert!(client_log.is_of_connection());
        let closed = "web:80/bootstrap: Disconnected (after 1ms in state APIVERSION_QUERY)";
        client_log.log(RDKafkaLogLevel::Info, "FAIL", &format!("[thrd:web:80/bootstrap]: {closed}"));
        assert!(
            matches!(client_log.unreachable("web:80"), Some(Failure::Stop(_))),
            "it is sure what answers there: {client_log:?}"
        );
    }

    #[test]
    fn that_all_of_a_partition_is_read_is_no_trouble() {
        let client_log = ClientLog::silent();
        let reason = "Fetch from broker 1 reached end of partition at offset 2 (HighwaterMark 2)";
        client_log.on_error(&KafkaError::Global(RDKafkaErrorCode::PartitionEOF), reason);
        assert!(client_log.last().is_none(), "{client_log:?}");
    }

    #[test]
    fn an_outage_is_over_once() {
        let client_log = ClientLog::silent();
        client_log.on_error(
            &KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "kafka:1/bootstrap: Connect failed (after 0ms)",
        );
        client_log.on_error(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(client_log.outage().unwrap(), "no broker answers: Connect failed");
        client_log.clear_outage();
        assert_eq!(client_log.outage(), None);
    }
}
