//! The speed at which a contender works through a topic that is filled already, and the cost.
//!
//! The time is measured from outside, by looking at the offsets that the contender's group has committed: from the first look
//! that sees any to the end of the topic. Start-up is not in it. The processor time is that of the same span.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::common::broker::Broker;
use super::common::figures::{interleaved, median};
use super::common::process::{ChildProcess, eventually};
use super::common::task::{Contender as _, Task};
use super::common::topics::GroupProgress;
use super::{CONTENDERS, Contender, INPUT};

/// The most time until a contender's first commit.
const BEGIN: Duration = Duration::from_secs(30);
/// The most time until a contender has reached the end of the topic.
const END: Duration = Duration::from_secs(300);

/// The figures of a contender's run over a topic.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Records per second.
    pub rate: f64,
    /// The contender's processor time for a million records, in seconds.
    pub cpu: f64,
    /// The broker's processor time for a million records, in seconds.
    pub broker_cpu: f64,
    /// The number of cores that the broker kept busy.
    pub broker_cores: f64,
    pub peak_mib: f64,
}

impl Run {
    pub const HEADINGS: &str = "| | contender | records/s | CPU s per million | of the broker | broker's cores | peak MiB |\n\
                                |---|---|---:|---:|---:|---:|---:|";

    pub fn row(&self, letter: &str, name: &str) -> String {
        let Run { rate, cpu, broker_cpu, broker_cores, peak_mib } = self;
        format!("| {letter} | {name} | {rate:.0} | {cpu:.2} | {broker_cpu:.2} | {broker_cores:.2} | {peak_mib:.0} |")
    }

    /// Returns the median of each figure.
    pub fn median(runs: &[Run]) -> Run {
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure));
        Run {
            rate: of(|run| run.rate),
            cpu: of(|run| run.cpu),
            broker_cpu: of(|run| run.broker_cpu),
            broker_cores: of(|run| run.broker_cores),
            peak_mib: of(|run| run.peak_mib),
        }
    }
}

/// Returns the ratio of the rate of `left` to the rate of `right`: the median of the ratios within each round.
pub fn ratio(left: &[Run], right: &[Run]) -> f64 {
    median(left.iter().zip(right).map(|(left, right)| left.rate / right.rate))
}

/// Runs all contenders, one after the other, `rounds` times. Returns the runs of each contender.
pub fn rounds(broker: &Broker, rounds: usize) -> anyhow::Result<[Vec<Run>; CONTENDERS.len()]> {
    let mut runs: [Vec<Run>; CONTENDERS.len()] = Default::default();
    for (round, index) in interleaved(CONTENDERS.len(), rounds) {
        let contender = &CONTENDERS[index];
        let run = measure(broker, contender, round)?;
        eprintln!("round {} {}", round + 1, run.row(contender.letter, contender.name));
        runs[index].push(run);
    }
    Ok(runs)
}

fn measure(broker: &Broker, contender: &Contender, round: usize) -> anyhow::Result<Run> {
    let task = Task::new(broker, INPUT, format!("{}-{round}", contender.letter))?;
    task.create_outputs()?;
    let progress = GroupProgress::new(&broker.address, &task.group, INPUT)?;
    let end = progress.end()?;
    let mut process = ChildProcess::start(contender.command(&task)?, contender.name)?;
    let reached = |at_least: i64| progress.committed().ok().filter(|committed| *committed >= at_least);
    let first = eventually("it commits", BEGIN, &mut process, |_| reached(1))?;
    let begun = (Instant::now(), process.cpu_seconds()?, broker.process.cpu_seconds()?);
    ensure!(first < end / 2, "half of the logins were done before the first look: set LOGINS to more");
    eventually("it reaches the end", END, &mut process, |_| reached(end))?;
    let seconds = begun.0.elapsed().as_secs_f64();
    let millions = (end - first) as f64 / 1e6;
    let broker_cpu = broker.process.cpu_seconds()? - begun.2;
    let run = Run {
        rate: millions * 1e6 / seconds,
        cpu: (process.cpu_seconds()? - begun.1) / millions,
        broker_cpu: broker_cpu / millions,
        broker_cores: broker_cpu / seconds,
        peak_mib: process.mebibytes("VmHWM")?,
    };
    process.stop()?;
    task.delete_outputs()?;
    Ok(run)
}
