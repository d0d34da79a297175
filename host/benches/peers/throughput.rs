//! The speed at which a contender works through a topic that is filled already, and the cost.
//!
//! With exactly once, the offsets that its group has committed say how far it is; with at least once, and with Flink, the ends of
//! its outputs and dead letters. Markers of transactions are in these ends too: six with each checkpoint of Flink. Figures begin
//! with the first progress that is seen, and those of the second half with the look that saw half of the logins done: by then a
//! Java virtual machine has compiled most of what it runs.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::BorrowedMessage;

use super::common::broker::Broker;
use super::common::process::{ChildProcess, eventually};
use super::common::task::{Contender as _, Task};
use super::common::topics::{self, GroupProgress};
use super::contenders::Contender;
use super::figures::Figures;
use super::outputs::{self, Kind};

/// The most time until a contender has reached the end of the topic.
const END: Duration = Duration::from_secs(240);
/// The pause between looks: with at least once, each look asks the broker six times.
const PAUSE: Duration = Duration::from_millis(15);

/// What came of a contender's work.
pub struct Work {
    pub figures: Figures,
    /// The number of logins in the input.
    pub logins: usize,
    /// The number of outputs and dead letters that can be read.
    pub written: usize,
}

/// The state of the work at some time.
#[derive(Clone, Copy)]
struct Mark {
    done: i64,
    time: Instant,
    cpu: f64,
}

/// How far a contender is.
struct Progress {
    told_by_ends: bool,
    committed: GroupProgress,
    ends: BaseConsumer,
    topics: [String; 3],
}

impl Progress {
    fn new(task: &Task<'_>, contender: &Contender) -> anyhow::Result<Progress> {
        let address = &task.broker.address;
        let level = if contender.exactly_once { "read_committed" } else { "read_uncommitted" };
        Ok(Progress {
            told_by_ends: contender.told_by_ends,
            committed: GroupProgress::new(address, &task.group, &task.input)?,
            ends: topics::client(address).set("group.id", &task.group).set("isolation.level", level).create()?,
            topics: task.outputs(),
        })
    }

    fn has_output(&self) -> anyhow::Result<bool> {
        Ok(topics::end(&self.ends, &self.topics[0])? > 0)
    }

    fn done(&self) -> anyhow::Result<i64> {
        match self.told_by_ends {
            false => self.committed.committed(),
            true => self.topics[..2].iter().map(|topic| topics::end(&self.ends, topic)).sum(),
        }
    }
}

/// Runs a contender over all logins of a topic, and gives what it has written to `each`.
pub fn work(
    broker: &Broker,
    contender: &Contender,
    input: &str,
    purpose: &str,
    each: impl FnMut(Kind, &BorrowedMessage<'_>),
) -> anyhow::Result<Work> {
    let task = Task::new(broker, input, format!("{}-{purpose}", contender.name))?;
    task.create_outputs()?;
    let progress = Progress::new(&task, contender)?;
    let end = progress.committed.end()?;
    let begun = Instant::now();
    let mut process = ChildProcess::start(contender.command(&task)?, contender.name)?;
    let (mut first_s, mut first, mut half, mut peak_mib) = (None, None, None, 0.0_f64);
    let last = eventually("it has done all logins", END, &mut process, |process| {
        std::thread::sleep(PAUSE);
        if first_s.is_none() && progress.has_output().unwrap_or_default() {
            first_s = Some(begun.elapsed().as_secs_f64());
        }
        peak_mib = peak_mib.max(process.mebibytes("VmRSS").ok()?);
        let mark = Mark { done: progress.done().ok()?, time: Instant::now(), cpu: process.cpu_seconds().ok()? };
        if mark.done > 0 {
            first.get_or_insert(mark);
        }
        if mark.done >= end / 2 {
            half.get_or_insert(mark);
        }
        (mark.done >= end).then_some(mark)
    })?;
    peak_mib = peak_mib.max(process.mebibytes("VmHWM")?);
    // Before the end of the process: what is not committed by then would never be.
    let written = outputs::read(&task, end as usize, each)?;
    process.stop()?;
    task.delete_outputs()?;
    let (first, half) = (first.context("nothing was done")?, half.context("nothing was done")?);
    let (rate, cpu_per_million) = between(first, last, end / 2).unzip();
    let (rate_warm, cpu_warm) = between(half, last, end / 4).unzip();
    let peak_mib = Some(peak_mib);
    let figures = Figures { rate, rate_warm, cpu_per_million, cpu_warm, peak_mib, first_s, ..Figures::default() };
    Ok(Work { figures, logins: end as usize, written })
}

/// Returns records per second, and seconds of processor time per million records. Returns None if fewer than `least` records lie
/// between two marks, because they came in few large commits: their figures would be those of chance.
fn between(from: Mark, to: Mark, least: i64) -> Option<(f64, f64)> {
    let (records, seconds) = (to.done - from.done, (to.time - from.time).as_secs_f64());
    let enough = records >= least && records > 0;
    enough.then(|| (records as f64 / seconds, (to.cpu - from.cpu) / records as f64 * 1e6))
}
