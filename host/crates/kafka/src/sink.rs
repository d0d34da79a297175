//! The output: writes what became of a batch, and waits until every record is delivered. Then the offsets are committed with the
//! states.
//!
//! The calls come in this order: [`Sink::begin`], [`Sink::send`] for each chunk, [`Sink::drain`], [`Sink::commit`]. With
//! exactly-once delivery they are one transaction. Otherwise the source commits the offsets on their own. While a chunk is being
//! delivered, the next chunk is read and processed.
//!
//! A record that the broker refuses because of the record itself, for example because rules have made it too large, would be
//! refused forever. The sink remembers it, the batch is read again at once, and the record becomes a dead letter. If the dead
//! letter is refused too, a shortened one is written. If the rule that the topic applies is known by then, later records are
//! checked against it before they are sent, and are weighed for that if needed. A broker accepts or refuses a batch of records as
//! a whole. So a record is blamed for its size only after it was sent alone, or was found too large by weighing.
//!
//! If one record fails, its transaction fails, and then all other records and every call fail too. Only the first cause is
//! reported; for the order of causes see [`Sink::drain`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{anyhow, bail};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::client;
use super::client_log::ClientLog;
use super::failure::{self, Failure, Operation};
use super::producer::{Producer, Undelivered};
use super::refusals::{Refusals, Tally};
use super::scale::Scale;
use super::settings::{Delivery, Settings};
use super::transaction::Transactions;
pub use super::writer::Work;
use super::writer::{Partitions, RecordKind, Writer, untag};
use weir_core::record::{Batch, Chunk, Output, Refusal, Rejection};
use weir_core::reserved::Reason;

/// The most bytes that a batch takes beside key, value and headers of its only record, as the client computes it. If a record
/// leaves less room than this in a batch, it is the only record of its batch.
const BESIDE: usize = 96;

/// The producer of the output, the dead letters and the counts.
pub struct Sink {
    producer: Producer,
    /// None with at-least-once delivery.
    transactions: Option<Transactions>,
    writer: Writer,
    refusals: Refusals,
    scale: Scale,
    /// The number of refused records that were not logged yet, by remedy.
    tallies: BTreeMap<&'static str, Tally>,
    /// True if something was learned since the last transaction was begun.
    learned: bool,
    /// False for the embedded broker, which does not answer requests that it does not know.
    is_real: bool,
}

impl Sink {
    /// Opens the producer. `largest_batch` limits the size of the batches that it sends to what the topics take: a broker accepts
    /// or refuses a batch as a whole.
    ///
    /// # Errors
    /// If the client does not take its settings, or lacks a transactional id ([`Identity`](super::Identity)).
    pub fn open(
        settings: &Settings,
        brokers: &str,
        largest_batch: Option<u32>,
        client_log: Arc<ClientLog>,
    ) -> anyhow::Result<Sink> {
        let transactional_id = match (settings.client.delivery, settings.client.transactional_id.as_deref()) {
            (Delivery::ExactlyOnce, None) => bail!("failed to set up a producer: it has no transactional id"),
            (Delivery::ExactlyOnce, id) => id,
            (Delivery::AtLeastOnce, _) => None,
        };
        let mut client_settings = match transactional_id {
            Some(id) => client::transactional_settings(&settings.client, brokers, id)?,
            None => client::producer_settings(&settings.client, brokers)?,
        };
        if let Some(bytes) = largest_batch.filter(|_| client_settings.get("batch.size").is_none()) {
            client_settings.set("batch.size", bytes.clamp(1, client::BATCH_BYTES).to_string());
        }
        Ok(Sink {
            producer: Producer::open(client_settings, client_log)?,
            transactions: transactional_id.map(Transactions::new),
            writer: Writer::new(settings),
            refusals: Refusals::default(),
            scale: Scale::default(),
            tallies: BTreeMap::new(),
            learned: false,
            is_real: settings.client.brokers.is_some(),
        })
    }

    /// Makes sure that the producer can be used, and that no transaction of a former producer is undecided. Offsets that are read
    /// after this are final.
    pub fn prepare(&mut self, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        match &mut self.transactions {
            Some(transactions) => transactions.prepare(&mut self.producer, cancelled),
            None => self.producer.renew_if_dead().map_err(Failure::Wait),
        }
    }

    /// Asks how many partitions the topics have. To be called with every assignment, because an assignment follows every change
    /// of the input. The producer asks, because a question on the consumer's connection would queue up behind a fetch that waits
    /// for data.
    ///
    /// If no broker answers, the next attempt is made with a new producer, once [`Sink::prepare`] was called. After an outage a
    /// client of librdkafka may reach no broker for minutes while other clients reach one, and a new client reaches a broker at
    /// once.
    pub fn learn_partitions(&mut self) -> Result<(), Failure> {
        let learned = self.ask_for_partitions();
        if let Err(Failure::Wait(_)) = &learned {
            match &mut self.transactions {
                Some(transactions) => transactions.replace_producer(),
                None => self.producer.replace_producer(),
            }
        }
        learned
    }

    fn ask_for_partitions(&mut self) -> Result<(), Failure> {
        let topics = &self.writer.topics;
        let denied = |failure| match failure {
            Failure::Stop(_) if self.is_real => {
                let written = [&topics.output, &topics.rejected, &topics.counts].map(String::as_str);
                failure::denied_writes(&self.producer.denied(&written)).unwrap_or(failure)
            }
            failure => failure,
        };
        let count = |topic, operation| self.producer.partitions(topic, operation).map_err(denied);
        self.writer.partitions = Partitions {
            input: count(&topics.input, Operation::Read)?,
            output: count(&topics.output, Operation::Write)?,
            rejected: count(&topics.rejected, Operation::Write)?,
            counts: count(&topics.counts, Operation::Write)?,
        };
        Ok(())
    }

    /// Returns the id of the input topic, by which it differs from an earlier topic of the same name. Empty if the topic has no
    /// id, or if no broker answers. The embedded broker is not asked, because it never answers this question.
    pub fn input_id(&self) -> String {
        let asked = self.is_real.then(|| self.producer.topic_id(&self.writer.topics.input));
        asked.flatten().unwrap_or_default()
    }

    /// Refuses those records of `batch` whose outputs are known to be refused by the topic. To be called before the records are
    /// processed.
    pub fn refuse_known(&self, batch: &mut Batch) {
        if self.refusals.is_empty() {
            return;
        }
        for index in 0..batch.len() {
            let Some(code) = self.refusals.of(place(batch, index as u32)).output else { continue };
            let topic = self.writer.topic(RecordKind::Output);
            let detail = format!("topic {topic} does not take it: {}", failure::describe(code));
            let reason = failure::refused(code).map_or(Reason::RecordRefused, |(reason, _)| reason);
            batch.refuse(index, Refusal { reason, detail });
        }
    }

    /// Checks the outputs of a batch against the known rules of their topic, and remembers those that it will refuse. Returns
    /// whether there are any. If so, the batch is to be processed again, after [`Sink::refuse_known`].
    pub fn predict_refusals(&mut self, work: Work<'_>) -> bool {
        if self.refusals.outputs.is_empty() {
            return false;
        }
        self.ask(RecordKind::Output);
        let (outputs, rules) = (&work.step.outputs, self.refusals.outputs);
        let refused = |output: &Output| {
            let timestamp = work.batch.records()[output.record as usize].timestamp;
            rules.refuse(work.batch.key(output.record as usize), timestamp, work.batch.processed_at)
        };
        let (mut bad, mut suspects) = (Vec::new(), Vec::new());
        for output in outputs {
            match refused(output) {
                Some(code) => bad.push((output, code)),
                None if self.writer.output_at_most(work, output) > rules.largest() => suspects.push(output),
                None => {}
            }
        }
        let written = suspects.iter().map(|output| self.writer.output(work, output)).collect();
        let large = self.scale.larger(self.producer.client_settings(), written, rules.largest());
        let large = suspects.into_iter().zip(large).filter(|(_, large)| *large);
        bad.extend(large.map(|(output, _)| (output, RDKafkaErrorCode::MessageSizeTooLarge)));
        for (output, code) in &bad {
            self.note(place(work.batch, output.record), *code);
        }
        !bad.is_empty()
    }

    /// Checks the dead letters about a batch against the known rules of their topic.
    fn predict_refused_dead_letters(&mut self, work: Work<'_>) {
        if self.refusals.dead_letters.is_empty() {
            return;
        }
        self.ask(RecordKind::DeadLetter);
        let place = |rejection: &Rejection| place(work.batch, rejection.record);
        let is_whole = |rejection: &&Rejection| !rejection.drop && !self.refusals.of(place(rejection)).dead_letter;
        let whole: Vec<&Rejection> = work.step.rejections.iter().filter(is_whole).collect();
        let written = whole.iter().map(|rejection| self.writer.dead_letter(work, rejection, true)).collect();
        let large = self.scale.larger(self.producer.client_settings(), written, self.refusals.dead_letters.largest());
        for (rejection, _) in whole.into_iter().zip(large).filter(|(_, large)| *large) {
            self.refusals.at(place(rejection)).dead_letter = true;
        }
    }

    /// Returns whether something was learned from the transaction that has failed, so that the next attempt gets further and need
    /// not wait. If so, nothing of that transaction is committed: a commit is tried only if there was nothing to learn.
    pub fn take_learned(&mut self) -> bool {
        std::mem::take(&mut self.learned)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.learned = false;
        match &mut self.transactions {
            Some(transactions) => transactions.begin(&mut self.producer, cancelled),
            None => self.producer.renew_if_dead().map_err(Failure::Wait),
        }
    }

    /// Returns the time before which the next transaction should not begin, if there is one.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.transactions.as_ref().and_then(Transactions::earliest)
    }

    /// Returns whether offsets are committed within transactions.
    pub(super) fn is_transactional(&self) -> bool {
        self.transactions.is_some()
    }

    /// Commits the transaction with `offsets` of `topic`, as the group's member `membership`. All that was sent is delivered by
    /// then.
    pub(super) fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        topic: &str,
        membership: &Arc<ConsumerGroupMetadata>,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let Some(transactions) = &mut self.transactions else { return Ok(()) };
        transactions.add_offsets(&self.producer, (offsets, topic), membership, cancelled)?;
        transactions.commit(&self.producer, cancelled)
    }

    /// Forgets what was learned about `chunks`, which are committed.
    pub(super) fn forget(&mut self, chunks: &[Chunk]) {
        self.refusals.forget(chunks);
        self.scale.rest();
    }

    /// Abandons what was sent since the last commit.
    pub fn abandon(&mut self, chunks: &[Chunk], cancelled: &mut dyn FnMut() -> bool) {
        match &mut self.transactions {
            Some(transactions) => transactions.abandon(&self.producer, self.learned),
            // The reports about what was sent must not be taken for reports about what is sent next. What they tell about
            // refusals is remembered.
            None => drop(self.drain(chunks, cancelled)),
        }
    }

    /// Returns the current outage, if any. Call it only while there is nothing to read or write.
    pub fn outage(&mut self) -> Option<String> {
        self.producer.outage(&self.writer.topics.input)
    }

    /// Serves the producer's events, and logs refusals that are due. To be called now and then while there is nothing to commit.
    pub fn serve(&mut self) {
        self.producer.serve();
        self.scale.rest();
        self.tell();
    }

    /// Returns the cause of `failure`, with which sending has failed. The cause may be something that was sent before.
    pub fn cause(&mut self, chunks: &[Chunk], failure: Failure, cancelled: &mut dyn FnMut() -> bool) -> Failure {
        self.producer.serve();
        match failure {
            Failure::Wait(_) if self.producer.has_failed() => self.drain(chunks, cancelled).err().unwrap_or(failure),
            failure => failure,
        }
    }

    /// Sends a chunk. Returns before it is delivered.
    pub fn send(&mut self, work: Work<'_>, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        if let Some(transactions) = self.transactions.as_mut().filter(|_| work.chunk > 0) {
            transactions.grow();
        }
        let mut refused = None;
        for output in &work.step.outputs {
            if let Some(code) = self.producer.send(self.writer.output(work, output), cancelled)? {
                self.note(place(work.batch, output.record), code);
                refused = Some(code);
            }
        }
        if let Some(code) = refused {
            self.learned = true;
            return Err(self.wait(RecordKind::Output, code));
        }
        self.predict_refused_dead_letters(work);
        for rejection in work.step.rejections.iter().filter(|rejection| !rejection.drop) {
            self.send_letter(work, rejection, cancelled)?;
        }
        for window in &work.step.counts.windows {
            let json = window.to_json();
            if let Some(code) =
                self.producer.send(self.writer.window(window, &json, !self.refusals.window_time_refused), cancelled)?
            {
                return Err(self.failure(RecordKind::Window, code));
            }
        }
        self.producer.serve();
        Ok(())
    }

    /// Sends a dead letter, shortened if the broker refused the whole one.
    fn send_letter(&mut self, work: Work<'_>, rejection: &Rejection, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let place = place(work.batch, rejection.record);
        let known = self.refusals.of(place);
        if !known.dead_letter {
            let timestamp = work.batch.records()[rejection.record as usize].timestamp;
            let refused = self.refusals.dead_letters.refuses_time(timestamp, work.batch.processed_at);
            let untimed = known.output.is_some() || known.dead_letter_time_refused || refused;
            if self.producer.send(self.writer.dead_letter(work, rejection, untimed), cancelled)?.is_none() {
                return Ok(());
            }
            self.refusals.at(place).dead_letter = true;
        }
        match self.producer.send(self.writer.shortened(work, rejection), cancelled)? {
            None => Ok(()),
            Some(code) => Err(self.failure(RecordKind::Shortened, code)),
        }
    }

    /// Waits until all is delivered, and fails if something was not. Of several failures the first of this order is returned: a
    /// failure that only an operator can mend, what was learned, the reason why the transaction has failed, and last a failure
    /// that may be only a consequence of that.
    pub(super) fn drain(&mut self, chunks: &[Chunk], cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let (mut learned, mut failures) = (None, Vec::new());
        let (batch_bytes, mut crowded) = (self.producer.batch_bytes(), None);
        for bad in self.producer.drain(cancelled)? {
            if failure::too_large(bad.code) && bad.bytes + BESIDE < batch_bytes {
                crowded = Some(bad);
                continue;
            }
            match self.remember(chunks, bad) {
                Some(failure) => failures.push(failure),
                None => learned = Some((untag(bad.tag).0, bad.code)),
            }
        }
        if let Some(at) = failures.iter().position(|failure| !matches!(failure, Failure::Wait(_))) {
            return Err(failures.swap_remove(at));
        }
        if let Some(bad) = crowded {
            let (topic, bytes) = (self.writer.topic(untag(bad.tag).0), self.producer.shrink_batches());
            let problem = format!("topic {topic} takes no batches of {batch_bytes} bytes: from now on they have {bytes}");
            tracing::warn!("{problem}");
            self.learned = true;
            return Err(Failure::Wait(anyhow!(problem)));
        }
        if let Some((kind, code)) = learned {
            self.learned = true;
            self.tell();
            return Err(self.wait(kind, code));
        }
        self.transaction_failure().map_or(Ok(()), Err)?;
        failures.into_iter().next().map_or(Ok(()), Err)?;
        if let Some(transactions) = &mut self.transactions {
            transactions.delivered();
        }
        Ok(())
    }

    /// Returns the reason why the transaction has failed, if it has.
    fn transaction_failure(&mut self) -> Option<Failure> {
        let transactions = self.transactions.as_mut().filter(|_| self.producer.has_failed())?;
        Some(transactions.reason(&self.producer, &self.writer.topics))
    }

    /// Remembers a record that was refused because of the record itself. Returns the failure if there was another reason.
    fn remember(&mut self, chunks: &[Chunk], bad: Undelivered) -> Option<Failure> {
        let (kind, chunk, record) = untag(bad.tag);
        if failure::refused(bad.code).is_none() {
            return Some(self.failure(kind, bad.code));
        }
        self.ask(kind);
        let place = || place(&chunks[chunk].batch, record);
        let key = || chunks[chunk].batch.key(record as usize);
        let code = match kind {
            // The reason is a rule of the topic, if a known rule refuses the record. Else only the broker knows the reason.
            RecordKind::Output if bad.code == RDKafkaErrorCode::InvalidRecord => {
                let (batch, index) = (&chunks[chunk].batch, record as usize);
                let refused = self.refusals.outputs.refuse(key(), batch.records()[index].timestamp, batch.processed_at);
                refused.unwrap_or(bad.code)
            }
            RecordKind::Output => bad.code,
            RecordKind::DeadLetter => self.refusals.dead_letters.meaning(bad.code, key()),
            RecordKind::Window => self.refusals.windows.meaning(bad.code, None),
            RecordKind::Shortened => bad.code,
        };
        let is_time = code == RDKafkaErrorCode::InvalidTimestamp;
        match kind {
            RecordKind::Output => self.note(place(), code),
            RecordKind::DeadLetter => {
                let refused = self.refusals.at(place());
                let first = is_time && !refused.dead_letter_time_refused;
                (refused.dead_letter_time_refused, refused.dead_letter) = (refused.dead_letter_time_refused || first, !first);
            }
            RecordKind::Window if is_time && !self.refusals.window_time_refused => self.refusals.window_time_refused = true,
            RecordKind::Shortened | RecordKind::Window => return Some(self.failure(kind, code)),
        }
        None
    }

    /// Asks for the settings of the topic that records of `kind` go to, if that is due.
    fn ask(&mut self, kind: RecordKind) {
        let topic = self.writer.topic(kind);
        let rules = match kind {
            RecordKind::Output => &mut self.refusals.outputs,
            RecordKind::DeadLetter => &mut self.refusals.dead_letters,
            RecordKind::Window => &mut self.refusals.windows,
            RecordKind::Shortened => return,
        };
        let now = Instant::now();
        if self.is_real && rules.is_due(now) {
            rules.learn(self.producer.settings(topic).as_ref(), now);
        }
    }

    /// Remembers that the output about the record at `place` is refused with `code`.
    fn note(&mut self, place: (i32, i64), code: RDKafkaErrorCode) {
        let known = self.refusals.at(place).output.replace(code);
        if let (None, Some((_, remedy))) = (known, failure::refused(code)) {
            self.tallies.entry(remedy).or_default().add(1);
        }
    }

    /// Logs how many records were refused, if that is due.
    fn tell(&mut self) {
        let now = Instant::now();
        for (remedy, tally) in &mut self.tallies {
            if let Some(records) = tally.due(now) {
                let topic = self.writer.topic(RecordKind::Output);
                tracing::warn!(topic, records, "records are refused and become dead letters: {remedy}");
            }
        }
    }

    /// Returns the failure for a refusal from which something was learned.
    fn wait(&self, kind: RecordKind, code: RDKafkaErrorCode) -> Failure {
        let topic = self.writer.topic(kind);
        Failure::Wait(anyhow!("topic {topic} refused a record, which is written in another way: {}", failure::describe(code)))
    }

    fn failure(&self, kind: RecordKind, code: RDKafkaErrorCode) -> Failure {
        let topic = self.writer.topic(kind);
        match failure::refused(code) {
            Some((_, remedy)) => {
                Failure::Stop(anyhow!("failed to write to topic {topic}: {}: {remedy}", failure::describe(code)))
            }
            None => Failure::of_writing(code, topic),
        }
    }
}

/// Returns the partition and offset of a record.
fn place(batch: &Batch, record: u32) -> (i32, i64) {
    let record = &batch.records()[record as usize];
    (record.partition, record.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Broker, eventually, settings};

    #[test]
    fn a_producer_that_reaches_nobody_when_it_asks_for_partitions_is_replaced() {
        for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
            let mut settings = settings();
            settings.client.delivery = delivery;
            settings.client.transactional_id = Some("reaches-nobody".into());
            let broker = Broker::start(settings);
            let mut sink = Sink::open(&broker.settings, &broker.address, None, Arc::default()).unwrap();
            let prepare = |sink: &mut Sink| sink.prepare(&mut || false).unwrap();
            prepare(&mut sink);
            sink.learn_partitions().unwrap();
            let first = sink.producer.inner();
            prepare(&mut sink);
            assert!(Arc::ptr_eq(&first, &sink.producer.inner()), "it is answered, and stays");
            broker.cluster().broker_down(-1).unwrap();
            assert!(matches!(sink.learn_partitions(), Err(Failure::Wait(_))));
            broker.cluster().broker_up(-1).unwrap();
            prepare(&mut sink);
            assert!(!Arc::ptr_eq(&first, &sink.producer.inner()));
            eventually("the next one is answered", || sink.learn_partitions().is_ok());
        }
    }
}
