//! Runs a rule natively on JSON records, without Wasm and without Kafka, for unit tests.
//!
//! Records go through the same columns as in production. The harness leaves out the host: splicing into the original bytes,
//! limits, and other rules. `weir apply` includes these.
//!
//! Every batch is evaluated twice. If the two outcomes differ, the rule is not pure, and the harness reports that.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::abi::{Batch, Column, Loaded, Manifest, Outcome};
use crate::manifest::find;
use crate::{Kind, Rule};

/// A rule that is configured and ready to evaluate.
pub struct Harness<R> {
    loaded: Loaded<R>,
    manifest: Manifest,
    processed_at: i64,
}

impl<R: Rule> Harness<R> {
    /// Configures the rule as a deployment would: `json!({})` stands for the defaults.
    ///
    /// # Errors
    /// The rule's text about what is wrong with the configuration.
    #[expect(clippy::needless_pass_by_value, reason = "so that tests can write `new(json!({..}))`")]
    pub fn new(config: Value) -> Result<Harness<R>, String> {
        let (loaded, manifest) = Loaded::configure(&config.to_string())?;
        Ok(Harness { loaded, manifest, processed_at: 0 })
    }

    /// Sets the time of the batches, in milliseconds since the Unix epoch. Without it the time is 0.
    #[must_use]
    pub fn processed_at(mut self, millis: i64) -> Harness<R> {
        self.processed_at = millis;
        self
    }

    /// Returns the declarations of the rule.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Evaluates one record.
    ///
    /// # Panics
    /// If the rule panics, or is not pure.
    #[track_caller]
    pub fn judge(&self, record: impl Into<Record>) -> Judged {
        self.judge_all([record]).remove(0)
    }

    /// Evaluates records as one batch.
    ///
    /// # Panics
    /// If the rule panics, or is not pure.
    #[track_caller]
    pub fn judge_all(&self, records: impl IntoIterator<Item = impl Into<Record>>) -> Vec<Judged> {
        let records: Vec<Record> = records.into_iter().map(Into::into).collect();
        let batch = Batch {
            rows: u32::try_from(records.len()).expect("a test has fewer than 2^32 records"),
            processed_at: self.processed_at,
            columns: self.manifest.reads.iter().map(|field| column(field, &records)).collect(),
        };
        let outcome = self.loaded.evaluate(&batch);
        assert_eq!(outcome, self.loaded.evaluate(&batch), "the rule is not pure: the same batch again gave another outcome");
        (0..records.len()).map(|row| Judged::new(row, &outcome, &self.manifest)).collect()
    }
}

/// A record for the harness: a JSON value, and additions that `json!` can't express.
#[derive(Clone, Debug)]
pub struct Record {
    value: Value,
    cells: BTreeMap<String, (Kind, String)>,
}

impl Record {
    /// Returns a record whose message is this value.
    pub fn new(value: Value) -> Record {
        Record { value, cells: BTreeMap::new() }
    }

    /// Adds metadata: `.meta("@key", "abc")`. `@partition`, `@offset` and `@timestamp` are numbers, all other metadata are text.
    ///
    /// # Panics
    /// If the name does not begin with `@`.
    #[must_use]
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "so that tests can write `meta(\"@offset\", 7)`")]
    pub fn meta(mut self, name: &str, value: impl ToString) -> Record {
        assert!(name.starts_with('@'), "`{name}` is no metadata, their names begin with @");
        let kind = if matches!(name, "@partition" | "@offset" | "@timestamp") { Kind::Number } else { Kind::Text };
        self.cells.insert(name.to_owned(), (kind, value.to_string()));
        self
    }

    /// Sets a field to a JSON text exactly as it would be sent: `.raw("timestamp", "1.70e9")`. `field` is the name that the
    /// manifest declares. Numbers, objects and arrays are taken as they are, including those that a [`Value`] can't hold.
    ///
    /// # Panics
    /// If the text is no JSON.
    #[must_use]
    #[track_caller]
    pub fn raw(mut self, field: &str, json: &str) -> Record {
        let sound = match json.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Ok((Kind::Number, json.to_owned())),
            Some(b'{' | b'[') => serde_json::from_str(json).map(|IgnoredAny| (Kind::Composite, json.to_owned())),
            _ => serde_json::from_str(json).map(|value| cell(&value)),
        };
        // No closure is used here: `track_caller` would take it for the caller.
        let cell = match sound {
            Ok(cell) => cell,
            Err(error) => panic!("`{json}` is no JSON: {error}"),
        };
        self.cells.insert(field.to_owned(), cell);
        self
    }

    /// Returns the cell that the host would make from a field.
    fn cell(&self, field: &str) -> (Kind, String) {
        if let Some(cell) = self.cells.get(field) {
            return cell.clone();
        }
        let value = match field.as_bytes().first() {
            Some(b'@') => None,
            Some(b'/') => self.value.pointer(field),
            _ => self.value.get(field),
        };
        value.map_or((Kind::Absent, String::new()), cell)
    }
}

impl From<Value> for Record {
    fn from(value: Value) -> Record {
        Record::new(value)
    }
}

/// The decision of the rule about a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    rejection: Option<(String, Option<String>)>,
    names: Vec<String>,
    values: Vec<Option<Value>>,
}

impl Judged {
    fn new(row: usize, outcome: &Outcome, manifest: &Manifest) -> Judged {
        let rejection = outcome.rejections.iter().find(|rejection| rejection.row as usize == row);
        Judged {
            rejection: rejection.map(|found| (manifest.reasons[found.reason as usize].clone(), found.detail.clone())),
            names: manifest.writes.clone(),
            values: outcome.columns.iter().map(|column| value(column, row)).collect(),
        }
    }

    /// Returns whether the record goes on.
    pub fn is_kept(&self) -> bool {
        self.rejection.is_none()
    }

    /// Returns the reason of the rejection. None if the record goes on.
    pub fn reason(&self) -> Option<&str> {
        self.rejection.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// Returns the detail of the rejection, if it has one.
    pub fn detail(&self) -> Option<&str> {
        self.rejection.as_ref().and_then(|(_, detail)| detail.as_deref())
    }

    /// Returns the value that the rule wrote into a field. None if the rule left the field as it is.
    ///
    /// # Panics
    /// If the rule does not declare that it writes such a field.
    #[track_caller]
    pub fn written(&self, field: &str) -> Option<Value> {
        self.values[find("writes", &self.names, field)].clone()
    }
}

/// Packs one field of all records as the host does.
fn column(field: &str, records: &[Record]) -> Column {
    let mut column = Column::default();
    for record in records {
        let (kind, text) = record.cell(field);
        column.kinds.push(kind as u8);
        column.bytes.extend_from_slice(text.as_bytes());
        column.ends.push(u32::try_from(column.bytes.len()).expect("a test has less than 4 GiB"));
    }
    column
}

/// Returns a value as the contract represents it in a cell.
fn cell(value: &Value) -> (Kind, String) {
    match value {
        Value::Null => (Kind::Null, String::new()),
        Value::Bool(_) => (Kind::Boolean, value.to_string()),
        Value::Number(_) => (Kind::Number, value.to_string()),
        Value::String(text) => (Kind::Text, text.clone()),
        Value::Array(_) | Value::Object(_) => (Kind::Composite, value.to_string()),
    }
}

/// Returns the value of a cell that a rule wrote.
fn value(column: &Column, row: usize) -> Option<Value> {
    let cells = crate::column::ColumnReader::new(column, column.kinds.len());
    match cells.kind(row) {
        Kind::Absent => None,
        Kind::Null => Some(Value::Null),
        Kind::Text => Some(Value::from(cells.text(row))),
        Kind::Boolean | Kind::Number | Kind::Composite => {
            Some(serde_json::from_str(cells.text(row)).expect("only JSON is written"))
        }
    }
}
