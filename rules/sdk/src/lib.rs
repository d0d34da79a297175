//! Write rules for Weir: judge one row at a time, and let this crate care for everything between it and the host.
//!
//! A rule is a type that implements [`Rule`]: `configure` declares what it reads, writes and rejects for, `evaluate` judges
//! a [`Row`] and answers with a [`Verdict`]. [`export!`] makes a component of it, [`test::Harness`](mod@test) runs it natively.
//! The README beside this crate builds one from nothing in ten minutes.
//!
//! In reading order: [`rule`](Rule), [`manifest`](Manifest), [`row`](Row), [`verdict`](Verdict), `column` (how rows are packed),
//! [`abi`] (batches in, outcomes out), `wasm` (the exports), [`test`](mod@test) (the harness), [`time`] and [`version`] (values that
//! many rules read).
//!
//! Deliberately absent: a clock, randomness, files, network, and any place to keep something from one row to the next. A rule
//! is a pure function of its configuration and a row, so that the host may replay, repeat and swap it at will.

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
