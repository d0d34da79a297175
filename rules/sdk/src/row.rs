//! One message as a rule sees it: the fields that it reads, the fields that it writes, and the batch's time.
//!
//! Nothing here allocates for a row, and all short functions are always inlined. Reading returns slices of the batch, writing
//! appends to one buffer for each written field.

use std::fmt;

use serde_json::Value;

use crate::abi::Batch;
use crate::column::{ColumnReader, ColumnWriter};
use crate::{Cause, Field, Key, Kind, Manifest, Output, Verdict, number};

/// One row of a batch. Its fields are named by the handles that the manifest returned, or by their names.
///
/// # Panics
/// All methods panic on a name that the manifest does not declare. The panic's text lists the declared names.
pub struct Row<'a> {
    index: usize,
    input: &'a Input<'a>,
    sheets: &'a mut [ColumnWriter],
}

/// The data that all rows of a batch have in common.
pub(crate) struct Input<'a> {
    manifest: &'a Manifest,
    processed_at: i64,
    processed_at_text: Digits,
    columns: Vec<ColumnReader<'a>>,
}

impl<'a> Input<'a> {
    /// # Panics
    /// If the batch does not have a column for each read field, or a column does not have a cell for each row.
    pub(crate) fn new(manifest: &'a Manifest, batch: &'a Batch) -> Input<'a> {
        assert!(batch.columns.len() == manifest.reads.len(), "the batch has another number of columns than the manifest reads");
        let columns = batch.columns.iter().map(|column| ColumnReader::new(column, batch.rows as usize)).collect();
        let processed_at_text = Digits::of(batch.processed_at);
        Input { manifest, processed_at: batch.processed_at, processed_at_text, columns }
    }
}

/// An integer as text, at the beginning of a buffer that has room for any. The length of the buffer is known to the compiler.
struct Digits {
    padded: [u8; 24],
    length: usize,
}

impl Digits {
    #[inline(never)]
    fn of(value: i64) -> Digits {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(value).as_bytes();
        let mut padded = [0; 24];
        padded[..text.len()].copy_from_slice(text);
        Digits { padded, length: text.len() }
    }
}

/// Methods that read.
impl<'a> Row<'a> {
    #[inline(always)]
    pub(crate) fn new(index: usize, input: &'a Input<'a>, sheets: &'a mut [ColumnWriter]) -> Row<'a> {
        Row { index, input, sheets }
    }

    /// Returns the kind of the field's value.
    #[inline(always)]
    #[track_caller]
    pub fn kind(&self, field: impl Key<Field>) -> Kind {
        self.cells(field).kind(self.index)
    }

    /// Returns whether the message lacks the field, or has `null` for it.
    #[inline(always)]
    #[track_caller]
    pub fn is_missing(&self, field: impl Key<Field>) -> bool {
        self.cells(field).is_missing(self.index)
    }

    /// Returns the field as text, unescaped. None if it is no string.
    #[inline(always)]
    #[track_caller]
    pub fn text(&self, field: impl Key<Field>) -> Option<&'a str> {
        self.of_kind(field, Kind::Text)
    }

    /// Returns the field as an integer, exactly. None if it is no number, has a fraction or does not fit. `1.50e3` is 1500.
    #[inline(always)]
    #[track_caller]
    pub fn integer(&self, field: impl Key<Field>) -> Option<i64> {
        self.of_kind(field, Kind::Number).and_then(number::exact)
    }

    /// Returns the field as the text of a number, as it was sent. None if it is no number.
    #[inline(always)]
    #[track_caller]
    pub fn number_text(&self, field: impl Key<Field>) -> Option<&'a str> {
        self.of_kind(field, Kind::Number)
    }

    /// Returns the field as [`Row::number_text`] or [`Row::text`] does, with one look at the column where these would need two.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn number_or_text(&self, field: impl Key<Field>) -> Option<&'a str> {
        let cells = self.cells(field);
        (cells.is(self.index, Kind::Number) || cells.is(self.index, Kind::Text)).then(|| cells.text(self.index))
    }

    /// Returns the field as the nearest `f64`. None if it is no number.
    #[track_caller]
    pub fn float(&self, field: impl Key<Field>) -> Option<f64> {
        self.of_kind(field, Kind::Number).and_then(|text| text.parse().ok())
    }

    /// Returns the field as a boolean. None if it is no boolean.
    #[inline(always)]
    #[track_caller]
    pub fn boolean(&self, field: impl Key<Field>) -> Option<bool> {
        self.of_kind(field, Kind::Boolean).map(|text| text == "true")
    }

    /// Returns the field as it was sent: its JSON text, or for a string the string itself, unescaped. None if the field is
    /// absent. Well suited as the detail of a rejection.
    #[inline(always)]
    #[track_caller]
    pub fn raw(&self, field: impl Key<Field>) -> Option<&'a str> {
        let cells = self.cells(field);
        match cells.kind(self.index) {
            Kind::Absent => None,
            Kind::Null => Some("null"),
            Kind::Boolean | Kind::Number | Kind::Text | Kind::Composite => Some(cells.text(self.index)),
        }
    }

    /// Returns the field as a JSON value, which allocates. For objects and arrays. None if the field is absent, or if a [`Value`]
    /// can't hold it though it is valid JSON: a number such as `1e400`, half of a surrogate pair, or more than 127 levels.
    #[track_caller]
    pub fn json(&self, field: impl Key<Field>) -> Option<Value> {
        let text = self.raw(field)?;
        match self.kind(field) {
            Kind::Text => Some(Value::from(text)),
            _ => serde_json::from_str(text).ok(),
        }
    }

    /// Returns the name under which a field was declared.
    #[track_caller]
    pub fn name(&self, field: impl Key<Field>) -> &'a str {
        &self.input.manifest.reads[field.index(self.input.manifest)]
    }

    /// Returns a rejection. Its detail is the field's value, as [`Row::raw`] returns it, or says that the field is missing.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub fn reject(&self, reason: impl Into<Cause>, field: impl Key<Field>) -> Verdict {
        match self.raw(field) {
            Some(value) => Verdict::reject_with(reason, value),
            None => Verdict::reject_with(reason, format!("`{}` is missing", self.name(field))),
        }
    }

    /// Returns the time at which the host began with this batch, in milliseconds since the Unix epoch, UTC. A rule has no other
    /// time.
    #[inline(always)]
    pub fn processed_at(&self) -> i64 {
        self.input.processed_at
    }

    /// Returns the index of this row in its batch, counted from 0. For texts that people read: the verdict must not depend on it.
    pub fn index(&self) -> usize {
        self.index
    }

    #[inline(always)]
    #[track_caller]
    fn cells(&self, field: impl Key<Field>) -> &'a ColumnReader<'a> {
        &self.input.columns[field.index(self.input.manifest)]
    }

    #[inline(always)]
    #[track_caller]
    fn of_kind(&self, field: impl Key<Field>, kind: Kind) -> Option<&'a str> {
        let cells = self.cells(field);
        cells.is(self.index, kind).then(|| cells.text(self.index))
    }
}

/// Methods that write. The value that is set last counts. A field that is not set stays as the message has it.
impl Row<'_> {
    /// Writes a string.
    #[inline(always)]
    #[track_caller]
    pub fn set_text(&mut self, field: impl Key<Output>, text: &str) {
        self.begin(field, Kind::Text).push_str(text);
    }

    /// Writes a string piece by piece, without a `String` in between: `write!(row.text_writer(id), "{a}-{b}")`.
    #[inline(always)]
    #[track_caller]
    pub fn text_writer(&mut self, field: impl Key<Output>) -> TextWriter<'_> {
        TextWriter(self.begin(field, Kind::Text))
    }

    /// Writes an integer.
    #[inline(always)]
    #[track_caller]
    pub fn set_integer(&mut self, field: impl Key<Output>, value: i64) {
        let input = self.input;
        let sheet = self.begin(field, Kind::Number);
        if value == input.processed_at {
            // This number is written most often, and it is the same for all rows.
            sheet.push_padded(&input.processed_at_text.padded, input.processed_at_text.length);
        } else {
            let Digits { padded, length } = Digits::of(value);
            sheet.push_padded(&padded, length);
        }
    }

    /// Writes a number, or `null` for NaN and the infinities, which JSON does not have.
    #[track_caller]
    pub fn set_float(&mut self, field: impl Key<Output>, value: f64) {
        self.set_json(field, &Value::from(value));
    }

    /// Writes `true` or `false`.
    #[inline(always)]
    #[track_caller]
    pub fn set_boolean(&mut self, field: impl Key<Output>, value: bool) {
        self.begin(field, Kind::Boolean).push_str(if value { "true" } else { "false" });
    }

    /// Writes `null`.
    #[inline(always)]
    #[track_caller]
    pub fn set_null(&mut self, field: impl Key<Output>) {
        self.begin(field, Kind::Null);
    }

    /// Writes any JSON value.
    #[track_caller]
    pub fn set_json(&mut self, field: impl Key<Output>, value: &Value) {
        match value {
            Value::Null => self.set_null(field),
            Value::Bool(value) => self.set_boolean(field, *value),
            Value::Number(_) => self.begin(field, Kind::Number).push_str(&value.to_string()),
            Value::String(text) => self.set_text(field, text),
            Value::Array(_) | Value::Object(_) => self.begin(field, Kind::Composite).push_str(&value.to_string()),
        }
    }

    #[inline(always)]
    #[track_caller]
    fn begin(&mut self, field: impl Key<Output>, kind: Kind) -> &mut ColumnWriter {
        self.sheets[field.index(self.input.manifest)].begin(self.index, kind)
    }
}

/// A writer for a text, piece by piece. It works with `write!` too, which can't fail here.
pub struct TextWriter<'a>(&'a mut ColumnWriter);

impl TextWriter<'_> {
    /// Appends a piece.
    #[inline(always)]
    pub fn push_str(&mut self, piece: &str) {
        self.0.push_str(piece);
    }

    /// Appends a piece and returns its bytes, so that the caller can fill in the part that differs from row to row. This is
    /// cheaper than many pieces. The bytes must stay UTF-8; other bytes are a fault of the rule.
    #[inline(always)]
    pub(crate) fn push_template(&mut self, template: &[u8]) -> &mut [u8] {
        self.0.push_template(template)
    }
}

impl fmt::Write for TextWriter<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.push_str(piece);
        Ok(())
    }
}
