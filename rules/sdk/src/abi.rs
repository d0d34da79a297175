//! Batches in, outcomes out: the contract's types as plain data, and a loaded rule that turns one into the other.
//!
//! For the exports of a component, the harness and benchmarks. Rule authors need nothing of it, and it may change with any
//! release. See `wit/rule.wit` for what every field means.

pub use crate::manifest::{Manifest, RESERVED_NAME, RESERVED_REASONS};

use serde::de::DeserializeOwned;

use crate::column::Sheet;
use crate::row::{Input, Row};
use crate::{Rule, Verdict};

/// One member of every row of a batch, packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// A [`Kind`](crate::Kind) for each cell.
    pub kinds: Vec<u8>,
    /// Where each cell ends in `bytes`.
    pub ends: Vec<u32>,
    /// The cells, one after the other.
    pub bytes: Vec<u8>,
}

/// Rows to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many there are.
    pub rows: u32,
    /// Milliseconds since the Unix epoch, UTC.
    pub processed_at: i64,
    /// One for each entry of `manifest.reads`.
    pub columns: Vec<Column>,
}

/// A row that must not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which row, from 0.
    pub row: u32,
    /// An index into `manifest.reasons`.
    pub reason: u32,
    /// What exactly, for a person.
    pub detail: Option<String>,
}

/// What a rule made of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The rows that must not go on, in ascending order.
    pub rejections: Vec<Rejection>,
    /// One for each entry of `manifest.writes`.
    pub columns: Vec<Column>,
}

/// A rule that is configured and ready.
#[derive(Debug)]
pub struct Loaded<R> {
    rule: R,
    manifest: Manifest,
}

impl<R: Rule> Loaded<R> {
    /// Configures a rule with a JSON object in text; empty text stands for `{}`.
    ///
    /// # Errors
    /// What is wrong with the configuration, or with what the rule declares.
    pub fn configure(config: &str) -> Result<(Loaded<R>, Manifest), String> {
        let mut manifest = Manifest::new(R::ABOUT);
        let rule = R::configure(parse(config)?, &mut manifest)?;
        manifest.check()?;
        Ok((Loaded { rule, manifest: manifest.clone() }, manifest))
    }

    /// Judges the rows of a batch.
    ///
    /// # Panics
    /// When the batch does not fit the manifest, or when the rule does.
    pub fn evaluate(&self, batch: &Batch) -> Outcome {
        let rows = batch.rows as usize;
        let input = Input::new(&self.manifest, batch);
        let mut sheets: Vec<Sheet> = self.manifest.writes.iter().map(|_| Sheet::new(rows)).collect();
        let mut rejections = Vec::new();
        for index in 0..rows {
            if let Verdict::Reject { cause, detail } = self.rule.evaluate(&mut Row::new(index, &input, &mut sheets)) {
                let rejection = Rejection { row: index as u32, reason: cause.index(&self.manifest), detail };
                reject(rejection, &mut rejections, &mut sheets);
            }
        }
        Outcome { rejections, columns: sheets.into_iter().map(Sheet::into_column).collect() }
    }
}

/// Adds a rejection and forgets what was written into its row.
#[cold]
#[inline(never)]
fn reject(rejection: Rejection, rejections: &mut Vec<Rejection>, sheets: &mut [Sheet]) {
    sheets.iter_mut().for_each(|sheet| sheet.forget(rejection.row as usize));
    rejections.push(rejection);
}

/// Reads a configuration. That it is an object is looked at here, because serde would take an array for a struct as well.
fn parse<C: DeserializeOwned>(config: &str) -> Result<C, String> {
    let config = match config.trim_ascii() {
        "" => "{}",
        config if config.starts_with('{') => config,
        _ => return Err("failed to read the configuration: it is no JSON object, begin with `{`".to_owned()),
    };
    serde_json::from_str(config).map_err(|error| format!("failed to read the configuration: {error}"))
}
