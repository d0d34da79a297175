//! The loop: source → pipeline → sink, then the counts take over what the step changed.
//!
//! One synchronous thread does it all. Events are looked at between batches only, and whatever waits for a broker asks now
//! and then whether it should go on. If a step cannot be committed it is dropped, the source returns to the committed offsets
//! after a pause, and the messages are read again: nothing was counted, so nothing is counted twice.
//!
//! What this module leaves out: how messages are judged, how they get here and there, and where events come from.

use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::counts::Counts;
use crate::events::{CLOSE_GRACE, Event, Inbox};
use crate::kafka::offsets::Committed;
use crate::kafka::sink::Work;
use crate::kafka::troubles::Troubles;
use crate::kafka::{Failure, Polled, Sink, Source, start, topics};
use crate::pipeline::Manifest;
use crate::record::{Batch, Step};
use crate::ruleset::RuleSet;
use crate::snapshot::{self, Shared};
use crate::state::State;

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
    snapshot.update(|snapshot| snapshot.state = snapshot::State::Stopped);
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
        phase: Phase::Recovering,
        reset_bad_state: config.counts.reset_bad_state,
        group: &config.kafka.group,
        backoff: Backoff::new(PAUSES.0, PAUSES.1),
        snapshot,
        clock,
    };
    snapshot.update(|snapshot| snapshot.state = snapshot::State::Running);
    let outcome = engine.run(inbox);
    snapshot.update(|snapshot| snapshot.state = snapshot::State::Stopping);
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
    /// Partitions are new, or something failed: return to what is committed, and ask anew where to write.
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
    reset_bad_state: bool,
    group: &'a str,
    backoff: Backoff,
    snapshot: &'a Shared,
    clock: C,
}

impl<C: Fn() -> i64> Engine<'_, C> {
    fn run(&mut self, inbox: &mut Inbox) -> anyhow::Result<()> {
        loop {
            match inbox.pop() {
                // What is counted in the open window is committed with the offsets: whoever goes on there goes on counting.
                Some(Event::Shutdown) => return Ok(()),
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
            self.recover(inbox)?;
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
                self.counts.clear();
                Ok(())
            }
            Polled::Assigned(partitions) => {
                tracing::info!(topic = %self.source.topic(), ?partitions, "partitions assigned");
                self.snapshot.update(|snapshot| snapshot.partitions = partitions);
                self.phase = Phase::Recovering;
                Ok(())
            }
        }
    }

    /// Begins anew with what is committed. The producer comes first: until a transaction of a former one is decided, it is not
    /// known what that is.
    fn recover(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        self.sink.prepare(&mut || inbox.overdue())?;
        let committed = self.source.restore()?;
        self.counts.clear();
        if committed.is_empty() {
            return Ok(());
        }
        self.sink.learn_partitions()?;
        let topic = self.sink.input_id();
        for found in &committed {
            let state = self.state(found, &topic)?;
            self.counts.restore(found.partition, (self.clock)(), &state);
        }
        Ok(())
    }

    /// The state to go on with in a partition.
    fn state(&self, found: &Committed, topic: &str) -> Result<State, Failure> {
        let (partition, name) = (found.partition, self.source.topic());
        let fresh = || State::new(topic, found.offset.unwrap_or_default());
        let stop = |problem: String| {
            let remedy = start::how_to_reset(name, self.group);
            Failure::Stop(anyhow!("failed to go on with partition {partition} of topic {name}: {problem}; {remedy}"))
        };
        match State::parse(&found.metadata) {
            Ok(None) => Ok(fresh()),
            Ok(Some(state)) if !state.topic.is_empty() && !topic.is_empty() && state.topic != topic => {
                Err(stop("the topic was deleted and created anew since its offset was committed".into()))
            }
            Ok(Some(mut state)) => {
                topic.clone_into(&mut state.topic);
                Ok(state)
            }
            Err(unreadable) if self.reset_bad_state => {
                tracing::warn!(partition, "the state in the committed offset cannot be read, {unreadable}: counts begin anew");
                Ok(fresh())
            }
            Err(unreadable) => Err(stop(format!(
                "the state in its committed offset cannot be read, {unreadable}; `counts.on_bad_state = \"reset\"` counts anew from there"
            ))),
        }
    }

    /// How long to wait for a message: not past the end of the open window.
    fn patience(&self) -> Duration {
        let left = self.counts.next_close().map_or(i64::MAX, |close| close - (self.clock)());
        IDLE.min(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    fn process(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        self.batch.processed_at = (self.clock)();
        self.sink.warn(&mut self.batch);
        (self.judge.process)(&self.counts, &self.batch, &mut self.step);
        self.commit(inbox)
    }

    /// Lets time pass: a window that has ended is sent, in a step of its own.
    fn tick(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        self.sink.serve();
        let now = (self.clock)();
        if self.counts.next_close().is_none_or(|close| now < close) {
            return Ok(());
        }
        self.step.clear();
        self.step.counts = self.counts.tick(now);
        self.commit(inbox)
    }

    /// Commits the batch and what became of it. Only then do the counts take over what has changed.
    fn commit(&mut self, inbox: &mut Inbox) -> Result<(), Failure> {
        let read = self.batch.records().iter().map(|record| record.partition);
        let states = self.counts.states(&self.step.counts, read);
        let Judge { manifests, hash, .. } = &self.judge;
        let work = Work { batch: &self.batch, step: &self.step, manifests, ruleset: hash, states: &states };
        self.sink.commit(work, &mut self.source, &mut || inbox.overdue())?;
        self.counts.apply(&self.step.counts);
        self.backoff.reset();
        self.snapshot.update(|snapshot| {
            snapshot.state = snapshot::State::Running;
            snapshot.add(&self.batch, &self.step, manifests, &self.counts);
        });
        Ok(())
    }

    /// Drops the step and waits before the batch is read again.
    fn pause(&mut self, error: &anyhow::Error, inbox: &mut Inbox) {
        self.phase = Phase::Recovering;
        let pause = self.backoff.pause();
        tracing::warn!(pause_ms = pause.as_millis() as u64, "{error:#}; what is not committed will be read again");
        self.snapshot.update(|snapshot| snapshot.state = snapshot::State::Waiting(format!("{error:#}")));
        inbox.wait(pause);
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
