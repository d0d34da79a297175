//! The log: plain lines on standard error, or, while a terminal view is on, the last of them in memory for it to show.
//!
//! A line is time (UTC), level, module, message and fields. Standard output is never written to: it belongs to results.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, filter::Targets};

use crate::config::Log;

/// How many lines are kept for a view.
const KEPT_LINES: usize = 64;
/// Where these come from only what is wrong is of interest, whatever the level: their details are for their own developers.
const QUIET: [&str; 5] = ["wasmtime", "cranelift_codegen", "cranelift_wasm", "regalloc2", "mio"];

/// Logs to standard error from now on. Only the first call of a process has an effect.
pub fn start(log: &Log) {
    let ansi = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_timer(Utc).with_ansi(ansi).with_writer(io::stderr);
    // Fails if something logs already, which is well.
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets(log))).try_init();
}

/// Keeps the last lines for a view from now on. Only the first call of a process has an effect.
pub fn start_in_memory(log: &Log) -> Lines {
    let lines = Lines::default();
    let layer = tracing_subscriber::fmt::layer().with_timer(Utc).with_target(false).with_ansi(false).with_writer(lines.clone());
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets(log))).try_init();
    lines
}

/// The last lines that were logged.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    /// The last `count` lines, the oldest first.
    pub fn last(&self, count: usize) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }
}

/// What `work` logs on this thread, on all levels.
#[cfg(test)]
pub(crate) fn recorded(work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE).with_writer(lines.clone());
    tracing::subscriber::with_default(subscriber.finish(), work);
    lines.last(KEPT_LINES).join("\n")
}

impl Write for Lines {
    /// Takes whole lines, as the formatter writes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(String::from_utf8_lossy(bytes).lines().map(str::to_owned));
        let excess = lines.len().saturating_sub(KEPT_LINES);
        lines.drain(..excess);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

fn targets(log: &Log) -> Targets {
    let quiet = log.level.min(tracing::level_filters::LevelFilter::WARN);
    Targets::new().with_default(log.level).with_targets(QUIET.map(|target| (target, quiet)))
}

/// `2024-01-31T12:00:00.123Z`.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut lines = Lines::default();
        for index in 0..2 * KEPT_LINES {
            lines.write_all(format!("line {index}\n").as_bytes()).unwrap();
        }
        assert_eq!(lines.last(2), ["line 126", "line 127"]);
        assert_eq!(lines.last(usize::MAX).len(), KEPT_LINES);
    }

    #[test]
    fn the_level_holds_and_libraries_are_quiet() {
        use tracing::{Level, level_filters::LevelFilter};
        let debug = targets(&Log { level: LevelFilter::DEBUG });
        assert!(debug.would_enable("weir::run", &Level::DEBUG) && !debug.would_enable("weir::run", &Level::TRACE));
        assert!(debug.would_enable("wasmtime", &Level::WARN) && !debug.would_enable("wasmtime", &Level::INFO));
        assert!(!targets(&Log { level: LevelFilter::ERROR }).would_enable("wasmtime", &Level::WARN));
    }
}
