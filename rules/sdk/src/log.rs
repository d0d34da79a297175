//! Lines for the host's log, under the rule's name. In Wasm they go to the host, natively to standard error.
//!
//! The host limits the number and the length of the lines. A line for each row is too much: reject with a detail instead.

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
    #[cfg(target_family = "wasm")]
    Panic,
}

/// Logs a line for the author of the rule.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// Logs a line that documents normal work.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// Logs a line for an operator who reads the log.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// Logs a line that should get an operator's attention.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}

#[cfg(target_family = "wasm")]
use crate::wasm::log as write;

#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
