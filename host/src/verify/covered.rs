//! The time that windows cover, by partition: two messages may not cover the same time of a partition.
//!
//! Windows that follow each other without a gap are kept as one stretch, so a partition that is never idle takes one entry. At
//! most [`MAX_STRETCHES`] stretches are kept. Overlaps with windows beyond that are not found, and [`Covered::is_whole`] returns
//! false.

use std::collections::BTreeMap;

use super::violation::{MAX_KEPT, Violation, ViolationKind};
use super::window::SentWindow;

/// The most stretches that are kept, over all partitions. Each takes some 40 bytes.
const MAX_STRETCHES: usize = 1 << 20;

/// The time that is covered, and the messages that cover some of it a second time.
#[derive(Clone, Debug, Default)]
pub(super) struct Covered {
    /// The start and the end of each stretch, by partition.
    stretches: BTreeMap<i32, BTreeMap<i64, i64>>,
    count: usize,
    /// The messages that overlap another one, each with the partitions for which it does.
    overlaps: Vec<(Vec<i32>, Violation)>,
    unnamed: u64,
    crowded: bool,
}

impl Covered {
    /// Adds a window.
    pub(super) fn add(&mut self, window: &SentWindow) {
        let twice: Vec<i32> = window.partitions.iter().copied().filter(|partition| !self.cover(*partition, window)).collect();
        if twice.is_empty() {
            return;
        }
        if self.overlaps.len() >= MAX_KEPT {
            self.unnamed += 1;
            return;
        }
        let words = format!(
            "{} is of {} to {} ms, and covers partitions {twice:?}, which another message covers for some of that time",
            window.at, window.start, window.end
        );
        let violation =
            Violation { kind: ViolationKind::WindowsOverlap, records: 1, at: Some(window.at.clone()), source: None, words };
        self.overlaps.push((twice, violation));
    }

    /// Marks the time of `window` as covered in a partition. Returns false if some of that time was covered already.
    fn cover(&mut self, partition: i32, window: &SentWindow) -> bool {
        let stretches = self.stretches.entry(partition).or_default();
        let (mut start, mut end) = (window.start, window.end);
        let before = stretches.range(..end).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, before)| before > start) {
            return false;
        }
        if let Some((before, _)) = before.filter(|(_, before)| *before == start) {
            stretches.remove(&before);
            (start, self.count) = (before, self.count - 1);
        }
        if let Some(after) = stretches.remove(&end) {
            (end, self.count) = (after, self.count - 1);
        }
        if self.count >= MAX_STRETCHES {
            self.crowded = true;
            return true;
        }
        stretches.insert(start, end);
        self.count += 1;
        true
    }

    /// Returns whether all windows were compared with each other.
    pub(super) fn is_whole(&self) -> bool {
        !self.crowded
    }

    /// Returns the messages that overlap others, and the number of further ones that have no words. A message is left out if all
    /// partitions of its overlap are counted `anew`: such a partition may have another clock, and its windows may begin earlier
    /// than those before.
    pub(super) fn overlaps(&self, anew: impl Fn(i32) -> bool) -> (impl Iterator<Item = &Violation>, u64) {
        let audited = self.overlaps.iter().filter(move |(partitions, _)| !partitions.iter().all(|partition| anew(*partition)));
        (audited.map(|(_, violation)| violation), self.unnamed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::position::Position;

    fn window(offset: i64, start: i64, end: i64, partitions: &[i32]) -> SentWindow {
        let at = Position { topic: "counts".into(), partition: 0, offset: offset as u64 };
        SentWindow { at, start, end, partitions: partitions.iter().copied().collect(), counts: BTreeMap::new() }
    }

    #[test]
    fn windows_that_follow_each_other_in_any_order_are_one_stretch() {
        let mut covered = Covered::default();
        for start in [0, 20, 40, 10, 30] {
            covered.add(&window(start, start, start + 10, &[0, 1]));
        }
        assert_eq!((covered.stretches[&0].clone(), covered.count), ([(0, 50)].into(), 2));
        assert_eq!(covered.overlaps(|_| false).0.count(), 0);
    }

    #[test]
    fn a_partition_that_is_covered_twice_is_named() {
        for (start, end) in [(10, 20), (5, 11), (19, 30), (0, 90), (12, 13)] {
            let mut covered = Covered::default();
            covered.add(&window(0, 10, 20, &[0, 1]));
            covered.add(&window(1, start, end, &[1, 2]));
            let found: Vec<&str> = covered.overlaps(|_| false).0.map(|violation| violation.words.as_str()).collect();
            let [words] = found[..] else { panic!("{found:?}") };
            assert!(words.starts_with("counts/0/1 is of ") && words.contains("partitions [1]"), "{words}");
            assert_eq!(covered.overlaps(|partition| partition == 1).0.count(), 0, "it is counted anew");
        }
    }

    #[test]
    fn more_than_is_kept_is_said() {
        let mut covered = Covered::default();
        (0..=MAX_STRETCHES as i64).for_each(|index| covered.add(&window(index, 10 * index, 10 * index + 1, &[0])));
        assert!(!covered.is_whole() && covered.count == MAX_STRETCHES);
    }
}
