//! Batches in, outcomes out: the contract's types as plain data, and a loaded rule that turns a batch into an outcome.
//!
//! This module is for the exports of a component, the harness and benchmarks. Authors of rules do not need it, and it may change
//! with any release. `wit/rule.wit` says what every field means.

pub use crate::manifest::{Manifest, RESERVED_NAME, RESERVED_REASONS};

use serde::de::DeserializeOwned;

use crate::column::ColumnWriter;
use crate::row::{Input, Row};
use crate::{Rule, Verdict};

/// One field of every row of a batch, packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// A [`Kind`](crate::Kind) for each cell.
    pub kinds: Vec<u8>,
    /// The end of each cell in `bytes`.
    pub ends: Vec<u32>,
    /// The cells, one after the other.
    pub bytes: Vec<u8>,
}

/// The rows to evaluate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of rows.
    pub rows: u32,
    /// The time at which the host began with the batch, in milliseconds since the Unix epoch, UTC.
    pub processed_at: i64,
    /// The columns, one for each entry of `manifest.reads`.
    pub columns: Vec<Column>,
}

/// A row that must not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The row, counted from 0.
    pub row: u32,
    /// The reason: an index into `manifest.reasons`.
    pub reason: u32,
    /// The exact cause, in words for people.
    pub detail: Option<String>,
}

/// The result of a rule for a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The rows that must not go on, in ascending order.
    pub rejections: Vec<Rejection>,
    /// The columns that the rule wrote, one for each entry of `manifest.writes`.
    pub columns: Vec<Column>,
}

/// A rule that is configured and ready.
#[derive(Debug)]
pub struct Loaded<R> {
    rule: R,
    manifest: Manifest,
}

impl<R: Rule> Loaded<R> {
    /// Configures a rule with the text of a JSON object. An empty text stands for `{}`.
    ///
    /// # Errors
    /// A text that says what is wrong with the configuration, or with the declarations of the rule.
    pub fn configure(config: &str) -> Result<(Loaded<R>, Manifest), String> {
        let mut manifest = Manifest::new(R::ABOUT);
        let rule = R::configure(parse(config)?, &mut manifest)?;
        manifest.check()?;
        Ok((Loaded { rule, manifest: manifest.clone() }, manifest))
    }

    /// Evaluates the rows of a batch.
    ///
    /// # Panics
    /// If the batch does not fit the manifest, or if the rule panics.
    pub fn evaluate(&self, batch: &Batch) -> Outcome {
        let rows = batch.rows as usize;
        let input = Input::new(&self.manifest, batch);
        let mut sheets: Vec<ColumnWriter> = self.manifest.writes.iter().map(|_| ColumnWriter::new(rows)).collect();
        let mut rejections = Vec::new();
        for index in 0..rows {
            if let Verdict::Reject { cause, detail } = self.rule.evaluate(&mut Row::new(index, &input, &mut sheets)) {
                let rejection = Rejection { row: index as u32, reason: cause.index(&self.manifest), detail };
                reject(rejection, &mut rejections, &mut sheets);
            }
        }
        Outcome { rejections, columns: sheets.into_iter().map(ColumnWriter::into_column).collect() }
    }
}

/// Adds a rejection, and drops the fields that were written for its row.
#[cold]
#[inline(never)]
fn reject(rejection: Rejection, rejections: &mut Vec<Rejection>, sheets: &mut [ColumnWriter]) {
    sheets.iter_mut().for_each(|sheet| sheet.forget(rejection.row as usize));
    rejections.push(rejection);
}

/// Reads a configuration. Checks here that it is an object, because serde would accept an array for a struct as well.
fn parse<C: DeserializeOwned>(config: &str) -> Result<C, String> {
    let config = match config.trim_ascii() {
        "" => "{}",
        config if config.starts_with('{') => config,
        _ => return Err("failed to read the configuration: it is no JSON object, begin with `{`".to_owned()),
    };
    serde_json::from_str(config).map_err(|error| format!("failed to read the configuration: {error}"))
}
