//! A producer for those who only produce, such as the simulator.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;

use super::Failure;
use super::client;
use super::failure::{Operation, refused};
use super::native::Outgoing;
use super::outbox::Outbox;
use super::settings::ClientSettings;
use super::troubles::Troubles;

/// Produces to one topic.
pub struct Publisher {
    outbox: Outbox,
    topic: String,
}

impl Publisher {
    /// A producer to `topic`, with the settings of `kafka`. Connects in the background.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(kafka: &ClientSettings, brokers: &str, topic: &str) -> anyhow::Result<Publisher> {
        let outbox = Outbox::open(client::producer_settings(kafka, brokers)?, Arc::new(Troubles::of(kafka)))?;
        Ok(Publisher { outbox, topic: topic.to_string() })
    }

    /// Hands a message over; its partition is chosen by the key. Waits while too much is unsent, or until `give_up` says so.
    ///
    /// # Errors
    /// If the message can never be sent.
    pub fn send(&mut self, message: Message<'_>, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let outgoing = Outgoing {
            topic: &self.topic,
            partition: None,
            key: message.key,
            value: message.value,
            timestamp: message.timestamp,
            headers: None,
            tag: 0,
        };
        match self.outbox.send(outgoing, give_up)? {
            None => {
                self.outbox.serve();
                Ok(())
            }
            Some(code) => Err(self.failure(code)),
        }
    }

    /// Waits until everything is delivered, or until `give_up` says so.
    ///
    /// # Errors
    /// The first message that was not delivered.
    pub fn finish(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        match self.outbox.drain(give_up)?.first() {
            None => Ok(()),
            Some(bad) => Err(self.failure(bad.code)),
        }
    }

    fn failure(&self, code: RDKafkaErrorCode) -> Failure {
        let what = format!("write to topic {}", self.topic);
        match refused(code) {
            Some((_, remedy)) => Failure::Stop(anyhow::anyhow!("failed to {what}: {}: {remedy}", super::failure::describe(code))),
            None => Failure::of_topic(code, Operation::Write, &self.topic),
        }
    }
}

/// A message to be produced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Decides the partition; none goes to any.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the epoch; none is now.
    pub timestamp: Option<i64>,
}
