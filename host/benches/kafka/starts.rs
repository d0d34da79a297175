//! What a process costs before it has work: its memory while it is idle, and the time of a start.

use std::time::{Duration, Instant};

use super::common::broker::Broker;
use super::common::figures::median;
use super::common::latency::Bench;
use super::common::task::Contender;

/// The time without a login after which a process is idle.
const IDLE: Duration = Duration::from_secs(5);
/// The number of times that the start is measured.
const STARTS: usize = 5;

/// Returns the resident memory of a process that has seen no login yet, in MiB.
pub fn idle_mebibytes(broker: &Broker, contender: &impl Contender) -> anyhow::Result<f64> {
    let bench = Bench::new(broker, contender, "idle")?;
    let process = bench.start()?;
    std::thread::sleep(IDLE);
    let found = process.mebibytes("VmRSS")?;
    process.stop()?;
    Ok(found)
}

/// Returns the seconds from the start of a process to its first output. The group exists already, and a login waits.
pub fn start_to_first_output(broker: &Broker, contender: &impl Contender) -> anyhow::Result<f64> {
    let bench = Bench::new(broker, contender, "start")?;
    let mut process = bench.start()?;
    bench.warm_up(&mut process)?;
    process.stop()?;
    let mut taken = Vec::new();
    for _ in 0..STARTS {
        bench.send_one_each(1)?;
        let begun = Instant::now();
        let mut process = bench.start()?;
        bench.wait_for_output(&mut process)?;
        taken.push(begun.elapsed().as_secs_f64());
        process.stop()?;
    }
    Ok(median(taken))
}
