//! A producer for commands that only produce, such as the simulator.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;

use super::Failure;
use super::client;
use super::client_log::ClientLog;
use super::failure::{Operation, refused};
use super::native::Outgoing;
use super::producer::Producer;
use super::settings::ClientSettings;

/// A producer to one topic.
pub struct Publisher {
    producer: Producer,
    topic: String,
}

impl Publisher {
    /// Opens a producer to `topic`, with the settings of `kafka`. It connects in the background.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(kafka: &ClientSettings, brokers: &str, topic: &str) -> anyhow::Result<Publisher> {
        let producer = Producer::open(client::producer_settings(kafka, brokers)?, Arc::new(ClientLog::of(kafka)))?;
        Ok(Publisher { producer, topic: topic.to_string() })
    }

    /// Hands a record over. Its key decides its partition. Waits while too much is unsent, until `cancelled` ends the wait.
    ///
    /// # Errors
    /// If the record can never be sent, or if `cancelled` ended the wait.
    pub fn send(&mut self, message: Message<'_>, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let outgoing = Outgoing {
            topic: &self.topic,
            partition: None,
            key: message.key,
            value: message.value,
            arena: None,
            timestamp: message.timestamp,
            headers: None,
            tag: 0,
        };
        match self.producer.send(outgoing, cancelled)? {
            None => {
                self.producer.serve();
                Ok(())
            }
            Some(code) => Err(self.failure(code)),
        }
    }

    /// Waits until everything is delivered, or until `cancelled` ends the wait.
    ///
    /// # Errors
    /// If a record was not delivered (the error is that of the first one), or if `cancelled` ended the wait.
    pub fn finish(&mut self, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        match self.producer.drain(cancelled)?.first() {
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

/// A record to be produced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The key, which decides the partition. Without a key the record goes to any partition.
    pub key: Option<&'a [u8]>,
    /// The value. None makes the record a tombstone.
    pub value: Option<&'a [u8]>,
    /// The timestamp, in milliseconds since the epoch. None means now.
    pub timestamp: Option<i64>,
}
