//! A running rule, in a store of its own.
//!
//! A trap leaves a store unusable, so an instance creates a new store after each trap. No call of a guest lasts longer than its
//! deadline, takes more than its limits, or returns more than its limit for results.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use wasmtime::{Store, Trap};

use super::bindings::weir::rule::types::{Batch, ColumnParam};
use super::bindings::{Manifest as BoundManifest, Outcome as BoundOutcome, Rule};
use super::guest::{Guest, Occasion};
use super::limits::Limit;
use super::names::functions;
use super::platform::remedy;
use super::runtime::{Component, TICK, hex};
use super::settings::Limits;
use weir_core::column::Column;
use weir_core::pipeline::{self, Budget, Evaluate, Fault, Manifest, Outcome, View};
use weir_core::printable::escape_value;
use weir_system::throttle::Throttle;

/// The divisor of the deadline for a part of a batch while another part is the slow one, and the factor of the deadline for a
/// single row.
const SHORTER: u32 = 8;
const LONGER: u32 = 2;
/// The most of a rule's message about a refused configuration that is kept, in bytes.
const MAX_REFUSAL_BYTES: usize = 1_024;

/// A configured rule, ready to evaluate rows.
pub struct Instance {
    component: Component,
    name: String,
    config: String,
    limits: Limits,
    occasion: Occasion,
    /// The throttle of the rule's log, while `live` is None.
    throttle: Throttle,
    /// The running rule. None after a fault, until the next call starts the rule again.
    live: Option<Live>,
    /// The time that calls have taken since the last call of [`Evaluate::take_elapsed`].
    spent: Duration,
}

/// The error of a rule that refuses its configuration, with the rule's own message. The configuration is bad; the rule has not
/// failed.
#[derive(Debug)]
pub struct ConfigRefused(pub String);

impl fmt::Display for ConfigRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it refuses its configuration: {}", self.0)
    }
}

impl std::error::Error for ConfigRefused {}

struct Live {
    store: Store<Guest>,
    rule: Rule,
}

impl Instance {
    /// Returns an instance of `component` that is configured with the JSON object `config`, and the rule's manifest. `name` is
    /// the rule's name in the log, where the rule's lines are marked with the `occasion`.
    ///
    /// # Errors
    /// If the rule refuses the configuration, fails, or returns a manifest that breaks the contract.
    pub fn new(
        component: &Component,
        name: &str,
        config: &str,
        limits: Limits,
        occasion: Occasion,
    ) -> anyhow::Result<(Instance, Manifest)> {
        let mut instance = Instance {
            component: component.clone(),
            name: name.into(),
            config: config.into(),
            limits,
            occasion,
            throttle: Throttle::new(),
            live: None,
            spent: Duration::ZERO,
        };
        let (live, manifest) = instance.start()?;
        instance.live = Some(live);
        pipeline::check_manifest(&manifest).map_err(|problem| anyhow!("its manifest breaks the contract: {problem}"))?;
        Ok((instance, manifest))
    }

    /// Starts the rule in a fresh store, and configures it.
    fn start(&mut self) -> anyhow::Result<(Live, Manifest)> {
        let digest = hex(&self.component.digest[..8]);
        let guest = Guest::new(&self.name, &digest, self.limits, mem::take(&mut self.throttle), self.occasion);
        let mut store = Store::new(&self.component.engine, guest);
        store.limiter(|guest| &mut guest.meter);
        store.set_hostcall_fuel(self.limits.result);
        store.set_epoch_deadline(ticks(self.limits.deadline));
        match self.configure(&mut store) {
            Ok((rule, manifest)) => Ok((Live { store, rule }, manifest)),
            Err(error) => {
                self.throttle = store.into_data().into_throttle();
                Err(error)
            }
        }
    }

    fn configure(&self, store: &mut Store<Guest>) -> anyhow::Result<(Rule, Manifest)> {
        let rule = self.component.pre.instantiate(&mut *store).map_err(|error| self.explain(&error, store.data_mut()));
        let rule = rule.context("failed to instantiate it")?;
        store.set_epoch_deadline(ticks(self.limits.deadline));
        let answer = rule.call_configure(&mut *store, &self.config).map_err(|error| self.explain(&error, store.data_mut()));
        let refused = |message: String| {
            let words = escape_value(&message[..message.floor_char_boundary(MAX_REFUSAL_BYTES)]);
            ConfigRefused(remedy(&words).map_or_else(|| words.clone(), |remedy| format!("{words}: {remedy}")))
        };
        let manifest = answer.context("`configure` failed")?.map_err(refused)?;
        Ok((rule, from_bound(manifest)))
    }

    fn deadline(&self, budget: Budget) -> Duration {
        match budget {
            Budget::Usual => self.limits.deadline,
            Budget::Short => self.limits.deadline / SHORTER,
            Budget::Long => self.limits.deadline * LONGER,
        }
    }

    /// Returns the fault behind `error`, in words for an operator: the limit or the trap, the rule's panic message, and the
    /// backtrace.
    fn explain(&self, error: &wasmtime::Error, guest: &mut Guest) -> Fault {
        let limit = guest.meter.exceeded.or_else(|| Limit::behind(error));
        let cause = match (limit, error.downcast_ref::<Trap>()) {
            (Some(limit), _) => limit.words(&self.name, &self.limits),
            (None, Some(trap)) => trap.to_string(),
            (None, None) => escape_value(&error.root_cause().to_string()),
        };
        let backtrace = error.downcast_ref().map(functions).unwrap_or_default();
        Fault {
            message: match guest.take_panic_message() {
                Some(words) => match remedy(&words) {
                    Some(remedy) => format!("{words}: {remedy}{} ({cause})", caller(&backtrace)),
                    None => format!("{words} ({cause})"),
                },
                None => cause,
            },
            backtrace,
            timed_out: limit == Some(Limit::Deadline),
        }
    }
}

/// Returns the fault of a rule that did not start again after an earlier fault.
fn unstarted(error: &anyhow::Error) -> Fault {
    let fault = error.downcast_ref::<Fault>().cloned().unwrap_or_default();
    Fault { message: format!("failed to start again: {error:#}"), ..fault }
}

/// Returns the first function of a backtrace that the rule's author has written, in words.
fn caller(backtrace: &str) -> String {
    const OTHERS: [&str; 6] = ["std::", "core::", "alloc::", "weir_rule::", "__", "rust_"];
    // `<a::B as c::D>::e` is a function of the crate `a`.
    let is_own = |function: &&str| !OTHERS.iter().any(|other| function.trim_start_matches(['<', '&']).starts_with(other));
    backtrace.lines().find(is_own).map(|function| format!("; called in {function}")).unwrap_or_default()
}

/// Returns a deadline in ticks. It is one tick more than the time takes, because the first tick may come at once.
fn ticks(deadline: Duration) -> u64 {
    deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1
}

impl Evaluate for Instance {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let begun = Instant::now();
        let outcome = self.call(view);
        self.spent += begun.elapsed();
        outcome
    }

    fn take_elapsed(&mut self) -> u64 {
        u64::try_from(mem::take(&mut self.spent).as_nanos()).unwrap_or(u64::MAX)
    }

    fn max_result_bytes(&self) -> usize {
        self.limits.result
    }

    fn deadline(&self) -> Duration {
        self.limits.deadline
    }
}

impl Instance {
    fn call(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => self.start().map_err(|error| unstarted(&error))?.0,
        };
        let columns: Vec<ColumnParam<'_>> = view.columns.iter().map(|column| to_bound(column)).collect();
        let batch = Batch { rows: view.rows as u32, processed_at: view.processed_at, columns: &columns };
        live.store.data_mut().begin_call(view.origin);
        live.store.set_epoch_deadline(ticks(self.deadline(view.budget)));
        match live.rule.call_evaluate(&mut live.store, batch) {
            Ok(outcome) => {
                self.live = Some(live);
                Ok(outcome_from_bound(outcome))
            }
            Err(error) => {
                let fault = self.explain(&error, live.store.data_mut());
                self.throttle = live.store.into_data().into_throttle();
                Err(fault)
            }
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
