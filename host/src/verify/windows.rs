//! The counts messages: which of them were sent before the cut, and what those add up to.
//!
//! A message closes a window over some input partitions, and in the same commit their states move on to a later window. So it
//! was sent before the cut if its window began before the one that the cut finds open. That has one answer for all of its
//! partitions, since their offsets are committed together; two answers are a violation.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::Deserialize;

use super::violation::{Kind, Place, Violation};

/// After so many messages those before the cut are added up and forgotten.
const SETTLE_MESSAGES: usize = 4_096;

/// A counts message as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    at: Place,
    start: i64,
    partitions: Vec<i32>,
    sum: u64,
}

/// On which side of the cut a window of one partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
    /// The partition has no state that would tell.
    Unknown,
}

/// The counts messages that were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    /// How many there were before the cut, and what they add up to.
    pub(super) messages: u64,
    pub(super) sum: u64,
    /// Not before the cut when last asked.
    waiting: Vec<Window>,
}

impl Windows {
    /// Takes a message.
    ///
    /// # Errors
    /// If it is no counts message.
    pub(super) fn take(&mut self, at: Place, value: Option<&[u8]>) -> Result<(), Violation> {
        match parse(value.unwrap_or_default()) {
            Ok((start, partitions, sum)) => {
                self.waiting.push(Window { at, start, partitions, sum });
                Ok(())
            }
            Err(reason) => {
                let words = format!("{at} is no counts message: {reason}");
                Err(Violation { kind: Kind::UnreadableCounts, records: 1, at: Some(at), source: None, words })
            }
        }
    }

    /// Whether it is time to settle, so that what waits does not grow without a bound.
    pub(super) fn due(&self) -> bool {
        self.waiting.len() >= SETTLE_MESSAGES
    }

    /// Adds up what was sent before the cut; `side` says it for a partition and the start of a window.
    pub(super) fn settle(&mut self, side: impl Fn(i32, i64) -> Side) -> Vec<Violation> {
        let mut mixed = Vec::new();
        self.waiting.retain(|window| {
            let on = |wanted| {
                let there = window.partitions.iter().copied().filter(|partition| side(*partition, window.start) == wanted);
                there.collect::<Vec<i32>>()
            };
            let (before, after) = (on(Side::Before), on(Side::After));
            if before.is_empty() && !after.is_empty() {
                return true;
            }
            if !before.is_empty() && !after.is_empty() {
                mixed.push(mixture(window, &before, &after));
            }
            self.messages += 1;
            self.sum = self.sum.saturating_add(window.sum);
            false
        });
        mixed
    }
}

fn mixture(window: &Window, before: &[i32], after: &[i32]) -> Violation {
    let words = format!(
        "{} closes a window that began at {} ms: of its partitions {before:?} have moved on, {after:?} have not",
        window.at, window.start
    );
    Violation { kind: Kind::WindowMixed, records: 1, at: Some(window.at.clone()), source: None, words }
}

/// Start, partitions and sum of a counts message.
fn parse(value: &[u8]) -> Result<(i64, Vec<i32>, u64), String> {
    #[derive(Deserialize)]
    struct Message {
        window: Inner,
        partitions: Vec<i32>,
    }
    #[derive(Deserialize)]
    struct Inner {
        start: String,
        counts: BTreeMap<String, u64>,
    }

    let message: Message = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let start = &message.window.start;
    let instant = DateTime::parse_from_rfc3339(start).map(|time| time.timestamp_millis());
    // Times that have no such form are written as a number.
    let start = instant.or_else(|_| start.parse()).map_err(|_| format!("its window starts at {start:?}"))?;
    if message.partitions.is_empty() {
        return Err("it covers no partition".into());
    }
    let sum = message.window.counts.values().try_fold(0_u64, |sum, count| sum.checked_add(*count));
    Ok((start, message.partitions, sum.ok_or("its counts are too large to be added up")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;

    fn at(offset: i64) -> Place {
        Place { topic: "counts".into(), partition: 0, offset }
    }

    #[test]
    fn a_message_of_the_engine_is_read() {
        let mut counts = Counts::new(60_000, false);
        let delta = counts.count(60_001, [(0, Some("iOS")), (2, Some("android")), (2, Some("iOS"))].into_iter());
        counts.apply(&delta);
        let message = counts.tick(120_000).windows[0].to_json();
        assert_eq!(parse(message.as_bytes()), Ok((60_000, vec![0, 2], 3)));
    }

    #[test]
    fn what_is_no_counts_message_is_said() {
        let late = r#"{"window":{"start":"soon","counts":{}},"partitions":[0]}"#;
        let none = r#"{"window":{"start":"1970-01-01T00:00:00Z","counts":{}},"partitions":[]}"#;
        let huge = format!(r#"{{"window":{{"start":"5","counts":{{"a":{0},"b":{0}}}}},"partitions":[0]}}"#, u64::MAX);
        for bad in ["", "{}", "null", late, none, &huge] {
            let violation = Windows::default().take(at(7), Some(bad.as_bytes())).unwrap_err();
            assert!(violation.words.starts_with("counts/0/7 is no counts message: "), "{}", violation.words);
        }
    }

    #[test]
    fn what_is_past_the_cut_waits_for_a_later_one() {
        let mut windows = Windows::default();
        for (offset, start) in [(0, 10), (1, 20)] {
            let message = format!(r#"{{"window":{{"start":"{start}","counts":{{"a":5}}}},"partitions":[0]}}"#);
            windows.take(at(offset), Some(message.as_bytes())).unwrap();
        }
        let side = |open: i64| move |_: i32, start: i64| if start < open { Side::Before } else { Side::After };
        assert_eq!((windows.settle(side(20)), windows.messages, windows.sum), (vec![], 1, 5));
        assert_eq!((windows.settle(side(30)), windows.messages, windows.sum), (vec![], 2, 10));
    }
}
