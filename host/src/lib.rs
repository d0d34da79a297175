//! Weir, the program: a rule engine for Kafka whose rules are sandboxed WebAssembly components.
//!
//! The engine is in the crates below `host/crates`, which ARCHITECTURE.md maps. Here is what makes a program of it: what is typed and
//! written, the commands, and what people see. Modules stand in the order in which they are best read.

// What is typed and written, and what it means.
pub mod cli;

pub mod config;

// What people see.
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
