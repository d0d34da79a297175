//! The outlet into Kafka. The key of a record is the user's id.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::{GeneratedLogin, Outlet};
use crate::config::Config;
use weir_kafka::{Failure, Publisher, publish};
use weir_system::shutdown::Shutdown;

/// The number of messages after which their delivery reports are awaited, so that a failure is reported and not only counted.
const SETTLE_MESSAGES: u32 = 10_000;
/// The time after which delivery reports are awaited too.
const SETTLE_EVERY: Duration = Duration::from_secs(2);

/// Produces messages to the input topic.
pub struct Feed {
    publisher: Publisher,
    topic: String,
    unsettled: u32,
    settled: Instant,
}

impl Feed {
    /// Returns a feed for the input topic of `config` on `brokers`.
    ///
    /// # Errors
    /// If the client does not accept its settings.
    pub fn open(config: &Config, brokers: &str) -> anyhow::Result<Feed> {
        let topic = config.kafka.topics.input.clone();
        Ok(Feed {
            publisher: Publisher::open(&config.kafka.client, brokers, &topic)?,
            topic,
            unsettled: 0,
            settled: Instant::now(),
        })
    }

    fn settle(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        self.unsettled = 0;
        self.settled = Instant::now();
        let outcome = self.publisher.finish(&mut || shutdown.is_overdue());
        self.explain(outcome)
    }

    fn explain(&self, outcome: Result<(), Failure>) -> anyhow::Result<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Failure::Stop(error) | Failure::Missing(error) | Failure::Wait(error)) => Err(error),
            Err(Failure::Cancelled) => {
                bail!("failed to deliver the last messages to topic {}: stopped before the broker answered", self.topic)
            }
        }
    }
}

impl Outlet for Feed {
    fn put(&mut self, message: &GeneratedLogin, shutdown: &Shutdown) -> anyhow::Result<()> {
        let sent = publish::Message { key: Some(&message.key), value: message.value.as_deref(), timestamp: None };
        let outcome = self.publisher.send(sent, &mut || shutdown.is_overdue());
        self.explain(outcome)?;
        self.unsettled += 1;
        match self.unsettled >= SETTLE_MESSAGES || self.settled.elapsed() >= SETTLE_EVERY {
            true => self.settle(shutdown),
            false => Ok(()),
        }
    }

    /// Does nothing: the client sends by itself.
    fn idle(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn finish(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        self.settle(shutdown)
    }
}
