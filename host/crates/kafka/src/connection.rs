//! Says in words why a connection fails. TLS failures, and answers that do not come from Kafka, are recognized by librdkafka's
//! text.
//!
//! If the text fits several causes, the words name each cause, and the command that tells them apart. The reason why a
//! certificate is not accepted can be asked for.

use std::fmt;
use std::net::IpAddr;

use super::native::Unaccepted;

/// The least size that may be text that was read as a number: its first byte is a printable character.
const TEXT: i32 = 0x2000_0000;
/// The bound in milliseconds for a connection that was closed at once: if it is closed sooner than this after it was established,
/// it is closed because of what was asked.
const AT_ONCE_MILLIS: u32 = 2_000;

/// The facts that are known of a connection that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) words: String,
    /// True if waiting does not help: the answer can't come from a broker that is only busy or starting.
    pub(super) lasting: bool,
    /// True if a certificate is not accepted. [`of_certificate`] has the words for the reason, once the reason was asked for.
    pub(super) certificate: bool,
    /// True if an answer is larger than the client takes. The next answer will be too large as well.
    pub(super) too_large: bool,
}

impl Diagnosis {
    fn new(words: impl fmt::Display, lasting: bool) -> Diagnosis {
        Diagnosis { words: words.to_string(), lasting, certificate: false, too_large: false }
    }
}

/// The stage at which a connection was closed that a broker had accepted.
enum Closed {
    /// The question which versions the broker speaks. A broker must answer this question to every client.
    Unanswered,
    /// The first request after that, from a client that has not logged in.
    Stranger,
}

/// Returns the stage if `reason` tells of a connection that was closed because of the protocol that was spoken on it. Otherwise
/// returns None: the broker may have ended.
fn closed(reason: &str) -> Option<Closed> {
    let (before, after) = reason.split_once("Disconnected").filter(|(_, after)| !after.contains("PLAINTEXT broker"))?;
    let (_, state) = after.rsplit_once("(after ")?;
    let (millis, state) = state.split_once("ms in state ")?;
    let in_state = |name: &str| state.strip_prefix(name).is_some_and(|rest| rest.starts_with([')', ',']));
    // librdkafka names a broker by protocol and address. For a plaintext connection the name has no protocol.
    if in_state("APIVERSION_QUERY") && !before.contains("ssl://") {
        return Some(Closed::Unanswered);
    }
    let at_once = millis.parse::<u32>().is_ok_and(|millis| millis < AT_ONCE_MILLIS);
    (in_state("UP") && at_once && !before.contains("sasl")).then_some(Closed::Stranger)
}

/// Returns for how many seconds nothing was answered, if `reason` tells of a connection that was accepted.
fn silent(reason: &str) -> Option<u32> {
    let texts =
        ["ApiVersionRequest failed: Local: Timed out", "timed out in state SSL_HANDSHAKE", "timed out in state APIVERSION_QUERY"];
    texts.iter().find(|text| reason.contains(*text))?;
    let (_, state) = reason.rsplit_once("(after ")?;
    let (millis, _) = state.split_once("ms in state ")?;
    Some(millis.parse::<u32>().ok()? / 1_000)
}

/// Returns the diagnosis for a `reason` of librdkafka, if the reason is about how to speak with the broker at `address`. In the
/// text, the broker's name stands before the reason itself, and the state of the connection after it.
pub(super) fn diagnose(reason: &str, address: &str) -> Option<Diagnosis> {
    let is = |words: &dyn fmt::Display, lasting| Some(Diagnosis::new(words, lasting));
    if let Some((size, most)) = oversized(reason) {
        // A broker has said which versions it speaks before its connection is up. A server that has not said so is not asked for
        // its versions again.
        return match no_kafka(size) {
            None if reason.contains("in state UP") && (most..TEXT).contains(&size) => {
                let words = format_args!(
                    "it answers with {size} bytes, more than `receive.message.max.bytes` ({most}): raise that under \
                     `[kafka.properties]`, to at most 2147483647, the default of Weir: it has to be larger than \
                     `fetch.max.bytes`, and than the largest batch"
                );
                Some(Diagnosis { too_large: true, ..Diagnosis::new(words, true) })
            }
            known => is(&format_args!("{}: {WHERE}", known.unwrap_or("what answers there is no Kafka, or wants TLS")), true),
        };
    }
    let known = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    if let Some(state) = closed(reason) {
        return match state {
            Closed::Unanswered => is(
                &"the connection is closed at the first question, as by a listener that wants TLS, or by what is no Kafka: set \
                  `security.protocol` under `[kafka.properties]` to SSL or SASL_SSL, or take the address of a listener without TLS",
                false,
            ),
            Closed::Stranger => is(
                &"the connection is closed at the first request, as by a listener that wants SASL: set `security.protocol` to \
                  SASL_SSL or SASL_PLAINTEXT, and `sasl.*`, under `[kafka.properties]`",
                false,
            ),
        };
    }
    if let Some(seconds) = silent(reason) {
        return is(
            &format_args!(
                "the connection is accepted, and nothing was answered within {seconds} s: what listens there is busy, or is no \
                 Kafka, or `security.protocol` under `[kafka.properties]` is not that of the listener"
            ),
            false,
        );
    }
    if let Some(number) = alert(reason) {
        let (words, lasting) = of_alert(number, address);
        return is(&words, lasting);
    }
    if known(&["connecting to a PLAINTEXT broker listener?", "during SSL connection handshake"]) {
        return is(
            &format_args!(
                "the connection is closed in the TLS handshake, as by a broker that ends, by a load balancer without backends, \
                 or by a listener that speaks no TLS: if it stays so, {PROTOCOL}"
            ),
            false,
        );
    }
    if known(&["wrong version number", "record overflow", "packet length too long"]) {
        return is(&format_args!("what answers there speaks no TLS: {PROTOCOL}, or take the address of one with TLS"), false);
    }
    if known(&["Request not valid in current SASL state"]) {
        return is(&format_args!("it takes no login, so the listener may speak no SASL: {PROTOCOL}"), true);
    }
    if known(&["certificate verify failed", "could not be verified", "Failed to verify broker certificate"]) {
        let host = host(address);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let check = match bare.parse::<IpAddr>() {
            Ok(ip) => format!("-verify_ip {ip}"),
            Err(_) => format!("-verify_hostname {host}"),
        };
        let words = format!(
            "its certificate is not accepted, for example because it has expired, names another host than {host}, or was signed \
             by no CA in `ssl.ca.location`; to see why, run `openssl s_client -connect {address} {check} -CAfile FILE \
             </dev/null`, with the file of `ssl.ca.location`, and with `-crl_check -CRL FILE` for that of `ssl.crl.location`, if \
             there is one"
        );
        return Some(Diagnosis { certificate: true, ..Diagnosis::new(words, true) });
    }
    None
}

/// Returns the size of an answer that the client does not take, and the most that the client takes, in bytes.
fn oversized(reason: &str) -> Option<(i32, i32)> {
    let (_, rest) = reason.split_once("Invalid response size ")?;
    let (size, rest) = rest.split_once(" (0..")?;
    let (most, _) = rest.split_once(')')?;
    Some((size.parse().ok()?, most.parse().ok()?))
}

/// Returns the number of the alert that was sent to end the TLS handshake.
fn alert(reason: &str) -> Option<u8> {
    let (_, rest) = reason.split_once("SSL alert number ")?;
    rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

/// Returns the words for the alert `number`, and whether waiting does not help. TLS keeps the meaning of these numbers.
fn of_alert(number: u8, address: &str) -> (String, bool) {
    match number {
        42..=46 | 48 | 116 => (
            format!(
                "it refuses this client's certificate, or misses one: check {CERTIFICATE}: the certificate has to be valid now, \
                 and of a CA that the broker trusts"
            ),
            true,
        ),
        40 => (
            format!(
                "it refuses the TLS handshake: it may miss a certificate of this client, or refuse it (check {CERTIFICATE}), or \
                 both have no cipher in common (`ssl.cipher.suites`)"
            ),
            true,
        ),
        70 => (
            "it speaks no version of TLS that this client does: have TLSv1.2 or later in its `ssl.enabled.protocols`".to_owned(),
            true,
        ),
        // A proxy may not have learned of its brokers yet.
        112 => (
            format!(
                "it knows no host of the name {} (SNI): take an address that it knows, in `kafka.brokers` and in \
                 `advertised.listeners` of the broker, or have the proxy before the broker know this one",
                host(address)
            ),
            false,
        ),
        80 => ("it has met an error of its own in the TLS handshake: its log says which".to_owned(), false),
        _ => (format!("it ends the TLS handshake with alert {number} of TLS: its log says why"), false),
    }
}

/// Returns why the certificate of the broker at `address` is not accepted, if there are words for that reason. The numbers are
/// `X509_V_ERR_*` of OpenSSL, which keeps their meaning.
pub(super) fn of_certificate(unaccepted: Unaccepted, address: &str) -> Option<String> {
    let whose = if unaccepted.depth == 0 { "its certificate" } else { "the certificate of the CA that has signed its own" };
    Some(match unaccepted.code {
        9 => format!("{whose} is not valid yet: check the clocks of this machine and of the one that has issued it"),
        10 => format!("{whose} has expired: have it renewed"),
        62 | 64 => format!(
            "{whose} names another host than {}: take an address that it names, in `kafka.brokers` and in \
             `advertised.listeners` of the broker, or have it issued for this one",
            host(address)
        ),
        18..=21 => UNSIGNED.to_owned(),
        3 => format!("`ssl.crl.location` has no list of what was revoked by the CA that has signed {whose}: add it to the file"),
        11 => "the list in `ssl.crl.location` is not valid yet: check the clocks of this machine and of the CA".to_owned(),
        12 => "the list in `ssl.crl.location` has expired: get the next one from the CA".to_owned(),
        23 => format!("{whose} was revoked: have it issued anew"),
        _ => return None,
    })
}

/// Returns the host of an address that has a port.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

const UNSIGNED: &str = "no CA in `ssl.ca.location` has signed its certificate: name the file with the CA of the brokers there, \
    under `[kafka.properties]`";

/// The remedy if the two sides speak different protocols.
const PROTOCOL: &str = "check which protocol the listener of this port has (the broker's `listeners` and \
    `listener.security.protocol.map`): `security.protocol` under `[kafka.properties]` has to be the same";

const CERTIFICATE: &str =
    "`ssl.certificate.location` and `ssl.key.location`, or `ssl.keystore.location`, under `[kafka.properties]`";

const WHERE: &str = "check the address in `kafka.brokers`, and `security.protocol` under `[kafka.properties]`";

/// Returns what the first four bytes of an answer tell if they are not the length that Kafka has there. `size` is these bytes,
/// read as a number.
fn no_kafka(size: i32) -> Option<&'static str> {
    match size.to_be_bytes() {
        [b'H', b'T', b'T', b'P'] => Some("what answers there is no Kafka but a web server"),
        // A record of TLS: an alert, or a handshake, of version 3.x.
        [0x15 | 0x16, 3, ..] => Some("what answers there wants TLS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::client_log::ClientLog;
    use crate::testing::{Broker, eventually, settings};
    use crate::{Failure, Polled, Source};
    use weir_core::record::Batch;

    #[test]
    fn each_trouble_of_connecting_has_words_of_its_own() {
        for (reason, words, lasting) in [
            (
                "Receive failed: Invalid response size 1213486160 (0..100000000): increase receive.message.max.bytes",
                "web server",
                true,
            ),
            (
                "Receive failed: Invalid response size 352518912 (0..100000000): increase receive.message.max.bytes",
                "wants TLS",
                true,
            ),
            ("Invalid response size -7 (0..1): increase receive.message.max.bytes", "is no Kafka, or wants TLS", true),
            (
                "kafka:9093/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 2ms in state \
                 APIVERSION_QUERY)",
                "wants TLS",
                false,
            ),
            (
                "sasl_plaintext://kafka:9093/1: Disconnected (after 2ms in state APIVERSION_QUERY, 1 identical error(s) \
                 suppressed)",
                "wants TLS",
                false,
            ),
            (
                "kafka:9093/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 2ms in state UP)",
                "wants SASL",
                false,
            ),
            (
                "kafka:9093/bootstrap: ApiVersionRequest failed: Local: Timed out: probably due to broker version < 0.10 (see \
                 api.version.request configuration) (after 3001ms in state APIVERSION_QUERY, 1 identical error(s) suppressed)",
                "nothing was answered within 3 s",
                false,
            ),
            (
                "ssl://kafka:9093/bootstrap: Connection setup timed out in state SSL_HANDSHAKE (after 5002ms in state \
                 SSL_HANDSHAKE)",
                "nothing was answered within 5 s",
                false,
            ),
            (
                "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
                "a broker that ends, by a load balancer without backends, or by a listener that speaks no TLS",
                false,
            ),
            ("SSL handshake failed: error:0A00010B:SSL routines::wrong version number", "speaks no TLS", false),
            (
                "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported \
                 mechanisms: ",
                "may speak no SASL",
                true,
            ),
            (
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker",
                "-connect kafka:9093 ",
                true,
            ),
            ("error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42", "client's certificate", true),
        ] {
            let found = diagnose(reason, "kafka:9093").unwrap_or_else(|| panic!("{reason}"));
            assert!(found.words.contains(words) && found.lasting == lasting, "{reason}: {found:?}");
            assert!(!found.words.contains("receive.message.max.bytes"), "it would not help: {found:?}");
            assert!(!found.words.contains("to PLAINTEXT"), "passwords are not to be sent in clear: {found:?}");
        }
        for (code, depth, words) in [
            (10, 0, "its certificate has expired"),
            (10, 1, "of the CA that has signed its own has expired"),
            (62, 0, "another host than kafka:"),
            (20, 0, "no CA in"),
            (3, 0, "add it to the file"),
            (12, 0, "the list in `ssl.crl.location` has expired"),
        ] {
            let found = of_certificate(Unaccepted { code, depth }, "kafka:9093").unwrap();
            assert!(found.contains(words), "{code}: {found}");
        }
        for reason in [
            "Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
            "kafka:9092/1: Disconnected: connection closed by peer: receive 0 after POLLIN (after 60000ms in state UP)",
            "sasl_ssl://kafka:9092/1: Disconnected (after 1ms in state UP)",
            "ssl://kafka:9092/1: Disconnected (after 1ms in state APIVERSION_QUERY)",
            "kafka:9092/1: Connection setup timed out in state CONNECT (after 5000ms in state CONNECT)",
        ] {
            assert_eq!(diagnose(reason, "kafka:9092"), None, "{reason}");
        }
    }

    #[test]
    fn only_alerts_that_waiting_does_not_help_are_lasting_and_only_some_are_about_a_certificate_of_this_client() {
        for (number, words, lasting) in [
            (22, "alert 22", false),
            (40, "no cipher in common", true),
            (42, "refuses this client's certificate", true),
            (48, "refuses this client's certificate", true),
            (70, "version of TLS", true),
            (80, "an error of its own", false),
            (112, "no host of the name kafka (SNI)", false),
            (116, "misses one", true),
        ] {
            // The name of alert 22, `record overflow`, is also the name of an error for data that is no TLS at all.
            let reason = format!("SSL handshake failed: error:0A000001:SSL routines::record overflow: SSL alert number {number}");
            let found = diagnose(&reason, "kafka:9093").unwrap();
            assert!(found.words.contains(words) && found.lasting == lasting, "{number}: {found:?}");
            let of_certificate = found.words.contains("ssl.certificate.location");
            assert_eq!(of_certificate, matches!(number, 40..=48 | 116), "{number}: {found:?}");
        }
    }

    #[test]
    fn the_command_that_tells_why_a_certificate_is_not_accepted_is_for_a_name_or_for_an_ip_address() {
        for (address, check) in [
            ("kafka:9093", "-connect kafka:9093 -verify_hostname kafka "),
            ("10.0.0.7:9093", "-connect 10.0.0.7:9093 -verify_ip 10.0.0.7 "),
            ("[fd00::7]:9093", "-connect [fd00::7]:9093 -verify_ip fd00::7 "),
        ] {
            let found = diagnose("error:0A000086:SSL routines::certificate verify failed", address).unwrap();
            assert!(found.words.contains(check), "{found:?}");
            assert!(found.words.contains("for example") && found.words.contains("ssl.crl.location"), "{found:?}");
        }
    }

    #[test]
    fn a_size_that_a_broker_may_answer_with_names_the_bound_and_others_do_not() {
        let at = |size: &str, state: &str| {
            let reason = format!(
                "kafka:9092/1: Receive failed: Invalid response size {size} (0..8389120): increase receive.message.max.bytes \
                 (after 12ms in state {state})"
            );
            diagnose(&reason, "kafka:9092").unwrap()
        };
        let found = at("9000100", "UP");
        let words = ["9000100 bytes", "`receive.message.max.bytes` (8389120)", "`fetch.max.bytes`"];
        assert!(words.iter().all(|word| found.words.contains(word)) && found.lasting && found.too_large, "{found:?}");
        // A server that did not say its versions is asked something else on the next connection, and gives the same answer.
        for (size, state) in [("1213486160", "UP"), ("1397966893", "UP"), ("2", "UP"), ("9000100", "APIVERSION_QUERY")] {
            let found = at(size, state);
            assert!(found.words.contains("is no Kafka") && found.lasting && !found.too_large, "{size} {state}: {found:?}");
        }
    }

    #[test]
    fn an_answer_that_is_too_large_stops_the_input_and_names_the_bound() {
        let mut settings = settings();
        for (name, value) in [("fetch.max.bytes", "2000"), ("message.max.bytes", "2000"), ("receive.message.max.bytes", "20000")]
        {
            settings.client.properties.insert(name.into(), value.into());
        }
        let broker = Broker::start(settings);
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
        broker.produce(&[(0, None, Some(noise.as_slice()))]);
        let client_log = Arc::new(ClientLog::of(&broker.settings.client));
        let mut source = Source::open(&broker.settings, &broker.address, client_log).unwrap();
        let (mut batch, mut stopped) = (Batch::default(), None);
        eventually("it stops", || {
            match source.poll(&mut batch, Duration::from_millis(20), None) {
                Ok(Polled::Assigned(_)) => drop(source.restore().unwrap()),
                Ok(_) | Err(Failure::Wait(_)) => {}
                Err(failure) => stopped = Some(failure),
            }
            stopped.is_some()
        });
        let Some(Failure::Stop(error)) = &stopped else { panic!("{stopped:?}") };
        assert!(error.to_string().contains("more than `receive.message.max.bytes` (20000)"), "{error}");
    }
}
