//! One frame of the view: pure, from a [`Scene`] to cells.
//!
//! What comes from messages passes [`harmless`] before it is drawn. A small terminal shows less, from the bottom up.

use std::collections::BTreeMap;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Sparkline};

use super::by_frequency;
use super::rates::{Rates, Totals};
use super::text::{harmless, middle_out, number, uptime};
use crate::snapshot::{Message, Rejected, Snapshot, State, Verdict};

/// How many lines of the log are shown.
pub(super) const LOG_LINES: usize = 3;
/// Longest bar, in cells.
const BAR: usize = 16;

const PASSED: Color = Color::Green;
const REJECTED: Color = Color::Red;
const QUIET: Style = Style::new().fg(Color::DarkGray);
const TITLE: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);

/// What is to be seen.
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) rates: &'a Rates,
    /// The last lines of the log.
    pub(super) log: &'a [String],
    pub(super) uptime: Duration,
    /// Milliseconds since the epoch.
    pub(super) now: i64,
}

pub(super) fn draw(scene: &Scene<'_>, frame: &mut Frame<'_>) {
    let tables = scene.snapshot.rejected.len().max(scene.snapshot.totals.len() + 1).clamp(5, 12) as u16 + 2;
    let rows = [
        Constraint::Length(1),
        Constraint::Length(5),
        Constraint::Length(tables),
        Constraint::Min(3),
        Constraint::Length(LOG_LINES as u16),
        Constraint::Length(1),
    ];
    let [head, rates, middle, messages, log, hint] = frame.area().layout(&Layout::vertical(rows));
    frame.render_widget(title(scene), head);
    draw_rates(scene, frame, rates);
    let [rejections, devices] = middle.layout(&Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]));
    frame.render_widget(Paragraph::new(rejection_lines(scene.snapshot)).block(block("rejected, by rule and reason")), rejections);
    frame.render_widget(Paragraph::new(device_lines(scene)).block(block(&window_title(scene))), devices);
    let inner = block("").inner(messages);
    frame.render_widget(Paragraph::new(message_lines(scene.snapshot, inner)).block(block("last messages")), messages);
    let lines: Vec<Line<'_>> = scene.log.iter().map(|line| Line::styled(harmless(line), QUIET)).collect();
    frame.render_widget(Paragraph::new(lines), log);
    frame.render_widget(Line::from(vec![" q ".reversed(), " or Ctrl-C to stop".into()]), hint);
}

fn title<'a>(scene: &'a Scene<'_>) -> Line<'a> {
    let Snapshot { ruleset, rules, state, .. } = scene.snapshot;
    let state = match state {
        State::Connecting => "connecting".yellow(),
        State::Running => "running".fg(PASSED),
        State::Waiting(reason) => Span::styled(format!("waiting: {}", harmless(reason)), Color::Yellow),
        State::Stopping => "stopping".yellow(),
        State::Stopped => "stopped".fg(REJECTED),
    };
    let rules = if rules.is_empty() { "no rules".to_owned() } else { rules.join(" → ") };
    Line::from(vec![
        Span::styled(" weir ", TITLE.add_modifier(Modifier::REVERSED)),
        format!("  {rules}  ").into(),
        Span::styled(format!("rule set {ruleset}  up {}  ", uptime(scene.uptime)), QUIET),
        state,
    ])
}

/// Name, number and colour of a rate.
type Card = (&'static str, fn(&Totals) -> u64, Color);

fn draw_rates(scene: &Scene<'_>, frame: &mut Frame<'_>, area: Rect) {
    let (totals, last) = (Totals::of(scene.snapshot), scene.rates.last());
    let cards: [Card; 3] = [
        ("in", |totals| totals.read, Color::Blue),
        ("out", |totals| totals.written, PASSED),
        ("rejected", |totals| totals.rejected, REJECTED),
    ];
    let areas: [Rect; 3] = area.layout(&Layout::horizontal([Constraint::Fill(1); 3]));
    for ((name, of, colour), area) in cards.into_iter().zip(areas) {
        let inner = block(name).inner(area);
        frame.render_widget(block(name), area);
        let [words, spark] = inner.layout(&Layout::vertical([Constraint::Length(1), Constraint::Min(1)]));
        let rate = Span::styled(format!("{}/s", number(of(&last))), Style::new().fg(colour).bold());
        frame.render_widget(Line::from(vec![rate, Span::styled(format!("  {} in all", number(of(&totals))), QUIET)]), words);
        let history = scene.rates.history(spark.width as usize, of);
        frame.render_widget(Sparkline::default().data(history).style(colour), spark);
    }
}

fn rejection_lines(snapshot: &Snapshot) -> Vec<Line<'_>> {
    let rejected = by_frequency(snapshot);
    let most = rejected.first().map_or(0, |known| known.messages);
    let line = |known: &&Rejected| {
        Line::from(vec![
            Span::raw(format!("{:>9} ", number(known.messages))),
            Span::styled(format!("{:<BAR$} ", bar(known.messages, most)), REJECTED),
            Span::raw(harmless(&known.reason).into_owned()),
            Span::styled(format!("  {}", harmless(&known.rule)), QUIET),
        ])
    };
    if rejected.is_empty() { vec![Line::styled("none so far", QUIET)] } else { rejected.iter().map(line).collect() }
}

fn window_title(scene: &Scene<'_>) -> String {
    match scene.snapshot.closes {
        Some(closes) => format!("device types, window ends in {} s", (closes - scene.now).max(0).div_euclid(1_000)),
        None => "device types".to_owned(),
    }
}

fn device_lines<'a>(scene: &'a Scene<'_>) -> Vec<Line<'a>> {
    let Snapshot { totals, open, .. } = scene.snapshot;
    let head = Line::styled(format!("{:>11} {:>8}", "in all", "window"), QUIET);
    let most = totals.values().max().copied().unwrap_or_default();
    let mut devices: Vec<_> = totals.iter().collect();
    devices.sort_by(|a, b| b.1.cmp(a.1));
    let line = |(name, total): (&'a String, &u64)| device_line(name, *total, most, open);
    std::iter::once(head).chain(devices.into_iter().map(line)).collect()
}

fn device_line<'a>(name: &'a str, total: u64, most: u64, open: &BTreeMap<String, u64>) -> Line<'a> {
    let window = open.get(name).copied().unwrap_or_default();
    Line::from(vec![
        Span::raw(format!("{:>11} {:>8}  ", number(total), number(window))),
        Span::raw(harmless(name)),
        Span::styled(format!("  {}", bar(total, most)), PASSED),
    ])
}

/// As many of the last messages as there are rows in `area`.
fn message_lines(snapshot: &Snapshot, area: Rect) -> Vec<Line<'_>> {
    let line = |message: &Message| {
        let place = format!("{}/{} ", message.partition, message.offset);
        let (verdict, colour) = verdict(&message.verdict);
        let room = (area.width as usize).saturating_sub(place.len() + verdict.chars().count());
        let text = middle_out(&harmless(&message.text), room);
        Line::from(vec![Span::styled(place, QUIET), Span::styled(verdict, colour), Span::raw(text)])
    };
    let skipped = snapshot.last.len().saturating_sub(area.height as usize);
    snapshot.last.iter().skip(skipped).map(line).collect()
}

fn verdict(verdict: &Verdict) -> (String, Color) {
    match verdict {
        Verdict::Passed => ("passed  ".to_owned(), PASSED),
        Verdict::Rejected { rule, reason, detail } => {
            let detail = detail.as_ref().map_or(String::new(), |detail| format!(" ({})", harmless(detail)));
            (format!("{} by {}{detail}  ", harmless(reason), harmless(rule)), REJECTED)
        }
    }
}

fn block(title: &str) -> Block<'_> {
    Block::bordered().border_type(BorderType::Rounded).border_style(QUIET).title(Span::styled(format!(" {title} "), TITLE))
}

/// A bar for `value`, with the longest for `most`; at least one cell for what is not nothing.
fn bar(value: u64, most: u64) -> String {
    let cells = (value as u128 * BAR as u128).div_ceil(most.max(1) as u128) as usize;
    "█".repeat(cells.min(BAR))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn snapshot() -> Snapshot {
        let message = |offset, text: &str, verdict| Message { partition: 1, offset, text: text.into(), verdict };
        let rejected =
            Verdict::Rejected { rule: "validation".into(), reason: "missing_field".into(), detail: Some("timestamp".into()) };
        Snapshot {
            state: State::Running,
            ruleset: "0123456789abcdef".into(),
            rules: vec!["validation".into(), "device-filter".into()],
            read: 12_345,
            written: 11_000,
            rejected: vec![Rejected { rule: "validation".into(), reason: "missing_field".into(), messages: 1_345 }],
            totals: [("android".to_owned(), 7_000), ("iOS".to_owned(), 4_000)].into(),
            open: [("android".to_owned(), 70)].into(),
            closes: Some(9_000),
            last: [message(7, "{\"a\":1}", Verdict::Passed), message(8, "\x1b[2J\u{9b}31m\0", rejected)].into(),
            ..Snapshot::default()
        }
    }

    fn render(snapshot: &Snapshot, width: u16, height: u16) -> String {
        let mut rates = Rates::default();
        rates.add(snapshot, Duration::from_secs(1));
        let log = ["a line of \x1b[31mlog".to_owned()];
        let scene = Scene { snapshot, rates: &rates, log: &log, uptime: Duration::from_secs(63), now: 2_000 };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(&scene, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_frame_has_everything() {
        let frame = render(&snapshot(), 120, 30);
        for part in [
            "validation → device-filter  rule set 0123456789abcdef  up 1:03  running",
            "12,345/s  12,345 in all",
            "1,345 ████████████████ missing_field  validation",
            "7,000       70  android",
            "window ends in 7 s",
            r#"1/7 passed  {"a":1}"#,
            r"1/8 missing_field by validation (timestamp)  \u{1b}[2J\u{9b}31m\u{0}",
            r"a line of \u{1b}[31mlog",
            "or Ctrl-C to stop",
        ] {
            assert!(frame.contains(part), "{part} is not in\n{frame}");
        }
        assert!(!frame.contains(|next: char| next.is_control() && next != '\n'), "{frame:?}");
    }

    #[test]
    fn a_tiny_terminal_does_not_matter() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (400, 100)] {
            render(&snapshot(), width, height);
            render(&Snapshot::default(), width, height);
        }
    }

    #[test]
    fn bars_are_in_proportion() {
        assert_eq!([0, 1, 50, 100].map(|value| bar(value, 100).chars().count()), [0, 1, 8, 16]);
        assert_eq!(bar(0, 0), "");
    }
}
