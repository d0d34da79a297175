//! Weir: a rule engine for Kafka whose rules are sandboxed WebAssembly components.

pub mod cli;
pub mod config;
pub mod counts;
pub mod pipeline;
pub mod record;
pub mod ruleset;
pub mod snapshot;
