//! Lines for the host's log, under the rule's name. On Wasm they go to the host, natively to standard error.
//!
//! The host limits how often and how long a rule may speak. A line per row is too much: reject with a detail instead.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
    #[cfg(target_family = "wasm")]
    Panic,
}

/// For the author of the rule.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// For the record.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// For an operator who looks.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// For an operator who should look.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}

#[cfg(target_family = "wasm")]
use crate::wasm::log as write;

#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
