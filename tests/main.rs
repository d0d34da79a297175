//! The tests that run Weir from the outside, in one binary. Unit tests of a module are beside it, in `host/src`.

mod build;
mod cli;
mod compiling;
mod contract;
mod culprits;
mod demo;
mod end_to_end;
mod folder;
mod guest;
mod hostile;
mod json;
mod kafka;
mod lifting;
mod many_swaps;
mod operating;
mod operator;
mod oracle;
mod poison;
#[allow(dead_code, reason = "tests/faults uses the rest")]
mod poisons;
mod program;
mod rules_client;
mod silent;
mod swaps;
mod tidy;
mod tutorial;
mod verify;
