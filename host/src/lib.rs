//! Weir: a rule engine for Kafka whose rules are sandboxed WebAssembly components.
//!
//! The flow, in the words of the modules below:
//!
//! ```text
//! kafka::Source ─► record::Batch ─► pipeline::process ─► record::Step ─► kafka::Sink ─► commit
//!                                     │  json: members out, members in     │
//!                                     │  wasm: each rule judges columns    ▼
//!                                     └─ counts: a delta ──────────► counts::apply
//! ```
//!
//! One thread does this ([`run`]). Signals and the loader of rules send it events; the admin interface and the view read
//! snapshots. Modules stand in the order in which they are best read.

// What is typed and written, and what it means.
pub mod cli;
pub mod config;

// Rules as components, one and as a set.
// The loop, and Kafka at its ends.
// Sets of rules that take each other's place.
// What others may see of it.
pub mod logging;

pub mod view;

// The commands.
pub mod start;

pub mod demo;

pub mod apply;

pub mod simulate;

pub mod verify;

pub mod build;

pub mod check;

pub mod rules;
