//! The SDK for rules of Weir: a rule evaluates one row at a time, and this crate does everything between the rule and the host.
//!
//! A rule is a type that implements [`Rule`]: `configure` declares the fields that it reads and writes and its reasons, and
//! `evaluate` takes a [`Row`] and returns a [`Verdict`]. [`export!`] makes a component of it, [`test::Harness`](mod@test) runs it
//! natively. The README beside this crate shows how to build a rule from nothing in ten minutes.
//!
//! In reading order: [`rule`](Rule), [`manifest`](Manifest), [`row`](Row), [`verdict`](Verdict), `column` (the packing of rows),
//! [`abi`] (batches in, outcomes out), `wasm` (the exports), [`test`](mod@test) (the harness), [`time`] and [`version`] (values
//! that many rules read).
//!
//! Deliberately absent: a clock, randomness, files, network, and any place to keep data from one row to the next. A rule is a
//! pure function of its configuration and a row, so that the host may replay, repeat and swap it at any time.

pub mod abi;
mod column;
pub mod log;
mod manifest;
mod number;
mod row;
mod rule;
#[cfg(not(target_family = "wasm"))]
pub mod test;
#[cfg(test)]
mod tests;
pub mod time;
mod verdict;
pub mod version;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod wasm;

pub use column::Kind;
pub use manifest::{Field, Key, Manifest, Output, Reason};
pub use row::{Row, TextWriter};
pub use rule::{About, NoConfig, Rule};
pub use verdict::{Cause, Verdict};
pub use {serde, serde_json};

/// The README's rule is compiled and tested as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
