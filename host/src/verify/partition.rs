//! What is known of one input partition: the cut, the records that are there, and what became of them.
//!
//! Four sets of offsets, as bitmaps. A set takes at most 8 KiB for every 65,536 offsets that it has any of, and no more than
//! two bytes a record where there are few of them. No offset past the end of the input gets in, so a forged one costs nothing.

use std::ops::Range;

use roaring::RoaringTreemap;

use weir_core::state::State;

/// What the group has committed for a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub partition: i32,
    /// The next offset to be processed; none if the group has not committed any.
    pub committed: Option<i64>,
    /// What was counted up to there.
    pub state: Option<State>,
    /// Why there is no state, if there is an offset without one.
    pub no_state: Option<String>,
}

/// An input partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Partition {
    pub(super) cut: Cut,
    /// The first offset that is judged.
    pub(super) from: u64,
    /// The first offset that is still there, and the one after the last that was there when the input was read.
    pub(super) low: u64,
    pub(super) end: u64,
    /// The records that were read.
    pub(super) seen: RoaringTreemap,
    /// Those that brought headers with names of ours.
    pub(super) marked: RoaringTreemap,
    /// The lowest offset that something was written of, whether or not that is judged.
    pub(super) first: Option<u64>,
    /// Those with an output, and those with a dead letter.
    pub(super) done: [RoaringTreemap; 2],
}

impl Partition {
    /// The offsets that are judged.
    pub(super) fn range(&self) -> Range<u64> {
        let committed = self.cut.committed.map_or(0, |committed| committed.max(0) as u64);
        if self.begins_here() {
            return committed..committed;
        }
        self.from..committed.min(self.end).max(self.from)
    }

    /// Whether the group is to begin at its offset: it has no state, and has written nothing of what is below. So it is before
    /// the first batch of a group that starts with what arrives from now on. What is written past the cut is of that batch.
    pub(super) fn begins_here(&self) -> bool {
        self.cut.state.is_none() && self.cut.committed.is_some_and(|committed| !self.wrote_below(committed.max(0) as u64))
    }

    /// Whether something was written of a record before the first that the state counts.
    pub(super) fn began_anew(&self) -> bool {
        self.cut.state.is_some() && self.wrote_below(self.from)
    }

    /// Whether there are records, or something was written of records, before the first that is judged.
    pub(super) fn leaves_out_below(&self) -> bool {
        let start = self.range().start;
        self.cut.committed.is_some() && (self.wrote_below(start) || self.seen.min().is_some_and(|first| first < start))
    }

    fn wrote_below(&self, offset: u64) -> bool {
        self.first.is_some_and(|first| first < offset)
    }

    /// How many of the judged records are in `set`.
    pub(super) fn judged(&self, set: &RoaringTreemap) -> u64 {
        set.range_cardinality(self.range())
    }

    /// The judged input records that have become nothing.
    pub(super) fn missing(&self) -> RoaringTreemap {
        let mut missing = self.seen.clone();
        self.done.iter().for_each(|done| missing -= done);
        let range = self.range();
        missing.remove_range(..range.start);
        missing.remove_range(range.end..);
        missing
    }

    /// How many of the judged offsets are gone from the input without having been read.
    pub(super) fn expired(&self) -> u64 {
        let range = self.range();
        let gone = range.start..self.low.clamp(range.start, range.end);
        (gone.end - gone.start) - self.seen.range_cardinality(gone)
    }

    /// How many records wait past the cut.
    pub(super) fn waiting(&self) -> u64 {
        self.seen.range_cardinality(self.range().end..)
    }

    /// Input records that follow each other in `missing`, as ranges with the number of records in each. Two of them follow each
    /// other if the input has none between: markers of transactions take up offsets too.
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

    /// Stores the sets as small as they can be.
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

    fn partition(committed: i64) -> Partition {
        let cut = Cut { committed: Some(committed), ..Cut::default() };
        Partition { cut, end: 100, seen: (0..100).collect(), ..Partition::default() }
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
        assert_eq!((partition.judged(&partition.seen), partition.waiting()), (3, 90));
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
