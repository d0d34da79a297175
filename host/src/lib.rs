//! Weir, the program: a rule engine for Kafka whose rules are sandboxed WebAssembly components.
//!
//! The engine is in the crates below `host/crates`; ARCHITECTURE.md has a map of them. This crate makes a program of it: the
//! command line, the configuration, the commands, and their output. The modules are in the best order for reading.

// The command line and the configuration.
pub mod cli;

pub mod config;

// The log and the view.
pub mod logging;

mod progress;

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
