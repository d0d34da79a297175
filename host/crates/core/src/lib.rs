//! The core of Weir: it takes a batch of records and produces a step of outputs, rejections and counts.
//!
//! The core is synchronous and pure: it has no clock, no I/O, and no dependency that has one. The way a rule is run is hidden
//! behind [`pipeline::Evaluate`]. The time of processing is part of the [`record::Batch`]. The modules are listed in the order in
//! which they are best read.

pub mod position;

pub mod record;

pub mod reserved;

pub mod column;

pub mod printable;

pub mod secret;

pub mod units;

pub mod suggestion;

pub mod json;

pub mod counts;

pub mod state;

pub mod pipeline;
