//! One frame of the view: pure, from a [`Scene`] to cells.
//!
//! The frame is made for 80×24; larger terminals show more lines of the same kind. All text from messages passes through
//! [`escape_line`] before it is drawn. The panels are in [`panels`]. This module draws the frame around them: the state, the
//! reason why a rule set was refused or taken back, the most important line of the log, and the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::panels;
use super::rates::RecordCounts;
use super::scene::{PASSED, PENDING, QUIET, REJECTED, Scene, TITLE, WRONG};
use super::text::{number, uptime, wrap};
use crate::logging::is_complaint;
use weir_control::report::{SetDescription, Status, TrialReport};
use weir_core::printable::escape_line;
use weir_engine::snapshot::LoopState;

/// The smallest terminal in which panels have any content, in cells.
const SMALLEST: (u16, u16) = (60, 18);
/// The height from which on there is room for larger panels, in cells.
const TALL: u16 = 30;
/// The most lines of a notice, and of a complaint of the log.
const NOTICE_LINES: usize = 4;
const LOG_LINES: usize = 3;
pub(super) fn draw(scene: &Scene<'_>, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return draw_small(scene, frame);
    }
    let width = area.width as usize;
    let (head, log, foot) = (head(scene, width), log(scene.log, width), foot(scene.invitation, width));
    let tall = area.height >= TALL;
    let most_rows = if tall { 12 } else { 6 };
    let tables = scene.snapshot.rejected.len().max(scene.snapshot.totals.len() + 1).clamp(4, most_rows) as u16 + 2;
    let rows = [
        Constraint::Length(head.len() as u16),
        Constraint::Length(if tall { 5 } else { 4 }),
        Constraint::Length(tables),
        Constraint::Min(3),
        Constraint::Length(log.len() as u16),
        Constraint::Length(foot.len() as u16),
    ];
    let [head_area, rates, middle, messages, log_area, foot_area] = area.layout(&Layout::vertical(rows));
    frame.render_widget(Paragraph::new(head), head_area);
    panels::rates(scene, frame, rates);
    let [rejections, devices] = middle.layout(&Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]));
    panels::rejections(scene.snapshot, frame, rejections);
    panels::devices(scene, frame, devices);
    panels::messages(scene.snapshot, frame, messages);
    frame.render_widget(Paragraph::new(log), log_area);
    frame.render_widget(Paragraph::new(foot), foot_area);
}

/// Draws the little that fits any terminal.
fn draw_small(scene: &Scene<'_>, frame: &mut Frame<'_>) {
    let Rect { width, height, .. } = frame.area();
    let RecordCounts { read, written, rejected } = RecordCounts::of(scene.snapshot);
    let totals = format!("in {}, out {}, rejected {}", number(read), number(written), number(rejected));
    let small = format!("{width}x{height} is too small: make it {}x{} or larger", SMALLEST.0, SMALLEST.1);
    let mut lines = vec![Line::from_iter(state(scene))];
    lines.extend([totals, small, "q ends it".to_owned()].iter().flat_map(|text| styled(text, width as usize, 4, Style::new())));
    frame.render_widget(Paragraph::new(lines), frame.area());
}

/// Returns the first lines: the state, which is never cut, then the rules, and a notice if there is one.
fn head(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let SetDescription { hash, rules } = &*scene.snapshot.live;
    let rules: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    let state = state(scene);
    let rules = if rules.is_empty() { "no rules".to_owned() } else { escape_line(&rules.join(" → ")).into_owned() };
    let set = format!("  up {}  rule set {hash}", uptime(scene.uptime));
    let taken: usize = state.iter().map(Span::width).sum();
    let one = taken + 2 + rules.chars().count() + set.len() <= width;
    let mut first = Line::from_iter(state);
    let mut lines = Vec::new();
    if one {
        first.extend([Span::raw(format!("  {rules}")), Span::styled(set, QUIET)]);
        lines.push(first);
    } else {
        first.push_span(Span::styled(set, QUIET));
        lines.extend([first, Line::raw(format!(" {rules}"))]);
    }
    if let Some((notice, style)) = notice(scene) {
        lines.extend(styled(&notice, width, NOTICE_LINES, style));
    }
    lines
}

/// Returns the state of the engine, and whether a rule set is on trial, was taken back or was refused.
fn state(scene: &Scene<'_>) -> Vec<Span<'static>> {
    let state = match scene.snapshot.state {
        LoopState::Connecting => "connecting".yellow(),
        LoopState::Running => "running".fg(PASSED),
        LoopState::Waiting(_) => "waiting".yellow(),
        LoopState::Stopping => "stopping".yellow(),
        LoopState::Stopped => "stopped".fg(REJECTED),
    };
    let mut spans = vec![Span::styled(" weir ", TITLE.add_modifier(Modifier::REVERSED)), " ".into(), state];
    let Status { trial, taken_back, refusal, .. } = scene.status;
    if let Some(TrialReport { records, of, .. }) = trial {
        spans.push(Span::styled(format!("  TRIAL {} of {}", number(*records), number(*of)), PENDING));
    }
    if taken_back.is_some() {
        spans.push(Span::styled("  TAKEN BACK", WRONG));
    } else if refusal.is_some() {
        spans.push(Span::styled("  REFUSED", WRONG));
    }
    spans
}

/// Returns the notice that is shown in full, if there is one.
fn notice(scene: &Scene<'_>) -> Option<(String, Style)> {
    let Status { taken_back, refusal, .. } = scene.status;
    if let LoopState::Waiting(reason) = &scene.snapshot.state {
        return Some((format!(" waiting: {reason}"), PENDING));
    }
    let taken_back = taken_back.as_ref().map(|set| format!(" {} was taken back: {}", set.hash, set.reason));
    taken_back.or_else(|| Some(format!(" refused: {}", refusal.as_ref()?.message))).map(|notice| (notice, WRONG))
}

/// Returns a line of the log, or several lines if it is a complaint.
fn log(line: &str, width: usize) -> Vec<Line<'static>> {
    if is_complaint(line) { styled(line, width, LOG_LINES, PENDING) } else { styled(line, width, 1, QUIET) }
}

/// Returns the invitation and the keys, in one line if that fits.
fn foot(invitation: &str, width: usize) -> Vec<Line<'static>> {
    let keys = [" q ".reversed(), " ".into(), " Esc ".reversed(), " ".into(), " Ctrl-C ".reversed(), " end it".into()];
    let keys_width: usize = keys.iter().map(Span::width).sum();
    let invitation = format!(" {}", escape_line(invitation));
    if invitation.chars().count() + 2 + keys_width <= width {
        let spans = keys.into_iter().chain(["  ".into(), Span::styled(invitation, TITLE)]);
        return vec![Line::from_iter(spans)];
    }
    let mut lines = styled(&invitation, width, 2, TITLE);
    lines.push(Line::from_iter(keys));
    lines
}

fn styled(text: &str, width: usize, most: usize, style: Style) -> Vec<Line<'static>> {
    wrap(&escape_line(text), width, most).into_iter().map(|line| Line::styled(line, style)).collect()
}

#[cfg(test)]
mod tests;
