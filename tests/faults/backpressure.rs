//! Outputs that cannot be written: topics that are missing, denied or too small, a full queue, and a stop during such trouble.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::auditor::Auditor;
use crate::cluster::{Cluster, Shape, shared};
use crate::kafka::{Record, write};
use crate::oracle::{Passed, Rejected};
use crate::outages::{LARGEST_KIB, is_ready};
use crate::proxy::{Api, Side};
use crate::weir::{Engine, Job, PARTITIONS, SETTLING};

/// The time within which a second signal ends the process.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The time until readiness reports a missing topic, and the time until the engine ends: 30 s of waiting, and the time that the
/// client takes to notice.
const TOLD: Duration = Duration::from_secs(10);
const GONE: Duration = Duration::from_secs(45);
/// The largest message of the topics of outputs and of dead letters, in bytes.
const SMALL: [&str; 2] = ["50000", "60000"];
/// The size of a value that fits the topic of outputs only without the fields that the rules add, in bytes.
const JUST: usize = 49_950;
/// The size of a value, in bytes. Twenty thousand of them are more than an engine may hold in memory.
const LONG: usize = 15_000;
/// The size of a value that fits neither topic, in bytes.
const FAR: usize = 200_000;

#[test]
fn a_missing_topic_that_is_not_to_be_created_is_named() {
    let job = Job::create(shared(), "missing").with("topics.create", "false");
    shared().delete_topic(&job.topic("rejected"));
    let ended = job.engine("a").end();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    assert!(ended.lines.concat().contains(&job.topic("rejected")), "{:#?}", ended.lines);
}

#[test]
fn a_topic_that_stays_missing_is_told_and_then_ends_it() {
    let job = Job::create(shared(), "gone").with("kafka.properties.topic.metadata.refresh.interval.ms", "1000");
    let mut engine = job.engine("a").assigned();
    shared().delete_topic(&job.topic("out"));
    let deleted = Instant::now();
    job.load(25, 500, 1_000).finish();
    is_ready(&mut engine, "503", "");
    let told = deleted.elapsed();
    let ended = engine.end();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    assert!(ended.lines.concat().contains(&job.topic("out")), "{:#?}", ended.lines);
    assert!(told < TOLD && deleted.elapsed() < GONE, "told after {told:?}, ended after {:?}", deleted.elapsed());
}

/// Asserts that an engine ends because its input topic was deleted. Its clients refresh metadata every `refresh_millis`
/// milliseconds.
fn ends_without_its_input(name: &str, refresh_millis: &str) {
    let job = Job::create(shared(), name).with("kafka.properties.topic.metadata.refresh.interval.ms", refresh_millis);
    job.load(28, 500, 300).finish();
    let engine = job.engine("a").assigned();
    job.settle();
    shared().delete_topic(&job.topic("in"));
    let ended = engine.end();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    let error = ended.lines.iter().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{:#?}", ended.lines));
    let words = [&job.topic("in"), "create the topic", "with new topics for outputs, dead letters and counts"];
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in {error}"));
}

#[test]
fn an_input_topic_that_is_deleted_ends_it() {
    ends_without_its_input("deleted", "60000");
}

#[test]
fn an_input_topic_that_the_group_has_lost_ends_it() {
    ends_without_its_input("unassigned", "500");
}

#[test]
fn an_input_topic_that_was_not_there_is_not_created_without_a_word() {
    let job = Job::create(shared(), "misspelt");
    let right = job.topic("in");
    let job = job.with("topics.input", "mispelt-in");
    let mut engine = job.engine("a");
    let said = engine.weir().line("nobody has written to it");
    assert!(said.contains("WARN") && said.contains("mispelt-in") && said.contains(&format!("did you mean `{right}`?")), "{said}");
    engine.stop();
}

#[test]
fn dead_letters_wait_for_their_topic_to_be_there_again() {
    let job = Job::create(shared(), "vanished").with("kafka.properties.topic.metadata.refresh.interval.ms", "1000");
    let engine = job.engine("a").assigned();
    shared().delete_topic(&job.topic("rejected"));
    job.load(20, 500, 1_000).finish();
    shared().create_topic(&job.topic("rejected"), PARTITIONS, &[]);
    // If the engine has ended meanwhile, it is started again, as a supervisor would do.
    let job = job.reattached();
    let (mut engine, again) = (engine, job.engine("b"));
    job.settle();
    if engine.weir().is_running() {
        engine.stop();
    } else {
        assert_eq!(engine.end().code, Some(1));
    }
    again.stop();
    job.check();
}

#[test]
fn a_topic_that_may_not_be_written_to_is_named_at_the_start_and_later_and_nothing_is_lost() {
    let authorizer = ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    let settings = &[authorizer, ("allow.everyone.if.no.acl.found", "true")];
    let cluster = Cluster::start(&Shape { brokers: 1, proxies: 0, settings, listeners: &[] });
    let job = Job::create(&cluster, "denied");
    let acl = |change: &str, topic: &str| {
        let arguments = ["--force", change, "--deny-principal", "User:*", "--operation", "Write", "--topic", topic];
        cluster.tool("org.apache.kafka.tools.AclCommand", &arguments);
    };
    let ends = |engine: Engine, topic: &str| {
        let ended = engine.end();
        let said = ended.lines.iter().rev().find(|line| line.contains("error: ")).unwrap();
        let named = said.contains(&format!("failed to write to topic {topic}: ")) && said.contains("grant this client WRITE");
        assert!(ended.code == Some(1) && named, "{topic}: {:#?}", ended.lines);
    };
    for (seed, topic) in [(40, "out"), (41, "rejected"), (42, "counts")] {
        let topic = job.topic(topic);
        let engine = job.engine("a").assigned();
        acl("--add", &topic);
        job.load(seed, 500, 500).finish();
        ends(engine, &topic);
        // A new engine ends too, though there is nothing to be written to the topic yet.
        ends(job.engine("a"), &topic);
        acl("--remove", &topic);
    }
    job.work_off(job.engine("a"));
    job.check();
}

#[test]
fn a_full_queue_slows_it_down_and_loses_nothing() {
    let job = Job::create(shared(), "full").with("kafka.properties.queue.buffering.max.messages", "10");
    job.load(22, 3_000, 3_000).finish();
    job.work_off(job.engine("a"));
    job.check();
}

#[test]
fn a_backlog_larger_than_its_memory_is_worked_off_within_it() {
    let job = Job::create(shared(), "backlog").with("batch.rows", "20000");
    for chunk in 0..20 {
        let logins: Vec<Record> = (0..1_000)
            .map(|index| Record { partition: (chunk + index) % PARTITIONS, value: Some(login(LONG)), ..Record::default() })
            .collect();
        write(job.brokers(), &job.topic("in"), &logins);
    }
    let mut engine = job.engine("a");
    job.settle();
    let peak = engine.weir().memory_kib("VmHWM");
    assert!(peak < LARGEST_KIB, "{peak} KiB were resident");
    job.work_off(engine);
    job.check();
}

#[test]
fn asked_to_stop_during_a_commit_it_leaves_in_time() {
    let proxy = shared().proxy();
    let job = Job::create(shared(), "asked").with("kafka.properties.session.timeout.ms", "1500");
    let load = job.load(23, 500, usize::MAX);
    for side in [Side::Request, Side::Answer] {
        let engine = job.engine_through(proxy, "a").assigned();
        job.goes_on(SETTLING);
        let held = proxy.hold(side, Api::EndTxn, 1);
        held.wait();
        // `stop` asserts that the engine ends within 10 s, with exit code 0.
        engine.stop();
    }
    load.stop();
    job.work_off(job.engine("a"));
    job.check();
}

#[test]
fn asked_to_stop_twice_it_ends_at_once() {
    let proxy = shared().proxy();
    let job = Job::create(shared(), "twice").with("kafka.properties.session.timeout.ms", "1500");
    let load = job.load(24, 500, usize::MAX);
    let mut engine = job.engine_through(proxy, "a").assigned();
    job.goes_on(SETTLING);
    let held = proxy.hold(Side::Request, Api::EndTxn, usize::MAX);
    held.wait();
    engine.weir().signal(Signal::TERM);
    engine.weir().line("a second signal");
    // Signals within a tenth of a second count as one signal.
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    engine.weir().signal(Signal::TERM);
    let ended = engine.end();
    assert!(asked.elapsed() < AT_ONCE && ended.code == Some(128 + 15), "{:?}: {:#?}", asked.elapsed(), ended.lines);
    held.release();
    load.stop();
    job.work_off(job.engine("a"));
    job.check();
}

#[test]
fn what_is_too_large_for_its_topic_becomes_a_dead_letter_and_shorter_if_need_be() {
    let job = Job::with_topics(shared(), "large", |topic| match topic {
        "out" => vec![("max.message.bytes", SMALL[0])],
        "rejected" => vec![("max.message.bytes", SMALL[1])],
        _ => Vec::new(),
    });
    let sizes = [100, JUST, FAR, 200, JUST, 300, FAR, FAR, 400];
    let logins: Vec<Record> = sizes
        .iter()
        .enumerate()
        .map(|(index, size)| Record {
            partition: index as i32 % PARTITIONS,
            key: Some(format!("user-{index}").into_bytes()),
            value: Some(login(*size)),
            ..Record::default()
        })
        .collect();
    write(job.brokers(), &job.topic("in"), &logins);
    job.work_off(job.engine("a"));
    job.check_by(Auditor { expected: fitting, ..Auditor::default() });
    let letters = job.letters.seen();
    let shortened = letters.iter().filter(|letter| letter.header("weir-shortened").is_some()).count();
    assert_eq!(shortened, sizes.iter().filter(|size| **size == FAR).count(), "the others fit as they are");
}

#[test]
fn records_that_are_small_are_not_blamed_for_a_batch_that_is_too_large() {
    let job = Job::with_topics(shared(), "batches", |topic| match topic {
        "out" => vec![("max.message.bytes", SMALL[0])],
        _ => Vec::new(),
    })
    .with("batch.rows", "2000")
    .with("kafka.properties.batch.size", "1000000")
    .with("kafka.properties.linger.ms", "200");
    let logins: Vec<Record> =
        (0..3_000).map(|index| Record { partition: index % PARTITIONS, value: Some(login(300)), ..Record::default() }).collect();
    write(job.brokers(), &job.topic("in"), &logins);
    let mut engine = job.engine("a");
    engine.weir().line("takes no batches of 1000000 bytes");
    job.work_off(engine);
    job.check();
}

/// Returns a login of `size` bytes that cannot be compressed much.
fn login(size: usize) -> Vec<u8> {
    let begun = r#"{"app_version":"2.3.0","device_type":"iOS","timestamp":0,"x":""#;
    let noise = std::iter::repeat_with(fastrand::alphanumeric).take(size - begun.len() - 2);
    format!("{begun}{}\"}}", noise.collect::<String>()).into_bytes()
}

fn fitting(record: &Record) -> Result<Passed, Rejected> {
    match record.value.as_ref().map_or(0, Vec::len) < JUST {
        true => (Auditor::default().expected)(record),
        false => Err(("weir", "message_too_large")),
    }
}
