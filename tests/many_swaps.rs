//! Hundreds of swaps under load, with broken and bad sets among them, on the embedded broker. `tests/faults/swaps.rs` shows the
//! same on a real Kafka; here there are no transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use weir::config::Config;
use weir_kafka::Embedded;

use crate::end_to_end::assert_in_order;
use crate::kafka::{Reader, Record};
use crate::operator::{Operator, assert_as_said, blamed, is_live, says, seen};
use crate::oracle;
use crate::program::{Weir, eventually, field};

/// The number of sets that go live.
const SWAPS: usize = 200;
/// The number of swaps of each of two engines, and the number of times that an engine is killed.
const ROUNDS: usize = 8;
/// The number of logins per second: low enough that [`MOST`] logins last longer than the swaps, even on a busy machine. This
/// broker keeps 5 MiB of a partition, which is enough for all of them.
const RATE: u32 = 125;
/// The largest number of logins of a test.
const MOST: usize = 40_000;

/// A broker, and logins that flow in until they are stopped.
struct Field {
    broker: Embedded,
    logins: Option<Weir>,
}

impl Field {
    fn new(rate: u32) -> Field {
        let broker = Embedded::start(&Config::default().kafka.topics).unwrap();
        let brokers = broker.bootstrap_servers().unwrap();
        let logins = Weir::start(&format!("simulate --brokers {brokers} --count {MOST} --rate {rate} --bad-share 0.2"), &[]);
        Field { broker, logins: Some(logins) }
    }

    fn brokers(&self) -> String {
        self.broker.bootstrap_servers().unwrap()
    }

    fn engine(&self, operator: &Operator) -> Weir {
        let brokers = self.brokers();
        let variables = [
            ("WEIR_KAFKA_BROKERS", brokers.as_str()),
            ("WEIR_KAFKA_DELIVERY", "at-least-once"),
            ("WEIR_COUNTS_EVERY", "2s"),
            // In this broker a group re-forms only one session timeout after its last member has left.
            ("WEIR_KAFKA_PROPERTIES_SESSION_TIMEOUT_MS", "1500"),
            ("WEIR_KAFKA_PROPERTIES_HEARTBEAT_INTERVAL_MS", "300"),
        ];
        operator.folder.start("run", &variables)
    }

    fn open(&self, topic: &'static str) -> Reader {
        Reader::open(&self.brokers(), topic)
    }

    /// Stops the logins, and waits until each login has become an output or a dead letter.
    fn settle(&mut self) -> Written {
        let ended = self.logins.take().unwrap().stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
        let count = ended.number("messages") as usize;
        let (mut outputs, mut letters) = (self.open("processed-user-login"), self.open("user-login-rejected"));
        let mut input = self.open("user-login");
        input.count(count);
        let mut written = Written { input: BTreeMap::new(), outputs: Vec::new(), letters: Vec::new() };
        eventually(format_args!("all of {count} logins have become outputs or dead letters"), || {
            outputs.catch_up();
            letters.catch_up();
            let sources = outputs.records.iter().chain(&letters.records).map(Record::source);
            (sources.collect::<BTreeSet<_>>().len() == count).then_some(())
        });
        written.input = input.records.into_iter().map(|record| (record.place(), record)).collect();
        (written.outputs, written.letters) = (outputs.records, letters.records);
        written
    }
}

/// The input, and the outputs and dead letters of all of it.
struct Written {
    input: BTreeMap<(i32, i64), Record>,
    outputs: Vec<Record>,
    letters: Vec<Record>,
}

impl Written {
    fn all(&self) -> impl Iterator<Item = &Record> {
        self.outputs.iter().chain(&self.letters)
    }

    /// Asserts that each login has one result, and that this is the result of the oracle or a rejection by a bad set.
    fn assert_once(&self, operator: &Operator) {
        assert_eq!(self.all().count(), self.input.len(), "nothing is lost or doubled");
        assert_in_order(&self.outputs);
        assert_in_order(&self.letters);
        let blamed = blamed(&self.letters, &operator.bad);
        for record in self.all() {
            let verdict = oracle::expected(self.input[&record.source()].value.as_deref());
            let verdict = blamed.get(&record.source()).map_or(verdict, |rejected| Err(*rejected));
            let said = record.header("weir-rule").zip(record.header("weir-reason"));
            assert_eq!(verdict.err(), said, "{record:?}");
        }
    }
}

#[test]
fn two_hundred_swaps_under_load_lose_and_repeat_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (mut field, mut operator) = (Field::new(RATE), Operator::new(seed));
    let first = operator.folder.hash();
    let mut engine = field.engine(&operator);
    // The first rules give the baseline for later ones.
    field.open("processed-user-login").count(RATE as usize);
    let refused = operator.swap(&mut engine, SWAPS);
    let written = field.settle();
    let ended = engine.stop();
    assert_eq!(ended.code, Some(0));
    assert!(ended.lines.iter().filter(|line| line.contains("rules are live")).count() >= SWAPS);
    written.assert_once(&operator);
    assert_as_said(&first, &ended.lines, written.all());
    let seen = seen(written.all());
    assert!(operator.bad.is_subset(&seen) && seen.len() > SWAPS / 2, "{} sets were seen", seen.len());
    assert_eq!((refused, operator.bad.len()), (SWAPS / 5, SWAPS / 10));
    let verified = Weir::start(&format!("verify --brokers {}", field.brokers()), &[]).end();
    assert_eq!(verified.code, Some(0), "{:#?}", verified.lines);
}

#[test]
fn killed_at_any_moment_of_a_swap_it_goes_on_with_a_sound_set_and_loses_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (mut field, mut operator) = (Field::new(RATE), Operator::new(seed));
    let (mut sets, mut sound) = (BTreeSet::from([operator.folder.hash()]), true);
    for round in 0..ROUNDS {
        let mut engine = field.engine(&operator);
        let began = self::field(&says(&mut engine, "rules: ", 0), "ruleset");
        assert!(sets.contains(&began), "round {round}: it begins with a set that was in the folder");
        if sound && began != operator.folder.hash() {
            // The set was on trial when the engine was killed, so its trial begins anew.
            is_live(&mut engine, &operator.folder.hash());
        }
        says(&mut engine, "partitions assigned", 0);
        sound = round % 4 != 3;
        if sound {
            sets.insert(operator.improve(&began));
        } else {
            operator.break_a_rule();
        }
        thread::sleep(Duration::from_millis(operator.random.u64(..900)));
        engine.signal(Signal::KILL);
        assert_eq!(engine.end().code, None);
    }
    operator.improve("");
    let engine = field.engine(&operator);
    let written = field.settle();
    assert_eq!(engine.stop().code, Some(0));
    for record in written.all() {
        assert_eq!(
            oracle::expected(written.input[&record.source()].value.as_deref()).is_err(),
            record.header("weir-rule").is_some()
        );
    }
}

#[test]
fn two_engines_swap_at_different_times() {
    let mut field = Field::new(RATE);
    let mut operators = [Operator::new(1), Operator::new(2)];
    let first = operators[0].folder.hash();
    let mut engines = operators.each_ref().map(|operator| field.engine(operator));
    engines.iter_mut().for_each(|engine| drop(engine.line("partitions assigned")));
    let mut lives = [first.clone(), first.clone()];
    for round in 0..ROUNDS {
        // First one engine, then the other, then both.
        let changed: &[usize] = [&[0][..], &[1], &[0, 1]][round % 3];
        changed.iter().for_each(|index| lives[*index] = operators[*index].improve(&lives[*index]));
        changed.iter().for_each(|index| is_live(&mut engines[*index], &lives[*index]));
    }
    let written = field.settle();
    let lines: Vec<String> = engines.into_iter().flat_map(|engine| engine.stop().lines).collect();
    let seen = seen(written.all());
    assert!(lives.iter().all(|live| lines.iter().any(|line| line.contains(live))) && seen.len() > 2, "{seen:?}");
    for record in written.all() {
        assert_eq!(
            oracle::expected(written.input[&record.source()].value.as_deref()).is_err(),
            record.header("weir-rule").is_some()
        );
    }
}
