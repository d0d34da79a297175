//! Checks columns that come back from rules, and trusts nothing in them.

use super::{Column, Kind};
use crate::json;

impl Column {
    /// Checks a column that came from outside and must have `rows` cells. Every later access relies on this check.
    ///
    /// # Errors
    /// The error says what is wrong, with the row if one row is wrong.
    pub fn check(&self, rows: usize) -> Result<(), String> {
        if self.kinds.len() != rows || self.ends.len() != rows {
            return Err(format!("it has {} kinds and {} ends for {rows} rows", self.kinds.len(), self.ends.len()));
        }
        let mut start = 0;
        let text = std::str::from_utf8(&self.bytes);
        for (row, (kind, end)) in self.kinds.iter().zip(&self.ends).enumerate() {
            let end = *end as usize;
            if end < start || end > self.bytes.len() {
                return Err(format!("in row {row} the cell ends at {end}, after {start} and within {} bytes", self.bytes.len()));
            }
            let cell = &self.bytes[start..end];
            let sound = match Kind::from_byte(*kind) {
                None => return Err(format!("in row {row} the kind is {kind}, which is none")),
                Some(Kind::Absent | Kind::Null) => cell.is_empty(),
                Some(Kind::Boolean) => matches!(cell, b"true" | b"false"),
                Some(Kind::Number) => json::is_number(cell),
                Some(Kind::Composite) => json::is_composite(cell),
                Some(Kind::Text) => match &text {
                    Ok(text) => text.is_char_boundary(start) && text.is_char_boundary(end),
                    Err(_) => std::str::from_utf8(cell).is_ok(),
                },
            };
            if !sound {
                let depth = if *kind == Kind::Composite as u8 { json::exceeded_depth(cell) } else { None };
                let depth = depth.map_or_else(String::new, |levels| format!(" of at most {levels} levels"));
                return Err(format!("in row {row} the cell is no {}{depth}: {}", name(*kind), excerpt(cell)));
            }
            start = end;
        }
        if start != self.bytes.len() {
            return Err(format!("{} bytes follow the last cell", self.bytes.len() - start));
        }
        Ok(())
    }
}

/// Returns the content that a cell of `kind` must have, for a message.
fn name(kind: u8) -> &'static str {
    match Kind::from_byte(kind) {
        Some(Kind::Boolean) => "`true` or `false`",
        Some(Kind::Number) => "JSON number",
        Some(Kind::Text) => "UTF-8 text",
        Some(Kind::Composite) => "JSON object or array",
        _ => "empty cell",
    }
}

/// Returns the beginning of `cell` in printable characters.
fn excerpt(cell: &[u8]) -> String {
    const MAX_EXCERPT_BYTES: usize = 64;
    format!("`{}`", cell[..cell.len().min(MAX_EXCERPT_BYTES)].escape_ascii())
}
