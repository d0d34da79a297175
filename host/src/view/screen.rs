//! The view on a terminal: takes the screen, draws it anew several times a second, and gives it back.

use std::time::{Duration, Instant};

use anyhow::Context;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;

use super::ascii;
use super::draw;
use super::rates::Rates;
use super::scene::Scene;
use super::{EndOfView, ViewSources};
use crate::logging::RecentLines;
use weir_system::clock::now;

/// The time between two frames. More frames would show the operator nothing more, and would take processor time from the engine.
const FRAME: Duration = Duration::from_millis(200);
/// The time between two rates. If it were shorter, the rates would flicker with the batches.
const RATE: Duration = Duration::from_secs(1);

/// Shows `stage` and the important lines of `log` until `q`, Esc or Ctrl-C is pressed, or `watch` says to end. The terminal is
/// restored in any case, also after a panic.
///
/// # Errors
/// If the terminal can't be used.
pub fn screen(stage: &ViewSources, log: &RecentLines, watch: &mut dyn EndOfView) -> anyhow::Result<()> {
    let outcome = ratatui::try_init().and_then(|mut terminal| show(&mut terminal, stage, log, watch));
    ratatui::restore();
    outcome.context("failed to use the terminal: pipe the output through `cat` for plain lines")
}

fn show(
    terminal: &mut DefaultTerminal,
    stage: &ViewSources,
    log: &RecentLines,
    watch: &mut dyn EndOfView,
) -> std::io::Result<()> {
    let (begun, ascii) = (Instant::now(), ascii::is_wanted());
    let mut rates = Rates::default();
    let mut rated = begun;
    while watch.wait(FRAME) {
        let snapshot = stage.snapshot.get();
        let status = stage.rules.status(&snapshot);
        if rated.elapsed() >= RATE {
            rates.add(&snapshot, rated.elapsed());
            rated = Instant::now();
        }
        let scene = Scene {
            snapshot: &snapshot,
            status: &status,
            rates: &rates,
            log: &log.notable(),
            invitation: &stage.invitation,
            uptime: begun.elapsed(),
            now: now(),
        };
        terminal.draw(|frame| {
            draw::draw(&scene, frame);
            if ascii {
                ascii::reduce(frame.buffer_mut());
            }
        })?;
        if end_is_asked_for()? {
            break;
        }
    }
    Ok(())
}

/// Returns whether a key that ends the view was pressed. Does not wait.
fn end_is_asked_for() -> std::io::Result<bool> {
    while event::poll(Duration::ZERO)? {
        match event::read()? {
            Event::Key(key) if ends(key) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

/// Returns whether `key` ends the view. While the screen is taken, Ctrl-C is an ordinary key.
fn ends(key: KeyEvent) -> bool {
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_ctrl_c_end_it() {
        let key = |code, modifiers| ends(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE) && key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE) && !key(KeyCode::Enter, KeyModifiers::NONE));
    }
}
