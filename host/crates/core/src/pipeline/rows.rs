//! The rows of a batch on their way through the rules: the records that are left, and their columns.

use crate::column::{Column, Kind};

/// The rows that no rule has rejected. All columns in use have one cell per row.
#[derive(Debug)]
pub(super) struct Rows {
    /// The index of each row's record in the batch.
    records: Vec<u32>,
    /// For each slot, the column that its readers see.
    pub(super) current: Vec<Column>,
    /// For each slot, the cells that rules wrote. An absent cell stands for the message's own value. None if no rule wrote the
    /// slot.
    written: Vec<Option<Column>>,
    /// True if some rule wrote into every row.
    all_written: bool,
}

impl Rows {
    pub(super) fn new(slots: usize) -> Rows {
        Rows { records: Vec::new(), current: vec![Column::default(); slots], written: vec![None; slots], all_written: false }
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.current.iter_mut().for_each(Column::clear);
        self.written.fill(None);
        self.all_written = false;
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a row whose cells are in `current` already.
    #[inline]
    pub(super) fn push(&mut self, record: usize) {
        self.records.push(record as u32);
    }

    /// Removes the cells that were added for a row that can't be completed.
    pub(super) fn undo_cells(&mut self) {
        let rows = self.len();
        for column in &mut self.current {
            column.kinds.truncate(rows);
            column.ends.truncate(rows);
            column.bytes.truncate(column.ends.last().map_or(0, |end| *end as usize));
        }
    }

    /// Returns the index of each row's record in the batch.
    pub(super) fn records(&self) -> &[u32] {
        &self.records
    }

    /// Returns the index of the record of `row` in the batch.
    #[inline]
    pub(super) fn record(&self, row: usize) -> usize {
        self.records[row] as usize
    }

    /// Takes over a column that a rule wrote. `visible` says whether the slot is read later.
    pub(super) fn write(&mut self, slot: usize, column: Column, visible: bool) {
        if visible {
            self.current[slot] = overlay(&self.current[slot], &column);
        }
        self.all_written |= !column.kinds.contains(&(Kind::Absent as u8));
        let written = &mut self.written[slot];
        *written = Some(match written.take() {
            Some(earlier) => overlay(&earlier, &column),
            None => column,
        });
    }

    /// Removes `rows`, which ascend, from the written columns and from the slots that are still `visible`.
    pub(super) fn remove(&mut self, rows: &[u32], visible: impl Fn(usize) -> bool) {
        if rows.is_empty() {
            return;
        }
        let mut next = rows.iter().copied().peekable();
        let mut row = 0;
        self.records.retain(|_| {
            row += 1;
            next.next_if_eq(&(row - 1)).is_none()
        });
        let current = self.current.iter_mut().enumerate().filter(|(slot, column)| visible(*slot) && !column.is_empty());
        current.map(|(_, column)| column).chain(self.written.iter_mut().flatten()).for_each(|column| column.remove(rows));
    }

    /// Returns whether some rule wrote something into `row`.
    #[inline]
    pub(super) fn is_written(&self, row: usize) -> bool {
        self.all_written || self.written.iter().flatten().any(|column| column.kind(row) != Kind::Absent as u8)
    }

    /// Returns the column that rules wrote to `slot`.
    pub(super) fn written(&self, slot: usize) -> Option<&Column> {
        self.written[slot].as_ref()
    }
}

/// Returns `lower` with those cells replaced that are not absent in `upper`.
fn overlay(lower: &Column, upper: &Column) -> Column {
    if lower.is_empty() || !upper.kinds.contains(&(Kind::Absent as u8)) {
        return upper.clone();
    }
    let mut merged = Column::default();
    for row in 0..upper.len() {
        let source = if upper.kind(row) == Kind::Absent as u8 { lower } else { upper };
        merged.bytes.extend_from_slice(source.cell(row));
        merged.kinds.push(source.kind(row));
        merged.ends.push(merged.bytes.len() as u32);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(cells: &[Option<&str>]) -> Column {
        let mut column = Column::default();
        for cell in cells {
            column.push(cell.map_or(Kind::Absent, |_| Kind::Text), cell.unwrap_or_default().as_bytes());
        }
        column
    }

    #[test]
    fn later_writes_lie_over_earlier_ones() {
        let merged = overlay(&column(&[Some("a"), Some("b"), None]), &column(&[None, Some("x"), None]));
        assert_eq!(merged, column(&[Some("a"), Some("x"), None]));
    }

    #[test]
    fn removed_rows_take_their_cells_along() {
        let mut rows = Rows::new(1);
        rows.current[0] = column(&[Some("a"), Some("b"), Some("c")]);
        (0..3).for_each(|row| rows.push(row));
        rows.write(0, column(&[None, Some("x"), None]), true);
        rows.remove(&[0], |_| true);
        assert_eq!(rows.current[0], column(&[Some("x"), Some("c")]));
        assert_eq!((rows.record(0), rows.record(1), rows.len()), (1, 2, 2));
        assert!(rows.is_written(0) && !rows.is_written(1));
    }
}
