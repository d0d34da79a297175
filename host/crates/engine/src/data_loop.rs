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
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::active::ActiveRules;
use crate::ahead::Ahead;
use crate::fault_log::FaultLog;
use crate::instances::RuleInstances;
use crate::protocol::{Command, Event, LoopEnd, Why};
use crate::same_topic::SameTopic;
use crate::settings::CountSettings;
use crate::shadow::ShadowSampler;
use crate::snapshot::{self, Shared};
use weir_core::counts::Counts;
use weir_core::record::{Batch, Part, Step};
use weir_core::state::State;
use weir_kafka::offsets::Committed;
use weir_kafka::reset::Position;
use weir_kafka::sink::Work;
use weir_kafka::troubles::Troubles;
use weir_kafka::{BatchLimits, Failure, Polled, Sink, Source, topics};
use weir_system::backoff::Backoff;
use weir_system::shutdown::Shutdown;

/// How long leaving the consumer group may take.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// The longest wait for a message: how soon an event is seen while there is nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// How long a transaction takes in new messages under lag: what it costs vanishes, and readers do not wait for long.
const OPEN: Duration = Duration::from_millis(100);
/// Rules that take longer than this for a transaction are slow: what they judge gets a transaction of its own, which is begun
/// when they are done. One that is open meanwhile might be given up by its coordinator, again and again.
const SLOW: Duration = Duration::from_secs(1);
/// How often observers are told how far the loop is behind.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// How often positions that have gone past markers and aborted messages are committed on their own.
const CATCH_UP_EVERY: Duration = Duration::from_secs(1);
/// How long a topic may be missing. Brokers that have just started do not know all of them at once.
const MISSING: Duration = Duration::from_secs(30);
/// How many seconds the cluster may leave what was sent unanswered before observers are told.
const STALLED: u64 = 3;
/// How long what is in hand is sent again and again. The consumer is not polled meanwhile, and the group waits for that.
const RESENDING: Duration = Duration::from_secs(10);
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
        let troubles = Arc::new(Troubles::of(&kafka.client));
        let source = Source::open(kafka, brokers, troubles.clone())?;
        let mut engine = Engine {
            parts: Vec::new(),
            filled: 0,
            begun: None,
            limits: kafka.batch.clone(),
            counts: Counts::new(counts.every.as_millis() as i64, counts.emit_empty),
            sink: Sink::open(kafka, brokers, ready.largest_batch, troubles.clone())?,
            troubles,
            source,
            active,
            sampler: None,
            judging: Duration::ZERO,
            cautious: false,
            fault_log: FaultLog::default(),
            caught_up: Instant::now(),
            looked: Instant::now(),
            same_topic: SameTopic::new(),
            phase: Phase::Recovering,
            joined: false,
            missing: None,
            ahead: Ahead::default(),
            held: 0,
            resending: None,
            behind: false,
            committed: BTreeMap::new(),
            reset_bad_state: counts.reset_bad_state,
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            shutdown,
            control,
            snapshot,
            clock,
        };
        let outcome = engine.run();
        snapshot.update(|snapshot| snapshot.state = snapshot::State::Stopping);
        if !engine.source.close(CLOSE_GRACE) {
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
    /// Judge and send again what is in hand.
    Resending,
}

/// The data loop's state. Buffers are used again from batch to batch.
struct Engine<'a, C> {
    source: Source,
    sink: Sink,
    troubles: Arc<Troubles>,
    active: ActiveRules,
    /// The candidate that sees samples of what is committed.
    sampler: Option<ShadowSampler>,
    /// How long the rules took for the open transaction.
    judging: Duration,
    /// They were slow, or something went wrong: one part a transaction.
    cautious: bool,
    fault_log: FaultLog,
    /// When positions were committed last.
    caught_up: Instant,
    /// When the lag was looked at last.
    looked: Instant,
    same_topic: SameTopic,
    /// What is counted, ahead of what is committed by the transaction that is open.
    counts: Counts,
    /// Parts of transactions. The first `filled` were sent since `begun`.
    parts: Vec<Part>,
    filled: usize,
    /// Since when a transaction is open.
    begun: Option<Instant>,
    limits: BatchLimits,
    phase: Phase,
    /// The group has given this process its share, which may be none.
    joined: bool,
    /// Since when a topic is missing.
    missing: Option<Instant>,
    /// What was told about clocks.
    ahead: Ahead,
    /// How many parts are in hand that were given up and can be sent again: all that was read since the last commit.
    held: usize,
    /// Since when it is sent again.
    resending: Option<Instant>,
    /// Something that was read is in none of these parts, and is to be read again.
    behind: bool,
    /// By partition, the state that was committed last.
    committed: BTreeMap<i32, String>,
    reset_bad_state: bool,
    backoff: Backoff,
    shutdown: &'a Shutdown,
    control: LoopEnd,
    snapshot: &'a Shared,
    clock: C,
}

impl<C: Fn() -> i64> Engine<'_, C> {
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.show();
            // Events are for the time between two transactions.
            if self.begun.is_none() {
                // What is counted in the open window is committed with the offsets: whoever goes on there counts on.
                if self.shutdown.is_requested() {
                    return Ok(());
                }
                match self.control.commands.try_recv() {
                    Ok(Command::Activate(next)) => self.active.propose(next),
                    Ok(Command::Sample(sampler)) => self.sampler = sampler,
                    Err(_) => {}
                }
            }
            let Err(failure) = self.turn() else { continue };
            let begun = self.begun.unwrap_or_else(Instant::now);
            self.abandon();
            match failure {
                Failure::Stop(error) => return Err(error),
                Failure::Missing(error) if self.missing.get_or_insert(begun).elapsed() >= MISSING => {
                    return Err(self.or_input_is_gone(error));
                }
                Failure::Missing(error) => self.pause(&error),
                Failure::GaveUp => return Ok(()),
                Failure::Wait(error) if self.sink.has_learned() => self.again(&error),
                Failure::Wait(error) => self.pause(&error),
            }
        }
    }

    /// Lets observers see that the loop is alive, and now and then how far it is behind.
    fn show(&mut self) {
        self.snapshot.sign((self.clock)());
        if self.looked.elapsed() >= LAG_EVERY {
            self.looked = Instant::now();
            let lag = self.source.lag();
            let remedy = |partitions: &[i32]| self.source.reset().remedy(partitions, Position::Current);
            let counts_wait = self.ahead.look(&self.counts, (self.clock)(), remedy);
            self.snapshot.update(|snapshot| (snapshot.lag, snapshot.counts_wait) = (lag, counts_wait));
        }
    }

    fn turn(&mut self) -> Result<(), Failure> {
        if matches!(self.phase, Phase::Recovering) {
            if let Err(failure) = self.recover() {
                self.serve_group()?;
                return Err(failure);
            }
            self.phase = Phase::Reading;
        }
        if self.begun.is_none() {
            self.check_topic()?;
            let activated = self.active.activate(self.source.positions(), (self.clock)());
            self.tell(activated);
        }
        if matches!(self.phase, Phase::Resending) {
            self.phase = Phase::Reading;
            return self.resend();
        }
        if self.is_full() {
            return self.commit();
        }
        // An open transaction takes what is there, and does not wait for more.
        let patience = if self.begun.is_some() { Duration::ZERO } else { self.patience() };
        match self.poll(patience)? {
            Polled::Messages => self.process(),
            Polled::Nothing if self.begun.is_some() => self.commit(),
            Polled::Nothing => {
                self.reach();
                self.tick()
            }
            Polled::Revoked => {
                // The group waits for this.
                let committed = match self.begun {
                    Some(_) => self.commit(),
                    None => self.catch_up(),
                };
                self.revoked();
                committed
            }
            Polled::Assigned(partitions) => {
                self.assigned(partitions);
                Ok(())
            }
        }
    }

    /// Takes note of what the group gives and takes while nothing can be recovered: it waits for an answer. Messages are read
    /// again once all is recovered.
    fn serve_group(&mut self) -> Result<(), Failure> {
        self.held = 0;
        match self.poll(Duration::ZERO)? {
            Polled::Revoked => self.revoked(),
            Polled::Assigned(partitions) => self.assigned(partitions),
            Polled::Nothing | Polled::Messages => {}
        }
        Ok(())
    }

    fn revoked(&mut self) {
        self.source.release();
        self.counts.clear();
        self.committed.clear();
        self.held = 0;
        tracing::info!(topic = %self.source.topic(), "partitions revoked");
        self.snapshot.update(|snapshot| snapshot.partitions.clear());
    }

    fn assigned(&mut self, partitions: Vec<i32>) {
        // What was assigned before may not have been revoked, if the topic has new partitions.
        self.abandon();
        tracing::info!(topic = %self.source.topic(), ?partitions, "partitions assigned");
        self.joined = true;
        self.snapshot.update(|snapshot| {
            snapshot.partitions = partitions;
            if snapshot.state == snapshot::State::Connecting {
                snapshot.state = snapshot::State::Running;
            }
        });
        self.phase = Phase::Recovering;
    }

    /// Fills the next part, of which there is one afterwards whatever comes.
    fn poll(&mut self, patience: Duration) -> Result<Polled, Failure> {
        if self.parts.len() == self.filled {
            let batch = Batch::new(self.source.topic().clone());
            self.parts.push(Part { batch, step: Step::default() });
        }
        let polled = self.source.poll(&mut self.parts[self.filled].batch, patience);
        // A poll that fails may have taken messages as well.
        self.behind = !matches!(polled, Ok(Polled::Nothing));
        polled.map_err(|failure| self.or_another_topic(failure))
    }

    /// Whether the open transaction should take no more.
    fn is_full(&self) -> bool {
        let filled = || self.parts[..self.filled].iter().map(|part| &part.batch);
        self.cautious && self.filled > 0
            || self.begun.is_some_and(|begun| begun.elapsed() >= OPEN)
            || filled().map(Batch::len).sum::<usize>() >= self.limits.rows
            || filled().map(Batch::bytes).sum::<usize>() >= self.limits.bytes
    }

    /// Begins anew with what is committed. The producer comes first: until a transaction of a former one is decided, it is not
    /// known what that is.
    fn recover(&mut self) -> Result<(), Failure> {
        self.sink.prepare(&mut waiting(self.shutdown, &self.troubles, self.snapshot))?;
        (self.held, self.resending, self.behind) = (0, None, false);
        self.committed.clear();
        let committed = self.source.restore()?;
        self.counts.clear();
        if committed.is_empty() {
            if self.missing.is_some() {
                self.source.find_topic()?;
            }
            self.missing = None;
            return Ok(());
        }
        self.sink.learn_partitions()?;
        let topic = self.sink.input_id();
        for found in &committed {
            let (state, now, partition) = (self.state(found, &committed, &topic)?, (self.clock)(), found.partition);
            self.counts.restore(partition, now, &state);
            self.committed.insert(partition, state.to_metadata());
        }
        self.is_still(topic)?;
        self.missing = None;
        self.troubles.over();
        Ok(())
    }

    /// Looks now and then whether the input topic was deleted and created anew while it is read.
    fn check_topic(&mut self) -> Result<(), Failure> {
        if !self.same_topic.is_due() || self.troubles.outage().is_some() {
            return Ok(());
        }
        self.is_same_topic()
    }

    /// Why reading ends: offsets that are gone are no loss where the topic is another one.
    fn or_another_topic(&mut self, failure: Failure) -> Failure {
        match failure {
            Failure::Stop(_) => self.is_same_topic().err().unwrap_or(failure),
            failure => failure,
        }
    }

    /// Why a topic that stays missing ends the process, with what has to be known where that is the input.
    fn or_input_is_gone(&self, error: anyhow::Error) -> anyhow::Error {
        if !matches!(self.source.find_topic(), Err(Failure::Missing(_))) {
            return error;
        }
        let fresh_start = self.source.reset().fresh_start();
        anyhow!(
            "{error:#}; once it is created anew, stop all other processes of the group and {fresh_start}: headers of what was \
             written name records of the topic that is gone"
        )
    }

    /// Asks for the id of the input topic, and stops if it is not the one that was read before.
    fn is_same_topic(&mut self) -> Result<(), Failure> {
        let found = self.sink.input_id();
        self.is_still(found)
    }

    /// Stops if the input topic, whose id is `found` to be this, is not the one that was read before.
    fn is_still(&mut self, found: String) -> Result<(), Failure> {
        if self.same_topic.is_still(found) {
            return Ok(());
        }
        let (topic, remedy) = (self.source.topic(), self.source.reset().renewal());
        Err(Failure::Stop(anyhow!("failed to read on in topic {topic}: it was deleted and created anew; {remedy}")))
    }

    /// The state to go on with in the partition of `found`, one of `all`.
    fn state(&self, found: &Committed, all: &[Committed], topic: &str) -> Result<State, Failure> {
        let (partition, name) = (found.partition, self.source.topic());
        let fresh = || State::new(topic, found.offset.unwrap_or_default());
        match State::parse(&found.metadata) {
            Ok(None) => {
                if found.offset.is_some_and(|offset| offset > 0) {
                    tracing::info!(
                        partition,
                        offset = found.offset,
                        "no counts were committed with this offset: they begin there"
                    );
                }
                Ok(fresh())
            }
            Ok(Some(state)) if !state.topic.is_empty() && !topic.is_empty() && state.topic != topic => {
                let remedy = self.source.reset().renewal();
                Err(Failure::Stop(anyhow!(
                    "failed to go on with partition {partition} of topic {name}: the topic was deleted and created anew since \
                     its offset was committed; {remedy}"
                )))
            }
            Ok(Some(mut state)) => {
                // Nobody may have answered: what is known is not forgotten.
                if !topic.is_empty() {
                    topic.clone_into(&mut state.topic);
                }
                Ok(state)
            }
            Err(unreadable) if self.reset_bad_state => {
                tracing::warn!(partition, "the state in the committed offset cannot be read, {unreadable}: counts begin anew");
                Ok(fresh())
            }
            Err(unreadable) => {
                // The offset itself is as good as any: keeping it writes nothing twice.
                let is_unreadable = |found: &&Committed| State::parse(&found.metadata).is_err();
                let partitions: Vec<i32> = all.iter().filter(is_unreadable).map(|found| found.partition).collect();
                let remedy = self.source.reset().remedy(&partitions, Position::Current);
                Err(Failure::Stop(anyhow!(
                    "failed to go on with partition {partition} of topic {name}: the state in its committed offset cannot be \
                     read, {unreadable}; `counts.on_bad_state = \"reset\"` counts anew from there, or, {remedy}"
                )))
            }
        }
    }

    /// How long to wait for a message: not past the end of the open window.
    fn patience(&self) -> Duration {
        let left = self.counts.next_close().map_or(i64::MAX, |close| close - (self.clock)());
        IDLE.min(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    fn process(&mut self) -> Result<(), Failure> {
        let Part { batch, step } = &mut self.parts[self.filled];
        batch.processed_at = (self.clock)();
        self.sink.refuse_known(batch);
        let (began, rules) = (Instant::now(), self.active.live_mut());
        rules.process(&self.counts, batch, step);
        let work = Work { part: self.filled, batch, step, manifests: &rules.manifests, ruleset: &rules.set.hash };
        if self.sink.foresee(work) {
            self.sink.refuse_known(batch);
            rules.process(&self.counts, batch, step);
        }
        self.judging += began.elapsed();
        if let Some(reason) = step.stop.take() {
            let Some(rolled_back) = self.active.roll_back(&reason, (self.clock)()) else {
                return Err(Failure::Stop(anyhow!(reason)));
            };
            self.tell(Some(rolled_back));
            return Err(Failure::Wait(anyhow!(reason)));
        }
        self.behind = step.judged.is_some();
        let Some(judged) = step.judged else { return self.send() };
        // What was not judged is read again after what was.
        batch.truncate(judged);
        self.source.cut();
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
        let outage = self.sink.outage();
        let well = if self.joined { snapshot::State::Running } else { snapshot::State::Connecting };
        self.snapshot.update(|snapshot| match outage {
            Some(why) => snapshot.state = snapshot::State::Waiting(why),
            None if matches!(snapshot.state, snapshot::State::Waiting(_)) => snapshot.state = well,
            None => {}
        });
    }

    /// Lets time pass: a window that has ended is sent, in a transaction of its own.
    fn tick(&mut self) -> Result<(), Failure> {
        self.sink.serve();
        let now = (self.clock)();
        if self.counts.next_close().is_none_or(|close| now < close) {
            return if self.caught_up.elapsed() >= CATCH_UP_EVERY { self.catch_up() } else { Ok(()) };
        }
        self.end_windows()?;
        self.commit()
    }

    /// Sends the windows that have ended.
    fn end_windows(&mut self) -> Result<(), Failure> {
        let Part { step, .. } = &mut self.parts[self.filled];
        step.clear();
        step.counts = self.counts.tick((self.clock)());
        self.send()
    }

    /// Judges and sends what is in hand once more, on top of what is committed.
    fn resend(&mut self) -> Result<(), Failure> {
        self.sink.prepare(&mut waiting(self.shutdown, &self.troubles, self.snapshot))?;
        let now = (self.clock)();
        self.counts.clear();
        for (partition, state) in &self.committed {
            if let Ok(Some(state)) = State::parse(state.as_bytes()) {
                self.counts.restore(*partition, now, &state);
            }
        }
        while self.filled < self.held {
            match self.parts[self.filled].batch.is_empty() {
                true => self.end_windows()?,
                false => self.process()?,
            }
            if self.begun.is_none() {
                // It was committed early, and the rest is read again.
                return Ok(());
            }
        }
        self.commit()
    }

    /// Commits positions that have gone past what is no message, in a transaction of their own.
    fn catch_up(&mut self) -> Result<(), Failure> {
        if self.source.ahead().next().is_none() {
            return Ok(());
        }
        self.parts[self.filled].step.clear();
        self.send()?;
        self.commit()
    }

    /// Sends the part that was filled last.
    fn send(&mut self) -> Result<(), Failure> {
        if self.begun.is_none() {
            self.begun = Some(Instant::now());
            self.sink.begin(&mut waiting(self.shutdown, &self.troubles, self.snapshot))?;
        }
        let part = self.filled;
        self.filled += 1;
        let Part { batch, step } = &self.parts[part];
        let RuleInstances { manifests, set, .. } = self.active.live();
        let give_up = &mut waiting(self.shutdown, &self.troubles, self.snapshot);
        self.held = self.held.max(self.filled);
        let sent = self.sink.send(Work { part, batch, step, manifests, ruleset: &set.hash }, give_up);
        sent.map_err(|failure| self.sink.cause(&self.parts[..self.filled], failure, give_up))?;
        self.counts.apply(&step.counts);
        Ok(())
    }

    /// Commits what was sent, with the counts.
    fn commit(&mut self) -> Result<(), Failure> {
        let (parts, rules) = (&self.parts[..self.filled], self.active.live());
        let read = parts.iter().flat_map(|part| part.batch.records()).map(|record| record.partition);
        let sent = parts.iter().flat_map(|part| &part.step.counts.windows).flat_map(|window| window.partitions.iter().copied());
        let states = self.counts.states(read.chain(sent).chain(self.source.ahead()));
        self.caught_up = Instant::now();
        self.sink.commit(parts, &states, &mut self.source, &mut waiting(self.shutdown, &self.troubles, self.snapshot))?;
        self.committed.extend(states);
        (self.held, self.resending) = (0, None);
        self.backoff.reset();
        self.snapshot.update(|snapshot| {
            snapshot.state = snapshot::State::Running;
            parts.iter().for_each(|part| snapshot.add(&part.batch, &part.step, &rules.manifests));
            let records = parts.iter().map(|part| part.batch.len()).sum();
            snapshot.add_transaction(self.begun.map_or(Duration::ZERO, |begun| begun.elapsed()), records);
            snapshot.count(&self.counts);
        });
        if let Some(sampler) = &self.sampler {
            sampler.sample(parts, &rules.manifests, self.judging);
        }
        self.fault_log.log(parts, rules);
        let appraised = self.active.appraise(parts, (self.clock)());
        if appraised.is_none() && self.active.is_on_trial() {
            self.snapshot.update(|snapshot| self.active.show(snapshot));
        }
        self.tell(appraised);
        self.cautious = self.judging >= SLOW;
        (self.begun, self.filled, self.judging) = (None, 0, Duration::ZERO);
        Ok(())
    }

    /// Gives up what was sent since the last commit.
    fn abandon(&mut self) {
        if self.begun.take().is_some() {
            self.sink.abandon(&self.parts[..self.filled], &mut waiting(self.shutdown, &self.troubles, self.snapshot));
            (self.filled, self.judging) = (0, Duration::ZERO);
        }
    }

    /// Sends what is not committed again at once: something was learned, and it goes further this time.
    fn again(&mut self, error: &anyhow::Error) {
        let begun = self.resending.get_or_insert_with(Instant::now);
        let whole = self.held > 0 && !self.behind && begun.elapsed() < RESENDING;
        (self.phase, self.cautious) = (if whole { Phase::Resending } else { Phase::Recovering }, true);
        tracing::debug!("{error:#}; what is not committed is sent again");
        self.shutdown.wait(ENDING);
    }

    /// Waits before what is not committed is read again.
    fn pause(&mut self, error: &anyhow::Error) {
        (self.phase, self.cautious) = (Phase::Recovering, true);
        let pause = self.backoff.pause();
        tracing::warn!(pause_ms = pause.as_millis() as u64, "{error:#}; what is not committed will be read again");
        self.snapshot.update(|snapshot| snapshot.state = snapshot::State::Waiting(format!("{error:#}")));
        self.shutdown.wait(pause);
    }
}

/// Whether to give up waiting for a broker. Observers see meanwhile if none is there; a commit tells them when that is over.
fn waiting(shutdown: &Shutdown, troubles: &Troubles, snapshot: &Shared) -> impl FnMut() -> bool {
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

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
