//! Why no connection comes about, in words: what librdkafka says of TLS and of answers that are no Kafka's is known by its text.
//!
//! Where its text can't tell one cause from another, the words name each of them, and the command that tells. Why a certificate is
//! not accepted can be asked for.

use std::fmt;

use super::native::Unaccepted;

/// Whoever closes a connection sooner than this after it was established does so because of what was asked.
const AT_ONCE_MILLIS: u32 = 2_000;

/// What is known of a connection that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) words: String,
    /// Waiting does not help: what was answered can't come from a broker that is only busy or starting.
    pub(super) lasting: bool,
    /// A certificate is not accepted. [`of_certificate`] has the words for the reason, once that is asked for.
    pub(super) certificate: bool,
}

/// Where a connection was closed that a broker has accepted.
enum Closed {
    /// At the question which versions it speaks, which has to be answered to anybody.
    Unanswered,
    /// As soon as more is asked, by somebody who has not logged in.
    Stranger,
}

/// Whether `reason` tells of a connection that was closed because of how it was spoken on. Else a broker may have ended.
fn closed(reason: &str) -> Option<Closed> {
    let (before, after) = reason.split_once("Disconnected").filter(|(_, after)| !after.contains("PLAINTEXT broker"))?;
    let (_, state) = after.rsplit_once("(after ")?;
    let (millis, state) = state.split_once("ms in state ")?;
    let in_state = |name: &str| state.strip_prefix(name).is_some_and(|rest| rest.starts_with([')', ',']));
    // librdkafka names a broker by protocol and address; a plain one has no protocol.
    if in_state("APIVERSION_QUERY") && !before.contains("ssl://") {
        return Some(Closed::Unanswered);
    }
    let at_once = millis.parse::<u32>().is_ok_and(|millis| millis < AT_ONCE_MILLIS);
    (in_state("UP") && at_once && !before.contains("sasl")).then_some(Closed::Stranger)
}

/// For how many seconds nothing was answered, where `reason` tells of a connection that was accepted.
fn silent(reason: &str) -> Option<u32> {
    let texts =
        ["ApiVersionRequest failed: Local: Timed out", "timed out in state SSL_HANDSHAKE", "timed out in state APIVERSION_QUERY"];
    texts.iter().find(|text| reason.contains(*text))?;
    let (_, state) = reason.rsplit_once("(after ")?;
    let (millis, _) = state.split_once("ms in state ")?;
    Some(millis.parse::<u32>().ok()? / 1_000)
}

/// The diagnosis for a `reason` of librdkafka, with the broker's name before it and the state of the connection after it, if it is
/// about how to speak with the broker at `address`.
pub(super) fn diagnose(reason: &str, address: &str) -> Option<Diagnosis> {
    let is = |words: &dyn fmt::Display, lasting| Some(Diagnosis { words: words.to_string(), lasting, certificate: false });
    if let Some(size) = reason.split("Invalid response size ").nth(1) {
        let size = size.split(' ').next().and_then(|size| size.parse::<i32>().ok()).unwrap_or_default();
        return is(&format_args!("{}: {WHERE}", no_kafka(size)), true);
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
    if known(&["connecting to a PLAINTEXT broker listener?", "wrong version number", "record overflow", "packet length too long"])
    {
        return is(
            &"what answers there speaks no TLS: set `security.protocol` to PLAINTEXT or SASL_PLAINTEXT under `[kafka.properties]`, \
              or take the address of a listener with TLS",
            false,
        );
    }
    if known(&["certificate verify failed", "could not be verified", "Failed to verify broker certificate"]) {
        let host = host(address);
        let words = format!(
            "its certificate is not accepted: it has expired, or names another host than {host}, or no CA in `ssl.ca.location` \
             has signed it; to see which, run `openssl s_client -connect {address} -verify_hostname {host} -CAfile FILE \
             </dev/null`, with the file of `ssl.ca.location`"
        );
        return Some(Diagnosis { words, lasting: true, certificate: true });
    }
    if known(&["SSL alert number"]) {
        return is(
            &"it refuses this client's certificate, or misses one: check `ssl.certificate.location` and `ssl.key.location`, or \
              `ssl.keystore.location`, under `[kafka.properties]`: the certificate has to be valid now, and of a CA that the \
              broker trusts",
            true,
        );
    }
    None
}

/// Why the certificate of the broker at `address` is not accepted, where the reason has words of its own. The numbers are
/// `X509_V_ERR_*` of OpenSSL, which keeps them.
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
        23 => format!("{whose} was revoked: have it issued anew"),
        _ => return None,
    })
}

/// The host of an address with a port.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

const UNSIGNED: &str = "no CA in `ssl.ca.location` has signed its certificate: name the file with the CA of the brokers there, \
    under `[kafka.properties]`";

const WHERE: &str = "check the address in `kafka.brokers`, and `security.protocol` under `[kafka.properties]`";

/// What an answer tells that begins with `size`, where Kafka has its length.
fn no_kafka(size: i32) -> &'static str {
    match size.to_be_bytes() {
        [b'H', b'T', b'T', b'P'] => "what answers there is no Kafka but a web server",
        // A record of TLS: an alert, or a handshake, of version 3.x.
        [0x15 | 0x16, 3, ..] => "what answers there wants TLS",
        _ => "what answers there is no Kafka, or wants TLS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?", "speaks no TLS", false),
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
        }
        for (code, depth, words) in [
            (10, 0, "its certificate has expired"),
            (10, 1, "of the CA that has signed its own has expired"),
            (62, 0, "another host than kafka:"),
            (20, 0, "no CA in"),
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
}
