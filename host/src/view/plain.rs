//! The view without a terminal: a line now and then, and a line for each window that was sent.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::rates::Rates;
use super::text::{number, time_of_day};
use super::{EndOfView, by_frequency};
use weir_core::counts::Window;
use weir_core::printable::escape_line;
use weir_engine::process_snapshot::ProcessSnapshot;
use weir_engine::snapshot::Snapshot;

/// The time between two lines.
const EVERY: Duration = Duration::from_secs(2);

/// Prints lines to `out` until `watch` says to end.
///
/// # Errors
/// If `out` can't be written.
pub fn lines(shared: &ProcessSnapshot, out: &mut dyn Write, watch: &mut dyn EndOfView) -> anyhow::Result<()> {
    let mut rates = Rates::default();
    let mut closed: Option<Window> = None;
    let mut last = Instant::now();
    while watch.wait(EVERY) {
        let snapshot = shared.get();
        rates.add(&snapshot, last.elapsed());
        last = Instant::now();
        let window = snapshot.closed.as_ref().filter(|window| closed.as_ref() != Some(window)).map(window);
        let lines = window.into_iter().chain([progress(&snapshot, &rates)]);
        lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()).context(FAILED)?;
        closed = snapshot.closed;
    }
    Ok(())
}

/// Prints the final totals.
///
/// # Errors
/// If `out` can't be written.
pub fn farewell(snapshot: &Snapshot, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut lines = vec![format!(
        "{} messages read, {} passed, {} rejected; rule set {}",
        number(snapshot.read),
        number(snapshot.written),
        number(snapshot.rejections()),
        snapshot.live.hash
    )];
    lines.extend(by_frequency(snapshot).iter().map(|known| {
        let (rule, reason) = (escape_line(&known.rule), escape_line(&known.reason));
        format!("  {:>9}  {rule} {reason}", number(known.messages))
    }));
    lines.push(format!("device types: {}", counts(&snapshot.totals)));
    lines.iter().try_for_each(|line| writeln!(out, "{line}")).context(FAILED)
}

const FAILED: &str = "failed to write to standard output";

fn progress(snapshot: &Snapshot, rates: &Rates) -> String {
    let rate = rates.last();
    format!(
        "in {} ({}/s)  out {} ({}/s)  rejected {} ({}/s)  counts {}",
        number(snapshot.read),
        number(rate.read),
        number(snapshot.written),
        number(rate.written),
        number(snapshot.rejections()),
        number(rate.rejected),
        counts(&snapshot.totals)
    )
}

fn window(window: &Window) -> String {
    format!("window {}-{}Z  {}", time_of_day(window.start), time_of_day(window.end), counts(&window.counts))
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{} {}", escape_line(name), number(*count))).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use weir_control::report::SetDescription;
    use weir_engine::snapshot::Rejected;

    fn snapshot() -> Snapshot {
        Snapshot {
            read: 1_200,
            written: 1_000,
            rejected: vec![Rejected { rule: "validation".into(), reason: "missing_field".into(), messages: 200 }],
            totals: [("android".to_owned(), 700), ("i\x1bOS".to_owned(), 300)].into(),
            live: Arc::new(SetDescription { hash: "0123456789abcdef".into(), rules: Vec::new() }),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_line_has_totals_and_rates() {
        let mut rates = Rates::default();
        rates.add(&snapshot(), Duration::from_secs(2));
        assert_eq!(
            progress(&snapshot(), &rates),
            r"in 1,200 (600/s)  out 1,000 (500/s)  rejected 200 (100/s)  counts android 700, i\u{1b}OS 300"
        );
    }

    #[test]
    fn a_window_has_its_times() {
        let sent = Window {
            start: 0,
            end: 10_000,
            counts: [("iOS".to_owned(), 7)].into(),
            totals: BTreeMap::new(),
            partitions: vec![0],
        };
        assert_eq!(window(&sent), "window 00:00:00-00:00:10Z  iOS 7");
    }

    #[test]
    fn the_end_says_what_it_came_to() {
        let mut out = Vec::new();
        farewell(&snapshot(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("1,200 messages read, 1,000 passed, 200 rejected; rule set 0123456789abcdef\n"), "{text}");
        assert!(text.contains("      200  validation missing_field\n"), "{text}");
    }
}
