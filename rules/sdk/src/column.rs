//! The packing of rows: a column to read cells from, and a column to write cells into. Authors of rules see neither.
//!
//! Almost all functions here are always inlined: in Wasm a call costs more than the work of these functions.

use self::trust::{trusted_cell, trusted_text};
use crate::abi::Column;

/// The kind of a cell's content. The discriminants are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The message has no such field.
    Absent = 0,
    /// `null`.
    Null = 1,
    /// `true` or `false`.
    Boolean = 2,
    /// A number. Its text is exactly as it was sent.
    Number = 3,
    /// A string.
    Text = 4,
    /// An object or an array.
    Composite = 5,
}

impl Kind {
    #[inline]
    pub(crate) fn of(byte: u8) -> Kind {
        match byte {
            0 => Kind::Absent,
            1 => Kind::Null,
            2 => Kind::Boolean,
            3 => Kind::Number,
            4 => Kind::Text,
            5 => Kind::Composite,
            other => panic!("a cell has the kind {other}, which this version of weir-rule does not know: build the rule anew"),
        }
    }
}

/// A column of a batch, to read from.
pub(crate) struct ColumnReader<'a> {
    kinds: &'a [u8],
    ends: &'a [u32],
    text: &'a str,
}

impl<'a> ColumnReader<'a> {
    /// # Panics
    /// If the column does not have `rows` cells or, natively, is not UTF-8.
    pub(crate) fn new(column: &'a Column, rows: usize) -> ColumnReader<'a> {
        let Column { kinds, ends, bytes } = column;
        assert!(kinds.len() == rows && ends.len() == rows, "a column has another number of cells than the batch has rows");
        ColumnReader { kinds, ends, text: trusted_text(bytes) }
    }

    #[inline(always)]
    pub(crate) fn kind(&self, row: usize) -> Kind {
        Kind::of(self.kinds[row])
    }

    /// Returns whether the cell is of this kind. This is cheaper than to find out which kind it is.
    #[inline(always)]
    pub(crate) fn is(&self, row: usize, kind: Kind) -> bool {
        self.kinds[row] == kind as u8
    }

    /// Returns whether the cell is absent or null.
    #[inline(always)]
    pub(crate) fn is_missing(&self, row: usize) -> bool {
        self.kinds[row] <= Kind::Null as u8
    }

    #[inline(always)]
    pub(crate) fn text(&self, row: usize) -> &'a str {
        trusted_cell(self.text, start(self.ends, row), self.ends[row] as usize)
    }
}

/// The access to the bytes of a column. In Wasm, the promises of the host are relied on and not checked again: the host made the
/// columns and controls the whole sandbox anyway, and the checks would cost as much as a cheap rule. Natively any code can make a
/// column, so there everything is checked.
#[cfg(target_family = "wasm")]
mod trust {
    #[inline(always)]
    pub(super) fn trusted_text(bytes: &[u8]) -> &str {
        // SAFETY: `wit/rule.wit` promises UTF-8 for every cell, so that the whole column is UTF-8.
        unsafe { str::from_utf8_unchecked(bytes) }
    }

    #[inline(always)]
    pub(super) fn trusted_cell(text: &str, start: usize, end: usize) -> &str {
        // SAFETY: `wit/rule.wit` promises that ends never decrease, that the last is the column's length, and that every cell
        // is UTF-8 by itself, so that cells end between characters.
        unsafe { text.get_unchecked(start..end) }
    }
}

#[cfg(not(target_family = "wasm"))]
mod trust {
    #[inline]
    pub(super) fn trusted_text(bytes: &[u8]) -> &str {
        str::from_utf8(bytes).expect("the cells of a column are UTF-8")
    }

    #[inline]
    pub(super) fn trusted_cell(text: &str, start: usize, end: usize) -> &str {
        &text[start..end]
    }
}

#[inline(always)]
fn start(ends: &[u32], row: usize) -> usize {
    if row == 0 { 0 } else { ends[row - 1] as usize }
}

/// A column of an outcome, to write into, row after row. A cell that is not written is absent.
///
/// The end of a cell is noted only when a later cell begins, so that a sheet costs nothing for rows that do not write into it.
pub(crate) struct ColumnWriter {
    kinds: Vec<u8>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
    /// The first row whose cell has not begun. The ends of all cells before row `next - 1` are noted.
    next: usize,
}

impl ColumnWriter {
    /// The expected size of a cell, in bytes: that of a date and time. A larger cell costs a reallocation, a smaller one some
    /// memory.
    const TYPICAL_CELL: usize = 24;

    pub(crate) fn new(rows: usize) -> ColumnWriter {
        ColumnWriter { kinds: vec![0; rows], ends: vec![0; rows], bytes: Vec::with_capacity(rows * Self::TYPICAL_CELL), next: 0 }
    }

    /// Begins the cell of `row` anew. The bytes pushed next are its content. Rows begin in ascending order.
    #[inline(always)]
    pub(crate) fn begin(&mut self, row: usize, kind: Kind) -> &mut ColumnWriter {
        self.kinds[row] = kind as u8;
        if row < self.next {
            self.bytes.truncate(start(&self.ends, row));
        } else {
            self.end_before(row);
            self.next = row + 1;
        }
        self
    }

    /// Notes the end of every cell before `row` whose end is not noted yet. Mostly that is only the cell right before it.
    #[inline(always)]
    fn end_before(&mut self, row: usize) {
        let end = self.bytes.len() as u32; // `into_column` checks that it fits
        for ended in &mut self.ends[self.next.saturating_sub(1)..row] {
            *ended = end;
        }
    }

    /// Makes the cell of `row` absent, whatever was written into it before.
    #[cold]
    pub(crate) fn forget(&mut self, row: usize) {
        self.begin(row, Kind::Absent);
    }

    #[inline(always)]
    pub(crate) fn push_str(&mut self, piece: &str) {
        self.push(piece.as_bytes());
    }

    /// Appends a piece, and returns its bytes so that the caller can change them.
    #[inline(always)]
    pub(crate) fn push_template(&mut self, piece: &[u8]) -> &mut [u8] {
        let start = self.bytes.len();
        self.push(piece);
        &mut self.bytes[start..]
    }

    /// Appends the first `length` bytes of `padded`.
    #[inline(always)]
    pub(crate) fn push_padded<const N: usize>(&mut self, padded: &[u8; N], length: usize) {
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(padded);
        self.bytes.truncate(end);
    }

    /// Appends bytes. In Wasm a copy of a length that the compiler does not know is a call out of the sandbox, which costs more
    /// than most cells do. A short piece is therefore copied in two parts of a fixed length: its first and its last bytes, which
    /// overlap.
    #[inline(always)]
    fn push(&mut self, piece: &[u8]) {
        match piece.len() {
            4..=8 => self.push_ends::<4>(piece),
            9..=16 => self.push_ends::<8>(piece),
            17..=32 => self.push_ends::<16>(piece),
            _ => self.bytes.extend_from_slice(piece),
        }
    }

    /// Appends a piece of `N` to `2 * N` bytes.
    #[inline(always)]
    fn push_ends<const N: usize>(&mut self, piece: &[u8]) {
        if let (Some(first), Some(last)) = (piece.first_chunk::<N>(), piece.last_chunk::<N>()) {
            let end = self.bytes.len() + piece.len();
            self.bytes.extend_from_slice(first);
            self.bytes.truncate(end - N);
            self.bytes.extend_from_slice(last);
        }
    }

    /// # Panics
    /// If the column has 4 GiB or more, which is impossible in Wasm.
    pub(crate) fn into_column(mut self) -> Column {
        assert!(u32::try_from(self.bytes.len()).is_ok(), "a column is below 4 GiB");
        self.end_before(self.ends.len());
        Column { kinds: self.kinds, ends: self.ends, bytes: self.bytes }
    }
}
