//! Several engines that share the partitions: some freeze and wake up late, others come and go.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::shared;
use crate::proxy::{Api, Side};
use crate::weir::{Job, SETTLING, scaled};

/// The number of logins per second.
const RATE: u32 = 500;
/// The shortest time for which an engine is frozen, in the checks and in full.
const FROZEN: [Duration; 2] = [Duration::ZERO, Duration::from_secs(60)];
/// The interval between two changes of the number of engines.
const PACE: Duration = Duration::from_secs(2);
/// The number of changes.
const CHANGES: usize = 8;
/// The largest number of engines at a time.
const CROWD: usize = 3;

#[test]
fn a_frozen_engine_that_wakes_up_late_writes_nothing() {
    let proxy = shared().proxy();
    let job = Job::create(shared(), "frozen")
        .with("kafka.properties.session.timeout.ms", "6000")
        .with("kafka.properties.socket.timeout.ms", "8000")
        .with("kafka.properties.transaction.timeout.ms", "10000");
    let load = job.load(4, RATE, usize::MAX);
    let mut frozen = job.engine_through(proxy, "a").assigned();
    let other = job.engine("b").assigned();
    job.goes_on(SETTLING);
    // The engine freezes in the middle of a transaction, while its offsets are being sent.
    let held = proxy.hold(Side::Request, Api::TxnOffsetCommit, 1);
    held.wait();
    frozen.freeze();
    let since = Instant::now();
    // The other engine gets all partitions after the session timeout, and readers see its outputs after the transaction timeout.
    job.takes_all(SETTLING);
    thread::sleep(scaled(FROZEN[0], FROZEN[1]).saturating_sub(since.elapsed()));
    held.release();
    frozen.thaw();
    job.keeps_up(RATE);
    load.stop();
    job.work_off(other);
    if frozen.weir().is_running() {
        frozen.stop();
    } else {
        assert_eq!(frozen.end().code, Some(0), "it left cleanly");
    }
    job.check();
}

#[test]
fn engines_come_and_go_and_the_counts_go_with_the_partitions() {
    let job = Job::create(shared(), "crowd")
        .with("kafka.properties.session.timeout.ms", "1500")
        .with("kafka.properties.heartbeat.interval.ms", "400");
    let load = job.load(5, RATE, usize::MAX);
    let mut crowd = VecDeque::new();
    for change in 0..CHANGES {
        crowd.push_back(job.engine(&format!("engine-{}", change % (CROWD + 1))));
        thread::sleep(PACE);
        if crowd.len() == CROWD {
            let leaving = crowd.pop_front().expect("there are some");
            if change % 2 == 0 { leaving.stop() } else { drop(leaving.kill()) }
        }
    }
    job.keeps_up(RATE);
    load.stop();
    job.settle();
    crowd.into_iter().for_each(|engine| engine.stop());
    job.check();
}
