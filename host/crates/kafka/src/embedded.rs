//! A broker within the process: librdkafka's mock cluster, for a demo and for tests without Docker or Kafka.
//!
//! The broker speaks the protocol on a port of the loopback interface, but it is not Kafka:
//!
//! - It keeps at most 5 MiB a partition, and silently drops the oldest data beyond that.
//! - It forgets everything when the process ends.
//! - It takes no part in transactions.
//! - It knows no permissions.
//! - A group whose last member has left forms anew only after a session's time-out.
//!
//! So it proves nothing about exactly-once, and it is no place for data.

use std::sync::Arc;

use anyhow::Context as _;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use super::client_log::{ClientLog, Quiet};
use super::settings::Topics;

/// A running broker with its topics. It ends when this is dropped.
pub struct Embedded {
    /// The client that runs the mock cluster. The cluster ends with the client.
    client: BaseProducer<Quiet>,
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl Embedded {
    /// Starts a broker on a free port and creates the topics, each with `topics.partitions` partitions.
    ///
    /// # Errors
    /// If no port can be opened, or a topic name is not legal.
    pub fn start(topics: &Topics) -> anyhow::Result<Embedded> {
        let embedded = Embedded::empty()?;
        for topic in [&topics.input, &topics.output, &topics.rejected, &topics.counts] {
            embedded.create_topic(topic, topics.partitions)?;
        }
        Ok(embedded)
    }

    /// Starts a broker without topics.
    fn empty() -> anyhow::Result<Embedded> {
        let mut settings = ClientConfig::new();
        settings.set_log_level(RDKafkaLogLevel::Error);
        settings.set("test.mock.num.brokers", "1");
        let context = Quiet(Arc::new(ClientLog::silent()));
        let client: BaseProducer<Quiet> = settings.create_with_context(context).context("failed to start the embedded broker")?;
        super::native::form_groups_at_once(client.client());
        Ok(Embedded { client })
    }

    fn create_topic(&self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        self.cluster()?
            .create_topic(topic, partitions, 1)
            .with_context(|| format!("failed to create topic {topic} on the embedded broker"))
    }

    /// Returns the address at which clients find the broker, such as `127.0.0.1:34567`.
    ///
    /// # Errors
    /// If the broker has not come up.
    pub fn bootstrap_servers(&self) -> anyhow::Result<String> {
        Ok(self.cluster()?.bootstrap_servers())
    }

    /// Returns the cluster, so that tests can inject faults.
    pub(super) fn cluster(&self) -> anyhow::Result<MockCluster<'_, Quiet>> {
        self.client.client().mock_cluster().context("failed to find the embedded broker: the client runs none")
    }
}
