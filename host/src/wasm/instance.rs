//! A running rule, in a store of its own.
//!
//! A trap leaves a store unusable, so an instance makes itself a new one after each. Nothing a guest does lasts longer than
//! its deadline, takes more than its memory, or hands back more than [`MAX_RESULT_BYTES`].

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use wasmtime::error::Context;
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, Trap};

use super::bindings::weir::rule::log::{Host, Level};
use super::bindings::weir::rule::types::{self, Batch, ColumnParam};
use super::bindings::{Manifest as BoundManifest, Outcome as BoundOutcome, Rule};
use super::runtime::{Component, TICK};
use crate::column::Column;
use crate::config::Limits;
use crate::pipeline::{self, Evaluate, Fault, Manifest, Outcome, View};

/// What the host lifts from one call at most, in bytes. Four times what the columns of the largest batch take.
const MAX_RESULT_BYTES: usize = 64 << 20;
/// Elements in a guest's tables: function pointers, of which a rule has some hundreds.
const MAX_TABLE_ELEMENTS: usize = 20_000;
/// Core instances, memories and tables in a store. A component made by `weir build` has three instances, one memory and two
/// tables.
const MAX_INSTANCES: usize = 10;
/// Lines that a rule may log in one call; the rest is dropped.
const MAX_LOG_LINES: usize = 20;
/// What is kept of a line that a rule logs, in bytes.
const MAX_LOG_BYTES: usize = 1_024;

/// What the host keeps for a guest, in its store.
pub(super) struct Guest {
    name: String,
    limits: StoreLimits,
    lines: usize,
    panic: Option<String>,
}

impl types::Host for Guest {}

impl Host for Guest {
    fn log(&mut self, level: Level, message: String) {
        let mut message = message;
        message.truncate(message.floor_char_boundary(MAX_LOG_BYTES));
        if let Level::Panic = level {
            self.panic = Some(message);
            return;
        }
        self.lines += 1;
        if self.lines > MAX_LOG_LINES {
            return;
        }
        let (rule, message) = (&self.name, message.escape_debug());
        match level {
            Level::Debug => tracing::debug!(rule, "{message}"),
            Level::Info => tracing::info!(rule, "{message}"),
            Level::Warn => tracing::warn!(rule, "{message}"),
            Level::Error | Level::Panic => tracing::error!(rule, "{message}"),
        }
    }
}

/// A configured rule, ready to judge.
pub struct Instance {
    component: Component,
    name: String,
    config: String,
    limits: Limits,
    /// None after a fault, until the next call makes a new one.
    live: Option<Live>,
    /// How long calls took since this was asked last.
    spent: Duration,
}

/// A rule does not accept its configuration, and why, in its own words. Not a failure, but bad configuration.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it refuses its configuration: {}", self.0)
    }
}

impl std::error::Error for Refused {}

struct Live {
    store: Store<Guest>,
    rule: Rule,
}

impl Instance {
    /// An instance of `component` that is configured with the JSON object `config`, and what the rule says of itself. `name`
    /// is the rule's name in the log.
    ///
    /// # Errors
    /// If the rule refuses the configuration, fails, or says things of itself that break the contract.
    pub fn new(component: &Component, name: &str, config: &str, limits: Limits) -> anyhow::Result<(Instance, Manifest)> {
        let mut instance = Instance {
            component: component.clone(),
            name: name.into(),
            config: config.into(),
            limits,
            live: None,
            spent: Duration::ZERO,
        };
        let (live, manifest) = instance.start()?;
        instance.live = Some(live);
        pipeline::check_manifest(&manifest).map_err(|problem| anyhow!("its manifest breaks the contract: {problem}"))?;
        Ok((instance, manifest))
    }

    /// A fresh store with a configured rule in it.
    fn start(&self) -> anyhow::Result<(Live, Manifest)> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.limits.memory)
            .table_elements(MAX_TABLE_ELEMENTS)
            .instances(MAX_INSTANCES)
            .memories(MAX_INSTANCES)
            .tables(MAX_INSTANCES)
            .trap_on_grow_failure(true)
            .build();
        let guest = Guest { name: self.name.clone(), limits, lines: 0, panic: None };
        let mut store = Store::new(&self.component.engine, guest);
        store.limiter(|guest| &mut guest.limits);
        store.set_hostcall_fuel(MAX_RESULT_BYTES);
        store.set_epoch_deadline(self.deadline());
        let rule = self.component.pre.instantiate(&mut store).context("failed to instantiate it")?;
        store.set_epoch_deadline(self.deadline());
        let answer = rule.call_configure(&mut store, &self.config);
        let answer = answer.map_err(|error| anyhow!("`configure` failed: {}", self.explain(&error, store.data_mut()).0))?;
        let manifest = answer.map_err(|message| Refused(message.escape_debug().to_string()))?;
        Ok((Live { store, rule }, from_bound(manifest)))
    }

    /// The deadline in ticks. One more than it takes: the first may come at once.
    fn deadline(&self) -> u64 {
        self.limits.deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1
    }

    /// What ended a call, in words for an operator: the trap, what the rule said when it panicked, where.
    fn explain(&self, error: &wasmtime::Error, guest: &mut Guest) -> Fault {
        let trap = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => format!("ran longer than its deadline of {:?}", self.limits.deadline),
            Some(trap) => trap.to_string(),
            None => match error.root_cause().to_string() {
                cause if cause.contains("growing memory") => {
                    format!("wanted more memory than the {} bytes of rule.{}.memory", self.limits.memory, self.name)
                }
                cause => cause,
            },
        };
        match guest.panic.take() {
            Some(panic) => Fault(format!("{panic} ({trap})")),
            None => Fault(trap),
        }
    }
}

impl Evaluate for Instance {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let begun = Instant::now();
        let outcome = self.call(view);
        self.spent += begun.elapsed();
        outcome
    }

    fn nanos(&mut self) -> u64 {
        u64::try_from(mem::take(&mut self.spent).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Instance {
    fn call(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => self.start().map_err(|error| Fault(format!("failed to start again: {error:#}")))?.0,
        };
        let columns: Vec<ColumnParam<'_>> = view.columns.iter().map(|column| to_bound(column)).collect();
        let batch = Batch { rows: view.rows as u32, processed_at: view.processed_at, columns: &columns };
        live.store.data_mut().lines = 0;
        live.store.set_epoch_deadline(self.deadline());
        match live.rule.call_evaluate(&mut live.store, batch) {
            Ok(outcome) => {
                self.live = Some(live);
                Ok(outcome_from_bound(outcome))
            }
            Err(error) => Err(self.explain(&error, live.store.data_mut())),
        }
    }
}

fn to_bound(column: &Column) -> ColumnParam<'_> {
    ColumnParam { kinds: &column.kinds, ends: &column.ends, bytes: &column.bytes }
}

fn outcome_from_bound(outcome: BoundOutcome) -> Outcome {
    let columns = outcome.columns.into_iter();
    let rejections = outcome.rejections.into_iter();
    Outcome {
        rejections: rejections.map(|rejection| (rejection.row, rejection.reason, rejection.detail)).collect(),
        columns: columns.map(|column| Column { kinds: column.kinds, ends: column.ends, bytes: column.bytes }).collect(),
    }
}

fn from_bound(manifest: BoundManifest) -> Manifest {
    let BoundManifest { name, version, description, reads, writes, reasons } = manifest;
    Manifest { name, version, description, reads, writes, reasons }
}
