//! The log: plain lines on standard error, or, while a terminal view is on, the last of them in memory for it to show.
//!
//! A line is time (UTC), level, module, message and fields. Standard output is never written to: it belongs to results.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, filter::Targets};

use crate::config::Log;

/// How many lines are kept for a view.
const KEPT_LINES: usize = 64;
/// How long a complaint goes before other lines of a view.
const NEWS: Duration = Duration::from_secs(60);
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
    let layer = tracing_subscriber::fmt::layer().with_timer(TimeOfDay).with_target(false).with_ansi(false);
    let layer = layer.with_writer(lines.clone());
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets(log))).try_init();
    lines
}

/// The last lines that were logged.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<VecDeque<(Instant, String)>>>);

impl Lines {
    /// The line that matters most: the last complaint for as long as it is news, else the last line.
    pub fn notable(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = |(since, line): &&(Instant, String)| since.elapsed() < NEWS && is_complaint(line);
        lines.iter().rev().find(is_news).or_else(|| lines.back()).map_or_else(String::new, |(_, line)| line.clone())
    }
}

/// What `work` logs on this thread, on all levels.
#[cfg(test)]
pub(crate) fn recorded(work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE).with_writer(lines.clone());
    tracing::subscriber::with_default(subscriber.finish(), work);
    let kept = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
}

impl Write for Lines {
    /// Takes whole lines, as the formatter writes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(String::from_utf8_lossy(bytes).lines().map(|line| (Instant::now(), line.to_owned())));
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

/// Whether a line of a view's log, behind its time, is a warning or an error.
pub fn is_complaint(line: &str) -> bool {
    let level = line.trim_start_matches(|next: char| next.is_ascii_digit() || next == ':').trim_start();
    level.starts_with("WARN ") || level.starts_with("ERROR ")
}

/// `12:00:00`, for a line that has little room.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", chrono::Utc::now().format("%H:%M:%S"))
    }
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
        assert_eq!((lines.notable().as_str(), lines.0.lock().unwrap().len()), ("line 127", KEPT_LINES));
    }

    #[test]
    fn a_complaint_goes_before_what_is_said_later() {
        let mut lines = Lines::default();
        for line in ["12:00:00  INFO one", "12:00:01 ERROR two", "12:00:02  WARN three", "12:00:03  INFO WARN four"] {
            lines.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        assert_eq!(lines.notable(), "12:00:02  WARN three");
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
