//! The bare relay: the cost of Kafka and its client if nothing is done with the records.
//!
//! The relay has the consumer and producer settings of `weir run`, reads the same environment, makes batches within the same
//! bounds, and keeps the same order of calls: send, drain, offsets, commit. Bytes, key, headers and timestamp are copied from the
//! client's message straight into the producer. The relay runs until it is killed, and ends at the first error.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use weir::config::{self, Config};
use weir_kafka::client;

use super::common::topics::PARTITIONS;

/// The longest wait for the first record of a batch.
const IDLE: Duration = Duration::from_millis(100);
/// The most time in which a broker has to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// The pause between two looks for delivery reports.
const PAUSE: Duration = Duration::from_micros(200);

/// Relays records as the environment says, with transactions or without.
pub fn relay(transactions: bool) -> anyhow::Result<()> {
    let config = Config::load(None, config::environment()?)?;
    let brokers = config.kafka.client.brokers.clone().context("the relay needs a broker")?;
    // The engine itself decides where a group begins. Here the client decides it.
    let consumer: BaseConsumer =
        client::consumer_settings(&config.kafka.client, &brokers)?.set("auto.offset.reset", "earliest").create()?;
    let settings = match transactions {
        true => client::transactional_settings(&config.kafka.client, &brokers, &config.kafka.client.group)?,
        false => client::producer_settings(&config.kafka.client, &brokers)?,
    };
    let producer: BaseProducer = settings.create()?;
    if transactions {
        producer.init_transactions(ANSWER)?;
    }
    consumer.subscribe(&[&config.kafka.topics.input])?;
    let mut relay = Relay { config, consumer, producer, transactions, next: [None; PARTITIONS as usize] };
    loop {
        relay.batch()?;
    }
}

struct Relay {
    config: Config,
    consumer: BaseConsumer,
    producer: BaseProducer,
    transactions: bool,
    /// The offset one past the last record of the batch, by partition.
    next: [Option<i64>; PARTITIONS as usize],
}

impl Relay {
    fn batch(&mut self) -> anyhow::Result<()> {
        if self.copy()? == 0 {
            return Ok(());
        }
        while self.producer.in_flight_count() > 0 {
            pause(&self.producer);
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in self.next.iter_mut().enumerate() {
            if let Some(next) = next.take() {
                offsets.add_partition_offset(&self.config.kafka.topics.input, partition as i32, Offset::Offset(next))?;
            }
        }
        if !self.transactions {
            return Ok(self.consumer.commit(&offsets, CommitMode::Sync)?);
        }
        let group = self.consumer.group_metadata().context("the consumer has no group")?;
        self.producer.send_offsets_to_transaction(&offsets, &group, ANSWER)?;
        Ok(self.producer.commit_transaction(ANSWER)?)
    }

    /// Sends a batch on while it is read. Returns the number of its records.
    fn copy(&mut self) -> anyhow::Result<usize> {
        let (mut rows, mut bytes) = (0, 0);
        let mut until = Instant::now() + IDLE;
        while rows < self.config.kafka.batch.rows && bytes < self.config.kafka.batch.bytes {
            let rest = until.saturating_duration_since(Instant::now());
            match self.consumer.poll(client::whole_millis(rest)) {
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(message) => {
                    let message = message?;
                    if rows == 0 {
                        until = Instant::now() + self.config.kafka.batch.linger;
                        if self.transactions {
                            self.producer.begin_transaction()?;
                        }
                    }
                    send(&self.producer, &self.config.kafka.topics.output, &message)?;
                    self.next[message.partition() as usize] = Some(message.offset() + 1);
                    rows += 1;
                    bytes += message.key_len() + message.payload_len();
                }
                None if rest.is_zero() => break,
                None => {}
            }
        }
        Ok(rows)
    }
}

fn send(producer: &BaseProducer, topic: &str, message: &BorrowedMessage<'_>) -> anyhow::Result<()> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(message.partition());
    record.key = message.key();
    record.payload = message.payload();
    record.timestamp = message.timestamp().to_millis();
    record.headers = message.headers().filter(|headers| headers.count() > 0).map(rdkafka::message::BorrowedHeaders::detach);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                pause(producer);
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Gives delivery reports a moment to arrive. The client's own wait spins through its last millisecond.
fn pause(producer: &BaseProducer) {
    std::thread::sleep(PAUSE);
    producer.poll(Duration::ZERO);
}
