//! Input that was written in transactions: the markers at their ends take offsets, and so do aborted messages.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::auditor::Auditor;
use crate::cluster::shared;
use crate::kafka::{Record, settings};
use crate::oracle::{self, Passed, Rejected};
use crate::program::within;
use crate::weir::{Engine, Job, PARTITIONS, SETTLING};

/// The time limit of a call of the producer.
const ANSWER: Duration = Duration::from_secs(20);
const DELIVERIES: [&str; 2] = ["exactly-once", "at-least-once"];

/// A producer that writes in transactions.
struct Upstream {
    producer: BaseProducer,
    topic: String,
    sent: usize,
}

impl Upstream {
    fn of(job: &Job) -> Upstream {
        Upstream::to(job, "in")
    }

    /// Creates a producer that writes to the topic `kind` of `job`.
    fn to(job: &Job, kind: &str) -> Upstream {
        let topic = job.topic(kind);
        let producer: BaseProducer = settings(job.brokers()).set("transactional.id", &topic).create().unwrap();
        producer.init_transactions(ANSWER).unwrap();
        Upstream { producer, topic, sent: 0 }
    }

    /// Sends `count` logins to each partition in one transaction, and commits or aborts it.
    fn send(&mut self, count: usize, commits: bool) {
        self.producer.begin_transaction().unwrap();
        for partition in 0..PARTITIONS {
            for _ in 0..count {
                let login = format!(r#"{{"app_version":"2.3.0","device_type":"iOS","timestamp":{}}}"#, self.sent);
                self.producer.send(BaseRecord::<str, str>::to(&self.topic).partition(partition).payload(&login)).unwrap();
                self.sent += 1;
            }
        }
        self.producer.flush(ANSWER).unwrap();
        match commits {
            true => self.producer.commit_transaction(ANSWER).unwrap(),
            false => self.producer.abort_transaction(ANSWER).unwrap(),
        }
    }
}

/// Deletes everything in the input. Returns the deleted records.
fn expire(job: &Job) -> Vec<Record> {
    let input = job.evidence().input;
    let ends = job.ends.settled(&job.topic("in"));
    ends.iter().enumerate().for_each(|(partition, end)| shared().delete_records(&job.topic("in"), partition as i32, *end));
    input
}

fn judge_with(job: &Job, expired: &[Record]) {
    let mut evidence = job.evidence();
    evidence.input.splice(0..0, expired.iter().cloned());
    job.check_on(Default::default(), &evidence);
}

fn sees_no_lag(engine: &mut Engine) {
    within(SETTLING, "weir_lag_records is 0 in each partition", || {
        let page = engine.weir().metrics();
        let lags: Vec<&str> = page.lines().filter(|line| line.starts_with("weir_lag_records{")).collect();
        (lags.len() == PARTITIONS as usize && lags.iter().all(|line| line.ends_with(" 0"))).then_some(())
    });
}

#[test]
fn positions_go_past_markers_and_aborted_messages_and_no_lag_stays() {
    for delivery in DELIVERIES {
        let job = Job::create(shared(), &format!("markers-{delivery}")).with("kafka.delivery", delivery);
        let mut upstream = Upstream::of(&job);
        (0..3).for_each(|_| upstream.send(20, true));
        let mut engine = job.engine("a");
        // Everything is committed when the committed offset of each partition is its end.
        job.settle();
        sees_no_lag(&mut engine);
        upstream.send(50, false);
        job.settle();
        sees_no_lag(&mut engine);
        // The engine is restarted. It has nothing to read but aborted messages at the end.
        job.work_off(engine);
        upstream.send(50, false);
        job.work_off(job.engine("a"));
        job.check();
    }
}

#[test]
fn an_input_that_expires_while_it_is_idle_loses_nothing_behind_transactions() {
    let job = Job::create(shared(), "idle");
    let mut upstream = Upstream::of(&job);
    (0..3).for_each(|_| upstream.send(20, true));
    upstream.send(30, false);
    let first = job.engine("a").assigned();
    job.settle();
    let expired = expire(&job);
    // A second engine joins, then the first one is restarted.
    let second = job.engine("b").assigned();
    first.stop();
    let first = job.engine("a").assigned();
    upstream.send(10, true);
    job.settle();
    second.stop();
    job.work_off(first);
    judge_with(&job, &expired);
}

#[test]
fn no_message_is_passed_over_while_transactions_commit_and_abort_and_engines_die() {
    let job = Job::create(shared(), "interleaved").with("batch.rows", "7");
    let mut upstream = Upstream::of(&job);
    let mut engine = job.engine("a");
    for round in 0..30 {
        upstream.send(1 + round % 5, round % 3 != 2);
        if round % 10 == 9 {
            engine.kill();
            engine = job.engine("a");
        }
        if round % 7 == 6 {
            // The engine is idle long enough to commit a position without messages.
            job.settle();
        }
    }
    job.work_off(engine);
    job.check();
}

/// Returns the expected fate of an output that is processed once more. The bytes are not checked, since the output already has
/// the fields that the rules add.
fn passes_again(record: &Record) -> Result<Passed, Rejected> {
    oracle::expected(record.value.as_deref()).map(|passed| Passed { utc: String::new(), ..passed })
}

/// Asserts that Kafka's own tool shows no lag of the job's group.
fn describes_no_lag(job: &Job) {
    let line = format!("kafka-consumer-groups.sh --bootstrap-server {} --group {} --describe", job.brokers(), job.group());
    within(SETTLING, format_args!("{line} shows a lag of 0 for each partition"), || {
        let told = shared().shell(&line);
        let rows: Vec<Vec<&str>> = told.lines().map(|row| row.split_whitespace().collect()).collect();
        let lag = rows.iter().find_map(|row| row.iter().position(|column| *column == "LAG"))?;
        let of_input = |row: &&Vec<&str>| row.get(1) == Some(&job.topic("in").as_str());
        let lags: Vec<&str> = rows.iter().filter(of_input).map(|row| row[lag]).collect();
        (lags == ["0"; PARTITIONS as usize]).then_some(())
    });
}

#[test]
fn behind_another_engine_no_lag_stays_and_nothing_is_lost_where_transactions_are_aborted_and_records_expire() {
    let first = Job::create(shared(), "chain-first");
    let second = Job::create(shared(), "chain-second").reading(first.topic("out"));
    let load = first.load(43, 500, usize::MAX);
    let (upstream, downstream) = (first.engine("a").assigned(), second.engine("a").assigned());
    second.goes_on(SETTLING);
    // The uncommitted messages of the killed engine are aborted.
    upstream.kill();
    let upstream = first.engine("a");
    second.takes_all(SETTLING);
    load.stop();
    first.settle();
    Upstream::to(&first, "out").send(50, false);
    second.settle();
    [&first, &second].into_iter().for_each(describes_no_lag);
    upstream.stop();
    first.check();
    downstream.stop();
    let expired = expire(&second);
    let (upstream, downstream) = (first.engine("a").assigned(), second.engine("a").assigned());
    first.load(44, 500, 500).finish();
    first.work_off(upstream);
    second.settle();
    describes_no_lag(&second);
    downstream.stop();
    let mut evidence = second.evidence();
    evidence.input.splice(0..0, expired);
    // The headers of the second engine replace those of the first.
    evidence.input.iter_mut().for_each(|record| record.headers.retain(|(name, _)| !name.starts_with("weir-")));
    second.check_on(Auditor { expected: passes_again, ..Auditor::default() }, &evidence);
}
