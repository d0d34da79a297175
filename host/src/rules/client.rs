//! Requests to the admin interface, and their answers. This is the only HTTP client of the program.
//!
//! Each request has a connection of its own, without proxy and without redirects, so that the token is sent only to the intended
//! address. No request is repeated. The answer may come from another program than Weir, so it is bounded, and escaped before it
//! becomes a part of a message.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{Agent, Error, Timeout};

use crate::cli::BadUsage;
use weir_admin::Settings;
use weir_core::printable::escape_line;

/// The longest time to connect. It is short because the interface is on a machine nearby.
const CONNECTING: Duration = Duration::from_secs(3);
/// The longest time for the answer to a request that changes nothing.
const READING: Duration = Duration::from_secs(10);
/// The longest time for the answer to a change. Compiling and handing over take up to a minute.
const CHANGING: Duration = Duration::from_secs(90);
/// The largest answer, in bytes. A thousand sets with their differences are far smaller.
const MAX_ANSWER: u64 = 32 << 20;
/// The longest text of a refusal that is shown, in characters. Refusals of `weir run` are shorter.
const MAX_REFUSAL: usize = 4_000;

/// The admin interface at an address.
pub struct Client {
    address: String,
    token: Option<String>,
}

/// The errors that occur before anything is sent.
const NOT_CONNECTED: [ErrorKind; 4] =
    [ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable, ErrorKind::AddrNotAvailable];

/// An answer of the interface.
pub struct Reply<T> {
    /// The answer as it was received.
    pub json: String,
    pub content: T,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

impl Client {
    /// Returns a client of the interface at `named`, or, if that is None, at the address in the configuration.
    ///
    /// # Errors
    /// If there is no address, or the token can't be read.
    pub fn new(named: Option<&str>, admin: &Settings) -> anyhow::Result<Client> {
        let listen = named.or(admin.listen.as_deref());
        let listen = listen.ok_or_else(|| {
            BadUsage(
                "failed to find the admin interface: `admin.listen` is empty; set it for `weir run`, or say by --admin where to \
                 ask"
                .to_owned(),
            )
        })?;
        let token = admin.token.as_ref().map(|token| token.read()).transpose()?;
        Ok(Client { address: reachable(listen)?, token })
    }

    /// Sends a request that changes nothing.
    ///
    /// # Errors
    /// If no admin interface answers, if the answer is a refusal, or if it is not an answer of Weir.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Reply<T>> {
        let request = agent(READING).get(self.url(path)).query_pairs(query.iter().copied());
        let request = self.credentials().into_iter().fold(request, |request, (name, value)| request.header(name, value));
        self.read(request.call().and_then(content), READING)
    }

    /// Sends a request for a change.
    ///
    /// # Errors
    /// The errors of [`Client::get`]. If there is no answer, the change may have been made.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<Reply<T>> {
        let request = agent(CHANGING).post(self.url(path)).content_type("application/json");
        let request = self.credentials().into_iter().fold(request, |request, (name, value)| request.header(name, value));
        self.read(request.send(body.to_string()).and_then(content), CHANGING)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/rules{path}", self.address)
    }

    fn credentials(&self) -> Option<(&'static str, String)> {
        self.token.as_ref().map(|token| ("authorization", format!("Bearer {token}")))
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<(u16, Vec<u8>), Error>, limit: Duration) -> anyhow::Result<Reply<T>> {
        let (status, body) = answer.map_err(|error| self.no_answer(&error, limit))?;
        let json = String::from_utf8(body).map_err(|_| self.strange("with something else than text"))?;
        if (200..300).contains(&status) {
            let content = serde_json::from_str(&json).map_err(|error| self.strange(&format!("with something else: {error}")))?;
            return Ok(Reply { json: json.trim_end().to_owned(), content });
        }
        let Ok(ErrorBody { error }) = serde_json::from_str(&json) else {
            return Err(self.strange(&format!("with status {status}")));
        };
        let error: String = error.chars().take(MAX_REFUSAL).collect();
        let error = escape_line(&error);
        match status {
            401 => {
                bail!("{} refuses the token: {error} (`admin.token`, `admin.token_file` or WEIR_ADMIN_TOKEN)", self.address)
            }
            403 => bail!("{} denies this: {error}", self.address),
            409 => bail!("refused: {error}"),
            _ => bail!("{}: {error}", self.address),
        }
    }

    /// Returns the error for a missing answer, or for one that is not HTTP.
    fn no_answer(&self, error: &Error, limit: Duration) -> anyhow::Error {
        let address = &self.address;
        match error {
            Error::Timeout(Timeout::Connect | Timeout::Resolve) | Error::HostNotFound | Error::ConnectionFailed => {
                self.nobody(&error.to_string())
            }
            Error::Io(error) if NOT_CONNECTED.contains(&error.kind()) => self.nobody(&error.to_string()),
            Error::Timeout(_) => anyhow!(
                "{address} gave no answer within {limit:?} and may still do what was asked for; `weir rules status` tells"
            ),
            Error::Io(error) => anyhow!(
                "the connection to {address} broke off before the answer, and what was asked for may be done: {error}; \
                 `weir rules status` tells"
            ),
            error => self.strange(&format!("with something else ({})", escape_line(&error.to_string()))),
        }
    }

    fn nobody(&self, why: &str) -> anyhow::Error {
        anyhow!(
            "nobody answers at {} ({why}); is `weir run` up, and does it listen there? see `admin.listen`, or give --admin",
            self.address
        )
    }

    fn strange(&self, how: &str) -> anyhow::Error {
        anyhow!(
            "{} answers, but not as the admin interface of `weir run`: {how}; see `admin.listen`, or give --admin",
            self.address
        )
    }
}

fn agent(limit: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(CONNECTING))
        .timeout_global(Some(limit));
    config.build().new_agent()
}

fn content(mut response: ureq::http::Response<ureq::Body>) -> Result<(u16, Vec<u8>), Error> {
    let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
    Ok((response.status().as_u16(), body))
}

/// Returns the address at which to connect to an interface that listens at `listen`. If it listens on all addresses, it is
/// reached through the loopback address.
fn reachable(listen: &str) -> anyhow::Result<String> {
    let Ok(mut address) = listen.parse::<SocketAddr>() else {
        return Ok(listen.to_owned());
    };
    if address.port() == 0 {
        bail!(BadUsage(format!(
            "failed to find the admin interface: `admin.listen` leaves the port open ({listen}); `weir run` logs at its start \
             which one it took: give it by --admin"
        )));
    }
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Ok(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_on_this_machine() {
        assert_eq!(reachable("0.0.0.0:8081").unwrap(), "127.0.0.1:8081");
        assert_eq!(reachable("[::]:8081").unwrap(), "[::1]:8081");
        for same in ["127.0.0.1:1", "[::1]:1", "10.0.0.7:8081", "weir:8081"] {
            assert_eq!(reachable(same).unwrap(), same);
        }
        assert!(reachable("127.0.0.1:0").unwrap_err().to_string().contains("--admin"));
    }

    #[test]
    fn without_an_address_nobody_is_asked() {
        let none = Settings { listen: None, token: None };
        assert!(Client::new(None, &none).err().unwrap().to_string().contains("admin.listen"));
        assert_eq!(Client::new(Some("[::]:1"), &none).unwrap().address, "[::1]:1");
    }
}
