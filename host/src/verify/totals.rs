//! The running totals in the counts messages, `device_type_counts`, held against each other and against the states.
//!
//! A message has the totals of its partitions together, so only messages of the same partitions can be compared one by one:
//! what one has before its window is what the last one had. Where partitions move between processes, totals still may not fall,
//! nor be more than the states have beside their open windows. The first totals of partitions begin with nothing, and the last
//! ones are what the states have.
//!
//! Kept is the last message of each set of partitions that was ever in one. At most [`MAX_KEPT_TYPES`] are kept in all; past
//! that, the totals of further sets are only held against the states, which [`Totals::is_whole`] says.

use std::collections::{BTreeMap, BTreeSet};

use super::violation::{Kind, Place, Violation};
use super::window::{Known, Window};

/// Types and partitions that are kept, over all sets; some 80 bytes each.
const MAX_KEPT_TYPES: usize = 1 << 18;
/// How many sudden rises are kept, to be judged when all windows are known.
const MAX_JUMPS: usize = 1_000;

/// The messages of one set of partitions.
#[derive(Clone, Debug)]
struct Group {
    first: Place,
    start: i64,
    /// The first type that was counted before the first window, and how often.
    before: Option<(Box<str>, u64)>,
    last: Place,
    end: i64,
    totals: BTreeMap<Box<str>, u64>,
}

/// Totals that are higher than windows explain. If others had the partitions meanwhile, that is as it should be.
#[derive(Clone, Debug)]
struct Jump {
    partitions: BTreeSet<i32>,
    gap: (i64, i64),
    violation: Violation,
}

/// The totals before the cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    groups: BTreeMap<BTreeSet<i32>, Group>,
    jumps: Vec<Jump>,
    /// By partition, the start of its first window and the end of its last.
    extents: BTreeMap<i32, (i64, i64)>,
    kept: usize,
    crowded: bool,
}

impl Totals {
    /// Takes a message from before the cut. Those of partitions that have no state, or were counted anew, are not judged.
    pub(super) fn take<'a>(&mut self, window: Window, known: &impl Fn(i32) -> Known<'a>) -> Option<Violation> {
        for partition in &window.partitions {
            let extent = self.extents.entry(*partition).or_insert((window.start, window.end));
            *extent = (extent.0.min(window.start), extent.1.max(window.end));
        }
        if !are_judged(&window.partitions, known) {
            return None;
        }
        // Others are not compared with one that can't be true.
        too_many(&window, known).or_else(|| self.follow(window))
    }

    /// Holds a message against the last one of the same partitions.
    fn follow(&mut self, window: Window) -> Option<Violation> {
        let Window { at, start, end, partitions, counts } = window;

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
            // It overlaps, which is told elsewhere.
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
            name.escape_debug()
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

    /// Whether all totals were held against each other.
    pub(super) fn is_whole(&self) -> bool {
        !self.crowded
    }

    /// What only shows when all windows before the cut are known, as they are now.
    pub(super) fn judge<'a>(&self, known: &impl Fn(i32) -> Known<'a>) -> Vec<Violation> {
        let jumps = self.jumps.iter().filter(|jump| are_judged(&jump.partitions, known) && !self.moved(jump));
        let mut wrong: Vec<Violation> = jumps.map(|jump| jump.violation.clone()).collect();
        for (partitions, group) in self.groups.iter().filter(|(partitions, _)| are_judged(partitions, known)) {
            let extents = || partitions.iter().filter_map(|partition| self.extents.get(partition));
            let is_first = extents().all(|(start, _)| *start == group.start);
            if let Some((name, count)) = group.before.as_ref().filter(|_| is_first) {
                let words = format!(
                    "{} is the first of its partitions, and has {count} of `{}` counted before its window",
                    group.first,
                    name.escape_debug()
                );
                wrong.push(violation(group.first.clone(), words));
            }
            if extents().all(|(_, end)| *end == group.end) {
                wrong.extend(group.last_differs(&closed(partitions, known)));
            }
        }
        wrong
    }

    /// Whether a window with some of the partitions, and others, was sent in the gap.
    fn moved(&self, jump: &Jump) -> bool {
        let others = self.groups.iter().filter(|(partitions, _)| **partitions != jump.partitions);
        let mut sharing = others.filter(|(partitions, _)| !partitions.is_disjoint(&jump.partitions));
        sharing.any(|(_, group)| group.start < jump.gap.1 && group.end > jump.gap.0)
    }
}

impl Group {
    /// Holds the last totals against what the states have beside their open windows.
    fn last_differs(&self, closed: &BTreeMap<&str, u64>) -> Option<Violation> {
        let names: BTreeSet<&str> = self.totals.keys().map(|name| &**name).chain(closed.keys().copied()).collect();
        names.into_iter().find_map(|name| {
            let (has, counted) = (self.totals.get(name).copied().unwrap_or_default(), closed.get(name).copied().unwrap_or_default());
            let words = || {
                let (last, name) = (&self.last, name.escape_debug());
                format!("{last} is the last of its partitions, with a running total of {has} of `{name}`, and their states have {counted}")
            };
            (has != counted).then(|| violation(self.last.clone(), words()))
        })
    }
}

/// Whether all partitions have a state that counts them from their first message on.
fn are_judged<'a>(partitions: &BTreeSet<i32>, known: &impl Fn(i32) -> Known<'a>) -> bool {
    partitions.iter().all(|partition| matches!(known(*partition), Known::State { anew: false, .. }))
}

/// What the states of partitions count beside their open windows, by type.
fn closed<'a>(partitions: &BTreeSet<i32>, known: &impl Fn(i32) -> Known<'a>) -> BTreeMap<&'a str, u64> {
    let mut closed = BTreeMap::new();
    for partition in partitions {
        let Known::State { state, .. } = known(*partition) else { continue };
        for (name, (total, open)) in &state.counts {
            let sum: &mut u64 = closed.entry(name.as_str()).or_default();
            *sum = sum.saturating_add(total.saturating_sub(*open));
        }
    }
    closed
}

/// Totals only grow, so none before the cut is more than the states have.
fn too_many<'a>(window: &Window, known: &impl Fn(i32) -> Known<'a>) -> Option<Violation> {
    let closed = closed(&window.partitions, known);
    let counted = |name: &str| closed.get(name).copied().unwrap_or_default();
    let (name, (_, total)) = window.counts.iter().find(|(name, (_, total))| *total > counted(name))?;
    let words = format!(
        "{} has a running total of {total} of `{}`, and the states of its partitions have {}",
        window.at,
        name.escape_debug(),
        counted(name)
    );
    Some(violation(window.at.clone(), words))
}

fn violation(at: Place, words: String) -> Violation {
    Violation { kind: Kind::TotalsDiffer, records: 1, at: Some(at), source: None, words }
}

#[cfg(test)]
mod tests {
    use super::super::window::Pair;
    use super::*;
    use weir_core::state::State;

    /// A message of the partitions with (window, total) of one type.
    fn window(offset: i64, start: i64, partitions: &[i32], pair: Pair) -> Window {
        let at = Place { topic: "counts".into(), partition: 0, offset };
        let counts = [("iOS".into(), pair)].into();
        Window { at, start, end: start + 10, partitions: partitions.iter().copied().collect(), counts }
    }

    /// What is found wrong with `windows`, where the state of each partition has `total` beside its open window.
    fn wrong(windows: Vec<Window>, total: u64) -> Vec<String> {
        let mut state = State::new("", 0);
        state.window = (1_000, 1_010);
        state.counts.insert("iOS".into(), (total + 7, 7));
        let known = |_| Known::State { state: &state, anew: false };
        let mut totals = Totals::default();
        let at_once: Vec<Violation> = windows.into_iter().filter_map(|window| totals.take(window, &known)).collect();
        at_once.into_iter().chain(totals.judge(&known)).map(|violation| violation.words).collect()
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
        let without: Vec<Window> = windows.into_iter().filter(|window| window.at.offset != 2).collect();
        assert_eq!(wrong(without, 5).len(), 2, "nobody had them meanwhile");
    }
}
