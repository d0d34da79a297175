//! `weir verify` against a broker: it finds nothing wrong with the work of an engine, and it names forged records.
//!
//! The embedded broker has no transactions, so exactly-once is not proven here. The unit tests of the verifier cover each kind of
//! violation; these tests check that `weir verify` finds violations in topics.

use std::collections::BTreeMap;
use std::process::Stdio;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use weir::config::Config;
use weir_kafka::Embedded;

use crate::kafka::{Reader, Record, write};
use crate::program::{Ended, Weir, checkout, command, eventually};

const INPUT: &str = "user-login";
const OUTPUTS: &str = "processed-user-login";
const LETTERS: &str = "user-login-rejected";
const COUNTS: &str = "device_type_count";

/// The checks that are not possible with the embedded broker, whose topics have neither id nor settings.
const UNTOLD: &str = "; not judged: whether the input was created anew, whether topics are compacted";

fn verify(brokers: &str, options: &str) -> Ended {
    Weir::start(&format!("verify --brokers {brokers} {options}"), &[]).end()
}

/// Returns the verdict as JSON. Asserts that the exit code agrees with it.
fn verdict(brokers: &str) -> Value {
    let ended = verify(brokers, "--json");
    let line = ended.lines.iter().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{:#?}", ended.lines));
    let verdict: Value = serde_json::from_str(line).unwrap();
    assert_eq!(ended.code, Some(i32::from(verdict["verified"] == false)), "{line}");
    verdict
}

/// Returns a record whose header says that its source is `source`.
fn of(source: &str, partition: i32) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    let headers = vec![header("weir-ruleset", "0123456789abcdef"), header("weir-source", source)];
    Record { partition, value: Some(b"{}".to_vec()), headers, ..Record::default() }
}

/// A system that a test writes by hand: the test decides what each topic contains.
struct System {
    brokers: String,
    _broker: Embedded,
}

impl System {
    /// Creates a system with an input of `count` records in partition 0.
    fn new(count: usize) -> System {
        let broker = Embedded::start(&Config::default().kafka.topics).unwrap();
        let system = System { brokers: broker.bootstrap_servers().unwrap(), _broker: broker };
        system.write(INPUT, &vec![Record { value: Some(b"{}".to_vec()), ..Record::default() }; count]);
        system
    }

    fn write(&self, topic: &str, records: &[Record]) {
        write(&self.brokers, topic, records);
    }

    /// Writes an output for each of `offsets`.
    fn outputs(&self, offsets: impl IntoIterator<Item = u64>) {
        let records: Vec<Record> = offsets.into_iter().map(|offset| of(&format!("{INPUT}/0/{offset}"), 0)).collect();
        self.write(OUTPUTS, &records);
    }

    /// Commits the offset of partition 0 as the engine does.
    fn commit(&self, offset: i64, metadata: &str) {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.brokers).set("group.id", "weir").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(INPUT, 0);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }
}

/// Returns the state of a partition whose open window began at minute 1.
fn state(total: u64, open: u64) -> String {
    json!({ "weir": 1, "topic": "", "from": 0, "window": [60_000, 120_000], "counts": { "iOS": [total, open] } }).to_string()
}

/// Returns the message of counts of one minute.
fn window(minute: u64, count: u64, total: u64) -> Record {
    let start = format!("1970-01-01T00:{minute:02}:00Z");
    let end = format!("1970-01-01T00:{:02}:00Z", minute + 1);
    let value = json!({
        "device_type_counts": { "iOS": total },
        "window": { "start": start, "end": end, "counts": { "iOS": count } },
        "partitions": [0],
    });
    Record { value: Some(value.to_string().into_bytes()), ..Record::default() }
}

#[test]
fn what_an_engine_has_done_holds_until_an_output_is_forged() {
    const COUNT: usize = 3_000;
    let mut engine = Weir::start("run", &[("WEIR_KAFKA_BROKERS", "embedded"), ("WEIR_COUNTS_EVERY", "1s")]);
    let (brokers, ruleset) = (engine.field("brokers"), engine.field("ruleset"));
    let simulated = Weir::start(&format!("simulate --brokers {brokers} --count {COUNT} --rate 0 --bad-share 0.3"), &[]).end();
    assert_eq!(simulated.code, Some(0), "{:#?}", simulated.lines);
    let verdict_of_all = eventually("all is committed", || {
        let verdict = verdict(&brokers);
        assert_eq!(verdict["verified"], true, "{verdict:#}");
        (verdict["records"] == COUNT).then_some(verdict)
    });
    let read: BTreeMap<&str, u64> = verdict_of_all["read"]
        .as_array()
        .unwrap()
        .iter()
        .map(|read| (read["topic"].as_str().unwrap(), read["records"].as_u64().unwrap()))
        .collect();
    assert_eq!(read[INPUT], COUNT as u64);
    assert_eq!(read[OUTPUTS] + read[LETTERS], COUNT as u64);
    assert_eq!(verdict_of_all["rulesets"], json!({ ruleset: COUNT }));

    let mut outputs = Reader::open(&brokers, OUTPUTS);
    let twin = outputs.count(1)[0].clone();
    let place = format!("{OUTPUTS}/{}/{}", twin.partition, twin.offset);
    write(&brokers, OUTPUTS, &[Record { timestamp: None, ..twin.clone() }]);
    let ended = verify(&brokers, "");
    let (partition, offset) = twin.source();
    let words = format!("is another output of {INPUT}/{partition}/{offset}");
    let line = ended.lines.iter().find(|line| line.contains(&words)).unwrap_or_else(|| panic!("{:#?}", ended.lines));
    assert!(line.contains(&format!("{OUTPUTS}/{partition}/")) && !line.contains(&format!("{place} ")), "the later one: {line}");
    assert!(ended.lines.contains(&format!("NOT verified: 1 violation{UNTOLD}")), "{:#?}", ended.lines);
    assert_eq!(ended.code, Some(1));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn counts_that_add_up_are_verified() {
    let system = System::new(10);
    system.outputs(0..7);
    system.write(LETTERS, &(7..9).map(|offset| of(&format!("{INPUT}/0/{offset}"), 0)).collect::<Vec<_>>());
    system.write(COUNTS, &[window(0, 4, 4), window(1, 99, 103)]);
    system.commit(9, &state(7, 3));
    let ended = verify(&system.brokers, "");
    let last = ended.lines.iter().find(|line| line.starts_with("verified: ")).unwrap_or_else(|| panic!("{:#?}", ended.lines));
    assert_eq!(*last, format!("verified: 9 records, each exactly once, in order; counts add up{UNTOLD}"));
    assert_eq!(ended.code, Some(0));
    assert!(ended.lines.iter().any(|line| line.ends_with("; 1 past the cut")), "{:#?}", ended.lines);
}

#[test]
fn every_violation_is_named_with_its_place() {
    let system = System::new(100);
    system.outputs((0..100).filter(|offset| !(17..30).contains(offset)));
    system.write(OUTPUTS, &[of(&format!("{INPUT}/0/{}", u64::MAX), 2), Record { headers: vec![], ..of("", 1) }]);
    system.write(LETTERS, &[of(&format!("{INPUT}/0/50"), 0)]);
    system.write(COUNTS, &[window(0, 5, 5)]);
    system.commit(100, &state(88, 83));
    let verdict = verdict(&system.brokers);
    let found: Vec<(&str, &str)> = verdict["found"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["kind"].as_str().unwrap(), found["words"].as_str().unwrap()))
        .collect();
    let words = |kind: &str| found.iter().find(|(known, _)| *known == kind).unwrap_or_else(|| panic!("{found:#?}")).1;
    assert_eq!(words("lost"), "user-login/0/17..=29: 13 records became neither output nor dead letter");
    assert!(words("no-input").starts_with("processed-user-login/2/0 is of user-login/0/18446744073709551615"));
    assert_eq!(words("no-source"), "processed-user-login/1/0 has no header weir-source");
    assert!(words("in-both").starts_with("user-login-rejected/0/0 is a dead letter of user-login/0/50"));
    assert_eq!(words("counts-differ"), "the state of user-login/0 counts 88, and offsets 0 to 100 have 87 outputs");
    assert_eq!(words("windows-differ"), "5 in 1 windows that were sent and 83 in open ones were counted, of 87 outputs");
    assert_eq!((found.len(), &verdict["violations"]), (6, &json!(18)));
}

#[test]
fn a_state_that_is_none_is_a_violation() {
    let system = System::new(5);
    system.outputs(0..5);
    system.commit(5, "not ours");
    let verdict = verdict(&system.brokers);
    assert_eq!((&verdict["verified"], &verdict["found"][0]["kind"]), (&json!(false), &json!("state-missing")));
    assert!(verdict["notes"][0].as_str().unwrap().contains("another program wrote it"), "{verdict:#}");
}

#[test]
fn a_group_without_offsets_is_no_verdict() {
    let system = System::new(1);
    let ended = verify(&system.brokers, "");
    assert_eq!(ended.code, Some(1));
    assert!(ended.lines.iter().any(|line| line.contains("group weir has committed no offsets")), "{:#?}", ended.lines);
}

#[test]
fn an_empty_system_is_verified() {
    let verdict = verdict(&System::new(0).brokers);
    assert_eq!((&verdict["verified"], &verdict["records"]), (&json!(true), &json!(0)), "{verdict:#}");
}

#[test]
fn a_violation_fails_though_nobody_reads_of_it() {
    let system = System::new(2);
    system.outputs([0]);
    system.commit(2, &state(1, 1));
    let folder = checkout();
    let mut verify = command(env!("CARGO_BIN_EXE_weir"), folder.path());
    let mut child = verify.args(["verify", "--brokers", &system.brokers]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_live_system_is_followed_until_a_signal() {
    let system = System::new(20);
    system.outputs(0..10);
    system.commit(10, &state(10, 10));
    let mut following = Weir::start(&format!("verify --brokers {} --follow --every 1", system.brokers), &[]);
    following.line("verified: 10 records");
    system.outputs(10..20);
    system.commit(20, &state(20, 20));
    following.line("verified: 20 records");
    system.outputs([12]);
    following.line("processed-user-login/0/20 is another output of user-login/0/12");
    let ended = following.stop();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    assert!(ended.lines.contains(&format!("NOT verified: 1 violation{UNTOLD}")), "{:#?}", ended.lines);
}
