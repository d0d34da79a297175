//! A counts message, and the knowledge that a cut gives of its partitions.

use std::collections::{BTreeMap, BTreeSet};

use weir_core::state::State;

use weir_core::position::Position;

/// Two counts of a type: in the window, and since counting began.
pub(super) type Pair = (u64, u64);

/// A counts message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentWindow {
    pub(super) at: Position,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) partitions: BTreeSet<i32>,
    pub(super) counts: BTreeMap<Box<str>, Pair>,
}

/// The knowledge that the cut gives of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) enum Knowledge<'a> {
    /// The partition has a state. `anew` is true if an earlier state, which is gone, counted the partition before.
    State { state: &'a State, anew: bool },
    /// The group has committed no offset of the partition.
    Nothing,
    /// The partition has an offset without a state.
    Stateless,
    /// The input has no such partition.
    Absent,
}

/// The side of the cut on which a window of one partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
    Unknown,
    Absent,
}

impl Knowledge<'_> {
    pub(super) fn side(self, start: i64) -> Side {
        match self {
            Knowledge::State { state, .. } if start < state.window.0 => Side::Before,
            Knowledge::State { .. } | Knowledge::Nothing => Side::After,
            Knowledge::Stateless => Side::Unknown,
            Knowledge::Absent => Side::Absent,
        }
    }
}
