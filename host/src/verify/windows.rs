//! The counts messages: which of them were sent before the cut, and what those add up to.
//!
//! A message closes a window over some input partitions, and in the same commit their states move on to a later window. So it
//! was sent before the cut if its window began before the one that the cut finds open. That has one answer for all of its
//! partitions, since their offsets are committed together; two answers are a violation.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use serde::Deserialize;

use super::violation::{Kind, Place, Violation};

/// After so many messages those before the cut are added up and forgotten. Where many are left, after twice as many as those,
/// so that the whole of it takes no more than a few looks at each.
const SETTLE_MESSAGES: usize = 4_096;
/// So many messages may wait for a later cut; some 150 bytes each. An honest system has a few: those that were sent after the
/// offsets were asked for and before the end of the topic was.
const MAX_WAITING: usize = 1 << 16;

/// A counts message as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    at: Place,
    start: i64,
    partitions: BTreeSet<i32>,
    sum: u64,
}

/// On which side of the cut a window of one partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
    /// The partition has no state that would tell.
    Unknown,
    /// The input has no such partition.
    Absent,
}

/// The counts messages that were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    /// How many there were before the cut, and what they add up to.
    pub(super) messages: u64,
    pub(super) sum: u64,
    /// How many there was no room for: what is added up is not all.
    pub(super) forgotten: u64,
    /// Not before the cut when last asked.
    waiting: Vec<Window>,
    /// How many were left when last asked.
    left: usize,
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
        self.waiting.len() >= SETTLE_MESSAGES.max(2 * self.left)
    }

    /// Adds up what was sent before the cut; `side` says it for a partition and the start of a window.
    pub(super) fn settle(&mut self, side: impl Fn(i32, i64) -> Side) -> Vec<Violation> {
        let mut wrong = Vec::new();
        self.waiting.retain(|window| {
            let on = |wanted| {
                let there = window.partitions.iter().copied().filter(|partition| side(*partition, window.start) == wanted);
                there.collect::<Vec<i32>>()
            };
            let absent = on(Side::Absent);
            if !absent.is_empty() {
                wrong.push(foreign(window, &absent));
                return false;
            }
            let (before, after) = (on(Side::Before), on(Side::After));
            if before.is_empty() && !after.is_empty() {
                return true;
            }
            if !before.is_empty() && !after.is_empty() {
                wrong.push(mixture(window, &before, &after));
            }
            self.messages += 1;
            self.sum = self.sum.saturating_add(window.sum);
            false
        });
        self.forgotten += self.waiting.len().saturating_sub(MAX_WAITING) as u64;
        self.waiting.truncate(MAX_WAITING);
        self.left = self.waiting.len();
        wrong
    }
}

fn foreign(window: &Window, absent: &[i32]) -> Violation {
    let words = format!("{} covers partitions {absent:?}, which the input does not have", window.at);
    Violation { kind: Kind::NoPartition, records: 1, at: Some(window.at.clone()), source: None, words }
}

fn mixture(window: &Window, before: &[i32], after: &[i32]) -> Violation {
    let words = format!(
        "{} closes a window that began at {} ms: of its partitions {before:?} have moved on, {after:?} have not",
        window.at, window.start
    );
    Violation { kind: Kind::WindowMixed, records: 1, at: Some(window.at.clone()), source: None, words }
}

/// Start, partitions and sum of a counts message.
fn parse(value: &[u8]) -> Result<(i64, BTreeSet<i32>, u64), String> {
    #[derive(Deserialize)]
    struct Message {
        window: Inner,
        partitions: BTreeSet<i32>,
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
        assert_eq!(parse(message.as_bytes()), Ok((60_000, [0, 2].into(), 3)));
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

    #[test]
    fn what_waits_takes_bounded_room_and_is_asked_about_now_and_then() {
        let message = br#"{"window":{"start":"5","counts":{"a":1}},"partitions":[0,0,0]}"#;
        let (mut windows, mut looks) = (Windows::default(), 0);
        for offset in 0..4 * MAX_WAITING as i64 {
            windows.take(at(offset), Some(message)).unwrap();
            if windows.due() {
                looks += 1;
                assert_eq!(windows.settle(|_, _| Side::After), vec![]);
            }
            assert!(windows.waiting.len() <= 2 * MAX_WAITING);
        }
        assert!(looks < 10, "{looks} times all was looked at");
        assert_eq!(windows.settle(|_, _| Side::Before), vec![]);
        assert_eq!(windows.forgotten + windows.sum, 4 * MAX_WAITING as u64);
        assert!(windows.forgotten > 0);
    }

    #[test]
    fn a_window_of_a_partition_that_the_input_does_not_have_is_named() {
        let mut windows = Windows::default();
        windows.take(at(3), Some(br#"{"window":{"start":"5","counts":{"a":1}},"partitions":[0,7]}"#)).unwrap();
        let side = |partition: i32, _: i64| if partition == 0 { Side::Before } else { Side::Absent };
        let [wrong] = &windows.settle(side)[..] else { panic!("one thing is wrong") };
        assert_eq!((wrong.kind, windows.sum), (Kind::NoPartition, 0));
        assert_eq!(wrong.words, "counts/0/3 covers partitions [7], which the input does not have");
    }
}
