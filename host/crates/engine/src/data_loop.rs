//! The loop: source → pipeline → sink → commit.
//!
//! One synchronous thread does it all. Under lag several batches, as parts, share a transaction: while one is on its way, the
//! next is read and judged. Events are looked at between transactions only, and whatever waits for a broker asks now and then
//! whether it should go on. If a transaction cannot be committed it is abandoned, and after a pause everything, messages,
//! offsets and counts, begins again with what is committed: nothing is lost, and nothing is counted twice. Where it is known what
//! to do better, as with records that a topic refuses, what is in hand is judged and sent again at once.
//!
//! What this module leaves out: how messages are judged, how they get here and there, and where events come from.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::active::ActiveRules;
use crate::ahead::Ahead;
use crate::fault_log::FaultLog;
use crate::instances::RuleInstances;
use crate::open_transaction::OpenTransaction;
use crate::protocol::{Command, Event, LoopEnd, Why};
use crate::same_topic::SameTopic;
use crate::settings::CountSettings;
use crate::shadow::ShadowSampler;
use crate::snapshot::{self, Shared};
use weir_core::counts::Counts;
use weir_core::record::Part;
use weir_core::state::State;
use weir_kafka::reset::Position;
use weir_kafka::sink::Work;
use weir_kafka::troubles::Troubles;
use weir_kafka::{Failure, Polled, Session, topics};
use weir_system::backoff::Backoff;
use weir_system::shutdown::Shutdown;

/// How long leaving the consumer group may take.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// The longest wait for a message: how soon an event is seen while there is nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// How often observers are told how far the loop is behind.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// How often positions that have gone past markers and aborted messages are committed on their own.
const CATCH_UP_EVERY: Duration = Duration::from_secs(1);
/// How long a topic may be missing. Brokers that have just started do not know all of them at once.
const MISSING: Duration = Duration::from_secs(30);
/// How many seconds the cluster may leave what was sent unanswered before observers are told.
const STALLED: u64 = 3;
/// How long a coordinator is given to end a transaction before the next one is begun. It answers earlier than it is done, and whoever
/// comes in between waits for longer than this.
const ENDING: Duration = Duration::from_millis(20);
/// Pauses before a batch that could not be committed is read again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

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

/// What a data loop needs to run.
pub struct Setup<'a, C> {
    /// Topics, and how to reach the cluster.
    pub kafka: &'a weir_kafka::Settings,
    /// The cluster's address, which may be that of an embedded broker.
    pub brokers: &'a str,
    /// How to count.
    pub counts: &'a CountSettings,
    /// Ends it.
    pub shutdown: &'a Shutdown,
    /// Where the loader of rules tells it something, and is told.
    pub control: LoopEnd,
    /// Is renewed with every batch.
    pub snapshot: &'a Shared,
    /// Tells the time in milliseconds since the epoch.
    pub clock: C,
}

impl<C: Fn() -> i64> Setup<'_, C> {
    /// Runs until a shutdown is requested, with `rules` to begin with, which are in force for the reason `why`: reaches the cluster, sees to the topics, and
    /// then reads, judges and writes.
    ///
    /// # Errors
    /// What waiting cannot help, such as a missing permission or topic.
    pub fn run(self, rules: RuleInstances, why: Why) -> anyhow::Result<Summary> {
        let shared = self.snapshot;
        let outcome = self.serve(rules, why);
        shared.update(|snapshot| snapshot.state = snapshot::State::Stopped);
        outcome?;
        let snapshot = shared.get();
        Ok(Summary { read: snapshot.read, written: snapshot.written, rejected: snapshot.rejections(), batches: snapshot.batches })
    }

    fn serve(self, rules: RuleInstances, why: Why) -> anyhow::Result<()> {
        let Setup { kafka, brokers, counts, shutdown, control, snapshot, clock } = self;
        let active = ActiveRules::new(rules, why, clock());
        snapshot.sign(clock());
        snapshot.update(|snapshot| active.show(snapshot));
        let Some(ready) = topics::prepare(kafka, brokers, shutdown)? else { return Ok(()) };
        let session = Session::open(kafka, brokers, ready.largest_batch)?;
        let mut engine = Engine {
            transaction: OpenTransaction::new(session.topic().clone(), kafka.batch.clone()),
            session,
            active,
            sampler: None,
            counts: Counts::new(counts.every.as_millis() as i64, counts.emit_empty),
            committed: BTreeMap::new(),
            reset_bad_state: counts.reset_bad_state,
            phase: Phase::Recovering,
            joined: false,
            missing: None,
            same_topic: SameTopic::new(),
            caught_up: Instant::now(),
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            fault_log: FaultLog::default(),
            ahead: Ahead::default(),
            looked: Instant::now(),
            shutdown,
            control,
            snapshot,
            clock,
        };
        let outcome = engine.run();
        snapshot.update(|snapshot| snapshot.state = snapshot::State::Stopping);
        if !engine.session.close(CLOSE_GRACE) {
            tracing::warn!("left without telling the group, whose coordinator does not answer");
        }
        outcome
    }
}

/// What the next turn of the loop does.
enum Phase {
    /// Read a batch, or serve what else comes.
    Reading,
    /// Partitions are new, or something failed: return to what is committed, and ask anew where to write.
    Recovering,
    /// Process and send again what is in hand.
    Resending,
}

/// What a turn of the loop does.
enum Next {
    Recover,
    Resend,
    Commit,
    /// Wait so long for a record.
    Poll(Duration),
}

/// The data loop's state. Buffers are used again from batch to batch.
struct Engine<'a, C> {
    session: Session,
    active: ActiveRules,
    /// The candidate that sees samples of what is committed.
    sampler: Option<ShadowSampler>,
    transaction: OpenTransaction,
    /// What is counted, ahead of what is committed by the transaction that is open.
    counts: Counts,
    /// By partition, the state that was committed last.
    committed: BTreeMap<i32, String>,
    reset_bad_state: bool,
    phase: Phase,
    /// The group has given this process its share, which may be none.
    joined: bool,
    /// Since when a topic is missing.
    missing: Option<Instant>,
    same_topic: SameTopic,
    /// When positions were committed last.
    caught_up: Instant,
    backoff: Backoff,
    fault_log: FaultLog,
    /// What was told about clocks.
    ahead: Ahead,
    /// When the lag was looked at last.
    looked: Instant,
    shutdown: &'a Shutdown,
    control: LoopEnd,
    snapshot: &'a Shared,
    clock: C,
}

impl<C: Fn() -> i64> Engine<'_, C> {
    /// Runs until a shutdown is requested. What is counted in the open window is committed with the offsets: whoever goes on
    /// there counts on.
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.show();
            if !self.transaction.is_open() {
                if self.shutdown.is_requested() {
                    return Ok(());
                }
                self.obey();
            }
            let next = self.select();
            if let Err(failure) = self.apply(next)
                && self.fail(failure)?.is_break()
            {
                return Ok(());
            }
        }
    }

    /// Takes a command of the loader, if there is one.
    fn obey(&mut self) {
        match self.control.commands.try_recv() {
            Ok(Command::Activate(next)) => self.active.propose(next),
            Ok(Command::Sample(sampler)) => self.sampler = sampler,
            Err(_) => {}
        }
    }

    /// Selects what the next turn does.
    fn select(&self) -> Next {
        match self.phase {
            Phase::Recovering => Next::Recover,
            Phase::Resending => Next::Resend,
            Phase::Reading if self.transaction.is_full() => Next::Commit,
            // An open transaction takes what is there, and does not wait for more.
            Phase::Reading if self.transaction.is_open() => Next::Poll(Duration::ZERO),
            Phase::Reading => Next::Poll(self.patience()),
        }
    }

    fn apply(&mut self, next: Next) -> Result<(), Failure> {
        if !self.transaction.is_open() && !matches!(next, Next::Recover) {
            self.check_topic()?;
            let activated = self.active.activate(self.session.positions(), (self.clock)());
            self.tell(activated);
        }
        match next {
            Next::Recover => self.recover(),
            Next::Resend => self.resend(),
            Next::Commit => self.commit(),
            Next::Poll(wait) => self.read(wait),
        }
    }

    /// Reads a batch and processes it, or serves what else comes.
    fn read(&mut self, wait: Duration) -> Result<(), Failure> {
        match self.poll(wait)? {
            Polled::Messages => self.process(),
            Polled::Nothing if self.transaction.is_open() => self.commit(),
            Polled::Nothing => {
                self.reach();
                self.tick()
            }
            Polled::Revoked => {
                // The group waits for this.
                let committed = if self.transaction.is_open() { self.commit() } else { self.catch_up() };
                self.revoked();
                committed
            }
            Polled::Assigned(partitions) => {
                self.assigned(partitions);
                Ok(())
            }
        }
    }

    /// Gives up the transaction after a failure, and decides how to go on. Returns an error if that can't be; breaks if a
    /// shutdown is overdue.
    fn fail(&mut self, failure: Failure) -> anyhow::Result<ControlFlow<()>> {
        let begun = self.transaction.begun().unwrap_or_else(Instant::now);
        self.abandon();
        match failure {
            Failure::Stop(error) => return Err(error),
            Failure::Missing(error) if self.missing.get_or_insert(begun).elapsed() >= MISSING => {
                return Err(self.or_input_is_gone(error));
            }
            Failure::Missing(error) => self.pause(&error),
            Failure::GaveUp => return Ok(ControlFlow::Break(())),
            Failure::Wait(error) if self.session.has_learned() => self.again(&error),
            Failure::Wait(error) => self.pause(&error),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Lets observers see that the loop is alive, and now and then how far it is behind.
    fn show(&mut self) {
        self.snapshot.sign((self.clock)());
        if self.looked.elapsed() >= LAG_EVERY {
            self.looked = Instant::now();
            let lag = self.session.lag();
            let remedy = |partitions: &[i32]| self.session.reset().remedy(partitions, Position::Current);
            let counts_wait = self.ahead.look(&self.counts, (self.clock)(), remedy);
            self.snapshot.update(|snapshot| (snapshot.lag, snapshot.counts_wait) = (lag, counts_wait));
        }
    }

    fn revoked(&mut self) {
        self.session.release();
        self.counts.clear();
        self.committed.clear();
        self.transaction.forget();
        tracing::info!(topic = %self.session.topic(), "partitions revoked");
        self.snapshot.update(|snapshot| snapshot.partitions.clear());
    }

    fn assigned(&mut self, partitions: Vec<i32>) {
        // What was assigned before may not have been revoked, if the topic has new partitions.
        self.abandon();
        tracing::info!(topic = %self.session.topic(), ?partitions, "partitions assigned");
        self.joined = true;
        self.snapshot.update(|snapshot| {
            snapshot.partitions = partitions;
            if snapshot.state == snapshot::State::Connecting {
                snapshot.state = snapshot::State::Running;
            }
        });
        self.phase = Phase::Recovering;
    }

    /// Fills the next part.
    fn poll(&mut self, wait: Duration) -> Result<Polled, Failure> {
        let polled = self.session.poll(&mut self.transaction.next().batch, wait);
        // A poll that fails may have taken records as well.
        self.transaction.set_incomplete(!matches!(polled, Ok(Polled::Nothing)));
        polled.map_err(|failure| self.or_another_topic(failure))
    }

    /// How long to wait for a message: not past the end of the open window.
    fn patience(&self) -> Duration {
        let left = self.counts.next_close().map_or(i64::MAX, |close| close - (self.clock)());
        IDLE.min(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    /// Processes the next part, and sends what has become of it.
    fn process(&mut self) -> Result<(), Failure> {
        let part = self.transaction.index();
        let Part { batch, step } = self.transaction.next();
        batch.processed_at = (self.clock)();
        self.session.refuse_known(batch);
        let (began, rules) = (Instant::now(), self.active.live_mut());
        rules.process(&self.counts, batch, step);
        if self.session.foresee(Work { part, batch, step, manifests: &rules.manifests, ruleset: &rules.set.hash }) {
            self.session.refuse_known(batch);
            rules.process(&self.counts, batch, step);
        }
        let (stop, judged) = (step.stop.take(), step.judged);
        // What was not processed is read again after what was.
        judged.into_iter().for_each(|judged| batch.truncate(judged));
        self.transaction.took(began.elapsed());
        if let Some(reason) = stop {
            let Some(rolled_back) = self.active.roll_back(&reason, (self.clock)()) else {
                return Err(Failure::Stop(anyhow!(reason)));
            };
            self.tell(Some(rolled_back));
            return Err(Failure::Wait(anyhow!(reason)));
        }
        self.transaction.set_incomplete(judged.is_some());
        if judged.is_none() {
            return self.send();
        }
        self.session.cut();
        self.send()?;
        self.commit()?;
        self.phase = Phase::Recovering;
        Ok(())
    }

    /// Tells observers and the loader what has become of the rules in force, if something has.
    fn tell(&self, event: Option<Event>) {
        let Some(event) = event else { return };
        self.snapshot.update(|snapshot| self.active.show(snapshot));
        self.control.tell(event);
    }

    /// Lets observers see whether Kafka is there, while there is nothing to do that would tell.
    fn reach(&mut self) {
        let outage = self.session.outage();
        let well = if self.joined { snapshot::State::Running } else { snapshot::State::Connecting };
        self.snapshot.update(|snapshot| match outage {
            Some(why) => snapshot.state = snapshot::State::Waiting(why),
            None if matches!(snapshot.state, snapshot::State::Waiting(_)) => snapshot.state = well,
            None => {}
        });
    }

    /// Lets time pass: a window that has ended is sent, in a transaction of its own.
    fn tick(&mut self) -> Result<(), Failure> {
        self.session.serve();
        let now = (self.clock)();
        if self.counts.next_close().is_none_or(|close| now < close) {
            return if self.caught_up.elapsed() >= CATCH_UP_EVERY { self.catch_up() } else { Ok(()) };
        }
        self.end_windows()?;
        self.commit()
    }

    /// Sends the windows that have ended.
    fn end_windows(&mut self) -> Result<(), Failure> {
        let Part { step, .. } = self.transaction.next();
        step.clear();
        step.counts = self.counts.tick((self.clock)());
        self.send()
    }

    /// Processes and sends what is in hand once more, on top of what is committed.
    fn resend(&mut self) -> Result<(), Failure> {
        self.phase = Phase::Reading;
        self.session.prepare(&mut waiting(self.shutdown, self.session.troubles().clone(), self.snapshot))?;
        let now = (self.clock)();
        self.counts.clear();
        for (partition, state) in &self.committed {
            if let Ok(Some(state)) = State::parse(state.as_bytes()) {
                self.counts.restore(*partition, now, &state);
            }
        }
        while self.transaction.has_more() {
            if self.transaction.next().batch.is_empty() {
                self.end_windows()?;
            } else {
                self.process()?;
            }
            if !self.transaction.is_open() {
                // It was committed early, and the rest is read again.
                return Ok(());
            }
        }
        self.commit()
    }

    /// Commits positions that have gone past what is no record, in a transaction of their own.
    fn catch_up(&mut self) -> Result<(), Failure> {
        if self.session.ahead().next().is_none() {
            return Ok(());
        }
        self.transaction.next().step.clear();
        self.send()?;
        self.commit()
    }

    /// Sends the part that was filled last.
    fn send(&mut self) -> Result<(), Failure> {
        let mut cancel = waiting(self.shutdown, self.session.troubles().clone(), self.snapshot);
        if !self.transaction.is_open() {
            self.transaction.open();
            self.session.begin(&mut cancel)?;
        }
        let part = self.transaction.index();
        let (parts, Part { batch, step }) = self.transaction.send();
        let RuleInstances { manifests, set, .. } = self.active.live();
        let work = Work { part, batch, step, manifests, ruleset: &set.hash };
        self.session.send(parts, work, &mut cancel)?;
        self.counts.apply(&step.counts);
        Ok(())
    }

    /// Commits what was sent, with the counts.
    fn commit(&mut self) -> Result<(), Failure> {
        let (parts, rules) = (self.transaction.sent(), self.active.live());
        let read = parts.iter().flat_map(|part| part.batch.records()).map(|record| record.partition);
        let sent = parts.iter().flat_map(|part| &part.step.counts.windows).flat_map(|window| window.partitions.iter().copied());
        let states = self.counts.states(read.chain(sent).chain(self.session.ahead()));
        self.caught_up = Instant::now();
        let mut cancel = waiting(self.shutdown, self.session.troubles().clone(), self.snapshot);
        self.session.commit(parts, &states, &mut cancel)?;
        self.committed.extend(states);
        self.backoff.reset();
        self.snapshot.update(|snapshot| {
            snapshot.state = snapshot::State::Running;
            parts.iter().for_each(|part| snapshot.add(&part.batch, &part.step, &rules.manifests));
            let records = parts.iter().map(|part| part.batch.len()).sum();
            snapshot.add_transaction(self.transaction.begun().map_or(Duration::ZERO, |begun| begun.elapsed()), records);
            snapshot.count(&self.counts);
        });
        if let Some(sampler) = &self.sampler {
            sampler.sample(parts, &rules.manifests, self.transaction.processing());
        }
        self.fault_log.log(parts, rules);
        let appraised = self.active.appraise(parts, (self.clock)());
        if appraised.is_none() && self.active.is_on_trial() {
            self.snapshot.update(|snapshot| self.active.show(snapshot));
        }
        self.tell(appraised);
        self.transaction.committed();
        Ok(())
    }

    /// Gives up what was sent since the last commit.
    fn abandon(&mut self) {
        if self.transaction.is_open() {
            let mut cancel = waiting(self.shutdown, self.session.troubles().clone(), self.snapshot);
            self.session.abandon(self.transaction.sent(), &mut cancel);
            self.transaction.abandoned();
        }
    }

    /// Goes on at once where something was learned: it goes further this time. What is in hand is sent again, or else what is not
    /// committed is read again.
    fn again(&mut self, error: &anyhow::Error) {
        self.phase = if self.transaction.failed(true) { Phase::Resending } else { Phase::Recovering };
        tracing::debug!("{error:#}; what is not committed is sent again");
        self.shutdown.wait(ENDING);
    }

    /// Waits before what is not committed is read again.
    fn pause(&mut self, error: &anyhow::Error) {
        self.transaction.failed(false);
        self.phase = Phase::Recovering;
        let pause = self.backoff.pause();
        tracing::warn!(pause_ms = pause.as_millis() as u64, "{error:#}; what is not committed will be read again");
        self.snapshot.update(|snapshot| snapshot.state = snapshot::State::Waiting(format!("{error:#}")));
        self.shutdown.wait(pause);
    }
}

/// Whether to give up waiting for a broker. Observers see meanwhile if none is there; a commit tells them when that is over.
fn waiting(shutdown: &Shutdown, troubles: Arc<Troubles>, snapshot: &Shared) -> impl FnMut() -> bool {
    let (since, mut told) = (Instant::now(), 0);
    move || {
        let waited = since.elapsed().as_secs();
        let stalled = || format!("the cluster has not answered for {waited} s, or not taken what was written");
        if let Some(why) = troubles.outage() {
            snapshot.update(|snapshot| snapshot.state = snapshot::State::Waiting(why));
        } else if waited >= STALLED && waited > told {
            told = waited;
            snapshot.update(|snapshot| snapshot.state = snapshot::State::Waiting(stalled()));
        }
        shutdown.is_overdue()
    }
}

mod recovery;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
