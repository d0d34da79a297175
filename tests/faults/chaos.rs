//! Everything at once, at random: engines and brokers die, freeze and come back, the network fails, poison arrives.
//!
//! `make chaos ROUNDS=100 SEED=7` runs it for long; a few rounds are among the tests. Each round breaks one thing, repairs it,
//! and checks that messages flow again, so a round that never ends is a finding too. The same seed gives the same faults, but not
//! the same moments.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::auditor::{Auditor, poisoned};
use crate::cluster::{Cluster, Shape};
use crate::kafka::{Record, write};
use crate::poisons::{self, poisons};
use crate::program::within;
use crate::proxy::{Api, Proxy, Side};
use crate::weir::{Engine, Job, PARTITIONS, SETTLING};

/// The number of rounds if `ROUNDS` is not set.
const ROUNDS: usize = 5;
/// The number of logins per second.
const RATE: u32 = 300;
/// The largest number of engines at a time.
const CROWD: usize = PARTITIONS as usize;
/// The duration of a fault, in milliseconds.
const SPELL: std::ops::Range<u64> = 200..3_000;
/// A topic setting that admits the largest poison.
const LARGE: (&str, &str) = ("max.message.bytes", "4000000");

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Kill,
    Freeze,
    Join,
    Leave,
    Broker,
    AllBrokers,
    Cut,
    Swallow,
    Delay,
    Hold(Side, Api),
    Poison,
}

/// The faults, each with equal probability; some are listed more than once.
const FAULTS: [Fault; 20] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::Freeze,
    Fault::Freeze,
    Fault::Join,
    Fault::Join,
    Fault::Leave,
    Fault::Leave,
    Fault::Broker,
    Fault::Broker,
    Fault::AllBrokers,
    Fault::Cut,
    Fault::Swallow,
    Fault::Delay,
    Fault::Hold(Side::Request, Api::EndTxn),
    Fault::Hold(Side::Answer, Api::EndTxn),
    Fault::Hold(Side::Request, Api::TxnOffsetCommit),
    Fault::Hold(Side::Answer, Api::Produce),
    Fault::Poison,
];

/// A number from the environment, as `make chaos ROUNDS=100` gives it.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A job that takes poison, whose engines have two data loops each, and whose engines and brokers notice failures soon.
pub fn job(cluster: &Cluster, name: &str) -> Job {
    Job::with_topics(cluster, name, |_| vec![LARGE])
        .with("engine.threads", "2")
        .with("kafka.properties.session.timeout.ms", "3000")
        // A client waits for this time for the answer to its JoinGroup, which the proxy may drop.
        .with("kafka.properties.max.poll.interval.ms", "20000")
        .with("kafka.properties.socket.timeout.ms", "4000")
        .with("kafka.properties.transaction.timeout.ms", "8000")
}

#[test]
fn whatever_is_broken_nothing_is_lost_or_repeated() {
    let rounds = number("ROUNDS").map_or(ROUNDS, |rounds| rounds as usize);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("chaos: {rounds} rounds, seed {seed}");
    let cluster = Cluster::start(&Shape { brokers: 3, proxies: 1, settings: &[], listeners: &[] });
    let job = job(&cluster, "chaos");
    let load = job.load(seed, RATE, usize::MAX);
    let mut chaos = Chaos::new(seed, &cluster, &job, CROWD);
    chaos.crowd.insert("a".to_owned(), job.engine_through(chaos.proxy, "a").assigned());
    for round in 1..=rounds {
        chaos.round(round);
    }
    let sent = load.stop();
    job.settle();
    chaos.crowd.into_values().for_each(|engine| engine.stop());
    job.check_by(Auditor { expected: poisoned, ..Auditor::default() });
    eprintln!("chaos: {rounds} rounds with seed {seed} survived, {sent} logins and the poison");
}

/// The source of the faults, and the parts of the system that it breaks.
pub struct Chaos<'a> {
    random: Rng,
    cluster: &'a Cluster,
    pub proxy: &'a Proxy,
    job: &'a Job,
    /// The engines that may be killed, by their instance.
    pub crowd: BTreeMap<String, Engine>,
    /// The largest number of engines at a time.
    most: usize,
}

impl<'a> Chaos<'a> {
    pub fn new(seed: u64, cluster: &'a Cluster, job: &'a Job, most: usize) -> Chaos<'a> {
        Chaos { random: Rng::with_seed(seed), proxy: cluster.proxy(), cluster, job, crowd: BTreeMap::new(), most }
    }

    /// Breaks one thing, repairs it, and checks that messages flow again.
    pub fn round(&mut self, round: usize) -> Fault {
        let fault = FAULTS[self.random.usize(..FAULTS.len())];
        eprintln!("chaos: round {round}: {fault:?}, {} engines", self.crowd.len());
        self.strike(fault);
        self.mend();
        fault
    }

    fn strike(&mut self, fault: Fault) {
        let spell = Duration::from_millis(self.random.u64(SPELL));
        match fault {
            Fault::Kill => drop(self.pick().1.kill()),
            Fault::Freeze => {
                let (name, mut engine) = self.pick();
                engine.freeze();
                // Sometimes longer than the session timeout.
                thread::sleep(2 * spell);
                engine.thaw();
                self.crowd.insert(name, engine);
            }
            Fault::Join => self.join(),
            Fault::Leave => self.pick().1.stop(),
            Fault::Broker => {
                self.cluster.kill(self.random.usize(..self.cluster.brokers()));
                thread::sleep(spell);
            }
            Fault::AllBrokers => {
                (0..self.cluster.brokers()).for_each(|broker| self.cluster.kill(broker));
                thread::sleep(spell);
            }
            Fault::Cut => self.proxy.cut(),
            Fault::Swallow => {
                self.proxy.swallow(true);
                thread::sleep(2 * spell);
            }
            Fault::Delay => {
                self.proxy.delay(Duration::from_millis(40));
                thread::sleep(spell);
            }
            Fault::Hold(side, api) => {
                let held = self.proxy.hold(side, api, 1);
                thread::sleep(2 * spell);
                held.release();
            }
            Fault::Poison => {
                let poisons = poisons();
                let poisons = poisons.iter().enumerate().map(|(index, poison)| poisons::record(index, poison));
                write(self.job.brokers(), &self.job.topic("in"), &poisons.collect::<Vec<Record>>());
            }
        }
    }

    /// Repairs everything, and checks that messages flow.
    fn mend(&mut self) {
        self.proxy.swallow(false);
        self.proxy.delay(Duration::ZERO);
        self.cluster.revive();
        // Engines that have ended are dropped. If none is left, one is started, as a supervisor would do.
        self.crowd.retain(|_, engine| engine.weir().is_running());
        if self.crowd.is_empty() {
            self.join();
        }
        let before = self.job.outputs.count();
        within(SETTLING, "messages flow again after this round", || (self.job.outputs.count() > before).then_some(()));
    }

    fn join(&mut self) {
        let free = ["a", "b", "c"][..self.most].iter().find(|name| !self.crowd.contains_key(**name));
        if let Some(name) = free {
            self.crowd.insert((*name).to_owned(), self.job.engine_through(self.proxy, name));
        }
    }

    /// Takes out an engine at random.
    fn pick(&mut self) -> (String, Engine) {
        let index = self.random.usize(..self.crowd.len());
        let name = self.crowd.keys().nth(index).expect("there is always one").clone();
        self.crowd.remove_entry(&name).expect("it is there")
    }
}
