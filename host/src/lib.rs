//! Weir: a rule engine for Kafka whose rules are sandboxed WebAssembly components.

pub mod column;
pub mod config;
pub mod counts;
pub mod json;
pub mod pipeline;
pub mod record;
pub mod ruleset;
pub mod snapshot;
pub mod wasm;
