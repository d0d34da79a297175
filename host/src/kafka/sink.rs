//! The output: writes what became of a batch, sees every message delivered, then has the offsets committed with the states.
//!
//! These are three calls, `send`, `drain` and the commit, which [`Sink::commit`] makes in this order. With exactly-once
//! delivery they stand in a transaction; otherwise the source commits the offsets on their own.
//!
//! A record that the broker refuses for its own sake, such as one that has grown too large, would fail again for ever. It is
//! remembered, the batch is read again, and the record becomes a dead letter; if even that is refused, a shortened one.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::anyhow;
use rdkafka::error::RDKafkaErrorCode;

use super::client;
use super::failure::{self, Failure};
use super::identity::Identity;
use super::outbox::{Outbox, Undelivered};
use super::source::{Source, extents};
use super::transaction::Transactions;
use super::troubles::Troubles;
pub use super::writer::Work;
use super::writer::{Kind, Partitions, Writer, untag};
use crate::config::{Config, Delivery};
use crate::record::{Batch, Refusal, Rejection};

/// The producer of the output, the dead letters and the counts.
pub struct Sink {
    outbox: Outbox,
    /// None with at-least-once delivery.
    transactions: Option<Transactions>,
    writer: Writer,
    /// Records that the broker refused, by partition and offset of the input, until they are committed as dead letters.
    refused: BTreeMap<(i32, i64), Refused>,
    topics_have_ids: bool,
    _identity: Option<Identity>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    /// Why the output was refused.
    output: Option<RDKafkaErrorCode>,
    /// Whether the whole dead letter was refused.
    letter: bool,
}

impl Sink {
    /// `largest_batch` bounds what is sent in one go to what the topics take; a broker judges a batch as a whole.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(config: &Config, brokers: &str, largest_batch: Option<u32>, troubles: Arc<Troubles>) -> anyhow::Result<Sink> {
        let identity = (config.kafka.delivery == Delivery::ExactlyOnce).then(|| Identity::claim(&config.kafka));
        let mut settings = match &identity {
            Some(identity) => client::transactional_settings(&config.kafka, brokers, &identity.id)?,
            None => client::producer_settings(&config.kafka, brokers)?,
        };
        if let Some(bytes) = largest_batch.filter(|_| settings.get("batch.size").is_none()) {
            settings.set("batch.size", bytes.clamp(1, client::BATCH_BYTES).to_string());
        }
        Ok(Sink {
            outbox: Outbox::open(settings, troubles)?,
            transactions: identity.as_ref().map(|identity| Transactions::new(&identity.id)),
            writer: Writer::new(config),
            refused: BTreeMap::new(),
            topics_have_ids: identity.is_some() && config.kafka.brokers.is_some(),
            _identity: identity,
        })
    }

    /// Sees that the producer can be used, and that nothing of a former one is undecided: offsets that are read after this
    /// are final.
    pub fn prepare(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        match &mut self.transactions {
            Some(transactions) => transactions.prepare(&mut self.outbox, give_up),
            None => self.outbox.renew_if_dead().map_err(Failure::Wait),
        }
    }

    /// Asks how many partitions the topics have. To be called with every assignment, which follows every change of the input.
    /// It asks as a producer, since on a consumer's connection the question would queue up behind a fetch that waits for data.
    pub fn learn_partitions(&mut self) -> Result<(), Failure> {
        let topics = &self.writer.topics;
        let count = |topic| self.outbox.partitions(topic);
        self.writer.partitions = Partitions {
            input: count(&topics.input)?,
            output: count(&topics.output)?,
            rejected: count(&topics.rejected)?,
            counts: count(&topics.counts)?,
        };
        Ok(())
    }

    /// The id of the input topic, which tells it from one of the same name that was there before; empty if it has none. Asked
    /// only where delivery is exactly once: the embedded broker never answers the question.
    pub fn input_id(&self) -> String {
        let asked = self.topics_have_ids.then(|| self.outbox.topic_id(&self.writer.topics.input));
        asked.flatten().unwrap_or_default()
    }

    /// Says which messages of `batch` have outputs that cannot be written. To be called before they are judged.
    pub fn warn(&self, batch: &mut Batch) {
        if self.refused.is_empty() {
            return;
        }
        for index in 0..batch.len() {
            let known = self.refused.get(&place(batch, index as u32));
            let Some(code) = known.and_then(|refused| refused.output) else { continue };
            let topic = self.writer.topic(Kind::Output);
            let detail = format!("topic {topic} does not take it: {}", failure::describe(code));
            batch.refuse(index, Refusal { reason: failure::refused(code).unwrap_or("record_refused"), detail });
        }
    }

    /// Writes `work`, waits until all of it is delivered, and commits the offsets and states. If it fails, the messages are to
    /// be read again from what is committed then.
    pub fn commit(&mut self, work: Work<'_>, source: &mut Source, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let outcome = self.attempt(work, source, give_up);
        match outcome {
            Ok(()) => {
                source.advance(work.batch);
                self.forget(work.batch);
            }
            Err(_) => {
                if let Some(transactions) = &mut self.transactions {
                    transactions.abandon(&self.outbox);
                }
            }
        }
        outcome
    }

    fn attempt(&mut self, work: Work<'_>, source: &Source, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        match &mut self.transactions {
            Some(transactions) => transactions.begin(&mut self.outbox, give_up)?,
            None => self.outbox.renew_if_dead().map_err(Failure::Wait)?,
        }
        let offsets = source.offsets(work.batch, work.states)?;
        let sent = self.send(work, give_up);
        // Reports of what was sent before a failure are awaited too: they must not be taken for those of the next batch.
        let delivered = self.drain(work.batch, give_up);
        let written = sent.and(delivered);
        let Some(transactions) = &mut self.transactions else {
            written?;
            return source.commit(&offsets, give_up);
        };
        let Some(membership) = source.membership() else {
            return Err(Failure::Wait(anyhow!("failed to commit: the partitions were revoked")));
        };
        if let Err(failure) = written {
            // Messages of a transaction that has failed are only said to be purged. Why it has failed, the next call tells.
            let ask = self.outbox.has_failed() && self.refused.is_empty();
            let reason = ask.then(|| transactions.add_offsets(&self.outbox, &offsets, membership, give_up).err());
            return Err(reason.flatten().unwrap_or(failure));
        }
        transactions.add_offsets(&self.outbox, &offsets, membership, give_up)?;
        transactions.commit(&self.outbox, give_up)
    }

    /// Serves the producer's events. To be called now and then while there is nothing to commit.
    pub fn serve(&self) {
        self.outbox.serve();
    }

    fn send(&mut self, work: Work<'_>, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        for output in &work.step.outputs {
            if let Some(code) = self.outbox.send(self.writer.output(work, output), give_up)? {
                self.refused.entry(place(work.batch, output.record)).or_default().output = Some(code);
                return Err(refused(1));
            }
        }
        for rejection in work.step.rejections.iter().filter(|rejection| !rejection.drop) {
            self.send_letter(work, rejection, give_up)?;
        }
        for window in &work.step.counts.windows {
            let json = window.to_json();
            if let Some(code) = self.outbox.send(self.writer.window(window, &json), give_up)? {
                return Err(self.failure(Kind::Window, code));
            }
        }
        Ok(())
    }

    /// Sends a dead letter, shortened if the broker refused the whole one.
    fn send_letter(&mut self, work: Work<'_>, rejection: &Rejection, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let place = place(work.batch, rejection.record);
        let known = self.refused.get(&place).copied().unwrap_or_default();
        if !known.letter {
            let letter = self.writer.letter(work, rejection, known.output.is_some());
            if self.outbox.send(letter, give_up)?.is_none() {
                return Ok(());
            }
            self.refused.entry(place).or_default().letter = true;
        }
        match self.outbox.send(self.writer.shortened(work, rejection), give_up)? {
            None => Ok(()),
            Some(code) => Err(self.failure(Kind::Shortened, code)),
        }
    }

    /// Waits for all delivery reports, and fails if one is bad.
    fn drain(&mut self, batch: &Batch, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let (mut count, mut failures) = (0, Vec::new());
        for bad in self.outbox.drain(give_up)? {
            match self.remember(batch, bad) {
                Some(failure) => failures.push(failure),
                None => count += 1,
            }
        }
        // What only a person can mend is told before what may pass.
        failures.sort_by_key(|failure| !matches!(failure, Failure::Stop(_)));
        match failures.into_iter().next() {
            Some(failure) => Err(failure),
            None if count > 0 => Err(refused(count)),
            None => Ok(()),
        }
    }

    /// Remembers a record that was refused for its own sake; returns the failure if it was for another.
    fn remember(&mut self, batch: &Batch, bad: Undelivered) -> Option<Failure> {
        let (kind, record) = untag(bad.tag);
        match kind {
            // A neighbour is to blame, which is remembered.
            _ if bad.code == RDKafkaErrorCode::InvalidDifferentRecord => None,
            Kind::Output | Kind::Letter if failure::refused(bad.code).is_some() => {
                let refused = self.refused.entry(place(batch, record)).or_default();
                match kind {
                    Kind::Letter => refused.letter = true,
                    _ => refused.output = Some(bad.code),
                }
                None
            }
            kind => Some(self.failure(kind, bad.code)),
        }
    }

    fn failure(&self, kind: Kind, code: RDKafkaErrorCode) -> Failure {
        let what = format!("write to topic {}", self.writer.topic(kind));
        match failure::refused(code) {
            Some(_) => Failure::Stop(anyhow!(
                "failed to {what}: {}: raise the topic's `max.message.bytes`, or check its other settings",
                failure::describe(code)
            )),
            None => Failure::of(code, &what),
        }
    }

    /// Forgets refused records that are committed.
    fn forget(&mut self, batch: &Batch) {
        if !self.refused.is_empty() {
            let done = extents(batch);
            self.refused.retain(|(partition, offset), _| done.get(partition).is_none_or(|extent| *offset >= extent.end));
        }
    }
}

fn refused(count: usize) -> Failure {
    Failure::Wait(anyhow!("the broker refused {count} records, which become dead letters"))
}

/// The partition and offset of a record.
fn place(batch: &Batch, record: u32) -> (i32, i64) {
    let record = &batch.records()[record as usize];
    (record.partition, record.offset)
}
