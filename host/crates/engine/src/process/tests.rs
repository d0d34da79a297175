//! Several data loops on the embedded broker, with closures in place of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use super::*;
use crate::TrialBounds;
use crate::instances::set;
use crate::protocol::{self, Activation, Command, Event, Judgement, Loops};
use crate::shared_trial::SharedTrial;
use crate::snapshot::Snapshot;
use crate::trial::TrackRecord;
use weir_core::counts::Counts;
use weir_core::pipeline::Manifest;
use weir_core::record::{Batch, Cause, Rejection, Step};
use weir_kafka::testing::{Broker, Received, eventually, settings};

const COUNTS: CountSettings = CountSettings { every: Duration::from_secs(60), emit_empty: false, reset_bad_state: false };
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns a set that passes every record, except for those that `rejects` picks out. All passed records are counted as one type.
fn rules(hash: &str, rejects: fn(&[u8]) -> bool) -> RuleInstances {
    let process = move |counts: &Counts, batch: &Batch, step: &mut Step| {
        step.clear();
        let mut passed = Vec::new();
        for record in 0..batch.len() as u32 {
            if rejects(batch.value(record as usize).unwrap()) {
                let cause = Cause::Rejected { rule: 0, reason: 0 };
                step.rejections.push(Rejection { record, cause, detail: None, drop: false });
            } else {
                step.outputs_mut().pass(record);
                passed.push((batch.records()[record as usize].partition, Some("any")));
            }
        }
        step.counts = counts.count(batch.processed_at, passed.into_iter());
    };
    let manifest = Manifest { name: "rule".into(), reasons: vec!["bad".into()], ..Manifest::default() };
    RuleInstances::new(process, vec![manifest], set(hash))
}

fn all_pass(hash: &str) -> RuleInstances {
    rules(hash, |_| false)
}

/// A process in a thread of its own. Dropping it requests a shutdown, so that a failed test ends.
struct Running<'scope> {
    loops: Loops,
    shutdown: Shutdown,
    snapshot: ProcessSnapshot,
    thread: Option<ScopedJoinHandle<'scope, anyhow::Result<Summary>>>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

impl<'scope> Running<'scope> {
    fn start<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        broker: &'env Broker,
        rules: Vec<RuleInstances>,
    ) -> Running<'scope> {
        let threads = Threads::Number(rules.len());
        Running::with(scope, broker, rules, threads)
    }

    fn with<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        broker: &'env Broker,
        rules: Vec<RuleInstances>,
        threads: Threads,
    ) -> Running<'scope> {
        let (loops, ends) = protocol::connect(rules.len());
        let (snapshot, shutdown) = (ProcessSnapshot::new(rules.len()), Shutdown::default());
        let starts = rules.into_iter().zip(ends);
        let starts = starts.map(|(rules, control)| LoopStart { rules, why: LiveReason::Folder, control }).collect();
        let (shared, stop) = (snapshot.clone(), shutdown.clone());
        let thread = scope.spawn(move || {
            let (kafka, brokers, counts, shutdown) = (&broker.settings, &broker.address, &COUNTS, &stop);
            Setup { kafka, brokers, counts, threads, shutdown, snapshot: &shared, clock: || 60_000 }.run(starts)
        });
        Running { loops, shutdown, snapshot, thread: Some(thread) }
    }

    fn until(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) {
        eventually(what, || condition(&self.snapshot.get()));
    }

    /// Waits until each loop has partitions.
    fn until_shared_out(&self) {
        eventually("each loop has partitions", || self.snapshot.each().iter().all(|snapshot| !snapshot.partitions.is_empty()));
    }

    /// Hands a set to all loops, with one trial for all of them.
    fn swap(&self, next: impl Fn() -> RuleInstances, bounds: Option<TrialBounds>) {
        let trial = bounds.map(SharedTrial::new);
        for id in self.loops.ids() {
            let (rules, baseline) = (next(), TrackRecord { records: 1_000, ..TrackRecord::default() });
            let activation = Activation { rules, why: LiveReason::Folder, trial: trial.clone(), baseline };
            assert!(self.loops.tell(id, Command::Activate(Box::new(activation))));
        }
    }

    fn event(&self) -> (LoopId, Event) {
        self.loops.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Returns the first offsets of a set in the partitions of all loops, once all of them have activated it.
    fn activated(&self, hash: &str) -> BTreeMap<i32, i64> {
        let mut from = BTreeMap::new();
        for _ in self.loops.ids() {
            let Event::Activated(activated) = self.event().1 else { panic!("a set is activated in each loop first") };
            assert_eq!(activated.hash, hash);
            from.extend(activated.from);
        }
        from
    }

    /// Returns how the process ends.
    fn join(&mut self) -> thread::Result<anyhow::Result<Summary>> {
        self.thread.take().expect("it is joined once").join()
    }

    fn stop(mut self) -> Summary {
        self.shutdown.request();
        self.join().unwrap().unwrap()
    }
}

fn produce(broker: &Broker, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    let messages: Vec<_> =
        values.iter().enumerate().map(|(index, value)| (index as i32 % 3, None, Some(value.as_bytes()))).collect();
    broker.produce(&messages);
}

fn numbered(word: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{word} {number}"))
}

#[test]
fn loops_share_the_partitions_and_the_sum_is_that_of_the_process() {
    let broker = Broker::start(settings());
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, vec![all_pass("cafe"), all_pass("cafe")]);
        running.until_shared_out();
        produce(&broker, numbered("login", 300));
        running.until("all are committed", |snapshot| snapshot.read == 300);
        let each = running.snapshot.each();
        assert!(each.iter().all(|snapshot| snapshot.read >= 100), "each loop has read its partitions");
        let sum = running.snapshot.get();
        assert_eq!((sum.state, sum.partitions, sum.totals["any"]), (LoopState::Running, vec![0, 1, 2], 300));
        let Summary { read, written, rejected, .. } = running.stop();
        assert_eq!((read, written, rejected), (300, 300, 0));
    });
    let output = broker.read("processed-user-login", 300);
    let distinct: BTreeSet<&str> = output.iter().map(Received::text).collect();
    assert_eq!((output.len(), distinct.len()), (300, 300));
}

#[test]
fn a_set_is_live_with_the_first_offsets_of_all_partitions_and_each_record_is_processed_by_one_set() {
    let broker = Broker::start(settings());
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, vec![all_pass("cafe"), all_pass("cafe")]);
        running.until_shared_out();
        produce(&broker, numbered("before", 30));
        running.until("they are committed", |snapshot| snapshot.read == 30);
        running.swap(|| all_pass("beef"), None);
        let from = running.activated("beef");
        assert_eq!(from, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
        running.until("every loop has it", |snapshot| snapshot.live.hash == "beef" && snapshot.swaps.live == 1);
        produce(&broker, numbered("after", 30));
        running.until("they are committed", |snapshot| snapshot.read == 60);
        running.stop();
    });
    for output in broker.read("processed-user-login", 60) {
        let expected = if output.text().starts_with("before") { "cafe" } else { "beef" };
        assert_eq!(output.header(weir_kafka::writer::RULESET), Some(expected), "{}", output.text());
    }
}

#[test]
fn the_sum_of_all_loops_decides_a_trial_and_all_go_back() {
    let broker = Broker::start(settings());
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, vec![all_pass("cafe"), all_pass("cafe")]);
        running.until_shared_out();
        // Of 100 records 20 may be rejected. No partition alone has so many bad ones.
        running.swap(|| rules("beef", |value| value.starts_with(b"bad")), Some(TrialBounds::default()));
        running.activated("beef");
        produce(&broker, numbered("bad", 15).chain(numbered("good", 60)));
        running.until("they are committed", |snapshot| snapshot.read == 75);
        let trial = running.snapshot.get().trial.expect("it goes on");
        assert_eq!((trial.records, trial.rejected), (75, 15), "the sum of both loops");
        produce(&broker, numbered("bad", 15));
        let mut told = Vec::new();
        while told.len() < 2 {
            match running.event() {
                (_, Event::Judged(Judgement::TakenBack { retired, back, reason, .. })) => {
                    assert!(reason.contains("it rejected"), "{reason}");
                    told.push((retired.hash().to_owned(), Some(back)));
                }
                (_, Event::Retired(retired)) => told.push((retired[0].hash().to_owned(), None)),
                (_, other) => panic!("{other:?}"),
            }
        }
        told.sort();
        assert_eq!(told, [("beef".to_owned(), None), ("beef".into(), Some("cafe".into()))], "one verdict, and both go back");
        let went_back = |snapshot: &Snapshot| snapshot.live.hash == "cafe" && snapshot.swaps.taken_back == 1;
        eventually("both went back", || running.snapshot.each().iter().all(went_back));
        running.stop();
    });
}

#[test]
fn a_loop_that_ends_for_good_ends_the_process_after_the_chunks_in_hand() {
    let broker = Broker::start(settings());
    let stops = || {
        RuleInstances::new(
            |_: &Counts, batch: &Batch, step: &mut Step| {
                step.clear();
                (0..batch.len() as u32).for_each(|record| step.outputs_mut().pass(record));
                let is_bad = |record| batch.value(record) == Some(b"bad");
                step.stop = (0..batch.len()).any(is_bad).then(|| "a rule failed".into());
            },
            vec![Manifest::default()],
            set("cafe"),
        )
    };
    thread::scope(|scope| {
        let mut running = Running::start(scope, &broker, vec![stops(), stops()]);
        running.until_shared_out();
        broker.produce(&[(0, None, Some(b"bad"))]);
        let error = running.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "a rule failed");
        assert!(running.shutdown.is_requested());
        assert_eq!(running.snapshot.get().state, LoopState::Stopped);
    });
}

#[test]
fn a_loop_that_panics_ends_the_process_too() {
    let broker = Broker::start(settings());
    let (ended, ends) = (AtomicUsize::new(0), Arc::new(()));
    let panics = |kept: Arc<()>| {
        let process = move |_: &Counts, batch: &Batch, step: &mut Step| {
            let _ = &kept;
            step.clear();
            assert!(batch.is_empty(), "a fault of the engine");
        };
        RuleInstances::new(process, vec![Manifest::default()], set("cafe"))
    };
    thread::scope(|scope| {
        let mut running = Running::start(scope, &broker, vec![panics(ends.clone()), panics(ends.clone())]);
        running.until_shared_out();
        broker.produce(&[(0, None, Some(b"any"))]);
        assert!(running.join().is_err());
        ended.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!((ended.into_inner(), Arc::strong_count(&ends)), (1, 1), "no loop is left");
}

#[test]
fn auto_runs_no_more_loops_than_there_are_partitions() {
    let broker = Broker::start(settings());
    thread::scope(|scope| {
        let running = Running::with(scope, &broker, (0..5).map(|_| all_pass("cafe")).collect(), Threads::Auto);
        for dismissed in [3, 4] {
            let (id, event) = running.event();
            assert!(id == LoopId(dismissed) && matches!(event, Event::Dismissed), "{id:?} {event:?}");
        }
        running.until_shared_out();
        assert_eq!((running.snapshot.each().len(), running.loops.ids().count()), (3, 3));
        running.swap(|| all_pass("beef"), None);
        running.activated("beef");
        running.stop();
    });
}

#[test]
fn loops_without_partitions_are_idle_and_ready_and_take_over() {
    let mut settings = settings();
    settings.topics.partitions = 1;
    let broker = Broker::start(settings);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, vec![all_pass("cafe"), all_pass("cafe")]);
        // While the second one joins, the first one has no partition for a moment.
        eventually("both are in the group, and one has the partition", || {
            let each = running.snapshot.each();
            each.iter().all(|snapshot| snapshot.state == LoopState::Running)
                && each.iter().filter(|snapshot| snapshot.partitions.is_empty()).count() == 1
        });
        running.swap(|| all_pass("beef"), None);
        assert_eq!(running.activated("beef").len(), 1, "the idle loop has it, too");
        running.stop();
    });
}
