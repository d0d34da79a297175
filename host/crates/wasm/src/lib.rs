//! Rules as WebAssembly components: the only room that names wasmtime.
//!
//! [`Runtime`] compiles bytes into a [`Component`] and checks that it is a rule: imports nothing but `log`, exports
//! `configure` and `evaluate`. [`Instance`] runs one, in a store of its own with limits on all that it can take. What is
//! left out: whether a result keeps the contract, which is checked in [`weir_core::pipeline`] for every way to run a rule.

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
pub use instance::{Instance, Refused};
pub use platform::lacking;
pub use runtime::{CONTRACT, Import, hex, import};
pub use runtime::{Component, Runtime};
pub use settings::{Compile, Limits};
