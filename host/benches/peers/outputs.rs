//! What a contender has written: its outputs and dead letters, as a consumer reads them that sees only what is committed.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::common::process::go_on;
use super::common::task::Task;
use super::common::topics;

/// The most time in which the rest has to become readable: a contender may commit its offsets just before its outputs.
const REST: Duration = Duration::from_secs(15);
/// The time without a record after which all are there, once they are as many as they should be.
const QUIET: Duration = Duration::from_millis(500);
/// The most time that reading may take.
const READ: Duration = Duration::from_secs(300);

/// Whether a record is an output or a dead letter.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Output,
    DeadLetter,
}

/// Gives all outputs and dead letters to `each`, and returns their number. Where they are fewer than `count`, it waits for more.
pub fn read(task: &Task<'_>, count: usize, mut each: impl FnMut(Kind, &BorrowedMessage<'_>)) -> anyhow::Result<usize> {
    let [output, rejected, _] = task.outputs();
    let reader = topics::reader(&mut topics::client(&task.broker.address), &[&output, &rejected])?;
    let (begun, mut last, mut seen) = (Instant::now(), Instant::now(), 0);
    while last.elapsed() < if seen < count { REST } else { QUIET } {
        go_on()?;
        ensure!(begun.elapsed() < READ, "failed to read {output} and {rejected} within {READ:?}");
        if let Some(message) = reader.poll(Duration::from_millis(100)).transpose()? {
            each(if message.topic() == output { Kind::Output } else { Kind::DeadLetter }, &message);
            (seen, last) = (seen + 1, Instant::now());
        }
    }
    Ok(seen)
}
