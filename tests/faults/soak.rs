//! One process for a long time: rules are swapped, good and bad ones, everything around the process is broken, and its memory
//! must level off.
//!
//! `make soak MINUTES=60 SEED=7` runs it for an hour and prints a line of figures each minute; a short one is among the tests.
//! The process that is measured is never killed, only the other processes of its group, the brokers and the network. At the end
//! the judge checks all messages, as in the other tests.

use std::time::{Duration, Instant};

use crate::auditor::{Auditor, poisoned};
use crate::chaos::{Chaos, job, number};
use crate::cluster::{Cluster, Shape};
use crate::operator::{Operator, blamed};
use crate::weir::{Engine, PARTITIONS, SETTLING};

/// The number of minutes if `MINUTES` is not set.
const MINUTES: u64 = 1;
/// The number of logins per second.
const RATE: u32 = 400;
/// The number of swaps between two faults: one in ten of an operator's sets is bad, one in five is broken.
const SWAPS: usize = 10;
/// The interval between two lines of figures.
const PRINT_EVERY: Duration = Duration::from_secs(60);
/// The smallest number of rounds for a trend. A shorter run does not get past the start-up phase.
const TREND: usize = 30;
/// The growth of resident memory that is allowed from the second third of a run to the last, in KiB: allocators and caches vary.
const BREATH_KIB: u64 = 16 << 10;

#[test]
fn memory_levels_off_whatever_is_swapped_and_broken() {
    let minutes = number("MINUTES").unwrap_or(MINUTES);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("soak: {minutes} minutes, seed {seed}");
    let cluster = Cluster::start(&Shape { brokers: 3, proxies: 1, settings: &[], listeners: &[] });
    let job = job(&cluster, "soak");
    let mut operator = Operator::new(seed);
    let load = job.load(seed, RATE, usize::MAX);
    // The other engines are fewer than the partitions, so that the process always has a partition. Without messages, rules are
    // never rolled back.
    let mut chaos = Chaos::new(seed, &cluster, &job, PARTITIONS as usize - 1);
    let mut engine = job.engine_in(&operator.folder, "soaked").assigned();
    chaos.crowd.insert("a".to_owned(), job.engine_through(chaos.proxy, "a").assigned());
    job.goes_on(SETTLING);
    let (begun, mut figures) = (Instant::now(), Figures::default());
    while begun.elapsed() < Duration::from_secs(60 * minutes) {
        chaos.round(figures.resident.len() + 1);
        figures.refused += operator.swap(engine.weir(), SWAPS);
        figures.take(&mut engine, begun.elapsed());
    }
    let sent = load.stop();
    job.settle();
    chaos.crowd.into_values().for_each(|engine| engine.stop());
    engine.stop();
    let mut evidence = job.evidence();
    evidence.blamed = blamed(&evidence.letters, &operator.bad);
    job.check_on(Auditor { expected: poisoned, swaps: true, ..Auditor::default() }, &evidence);
    let (rounds, swaps) = (figures.resident.len(), figures.resident.len() * SWAPS);
    eprintln!(
        "soak: {sent} logins, {rounds} faults, {swaps} sets, {} taken back, {} refused: nothing lost, nothing repeated",
        operator.bad.len(),
        figures.refused
    );
    figures.assert_level();
}

/// The measurements after each round.
#[derive(Default)]
struct Figures {
    /// Resident memory after each round, in KiB.
    resident: Vec<u64>,
    refused: usize,
    printed: Duration,
}

impl Figures {
    fn take(&mut self, engine: &mut Engine, at: Duration) {
        let weir = engine.weir();
        let resident = weir.memory_kib("VmRSS");
        self.resident.push(resident);
        if at - self.printed < PRINT_EVERY && self.resident.len() > 1 {
            return;
        }
        self.printed = at;
        let status = weir.proc("status");
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap_or_default().trim();
        let (minutes, peak) = (at.as_secs() / 60, weir.memory_kib("VmHWM") / 1024);
        eprintln!("soak: minute {minutes}: {} MiB resident, at most {peak}, {threads} threads", resident / 1024);
    }

    /// Asserts that the last third of the run takes no more memory than the second.
    fn assert_level(&self) {
        let rounds = self.resident.len();
        if rounds < TREND {
            eprintln!("soak: {rounds} rounds are too few to tell a trend");
            return;
        }
        let third = rounds / 3;
        let (second, last) = (median(&self.resident[third..2 * third]), median(&self.resident[2 * third..]));
        eprintln!("soak: {} MiB resident in the second third, {} MiB in the last", second / 1024, last / 1024);
        assert!(last <= second + BREATH_KIB, "resident memory grows from {second} to {last} KiB: {:?}", self.resident);
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
