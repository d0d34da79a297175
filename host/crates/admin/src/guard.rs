//! Access to the admin interface: decides from the head of a request whether it is served.
//!
//! Reading is open to every client that reaches the address. On a loopback address these are the users of this host, and
//! programs on it that a stranger may control: browsers. So the header `Host` must name this host, which a rebound DNS name does
//! not. A change must have the content type `application/json` and no other origin: a page of another origin can send that only
//! after a preflight request, and this interface never agrees to one. On any other address a change needs the token. If a token
//! is set, changes need it on every address.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::settings::Token;

/// The headers that `check` relies on. Each may occur only once: if one occurred twice, a proxy could use one value and this
/// guard the other.
const SINGLE: [HeaderName; 4] = [header::HOST, header::ORIGIN, header::CONTENT_TYPE, header::AUTHORIZATION];

/// Checks the heads of requests.
#[derive(Clone)]
pub struct Guard {
    /// The hosts that a request may name; `None` if it may name any.
    hosts: Option<Vec<String>>,
    token: Option<Token>,
}

/// The refusal of a request: the status, and the reason with the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied(pub StatusCode, pub &'static str);

impl Guard {
    /// Returns the guard of an interface that listens on `address`, which the configuration calls `listen`.
    pub fn new(listen: &str, address: SocketAddr, token: Option<Token>) -> Guard {
        let name = listen.rsplit_once(':').map_or(listen, |(host, _)| host).trim_matches(['[', ']']).to_ascii_lowercase();
        let ours = ["localhost", "127.0.0.1", "::1", &name].map(str::to_owned);
        Guard { hosts: address.ip().is_loopback().then(|| ours.to_vec()), token }
    }

    /// Checks whether a request may be served.
    ///
    /// # Errors
    /// If not; the error has the reason and the remedy.
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
        if SINGLE.iter().any(|name| headers.get_all(name).iter().count() > 1) {
            return Err(Denied(StatusCode::BAD_REQUEST, "host, origin, content-type and authorization may be there once each"));
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        if self.hosts.as_ref().is_some_and(|hosts| !name(host).is_some_and(|name| hosts.contains(&name))) {
            return Err(Denied(StatusCode::FORBIDDEN, "the request names another host than this one; use localhost"));
        }
        if method.is_safe() {
            return Ok(());
        }
        if headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes() != format!("http://{host}").as_bytes()) {
            return Err(Denied(StatusCode::FORBIDDEN, "the request comes from a page of another origin"));
        }
        let content = text(header::CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
        if !content.trim().eq_ignore_ascii_case("application/json") {
            return Err(Denied(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a change must have the content type application/json"));
        }
        match (&self.token, &self.hosts) {
            (Some(token), _) => authorise(token, text(header::AUTHORIZATION)),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(Denied(
                StatusCode::FORBIDDEN,
                "changes on another address than loopback need a token; set `admin.token_file` or WEIR_ADMIN_TOKEN and restart",
            )),
        }
    }
}

fn authorise(token: &Token, given: Option<&str>) -> Result<(), Denied> {
    let bearer =
        |text: &str| text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer ")).and(text.get(7..)).map(str::to_owned);
    let Some(given) = given.and_then(bearer) else {
        return Err(Denied(StatusCode::UNAUTHORIZED, "a change needs `Authorization: Bearer TOKEN`"));
    };
    let token = token.read().map_err(|error| {
        tracing::error!("a change is denied: {error:#}");
        Denied(StatusCode::INTERNAL_SERVER_ERROR, "the token can't be read now; the log of the process says why")
    })?;
    // Digests have the same length: the time of the comparison says nothing about the token.
    let [ours, theirs] = [token.trim(), given.trim()].map(Sha256::digest);
    match bool::from(ours.ct_eq(&theirs)) {
        true => Ok(()),
        false => Err(Denied(StatusCode::UNAUTHORIZED, "the token is not the one of `admin.token`")),
    }
}

/// Returns the name in `name:port`, `[::1]:port` and the like. Returns `None` if anything else than a port follows it.
fn name(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
    is_port.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, token: Option<&str>, method: Method, headers: &[(&'static str, &str)]) -> Result<(), StatusCode> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let token = token.map(|token| Token::Text(token.into()));
        Guard::new(address, address.parse().unwrap(), token).check(&method, &headers).map_err(|Denied(status, _)| status)
    }

    const LOOPBACK: &str = "127.0.0.1:8081";
    const OPEN: &str = "0.0.0.0:8081";
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const HOST: (&str, &str) = ("host", "localhost:8081");

    #[test]
    fn on_loopback_this_host_may_change_things() {
        assert_eq!(check(LOOPBACK, None, Method::POST, &[HOST, JSON]), Ok(()));
        assert_eq!(check("[::1]:8081", None, Method::POST, &[("host", "[::1]:8081"), JSON]), Ok(()));
        assert_eq!(check(LOOPBACK, None, Method::POST, &[HOST, JSON, ("origin", "http://localhost:8081")]), Ok(()));
    }

    #[test]
    fn a_page_of_a_stranger_changes_nothing() {
        let post = |headers: &[(&'static str, &str)]| check(LOOPBACK, None, Method::POST, headers);
        assert_eq!(post(&[HOST]), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(post(&[HOST, ("content-type", "text/plain")]), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(post(&[HOST, JSON, ("origin", "https://evil.example")]), Err(StatusCode::FORBIDDEN));
        assert_eq!(post(&[HOST, JSON, ("origin", "null")]), Err(StatusCode::FORBIDDEN));
    }

    #[test]
    fn a_rebound_name_reads_nothing() {
        assert_eq!(check(LOOPBACK, None, Method::GET, &[("host", "evil.example:8081")]), Err(StatusCode::FORBIDDEN));
        assert_eq!(check(LOOPBACK, None, Method::GET, &[]), Err(StatusCode::FORBIDDEN));
        assert_eq!(check(LOOPBACK, None, Method::GET, &[HOST]), Ok(()));
    }

    #[test]
    fn what_is_no_name_with_a_port_is_no_host_of_ours() {
        for host in ["localhost:80@evil.example", "localhost:80:81", "[::1]evil.example", "[::1", "localhost: 80"] {
            assert_eq!(check(LOOPBACK, None, Method::GET, &[("host", host)]), Err(StatusCode::FORBIDDEN), "{host}");
        }
        for host in ["LOCALHOST", "127.0.0.1:8081", "[::1]:8081", "[::1]"] {
            assert_eq!(check(LOOPBACK, None, Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn of_two_headers_of_one_name_neither_counts() {
        let origin = ("origin", "http://localhost:8081");
        for twice in [HOST, JSON, origin, ("authorization", "Bearer secret")] {
            let headers: HeaderMap = [HOST, JSON, origin, twice, twice]
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
                .into_iter()
                .fold(HeaderMap::new(), |mut headers, (name, value)| {
                    headers.append(name, value);
                    headers
                });
            let guard = Guard::new(LOOPBACK, LOOPBACK.parse().unwrap(), None);
            let denied = guard.check(&Method::POST, &headers).unwrap_err();
            assert_eq!(denied.0, StatusCode::BAD_REQUEST, "{twice:?}");
        }
    }

    #[test]
    fn elsewhere_reading_is_open_and_a_change_needs_the_token() {
        let host = ("host", "weir.example:8081");
        assert_eq!(check(OPEN, None, Method::GET, &[host]), Ok(()));
        assert_eq!(check(OPEN, None, Method::POST, &[host, JSON]), Err(StatusCode::FORBIDDEN));
        let with =
            |authorization: &str| check(OPEN, Some("secret"), Method::POST, &[host, JSON, ("authorization", authorization)]);
        assert_eq!(with("Bearer secret"), Ok(()));
        assert_eq!(with("bearer secret"), Ok(()));
        assert_eq!(with("Bearer secrets"), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(with("Basic secret"), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(check(OPEN, Some("secret"), Method::POST, &[host, JSON]), Err(StatusCode::UNAUTHORIZED));
    }

    #[test]
    fn a_tokens_file_may_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let guard = Guard::new(OPEN, OPEN.parse().unwrap(), Some(Token::File(file.clone())));
        let with = |token: &str| {
            let headers = [JSON, ("authorization", &format!("Bearer {token}"))];
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            guard.check(&Method::POST, &headers).map_err(|Denied(status, _)| status)
        };
        assert_eq!(with("old"), Err(StatusCode::INTERNAL_SERVER_ERROR), "it is not there");
        std::fs::write(&file, "old\n").unwrap();
        assert_eq!((with("old"), with("new")), (Ok(()), Err(StatusCode::UNAUTHORIZED)));
        std::fs::write(&file, "new\n").unwrap();
        assert_eq!((with("old"), with("new")), (Err(StatusCode::UNAUTHORIZED), Ok(())));
    }

    #[test]
    fn a_token_that_is_set_is_needed_on_loopback_too() {
        assert_eq!(check(LOOPBACK, Some("secret"), Method::POST, &[HOST, JSON]), Err(StatusCode::UNAUTHORIZED));
    }
}
