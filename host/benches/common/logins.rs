//! The simulated logins of a benchmark, and the topic that is filled with them.

use std::time::{Duration, Instant};

use weir::config::{self, Config};
use weir::simulate::bad::{self, Defect};
use weir::simulate::logins::{GeneratedLogin, Logins, Options};
use weir_kafka::{Failure, Publisher, publish};

use super::broker::Broker;
use super::process;
use super::topics;

/// The share of bad logins, where there are any.
const BAD_SHARE: f64 = 0.1;
/// The most time in which the broker has to take all logins.
const TAKEN: Duration = Duration::from_secs(300);

/// Returns logins without any bad ones.
pub fn good() -> Logins {
    Logins::new(&Options { bad_share: 0.0, ..Options::default() })
}

/// Returns logins with a share of bad ones, of the kinds that are named.
pub fn mixed(kinds: &[&str]) -> anyhow::Result<Logins> {
    let kinds: Vec<&Defect> = kinds.iter().map(|name| bad::find(name)).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    Ok(Logins::new(&Options { kinds, bad_share: BAD_SHARE, ..Options::default() }))
}

/// Creates a topic and fills it with `logins`.
pub fn produce(broker: &Broker, topic: &str, logins: impl Iterator<Item = GeneratedLogin>) -> anyhow::Result<()> {
    topics::create(&broker.address, &[topic])?;
    let kafka = Config::load(None, config::environment()?)?.kafka;
    let mut publisher = Publisher::open(&kafka.client, &broker.address, topic)?;
    let until = Instant::now() + TAKEN;
    let mut cancelled = || Instant::now() > until || process::go_on().is_err();
    for login in logins {
        let message = publish::Message { key: Some(&login.key), value: login.value.as_deref(), timestamp: None };
        publisher.send(message, &mut cancelled).map_err(plain)?;
    }
    publisher.finish(&mut cancelled).map_err(plain)
}

fn plain(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Wait(error) | Failure::Missing(error) | Failure::Stop(error) => error,
        Failure::Cancelled => anyhow::anyhow!("the broker did not take the logins in time"),
    }
}
