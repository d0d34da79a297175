//! The variables that Kubernetes sets in every pod for each Service of its namespace (`enableServiceLinks`, which is on by
//! default).
//!
//! For a Service called `weir` or `weir-…` these variables begin with `WEIR_`, like the variables of this program, although no
//! operator has written them. They are recognized by three variables that Kubernetes sets for a Service NAME: an address in
//! `NAME_SERVICE_HOST`, a port in `NAME_SERVICE_PORT`, and both as a URL in `NAME_PORT`. If one of the three is missing, or does
//! not fit the others, no variable of that name is attributed to Kubernetes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::path::PREFIX;

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Returns the names of those `variables` that Kubernetes has set for Services.
pub(super) fn service_links(variables: &BTreeMap<String, String>) -> Vec<String> {
    let services: Vec<(&str, IpAddr)> = variables.iter().filter_map(|(name, value)| service(name, value, variables)).collect();
    let is_link = |name: &str, value: &str| services.iter().any(|(service, host)| is_link_of(service, *host, name, value));
    variables.iter().filter(|(name, value)| is_link(name, value)).map(|(name, _)| name.clone()).collect()
}

/// Returns whether `name` has the form of a variable that Kubernetes sets for a Service, whatever the value is.
pub(super) fn looks_like_one(name: &str) -> bool {
    let name = name.strip_prefix(PREFIX).map(|name| format!("_{name}")).unwrap_or_default();
    let is_port = |rest: &str| rest.split('_').next().is_some_and(|port| port.parse::<u16>().is_ok());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| is_port(rest))
}

/// Returns the name of a Service and its address, if `name` is its `…_SERVICE_HOST` and the other variables of the Service exist
/// as well.
fn service<'a>(name: &'a str, value: &str, variables: &BTreeMap<String, String>) -> Option<(&'a str, IpAddr)> {
    let service = name.strip_suffix("_SERVICE_HOST").filter(|service| format!("{service}_").starts_with(PREFIX))?;
    let host: IpAddr = value.parse().ok()?;
    let port: u16 = variables.get(&format!("{service}_SERVICE_PORT"))?.parse().ok()?;
    let url = variables.get(&format!("{service}_PORT"))?;
    is_url(url, host, Some(port)).then_some((service, host))
}

fn is_link_of(service: &str, host: IpAddr, name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('_')) else { return false };
    match rest {
        "SERVICE_HOST" => value.parse() == Ok(host),
        "PORT" => is_url(value, host, None),
        _ if rest == "SERVICE_PORT" || rest.starts_with("SERVICE_PORT_") => value.parse::<u16>().is_ok(),
        _ => rest.strip_prefix("PORT_").is_some_and(|rest| is_port_link(rest, host, value)),
    }
}

/// Returns whether `rest` is the end of a name such as `8081_TCP`, `8081_TCP_PROTO`, `8081_TCP_PORT` or `8081_TCP_ADDR`, and
/// `value` is the value that Kubernetes gives this variable.
fn is_port_link(rest: &str, host: IpAddr, value: &str) -> bool {
    let words: Vec<&str> = rest.split('_').collect();
    let (Some(port), Some(protocol)) = (words.first().and_then(|port| port.parse::<u16>().ok()), words.get(1)) else {
        return false;
    };
    PROTOCOLS.contains(protocol)
        && match words[2..] {
            [] => is_url(value, host, Some(port)),
            ["PROTO"] => value.eq_ignore_ascii_case(protocol),
            ["PORT"] => value.parse() == Ok(port),
            ["ADDR"] => value.parse() == Ok(host),
            _ => false,
        }
}

/// Returns whether `value` is `tcp://HOST:PORT`, or such a URL for another protocol.
fn is_url(value: &str, host: IpAddr, port: Option<u16>) -> bool {
    value.split_once("://").is_some_and(|(protocol, address)| {
        PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol))
            && address
                .parse()
                .is_ok_and(|address: SocketAddr| address.ip() == host && port.is_none_or(|port| address.port() == port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the variables that Kubernetes sets for a Service with one named port.
    fn links(service: &str, host: &str) -> BTreeMap<String, String> {
        let address = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("tcp://{address}:8081");
        [
            ("SERVICE_HOST", host),
            ("SERVICE_PORT", "8081"),
            ("SERVICE_PORT_HTTP_ADMIN", "8081"),
            ("PORT", &url),
            ("PORT_8081_TCP", &url),
            ("PORT_8081_TCP_PROTO", "tcp"),
            ("PORT_8081_TCP_PORT", "8081"),
            ("PORT_8081_TCP_ADDR", host),
        ]
        .map(|(name, value)| (format!("{service}_{name}"), value.to_owned()))
        .into()
    }

    #[test]
    fn all_that_is_set_for_a_service_is_found() {
        for (service, host) in [("WEIR", "10.96.14.7"), ("WEIR_ADMIN", "10.0.0.1"), ("WEIR_KAFKA_PROPERTIES", "fd00::7")] {
            let links = links(service, host);
            assert_eq!(service_links(&links), links.keys().cloned().collect::<Vec<_>>());
            assert!(links.keys().all(|name| looks_like_one(name)));
        }
    }

    #[test]
    fn what_somebody_has_written_is_none() {
        let mut written = links("WEIR_ADMIN", "10.0.0.1");
        let ours = [
            ("WEIR_ADMIN_LISTEN", "10.0.0.1:8081"),
            ("WEIR_KAFKA_BROKERS", "kafka:9092"),
            ("WEIR_RULE_A_CONFIG_PORT", "tcp://10.0.0.1:8081"),
            ("WEIR_ADMIN_PORTS", "8081"),
        ];
        written.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let found = service_links(&written);
        assert!(ours.iter().all(|(name, _)| !found.iter().any(|found| found == name)), "{found:?}");
        assert_eq!(found.len(), 8);
    }

    #[test]
    fn where_a_part_is_missing_or_another_ones_nothing_is_taken_for_a_services() {
        for (name, value) in [("WEIR_PORT", None), ("WEIR_SERVICE_PORT", None), ("WEIR_PORT", Some("tcp://10.9.9.9:8081"))] {
            let mut variables = links("WEIR", "10.96.14.7");
            variables.remove(name);
            variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
            assert_eq!(service_links(&variables), [] as [String; 0], "{name}");
        }
    }
}
