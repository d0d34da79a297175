//! The check of the running totals in the counts messages, `device_type_counts`, against each other and against the states.
//!
//! A message has the totals of its partitions together, so only messages of the same partitions can be compared one by one: the
//! totals of a message before its window are the totals of the message before. If partitions move between processes, two bounds
//! remain: totals may not fall, and may not be more than the states have outside their open windows. The first totals of
//! partitions begin with nothing, and their last totals are those of the states.
//!
//! The last message of each set of partitions is kept. At most [`MAX_KEPT_TYPES`] types and partitions are kept in all. Beyond
//! that, the totals of further sets are only compared with the states, and [`Totals::is_whole`] returns false.

use std::collections::{BTreeMap, BTreeSet};
use weir_core::position::Position;
use weir_core::printable::escape_value;

use super::violation::{Violation, ViolationKind};
use super::window::{Knowledge, SentWindow};

/// The most types and partitions that are kept, over all sets. Each takes some 80 bytes.
const MAX_KEPT_TYPES: usize = 1 << 18;
/// The most sudden rises that are kept, to be judged when all windows are known.
const MAX_JUMPS: usize = 1_000;

/// The messages of one set of partitions.
#[derive(Clone, Debug)]
struct Group {
    first: Position,
    start: i64,
    /// The first type that was counted before the first window, and its count.
    before: Option<(Box<str>, u64)>,
    last: Position,
    end: i64,
    totals: BTreeMap<Box<str>, u64>,
}

/// A rise of totals that is larger than the windows explain. It is no violation if the partitions had windows of another set of
/// partitions in the gap, as after a move between processes.
#[derive(Clone, Debug)]
struct Jump {
    partitions: BTreeSet<i32>,
    gap: (i64, i64),
    violation: Violation,
}

/// The totals of the messages before the cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    groups: BTreeMap<BTreeSet<i32>, Group>,
    jumps: Vec<Jump>,
    /// The start of the first window and the end of the last, by partition.
    time_spans: BTreeMap<i32, (i64, i64)>,
    kept: usize,
    crowded: bool,
}

impl Totals {
    /// Takes a message from before the cut. The message is not judged if one of its partitions has no state or was counted anew.
    pub(super) fn take<'a>(&mut self, window: SentWindow, known: &impl Fn(i32) -> Knowledge<'a>) -> Option<Violation> {
        for partition in &window.partitions {
            let range = self.time_spans.entry(*partition).or_insert((window.start, window.end));
            *range = (range.0.min(window.start), range.1.max(window.end));
        }
        if !are_judged(&window.partitions, known) {
            return None;
        }
        // A message that can't be true is not compared with others.
        too_many(&window, known).or_else(|| self.follow(window))
    }

    /// Compares a message with the last one of the same partitions.
    fn follow(&mut self, window: SentWindow) -> Option<Violation> {
        let SentWindow { at, start, end, partitions, counts } = window;

        let totals = || counts.iter().map(|(name, (_, total))| (name.clone(), *total)).collect();
        let Some(group) = self.groups.get_mut(&partitions) else {
            self.kept += counts.len() + partitions.len();
            if self.kept > MAX_KEPT_TYPES {
                self.crowded = true;
                return None;
            }
            let before = counts.iter().find(|(_, (count, total))| total > count);
            let before = before.map(|(name, (count, total))| (name.clone(), total - count));
            let group = Group { first: at.clone(), start, before, last: at, end, totals: totals() };
            self.groups.insert(partitions, group);
            return None;
        };
        if start < group.end {
            // The windows overlap, which `covered` reports.
            return None;
        }
        let names: BTreeSet<&Box<str>> = group.totals.keys().chain(counts.keys()).collect();
        let differing = names.into_iter().find_map(|name| {
            let (count, total) = counts.get(name).copied().unwrap_or_default();
            let (had, has) = (group.totals.get(name).copied().unwrap_or_default(), total - count);
            (had != has).then(|| (name.clone(), had, has, total))
        });
        let gap = (group.end, start);
        let before = std::mem::replace(&mut group.last, at.clone());
        (group.end, self.kept) = (end, self.kept + counts.len() - group.totals.len().min(counts.len()));
        group.totals = totals();
        let (name, had, has, total) = differing?;
        let words = format!(
            "{at} has a running total of {total} of `{}`, {has} of them before its window, where {before} had {had}",
            escape_value(&name)
        );
        let violation = violation(at, words);
        if has < had || gap.0 == gap.1 {
            return Some(violation);
        }
        match self.jumps.len() < MAX_JUMPS {
            true => self.jumps.push(Jump { partitions, gap, violation }),
            false => self.crowded = true,
        }
        None
    }

    /// Returns whether all totals were compared with each other.
    pub(super) fn is_whole(&self) -> bool {
        !self.crowded
    }

    /// Returns the violations that only show when all windows before the cut are known, as they are now.
    pub(super) fn violations<'a>(&self, known: &impl Fn(i32) -> Knowledge<'a>) -> Vec<Violation> {
        let jumps = self.jumps.iter().filter(|jump| are_judged(&jump.partitions, known) && !self.moved(jump));
        let mut wrong: Vec<Violation> = jumps.map(|jump| jump.violation.clone()).collect();
        for (partitions, group) in self.groups.iter().filter(|(partitions, _)| are_judged(partitions, known)) {
            let time_spans = || partitions.iter().filter_map(|partition| self.time_spans.get(partition));
            let is_first = time_spans().all(|(start, _)| *start == group.start);
            if let Some((name, count)) = group.before.as_ref().filter(|_| is_first) {
                let words = format!(
                    "{} is the first of its partitions, and has {count} of `{}` counted before its window",
                    group.first,
                    escape_value(name)
                );
                wrong.push(violation(group.first.clone(), words));
            }
            if time_spans().all(|(_, end)| *end == group.end) {
                wrong.extend(group.last_differs(&closed(partitions, known)));
            }
        }
        wrong
    }

    /// Returns whether another set with some of the partitions sent a window in the gap.
    fn moved(&self, jump: &Jump) -> bool {
        let others = self.groups.iter().filter(|(partitions, _)| **partitions != jump.partitions);
        let mut sharing = others.filter(|(partitions, _)| !partitions.is_disjoint(&jump.partitions));
        sharing.any(|(_, group)| group.start < jump.gap.1 && group.end > jump.gap.0)
    }
}

impl Group {
    /// Compares the last totals with the counts that the states have outside their open windows.
    fn last_differs(&self, closed: &BTreeMap<&str, u64>) -> Option<Violation> {
        let names: BTreeSet<&str> = self.totals.keys().map(|name| &**name).chain(closed.keys().copied()).collect();
        names.into_iter().find_map(|name| {
            let (has, counted) = (self.totals.get(name).copied().unwrap_or_default(), closed.get(name).copied().unwrap_or_default());
            let words = || {
                let (last, name) = (&self.last, escape_value(name));
                format!("{last} is the last of its partitions, with a running total of {has} of `{name}`, and their states have {counted}")
            };
            (has != counted).then(|| violation(self.last.clone(), words()))
        })
    }
}

/// Returns whether all partitions have a state that counts them from their first record on.
fn are_judged<'a>(partitions: &BTreeSet<i32>, known: &impl Fn(i32) -> Knowledge<'a>) -> bool {
    partitions.iter().all(|partition| matches!(known(*partition), Knowledge::State { anew: false, .. }))
}

/// Returns the counts that the states of partitions have outside their open windows, by type.
fn closed<'a>(partitions: &BTreeSet<i32>, known: &impl Fn(i32) -> Knowledge<'a>) -> BTreeMap<&'a str, u64> {
    let mut closed = BTreeMap::new();
    for partition in partitions {
        let Knowledge::State { state, .. } = known(*partition) else { continue };
        for (name, (total, open)) in &state.counts {
            let sum: &mut u64 = closed.entry(name.as_str()).or_default();
            *sum = sum.saturating_add(total.saturating_sub(*open));
        }
    }
    closed
}

/// Returns a violation if a total before the cut is more than the states have. Totals only grow, so none may be.
fn too_many<'a>(window: &SentWindow, known: &impl Fn(i32) -> Knowledge<'a>) -> Option<Violation> {
    let closed = closed(&window.partitions, known);
    let counted = |name: &str| closed.get(name).copied().unwrap_or_default();
    let (name, (_, total)) = window.counts.iter().find(|(name, (_, total))| *total > counted(name))?;
    let words = format!(
        "{} has a running total of {total} of `{}`, and the states of its partitions have {}",
        window.at,
        escape_value(name),
        counted(name)
    );
    Some(violation(window.at.clone(), words))
}

fn violation(at: Position, words: String) -> Violation {
    Violation { kind: ViolationKind::TotalsDiffer, records: 1, at: Some(at), source: None, words }
}

#[cfg(test)]
mod tests {
    use super::super::window::Pair;
    use super::*;
    use weir_core::state::State;

    /// Returns a message of `partitions`, with the counts (window, total) of one type.
    fn window(offset: i64, start: i64, partitions: &[i32], pair: Pair) -> SentWindow {
        let at = Position { topic: "counts".into(), partition: 0, offset: offset as u64 };
        let counts = [("iOS".into(), pair)].into();
        SentWindow { at, start, end: start + 10, partitions: partitions.iter().copied().collect(), counts }
    }

    /// Returns the violations of `windows`, where the state of each partition has `total` outside its open window.
    fn wrong(windows: Vec<SentWindow>, total: u64) -> Vec<String> {
        let mut state = State::new("", 0);
        state.window = (1_000, 1_010);
        state.counts.insert("iOS".into(), (total + 7, 7));
        let known = |_| Knowledge::State { state: &state, anew: false };
        let mut totals = Totals::default();
        let at_once: Vec<Violation> = windows.into_iter().filter_map(|window| totals.take(window, &known)).collect();
        at_once.into_iter().chain(totals.violations(&known)).map(|violation| violation.words).collect()
    }

    #[test]
    fn totals_that_grow_by_their_windows_are_right() {
        let windows = vec![window(0, 0, &[0], (2, 2)), window(1, 10, &[0], (3, 5)), window(2, 90, &[0], (1, 6))];
        assert_eq!(wrong(windows, 6), Vec::<String>::new());
    }

    #[test]
    fn totals_that_do_not_grow_by_their_windows_are_named() {
        for (second, third) in [((3, 6), (1, 7)), ((3, 4), (1, 6)), ((3, 3), (3, 6))] {
            let found = wrong(vec![window(0, 0, &[0], (2, 2)), window(1, 10, &[0], second), window(2, 20, &[0], third)], 6);
            assert!(!found.is_empty() && found[0].contains("running total"), "{second:?}: {found:?}");
        }
        let found = wrong(vec![window(0, 0, &[0], (2, 2)), window(1, 50, &[0], (1, 6))], 6);
        assert_eq!(found, ["counts/0/1 has a running total of 6 of `iOS`, 5 of them before its window, where counts/0/0 had 2"]);
    }

    #[test]
    fn the_first_totals_begin_with_nothing_and_the_last_are_those_of_the_states() {
        let found = wrong(vec![window(0, 0, &[0], (2, 3))], 3);
        assert_eq!(found, ["counts/0/0 is the first of its partitions, and has 1 of `iOS` counted before its window"]);
        let found = wrong(vec![window(0, 0, &[0], (2, 2))], 3);
        assert!(found.len() == 1 && found[0].ends_with("2 of `iOS`, and their states have 3"), "{found:?}");
        let found = wrong(vec![window(0, 0, &[0], (4, 4))], 3);
        assert_eq!(found[0], "counts/0/0 has a running total of 4 of `iOS`, and the states of its partitions have 3");
    }

    #[test]
    fn partitions_that_moved_meanwhile_explain_a_rise() {
        let windows = vec![
            window(0, 0, &[0], (2, 2)),
            window(1, 0, &[1], (1, 1)),
            window(2, 10, &[0, 1], (5, 8)),
            window(3, 20, &[0], (1, 5)),
            window(4, 20, &[1], (1, 5)),
        ];
        assert_eq!(wrong(windows.clone(), 5), Vec::<String>::new());
        let without: Vec<SentWindow> = windows.into_iter().filter(|window| window.at.offset != 2).collect();
        assert_eq!(wrong(without, 5).len(), 2, "nobody had them meanwhile");
    }
}
