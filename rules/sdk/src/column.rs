//! How rows are packed: a column to read cells from, and a column to write cells into. Authors see neither.
//!
//! A column is checked to be UTF-8 as a whole, so that no cell needs a check of its own.

use crate::abi::Column;

/// What a cell holds. The discriminants are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The message has no such member.
    Absent = 0,
    /// `null`.
    Null = 1,
    /// `true` or `false`.
    Boolean = 2,
    /// A number, as exact as it was spelt.
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
pub(crate) struct Cells<'a> {
    kinds: &'a [u8],
    ends: &'a [u32],
    text: &'a str,
}

impl<'a> Cells<'a> {
    /// # Panics
    /// When the column does not have `rows` cells or, natively, is not UTF-8.
    pub(crate) fn new(column: &'a Column, rows: usize) -> Cells<'a> {
        let Column { kinds, ends, bytes } = column;
        assert!(kinds.len() == rows && ends.len() == rows, "a column has another number of cells than the batch has rows");
        Cells { kinds, ends, text: trusted_text(bytes) }
    }

    #[inline]
    pub(crate) fn kind(&self, row: usize) -> Kind {
        Kind::of(self.kinds[row])
    }

    /// Whether the cell is of this kind: cheaper than to find out which kind it is.
    #[inline]
    pub(crate) fn is(&self, row: usize, kind: Kind) -> bool {
        self.kinds[row] == kind as u8
    }

    /// Whether the cell is absent or null.
    #[inline]
    pub(crate) fn is_missing(&self, row: usize) -> bool {
        self.kinds[row] <= Kind::Null as u8
    }

    #[inline]
    pub(crate) fn text(&self, row: usize) -> &'a str {
        &self.text[start(self.ends, row)..self.ends[row] as usize]
    }
}

/// The bytes of a column as text. All cells are UTF-8, so the whole column is.
#[cfg(target_family = "wasm")]
fn trusted_text(bytes: &[u8]) -> &str {
    // SAFETY: the contract promises UTF-8 for every cell, and the host, which made this column, holds the whole sandbox
    // anyway. The check would cost as much as a cheap rule.
    unsafe { str::from_utf8_unchecked(bytes) }
}

/// The bytes of a column as text. All cells are UTF-8, so the whole column is.
#[cfg(not(target_family = "wasm"))]
fn trusted_text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("the cells of a column are UTF-8")
}

#[inline]
fn start(ends: &[u32], row: usize) -> usize {
    if row == 0 { 0 } else { ends[row - 1] as usize }
}

/// A column of an outcome, to write into, row after row. A cell that is not written is absent.
pub(crate) struct Sheet {
    kinds: Vec<u8>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Sheet {
    /// What a cell is expected to take, in bytes: a date and time. More costs a reallocation, less some memory.
    const TYPICAL_CELL: usize = 24;

    pub(crate) fn new(rows: usize) -> Sheet {
        Sheet { kinds: vec![0; rows], ends: vec![0; rows], bytes: Vec::with_capacity(rows * Self::TYPICAL_CELL) }
    }

    /// Begins the cell of `row` anew. What is pushed next is its contents.
    #[inline]
    pub(crate) fn begin(&mut self, row: usize, kind: Kind) -> &mut Sheet {
        self.kinds[row] = kind as u8;
        self.bytes.truncate(start(&self.ends, row));
        self
    }

    /// Makes the cell of `row` absent, whatever was written into it.
    #[cold]
    pub(crate) fn forget(&mut self, row: usize) {
        self.begin(row, Kind::Absent);
    }

    /// Ends the cell of `row`, written or not. Rows are ended in ascending order.
    #[inline]
    pub(crate) fn end(&mut self, row: usize) {
        self.ends[row] = u32::try_from(self.bytes.len()).expect("a column is below 4 GiB");
    }

    #[inline]
    pub(crate) fn push_str(&mut self, piece: &str) {
        self.push(piece.as_bytes());
    }

    /// # Panics
    /// When `piece` is not ASCII.
    #[inline]
    pub(crate) fn push_ascii(&mut self, piece: &[u8]) {
        assert!(is_ascii(piece), "push_ascii was given other bytes than ASCII");
        self.push(piece);
    }

    /// Appends bytes. In Wasm a copy whose length is not known to the compiler is a call out of the sandbox, which costs more
    /// than most cells do. So a short piece is copied as its first and its last bytes, which overlap, and have a fixed length.
    #[inline]
    fn push(&mut self, piece: &[u8]) {
        match piece.len() {
            4..=8 => self.push_ends::<4>(piece),
            9..=16 => self.push_ends::<8>(piece),
            17..=32 => self.push_ends::<16>(piece),
            _ => self.bytes.extend_from_slice(piece),
        }
    }

    /// Appends a piece of `N` to `2 * N` bytes.
    #[inline]
    fn push_ends<const N: usize>(&mut self, piece: &[u8]) {
        if let (Some(first), Some(last)) = (piece.first_chunk::<N>(), piece.last_chunk::<N>()) {
            let end = self.bytes.len() + piece.len();
            self.bytes.extend_from_slice(first);
            self.bytes.truncate(end - N);
            self.bytes.extend_from_slice(last);
        }
    }

    pub(crate) fn into_column(self) -> Column {
        Column { kinds: self.kinds, ends: self.ends, bytes: self.bytes }
    }
}

/// The same as the standard library's, without a loop for texts as long as a date.
#[inline]
fn is_ascii(piece: &[u8]) -> bool {
    const BEYOND: u128 = u128::from_ne_bytes([0x80; 16]);
    match (piece.first_chunk(), piece.last_chunk()) {
        (Some(first), Some(last)) if piece.len() <= 32 => {
            (u128::from_ne_bytes(*first) | u128::from_ne_bytes(*last)) & BEYOND == 0
        }
        _ => piece.is_ascii(),
    }
}
