//! The three rules in Wasm without any limit: no deadline in the compiled code, no limiter, no bound on results. The difference
//! to the engine is what limits cost.
//!
//! This is the least code that runs a rule. Other things that the engine does are left out, such as a restart after a trap: sound
//! rules do not need them.

use std::fs;

use anyhow::Context as _;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, OptLevel, Store};
use weir_core::column::Column;
use weir_core::pipeline::OnFault;
use weir_core::pipeline::{Evaluate, Fault, Manifest, Outcome, Pipeline, Stage, View};
use weir_wasm::rule;

use self::bindings::Rule;
use self::bindings::weir::rule::log::{Host, Level};
use self::bindings::weir::rule::types::{self, Batch, ColumnParam};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "rule",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// A rule in a store.
pub struct Unlimited {
    store: Store<Silent>,
    rule: Rule,
}

/// Ignores what rules log.
struct Silent;

impl types::Host for Silent {}

impl Host for Silent {
    fn log(&mut self, _: Level, _: String) {}
}

/// The compiled rules.
pub struct Rules {
    engine: Engine,
    linker: Linker<Silent>,
    rules: Vec<(Component, String)>,
}

impl Rules {
    /// Compiles the rules of a configuration.
    pub fn load(rules: &[rule::Rule]) -> anyhow::Result<Rules> {
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed).concurrency_support(false);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        Rule::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
        let compile =
            |rule: &rule::Rule| anyhow::Ok((Component::from_binary(&engine, &fs::read(&rule.file)?)?, rule.config.to_string()));
        Ok(Rules { rules: rules.iter().map(compile).collect::<anyhow::Result<_>>()?, engine, linker })
    }

    /// Returns a pipeline with fresh instances.
    pub fn instantiate(&self) -> anyhow::Result<Pipeline<Unlimited>> {
        let stages = self.rules.iter().map(|(component, config)| self.stage(component, config));
        Pipeline::new(stages.collect::<anyhow::Result<_>>()?, "device_type").map_err(anyhow::Error::msg)
    }

    fn stage(&self, component: &Component, config: &str) -> anyhow::Result<Stage<Unlimited>> {
        let mut store = Store::new(&self.engine, Silent);
        let rule = Rule::instantiate(&mut store, component, &self.linker)?;
        let manifest = rule.call_configure(&mut store, config)?;
        let manifest = manifest.map_err(anyhow::Error::msg).context("a rule refuses its configuration")?;
        let bindings::Manifest { name, version, description, reads, writes, reasons } = manifest;
        let manifest = Manifest { name, version, description, reads, writes, reasons };
        Ok(Stage { manifest, drop: false, on_fault: OnFault::DeadLetter, rule: Unlimited { store, rule } })
    }
}

impl Evaluate for Unlimited {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let columns: Vec<ColumnParam<'_>> = view.columns.iter().map(|column| bound(column)).collect();
        let batch = Batch { rows: view.rows as u32, processed_at: view.processed_at, columns: &columns };
        let outcome = self.rule.call_evaluate(&mut self.store, batch).map_err(|error| Fault::new(error.to_string()))?;
        let columns = outcome.columns.into_iter();
        Ok(Outcome {
            rejections: outcome.rejections.into_iter().map(|found| (found.row, found.reason, found.detail)).collect(),
            columns: columns.map(|column| Column { kinds: column.kinds, ends: column.ends, bytes: column.bytes }).collect(),
        })
    }
}

fn bound(column: &Column) -> ColumnParam<'_> {
    ColumnParam { kinds: &column.kinds, ends: &column.ends, bytes: &column.bytes }
}
