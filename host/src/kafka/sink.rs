//! The output: writes what became of a batch, sees every message delivered, then has the offsets committed.
//!
//! These are three calls, `send`, `drain` and the source's `commit`, which [`Sink::commit`] makes in this order.
//!
//! A record that the broker refuses for its own sake, such as one that has grown too large, would fail again for ever. It is
//! remembered, the batch is read again, and the record becomes a dead letter; if even that is refused, a shortened one.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::anyhow;
use rdkafka::error::RDKafkaErrorCode;

use super::client;
use super::failure::{self, Failure};
use super::outbox::{Outbox, Undelivered};
use super::source::{Source, extents};
use super::troubles::Troubles;
pub use super::writer::Work;
use super::writer::{Kind, Partitions, Writer, untag};
use crate::config::Config;
use crate::record::{Batch, Output, Rejection};

/// Producers of the output, the dead letters and the counts.
pub struct Sink {
    outbox: Outbox,
    writer: Writer,
    /// Records that the broker refused, by partition and offset of the input, until they are committed as dead letters.
    refused: BTreeMap<(i32, i64), Refusal>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    code: RDKafkaErrorCode,
    /// What was refused is the dead letter, not the output.
    letter: bool,
}

/// The reasons of outputs that became dead letters because the broker refused them.
pub type Diverted = Vec<&'static str>;

impl Sink {
    /// `largest_batch` bounds what is sent in one go to what the topics take; a broker judges a batch as a whole.
    ///
    /// # Errors
    /// If the client does not take its settings.
    pub fn open(config: &Config, brokers: &str, largest_batch: Option<u32>, troubles: Arc<Troubles>) -> anyhow::Result<Sink> {
        let mut settings = client::producer_settings(&config.kafka, brokers)?;
        if let Some(bytes) = largest_batch.filter(|_| settings.get("batch.size").is_none()) {
            settings.set("batch.size", bytes.clamp(1, client::BATCH_BYTES).to_string());
        }
        Ok(Sink { outbox: Outbox::open(settings, troubles)?, writer: Writer::new(config), refused: BTreeMap::new() })
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

    /// Writes `work`, waits until all of it is delivered, and commits the offsets. Nothing is committed unless it returns
    /// well; some of it may be written then.
    pub fn commit(&mut self, work: Work<'_>, source: &Source, give_up: &mut dyn FnMut() -> bool) -> Result<Diverted, Failure> {
        self.outbox.renew_if_dead().map_err(Failure::Wait)?;
        let sent = self.send(work, give_up);
        // Reports of what was sent before a failure are awaited too: they must not be taken for those of the next batch.
        let delivered = self.drain(work.batch, give_up);
        let diverted = sent?;
        delivered?;
        source.commit(work.batch, give_up)?;
        self.forget(work.batch);
        Ok(diverted)
    }

    /// Serves the producer's events. To be called now and then while there is nothing to commit.
    pub fn serve(&self) {
        self.outbox.serve();
    }

    fn send(&mut self, work: Work<'_>, give_up: &mut dyn FnMut() -> bool) -> Result<Diverted, Failure> {
        let mut diverted = Diverted::new();
        for output in &work.step.outputs {
            diverted.extend(self.send_output(work, output, give_up)?);
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
        Ok(diverted)
    }

    /// Sends an output, or a dead letter in its place if the broker refused it: then the reason is returned.
    fn send_output(
        &mut self,
        work: Work<'_>,
        output: &Output,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<Option<&'static str>, Failure> {
        let place = place(work.batch, output.record);
        if !self.refused.contains_key(&place) {
            let Some(code) = self.outbox.send(self.writer.output(work, output), give_up)? else { return Ok(None) };
            self.refused.insert(place, Refusal { code, letter: false });
        }
        let code = self.refused[&place].code;
        let reason = failure::refused(code).unwrap_or("record_refused");
        let detail = format!("topic {} does not take it: {}", self.writer.topic(Kind::Output), failure::describe(code));
        let rejection = Rejection { record: output.record, rule: None, reason: reason.into(), detail: Some(detail), drop: false };
        self.send_letter(work, &rejection, give_up)?;
        Ok(Some(reason))
    }

    /// Sends a dead letter, shortened if the broker refused the whole one.
    fn send_letter(&mut self, work: Work<'_>, rejection: &Rejection, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let place = place(work.batch, rejection.record);
        let refusal = self.refused.get(&place).copied();
        if refusal.is_none_or(|refusal| !refusal.letter) {
            let letter = self.writer.letter(work, rejection, refusal.is_some());
            let Some(code) = self.outbox.send(letter, give_up)? else { return Ok(()) };
            self.refused.insert(place, Refusal { code, letter: true });
        }
        match self.outbox.send(self.writer.shortened(work, rejection), give_up)? {
            None => Ok(()),
            Some(code) => Err(self.failure(Kind::Shortened, code)),
        }
    }

    /// Waits for all delivery reports, and fails if one is bad.
    fn drain(&mut self, batch: &Batch, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let (mut refused, mut failures) = (0, Vec::new());
        for bad in self.outbox.drain(give_up)? {
            match self.remember(batch, bad) {
                Some(failure) => failures.push(failure),
                None => refused += 1,
            }
        }
        // What only a person can mend is told before what may pass.
        failures.sort_by_key(|failure| !matches!(failure, Failure::Stop(_)));
        match failures.into_iter().next() {
            Some(failure) => Err(failure),
            None if refused > 0 => Err(Failure::Wait(anyhow!("the broker refused records, which become dead letters"))),
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
                self.refused.insert(place(batch, record), Refusal { code: bad.code, letter: kind == Kind::Letter });
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

/// The partition and offset of a record.
fn place(batch: &Batch, record: u32) -> (i32, i64) {
    let record = &batch.records()[record as usize];
    (record.partition, record.offset)
}
