//! Tests of frames as they are drawn, at common sizes of terminals.

use std::sync::Arc;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use weir_control::report::{RuleDescription, SetRefusal, TakenBack};
use weir_engine::snapshot::{RecentRecord, Rejected, Snapshot, Verdict};

const INVITATION: &str = "swap rules meanwhile: edit weir.toml, or weir rules deploy RULE.wasm";

/// Returns a snapshot after many logins went through the three rules.
fn snapshot() -> Snapshot {
    let message = |offset, text: &str, written: &str, verdict| RecentRecord {
        partition: 1,
        offset,
        text: text.into(),
        written: written.into(),
        verdict,
    };
    let missing =
        Verdict::Rejected { rule: "validation".into(), reason: "missing_field".into(), detail: Some("timestamp".into()) };
    let written = r#","timestamp_in_utc":"2026-11-23 20:13:55","processed_time":1795464836666"#;
    let rejected = |rule: &str, reason: &str, messages| Rejected { rule: rule.into(), reason: reason.into(), messages };
    let rules = ["validation", "utc-enrichment", "device-filter"];
    let rules = rules.map(|name| RuleDescription { name: name.to_owned(), ..RuleDescription::default() }).to_vec();
    Snapshot {
        state: LoopState::Running,
        live: Arc::new(SetDescription { hash: "0123456789abcdef".into(), rules }),
        read: 12_345,
        written: 11_000,
        rejected: vec![
            rejected("validation", "missing_field", 700),
            rejected("device-filter", "unsupported_device_type", 400),
            rejected("validation", "malformed_app_version", 100),
            rejected("validation", "old_app_version", 80),
            rejected("weir", "malformed_json", 60),
            rejected("weir", "not_utf8", 3),
            rejected("weir", "too_deep", 2),
        ],
        totals: [("android".to_owned(), 7_000), ("iOS".to_owned(), 4_000)].into(),
        open: [("android".to_owned(), 70)].into(),
        closes: Some(9_000),
        last: [
            message(123_456, r#"{"user_id":"e6940da3"}"#, written, Verdict::Passed),
            message(8, "\x1b[2J\u{9b}31m\0", "", missing),
            message(9, "{}", "", Verdict::Passed),
        ]
        .into(),
        ..Snapshot::default()
    }
}

fn render_with(snapshot: &Snapshot, status: &Status, log: &str, width: u16, height: u16) -> String {
    let mut rates = crate::view::rates::Rates::default();
    rates.add(snapshot, Duration::from_secs(1));
    let uptime = Duration::from_secs(63);
    let scene = Scene { snapshot, status, rates: &rates, log, invitation: INVITATION, uptime, now: 2_000 };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(&scene, frame)).unwrap();
    terminal.backend().to_string()
}

fn render(snapshot: &Snapshot, width: u16, height: u16) -> String {
    render_with(snapshot, &Status::default(), "20:13:30  INFO a line of \x1b[31mlog", width, height)
}

fn assert_has(frame: &str, parts: &[&str]) {
    for part in parts {
        assert!(frame.contains(part), "{part} is not in\n{frame}");
    }
}

#[test]
fn eighty_by_twenty_four_has_everything_uncut() {
    let frame = render(&snapshot(), 80, 24);
    assert_has(
        &frame,
        &[
            " weir  running  up 1:03  rule set 0123456789abcdef",
            " validation → utc-enrichment → device-filter",
            "12,345/s  12,345 in all",
            "     700 missing_field           validation",
            "     400 unsupported_device_type device-filter",
            "       5 for 2 other reasons",
            "   7,000       70  android",
            "window ends in 7 s",
            "1/123456 + timestamp_in_utc 2026-11-23 20:13:55, processed_time 1795464836666",
            r"1/8 - missing_field by validation (timestamp)  \u{1b}[2J\u{9b}31m\u{0}",
            "1/9 + unchanged",
            r"20:13:30  INFO a line of \u{1b}[31mlog",
            "swap rules meanwhile: edit weir.toml, or weir rules deploy RULE.wasm",
            " q   Esc   Ctrl-C  end it",
        ],
    );
    assert!(!frame.contains(|next: char| next.is_control() && next != '\n'), "{frame:?}");
}

#[test]
fn a_wide_terminal_shows_the_message_too_and_bars() {
    let frame = render(&snapshot(), 120, 35);
    assert_has(
        &frame,
        &[r#"1795464836666  {"user_id":"e6940da3"}"#, "missing_field           validation    ████", "android ████"],
    );
    assert_has(&frame, &["running  validation → utc-enrichment → device-filter  up 1:03  rule set 0123456789abcdef"]);
}

#[test]
fn a_trial_stands_in_the_header() {
    let trial = TrialReport { records: 1_001, of: 10_000, until: 0, faults: 0, rejected: 9, previous: String::new() };
    let frame = render_with(&snapshot(), &Status { trial: Some(trial), ..Status::default() }, "", 80, 24);
    assert_has(&frame, &["running  TRIAL 1,001 of 10,000  up 1:03"]);
}

#[test]
fn why_a_set_was_taken_back_is_wrapped_and_not_cut() {
    let reason = "rules rejected 64.3 % of 112 messages, where the set before rejected 10.2 %, and trial.rejections is 20 %";
    let taken_back =
        TakenBack { hash: "d1665d0b602df996".into(), at: 0, reason: reason.into(), evidence: Vec::new(), back: None };
    let status = Status { taken_back: Some(taken_back), ..Status::default() };
    let frame = render_with(&snapshot(), &status, "", 80, 24);
    assert_has(&frame, &["running  TAKEN BACK  up 1:03", "d1665d0b602df996 was taken back: rules rejected 64.3 %", "is 20 %"]);
    let status = Status { refusal: Some(SetRefusal { at: 0, message: "no sound component".into() }), ..Status::default() };
    assert_has(&render_with(&snapshot(), &status, "", 80, 24), &["running  REFUSED", "refused: no sound component"]);
}

#[test]
fn what_it_waits_for_is_said_in_full() {
    let waiting = Snapshot { state: LoopState::Waiting(format!("no broker {}end", "answers, ".repeat(12))), ..snapshot() };
    assert_has(&render(&waiting, 80, 24), &[" weir  waiting  up", " waiting: no broker answers", "end"]);
}

#[test]
fn a_complaint_has_more_lines_than_what_is_usual() {
    let long = "word ".repeat(30) + "end";
    let frame = |level: &str| render_with(&snapshot(), &Status::default(), &format!("20:13:30 {level} {long}"), 80, 24);
    assert!(frame(" WARN").contains("end ") && frame("ERROR").contains("end "));
    assert!(!frame(" INFO").contains("word end"));
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    assert_has(&render(&snapshot(), 50, 10), &["weir  running", "in 12,345, out 11,000", "make it 60x18 or larger", "q ends it"]);
    for (width, height) in [(1, 1), (20, 5), (60, 18), (80, 24), (400, 100)] {
        render(&snapshot(), width, height);
        render(&Snapshot::default(), width, height);
    }
}
