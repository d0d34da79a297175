//! The core of Weir: a batch of messages in, a step of outputs, rejections and counts out.
//!
//! It is synchronous and pure: it has no clock, no I/O, and no dependency that has one. How a rule is run is behind
//! [`pipeline::Evaluate`]; when a message is processed is part of the [`record::Batch`]. Modules stand in the order in which they
//! are best read.

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
