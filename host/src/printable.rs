//! Text from others, made safe for a line of a terminal or of the log.
//!
//! Rules, brokers, and whoever names files, keys and variables have their say in what people read. Where it leaves this program,
//! as an error, an event of the log or a part of a report, it passes [`harmless`]: it can then neither begin a line, which would
//! look like one of ours, nor steer the terminal. What modules hand each other need not be escaped before. Which
//! terminals can be drawn on is told here too.

use std::borrow::Cow;
use std::ffi::OsStr;

use crate::column::steers;

/// Escapes what would steer a terminal, end the line, or turn the direction of what follows. The rest stays as it is, so text
/// may pass more than once.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for next in text.chars() {
        match next {
            next if steers(next) => out.extend(next.escape_default()),
            next => out.push(next),
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal that calls itself `term` can be drawn on.
pub(crate) fn can_draw(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_does_not_steer_the_terminal() {
        assert_eq!(harmless("plain äöü 日本"), "plain äöü 日本");
        assert_eq!(harmless("a\x1b[2Jb\0\t\r\n\x7f\u{9b}c"), r"a\u{1b}[2Jb\u{0}\t\r\n\u{7f}\u{9b}c");
        for turns in ["\u{61c}", "\u{200e}", "\u{2028}", "\u{2029}", "\u{202e}", "\u{2066}"] {
            assert_eq!(harmless(&format!("{turns}txt")), format!("{}txt", turns.escape_default()));
        }
    }

    #[test]
    fn what_is_escaped_stays_as_it_is_when_it_passes_again() {
        let once = harmless("a\n\\n\u{202e}").into_owned();
        assert_eq!(once, r"a\n\n\u{202e}");
        assert_eq!(harmless(&once), once);
    }

    #[test]
    fn what_is_no_screen_gets_plain_lines() {
        assert!(can_draw(Some(OsStr::new("xterm-256color"))));
        for other in [None, Some(""), Some("dumb")] {
            assert!(!can_draw(other.map(OsStr::new)), "{other:?}");
        }
    }
}
