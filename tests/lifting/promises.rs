//! The promises that `wit/rule.wit` makes of an outcome, written a second time from its text alone. The property tests use them
//! to check outcomes; they share no code with the host. JSON is checked by serde_json, except for numbers: the contract requires
//! the grammar, serde_json a value that it can hold.

use serde::de::IgnoredAny;
use weir_core::column::Column;
use weir_core::pipeline::Outcome;

/// Returns whether `outcome` keeps the contract for a batch of `rows` rows and a manifest with this number of writes and reasons.
pub fn kept(outcome: &Outcome, rows: usize, writes: usize, reasons: usize) -> bool {
    let ascending = outcome.rejections.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let known = outcome.rejections.iter().all(|(row, reason, _)| (*row as usize) < rows && (*reason as usize) < reasons);
    let columns = outcome.columns.len() == writes && outcome.columns.iter().all(|column| is_column(column, rows));
    ascending && known && columns
}

/// Returns whether `column` has a valid cell for each of `rows` rows and nothing else.
pub fn is_column(column: &Column, rows: usize) -> bool {
    column.kinds.len() == rows
        && column.ends.len() == rows
        && column.ends.is_sorted()
        && column.ends.last().map_or(0, |end| *end as usize) == column.bytes.len()
        && (0..rows).all(|row| is_cell(column.kinds[row], cell(column, row)))
}

/// Returns the bytes of cell `row` of a column whose `ends` are valid.
pub fn cell(column: &Column, row: usize) -> &[u8] {
    let start = if row == 0 { 0 } else { column.ends[row - 1] as usize };
    &column.bytes[start..column.ends[row] as usize]
}

fn is_cell(kind: u8, bytes: &[u8]) -> bool {
    match kind {
        0 | 1 => bytes.is_empty(),
        2 => bytes == b"true" || bytes == b"false",
        3 => is_number(bytes),
        4 => std::str::from_utf8(bytes).is_ok(),
        5 => is_composite(bytes),
        _ => false,
    }
}

/// Checks the grammar of RFC 8259: `[ minus ] int [ frac ] [ exp ]`.
fn is_number(bytes: &[u8]) -> bool {
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let Some(rest) = unsigned.strip_prefix(b"0").or_else(|| digits(unsigned)) else { return false };
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => match digits(fraction) {
            Some(rest) => rest,
            None => return false,
        },
        None => rest,
    };
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => digits(exponent) == Some(b""),
        _ => false,
    }
}

/// Returns the bytes after one or more digits.
fn digits(bytes: &[u8]) -> Option<&[u8]> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| &bytes[count..])
}

/// Returns whether the bytes are an object or array from the first byte to the last.
fn is_composite(bytes: &[u8]) -> bool {
    let ends = |open, close| bytes.first() == Some(&open) && bytes.last() == Some(&close);
    let json = |text| serde_json::from_str::<IgnoredAny>(text).is_ok();
    (ends(b'{', b'}') || ends(b'[', b']')) && std::str::from_utf8(bytes).is_ok_and(json)
}
