//! Rules as WebAssembly components: the only crate that uses wasmtime.
//!
//! [`Runtime`] compiles bytes into a [`Component`] and checks that the component is a rule: it imports nothing but `log`, and
//! exports `configure` and `evaluate`. [`Instance`] runs a component, in a store of its own with limits on everything that the
//! component can take. This crate does not check whether a result keeps the contract: [`weir_core::pipeline`] does, for every way
//! to run a rule.
//!
//! Together with [`weir_core`] this crate is an engine without Kafka. Rules from files process a batch like this:
//!
//! ```
//! use std::path::Path;
//!
//! use weir_core::counts::Counts;
//! use weir_core::record::{Batch, Step};
//! use weir_wasm::Runtime;
//! use weir_wasm::definition::Definition;
//! use weir_wasm::rule::Rule;
//! use weir_wasm::ruleset::RuleSet;
//!
//! # fn main() -> anyhow::Result<()> {
//! // As `make rules` builds them.
//! let folder = Path::new("../../../rules/dist");
//! let pipeline = ["validation", "device-filter"]
//!     .map(|name| Rule { file: folder.join(format!("{name}.wasm")), ..Rule::with_defaults(name) });
//! let definition = Definition::read(&pipeline, folder, "device_type")?;
//! let rules = RuleSet::prove(&Runtime::new(None)?, definition)?;
//! let mut pipeline = rules.instantiate()?;
//!
//! let mut batch = Batch::new("user-login");
//! let login = br#"{"app_version":"2.3.0","device_type":"android","timestamp":1694479551}"#;
//! batch.push(0, 0, None, None, Some(login));
//! batch.push(0, 1, None, None, Some(br#"{"app_version":"2.3.0"}"#));
//!
//! let (mut counts, mut step) = (Counts::new(60_000, false), Step::default());
//! pipeline.process(&counts, &batch, &mut step);
//! // What has become of the batch is applied once it is committed, wherever that is.
//! counts.apply(&step.counts);
//!
//! assert_eq!(step.outputs.len(), 1);
//! assert_eq!(step.rejections[0].detail.as_deref(), Some("device_type"));
//! assert_eq!(counts.totals()["android"], 1);
//! # Ok(())
//! # }
//! ```

mod bindings;
mod cache;
mod cgroup;
mod compiler;
pub mod definition;
pub mod description;
mod engine;
mod guest;
mod instance;
mod limits;
mod names;
mod platform;
pub mod rule;
pub mod ruleset;
mod runtime;
mod settings;

pub use cache::Cache;
pub use compiler::{Bounds, COMPILING, Compiler, compile_standard_input};
pub use engine::MAX_COMPONENT_BYTES;
pub use guest::Occasion;
pub use instance::{ConfigRefused, Instance};
pub use platform::unsupported_calls;
pub use runtime::{CONTRACT, Import, hex, import};
pub use runtime::{Component, Runtime};
pub use settings::{CompileLimits, Limits};
