//! Input that was written in transactions: markers of their ends take offsets, and so do messages that were aborted.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::cluster::shared;
use crate::kafka::{Record, settings};
use crate::program::within;
use crate::weir::{Engine, Job, PARTITIONS, SETTLING};

/// How long a call of the producer may take.
const ANSWER: Duration = Duration::from_secs(20);
const DELIVERIES: [&str; 2] = ["exactly-once", "at-least-once"];

/// A producer of transactions.
struct Upstream {
    producer: BaseProducer,
    topic: String,
    sent: usize,
}

impl Upstream {
    fn of(job: &Job) -> Upstream {
        let topic = job.topic("in");
        let producer: BaseProducer = settings(job.brokers()).set("transactional.id", &topic).create().unwrap();
        producer.init_transactions(ANSWER).unwrap();
        Upstream { producer, topic, sent: 0 }
    }

    /// Sends `count` logins to each partition in one transaction, which is committed, or aborted.
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

/// Lets everything in the input expire. Returns what was there.
fn expire(job: &Job) -> Vec<Record> {
    let input = job.evidence().input;
    let ends = job.ends.settled(&job.topic("in"));
    ends.iter().enumerate().for_each(|(partition, end)| shared().delete_records(&job.topic("in"), partition as i32, *end));
    input
}

fn judge_with(job: &Job, expired: &[Record]) {
    let mut evidence = job.evidence();
    evidence.input.splice(0..0, expired.iter().cloned());
    job.judge_on(Default::default(), &evidence);
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
        // Everything is committed once the committed offset of each partition is its end.
        job.settle();
        sees_no_lag(&mut engine);
        upstream.send(50, false);
        job.settle();
        sees_no_lag(&mut engine);
        // It is restarted with nothing but an aborted tail to read.
        job.work_off(engine);
        upstream.send(50, false);
        job.work_off(job.engine("a"));
        job.judge();
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
    // A second process joins, then the first one is started again.
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
            // It is idle long enough to commit a position on its own.
            job.settle();
        }
    }
    job.work_off(engine);
    job.judge();
}
