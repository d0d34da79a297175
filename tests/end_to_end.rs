//! The whole path in real processes: a broker, the simulator, the engine, and readers of the output topics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use weir::config::Config;
use weir_kafka::Embedded;

use crate::kafka::{Reader, Record};
use crate::oracle;
use crate::program::{Weir, eventually};

/// The most memory that an idle engine may hold, in KiB.
const IDLE_KIB: u64 = 64 << 10;

/// Starts an engine with an embedded broker and windows of a second. Returns the address of the broker as well.
fn engine() -> (Weir, String) {
    let mut engine = Weir::start("run", &[("WEIR_KAFKA_BROKERS", "embedded"), ("WEIR_COUNTS_EVERY", "1s")]);
    let brokers = engine.field("brokers");
    (engine, brokers)
}

/// Lets the simulator write `count` messages, nearly a third of them bad.
pub fn simulate(brokers: &str, count: usize) {
    let ended = Weir::start(&format!("simulate --brokers {brokers} --count {count} --rate 0 --bad-share 0.3"), &[]).end();
    assert_eq!((ended.code, ended.number("messages")), (Some(0), count as u64), "{:#?}", ended.lines);
}

/// The input, outputs and dead letters of a run.
pub struct Messages {
    input: BTreeMap<(i32, i64), Record>,
    pub outputs: Vec<Record>,
    pub letters: Vec<Record>,
}

impl Messages {
    /// Reads until each of `count` messages has become an output or a dead letter.
    pub fn read(brokers: &str, count: usize) -> Messages {
        let open = |topic| Reader::open(brokers, topic);
        let [mut input, mut outputs, mut letters] =
            [open("user-login"), open("processed-user-login"), open("user-login-rejected")];
        input.count(count);
        let passing = input.records.iter().filter(|record| oracle::expected(record.value.as_deref()).is_ok()).count();
        outputs.count(passing);
        letters.count(count - passing);
        let input = input.records.into_iter().map(|record| (record.place(), record)).collect();
        Messages { input, outputs: outputs.records, letters: letters.records }
    }

    pub fn origin(&self, record: &Record) -> &Record {
        &self.input[&record.source()]
    }

    /// Returns the number of messages that were processed, and the number of outputs and dead letters.
    pub fn sizes(&self) -> (usize, usize) {
        let sources: BTreeSet<_> = self.outputs.iter().chain(&self.letters).map(Record::source).collect();
        (sources.len(), self.outputs.len() + self.letters.len())
    }
}

/// Asserts that `records` are in the partitions of their input messages, in the original order.
pub fn assert_in_order(records: &[Record]) {
    let mut last = BTreeMap::new();
    for record in records {
        let (partition, offset) = record.source();
        assert_eq!(partition, record.partition);
        assert!(last.insert(partition, offset).is_none_or(|last| last < offset), "{offset} came late in {partition}");
    }
    assert!(last.len() > 1, "one partition says little about partitions");
}

pub fn assert_is_output(output: &Record, origin: &Record, ruleset: &str) {
    let value = origin.value.as_deref().unwrap();
    let passed = oracle::expected(Some(value)).unwrap_or_else(|reason| panic!("{reason:?} was expected of {origin:?}"));
    let processed_at = output.json()["processed_time"].as_i64().unwrap();
    assert_eq!(output.value, Some(oracle::output(value, &passed, processed_at)));
    assert!((output.timestamp.unwrap()..output.timestamp.unwrap() + 60_000).contains(&processed_at), "{output:?}");
    assert_eq!((&output.key, output.timestamp), (&origin.key, origin.timestamp));
    let names: Vec<&str> = output.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, output.header("weir-ruleset")), (vec!["weir-ruleset", "weir-source"], Some(ruleset)));
}

pub fn assert_is_letter(letter: &Record, origin: &Record, ruleset: &str) {
    assert_eq!((&letter.key, &letter.value, letter.timestamp), (&origin.key, &origin.value, origin.timestamp));
    let (rule, reason) = oracle::expected(origin.value.as_deref()).expect_err("the message was rejected");
    assert_eq!((letter.header("weir-rule"), letter.header("weir-reason")), (Some(rule), Some(reason)), "{letter:?}");
    assert_eq!((letter.header("weir-rule-version"), letter.header("weir-ruleset")), (Some("0.1.0"), Some(ruleset)));
    assert!(letter.header("weir-detail").is_some_and(|detail| detail.len() <= 1_024));
}

/// Returns the sums of the counts of the windows in `records`.
fn sum(records: &[Record]) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for window in records.iter().map(Record::json) {
        counts(&window["window"]["counts"]).into_iter().for_each(|(name, count)| *sum.entry(name).or_default() += count);
    }
    sum
}

fn counts(object: &Value) -> BTreeMap<String, u64> {
    object.as_object().unwrap().iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
}

#[test]
fn logins_flow_through_the_rules_and_are_counted() {
    const COUNT: usize = 3_000;
    let (mut engine, brokers) = engine();
    let ruleset = engine.field("ruleset");
    simulate(&brokers, COUNT);
    let messages = Messages::read(&brokers, COUNT);
    assert_eq!(messages.sizes(), (COUNT, COUNT), "each message becomes one other");
    assert!(messages.outputs.len() > COUNT / 2 && messages.letters.len() > COUNT / 5);
    for records in [&messages.outputs, &messages.letters] {
        assert_in_order(records);
    }
    messages.outputs.iter().for_each(|output| assert_is_output(output, messages.origin(output), &ruleset));
    messages.letters.iter().for_each(|letter| assert_is_letter(letter, messages.origin(letter), &ruleset));

    let mut expected = BTreeMap::<String, u64>::new();
    for output in &messages.outputs {
        *expected.entry(output.json()["device_type"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let mut windows = Reader::open(&brokers, "device_type_count");
    let windows = windows.until("the last window", |windows| sum(windows) == expected);
    let last = windows.iter().max_by_key(|window| window.timestamp).unwrap().json();
    assert_eq!(counts(&last["device_type_counts"]), expected, "totals since the start");
    assert_eq!(last["partitions"], serde_json::json!([0, 1, 2]));
    let (start, end) = (last["window"]["start"].as_str().unwrap(), last["window"]["end"].as_str().unwrap());
    assert!(start < end && start.ends_with('Z') && start.len() == "2024-01-31T12:00:00Z".len(), "{start} to {end}");

    let ended = engine.stop();
    let numbers = ["read", "written", "rejected"].map(|name| ended.number(name) as usize);
    assert_eq!((ended.code, numbers), (Some(0), [COUNT, messages.outputs.len(), messages.letters.len()]));
}

#[test]
fn a_stop_in_the_middle_loses_nothing_and_repeats_nothing() {
    const COUNT: usize = 4_000;
    let broker = Embedded::start(&Config::default().kafka.topics).unwrap();
    let brokers = broker.bootstrap_servers().unwrap();
    let variables = [
        ("WEIR_KAFKA_BROKERS", brokers.as_str()),
        ("WEIR_KAFKA_DELIVERY", "at-least-once"),
        ("WEIR_BATCH_ROWS", "50"),
        // In this broker a group re-forms only one session timeout after its last member has left.
        ("WEIR_KAFKA_PROPERTIES_SESSION_TIMEOUT_MS", "1500"),
        ("WEIR_KAFKA_PROPERTIES_HEARTBEAT_INTERVAL_MS", "300"),
    ];
    let simulator = Weir::start(&format!("simulate --brokers {brokers} --count {COUNT} --rate 400 --bad-share 0.3"), &[]);
    let first = Weir::start("run", &variables);
    Reader::open(&brokers, "processed-user-login").count(100);
    let first = first.stop();
    assert_eq!(first.code, Some(0), "{:#?}", first.lines);
    let second = Weir::start("run", &variables);
    assert_eq!(simulator.end().code, Some(0));
    let messages = Messages::read(&brokers, COUNT);
    let second = second.stop();
    assert_eq!((second.code, messages.sizes()), (Some(0), (COUNT, COUNT)), "what was in hand was committed");
    assert!(first.number("read") >= 100 && second.number("read") > 0, "both had some");
    assert_eq!(first.number("read") + second.number("read"), COUNT as u64);
}

#[test]
fn a_broker_that_is_not_there_is_named_once_and_waited_for() {
    const WATCHED: Duration = Duration::from_secs(3);
    let mut engine = Weir::start("run", &[("WEIR_KAFKA_BROKERS", "127.0.0.1:1")]);
    let line = engine.line("failed to");
    assert!(line.contains("127.0.0.1:1") && line.contains("Connection refused"), "{line}");
    let (begun, busy) = (Instant::now(), engine.processor_time());
    eventually("some time has passed", || (begun.elapsed() >= WATCHED).then_some(()));
    let busy = engine.processor_time() - busy;
    assert!(busy < WATCHED / 20, "{busy:?} of {WATCHED:?} were spent on waiting");
    let ended = engine.stop();
    assert_eq!(ended.code, Some(0));
    let complaints: Vec<&String> = ended.lines.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert_eq!(complaints.len(), 1, "one line is enough: {complaints:#?}");
}

#[test]
fn a_simulator_without_a_broker_ends_when_asked() {
    let mut simulator = Weir::start("simulate --brokers 127.0.0.1:1 --count 1", &[]);
    assert!(simulator.line("failed to").contains("127.0.0.1:1"));
    assert_eq!(simulator.stop().code, Some(0));
}

#[test]
fn an_idle_engine_is_small_and_quiet() {
    const WATCHED: Duration = Duration::from_secs(2);
    let (mut engine, _) = engine();
    engine.line("partitions assigned");
    let (begun, busy) = (Instant::now(), engine.processor_time());
    eventually("some time has passed", || (begun.elapsed() >= WATCHED).then_some(()));
    let (resident, busy) = (engine.memory_kib("VmRSS"), engine.processor_time() - busy);
    assert!(resident <= IDLE_KIB, "{resident} KiB are resident, and {IDLE_KIB} are the goal");
    assert!(busy < WATCHED / 10, "{busy:?} of {WATCHED:?} were spent on nothing");
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let (mut engine, _) = engine();
    engine.line("partitions assigned");
    engine.signal(Signal::TERM);
    engine.signal(Signal::TERM);
    assert_eq!(engine.stop().code, Some(0), "the third is the same one too");
}

#[test]
fn the_demo_prints_lines_where_there_is_no_terminal() {
    let ended = Weir::start("demo --seconds 5 --rate 500", &[]).end();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
    let line = |words: &str| ended.lines.iter().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{:#?}", ended.lines));
    assert!(ended.lines.iter().any(|line| line.starts_with("in ") && line.contains("/s)")), "{:#?}", ended.lines);
    let numbers: Vec<u64> = line("messages read").split(' ').filter_map(|word| word.replace(',', "").parse().ok()).collect();
    let [read, passed, rejected] = numbers[..] else { panic!("{numbers:?}") };
    assert!(read > 0 && rejected > 0 && passed > rejected, "{numbers:?}");
    assert_eq!(read, passed + rejected);
    assert!(line("device types:").contains("android"));
    assert!(!ended.lines.concat().contains('\u{1b}'), "no colours, no moves");
}

#[test]
fn the_demo_stops_when_asked() {
    let mut demo = Weir::start("demo", &[]);
    demo.line("/s)");
    let ended = demo.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.contains("messages read")));
}
