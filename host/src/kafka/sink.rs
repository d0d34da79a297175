//! The output: writes what became of a batch, sees every message delivered, then has the offsets committed with the states.
//!
//! [`Sink::begin`], [`Sink::send`] for each part, and [`Sink::commit`] come in this order. With exactly-once delivery they are
//! one transaction; otherwise the source commits the offsets on their own. While a part is on its way the next one is read
//! and judged.
//!
//! A record that the broker refuses for its own sake, such as one that has grown too large, would fail again for ever. It is
//! remembered, the batch is read again, and the record becomes a dead letter; if even that is refused, a shortened one. A broker
//! judges records that are sent together as a whole, so one that was not sent alone is not blamed for its size before it was.

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
use crate::record::{Batch, Part, Refusal, Rejection};
use crate::reserved::Reason;

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
    /// Whether the dead letter was refused for its timestamp, which it then does without.
    timed_letter: bool,
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
            topics_have_ids: config.kafka.brokers.is_some(),
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

    /// The id of the input topic, which tells it from one of the same name that was there before; empty if it has none, or if
    /// nobody answers. The embedded broker never answers the question, and is not asked.
    pub fn input_id(&self) -> String {
        let asked = self.topics_have_ids.then(|| self.outbox.topic_id(&self.writer.topics.input));
        asked.flatten().unwrap_or_default()
    }

    /// Refuses those messages of `batch` whose outputs are known not to be taken. To be called before they are judged.
    pub fn refuse_known(&self, batch: &mut Batch) {
        if self.refused.is_empty() {
            return;
        }
        for index in 0..batch.len() {
            let known = self.refused.get(&place(batch, index as u32));
            let Some(code) = known.and_then(|refused| refused.output) else { continue };
            let topic = self.writer.topic(Kind::Output);
            let detail = format!("topic {topic} does not take it: {}", failure::describe(code));
            let reason = failure::refused(code).map_or(Reason::RecordRefused, |(reason, _)| reason);
            batch.refuse(index, Refusal { reason, detail });
        }
    }

    /// Begins a transaction.
    pub fn begin(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        match &mut self.transactions {
            Some(transactions) => transactions.begin(&mut self.outbox, give_up),
            None => self.outbox.renew_if_dead().map_err(Failure::Wait),
        }
    }

    /// Commits `parts`, all of which were sent: waits until they are delivered, and commits their offsets, and `states`. If it
    /// fails, or if sending has failed, the transaction is to be abandoned and the messages are to be read again.
    pub fn commit(
        &mut self,
        parts: &[Part],
        states: &[(i32, String)],
        source: &mut Source,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let offsets = source.offsets(parts, states)?;
        let written = self.drain(parts, give_up);
        match &mut self.transactions {
            None => {
                written?;
                source.commit(&offsets, give_up)?;
            }
            Some(transactions) => {
                let lost = || Failure::Wait(anyhow!("failed to commit: this process is no member of the group any more"));
                let membership = source.membership().ok_or_else(lost)?;
                if let Err(failure) = written {
                    // Messages of a transaction that has failed are only said to be purged. The next call tells why it has.
                    let known = !self.refused.is_empty() || self.outbox.is_outdated();
                    let ask = self.outbox.has_failed() && !known;
                    let reason = ask.then(|| transactions.add_offsets(&self.outbox, &offsets, membership, give_up).err());
                    return Err(reason.flatten().unwrap_or(failure));
                }
                transactions.add_offsets(&self.outbox, &offsets, membership, give_up)?;
                transactions.commit(&self.outbox, give_up)?;
            }
        }
        source.advance(parts);
        self.forget(parts);
        Ok(())
    }

    /// Gives up what was sent since the last commit.
    pub fn abandon(&mut self, parts: &[Part], give_up: &mut dyn FnMut() -> bool) {
        match &mut self.transactions {
            Some(transactions) => transactions.abandon(&self.outbox),
            // Reports of what was sent must not be taken for those of what comes next. What they say of it is noted.
            None => drop(self.drain(parts, give_up)),
        }
    }

    /// What stands in the way, if no broker answers. To be asked while there is nothing to read or write.
    pub fn outage(&mut self) -> Option<String> {
        self.outbox.outage(&self.writer.topics.input)
    }

    /// Serves the producer's events. To be called now and then while there is nothing to commit.
    pub fn serve(&self) {
        self.outbox.serve();
    }

    /// Sends a part. Returns before it is delivered.
    pub fn send(&mut self, work: Work<'_>, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let mut count = 0;
        for output in &work.step.outputs {
            if let Some(code) = self.outbox.send(self.writer.output(work, output), give_up)? {
                self.refused.entry(place(work.batch, output.record)).or_default().output = Some(code);
                count += 1;
            }
        }
        if count > 0 {
            return Err(refused(count));
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
        self.outbox.serve();
        Ok(())
    }

    /// Sends a dead letter, shortened if the broker refused the whole one.
    fn send_letter(&mut self, work: Work<'_>, rejection: &Rejection, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let place = place(work.batch, rejection.record);
        let known = self.refused.get(&place).copied().unwrap_or_default();
        if !known.letter {
            let letter = self.writer.letter(work, rejection, known.output.is_some() || known.timed_letter);
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

    /// Waits until all is delivered, and fails if something was not.
    fn drain(&mut self, parts: &[Part], give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let (mut count, mut failures) = (0, Vec::new());
        let (batch_bytes, mut crowded) = (self.outbox.batch_bytes(), None);
        for bad in self.outbox.drain(give_up)? {
            if failure::too_large(bad.code) && bad.bytes < batch_bytes {
                crowded = Some(bad);
                continue;
            }
            match self.remember(parts, bad) {
                Some(failure) => failures.push(failure),
                None => count += 1,
            }
        }
        if let Some(bad) = crowded {
            let (topic, bytes) = (self.writer.topic(untag(bad.tag).0), self.outbox.shrink_batches());
            let problem = format!("topic {topic} takes no batches of {batch_bytes} bytes: from now on they have {bytes}");
            failures.insert(0, Failure::Wait(anyhow!(problem)));
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
    fn remember(&mut self, parts: &[Part], bad: Undelivered) -> Option<Failure> {
        let (kind, part, record) = untag(bad.tag);
        match kind {
            // A neighbour is to blame, which is remembered.
            _ if bad.code == RDKafkaErrorCode::InvalidDifferentRecord => None,
            Kind::Output | Kind::Letter if failure::refused(bad.code).is_some() => {
                let refused = self.refused.entry(place(&parts[part].batch, record)).or_default();
                match kind {
                    Kind::Letter if bad.code == RDKafkaErrorCode::InvalidTimestamp && !refused.timed_letter => {
                        refused.timed_letter = true;
                    }
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
            Some((_, remedy)) => Failure::Stop(anyhow!("failed to {what}: {}: {remedy}", failure::describe(code))),
            None => Failure::of(code, &what),
        }
    }

    /// Forgets refused records that are committed.
    fn forget(&mut self, parts: &[Part]) {
        if !self.refused.is_empty() {
            let done = extents(parts);
            self.refused.retain(|(partition, offset), _| done.get(partition).is_none_or(|end| offset >= end));
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
