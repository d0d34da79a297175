//! Processes with several data loops: swaps, kills, rebalances, and the memory that a loop takes.

use std::thread;
use std::time::Duration;

use crate::cluster::shared;
use crate::program::within;
use crate::proxy::{Api, Side};
use crate::swaps::{settled, swap_under_load};
use crate::weir::{Engine, Job, SETTLING, scaled};

/// The number of sets that go live in one test.
const SWAPS: usize = 60;
/// The number of kills, in the checks and in full.
const KILLS: [usize; 2] = [6, 60];
/// The number of logins per second.
const RATE: u32 = 500;
/// The most memory that an idle loop may take, in KiB.
const IDLE_KIB: u64 = 16 << 10;
/// The number of idle loops whose memory is measured.
const IDLE_LOOPS: u64 = 8;

/// A job whose processes have two data loops each.
fn job(name: &str) -> Job {
    Job::create(shared(), name).with("engine.threads", "2")
}

/// Waits until each loop of an engine has asked for its share of the partitions and got it.
fn joined(mut engine: Engine, loops: usize) -> Engine {
    within(SETTLING, "each loop is in the group", || {
        let lines = engine.weir().lines();
        // The lines of a single loop do not name it.
        let of_loop = |id: usize| if loops == 1 { String::new() } else { format!("data_loop{{id={id}}}") };
        let is_joined = |id: usize| lines.iter().any(|line| line.contains("partitions assigned") && line.contains(&of_loop(id)));
        (0..loops).all(is_joined).then_some(())
    });
    engine
}

#[test]
fn two_processes_with_two_loops_each_share_the_partitions_through_kills_and_rebalances() {
    let job = job("threads").with("kafka.properties.session.timeout.ms", "1500");
    let load = job.load(41, RATE, usize::MAX);
    let first = joined(job.engine("a"), 2);
    job.takes_all(SETTLING);
    let second = joined(job.engine("b"), 2);
    job.takes_all(SETTLING);
    first.kill();
    job.takes_all(SETTLING);
    let first = job.engine("a");
    job.takes_all(SETTLING);
    second.stop();
    job.takes_all(SETTLING);
    job.finish(load, first);
}

#[test]
fn killed_with_two_transactions_open_it_goes_on_at_once() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // The successor must end both transactions: the coordinator would take longer than the test waits.
    let job = job("threads-killed")
        .with("kafka.properties.session.timeout.ms", "1500")
        .with("kafka.properties.transaction.timeout.ms", "120000");
    let load = job.load(seed, RATE, usize::MAX);
    for _ in 0..scaled(KILLS[0], KILLS[1]) {
        let engine = job.engine("a");
        job.takes_all(Duration::from_secs(40));
        thread::sleep(Duration::from_millis(random.u64(..600)));
        engine.kill();
    }
    job.finish(load, job.engine("a"));
}

#[test]
fn swaps_in_two_loops_under_load_are_as_the_log_says() {
    swap_under_load(&settled("threads-swaps").with("engine.threads", "2"), SWAPS, |engine| joined(engine, 2));
}

#[test]
fn a_process_that_is_frozen_and_wakes_up_is_fenced_in_all_its_loops() {
    let job = job("threads-frozen").with("kafka.properties.session.timeout.ms", "1500");
    let load = job.load(43, RATE, usize::MAX);
    let mut frozen = joined(job.engine("a"), 2);
    job.takes_all(SETTLING);
    frozen.freeze();
    let other = job.engine("b");
    job.takes_all(SETTLING);
    frozen.thaw();
    job.takes_all(SETTLING);
    other.stop();
    job.takes_all(SETTLING);
    job.finish(load, frozen);
}

#[test]
fn one_loop_that_waits_for_its_coordinator_does_not_keep_the_other_from_its_work() {
    let proxy = shared().proxy();
    let job = job("threads-held");
    let load = job.load(44, RATE, usize::MAX);
    let engine = joined(job.engine_through(proxy, "a"), 2);
    job.takes_all(SETTLING);
    let held = proxy.hold(Side::Request, Api::EndTxn, 1);
    held.wait();
    job.goes_on(Duration::from_secs(10));
    held.release();
    job.takes_all(SETTLING);
    job.finish(load, engine);
}

#[test]
fn an_idle_loop_takes_little_memory() {
    let job = Job::create(shared(), "threads-idle");
    let resident = |loops: usize| {
        let mut engine = joined(job.engine_with("a", &[("WEIR_ENGINE_THREADS", &loops.to_string())]), loops);
        let resident = engine.weir().memory_kib("VmRSS");
        engine.stop();
        resident
    };
    let (one, many) = (resident(1), resident(1 + IDLE_LOOPS as usize));
    let each = many.saturating_sub(one) / IDLE_LOOPS;
    println!("one loop: {one} KiB; each further idle loop: {each} KiB");
    assert!(each <= IDLE_KIB, "{each} KiB for each idle loop");
}
