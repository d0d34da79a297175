//! Points in time as messages carry them. There is no clock: the batch's time is [`Row::processed_at`].

use crate::{Field, Key, Kind, Row, number};

/// The last second of the year 9999, UTC. What is later is most likely milliseconds.
pub const LAST_SECOND: i64 = 253_402_300_799;

/// The member as seconds since the Unix epoch: a number, whose fraction is cut off towards zero, or a string that holds an
/// integer. None for anything else, and outside 0 to [`LAST_SECOND`].
///
/// Numbers count by their value: `1.7e9` is 1700000000, and `-0.5` is 0, as its fraction is cut off.
#[inline]
pub fn epoch_seconds(row: &Row<'_>, member: impl Key<Field>) -> Option<i64> {
    let text = row.number_or_text(member)?;
    let seconds = number::digits(text)
        .or_else(|| if row.kind(member) == Kind::Number { number::truncated(text) } else { number::spelt(text) });
    seconds.filter(|seconds| (0..=LAST_SECOND).contains(seconds))
}
