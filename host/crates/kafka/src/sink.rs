//! The output: writes what became of a batch, waits until every record is delivered, and then has the offsets committed with the
//! states.
//!
//! The calls come in this order: [`Sink::begin`], [`Sink::send`] for each part, [`Sink::commit`]. With exactly-once delivery they
//! are one transaction. Otherwise the source commits the offsets on their own. While a part is being delivered, the next part is
//! read and processed.
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

use anyhow::anyhow;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::client;
use super::failure::{self, Failure, Operation};
use super::identity::Identity;
use super::outbox::{Outbox, Undelivered};
use super::refusals::{Refusals, Tally};
use super::scale::Scale;
use super::settings::{Delivery, Settings};
use super::transaction::Transactions;
use super::troubles::Troubles;
pub use super::writer::Work;
use super::writer::{Kind, Partitions, Writer, untag};
use weir_core::record::{Batch, Output, Part, Refusal, Rejection};
use weir_core::reserved::Reason;

/// The most bytes that a batch takes beside key, value and headers of its only record, as the client computes it. If a record
/// leaves less room than this in a batch, it is the only record of its batch.
const BESIDE: usize = 96;

/// The producer of the output, the dead letters and the counts.
pub struct Sink {
    outbox: Outbox,
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
    _identity: Option<Identity>,
}

impl Sink {
    /// Opens the producer. `largest_batch` limits the size of the batches that it sends to what the topics take: a broker accepts
    /// or refuses a batch as a whole.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(settings: &Settings, brokers: &str, largest_batch: Option<u32>, troubles: Arc<Troubles>) -> anyhow::Result<Sink> {
        let identity = (settings.client.delivery == Delivery::ExactlyOnce).then(|| Identity::claim(&settings.client));
        let mut producer = match &identity {
            Some(identity) => client::transactional_settings(&settings.client, brokers, &identity.id)?,
            None => client::producer_settings(&settings.client, brokers)?,
        };
        if let Some(bytes) = largest_batch.filter(|_| producer.get("batch.size").is_none()) {
            producer.set("batch.size", bytes.clamp(1, client::BATCH_BYTES).to_string());
        }
        Ok(Sink {
            outbox: Outbox::open(producer, troubles)?,
            transactions: identity.as_ref().map(|identity| Transactions::new(&identity.id)),
            writer: Writer::new(settings),
            refusals: Refusals::default(),
            scale: Scale::default(),
            tallies: BTreeMap::new(),
            learned: false,
            is_real: settings.client.brokers.is_some(),
            _identity: identity,
        })
    }

    /// Makes sure that the producer can be used, and that no transaction of a former producer is undecided. Offsets that are read
    /// after this are final.
    pub fn prepare(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        match &mut self.transactions {
            Some(transactions) => transactions.prepare(&mut self.outbox, give_up),
            None => self.outbox.renew_if_dead().map_err(Failure::Wait),
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
                None => self.outbox.replace_producer(),
            }
        }
        learned
    }

    fn ask_for_partitions(&mut self) -> Result<(), Failure> {
        let topics = &self.writer.topics;
        let denied = |failure| match failure {
            Failure::Stop(_) if self.is_real => {
                let written = [&topics.output, &topics.rejected, &topics.counts].map(String::as_str);
                failure::denied_writes(&self.outbox.denied(&written)).unwrap_or(failure)
            }
            failure => failure,
        };
        let count = |topic, operation| self.outbox.partitions(topic, operation).map_err(denied);
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
        let asked = self.is_real.then(|| self.outbox.topic_id(&self.writer.topics.input));
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
            let topic = self.writer.topic(Kind::Output);
            let detail = format!("topic {topic} does not take it: {}", failure::describe(code));
            let reason = failure::refused(code).map_or(Reason::RecordRefused, |(reason, _)| reason);
            batch.refuse(index, Refusal { reason, detail });
        }
    }

    /// Checks the outputs about a batch against the known rules of their topic. Returns whether the topic will refuse some of
    /// them. If so, the batch is to be processed again, after [`Sink::refuse_known`].
    pub fn foresee(&mut self, work: Work<'_>) -> bool {
        if self.refusals.outputs.is_empty() {
            return false;
        }
        self.ask(Kind::Output);
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
        let large = self.scale.larger(self.outbox.client_settings(), written, rules.largest());
        let large = suspects.into_iter().zip(large).filter(|(_, large)| *large);
        bad.extend(large.map(|(output, _)| (output, RDKafkaErrorCode::MessageSizeTooLarge)));
        for (output, code) in &bad {
            self.note(place(work.batch, output.record), *code);
        }
        !bad.is_empty()
    }

    /// Checks the dead letters about a batch against the known rules of their topic.
    fn foresee_letters(&mut self, work: Work<'_>) {
        if self.refusals.letters.is_empty() {
            return;
        }
        self.ask(Kind::Letter);
        let place = |rejection: &Rejection| place(work.batch, rejection.record);
        let is_whole = |rejection: &&Rejection| !rejection.drop && !self.refusals.of(place(rejection)).letter;
        let whole: Vec<&Rejection> = work.step.rejections.iter().filter(is_whole).collect();
        let written = whole.iter().map(|rejection| self.writer.letter(work, rejection, true)).collect();
        let large = self.scale.larger(self.outbox.client_settings(), written, self.refusals.letters.largest());
        for (rejection, _) in whole.into_iter().zip(large).filter(|(_, large)| *large) {
            self.refusals.at(place(rejection)).letter = true;
        }
    }

    /// Returns whether something was learned from the transaction that has failed, so that the next attempt gets further and need
    /// not wait. If so, nothing of that transaction is committed: a commit is tried only if there was nothing to learn.
    pub fn has_learned(&mut self) -> bool {
        std::mem::take(&mut self.learned)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.learned = false;
        match &mut self.transactions {
            Some(transactions) => transactions.begin(&mut self.outbox, give_up),
            None => self.outbox.renew_if_dead().map_err(Failure::Wait),
        }
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
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let Some(transactions) = &mut self.transactions else { return Ok(()) };
        transactions.add_offsets(&self.outbox, (offsets, topic), membership, give_up)?;
        transactions.commit(&self.outbox, give_up)
    }

    /// Forgets what was learned about `parts`, which are committed.
    pub(super) fn forget(&mut self, parts: &[Part]) {
        self.refusals.forget(parts);
        self.scale.rest();
    }

    /// Abandons what was sent since the last commit.
    pub fn abandon(&mut self, parts: &[Part], give_up: &mut dyn FnMut() -> bool) {
        match &mut self.transactions {
            Some(transactions) => transactions.abandon(&self.outbox, self.learned),
            // The reports about what was sent must not be taken for reports about what is sent next. What they tell about
            // refusals is remembered.
            None => drop(self.drain(parts, give_up)),
        }
    }

    /// Returns the current outage, if any. Call it only while there is nothing to read or write.
    pub fn outage(&mut self) -> Option<String> {
        self.outbox.outage(&self.writer.topics.input)
    }

    /// Serves the producer's events, and logs refusals that are due. To be called now and then while there is nothing to commit.
    pub fn serve(&mut self) {
        self.outbox.serve();
        self.scale.rest();
        self.tell();
    }

    /// Returns the cause of `failure`, with which sending has failed. The cause may be something that was sent before.
    pub fn cause(&mut self, parts: &[Part], failure: Failure, give_up: &mut dyn FnMut() -> bool) -> Failure {
        self.outbox.serve();
        match failure {
            Failure::Wait(_) if self.outbox.has_failed() => self.drain(parts, give_up).err().unwrap_or(failure),
            failure => failure,
        }
    }

    /// Sends a part. Returns before it is delivered.
    pub fn send(&mut self, work: Work<'_>, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let mut refused = None;
        for output in &work.step.outputs {
            if let Some(code) = self.outbox.send(self.writer.output(work, output), give_up)? {
                self.note(place(work.batch, output.record), code);
                refused = Some(code);
            }
        }
        if let Some(code) = refused {
            self.learned = true;
            return Err(self.wait(Kind::Output, code));
        }
        self.foresee_letters(work);
        for rejection in work.step.rejections.iter().filter(|rejection| !rejection.drop) {
            self.send_letter(work, rejection, give_up)?;
        }
        for window in &work.step.counts.windows {
            let json = window.to_json();
            if let Some(code) = self.outbox.send(self.writer.window(window, &json, !self.refusals.timed_window), give_up)? {
                return Err(self.failure(Kind::Window, code));
            }
        }
        self.outbox.serve();
        Ok(())
    }

    /// Sends a dead letter, shortened if the broker refused the whole one.
    fn send_letter(&mut self, work: Work<'_>, rejection: &Rejection, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let place = place(work.batch, rejection.record);
        let known = self.refusals.of(place);
        if !known.letter {
            let timestamp = work.batch.records()[rejection.record as usize].timestamp;
            let refused = self.refusals.letters.refuses_time(timestamp, work.batch.processed_at);
            let untimed = known.output.is_some() || known.timed_letter || refused;
            if self.outbox.send(self.writer.letter(work, rejection, untimed), give_up)?.is_none() {
                return Ok(());
            }
            self.refusals.at(place).letter = true;
        }
        match self.outbox.send(self.writer.shortened(work, rejection), give_up)? {
            None => Ok(()),
            Some(code) => Err(self.failure(Kind::Shortened, code)),
        }
    }

    /// Waits until all is delivered, and fails if something was not. Of several failures the first of this order is returned: a
    /// failure that only an operator can mend, what was learned, the reason why the transaction has failed, and last a failure
    /// that may be only a consequence of that.
    pub(super) fn drain(&mut self, parts: &[Part], give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let (mut learned, mut failures) = (None, Vec::new());
        let (batch_bytes, mut crowded) = (self.outbox.batch_bytes(), None);
        for bad in self.outbox.drain(give_up)? {
            if failure::too_large(bad.code) && bad.bytes + BESIDE < batch_bytes {
                crowded = Some(bad);
                continue;
            }
            match self.remember(parts, bad) {
                Some(failure) => failures.push(failure),
                None => learned = Some((untag(bad.tag).0, bad.code)),
            }
        }
        if let Some(at) = failures.iter().position(|failure| !matches!(failure, Failure::Wait(_))) {
            return Err(failures.swap_remove(at));
        }
        if let Some(bad) = crowded {
            let (topic, bytes) = (self.writer.topic(untag(bad.tag).0), self.outbox.shrink_batches());
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
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Returns the reason why the transaction has failed, if it has.
    fn transaction_failure(&mut self) -> Option<Failure> {
        let transactions = self.transactions.as_mut().filter(|_| self.outbox.has_failed())?;
        Some(transactions.reason(&self.outbox, &self.writer.topics))
    }

    /// Remembers a record that was refused because of the record itself. Returns the failure if there was another reason.
    fn remember(&mut self, parts: &[Part], bad: Undelivered) -> Option<Failure> {
        let (kind, part, record) = untag(bad.tag);
        if failure::refused(bad.code).is_none() {
            return Some(self.failure(kind, bad.code));
        }
        self.ask(kind);
        let place = || place(&parts[part].batch, record);
        let key = || parts[part].batch.key(record as usize);
        let code = match kind {
            // The reason is a rule of the topic, if a known rule refuses the record. Else only the broker knows the reason.
            Kind::Output if bad.code == RDKafkaErrorCode::InvalidRecord => {
                let (batch, index) = (&parts[part].batch, record as usize);
                let refused = self.refusals.outputs.refuse(key(), batch.records()[index].timestamp, batch.processed_at);
                refused.unwrap_or(bad.code)
            }
            Kind::Output => bad.code,
            Kind::Letter => self.refusals.letters.meaning(bad.code, key()),
            Kind::Window => self.refusals.windows.meaning(bad.code, None),
            Kind::Shortened => bad.code,
        };
        let is_time = code == RDKafkaErrorCode::InvalidTimestamp;
        match kind {
            Kind::Output => self.note(place(), code),
            Kind::Letter => {
                let refused = self.refusals.at(place());
                let first = is_time && !refused.timed_letter;
                (refused.timed_letter, refused.letter) = (refused.timed_letter || first, !first);
            }
            Kind::Window if is_time && !self.refusals.timed_window => self.refusals.timed_window = true,
            Kind::Shortened | Kind::Window => return Some(self.failure(kind, code)),
        }
        None
    }

    /// Asks for the settings of the topic that records of `kind` go to, if that is due.
    fn ask(&mut self, kind: Kind) {
        let topic = self.writer.topic(kind);
        let rules = match kind {
            Kind::Output => &mut self.refusals.outputs,
            Kind::Letter => &mut self.refusals.letters,
            Kind::Window => &mut self.refusals.windows,
            Kind::Shortened => return,
        };
        let now = Instant::now();
        if self.is_real && rules.is_due(now) {
            rules.learn(self.outbox.settings(topic).as_ref(), now);
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
                let topic = self.writer.topic(Kind::Output);
                tracing::warn!(topic, records, "records are refused and become dead letters: {remedy}");
            }
        }
    }

    /// Returns the failure for a refusal from which something was learned.
    fn wait(&self, kind: Kind, code: RDKafkaErrorCode) -> Failure {
        let topic = self.writer.topic(kind);
        Failure::Wait(anyhow!("topic {topic} refused a record, which is written in another way: {}", failure::describe(code)))
    }

    fn failure(&self, kind: Kind, code: RDKafkaErrorCode) -> Failure {
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
            let first = sink.outbox.producer();
            prepare(&mut sink);
            assert!(Arc::ptr_eq(&first, &sink.outbox.producer()), "it is answered, and stays");
            broker.cluster().broker_down(-1).unwrap();
            assert!(matches!(sink.learn_partitions(), Err(Failure::Wait(_))));
            broker.cluster().broker_up(-1).unwrap();
            prepare(&mut sink);
            assert!(!Arc::ptr_eq(&first, &sink.outbox.producer()));
            eventually("the next one is answered", || sink.learn_partitions().is_ok());
        }
    }
}
