//! Topics that refuse records: records that are too large, too old or without a key, and topics of counts that refuse counts.

use std::thread;
use std::time::{Duration, Instant};

use crate::auditor::Auditor;
use crate::cluster::shared;
use crate::kafka::{Record, write};
use crate::oracle::{self, Passed, Rejected};
use crate::program::within;
use crate::weir::{Engine, Job, PARTITIONS, SETTLING};

/// The number of records of a test.
const COUNT: i32 = 3_000;
/// One in this number of records has no key.
const KEYLESS: i32 = 10;
/// The largest batch that a topic takes in a test of sizes, in bytes. A request carries no more for each partition, so with a
/// smaller limit a broker would have to answer thousands of requests.
const LARGEST: &str = "4000";
/// The size of the value of a record that is larger, in bytes.
const LARGER: usize = 5_000;
/// One in this number of records is larger than the topic takes.
const TOO_LARGE: i32 = 10;
/// The number of rounds that may be lost before the engine knows the limit of a topic: partitions are written at the same time.
const UNTIL_KNOWN: usize = 5;
/// The number of records where shares are compared, and the shares of refused records: one in each of these numbers.
const MANY: i32 = 20_000;
const SHARES: [i32; 5] = [1_000, 100, 10, 2, 1];
/// The shares of refused records in tests without transactions.
const FEW_SHARES: [i32; 2] = [1_000, 10];
/// The number of records of a batch, with and without transactions. Without transactions, the records that follow a refused
/// record in the same batch can block the engine, so these batches are large.
const ROWS: &str = "1000";
const MANY_ROWS: &str = "20000";
/// The time until the engine reports that records are refused, on a busy machine. It is far less than the time limit of a message
/// (`delivery.timeout.ms`, 60 s).
const TOLD: Duration = Duration::from_secs(20);
const REFUSED: &str = "records are refused and become dead letters";
const DELIVERIES: [&str; 2] = ["exactly-once", "at-least-once"];
/// The length of a window. Without transactions, a window that ends while records are sent again is sent again as well, so this
/// window ends only at midnight (UTC).
const WINDOW: &str = "24h";
/// The largest age of a timestamp that a topic takes in a test, in milliseconds, and a timestamp that is older.
const RECENT_MILLIS: &str = "3600000";
const OLD: i64 = 1_700_000_000_000;

fn noise(size: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(size).collect()
}

fn login(size: usize) -> Vec<u8> {
    format!(r#"{{"app_version":"2.3.0","device_type":"iOS","timestamp":0,"x":"{}"}}"#, noise(size)).into_bytes()
}

/// Writes `COUNT` records, each as `shape` makes it.
fn fill(job: &Job, shape: impl Fn(i32, &mut Record)) {
    let record = |index: i32| {
        let key = Some(format!("user-{index}").into_bytes());
        let mut record = Record { partition: index % PARTITIONS, key, value: Some(login(20)), ..Record::default() };
        shape(index, &mut record);
        record
    };
    write(job.brokers(), &job.topic("in"), &(0..COUNT).map(record).collect::<Vec<Record>>());
}

/// Returns the number of times that records were read or sent again, as the log says.
fn rounds(engine: &mut Engine) -> usize {
    engine.weir().lines().iter().filter(|line| line.contains("read again") || line.contains("sent again")).count()
}

/// Works off all records. Returns the number of rounds that were lost, and the log.
fn work_off(job: &Job) -> (usize, String) {
    finish(job, job.engine("a").assigned(), Instant::now())
}

/// Works off all records with an `engine` that was started at `begun`. Returns the number of rounds that were lost, and the log.
fn finish(job: &Job, mut engine: Engine, begun: Instant) -> (usize, String) {
    job.settle();
    let (took, rounds) = (begun.elapsed(), rounds(&mut engine));
    eprintln!("{}: worked off after {took:?}, {rounds} rounds", job.group());
    let log = engine.weir().lines().join("\n");
    engine.stop();
    (rounds, log)
}

fn with_output<'a>(name: &str, settings: &[(&'a str, &'a str)]) -> Job {
    let special = |topic: &str| if topic == "out" { settings.to_vec() } else { Vec::new() };
    Job::with_topics(shared(), name, special).with("log.level", "debug")
}

fn keyed(record: &Record) -> Result<Passed, Rejected> {
    let passed = oracle::expected(record.value.as_deref())?;
    if record.key.is_some() { Ok(passed) } else { Err(("weir", "record_refused")) }
}

#[test]
fn a_topic_that_takes_only_keys_costs_a_few_rounds_and_not_one_for_each_record() {
    let job = with_output("keyless", &[("cleanup.policy", "compact")]);
    fill(&job, |index, record| {
        if index % KEYLESS == 0 {
            record.key = None;
        }
        // Dead letters of messages that a rule rejects need no key of their own.
        if index % (3 * KEYLESS) == 0 {
            record.value = Some(b"{}".to_vec());
        }
    });
    let (rounds, log) = work_off(&job);
    assert!(rounds <= UNTIL_KNOWN, "{rounds} rounds:\n{log}");
    assert!(log.contains("records are refused and become dead letters: check the topic's `cleanup.policy`"), "{log}");
    job.check_by(Auditor { expected: keyed, ..Auditor::default() });
}

fn recent(record: &Record) -> Result<Passed, Rejected> {
    let passed = oracle::expected(record.value.as_deref())?;
    if record.timestamp == Some(OLD) { Err(("weir", "timestamp_refused")) } else { Ok(passed) }
}

#[test]
fn a_topic_that_takes_no_old_timestamps_costs_a_few_rounds_and_not_one_for_each_record() {
    let old = vec![("message.timestamp.before.max.ms", RECENT_MILLIS)];
    let special = |topic: &str| if matches!(topic, "out" | "rejected") { old.clone() } else { Vec::new() };
    let job = Job::with_topics(shared(), "old", special).with("log.level", "debug");
    fill(&job, |index, record| {
        if index % KEYLESS == 0 {
            record.timestamp = Some(OLD);
        }
        // The dead letters of these records are refused for the same reason, and are sent again without a timestamp.
        if index % (3 * KEYLESS) == 0 {
            record.value = Some(b"{}".to_vec());
        }
    });
    let (rounds, log) = work_off(&job);
    assert!(rounds <= 2 * UNTIL_KNOWN, "{rounds} rounds:\n{log}");
    job.check_by(Auditor { expected: recent, ..Auditor::default() });
    let shortened = job.letters.seen().iter().filter(|letter| letter.header("weir-shortened").is_some()).count();
    assert_eq!(shortened, 0, "only the timestamps were in the way");
}

/// The beginnings of the keys of large records. Those with the first key cannot be compressed and are refused; those with the
/// second can be compressed.
const NOISE: &str = "noise";
const HOLLOW: &str = "hollow";

fn small(record: &Record) -> Result<Passed, Rejected> {
    let passed = oracle::expected(record.value.as_deref())?;
    let noise = record.key.as_ref().is_some_and(|key| key.starts_with(NOISE.as_bytes()));
    if noise { Err(("weir", "message_too_large")) } else { Ok(passed) }
}

/// Makes a record larger than a topic takes, even if it is compressed.
fn inflate(index: i32, record: &mut Record) {
    (record.key, record.value) = (Some(format!("{NOISE}-{index}").into_bytes()), Some(login(LARGER)));
}

/// Makes a record equally large, but with a value that can be compressed to a few bytes.
fn pad(index: i32, record: &mut Record) {
    let padded = format!(r#"{{"app_version":"2.3.0","device_type":"iOS","timestamp":0,"x":"{}"}}"#, "x".repeat(LARGER));
    (record.key, record.value) = (Some(format!("{HOLLOW}-{index}").into_bytes()), Some(padded.into_bytes()));
}

#[test]
fn records_that_are_too_large_cost_a_few_rounds_and_not_one_each_and_those_that_can_be_compressed_are_taken() {
    let job = with_output("large-ones", &[("max.message.bytes", LARGEST)]);
    fill(&job, |index, record| match index % TOO_LARGE {
        0 => inflate(index, record),
        1 => pad(index, record),
        _ => {}
    });
    let (rounds, log) = work_off(&job);
    assert!(rounds <= UNTIL_KNOWN, "{rounds} rounds:\n{log}");
    assert!(!log.contains("PURGE_QUEUE") && !log.contains("_STATE"), "{log}");
    assert!(log.contains("records are refused and become dead letters: raise the topic's `max.message.bytes`"), "{log}");
    job.check_by(Auditor { expected: small, ..Auditor::default() });
}

#[test]
fn the_log_counts_the_culprits_and_not_their_neighbours() {
    for delivery in DELIVERIES {
        let job = with_output(&format!("neighbours-{delivery}"), &[("cleanup.policy", "compact")]);
        let job = job.with("kafka.properties.linger.ms", "100").with("kafka.delivery", delivery).with("counts.every", WINDOW);
        let record = |key: Option<&str>| Record { key: key.map(|key| key.into()), value: Some(login(20)), ..Record::default() };
        write(job.brokers(), &job.topic("in"), &[record(None), record(Some("k")), record(Some("l")), record(None)]);
        let (_, log) = work_off(&job);
        let told: Vec<&str> = log.lines().filter(|line| line.contains("become dead letters")).collect();
        assert!(told.len() == 1 && told[0].contains("records=2"), "{told:#?}");
        job.check_by(Auditor { expected: keyed, repeats: delivery == "at-least-once", ..Auditor::default() });
    }
}

/// Asserts that a topic of counts with `setting` ends the engine, and that the error names the topic and the setting.
fn refuses_counts(name: &str, setting: (&str, &str)) {
    let special = |topic: &str| if topic == "counts" { vec![setting] } else { Vec::new() };
    let job = Job::with_topics(shared(), name, special);
    job.load(30, 500, 100).finish();
    let begun = Instant::now();
    let ended = job.engine("a").end();
    eprintln!("{name}: ended after {:?}", begun.elapsed());
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    let last = ended.lines.iter().rev().find(|line| line.contains("error: ")).unwrap();
    assert!(last.contains(&format!("write to topic {}", job.topic("counts"))) && last.contains(setting.0), "{last}");
}

#[test]
fn a_compacted_topic_of_counts_ends_it_and_is_named() {
    refuses_counts("counts-compacted", ("cleanup.policy", "compact"));
}

#[test]
fn a_topic_that_is_too_small_for_counts_ends_it_and_is_named() {
    refuses_counts("counts-small", ("max.message.bytes", "100"));
}

#[test]
fn a_window_whose_end_is_too_long_ago_for_its_topic_is_sent_with_the_time_of_sending() {
    let special = |topic: &str| match topic {
        "counts" => vec![("message.timestamp.before.max.ms", "1000")],
        _ => Vec::new(),
    };
    let job = Job::with_topics(shared(), "counts-late", special);
    let engine = job.engine("a").assigned();
    let load = job.load(31, 500, usize::MAX);
    job.goes_on(SETTLING);
    engine.kill();
    // The pause is longer than the rest of the window and the largest age that the topic takes.
    thread::sleep(Duration::from_secs(4));
    job.finish(load, job.engine("a"));
}

#[test]
fn dead_letters_that_are_too_large_cost_a_few_rounds_and_not_one_each() {
    let special = |topic: &str| if topic == "rejected" { vec![("max.message.bytes", "20000")] } else { Vec::new() };
    let job = Job::with_topics(shared(), "large-letters", special).with("log.level", "debug");
    let is_large = |index: i32| index % (3 * TOO_LARGE) == 0;
    fill(&job, |index, record| match index % TOO_LARGE {
        0 if is_large(index) => record.value = Some(format!(r#"{{"x":"{}"}}"#, noise(30_000)).into_bytes()),
        0 => record.value = Some(b"{}".to_vec()),
        _ => {}
    });
    let (rounds, log) = work_off(&job);
    assert!(rounds <= UNTIL_KNOWN, "{rounds} rounds:\n{log}");
    job.check();
    let cut = job.letters.seen().iter().filter(|letter| letter.header("weir-shortened").is_some()).count();
    assert_eq!(cut, (0..COUNT).filter(|index| is_large(*index)).count(), "the others fit as they are");
}

/// A kind of records that a topic refuses.
struct Refused {
    kind: &'static str,
    /// The setting of the topic.
    setting: (&'static str, &'static str),
    /// Makes a record one of this kind.
    spoil: fn(i32, &mut Record),
    /// Returns the expected fate of a record.
    expected: fn(&Record) -> Result<Passed, Rejected>,
}

const LARGE: Refused = Refused { kind: "large", setting: ("max.message.bytes", LARGEST), spoil: inflate, expected: small };
const KEYS: Refused =
    Refused { kind: "keys", setting: ("cleanup.policy", "compact"), spoil: |_, record| record.key = None, expected: keyed };
const TIMES: Refused = Refused {
    kind: "times",
    setting: ("message.timestamp.before.max.ms", RECENT_MILLIS),
    spoil: |_, record| record.timestamp = Some(OLD),
    expected: recent,
};

/// Works off `MANY` records, of which one in `share` is refused, or none if `share` is 0. Asserts that only a few rounds are
/// lost. The time that this takes is printed, not checked.
fn work_off_share(refused: &Refused, delivery: &str, share: i32) -> Job {
    let kind = format!("{}-{delivery}", refused.kind);
    let rows = if delivery == "exactly-once" { ROWS } else { MANY_ROWS };
    let job = with_output(&format!("{kind}-1-in-{share}"), &[refused.setting]).with("batch.rows", rows);
    let job = job.with("kafka.delivery", delivery).with("counts.every", WINDOW);
    let record = |index: i32| {
        let key = Some(format!("user-{index}").into_bytes());
        let mut record = Record { partition: index % PARTITIONS, key, value: Some(login(20)), ..Record::default() };
        if share > 0 && index % share == 0 {
            (refused.spoil)(index, &mut record);
        }
        record
    };
    write(job.brokers(), &job.topic("in"), &(0..MANY).map(record).collect::<Vec<Record>>());
    let (mut engine, begun) = (job.engine("a").assigned(), Instant::now());
    if share > 0 {
        let is_told = |engine: &mut Engine| engine.weir().lines().iter().any(|line| line.contains(REFUSED));
        within(TOLD, format_args!("{} is told of what is refused", job.group()), || is_told(&mut engine).then_some(()));
    }
    let (rounds, log) = finish(&job, engine, begun);
    assert!(rounds <= if share > 0 { UNTIL_KNOWN } else { 0 }, "{rounds} rounds:\n{log}");
    assert_eq!(log.contains(REFUSED), share > 0, "{log}");
    job
}

/// Asserts for each share of refused records that only a few rounds are lost, and that none is lost if no record is refused.
fn any_share(refused: &Refused, delivery: &str, shares: &[i32]) -> Vec<Job> {
    work_off_share(refused, delivery, 0);
    shares.iter().map(|share| work_off_share(refused, delivery, *share)).collect()
}

#[test]
fn any_share_of_records_that_are_too_large_costs_a_few_rounds() {
    any_share(&LARGE, "exactly-once", &SHARES);
}

#[test]
fn any_share_of_records_without_a_key_costs_a_few_rounds() {
    any_share(&KEYS, "exactly-once", &SHARES);
}

#[test]
fn any_share_of_records_with_old_timestamps_costs_a_few_rounds() {
    any_share(&TIMES, "exactly-once", &SHARES);
}

#[test]
fn any_share_of_records_costs_a_few_rounds_without_transactions_as_well_and_none_is_lost() {
    for refused in [LARGE, KEYS] {
        for job in any_share(&refused, "at-least-once", &FEW_SHARES) {
            job.check_by(Auditor { expected: refused.expected, repeats: true, ..Auditor::default() });
        }
    }
}
