//! The log: plain lines on standard error. While a terminal view is on, the last lines are kept in memory instead, and the view
//! shows them.
//!
//! A line contains time (UTC), level, module, message and fields. An event is always one line, whatever rules, brokers and file
//! names contribute to it. The log never uses standard output, which is reserved for results.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, filter::Targets};

use crate::config::Log;
use weir_core::printable::escape_line;

/// The most lines that are kept for a view.
const KEPT_LINES: usize = 64;
/// The time for which a warning or an error takes precedence over other lines in a view.
const NEWS: Duration = Duration::from_secs(60);
/// The libraries of which only warnings and errors are logged, whatever the level is. Their details help only their own
/// developers.
const QUIET: [&str; 5] = ["wasmtime", "cranelift_codegen", "cranelift_wasm", "regalloc2", "mio"];

/// Logs to standard error from now on. Only the first call of a process has an effect.
pub fn start(log: &Log) {
    let ansi = io::stderr().is_terminal() && is_colourful(|name| std::env::var_os(name));
    let layer = tracing_subscriber::fmt::layer().fmt_fields(Fields).with_timer(Utc).with_ansi(ansi).with_writer(io::stderr);
    // Fails if a log has been started before, which does no harm.
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets(log))).try_init();
}

/// Returns whether a view can be drawn on a terminal of the type `term`.
pub(crate) fn can_draw(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Returns whether colours can be used on a terminal. `variable` returns the values of the variables TERM and NO_COLOR
/// (<https://no-color.org>).
fn is_colourful(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let (term, no_color) = (variable("TERM"), variable("NO_COLOR"));
    can_draw(term.as_deref()) && no_color.is_none_or(|no_color| no_color.is_empty())
}

/// Keeps the last lines for a view from now on. Only the first call of a process has an effect.
pub fn start_in_memory(log: &Log) -> RecentLines {
    let lines = RecentLines::default();
    let layer = tracing_subscriber::fmt::layer().fmt_fields(Fields).with_timer(TimeOfDay).with_target(false).with_ansi(false);
    let layer = layer.with_writer(lines.clone());
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets(log))).try_init();
    lines
}

/// The last lines that were logged.
#[derive(Clone, Debug, Default)]
pub struct RecentLines(Arc<Mutex<VecDeque<(Instant, String)>>>);

impl RecentLines {
    /// Returns the most important line: the last warning or error if it is recent, otherwise the last line.
    pub fn notable(&self) -> String {
        let lines = self.0.lock();
        let is_news = |(since, line): &&(Instant, String)| since.elapsed() < NEWS && is_complaint(line);
        lines.iter().rev().find(is_news).or_else(|| lines.back()).map_or_else(String::new, |(_, line)| line.clone())
    }
}

/// Returns the text that `work` logs on this thread, on all levels.
#[cfg(test)]
pub(crate) fn recorded(work: impl FnOnce()) -> String {
    let lines = RecentLines::default();
    let subscriber = tracing_subscriber::fmt().fmt_fields(Fields).with_ansi(false).with_max_level(tracing::Level::TRACE);
    let subscriber = subscriber.with_writer(lines.clone());
    tracing::subscriber::with_default(subscriber.finish(), work);
    let kept = lines.0.lock();
    kept.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
}

impl Write for RecentLines {
    /// Takes whole lines, as the formatter writes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock();
        lines.extend(String::from_utf8_lossy(bytes).lines().map(|line| (Instant::now(), line.to_owned())));
        let excess = lines.len().saturating_sub(KEPT_LINES);
        lines.drain(..excess);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RecentLines {
    type Writer = RecentLines;

    fn make_writer(&'a self) -> RecentLines {
        self.clone()
    }
}

fn targets(log: &Log) -> Targets {
    let quiet = log.level.min(tracing::level_filters::LevelFilter::WARN);
    Targets::new().with_default(log.level).with_targets(QUIET.map(|target| (target, quiet)))
}

/// Returns whether a line of a view's log is a warning or an error. The line begins with its time.
pub fn is_complaint(line: &str) -> bool {
    let level = line.trim_start_matches(|next: char| next.is_ascii_digit() || next == ':').trim_start();
    level.starts_with("WARN ") || level.starts_with("ERROR ")
}

/// Formats the message and the fields of an event as by default, but escaped, because they contain text from other programs.
struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut escaped = Escaped(DefaultVisitor::new(writer, true));
        fields.record(&mut escaped);
        escaped.0.finish()
    }
}

/// A visitor that escapes each value and passes it on.
struct Escaped<'a>(DefaultVisitor<'a>);

impl Visit for Escaped<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            // Debug formatting of `format_args!` adds no quotes to the message.
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    /// Handles all other types of values as well.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.0.record_debug(field, &format_args!("{}", escape_line(&text)));
    }
}

/// The time as `12:00:00`, for lines with little room.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", chrono::Utc::now().format("%H:%M:%S"))
    }
}

/// The time as `2024-01-31T12:00:00.123Z`.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::printable::is_unsafe_in_line;

    #[test]
    fn what_is_no_screen_gets_plain_lines() {
        assert!(can_draw(Some(OsStr::new("xterm-256color"))));
        for other in [None, Some(""), Some("dumb")] {
            assert!(!can_draw(other.map(OsStr::new)), "{other:?}");
        }
    }

    #[test]
    fn a_terminal_gets_colours_only_if_it_shows_them_and_nobody_minds() {
        let is_colourful =
            |term: &str, no_color: &str| is_colourful(|name| Some(OsString::from(if name == "TERM" { term } else { no_color })));
        assert!(is_colourful("xterm-256color", ""));
        assert!(!is_colourful("dumb", "") && !is_colourful("", "") && !is_colourful("xterm-256color", "1"));
        assert!(!super::is_colourful(|_| None));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut lines = RecentLines::default();
        for index in 0..2 * KEPT_LINES {
            lines.write_all(format!("line {index}\n").as_bytes()).unwrap();
        }
        assert_eq!((lines.notable().as_str(), lines.0.lock().len()), ("line 127", KEPT_LINES));
    }

    #[test]
    fn a_complaint_goes_before_what_is_said_later() {
        let mut lines = RecentLines::default();
        for line in ["12:00:00  INFO one", "12:00:01 ERROR two", "12:00:02  WARN three", "12:00:03  INFO WARN four"] {
            lines.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        assert_eq!(lines.notable(), "12:00:02  WARN three");
    }

    #[test]
    fn nothing_that_is_logged_begins_a_line_or_steers_the_terminal() {
        const EVIL: &str = "a\x1b[2J\r\n2026-01-01T00:00:00Z ERROR weir: all is lost\t\x7f\u{9b}\u{61c}\u{202e}\u{2028}";
        const ESCAPED: &str = r"a\u{1b}[2J\r\n2026-01-01T00:00:00Z ERROR weir: all is lost\t\u{7f}\u{9b}\u{61c}\u{202e}\u{2028}";
        let text = recorded(|| {
            tracing::warn!("{EVIL}");
            tracing::warn!(message = EVIL);
            tracing::warn!(shown = %EVIL, "in a field");
            tracing::warn!(quoted = EVIL, "in a field");
            tracing::warn!(debugged = ?Some(EVIL), "in a field");
            tracing::info_span!("work", of = %EVIL).in_scope(|| tracing::warn!("in a span"));
        });
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 6, "{lines:#?}");
        for line in lines {
            assert!(line.contains(ESCAPED) && !line.contains(is_unsafe_in_line), "{line:?}");
        }
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
