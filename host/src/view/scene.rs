//! What a screen shows, and its colours.

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

/// What is to be seen.
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// What is known of the rules.
    pub(super) status: &'a Status,
    pub(super) rates: &'a Rates,
    /// The line of the log that matters most.
    pub(super) log: &'a str,
    /// How to swap rules.
    pub(super) invitation: &'a str,
    pub(super) uptime: Duration,
    /// Milliseconds since the epoch.
    pub(super) now: i64,
}
