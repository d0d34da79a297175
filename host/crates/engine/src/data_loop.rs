//! The loop: source → pipeline → sink → commit.
//!
//! One synchronous thread does all of this. Under lag several chunks, each of them a batch with its results, share a transaction:
//! while the results of one chunk are on their way, the next chunk is read and processed. Commands are handled only between
//! transactions. Every wait for a broker checks now and then whether it should be cancelled. If a transaction can't be committed,
//! it is abandoned. After a pause records, offsets and counts begin again with what is committed: nothing is lost, and nothing is
//! counted twice. If the next attempt can go further than the failed one, for example because the topic has refused certain
//! records, the chunks in hand are processed and sent again at once.
//!
//! Not here: the evaluation of records, the exchange with Kafka, and the origin of commands.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::active::ActiveRules;
use crate::clock_warning::ClockWarning;
use crate::fault_log::FaultLog;
use crate::instances::RuleInstances;
use crate::open_transaction::OpenTransaction;
use crate::protocol::{Command, Event, LoopEnd};
use crate::same_topic::SameTopic;
use crate::settings::CountSettings;
use crate::shadow::ShadowSampler;
use crate::snapshot::{LoopState, SharedSnapshot};
use weir_core::counts::Counts;
use weir_core::record::Chunk;
use weir_core::state::State;
use weir_kafka::client_log::ClientLog;
use weir_kafka::reset::ResetTo;
use weir_kafka::sink::Work;
use weir_kafka::{Failure, Polled, Session};
use weir_system::backoff::Backoff;
use weir_system::shutdown::Shutdown;

/// The most time that leaving the consumer group may take.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// The longest wait for a record, and so the longest delay before a command is seen while there is nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// The pause between two updates of the lag that observers see.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// The pause between two commits that carry no record, but only positions that have gone past transaction markers and aborted
/// records.
const CATCH_UP_EVERY: Duration = Duration::from_secs(1);
/// The time for which a topic may be missing. Brokers that have just started do not know all topics at once.
const MISSING: Duration = Duration::from_secs(30);
/// The number of seconds for which the cluster may leave sent data unanswered before observers are told.
const STALLED: u64 = 3;
/// The time that a coordinator gets to end a transaction before the next one begins. The coordinator answers before the
/// transaction has ended. A transaction that begins in between waits for longer than this time.
const ENDING: Duration = Duration::from_millis(20);
/// The first and the longest pause before a batch that could not be committed is read again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The parts that a data loop needs to run.
pub(crate) struct LoopSetup<'a, C> {
    /// The topics, and the settings for reaching the cluster.
    pub(crate) kafka: &'a weir_kafka::Settings,
    /// The cluster's address, which may be that of an embedded broker.
    pub(crate) brokers: &'a str,
    /// The largest batch in bytes that all topics take, if that is known.
    pub(crate) largest_batch: Option<u32>,
    /// The settings of the counts.
    pub(crate) counts: &'a CountSettings,
    /// Ends the run when a shutdown is requested.
    pub(crate) shutdown: &'a Shutdown,
    /// The loop's snapshot for observers. It is renewed with every commit.
    pub(crate) snapshot: SharedSnapshot,
    /// Returns the time in milliseconds since the epoch.
    pub(crate) clock: C,
}

impl<C: Fn() -> i64> LoopSetup<'_, C> {
    /// Joins the group, and then reads, processes and writes until a shutdown is requested. Begins with the rules `active`.
    ///
    /// # Errors
    /// If something fails that waiting can't help, such as a missing permission or topic.
    pub(crate) fn run(self, active: ActiveRules, control: LoopEnd) -> anyhow::Result<()> {
        let LoopSetup { kafka, brokers, largest_batch, counts, shutdown, snapshot, clock } = self;
        let session = Session::open(kafka, brokers, largest_batch)?;
        let mut engine = DataLoop {
            transaction: OpenTransaction::new(session.topic().clone(), kafka.batch.clone(), kafka.client.delivery),
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
            ahead: ClockWarning::default(),
            looked: Instant::now(),
            shutdown,
            control,
            snapshot: &snapshot,
            clock,
        };
        let outcome = engine.run();
        snapshot.update(|snapshot| snapshot.state = LoopState::Stopping);
        if !engine.session.close(CLOSE_GRACE) {
            tracing::warn!("left without telling the group, whose coordinator does not answer");
        }
        snapshot.update(|snapshot| snapshot.state = LoopState::Stopped);
        outcome
    }
}

/// The state that decides what the next turn of the loop does.
enum Phase {
    /// Read a batch, or handle what the poll returns instead.
    Reading,
    /// Partitions are new, or something failed: return to the committed offsets and counts, and ask again for the topics'
    /// partitions.
    Recovering,
    /// Process and send again the chunks in hand.
    Resending,
}

/// The action of one turn of the loop.
enum Next {
    Recover,
    Resend,
    Commit,
    /// Wait at most for this time for a record.
    Poll(Duration),
}

/// The data loop's state. Buffers are used again from batch to batch.
struct DataLoop<'a, C> {
    session: Session,
    active: ActiveRules,
    /// The sampler of the candidate, if there is one. It gets samples of the committed records.
    sampler: Option<ShadowSampler>,
    transaction: OpenTransaction,
    /// The counts, including those of the open transaction, which are not committed yet.
    counts: Counts,
    /// By partition, the state that was committed last.
    committed: BTreeMap<i32, String>,
    reset_bad_state: bool,
    phase: Phase,
    /// True if the group has assigned this process its share of the partitions, which may be empty.
    joined: bool,
    /// The time since which a topic is missing.
    missing: Option<Instant>,
    same_topic: SameTopic,
    /// The time at which positions were committed last.
    caught_up: Instant,
    backoff: Backoff,
    fault_log: FaultLog,
    /// The warnings about windows that begin in the future.
    ahead: ClockWarning,
    /// The time at which the lag was looked at last.
    looked: Instant,
    shutdown: &'a Shutdown,
    control: LoopEnd,
    snapshot: &'a SharedSnapshot,
    clock: C,
}

impl<C: Fn() -> i64> DataLoop<'_, C> {
    /// Runs until a shutdown is requested. The counts of the open window are committed with the offsets: the process that takes
    /// over the partitions counts on from there.
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.show();
            if !self.transaction.is_open() {
                if self.shutdown.is_requested() {
                    return Ok(());
                }
                self.take_command();
            }
            let next = self.select();
            if let Err(failure) = self.apply(next)
                && self.fail(failure)?.is_break()
            {
                return Ok(());
            }
        }
    }

    /// Executes the next command of the loader, if there is one.
    fn take_command(&mut self) {
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
            Phase::Reading if self.transaction.is_open() => Next::Poll(self.transaction.patience().min(self.patience())),
            Phase::Reading => Next::Poll(self.patience()),
        }
    }

    fn apply(&mut self, next: Next) -> Result<(), Failure> {
        if !self.transaction.is_open() && !matches!(next, Next::Recover) {
            self.check_topic()?;
            let events = self.active.turn(self.session.positions(), (self.clock)());
            events.into_iter().for_each(|event| self.tell(event));
        }
        match next {
            Next::Recover => self.recover(),
            Next::Resend => self.resend(),
            Next::Commit => self.commit(),
            Next::Poll(wait) => self.read(wait),
        }
    }

    /// Reads a batch and processes it, or handles what the poll returns instead.
    fn read(&mut self, wait: Duration) -> Result<(), Failure> {
        match self.poll(wait)? {
            Polled::Messages => self.process(),
            Polled::Nothing if self.transaction.is_open() => self.commit(),
            Polled::Nothing => {
                self.reach();
                self.tick()
            }
            Polled::Revoked => {
                // The rebalance of the group waits for this commit.
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

    /// Abandons the transaction after a failure, and decides how to go on. Returns an error if the loop can't go on. Breaks if a
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
            Failure::Cancelled => return Ok(ControlFlow::Break(())),
            Failure::Wait(error) if self.session.take_learned() => self.again(&error),
            Failure::Wait(error) => self.pause(&error),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Shows observers that the loop is alive and, now and then, how far it is behind.
    fn show(&mut self) {
        self.snapshot.heartbeat((self.clock)());
        if self.looked.elapsed() >= LAG_EVERY {
            self.looked = Instant::now();
            let lag = self.session.lag();
            let remedy = |partitions: &[i32]| self.session.reset().remedy(partitions, ResetTo::Current);
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
        // The partitions assigned before may not have been revoked, if the topic has new partitions.
        self.abandon();
        tracing::info!(topic = %self.session.topic(), ?partitions, "partitions assigned");
        self.joined = true;
        self.snapshot.update(|snapshot| {
            snapshot.partitions = partitions;
            if snapshot.state == LoopState::Connecting {
                snapshot.state = LoopState::Running;
            }
        });
        self.phase = Phase::Recovering;
    }

    /// Fills the next chunk.
    fn poll(&mut self, wait: Duration) -> Result<Polled, Failure> {
        let polled = self.session.poll(&mut self.transaction.next().batch, wait);
        // A poll that fails may have taken records, too.
        self.transaction.set_incomplete(!matches!(polled, Ok(Polled::Nothing)));
        polled.map_err(|failure| self.or_another_topic(failure))
    }

    /// Returns the time to wait for a record. The wait does not go past the end of the open window.
    fn patience(&self) -> Duration {
        let left = self.counts.next_close().map_or(i64::MAX, |close| close - (self.clock)());
        IDLE.min(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    /// Processes the next chunk, and sends the results.
    fn process(&mut self) -> Result<(), Failure> {
        let chunk = self.transaction.index();
        let Chunk { batch, step } = self.transaction.next();
        batch.processed_at = (self.clock)();
        self.session.refuse_known(batch);
        let (began, rules) = (Instant::now(), self.active.live_mut());
        rules.process(&self.counts, batch, step);
        if self.session.predict_refusals(Work { chunk, batch, step, manifests: &rules.manifests, ruleset: &rules.set.hash }) {
            self.session.refuse_known(batch);
            rules.process(&self.counts, batch, step);
        }
        let (stop, processed) = (step.stop.take(), step.processed_records);
        // The records that were not processed are read again after the others are committed.
        processed.into_iter().for_each(|processed| batch.truncate(processed));
        self.transaction.took(began.elapsed());
        if let Some(reason) = stop {
            return Err(self.stopped_by_rule(reason));
        }
        self.transaction.set_incomplete(processed.is_some());
        if processed.is_none() {
            return self.send();
        }
        self.session.cut();
        self.send()?;
        self.commit()?;
        self.phase = Phase::Recovering;
        Ok(())
    }

    /// Returns the failure of a loop that a rule stops for `reason`. If the set is on trial, it is taken back, and the loop goes on.
    fn stopped_by_rule(&mut self, reason: String) -> Failure {
        match self.active.take_back(&reason, (self.clock)()) {
            Some(taken_back) => {
                self.tell(Event::Judged(taken_back));
                Failure::Wait(anyhow!(reason))
            }
            // Another loop has just ended the trial. The next turn acts on that, and then the record is processed again.
            None if self.active.is_over() => Failure::Wait(anyhow!(reason)),
            None => Failure::Stop(anyhow!(reason)),
        }
    }

    /// Tells observers and the loader of a change of the rules in force.
    fn tell(&self, event: Event) {
        self.snapshot.update(|snapshot| self.active.show(snapshot));
        self.control.tell(event);
    }

    /// Shows observers whether Kafka is reachable. Called while there is no traffic that would show it.
    fn reach(&mut self) {
        let outage = self.session.outage();
        let well = if self.joined { LoopState::Running } else { LoopState::Connecting };
        self.snapshot.update(|snapshot| match outage {
            Some(why) => snapshot.state = LoopState::Waiting(why),
            None if matches!(snapshot.state, LoopState::Waiting(_)) => snapshot.state = well,
            None => {}
        });
    }

    /// Sends a window that has ended, in a transaction of its own, or commits positions that have gone ahead.
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
        let Chunk { step, .. } = self.transaction.next();
        step.clear();
        step.counts = self.counts.tick((self.clock)());
        self.send()
    }

    /// Processes and sends the chunks in hand once more, on top of what is committed.
    fn resend(&mut self) -> Result<(), Failure> {
        self.phase = Phase::Reading;
        self.session.prepare(&mut waiting(self.shutdown, self.session.client_log().clone(), self.snapshot))?;
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
                // The transaction was committed early, and the remaining records are read again.
                return Ok(());
            }
        }
        self.commit()
    }

    /// Commits positions that have gone past offsets without a record, in a transaction of their own.
    fn catch_up(&mut self) -> Result<(), Failure> {
        if self.session.ahead().next().is_none() {
            return Ok(());
        }
        self.transaction.next().step.clear();
        self.send()?;
        self.commit()
    }

    /// Sends the chunk that was filled last.
    fn send(&mut self) -> Result<(), Failure> {
        let mut cancel = waiting(self.shutdown, self.session.client_log().clone(), self.snapshot);
        if !self.transaction.is_open() {
            self.transaction.open();
            self.session.begin(&mut cancel)?;
        }
        let chunk = self.transaction.index();
        let (chunks, Chunk { batch, step }) = self.transaction.send();
        let RuleInstances { manifests, set, .. } = self.active.live();
        let work = Work { chunk, batch, step, manifests, ruleset: &set.hash };
        self.session.send(chunks, work, &mut cancel)?;
        self.counts.apply(&step.counts);
        Ok(())
    }

    /// Commits the chunks that were sent, with the counts.
    fn commit(&mut self) -> Result<(), Failure> {
        let (chunks, rules) = (self.transaction.sent(), self.active.live());
        let read = chunks.iter().flat_map(|chunk| chunk.batch.records()).map(|record| record.partition);
        let sent =
            chunks.iter().flat_map(|chunk| &chunk.step.counts.windows).flat_map(|window| window.partitions.iter().copied());
        let states = self.counts.states(read.chain(sent).chain(self.session.ahead()));
        self.caught_up = Instant::now();
        let mut cancel = waiting(self.shutdown, self.session.client_log().clone(), self.snapshot);
        self.session.commit(chunks, &states, &mut cancel)?;
        self.committed.extend(states);
        self.backoff.reset();
        self.snapshot.update(|snapshot| {
            snapshot.state = LoopState::Running;
            chunks.iter().for_each(|chunk| snapshot.add(&chunk.batch, &chunk.step, &rules.manifests));
            let records = chunks.iter().map(|chunk| chunk.batch.len()).sum();
            snapshot.add_transaction(self.transaction.begun().map_or(Duration::ZERO, |begun| begun.elapsed()), records);
            snapshot.count(&self.counts);
        });
        if let Some(sampler) = &self.sampler {
            sampler.sample(chunks, &rules.manifests, self.transaction.processing());
        }
        self.fault_log.log(chunks, rules);
        match self.active.add_committed(chunks, (self.clock)()) {
            Some(judgement) => self.tell(Event::Judged(judgement)),
            None if self.active.is_on_trial() => self.snapshot.update(|snapshot| self.active.show(snapshot)),
            None => {}
        }
        self.transaction.committed();
        Ok(())
    }

    /// Abandons the results that were sent since the last commit.
    fn abandon(&mut self) {
        if self.transaction.is_open() {
            let mut cancel = waiting(self.shutdown, self.session.client_log().clone(), self.snapshot);
            self.session.abandon(self.transaction.sent(), &mut cancel);
            self.transaction.abandoned();
        }
    }

    /// Goes on at once after a failure that the loop has learned from: the next attempt goes further. The chunks in hand are sent
    /// again, or else the records that are not committed are read again.
    fn again(&mut self, error: &anyhow::Error) {
        self.phase = if self.transaction.failed(true) { Phase::Resending } else { Phase::Recovering };
        tracing::debug!("{error:#}; what is not committed is sent again");
        self.shutdown.wait(ENDING);
    }

    /// Waits before the records that are not committed are read again.
    fn pause(&mut self, error: &anyhow::Error) {
        self.transaction.failed(false);
        self.phase = Phase::Recovering;
        let pause = self.backoff.pause();
        tracing::warn!(pause_ms = pause.as_millis() as u64, "{error:#}; what is not committed will be read again");
        self.snapshot.update(|snapshot| snapshot.state = LoopState::Waiting(format!("{error:#}")));
        self.shutdown.wait(pause);
    }
}

/// Returns a function that tells whether to cancel waiting for a broker. The function also shows observers an outage or a stalled
/// cluster; the next commit shows them that it is over.
fn waiting(shutdown: &Shutdown, client_log: Arc<ClientLog>, snapshot: &SharedSnapshot) -> impl FnMut() -> bool {
    let (since, mut told) = (Instant::now(), 0);
    move || {
        let waited = since.elapsed().as_secs();
        let stalled = || format!("the cluster has not answered for {waited} s, or not taken what was written");
        if let Some(why) = client_log.outage() {
            snapshot.update(|snapshot| snapshot.state = LoopState::Waiting(why));
        } else if waited >= STALLED && waited > told {
            told = waited;
            snapshot.update(|snapshot| snapshot.state = LoopState::Waiting(stalled()));
        }
        shutdown.is_overdue()
    }
}

mod recovery;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
