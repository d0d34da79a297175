//! The facts of one input partition: the cut, the records that exist, and the outputs and dead letters of each.
//!
//! A partition has four sets of offsets, as bitmaps. A set takes at most 8 KiB for every 65,536 offsets of which it has any, and
//! at most two bytes a record if it has few of them. Offsets past the end of the input are not added, so forged offsets take no
//! memory.
//!
//! A record is *judged* if its offset is in the range that is checked at a cut (`InputPartition::range`).

use std::ops::Range;

use roaring::RoaringTreemap;

use weir_core::state::State;

/// The offset and the state that the group has committed for a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionCut {
    pub partition: i32,
    /// The next offset to be processed. None if the group has not committed any.
    pub committed: Option<i64>,
    /// The counts up to that offset.
    pub state: Option<State>,
    /// The reason why there is no state, if there is an offset without one.
    pub no_state: Option<String>,
}

/// The facts of an input partition.
#[derive(Clone, Debug, Default)]
pub(super) struct InputPartition {
    pub(super) cut: PartitionCut,
    /// The first offset that is judged.
    pub(super) from: u64,
    /// The first offset that still exists, and the offset after the last that existed when the input was read.
    pub(super) low: u64,
    pub(super) end: u64,
    /// The records that were read.
    pub(super) seen: RoaringTreemap,
    /// The records that came with headers of the names that the engine writes.
    pub(super) marked: RoaringTreemap,
    /// The lowest offset that has an output or a dead letter, whether or not that offset is judged.
    pub(super) first: Option<u64>,
    /// The records with an output, and the records with a dead letter.
    pub(super) done: [RoaringTreemap; 2],
}

impl InputPartition {
    /// Returns the range of the offsets that are judged.
    pub(super) fn range(&self) -> Range<u64> {
        let committed = self.cut.committed.map_or(0, |committed| committed.max(0) as u64);
        if self.begins_here() {
            return committed..committed;
        }
        self.from..committed.min(self.end).max(self.from)
    }

    /// Returns whether the group is to begin at its committed offset: the partition has no state, and no record below has an
    /// output or a dead letter. The cut then comes before the first batch of a group that starts with the records that arrive
    /// from now on. Outputs past the cut belong to that batch.
    pub(super) fn begins_here(&self) -> bool {
        self.cut.state.is_none() && self.cut.committed.is_some_and(|committed| !self.wrote_below(committed.max(0) as u64))
    }

    /// Returns whether a record before the first that the state counts has an output or a dead letter.
    pub(super) fn began_anew(&self) -> bool {
        self.cut.state.is_some() && self.wrote_below(self.from)
    }

    /// Returns whether there are records before the first judged one, or outputs or dead letters of such records.
    pub(super) fn leaves_out_below(&self) -> bool {
        let start = self.range().start;
        self.cut.committed.is_some() && (self.wrote_below(start) || self.seen.min().is_some_and(|first| first < start))
    }

    fn wrote_below(&self, offset: u64) -> bool {
        self.first.is_some_and(|first| first < offset)
    }

    /// Returns the number of judged records in `set`.
    pub(super) fn audited(&self, set: &RoaringTreemap) -> u64 {
        set.range_cardinality(self.range())
    }

    /// Returns the judged input records that have neither an output nor a dead letter.
    pub(super) fn missing(&self) -> RoaringTreemap {
        let mut missing = self.seen.clone();
        self.done.iter().for_each(|done| missing -= done);
        let range = self.range();
        missing.remove_range(..range.start);
        missing.remove_range(range.end..);
        missing
    }

    /// Returns the number of judged offsets that are gone from the input and were not read before.
    pub(super) fn expired(&self) -> u64 {
        let range = self.range();
        let gone = range.start..self.low.clamp(range.start, range.end);
        (gone.end - gone.start) - self.seen.range_cardinality(gone)
    }

    /// Returns the number of records that wait past the cut.
    pub(super) fn waiting(&self) -> u64 {
        self.seen.range_cardinality(self.range().end..)
    }

    /// Returns the records in `missing` as ranges of neighbours, each with its number of records. Two records are neighbours if
    /// the input has no record between them. Their offsets may still have a gap, because markers of transactions take up offsets
    /// too.
    pub(super) fn ranges<'a>(&'a self, missing: &'a RoaringTreemap) -> impl Iterator<Item = (u64, u64, u64)> + 'a {
        let mut offsets = missing.iter().peekable();
        std::iter::from_fn(move || {
            let first = offsets.next()?;
            let (mut last, mut records) = (first, 1);
            while let Some(next) = offsets.next_if(|next| self.seen.range_cardinality(last + 1..*next) == 0) {
                (last, records) = (next, records + 1);
            }
            Some((first, last, records))
        })
    }

    /// Stores the sets in as little memory as possible.
    pub(super) fn optimize(&mut self) {
        let [outputs, letters] = &mut self.done;
        for set in [&mut self.seen, &mut self.marked, outputs, letters] {
            set.optimize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(committed: i64) -> InputPartition {
        let cut = PartitionCut { committed: Some(committed), ..PartitionCut::default() };
        InputPartition { cut, end: 100, seen: (0..100).collect(), ..InputPartition::default() }
    }

    #[test]
    fn records_on_both_sides_of_a_marker_follow_each_other() {
        let mut partition = partition(100);
        partition.first = Some(0);
        partition.seen.remove(50);
        partition.done[0] = (0..100).filter(|offset| !(48..53).contains(offset) && *offset != 60).collect();
        let missing = partition.missing();
        assert_eq!(partition.ranges(&missing).collect::<Vec<_>>(), [(48, 52, 4), (60, 60, 1)]);
    }

    #[test]
    fn only_what_is_committed_can_be_missing() {
        let mut partition = partition(10);
        partition.from = 7;
        partition.first = Some(7);
        assert_eq!(partition.missing().iter().collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!((partition.audited(&partition.seen), partition.waiting()), (3, 90));
    }

    #[test]
    fn what_was_read_before_it_expired_is_still_known() {
        let mut partition = partition(60);
        (partition.low, partition.first) = (40, Some(0));
        assert_eq!(partition.expired(), 0);
        partition.seen.remove_range(..40);
        assert_eq!(partition.expired(), 40);
    }
}
