//! The exports of a component: the bindings that are generated from `wit/rule.wit`, and the two functions behind them.
//!
//! The bindings use the types of [`crate::abi`], so nothing is converted at the boundary. The only state is the loaded rule,
//! which never changes after it is configured.

use std::cell::OnceCell;
use std::panic::{self, Location};
use std::process;

use crate::Rule;
use crate::abi::{Batch, Loaded, Manifest, Outcome};
use crate::log::Level;

#[allow(clippy::undocumented_unsafe_blocks, unreachable_pub, missing_docs, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "rule",
        with: { "weir:rule/types@0.1.0": crate::abi },
        pub_export_macro: true,
        export_macro_name: "export_world",
    });
}

pub use bindings::{Guest, export_world};

/// The place where a component keeps its rule.
pub type Slot<R> = OnceCell<Loaded<R>>;

/// Implements `configure` of the contract.
///
/// # Errors
/// A text that says what is wrong with the configuration.
pub fn configure<R: Rule>(slot: &Slot<R>, config: &str) -> Result<Manifest, String> {
    panic::set_hook(Box::new(report));
    let (loaded, manifest) = Loaded::configure(config)?;
    match slot.set(loaded) {
        Ok(()) => Ok(manifest),
        Err(_) => Err("failed to configure the rule: it is configured already, make a new instance".to_owned()),
    }
}

/// Implements `evaluate` of the contract.
///
/// # Panics
/// If the rule was not configured.
pub fn evaluate<R: Rule>(slot: &Slot<R>, batch: &Batch) -> Outcome {
    slot.get().expect("the host configures a rule before it evaluates").evaluate(batch)
}

/// Tells the host the reason why the rule is about to trap.
fn report(info: &panic::PanicHookInfo<'_>) {
    let what = info.payload_as_str().unwrap_or("a panic without a message");
    match info.location() {
        Some(place) => say(place, what),
        None => log(Level::Panic, what),
    }
}

/// Traps as a panic at `place` would, wherever this function is called.
#[cold]
pub(crate) fn panic_at(place: &Location<'_>, what: &str) -> ! {
    say(place, what);
    process::abort()
}

/// Logs the reason for a trap, with the place in the rule's code.
fn say(place: &Location<'_>, what: &str) {
    log(Level::Panic, &format!("{what}, at {place}"));
}

/// Sends a line to the host's log.
pub(crate) fn log(level: Level, message: &str) {
    use bindings::weir::rule::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
        Level::Panic => log::Level::Panic,
    };
    log::log(level, message);
}
