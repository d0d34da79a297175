//! Points in time as messages carry them, and as text. There is no clock: the time of the batch is [`Row::processed_at`].

mod template;

pub use template::Template;

use crate::{Cause, Field, Key, Kind, Row, Verdict, number};

/// The last second of the year 9999, UTC, since the Unix epoch. A larger number is most likely in milliseconds.
pub const LAST_SECOND: i64 = 253_402_300_799;

/// Returns the field as seconds since the Unix epoch: a number, whose fraction is cut off towards zero, or a string that holds an
/// integer. Returns `None` for anything else, and outside 0 to [`LAST_SECOND`].
///
/// Numbers count by their value: `1.7e9` is 1700000000, and `-0.5` is 0, as its fraction is cut off.
#[inline]
#[track_caller]
pub fn epoch_seconds(row: &Row<'_>, field: impl Key<Field>) -> Option<i64> {
    let text = row.number_or_text(field)?;
    let seconds = number::digits(text).or_else(|| seconds_of(row, field, text));
    seconds.filter(|seconds| (0..=LAST_SECOND).contains(seconds))
}

/// Returns a rejection for a field that [`epoch_seconds`] can't read. The detail is the value of the field, and the unit if the
/// value is a time in a smaller one.
#[cold]
#[inline(never)]
#[track_caller]
pub fn reject_seconds(row: &Row<'_>, reason: impl Into<Cause>, field: impl Key<Field>) -> Verdict {
    let unit = row.number_or_text(field).and_then(|text| Some((text, smaller_unit(seconds_of(row, field, text)?)?)));
    match unit {
        Some((text, unit)) => Verdict::reject_with(reason, format!("{text}: seconds are expected; {unit}?")),
        None => row.reject(reason, field),
    }
}

/// Returns the value of a number without its fraction, or of a text that is an integer.
#[track_caller]
fn seconds_of(row: &Row<'_>, field: impl Key<Field>, text: &str) -> Option<i64> {
    if row.kind(field) == Kind::Number { number::truncated(text) } else { number::integer_text(text) }
}

/// Returns the largest unit below a second in which `time` is before the year 10,000, if `time` can't be in seconds.
fn smaller_unit(time: i64) -> Option<&'static str> {
    let units = [(1_000, "milliseconds"), (1_000_000, "microseconds"), (1_000_000_000, "nanoseconds")];
    units.into_iter().filter(|_| time > LAST_SECOND).find(|(factor, _)| time / factor <= LAST_SECOND).map(|(_, unit)| unit)
}
