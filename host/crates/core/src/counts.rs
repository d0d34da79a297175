//! Windowed counts of device types, per input partition.
//!
//! This module is pure and has two halves: [`Counts::count`] and [`Counts::tick`] compute a [`Delta`] from the known counts, and
//! [`Counts::apply`] adds the delta to them. The counts are committed with the offsets. If the commit fails, the caller drops all
//! counts and begins again with those that are committed, so a replay cannot count twice.
//!
//! Windows are aligned to the epoch on the batch's `processed-at`. A clock that steps back does not reopen a window: records that
//! arrive then are counted in the window that is open. A clock that leaps ahead closes one window, not one for every interval
//! that it skipped. If the clock then leaps back, the window that it has begun meanwhile stays open until the end of that window:
//! [`Counts::ahead`] returns such windows.
//!
//! Counters are few by design: the state of a partition has to fit the metadata of an offset commit. A name for which there is no
//! room is counted under [`OTHER`], never lost. [`Counts::states`] returns the states to commit with offsets, and
//! [`Counts::restore`] begins with a state that this process or another one has committed. This module leaves out where counts
//! are sent.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat};
use serde_json::json;

use crate::state::State;

/// The counter of all device types that have no counter of their own.
pub const OTHER: &str = "__other__";
/// The most device types with a counter of their own, per partition.
pub const MAX_DEVICE_TYPES: usize = 48;
/// The longest name with a counter of its own, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 32;
/// The most bytes that the written counters of a partition may take. A broker refuses offset metadata of more than 4,096
/// characters, and some of these are left for other uses.
pub const MAX_STATE_BYTES: usize = 3_000;
/// The part of [`MAX_STATE_BYTES`] that is set aside for the rest of a state beside the counters, and for the counters of
/// [`OTHER`].
const STATE_HEADER_BYTES: usize = 200;
/// The most bytes that the two counters of a name take beside the name: 20 digits each, and seven other characters.
const STATE_COUNTER_BYTES: usize = 47;

/// The most by which the clocks of processes in good order may differ, in milliseconds.
const MAX_CLOCK_SKEW_MILLIS: i64 = 5_000;

/// The counters of one partition. `names`, `totals` and `window` are parallel; `OTHER` has index 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PartitionCounts {
    names: Vec<Box<str>>,
    totals: Vec<u64>,
    window: Vec<u64>,
    /// The open window: its start and its end, in milliseconds since the epoch.
    start: i64,
    end: i64,
    /// The id of the topic, and the first offset that is counted, for the state that is committed.
    topic: Box<str>,
    from: i64,
    state_bytes: usize,
}

impl PartitionCounts {
    /// Returns a partition in which nothing is counted yet, at `now`, in windows of `every` milliseconds.
    fn new(now: i64, every: i64) -> PartitionCounts {
        let start = align(now, every);
        PartitionCounts {
            names: vec![OTHER.into()],
            totals: vec![0],
            window: vec![0],
            start,
            end: start + every,
            topic: "".into(),
            from: 0,
            state_bytes: STATE_HEADER_BYTES,
        }
    }

    /// Closes the open window if it has ended by `now`, and opens the present one. The present window never begins before the old
    /// one has ended, even if the length of windows has changed.
    fn close(&mut self, now: i64, every: i64) {
        if self.end <= now {
            let start = align(now, every);
            (self.start, self.end) = (start.max(self.end), start + every);
            self.window.fill(0);
        }
    }

    fn add(&mut self, added: &Added) {
        self.names.extend(added.names.iter().cloned());
        self.state_bytes = added.state_bytes;
        for counters in [&mut self.totals, &mut self.window] {
            counters.resize(added.counts.len(), 0);
            counters.iter_mut().zip(&added.counts).for_each(|(counter, count)| *counter += count);
        }
    }

    fn state(&self) -> State {
        let mut state = State::new(&self.topic, self.from);
        state.window = (self.start, self.end);
        let counters = self.names.iter().zip(self.totals.iter().zip(&self.window)).filter(|(_, (total, _))| **total > 0);
        state.counts = counters.map(|(name, (total, window))| (name.to_string(), (*total, *window))).collect();
        state
    }
}

fn align(now: i64, every: i64) -> i64 {
    now.div_euclid(every) * every
}

/// Returns the bytes that a name takes in a state, as a JSON string with its counters.
fn state_bytes(name: &str) -> usize {
    let escaped: usize =
        name.bytes().map(|byte| if byte < 0x20 { 6 } else { 1 + usize::from(matches!(byte, b'"' | b'\\')) }).sum();
    escaped + STATE_COUNTER_BYTES
}

/// The running totals and open windows of the partitions that this process reads.
#[derive(Clone, Debug)]
pub struct Counts {
    every: i64,
    emit_empty: bool,
    partitions: BTreeMap<i32, PartitionCounts>,
}

/// A window that has ended, over all partitions of this process that had it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The start of the window, in milliseconds since the epoch.
    pub start: i64,
    /// The exclusive end of the window, in milliseconds since the epoch.
    pub end: i64,
    /// The counts of this window.
    pub counts: BTreeMap<String, u64>,
    /// The totals since the first offset that is counted, this window included.
    pub totals: BTreeMap<String, u64>,
    /// The partitions that the counts and totals cover.
    pub partitions: Vec<i32>,
}

impl Window {
    /// Returns the message for the counts topic.
    pub fn to_json(&self) -> String {
        json!({
            "device_type_counts": self.totals,
            "window": { "start": instant(self.start), "end": instant(self.end), "counts": self.counts },
            "partitions": self.partitions,
        })
        .to_string()
    }
}

/// Returns `millis`, milliseconds since the epoch, as RFC 3339 in UTC.
pub fn instant(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .map_or_else(|| millis.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// The changes of the counts by a batch, or by the passing of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The windows that have ended and are to be sent with the batch.
    pub windows: Vec<Window>,
    /// The time at which the change was computed. Windows that have ended by then are closed.
    now: i64,
    added: Vec<Added>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Added {
    partition: i32,
    /// The names that get a counter, in the order of their indices. The indices follow those of the names that the partition has.
    names: Vec<Box<str>>,
    /// The numbers to add, by index of the name.
    counts: Vec<u64>,
    state_bytes: usize,
}

impl Counts {
    /// Returns empty counts, in windows of `every` milliseconds.
    ///
    /// # Panics
    /// If `every` is not positive. The configuration allows only positive values.
    pub fn new(every: i64, emit_empty: bool) -> Counts {
        assert!(every > 0, "a window has a length");
        Counts { every, emit_empty, partitions: BTreeMap::new() }
    }

    /// Counts rows, given as (partition, device type), in a batch that is processed at `now`, and closes the windows that have
    /// ended by then. A row without a device type counts as [`OTHER`].
    pub fn count<'a>(&self, now: i64, rows: impl Iterator<Item = (i32, Option<&'a str>)>) -> Delta {
        let mut delta = self.tick(now);
        // The known names of each entry of `added`.
        let mut known = Vec::new();
        let mut current = 0;
        for (partition, name) in rows {
            if delta.added.get(current).is_none_or(|added| added.partition != partition) {
                current = delta.added.iter().position(|added| added.partition == partition).unwrap_or_else(|| {
                    known.push(self.partitions.get(&partition).map_or(&[][..], |known| &known.names));
                    delta.added.push(self.added(partition));
                    delta.added.len() - 1
                });
            }
            let added = &mut delta.added[current];
            let index = added.index(known[current], name);
            added.counts[index] += 1;
        }
        delta
    }

    /// Closes the windows that have ended by `now`.
    pub fn tick(&self, now: i64) -> Delta {
        let ended = self.partitions.values().filter(|partition| partition.end <= now);
        let ended: BTreeSet<(i64, i64)> = ended.map(|partition| (partition.start, partition.end)).collect();
        let windows = ended.into_iter().map(|(start, end)| self.window(start, end));
        let windows = windows.filter(|window| self.emit_empty || !window.counts.is_empty()).collect();
        Delta { windows, now, ..Delta::default() }
    }

    /// Returns additions to `partition`, with nothing in them yet.
    fn added(&self, partition: i32) -> Added {
        let known = self.partitions.get(&partition);
        let (names, state_bytes) = known.map_or((1, STATE_HEADER_BYTES), |known| (known.names.len(), known.state_bytes));
        Added { partition, names: Vec::new(), counts: vec![0; names], state_bytes }
    }

    /// Returns the window from `start` to `end`, over the partitions that have it open.
    fn window(&self, start: i64, end: i64) -> Window {
        let open = || self.partitions.iter().filter(|(_, partition)| (partition.start, partition.end) == (start, end));
        Window {
            start,
            end,
            counts: sum(open().map(|(_, partition)| (&partition.names, &partition.window))),
            totals: sum(open().map(|(_, partition)| (&partition.names, &partition.totals))),
            partitions: open().map(|(index, _)| *index).collect(),
        }
    }

    /// Applies the changes of a committed step.
    pub fn apply(&mut self, delta: &Delta) {
        self.partitions.values_mut().for_each(|partition| partition.close(delta.now, self.every));
        for added in &delta.added {
            let partition = self.partitions.entry(added.partition).or_insert_with(|| PartitionCounts::new(delta.now, self.every));
            partition.add(added);
        }
    }

    /// Returns the states of `partitions`, to be committed with their offsets. Every partition whose offset is committed must be
    /// included, because a commit without a state would erase the state before.
    pub fn states(&self, partitions: impl Iterator<Item = i32>) -> Vec<(i32, String)> {
        let partitions: BTreeSet<i32> = partitions.collect();
        let state = |index: &i32| Some((*index, self.partitions.get(index)?.state().to_metadata()));
        partitions.iter().filter_map(state).collect()
    }

    /// Begins to count `partition` at `now`. `state` covers the records before the offset at which reading goes on.
    pub fn restore(&mut self, partition: i32, now: i64, state: &State) {
        let mut restored = PartitionCounts::new(now, self.every);
        // This process's clock may be behind the clock that wrote the state: a window that was sent must not begin anew.
        if state.open() > 0 || state.window.0 > restored.start {
            (restored.start, restored.end) = state.window;
        }
        (restored.topic, restored.from) = (state.topic.as_str().into(), state.from);
        for (name, (total, window)) in &state.counts {
            let index = match name.as_str() {
                OTHER => 0,
                name => {
                    restored.names.push(name.into());
                    restored.state_bytes += state_bytes(name);
                    restored.names.len() - 1
                }
            };
            for (counters, count) in [(&mut restored.totals, total), (&mut restored.window, window)] {
                counters.resize(restored.names.len(), 0);
                counters[index] = *count;
            }
        }
        self.partitions.insert(partition, restored);
    }

    /// Removes all partitions, because other processes may count them now.
    pub fn clear(&mut self) {
        self.partitions.clear();
    }

    /// Returns the time at which the earliest open window that is worth closing ends, in milliseconds since the epoch.
    pub fn next_close(&self) -> Option<i64> {
        let worth = |partition: &&PartitionCounts| self.emit_empty || partition.window.iter().any(|count| *count > 0);
        self.partitions.values().filter(worth).map(|partition| partition.end).min()
    }

    /// Returns the partitions whose open window begins after `now`, by more than clocks differ, and the time at which the last of
    /// these windows ends. Until then nothing is sent about these partitions.
    pub fn ahead(&self, now: i64) -> Option<(Vec<i32>, i64)> {
        let ahead =
            || self.partitions.iter().filter(|(_, partition)| partition.start.saturating_sub(now) > MAX_CLOCK_SKEW_MILLIS);
        let until = ahead().map(|(_, partition)| partition.end).max()?;
        Some((ahead().map(|(index, _)| *index).collect(), until))
    }

    /// Returns the totals, over all partitions.
    pub fn totals(&self) -> BTreeMap<String, u64> {
        sum(self.partitions.values().map(|partition| (&partition.names, &partition.totals)))
    }

    /// Returns the counts of the open windows, over all partitions.
    pub fn open(&self) -> BTreeMap<String, u64> {
        sum(self.partitions.values().map(|partition| (&partition.names, &partition.window)))
    }
}

impl Added {
    /// Returns the index of the counter for `name`. Makes one if there is room; otherwise the index is that of [`OTHER`].
    fn index(&mut self, known: &[Box<str>], name: Option<&str>) -> usize {
        let Some(name) = name.filter(|name| name.len() <= MAX_NAME_BYTES) else { return 0 };
        let known_len = known.len().max(1);
        if let Some(index) = known.iter().position(|known| **known == *name) {
            return index;
        }
        if let Some(index) = self.names.iter().position(|added| **added == *name) {
            return known_len + index;
        }
        let state_bytes = self.state_bytes + state_bytes(name);
        if name == OTHER || self.counts.len() > MAX_DEVICE_TYPES || state_bytes > MAX_STATE_BYTES {
            return 0;
        }
        self.names.push(name.into());
        self.counts.push(0);
        self.state_bytes = state_bytes;
        self.counts.len() - 1
    }
}

/// Sums parallel lists of names and counters by name, and leaves out zeros.
fn sum<'a>(counters: impl Iterator<Item = (&'a Vec<Box<str>>, &'a Vec<u64>)>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (names, counts) in counters {
        for (name, count) in names.iter().zip(counts).filter(|(_, count)| **count > 0) {
            *sum.entry(name.to_string()).or_default() += count;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(counts: &mut Counts, now: i64, rows: &[(i32, &str)]) -> Vec<Window> {
        let delta = counts.count(now, rows.iter().map(|(partition, name)| (*partition, Some(*name))));
        counts.apply(&delta);
        delta.windows
    }

    fn map(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, count)| (name.to_string(), *count)).collect()
    }

    #[test]
    fn a_window_closes_with_the_first_batch_after_its_end() {
        let mut counts = Counts::new(60_000, false);
        assert_eq!(count(&mut counts, 60_001, &[(0, "android"), (1, "iOS"), (0, "android")]), []);
        assert_eq!(count(&mut counts, 119_999, &[(1, "android")]), []);
        let closed = count(&mut counts, 120_000, &[(0, "iOS")]);
        assert_eq!(closed.len(), 1);
        assert_eq!((closed[0].start, closed[0].end), (60_000, 120_000));
        assert_eq!(closed[0].counts, map(&[("android", 3), ("iOS", 1)]));
        assert_eq!(closed[0].partitions, [0, 1]);
        assert_eq!(counts.open(), map(&[("iOS", 1)]));
        assert_eq!(counts.totals(), map(&[("android", 3), ("iOS", 2)]));
    }

    #[test]
    fn the_message_has_totals_and_the_window() {
        let mut counts = Counts::new(60_000, false);
        count(&mut counts, 0, &[(2, "iOS")]);
        let message = counts.tick(61_000).windows[0].to_json();
        assert_eq!(
            message,
            r#"{"device_type_counts":{"iOS":1},"window":{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:01:00Z","counts":{"iOS":1}},"partitions":[2]}"#
        );
    }

    /// Returns the counts of another process that begins with the committed states.
    fn moved(counts: &Counts, partitions: &[i32], now: i64, every: i64) -> Counts {
        let mut other = Counts::new(every, counts.emit_empty);
        for (partition, metadata) in counts.states(partitions.iter().copied()) {
            other.restore(partition, now, &State::parse(metadata.as_bytes()).unwrap().unwrap());
        }
        other
    }

    #[test]
    fn another_process_goes_on_with_the_open_window() {
        let mut counts = Counts::new(60_000, false);
        count(&mut counts, 1_000, &[(0, "iOS"), (0, OTHER), (1, "android"), (0, "iOS")]);
        let mut other = moved(&counts, &[0, 1], 30_000, 60_000);
        assert_eq!((other.totals(), other.open()), (counts.totals(), counts.open()));
        let closed = count(&mut other, 60_000, &[(1, "android")]);
        assert_eq!((closed.len(), &closed[0].counts), (1, &map(&[("android", 1), ("iOS", 2), (OTHER, 1)])));
        assert_eq!(other.totals()["android"], 2);
    }

    #[test]
    fn a_clock_that_is_behind_does_not_reopen_a_window() {
        let mut counts = Counts::new(60_000, false);
        count(&mut counts, 1_000, &[(0, "iOS")]);
        counts.apply(&counts.tick(120_000));
        let mut other = moved(&counts, &[0], 70_000, 60_000);
        count(&mut other, 70_000, &[(0, "iOS")]);
        assert_eq!(other.tick(180_000).windows[0].start, 120_000);
    }

    #[test]
    fn a_window_that_is_sent_changes_the_states_of_its_partitions() {
        let mut counts = Counts::new(60_000, false);
        count(&mut counts, 1_000, &[(0, "iOS"), (1, "iOS")]);
        let delta = counts.tick(60_000);
        counts.apply(&delta);
        let states = counts.states(delta.windows[0].partitions.iter().copied());
        let states: Vec<_> = states.iter().map(|(_, state)| State::parse(state.as_bytes()).unwrap().unwrap()).collect();
        let found: Vec<_> = states.iter().map(|state| (state.window.0, state.open(), state.total())).collect();
        assert_eq!(found, [(60_000, 0, 1); 2]);
    }

    #[test]
    fn a_window_keeps_its_end_when_the_length_of_windows_changes() {
        let mut counts = Counts::new(60_000, false);
        count(&mut counts, 1_000, &[(0, "iOS")]);
        let mut longer = moved(&counts, &[0], 2_000, 3_600_000);
        let closed = count(&mut longer, 61_000, &[(0, "iOS")]);
        assert_eq!((closed[0].start, closed[0].end), (0, 60_000));
        assert_eq!(longer.next_close(), Some(3_600_000));
        let next = &longer.tick(3_600_000).windows[0];
        assert_eq!((next.start, &next.counts), (60_000, &map(&[("iOS", 1)])), "windows do not overlap");
    }

    #[test]
    fn a_state_obeys_its_limit_with_the_largest_numbers() {
        let mut counts = Counts::new(60_000, false);
        let names: Vec<String> = (0..1_000).map(|index| format!("{index}\u{1}\"{}", "x".repeat(index % 24))).collect();
        count(&mut counts, i64::MAX / 2, &names.iter().map(|name| (0, name.as_str())).collect::<Vec<_>>());
        let partition = counts.partitions.get_mut(&0).unwrap();
        (partition.topic, partition.from) = ("x".repeat(22).into(), i64::MAX);
        (partition.start, partition.end) = (i64::MIN, i64::MIN);
        partition.totals.iter_mut().chain(&mut partition.window).for_each(|counter| *counter = u64::MAX);
        let metadata = partition.state().to_metadata();
        assert!(metadata.len() <= MAX_STATE_BYTES && metadata.len() > MAX_STATE_BYTES - 100, "{}", metadata.len());
    }

    #[test]
    fn an_uncommitted_delta_changes_nothing() {
        let mut counts = Counts::new(1_000, false);
        count(&mut counts, 0, &[(0, "iOS")]);
        let before = counts.clone().totals();
        let first = counts.count(5_000, [(0, Some("iOS"))].into_iter());
        let again = counts.count(5_000, [(0, Some("iOS"))].into_iter());
        assert_eq!(first, again);
        assert_eq!(counts.totals(), before);
    }

    #[test]
    fn an_empty_window_is_silent_unless_wanted() {
        for (emit_empty, windows) in [(false, 0), (true, 1)] {
            let mut counts = Counts::new(1_000, emit_empty);
            count(&mut counts, 0, &[(0, "iOS")]);
            let delta = counts.tick(1_000);
            assert_eq!(delta.windows.len(), 1);
            counts.apply(&delta);
            assert_eq!(counts.next_close().is_some(), emit_empty);
            assert_eq!(counts.tick(2_000).windows.len(), windows);
        }
    }

    #[test]
    fn a_clock_that_jumps_does_not_close_windows_in_masses() {
        let mut counts = Counts::new(1_000, true);
        count(&mut counts, 10_000, &[(0, "iOS")]);
        assert_eq!(count(&mut counts, 3_000, &[(0, "iOS")]), [], "a step back closes nothing");
        assert_eq!(counts.open(), map(&[("iOS", 2)]));
        assert_eq!(count(&mut counts, 9_000_000, &[(0, "iOS")]).len(), 1, "a leap ahead closes one window");
    }

    #[test]
    fn a_clock_that_leaps_ahead_and_back_waits_for_the_window_that_it_has_begun() {
        let mut counts = Counts::new(60_000, false);
        count(&mut counts, 10_000, &[(0, "iOS"), (1, "iOS")]);
        assert_eq!(counts.ahead(10_000), None);
        assert_eq!(count(&mut counts, 3_610_000, &[(0, "iOS")]).len(), 1, "the leap");
        assert_eq!(counts.ahead(3_610_000), None);
        assert_eq!(count(&mut counts, 20_000, &[(0, "iOS")]), [], "it is back");
        assert_eq!(counts.ahead(20_000), Some((vec![0, 1], 3_660_000)));
        assert_eq!(counts.ahead(3_600_000 - MAX_CLOCK_SKEW_MILLIS), None, "clocks differ as much");
        let closed = count(&mut counts, 3_660_000, &[]);
        assert_eq!((closed[0].start, &closed[0].counts), (3_600_000, &map(&[("iOS", 2)])), "nothing is lost");
    }

    #[test]
    fn device_types_obeying_the_limits_have_a_counter_of_their_own() {
        let mut counts = Counts::new(1_000, false);
        let names: Vec<String> = (0..MAX_DEVICE_TYPES).map(|index| format!("type{index}")).collect();
        count(&mut counts, 0, &names.iter().map(|name| (0, name.as_str())).collect::<Vec<_>>());
        assert_eq!(counts.totals().len(), MAX_DEVICE_TYPES);
        assert!(!counts.totals().contains_key(OTHER));
    }

    #[test]
    fn device_types_violating_the_limits_are_counted_as_other() {
        let mut counts = Counts::new(1_000, false);
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        count(&mut counts, 0, &[(0, &long), (0, OTHER), (0, "iOS")]);
        assert_eq!(counts.totals(), map(&[("iOS", 1), (OTHER, 2)]));
        let names: Vec<String> = (0..10_000).map(|index| format!("{index:032}")).collect();
        count(&mut counts, 0, &names.iter().map(|name| (0, name.as_str())).collect::<Vec<_>>());
        let totals = counts.totals();
        assert!(totals.len() <= MAX_DEVICE_TYPES);
        assert_eq!(totals.values().sum::<u64>(), 10_003, "nothing is lost");
        assert!(totals.keys().map(|name| state_bytes(name)).sum::<usize>() <= MAX_STATE_BYTES);
        count(&mut counts, 0, &[(0, "iOS")]);
        assert_eq!(counts.totals()["iOS"], 2, "a known name keeps its counter");
    }

    #[test]
    fn a_row_without_a_device_type_is_counted_too() {
        let mut counts = Counts::new(1_000, false);
        let delta = counts.count(0, [(0, None)].into_iter());
        counts.apply(&delta);
        assert_eq!(counts.totals(), map(&[(OTHER, 1)]));
    }
}
