//! Checks the list of brokers that an operator writes. If a port is not a number, the Kafka client connects to a different port,
//! and the client skips the parts of a list that it does not understand. Therefore a list is checked here before it is used.

use std::net::Ipv6Addr;

/// Checks whether `text` is a list of brokers, `host:port,…`. A port may be omitted.
///
/// # Errors
/// If it is not. The error describes the expected value.
pub fn check(text: &str) -> Result<(), &'static str> {
    if text.contains('@') {
        return Err("`host:port,…`, and user and password as `sasl.username` and `sasl.password` in `[kafka.properties]`");
    }
    if text.contains("://") {
        return Err("`host:port,…`, and the protocol as `security.protocol` in `[kafka.properties]`");
    }
    let mut brokers = text.split(',').map(str::trim).filter(|broker| !broker.is_empty()).peekable();
    match brokers.peek().is_some() && brokers.all(is_broker) {
        true => Ok(()),
        false => Err("`host:port,…`, with ports from 1 to 65535"),
    }
}

/// Returns whether `text` may be a host name or an IPv4 address.
pub fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn is_broker(text: &str) -> bool {
    if text.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let (host, port) = text.rsplit_once(':').filter(|_| !text.ends_with(']')).unwrap_or((text, "9092"));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_known = bracketed.map_or_else(|| is_host_name(host), |address| !address.is_empty());
    is_known && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_brokers_are_taken_as_they_are_written() {
        for list in [
            "kafka:9092",
            "a.b-c_d",
            "a:1, b:65535",
            "127.0.0.1:9092",
            "[::1]:9092",
            "[::1]",
            "::1",
            "[fe80::1%eth0]:9092",
            "a:1,",
        ] {
            assert_eq!(check(list), Ok(()), "{list}");
        }
    }

    #[test]
    fn what_the_client_would_dial_elsewhere_or_leave_out_is_refused() {
        for list in
            ["", ",", "localhost:99999", "localhost:0", "localhost:abc", "localhost:", "a:1;b:2", "a b", "[]:1", ":1", "a:+1"]
        {
            assert_eq!(check(list), Err("`host:port,…`, with ports from 1 to 65535"), "{list}");
        }
        for list in ["ssl://a:1", "http://a:1", "b:1,tcp://a:1"] {
            assert!(check(list).is_err_and(|expected| expected.contains("security.protocol")), "{list}");
        }
        for list in ["user:word@a:1", "a:1,SASL_SSL://user:word@b:1"] {
            assert!(check(list).is_err_and(|expected| expected.contains("sasl.username")), "{list}");
        }
    }
}
