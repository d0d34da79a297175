//! Packed columns: one field of every row of a batch, laid out as the contract in `wit/rule.wit` says.
//!
//! The host fills columns from messages, and checks columns that come back from rules. [`Column::check`] trusts nothing in such a
//! column. This module leaves out where cells come from ([`crate::json`]) and which code reads them ([`crate::pipeline`]).

mod check;

use std::ops::Range;

use crate::record::MAX_KEPT_BYTES;

/// The kind of a cell's content. The bytes are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The message has no such field.
    Absent = 0,
    /// `null`.
    Null = 1,
    /// `true` or `false`, as JSON text.
    Boolean = 2,
    /// A number, as the JSON text that was sent.
    Number = 3,
    /// A string, unescaped.
    Text = 4,
    /// An object or array, as the JSON text that was sent.
    Composite = 5,
}

impl Kind {
    /// Returns the kind that `byte` stands for.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            0 => Kind::Absent,
            1 => Kind::Null,
            2 => Kind::Boolean,
            3 => Kind::Number,
            4 => Kind::Text,
            5 => Kind::Composite,
            _ => return None,
        })
    }
}

/// One field of every row of a batch: cell `i` is `bytes[ends[i - 1]..ends[i]]` and of the kind `kinds[i]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// One [`Kind`] per row, as its byte.
    pub kinds: Vec<u8>,
    /// The end of each cell in `bytes`.
    pub ends: Vec<u32>,
    /// The cells, one after the other.
    pub bytes: Vec<u8>,
}

impl Column {
    /// Returns the number of cells.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Returns whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Removes the cells and keeps the buffers. Shrinks `bytes` if a rule has filled it with an unusual amount.
    pub fn clear(&mut self) {
        self.kinds.clear();
        self.ends.clear();
        self.bytes.clear();
        self.bytes.shrink_to(MAX_KEPT_BYTES);
    }

    /// Appends a cell.
    #[inline]
    pub fn push(&mut self, kind: Kind, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.close(kind);
    }

    /// Appends a cell with the bytes `part` of `message`. Most cells are short: they are copied together with what follows them in
    /// the message, which is then cut off, because a copy of a fixed length takes less time.
    #[inline]
    pub fn push_part(&mut self, kind: Kind, message: &[u8], part: Range<usize>) {
        const SHORT: usize = 16;
        match message.get(part.start..).and_then(<[u8]>::first_chunk::<SHORT>) {
            Some(chunk) if part.len() <= SHORT => {
                let end = self.bytes.len() + part.len();
                self.bytes.extend_from_slice(chunk);
                self.bytes.truncate(end);
            }
            _ => self.bytes.extend_from_slice(&message[part]),
        }
        self.close(kind);
    }

    /// Appends a cell that consists of the bytes that were added to `bytes` since the last cell.
    #[inline]
    pub fn close(&mut self, kind: Kind) {
        self.kinds.push(kind as u8);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Returns the kind of cell `row`, as its byte.
    #[inline]
    pub fn kind(&self, row: usize) -> u8 {
        self.kinds[row]
    }

    /// Returns the bytes of cell `row`.
    #[inline]
    pub fn cell(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.bytes[start..self.ends[row] as usize]
    }

    /// Returns the cells in order: their kinds as bytes, and their bytes.
    pub fn cells(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let cells = starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize]);
        self.kinds.iter().copied().zip(cells)
    }

    /// Returns the text of each cell, or None for a cell that is not text.
    pub fn texts(&self) -> impl Iterator<Item = Option<&str>> {
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let texts = starts.zip(&self.ends).map(|(start, end)| text.get(start as usize..*end as usize));
        self.kinds.iter().zip(texts).map(|(kind, text)| text.filter(|_| *kind == Kind::Text as u8))
    }

    /// Returns the cells `from..to`, as a column of their own.
    pub fn part(&self, from: usize, to: usize) -> Column {
        let mut part = Column::default();
        part.extend(self, from, to);
        part
    }

    /// Appends the cells `from..to` of `other`.
    ///
    /// # Panics
    /// If the column's bytes would exceed 4 GiB. The results of rules are bounded to less.
    pub fn extend(&mut self, other: &Column, from: usize, to: usize) {
        let first = if from == 0 { 0 } else { other.ends[from - 1] };
        let last = if to == 0 { 0 } else { other.ends[to - 1] };
        let base = self.bytes.len() as u32;
        self.kinds.extend_from_slice(&other.kinds[from..to]);
        self.bytes.extend_from_slice(&other.bytes[first as usize..last as usize]);
        u32::try_from(self.bytes.len()).expect("a column is far below 4 GiB");
        self.ends.extend(other.ends[from..to].iter().map(|end| end - first + base));
    }

    /// Removes the cells of `rows`, which ascend.
    pub fn remove(&mut self, rows: &[u32]) {
        let (mut row, mut byte) = (rows.first().map_or(self.len(), |row| *row as usize), 0);
        byte += if row == 0 { 0 } else { self.ends[row - 1] };
        for (index, removed) in rows.iter().enumerate() {
            let from = *removed as usize + 1;
            let to = rows.get(index + 1).map_or(self.len(), |next| *next as usize);
            let first = self.ends[from - 1];
            let last = if to == from { first } else { self.ends[to - 1] };
            self.kinds.copy_within(from..to, row);
            self.bytes.copy_within(first as usize..last as usize, byte as usize);
            self.ends.copy_within(from..to, row);
            let moved = row..row + (to - from);
            row = moved.end;
            // No end is below `first`, and unchecked the whole run is done at once.
            self.ends[moved].iter_mut().for_each(|end| *end = end.wrapping_sub(first - byte));
            byte += last - first;
        }
        self.kinds.truncate(row);
        self.ends.truncate(row);
        self.bytes.truncate(byte as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(cells: &[&str]) -> Column {
        let mut column = Column::default();
        cells.iter().for_each(|cell| column.push(Kind::Text, cell.as_bytes()));
        column
    }

    #[test]
    fn removing_rows_leaves_the_others() {
        let cells = ["a", "", "ccc", "dd", "e", "ffff"];
        for mask in 0..1 << cells.len() {
            let removed: Vec<u32> = (0..cells.len() as u32).filter(|row| mask >> row & 1 == 1).collect();
            let kept: Vec<&str> = (0..cells.len()).filter(|row| mask >> row & 1 == 0).map(|row| cells[row]).collect();
            let mut found = column(&cells);
            found.remove(&removed);
            assert_eq!(found, column(&kept), "without {removed:?}");
        }
    }

    #[test]
    fn extending_copies_a_range() {
        let mut found = column(&["x"]);
        found.extend(&column(&["a", "bb", "ccc"]), 1, 3);
        assert_eq!(found, column(&["x", "bb", "ccc"]));
    }

    #[test]
    fn a_sound_column_passes() {
        let mut sound = column(&["é", "android"]);
        sound.push(Kind::Number, b"-1.5e3");
        sound.push(Kind::Boolean, b"true");
        sound.push(Kind::Composite, b"[1, {}]");
        sound.push(Kind::Null, b"");
        assert_eq!(sound.check(6), Ok(()));
    }

    #[test]
    fn a_column_that_breaks_the_contract_is_named() {
        let with = |change: fn(&mut Column)| {
            let mut column = column(&["é", "b"]);
            change(&mut column);
            column.check(2).expect_err("the column is broken")
        };
        assert!(with(|column| column.kinds.truncate(1)).contains("1 kinds"));
        assert!(with(|column| column.ends.push(3)).contains("3 ends"));
        assert!(with(|column| column.ends[0] = 9).contains("ends at 9"));
        assert!(with(|column| column.ends[1] = 1).contains("ends at 1"));
        assert!(with(|column| column.ends[0] = 1).contains("no UTF-8"));
        assert!(with(|column| column.bytes.push(b'x')).contains("1 bytes follow"));
        assert!(with(|column| column.bytes[0] = 0xff).contains("no UTF-8"));
        assert!(with(|column| column.kinds[1] = 6).contains("kind is 6"));
        assert!(with(|column| column.kinds[1] = Kind::Number as u8).contains("no JSON number: `b`"));
        assert!(with(|column| column.kinds[1] = Kind::Null as u8).contains("no empty cell"));
        assert!(with(|column| column.kinds[1] = Kind::Boolean as u8).contains("`true` or `false`"));
        assert!(with(|column| column.kinds[1] = Kind::Composite as u8).contains("JSON object or array"));
    }
}
