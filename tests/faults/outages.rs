//! Brokers that die, and a network that delays, cuts and drops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Shape, shared};
use crate::program::within;
use crate::proxy::{Api, Side};
use crate::weir::{Engine, Job, SETTLING, scaled};

/// The most memory that an engine may hold while it cannot write, or has much to read, in KiB.
pub const LARGEST_KIB: u64 = 256 << 10;
/// The time for which one broker is down.
const AWAY: Duration = Duration::from_secs(4);
/// The time for which all brokers are down, in the checks and in full. In full it is longer than `weir verify` waits for an
/// answer.
const ALL_AWAY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(70)];
/// The time until readiness reports that all brokers are away, or back, on a busy machine.
const SEEN: Duration = Duration::from_secs(30);
/// The time until readiness reports that a cluster has stopped answering, on a busy machine. It was 22 s once.
const SOON: Duration = Duration::from_secs(15);
/// The number of logins per second while the network fails.
const RATE: u32 = 500;
/// The duration of one state of the network.
const SPELL: Duration = Duration::from_secs(2);

/// Three running brokers, for one test at a time.
fn three() -> MutexGuard<'static, Cluster> {
    static THREE: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let cluster = THREE.get_or_init(|| Cluster::start(&Shape { brokers: 3, proxies: 2, settings: &[], listeners: &[] }).into());
    // A test that failed may have left brokers dead.
    let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.revive();
    cluster
}

fn job(cluster: &Cluster, name: &str) -> Job {
    Job::create(cluster, name).with("kafka.properties.socket.timeout.ms", "5000")
}

/// Waits until `/readyz` answers with `status`, and with `words`.
pub fn is_ready(engine: &mut Engine, status: &str, words: &str) {
    let line = engine.weir().line("admin interface on http://");
    let address = line.split_once("http://").unwrap().1.trim().to_owned();
    within(SEEN, format_args!("/readyz answers {status} and {words}"), || {
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words)).then_some(())
    });
}

#[test]
fn a_broker_that_dies_and_comes_back_is_sat_out() {
    let cluster = three();
    let job = job(&cluster, "broker");
    let load = job.load(6, 300, usize::MAX);
    let engine = job.engine("a").assigned();
    for broker in 0..cluster.brokers() {
        job.goes_on(SETTLING);
        cluster.kill(broker);
        job.goes_on(SETTLING);
        thread::sleep(AWAY);
        cluster.revive();
    }
    job.finish(load, engine);
}

#[test]
fn coordinators_that_die_are_succeeded() {
    let cluster = three();
    let job = job(&cluster, "coordinators");
    let load = job.load(7, 300, usize::MAX);
    let engine = job.engine("a").assigned();
    for (internal, name) in [("__consumer_offsets", job.group()), ("__transaction_state", &job.transactional_id("a"))] {
        job.goes_on(SETTLING);
        cluster.kill(cluster.coordinator(internal, name));
        job.goes_on(SETTLING);
        cluster.revive();
    }
    job.finish(load, engine);
}

#[test]
fn with_all_brokers_down_it_waits_within_its_memory() {
    let cluster = three();
    let job = job(&cluster, "dark");
    let load = job.load(8, 1_000, usize::MAX);
    let mut engine = job.engine("a").assigned();
    job.goes_on(SETTLING);
    let mut follower = job.follower();
    follower.goes_on();
    (0..cluster.brokers()).for_each(|broker| cluster.kill(broker));
    is_ready(&mut engine, "503", "");
    thread::sleep(scaled(ALL_AWAY[0], ALL_AWAY[1]));
    assert!(engine.weir().is_running(), "{:#?}", engine.weir().lines());
    cluster.revive();
    job.goes_on(SETTLING);
    let resident = engine.weir().memory_kib("VmHWM");
    assert!(resident < LARGEST_KIB, "{resident} KiB were resident");
    follower.goes_on();
    follower.stop();
    job.finish(load, engine);
}

#[test]
fn with_all_brokers_down_it_is_not_ready_though_there_is_nothing_to_do() {
    let cluster = three();
    // A long fetch must not keep the engine from seeing that brokers are back.
    let job = job(&cluster, "ready").with("kafka.properties.fetch.wait.max.ms", "900");
    let mut engine = job.engine("a").assigned();
    is_ready(&mut engine, "200", "");
    (0..cluster.brokers()).for_each(|broker| cluster.kill(broker));
    is_ready(&mut engine, "503", "");
    thread::sleep(AWAY);
    is_ready(&mut engine, "503", "");
    cluster.revive();
    is_ready(&mut engine, "200", "");
    engine.stop();
}

/// Asserts that readiness reports an outage soon.
fn is_soon_not_ready(engine: &mut Engine, what: &str) {
    let since = Instant::now();
    is_ready(engine, "503", "");
    assert!(since.elapsed() < SOON, "{what}: it was ready for {:?}", since.elapsed());
}

#[test]
fn a_cluster_that_stops_answering_within_a_transaction_is_soon_told_by_readiness() {
    let cluster = three();
    let proxy = cluster.proxy();
    let job = job(&cluster, "open");
    let load = job.load(10, RATE, usize::MAX);
    let mut engine = job.engine_through(proxy, "a").assigned();
    for api in [Api::Produce, Api::AddOffsetsToTxn, Api::TxnOffsetCommit, Api::EndTxn] {
        job.goes_on(SETTLING);
        is_ready(&mut engine, "200", "");
        let held = proxy.hold(Side::Request, api, usize::MAX);
        held.wait();
        is_soon_not_ready(&mut engine, &format!("{api:?}"));
        held.release();
        is_ready(&mut engine, "200", "");
    }
    let held = proxy.hold(Side::Request, Api::EndTxn, usize::MAX);
    held.wait();
    (0..cluster.brokers()).for_each(|broker| cluster.kill(broker));
    is_soon_not_ready(&mut engine, "all brokers are away");
    held.release();
    cluster.revive();
    is_ready(&mut engine, "200", "");
    job.finish(load, engine);
}

#[test]
fn it_is_not_ready_before_the_group_has_given_partitions() {
    let cluster = three();
    let proxy = cluster.proxy();
    let job = job(&cluster, "unready");
    let held = proxy.hold(Side::Answer, Api::JoinGroup, usize::MAX);
    let mut engine = job.engine_through(proxy, "a");
    held.wait();
    is_ready(&mut engine, "503", "waiting for partitions of the group");
    held.release();
    is_ready(&mut engine, "200", "");
    engine.stop();
}

#[test]
fn a_network_that_delays_cuts_and_swallows_costs_time_only() {
    let proxy = shared().proxy();
    let job = job(shared(), "network").with("kafka.properties.socket.timeout.ms", "3000");
    let load = job.load(9, RATE, usize::MAX);
    let engine = job.engine_through(proxy, "a").assigned();
    proxy.delay(Duration::from_millis(50));
    for _ in 0..3 {
        job.goes_on(SETTLING);
        proxy.cut();
        thread::sleep(SPELL);
        proxy.cut();
        job.goes_on(SETTLING);
        proxy.swallow(true);
        thread::sleep(2 * SPELL);
        proxy.swallow(false);
    }
    proxy.delay(Duration::ZERO);
    job.keeps_up(RATE);
    job.finish(load, engine);
}
