//! Weir: a rule engine for Kafka whose rules are sandboxed WebAssembly components.

pub mod apply;
pub mod backoff;
pub mod build;
pub mod check;
pub mod cli;
pub mod column;
pub mod config;
pub mod counts;
pub mod demo;
pub mod events;
pub mod json;
pub mod kafka;
pub mod logging;
pub mod pipeline;
pub mod record;
pub mod ruleset;
pub mod run;
pub mod simulate;
pub mod snapshot;
pub mod start;
pub mod view;
pub mod wasm;
