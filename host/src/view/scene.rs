//! The content of a screen, and its colours.

use std::time::Duration;

use ratatui::style::{Color, Modifier, Style};
use weir_control::report::Status;
use weir_engine::snapshot::Snapshot;

use super::rates::Rates;

pub(super) const PASSED: Color = Color::Green;
pub(super) const REJECTED: Color = Color::Red;
pub(super) const QUIET: Style = Style::new().fg(Color::DarkGray);
pub(super) const TITLE: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
pub(super) const WRONG: Style = Style::new().fg(REJECTED).add_modifier(Modifier::BOLD);
pub(super) const PENDING: Style = Style::new().fg(Color::Yellow);

/// The content of a screen.
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// The status of the rules.
    pub(super) status: &'a Status,
    pub(super) rates: &'a Rates,
    /// The most important line of the log.
    pub(super) log: &'a str,
    /// A text that says how to swap rules.
    pub(super) invitation: &'a str,
    pub(super) uptime: Duration,
    /// The time of the frame, in milliseconds since the epoch.
    pub(super) now: i64,
}
