//! The loop: source → pipeline → sink, then the counts take over what the step changed.
//!
//! One synchronous thread does it all. Events are looked at between batches only, and whatever waits for a broker asks now
//! and then whether it should go on. If a step cannot be committed it is dropped, the source returns to the committed offsets
//! after a pause, and the messages are read again: nothing was counted, so nothing is counted twice.
//!
//! What this module leaves out: how messages are judged, how they get here and there, and where events come from.

use std::time::Duration;

use anyhow::Context as _;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::counts::{Counts, Delta};
use crate::events::{CLOSE_GRACE, Event, Inbox};
use crate::kafka::sink::Work;
use crate::kafka::troubles::Troubles;
use crate::kafka::{Failure, Polled, Sink, Source, topics};
use crate::pipeline::Manifest;
use crate::record::{Batch, Step};
use crate::ruleset::RuleSet;
use crate::snapshot::{Shared, State};

/// The longest wait for a message: how soon an event is seen while there is nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// Pauses before a batch that could not be committed is read again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What a run has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages read and committed.
    pub read: u64,
    /// Of these, how many passed every rule.
    pub written: u64,
    /// Of these, how many did not.
    pub rejected: u64,
    /// Committed batches.
    pub batches: u64,
}

/// Runs until a shutdown is asked for: reaches the cluster at `brokers`, sees to the topics, and then reads, judges and writes.
/// `clock` tells the time in milliseconds since the epoch. `snapshot` is renewed with every batch.
///
/// # Errors
/// What waiting cannot help, such as a missing permission or topic.
pub fn run(
    config: &Config,
    rules: &RuleSet,
    brokers: &str,
    inbox: &mut Inbox,
    snapshot: &Shared,
    clock: impl Fn() -> i64,
) -> anyhow::Result<Summary> {
    let outcome = serve(config, Judge::new(rules)?, brokers, inbox, snapshot, clock);
    snapshot.update(|snapshot| snapshot.state = State::Stopped);
    outcome?;
    let snapshot = snapshot.get();
    Ok(Summary { read: snapshot.read, written: snapshot.written, rejected: snapshot.rejections(), batches: snapshot.batches })
}

fn serve(
    config: &Config,
    judge: Judge,
    brokers: &str,
    inbox: &mut Inbox,
    snapshot: &Shared,
    clock: impl Fn() -> i64,
) -> anyhow::Result<()> {
    snapshot.update(|snapshot| judge.introduce(snapshot));
    let Some(ready) = topics::prepare(config, brokers, inbox)? else { return Ok(()) };
    let troubles = std::sync::Arc::new(Troubles::default());
    let source = Source::open(config, brokers, troubles.clone())?;
    let mut engine = Engine {
        batch: Batch::new(source.topic().clone()),
        step: Step::default(),
        counts: Counts::new(config.counts.every.as_millis() as i64, config.counts.emit_empty),
        sink: Sink::open(config, brokers, ready.largest_batch, troubles)?,
        source,
        judge,
        phase: Phase::Reading,
        backoff: Backoff::new(PAUSES.0, PAUSES.1),
        snapshot,
        clock,
    };
    snapshot.update(|snapshot| snapshot.state = State::Running);
    let outcome = engine.run(inbox);
    snapshot.update(|snapshot| snapshot.state = State::Stopping);
    if !engine.source.close(CLOSE_GRACE) {
        tracing::warn!("left without telling the group, whose coordinator does not answer");
    }
    outcome
}

/// The rules in force, with what is said about them. Replaced as a whole.
struct Judge {
    process: Box<Process>,
    manifests: Vec<Manifest>,
    hash: String,
}

type Process = dyn FnMut(&Counts, &Batch, &mut Step);

impl Judge {
    fn new(rules: &RuleSet) -> anyhow::Result<Judge> {
        let mut pipeline = rules.instantiate().context("failed to start the rules")?;
        let manifests = pipeline.manifests().to_vec();
        let process = move |counts: &Counts, batch: &Batch, step: &mut Step| pipeline.process(counts, batch, step);
        Ok(Judge { process: Box::new(process), manifests, hash: rules.hash().to_string() })
    }

    fn introduce(&self, snapshot: &mut crate::snapshot::Snapshot) {
        snapshot.ruleset.clone_from(&self.hash);
        snapshot.rules = self.manifests.iter().map(|manifest| manifest.name.clone()).collect();
    }
}

/// What the next turn of the loop does.
enum Phase {
    /// Read a batch, or serve what else comes.
    Reading,
    /// Something failed: return to the committed offsets, and ask anew where to write.
    Recovering,
}

/// The data loop's state. Buffers are used again from batch to batch.
struct Engine<'a, C> {
    source: Source,
    sink: Sink,
    judge: Judge,
    counts: Counts,
    batch: Batch,
    step: Step,
    phase: Phase,
    backoff: Backoff,
    snapshot: &'a Shared,
    clock: C,
}

impl<C: Fn() -> i64> Engine<'_, C> {
    fn run(&mut self, inbox: &mut Inbox) -> anyhow::Result<()> {
        loop {
            match inbox.pop() {
                Some(Event::Shutdown) => return self.leave(inbox),
                None => {}
            }
            match self.turn(inbox) {
                Ok(()) => {}
                Err(Failure::Stop(error)) => return Err(error),
                // The shutdown itself is in the inbox.
                Err(Failure::GaveUp) => return Ok(()),
                Err(Failure::Wait(error)) => self.pause(&error, inbox),
            }
        }
    }

    fn turn(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        if matches!(self.phase, Phase::Recovering) {
            self.source.rewind()?;
            self.sink.learn_partitions()?;
            self.phase = Phase::Reading;
        }
        let patience = self.patience();
        match self.source.poll(&mut self.batch, patience)? {
            Polled::Messages => self.process(inbox),
            // The batch is empty.
            Polled::Nothing => self.tick(inbox),
            Polled::Revoked => {
                tracing::info!(topic = %self.source.topic(), "partitions revoked");
                self.snapshot.update(|snapshot| snapshot.partitions.clear());
                self.flush(inbox)
            }
            Polled::Assigned(partitions) => {
                // What other processes now have is theirs to count.
                self.counts.retain(|partition| partitions.contains(&partition));
                tracing::info!(topic = %self.source.topic(), ?partitions, "partitions assigned");
                self.snapshot.update(|snapshot| snapshot.partitions = partitions);
                self.sink.learn_partitions()
            }
        }
    }

    /// How long to wait for a message: not past the end of the open window.
    fn patience(&self) -> Duration {
        let left = self.counts.next_close().map_or(i64::MAX, |close| close - (self.clock)());
        IDLE.min(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    fn process(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        self.batch.processed_at = (self.clock)();
        (self.judge.process)(&self.counts, &self.batch, &mut self.step);
        let work = Work { batch: &self.batch, step: &self.step, manifests: &self.judge.manifests, ruleset: &self.judge.hash };
        let diverted = self.sink.commit(work, &self.source, &mut || inbox.overdue())?;
        self.committed(&diverted);
        Ok(())
    }

    /// Lets time pass: a window that has ended is sent, in a step of its own.
    fn tick(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        self.sink.serve();
        let now = (self.clock)();
        if self.counts.next_close().is_none_or(|close| now < close) {
            return Ok(());
        }
        self.send_windows(self.counts.tick(now), inbox)
    }

    /// Sends the windows that are open, before the partitions go: nobody else knows what was counted in them.
    fn flush(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        self.batch.clear();
        let delta = self.counts.flush();
        if delta.windows.is_empty() { Ok(()) } else { self.send_windows(delta, inbox) }
    }

    /// The last thing that is done.
    fn leave(&mut self, inbox: &mut Inbox) -> anyhow::Result<()> {
        match self.flush(inbox) {
            Ok(()) => {}
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Wait(error)) => tracing::warn!("the open window was not sent: {error:#}"),
            Err(Failure::GaveUp) => tracing::warn!("the open window was not sent: no broker takes it"),
        }
        Ok(())
    }

    fn send_windows(&mut self, delta: Delta, inbox: &mut Inbox) -> Result<(), Failure> {
        self.step.clear();
        self.step.counts = delta;
        let work = Work { batch: &self.batch, step: &self.step, manifests: &self.judge.manifests, ruleset: &self.judge.hash };
        self.sink.commit(work, &self.source, &mut || inbox.overdue())?;
        self.committed(&[]);
        Ok(())
    }

    fn committed(&mut self, diverted: &[&'static str]) {
        self.counts.apply(&self.step.counts);
        self.backoff.reset();
        self.snapshot.update(|snapshot| {
            snapshot.state = State::Running;
            snapshot.add(&self.batch, &self.step, &self.judge.manifests, &self.counts);
            snapshot.divert(diverted);
        });
    }

    /// Drops the step and waits before the batch is read again.
    fn pause(&mut self, error: &anyhow::Error, inbox: &mut Inbox) {
        self.phase = Phase::Recovering;
        let pause = self.backoff.pause();
        tracing::warn!(pause_ms = pause.as_millis() as u64, "{error:#}; what is not committed will be read again");
        self.snapshot.update(|snapshot| snapshot.state = State::Waiting(format!("{error:#}")));
        inbox.wait(pause);
    }
}

#[cfg(test)]
mod tests;
