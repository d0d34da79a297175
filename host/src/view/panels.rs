//! The panels of a frame: rates, rejections, device types, messages.
//!
//! Text that has to be read is on the left, and bars take the room that is left.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Sparkline};

use super::by_frequency;
use super::rates::RecordCounts;
use super::scene::{PASSED, QUIET, REJECTED, Scene, TITLE};
use super::text::{fields, middle_out, number};
use weir_core::printable::escape_line;
use weir_engine::snapshot::{RecentRecord, Rejected, Snapshot, Verdict};

/// The length of the longest bar, and the least room for any bar, in cells.
const BAR: usize = 16;
const SHORTEST_BAR: usize = 4;
/// The least room for the message behind its outcome, in cells.
const LEAST_TEXT: usize = 16;

/// The name, number and colour of a rate.
type Card = (&'static str, fn(&RecordCounts) -> u64, Color);

pub(super) fn rates(scene: &Scene<'_>, frame: &mut Frame<'_>, area: Rect) {
    let (totals, last) = (RecordCounts::of(scene.snapshot), scene.rates.last());
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

pub(super) fn rejections(snapshot: &Snapshot, frame: &mut Frame<'_>, area: Rect) {
    let Rect { width, height, .. } = block("").inner(area);
    let lines = rejection_lines(snapshot, width as usize, height as usize);
    frame.render_widget(Paragraph::new(lines).block(block("rejected, by reason and rule")), area);
}

fn rejection_lines(snapshot: &Snapshot, width: usize, height: usize) -> Vec<Line<'static>> {
    let rejected = by_frequency(snapshot);
    let most = rejected.first().map_or(0, |known| known.messages);
    let names = |known: &Rejected| (escape_line(&known.reason).into_owned(), escape_line(&known.rule).into_owned());
    let widest =
        |length: fn(&(String, String)) -> usize| rejected.iter().map(|known| length(&names(known))).max().unwrap_or_default();
    let (reasons, rules) = (widest(|(reason, _)| reason.chars().count()), widest(|(_, rule)| rule.chars().count()));
    let room = width.saturating_sub(8 + 1 + reasons + 1 + rules + 1);
    let line = |known: &&Rejected| {
        let (reason, rule) = names(known);
        Line::from(vec![
            Span::raw(format!("{:>8} {reason:<reasons$} ", number(known.messages))),
            Span::styled(format!("{rule:<rules$} "), QUIET),
            Span::styled(bar(known.messages, most, room), REJECTED),
        ])
    };
    let mut lines: Vec<Line<'_>> = rejected.iter().map(line).collect();
    if lines.is_empty() {
        lines.push(Line::styled("none so far", QUIET));
    } else if lines.len() > height && height > 0 {
        lines.truncate(height - 1);
        let rest: u64 = rejected[height - 1..].iter().map(|known| known.messages).sum();
        let kinds = rejected.len() + 1 - height;
        lines.push(Line::styled(format!("{:>8} for {kinds} other reasons", number(rest)), QUIET));
    }
    lines
}

pub(super) fn devices(scene: &Scene<'_>, frame: &mut Frame<'_>, area: Rect) {
    let title = match scene.snapshot.closes {
        Some(closes) => format!("devices, window ends in {} s", (closes - scene.now).max(0).div_euclid(1_000)),
        None => "devices".to_owned(),
    };
    let width = block("").inner(area).width as usize;
    frame.render_widget(Paragraph::new(device_lines(scene.snapshot, width)).block(block(&title)), area);
}

fn device_lines(snapshot: &Snapshot, width: usize) -> Vec<Line<'static>> {
    let Snapshot { totals, open, .. } = snapshot;
    let head = Line::styled(format!("{:>8} {:>8}", "in all", "window"), QUIET);
    let most = totals.values().max().copied().unwrap_or_default();
    let mut devices: Vec<_> = totals.iter().map(|(name, total)| (escape_line(name).into_owned(), name, *total)).collect();
    devices.sort_by_key(|(_, _, total)| std::cmp::Reverse(*total));
    let names = devices.iter().map(|(shown, ..)| shown.chars().count()).max().unwrap_or_default();
    let room = width.saturating_sub(8 + 1 + 8 + 2 + names + 1);
    let line = |(shown, name, total): &(String, &String, u64)| device_line(shown, names, *total, window(open, name), most, room);
    std::iter::once(head).chain(devices.iter().map(line)).collect()
}

fn device_line(shown: &str, names: usize, total: u64, window: u64, most: u64, room: usize) -> Line<'static> {
    let words = format!("{:>8} {:>8}  {shown:<names$} ", number(total), number(window));
    Line::from(vec![Span::raw(words), Span::styled(bar(total, most, room), PASSED)])
}

fn window(open: &BTreeMap<String, u64>, name: &str) -> u64 {
    open.get(name).copied().unwrap_or_default()
}

/// Draws as many of the last messages as there is room for.
pub(super) fn messages(snapshot: &Snapshot, frame: &mut Frame<'_>, area: Rect) {
    let inner = block("").inner(area);
    let skipped = snapshot.last.len().saturating_sub(inner.height as usize);
    let lines: Vec<Line<'_>> =
        snapshot.last.iter().skip(skipped).map(|message| message_line(message, inner.width as usize)).collect();
    frame.render_widget(Paragraph::new(lines).block(block("last messages: + what rules wrote, - why rejected")), area);
}

/// Returns the position of a message, its outcome, and the message itself in the room that is left.
fn message_line(message: &RecentRecord, width: usize) -> Line<'static> {
    let place = format!("{}/{} ", message.partition, message.offset);
    let (fate, colour) = fate(message);
    let room = width.saturating_sub(place.len() + fate.chars().count() + 2);
    let text = if room < LEAST_TEXT { String::new() } else { middle_out(&escape_line(&message.text), room) };
    Line::from(vec![Span::styled(place, QUIET), Span::styled(fate, colour), Span::styled(format!("  {text}"), QUIET)])
}

fn fate(message: &RecentRecord) -> (String, Color) {
    match &message.verdict {
        Verdict::Passed if message.written.is_empty() => ("+ unchanged".to_owned(), PASSED),
        Verdict::Passed => (format!("+ {}", escape_line(&fields(&message.written))), PASSED),
        Verdict::Rejected { rule, reason, detail } => {
            let detail = detail.as_ref().map_or(String::new(), |detail| format!(" ({})", escape_line(detail)));
            (format!("- {} by {}{detail}", escape_line(reason), escape_line(rule)), REJECTED)
        }
    }
}

fn block(title: &str) -> Block<'_> {
    Block::bordered().border_type(BorderType::Rounded).border_style(QUIET).title(Span::styled(format!(" {title} "), TITLE))
}

/// Returns a bar for `value` in `room` cells. The longest bar is for `most`; any value above 0 gets at least one cell.
fn bar(value: u64, most: u64, room: usize) -> String {
    if room < SHORTEST_BAR {
        return String::new();
    }
    let longest = room.min(BAR);
    let cells = (value as u128 * longest as u128).div_ceil(most.max(1) as u128) as usize;
    "█".repeat(cells.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_give_way_to_words() {
        assert_eq!([0, 1, 50, 100].map(|value| bar(value, 100, 40).chars().count()), [0, 1, 8, 16]);
        assert_eq!([3, 4, 8].map(|room| bar(100, 100, room).chars().count()), [0, 4, 8]);
        assert_eq!(bar(0, 0, 40), "");
    }
}
