//! The counts messages: which of them were sent before the cut, what these add up to, and whether they can all be true.
//!
//! A message closes a window over some input partitions. The same commit moves the states of these partitions on to a later
//! window. So a message was sent before the cut if its window began before the window that is open at the cut. The answer is the
//! same for all of its partitions, because their offsets are committed together; two different answers are a violation.
//!
//! The windows are compared with the states by type ([`Windows::sums`]), and with each other ([`covered`](super::covered): no
//! partition is in two of them at a time). Their running totals are compared with those before and after ([`super::totals`]).

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use serde::Deserialize;

use super::covered::Covered;
use super::totals::Totals;
use super::violation::{Violation, ViolationKind};
use super::window::{Knowledge, Pair, SentWindow, Side};
use weir_core::counts::MAX_NAME_BYTES;
use weir_core::position::Position;
use weir_core::printable::escape_value;

/// The number of waiting messages at which those before the cut are added up and dropped. If many were left last time, twice
/// their number is awaited, so that each message is looked at only a few times in all.
const SETTLE_MESSAGES: usize = 4_096;
/// The most messages, with their types and partitions, that may wait for a later cut. Each takes some 100 bytes. A sound system
/// has only a few: those that were sent after the request for the offsets and before the request for the end of the topic.
const MAX_WAITING: usize = 1 << 18;
/// The most types that are counted one by one. A partition has at most 49.
const MAX_TYPES: usize = 1 << 16;

/// The counts messages that were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    /// The number of messages before the cut, and their sums by type.
    pub(super) messages: u64,
    pub(super) sums: BTreeMap<Box<str>, u64>,
    /// The number of messages that there was no room for. If there are any, the sums are not complete.
    pub(super) forgotten: u64,
    pub(super) covered: Covered,
    pub(super) totals: Totals,
    /// The messages that were not before the latest cut.
    waiting: Vec<SentWindow>,
    /// The number of messages that the last settling left.
    left: usize,
}

impl Windows {
    /// Takes a message.
    ///
    /// # Errors
    /// If the value is no counts message.
    pub(super) fn take(&mut self, at: Position, value: Option<&[u8]>) -> Result<(), Violation> {
        match parse(at.clone(), value.unwrap_or_default()) {
            Ok(window) => {
                self.covered.add(&window);
                self.waiting.push(window);
                Ok(())
            }
            Err(reason) => {
                let words = format!("{at} is no counts message: {reason}");
                Err(Violation { kind: ViolationKind::UnreadableCounts, records: 1, at: Some(at), source: None, words })
            }
        }
    }

    /// Returns whether it is time to settle, so that the waiting messages do not grow without a bound.
    pub(super) fn due(&self) -> bool {
        self.waiting.len() >= SETTLE_MESSAGES.max(2 * self.left)
    }

    /// Returns the number of messages past the cut.
    pub(super) fn past(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the sum over all windows before the cut.
    pub(super) fn sum(&self) -> u64 {
        self.sums.values().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// Adds up the windows that were sent before the cut, and returns their violations. `known` returns the knowledge that the
    /// cut gives of a partition.
    pub(super) fn settle<'a>(&mut self, known: impl Fn(i32) -> Knowledge<'a>) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for window in std::mem::take(&mut self.waiting) {
            let on = |wanted| {
                let there = window.partitions.iter().copied().filter(|partition| known(*partition).side(window.start) == wanted);
                there.collect::<Vec<i32>>()
            };
            let absent = on(Side::Absent);
            if !absent.is_empty() {
                wrong.push(foreign(&window, &absent));
                continue;
            }
            let (before, after) = (on(Side::Before), on(Side::After));
            if before.is_empty() && !after.is_empty() {
                self.waiting.push(window);
                continue;
            }
            if !before.is_empty() && !after.is_empty() {
                wrong.push(mixture(&window, &before, &after));
            }
            wrong.extend(late(&window, &known));
            self.messages += 1;
            self.add_up(&window);
            wrong.extend(self.totals.take(window, &known));
        }
        self.forget();
        wrong
    }

    fn add_up(&mut self, window: &SentWindow) {
        for (name, (count, _)) in window.counts.iter().filter(|(_, (count, _))| *count > 0) {
            if let Some(sum) = self.sums.get_mut(name) {
                *sum = sum.saturating_add(*count);
            } else if self.sums.len() < MAX_TYPES {
                self.sums.insert(name.clone(), *count);
            } else {
                self.forgotten += 1;
                return;
            }
        }
    }

    /// Drops the waiting windows that there is no room for.
    fn forget(&mut self) {
        let mut room = MAX_WAITING;
        let kept = self.waiting.iter().take_while(|window| {
            let (left, fits) = room.overflowing_sub(1 + window.counts.len() + window.partitions.len());
            room = left;
            !fits
        });
        let kept = kept.count();
        self.forgotten += (self.waiting.len() - kept) as u64;
        self.waiting.truncate(kept);
        self.left = self.waiting.len();
    }
}

fn foreign(window: &SentWindow, absent: &[i32]) -> Violation {
    let words = format!("{} covers partitions {absent:?}, which the input does not have", window.at);
    Violation { kind: ViolationKind::NoPartition, records: 1, at: Some(window.at.clone()), source: None, words }
}

fn mixture(window: &SentWindow, before: &[i32], after: &[i32]) -> Violation {
    let words = format!(
        "{} closes a window that began at {} ms: of its partitions {before:?} have moved on, {after:?} have not",
        window.at, window.start
    );
    Violation { kind: ViolationKind::WindowMixed, records: 1, at: Some(window.at.clone()), source: None, words }
}

/// Returns a violation if the window ends after the start of a window that is open at the cut. `window` was sent before the cut.
fn late<'a>(window: &SentWindow, known: &impl Fn(i32) -> Knowledge<'a>) -> Option<Violation> {
    let open = |partition: &i32| match known(*partition) {
        Knowledge::State { state, anew: false } => Some(state.window.0),
        _ => None,
    };
    let within = |open: i64| (window.start + 1..window.end).contains(&open);
    let partition = window.partitions.iter().find(|partition| open(partition).is_some_and(within))?;
    let words = format!(
        "{} is of {} to {} ms, and the open window of partition {partition} began before that was over",
        window.at, window.start, window.end
    );
    Some(Violation { kind: ViolationKind::WindowsOverlap, records: 1, at: Some(window.at.clone()), source: None, words })
}

/// Reads the counts message at `at`, which has to be consistent by itself.
fn parse(at: Position, value: &[u8]) -> Result<SentWindow, String> {
    #[derive(Deserialize)]
    struct CountsJson {
        device_type_counts: BTreeMap<Box<str>, u64>,
        window: Inner,
        partitions: Vec<i32>,
    }
    #[derive(Deserialize)]
    struct Inner {
        start: String,
        end: String,
        counts: BTreeMap<Box<str>, u64>,
    }

    let message: CountsJson = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let (start, end) = (instant(&message.window.start, "starts")?, instant(&message.window.end, "ends")?);
    if end <= start {
        return Err(format!("its window ends at {:?}, where it has not begun", message.window.end));
    }
    let partitions: BTreeSet<i32> = message.partitions.iter().copied().collect();
    match message.partitions.len() {
        0 => return Err("it covers no partition".into()),
        many if many > partitions.len() => return Err("it covers a partition twice".into()),
        _ => {}
    }
    let mut counts: BTreeMap<Box<str>, Pair> =
        message.device_type_counts.into_iter().map(|(name, total)| (name, (0, total))).collect();
    for (name, count) in message.window.counts {
        counts.entry(name).or_default().0 = count;
    }
    if let Some((name, (count, total))) = counts.iter().find(|(_, (count, total))| count > total) {
        let name = escape_value(name);
        return Err(format!("it counts {count} of `{name}` in its window, and {total} of them since counting began"));
    }
    if counts.keys().any(|name| name.len() > MAX_NAME_BYTES) {
        return Err(format!("it names a type with more than {MAX_NAME_BYTES} bytes"));
    }
    let sum = counts.values().try_fold(0_u64, |sum, (_, total)| sum.checked_add(*total));
    sum.ok_or("its counts are too large to be added up")?;
    Ok(SentWindow { at, start, end, partitions, counts })
}

/// Returns milliseconds since the epoch.
fn instant(text: &str, what: &str) -> Result<i64, String> {
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis());
    // A time that has no RFC 3339 form is written as a number.
    time.or_else(|_| text.parse()).map_err(|_| format!("its window {what} at {text:?}"))
}

#[cfg(test)]
mod tests {
    use weir_core::state::State;

    use super::*;
    use weir_core::counts::Counts;

    fn at(offset: i64) -> Position {
        Position { topic: "counts".into(), partition: 0, offset: offset as u64 }
    }

    #[test]
    fn a_message_of_the_engine_is_read() {
        let mut counts = Counts::new(60_000, false);
        let delta = counts.count(60_001, [(0, Some("iOS")), (2, Some("android")), (2, Some("iOS"))].into_iter());
        counts.apply(&delta);
        let message = counts.tick(120_000).windows[0].to_json();
        let window = parse(at(0), message.as_bytes()).unwrap();
        assert_eq!((window.start, window.end, window.partitions), (60_000, 120_000, [0, 2].into()));
        assert_eq!(window.counts, [("android".into(), (1, 1)), ("iOS".into(), (2, 2))].into());
    }

    #[test]
    fn what_is_no_counts_message_is_said() {
        let of = |start: &str, end: &str, counts: &str, totals: &str, partitions: &str| {
            format!(
                r#"{{"device_type_counts":{totals},"window":{{"start":"{start}","end":"{end}","counts":{counts}}},"partitions":{partitions}}}"#
            )
        };
        let huge = format!(r#"{{"a":{0},"b":{0}}}"#, u64::MAX);
        let long = format!(r#"{{"{}":1}}"#, "x".repeat(33));
        assert!(Windows::default().take(at(7), Some(of("5", "6", "{}", "{}", "[0]").as_bytes())).is_ok());
        for bad in [
            "".into(),
            "{}".into(),
            "null".into(),
            of("soon", "6", "{}", "{}", "[0]"),
            of("5", "later", "{}", "{}", "[0]"),
            of("6", "5", "{}", "{}", "[0]"),
            of("5", "6", "{}", "{}", "[]"),
            of("5", "6", "{}", "{}", "[0,1,0]"),
            of("5", "6", r#"{"a":2}"#, r#"{"a":1}"#, "[0]"),
            of("5", "6", r#"{"a":2}"#, r#"{"nonsense":2}"#, "[0]"),
            of("5", "6", &huge, &huge, "[0]"),
            of("5", "6", "{}", &long, "[0]"),
        ] {
            let violation = Windows::default().take(at(7), Some(bad.as_bytes())).unwrap_err();
            assert!(violation.words.starts_with("counts/0/7 is no counts message: "), "{}", violation.words);
        }
    }

    fn message(start: i64, partitions: &str) -> String {
        let end = start + 5;
        format!(
            r#"{{"device_type_counts":{{"a":5}},"window":{{"start":"{start}","end":"{end}","counts":{{"a":5}}}},"partitions":{partitions}}}"#
        )
    }

    /// Returns a state whose open window begins at `open`.
    fn state(open: i64) -> State {
        let mut state = State::new("", 0);
        state.window = (open, open.saturating_add(10));
        state
    }

    #[test]
    fn what_is_past_the_cut_waits_for_a_later_one() {
        let mut windows = Windows::default();
        for (offset, start) in [(0, 10), (1, 20)] {
            windows.take(at(offset), Some(message(start, "[0]").as_bytes())).unwrap();
        }
        for (open, messages, sum) in [(20, 1, 5), (30, 2, 10)] {
            let state = state(open);
            windows.settle(|_| Knowledge::State { state: &state, anew: true });
            assert_eq!((windows.messages, windows.sum()), (messages, sum));
        }
    }

    #[test]
    fn what_waits_takes_bounded_room_and_is_asked_about_now_and_then() {
        let (mut windows, mut looks) = (Windows::default(), 0);
        for offset in 0..MAX_WAITING as i64 {
            windows.take(at(offset), Some(message(10 * offset, "[0]").as_bytes())).unwrap();
            if windows.due() {
                looks += 1;
                assert_eq!(windows.settle(|_| Knowledge::Nothing), vec![]);
            }
            assert!(windows.waiting.len() <= MAX_WAITING);
        }
        assert!(looks < 12, "{looks} times all was looked at");
        let state = state(i64::MAX);
        windows.settle(|_| Knowledge::State { state: &state, anew: true });
        assert_eq!(windows.forgotten + windows.messages, MAX_WAITING as u64);
        assert!(windows.forgotten > 0);
    }

    #[test]
    fn types_that_are_too_many_to_tell_apart_are_not_added_up() {
        let (mut windows, state) = (Windows::default(), state(i64::MAX));
        for index in 0..MAX_TYPES as i64 + 10 {
            let message = message(10 * index, "[0]").replace("\"a\"", &format!("\"{index}\""));
            windows.take(at(index), Some(message.as_bytes())).unwrap();
            if windows.due() {
                windows.settle(|_| Knowledge::State { state: &state, anew: true });
            }
        }
        windows.settle(|_| Knowledge::State { state: &state, anew: true });
        assert_eq!((windows.sums.len(), windows.forgotten), (MAX_TYPES, 10));
    }

    #[test]
    fn a_window_of_a_partition_that_the_input_does_not_have_is_named() {
        let mut windows = Windows::default();
        windows.take(at(3), Some(message(5, "[0,7]").as_bytes())).unwrap();
        let known = |partition: i32| if partition == 0 { Knowledge::Nothing } else { Knowledge::Absent };
        let [wrong] = &windows.settle(known)[..] else { panic!("one thing is wrong") };
        assert_eq!((wrong.kind, windows.sum()), (ViolationKind::NoPartition, 0));
        assert_eq!(wrong.words, "counts/0/3 covers partitions [7], which the input does not have");
    }
}
