//! Engines that die, and transactions that end differently from what their engine assumes.

use std::thread;
use std::time::Duration;

use crate::cluster::shared;
use crate::proxy::{Api, Side};
use crate::weir::{Engine, Job, SETTLING, scaled};

/// The number of times that an engine is killed, in the checks and in full.
const KILLS: [usize; 2] = [10, 100];
/// The number of times that a certain moment is brought about.
const TIMES: usize = 3;
/// The time within which an engine must go on after its predecessor was killed: the session timeout of the dead member, and a
/// margin for a busy machine. It is far less than [`LONG_TRANSACTION_MILLIS`].
const AT_ONCE: Duration = Duration::from_secs(40);
const SHORT_SESSION_MILLIS: &str = "1500";
const LONG_TRANSACTION_MILLIS: &str = "60000";

/// A job whose group notices soon that an engine has died.
fn job(name: &str) -> Job {
    Job::create(shared(), name).with("kafka.properties.session.timeout.ms", SHORT_SESSION_MILLIS)
}

#[test]
fn killed_at_any_moment_it_goes_on_at_once_and_loses_and_repeats_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // The successor must end the transaction that a killed engine left open: the coordinator would take too long.
    let job = job("killed").with("kafka.properties.transaction.timeout.ms", LONG_TRANSACTION_MILLIS);
    let load = job.load(seed, 500, usize::MAX);
    for _ in 0..scaled(KILLS[0], KILLS[1]) {
        let engine = job.engine("a");
        job.goes_on(AT_ONCE);
        thread::sleep(Duration::from_millis(random.u64(..600)));
        engine.kill();
    }
    job.finish(load, job.engine("a"));
}

#[test]
fn a_process_without_partitions_keeps_nobody_waiting_and_takes_over_from_one_that_is_killed() {
    let job = job("spare");
    let load = job.load(31, 300, usize::MAX);
    let mut engines: Vec<Engine> = ["a", "b", "c", "d"].map(|instance| job.engine(instance).assigned()).into();
    let survivor = engines.pop().unwrap();
    for engine in engines {
        job.takes_all(AT_ONCE);
        engine.kill();
    }
    job.takes_all(AT_ONCE);
    job.finish(load, survivor);
}

#[test]
fn a_crash_between_a_commit_and_its_answer_repeats_nothing() {
    let proxy = shared().proxy();
    let job = job("unanswered");
    let load = job.load(2, 500, usize::MAX);
    for _ in 0..TIMES {
        let engine = job.engine_through(proxy, "a").assigned();
        job.goes_on(AT_ONCE);
        let held = proxy.hold(Side::Answer, Api::EndTxn, 1);
        held.wait();
        engine.kill();
    }
    job.finish(load, job.engine("a"));
}

#[test]
fn a_commit_that_arrives_late_shows_nothing_of_a_later_transaction() {
    let proxy = shared().proxy();
    let job = job("late")
        .with("kafka.properties.socket.timeout.ms", "1000")
        .with("kafka.properties.transaction.timeout.ms", LONG_TRANSACTION_MILLIS);
    let load = job.load(3, 500, usize::MAX);
    for _ in 0..TIMES {
        let engine = job.engine_through(proxy, "a").assigned();
        job.goes_on(AT_ONCE);
        // The client's request times out, the client sends it again on another connection, and the new request is answered.
        let late = proxy.hold(Side::Request, Api::EndTxn, 1);
        late.wait();
        // The next transaction has sent its messages, but not yet its offsets.
        let offsets = proxy.hold(Side::Request, Api::TxnOffsetCommit, 1);
        offsets.wait();
        let answer = proxy.hold(Side::Answer, Api::EndTxn, 1);
        late.release();
        // The broker has processed the late request.
        answer.wait();
        engine.kill();
        drop(offsets);
    }
    job.finish(load, job.engine("a"));
}

#[test]
fn a_transaction_that_the_coordinator_gives_up_is_done_again() {
    let proxy = shared().proxy();
    let job = job("given-up")
        .with("kafka.properties.socket.timeout.ms", "2000")
        .with("kafka.properties.transaction.timeout.ms", "2500");
    let load = job.load(8, 500, usize::MAX);
    let engine = job.engine_through(proxy, "a").assigned();
    for api in [Api::TxnOffsetCommit, Api::EndTxn, Api::AddOffsetsToTxn, Api::Produce] {
        job.goes_on(SETTLING);
        let held = proxy.hold(Side::Request, api, usize::MAX);
        held.wait();
        // The engine must not be able to end the transaction, neither itself nor with a new producer. These requests are held
        // only now: an earlier hold would catch the end of a transaction whose `api` request has passed already, and no further
        // `api` request would come.
        let _ends = [Api::EndTxn, Api::InitProducerId].map(|api| proxy.hold(Side::Request, api, usize::MAX));
        job.is_given_up();
    }
    job.finish(load, engine);
}

/// For the coordinator a transaction begins when the first partition is added to it. The coordinator cannot abort a transaction
/// that it does not know.
#[test]
fn a_transaction_that_never_begins_is_done_again() {
    let proxy = shared().proxy();
    let job =
        job("unbegun").with("kafka.properties.socket.timeout.ms", "2000").with("kafka.properties.transaction.timeout.ms", "2500");
    let load = job.load(26, 500, usize::MAX);
    let engine = job.engine_through(proxy, "a").assigned();
    job.goes_on(SETTLING);
    let anew = proxy.hold(Side::Request, Api::InitProducerId, 1);
    let held = proxy.hold(Side::Request, Api::AddPartitionsToTxn, usize::MAX);
    held.wait();
    // The engine has cancelled the transaction, and creates a new producer.
    anew.wait();
    drop((held, anew));
    job.finish(load, engine);
}
