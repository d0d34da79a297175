//! Runs a rule natively on JSON records, without Wasm and without Kafka, for unit tests.
//!
//! Records go through the same columns as in production. What the harness leaves out is the host: splicing into the original
//! bytes, limits, and other rules. `weir apply` has those.
//!
//! Every batch is evaluated twice: a rule whose answers differ is not pure, and the harness says so.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::abi::{Batch, Column, Loaded, Manifest, Outcome};
use crate::manifest::find;
use crate::{Kind, Rule};

/// A rule, configured and ready to judge.
pub struct Harness<R> {
    loaded: Loaded<R>,
    manifest: Manifest,
    processed_at: i64,
}

impl<R: Rule> Harness<R> {
    /// Configures the rule as a deployment would: `json!({})` for the defaults.
    ///
    /// # Errors
    /// What the rule says is wrong with the configuration.
    #[expect(clippy::needless_pass_by_value, reason = "so that tests can write `new(json!({..}))`")]
    pub fn new(config: Value) -> Result<Harness<R>, String> {
        let (loaded, manifest) = Loaded::configure(&config.to_string())?;
        Ok(Harness { loaded, manifest, processed_at: 0 })
    }

    /// Sets the time of the batches: milliseconds since the Unix epoch. It is 0 otherwise.
    #[must_use]
    pub fn processed_at(mut self, millis: i64) -> Harness<R> {
        self.processed_at = millis;
        self
    }

    /// What the rule declared.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Judges one record.
    ///
    /// # Panics
    /// When the rule does, or is not pure.
    #[track_caller]
    pub fn judge(&self, record: impl Into<Record>) -> Judged {
        self.judge_all([record]).remove(0)
    }

    /// Judges records as one batch.
    ///
    /// # Panics
    /// When the rule does, or is not pure.
    #[track_caller]
    pub fn judge_all(&self, records: impl IntoIterator<Item = impl Into<Record>>) -> Vec<Judged> {
        let records: Vec<Record> = records.into_iter().map(Into::into).collect();
        let batch = Batch {
            rows: u32::try_from(records.len()).expect("a test has fewer than 2^32 records"),
            processed_at: self.processed_at,
            columns: self.manifest.reads.iter().map(|member| column(member, &records)).collect(),
        };
        let outcome = self.loaded.evaluate(&batch);
        assert_eq!(outcome, self.loaded.evaluate(&batch), "the rule is not pure: the same batch again gave another outcome");
        (0..records.len()).map(|row| Judged::new(row, &outcome, &self.manifest)).collect()
    }
}

/// A message for the harness: a JSON value, and what `json!` can't say.
#[derive(Clone, Debug)]
pub struct Record {
    value: Value,
    cells: BTreeMap<String, (Kind, String)>,
}

impl Record {
    /// A message with this value.
    pub fn new(value: Value) -> Record {
        Record { value, cells: BTreeMap::new() }
    }

    /// Adds metadata: `.meta("@key", "abc")`. `@partition`, `@offset` and `@timestamp` are numbers, all else is text.
    ///
    /// # Panics
    /// When the name does not begin with `@`.
    #[must_use]
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "so that tests can write `meta(\"@offset\", 7)`")]
    pub fn meta(mut self, name: &str, value: impl ToString) -> Record {
        assert!(name.starts_with('@'), "`{name}` is no metadata, their names begin with @");
        let kind = if matches!(name, "@partition" | "@offset" | "@timestamp") { Kind::Number } else { Kind::Text };
        self.cells.insert(name.to_owned(), (kind, value.to_string()));
        self
    }

    /// Sets a member to a JSON text exactly as it would be sent: `.raw("timestamp", "1.70e9")`. `member` is named as the
    /// manifest does. Numbers, objects and arrays are taken as they stand, also such as a [`Value`] can't hold.
    ///
    /// # Panics
    /// When the text is no JSON.
    #[must_use]
    #[track_caller]
    pub fn raw(mut self, member: &str, json: &str) -> Record {
        let sound = match json.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Ok((Kind::Number, json.to_owned())),
            Some(b'{' | b'[') => serde_json::from_str(json).map(|IgnoredAny| (Kind::Composite, json.to_owned())),
            _ => serde_json::from_str(json).map(|value| cell(&value)),
        };
        // No closure: it would be taken for the caller.
        let cell = match sound {
            Ok(cell) => cell,
            Err(error) => panic!("`{json}` is no JSON: {error}"),
        };
        self.cells.insert(member.to_owned(), cell);
        self
    }

    /// The cell that the host would make of a member.
    fn cell(&self, member: &str) -> (Kind, String) {
        if let Some(cell) = self.cells.get(member) {
            return cell.clone();
        }
        let value = match member.as_bytes().first() {
            Some(b'@') => None,
            Some(b'/') => self.value.pointer(member),
            _ => self.value.get(member),
        };
        value.map_or((Kind::Absent, String::new()), cell)
    }
}

impl From<Value> for Record {
    fn from(value: Value) -> Record {
        Record::new(value)
    }
}

/// What the rule decided about a record.
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

    /// Whether the record goes on.
    pub fn is_kept(&self) -> bool {
        self.rejection.is_none()
    }

    /// The reason of the rejection.
    pub fn reason(&self) -> Option<&str> {
        self.rejection.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// The detail of the rejection.
    pub fn detail(&self) -> Option<&str> {
        self.rejection.as_ref().and_then(|(_, detail)| detail.as_deref())
    }

    /// What the rule wrote into a member; none if it left it as it is.
    ///
    /// # Panics
    /// When the rule does not declare that it writes such a member.
    #[track_caller]
    pub fn written(&self, member: &str) -> Option<Value> {
        self.values[find("writes", &self.names, member)].clone()
    }
}

/// One member of all records, packed as the host does it.
fn column(member: &str, records: &[Record]) -> Column {
    let mut column = Column::default();
    for record in records {
        let (kind, text) = record.cell(member);
        column.kinds.push(kind as u8);
        column.bytes.extend_from_slice(text.as_bytes());
        column.ends.push(u32::try_from(column.bytes.len()).expect("a test has less than 4 GiB"));
    }
    column
}

/// A value as the contract has it in a cell.
fn cell(value: &Value) -> (Kind, String) {
    match value {
        Value::Null => (Kind::Null, String::new()),
        Value::Bool(_) => (Kind::Boolean, value.to_string()),
        Value::Number(_) => (Kind::Number, value.to_string()),
        Value::String(text) => (Kind::Text, text.clone()),
        Value::Array(_) | Value::Object(_) => (Kind::Composite, value.to_string()),
    }
}

/// The value of a cell that a rule wrote.
fn value(column: &Column, row: usize) -> Option<Value> {
    let cells = crate::column::Cells::new(column, column.kinds.len());
    match cells.kind(row) {
        Kind::Absent => None,
        Kind::Null => Some(Value::Null),
        Kind::Text => Some(Value::from(cells.text(row))),
        Kind::Boolean | Kind::Number | Kind::Composite => {
            Some(serde_json::from_str(cells.text(row)).expect("only JSON is written"))
        }
    }
}
