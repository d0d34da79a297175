//! Makes text from others safe for a line of a terminal or of the log.
//!
//! Rules and brokers, and the names of files, keys and variables, bring foreign text into this program's output. Where such text
//! leaves this program, as an error, an event of the log or a part of a report, it passes [`escape_line`]. After that the text
//! can neither begin a line, which would look like a line of this program, nor control the terminal. Text that modules pass to
//! each other need not be escaped before.

use std::borrow::Cow;

/// Escapes every character that would control a terminal, end the line, or change the direction of the text after it. The rest
/// stays as it is, so text may pass more than once.
pub fn escape_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe_in_line) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for next in text.chars() {
        match next {
            next if is_unsafe_in_line(next) => out.extend(next.escape_default()),
            next => out.push(next),
        }
    }
    Cow::Owned(out)
}

/// Escapes a value inside a line like the literal of a Rust string, except that quotes stay as they are. A backslash is doubled,
/// so that no other value looks the same.
pub fn escape_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for next in text.chars() {
        match next {
            '"' | '\'' => out.push(next),
            next => out.extend(next.escape_debug()),
        }
    }
    out
}

/// Returns the first `characters` of a value, escaped as [`escape_value`] does it. Bytes that are not UTF-8 become U+FFFD.
pub fn excerpt(value: &[u8], characters: usize) -> String {
    let text: String = String::from_utf8_lossy(value).chars().take(characters).collect();
    escape_value(&text)
}

/// Returns whether `next` would do something else than stand in a line of text: move a cursor, end the line, or change the
/// direction of the text after it. Names that have such a character are refused; in output it is escaped.
pub fn is_unsafe_in_line(next: char) -> bool {
    let turns = matches!(next, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || next.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_does_not_steer_the_terminal() {
        assert_eq!(escape_line("plain äöü 日本"), "plain äöü 日本");
        assert_eq!(escape_line("a\x1b[2Jb\0\t\r\n\x7f\u{9b}c"), r"a\u{1b}[2Jb\u{0}\t\r\n\u{7f}\u{9b}c");
        for turns in ["\u{61c}", "\u{200e}", "\u{2028}", "\u{2029}", "\u{202e}", "\u{2066}"] {
            assert_eq!(escape_line(&format!("{turns}txt")), format!("{}txt", turns.escape_default()));
        }
    }

    #[test]
    fn a_value_is_escaped_so_that_no_other_value_looks_the_same() {
        assert_eq!(escape_value("a\n\u{1b}[2J\r\u{202e}\u{7f}\\é \"x\""), r#"a\n\u{1b}[2J\r\u{202e}\u{7f}\\é "x""#);
        assert_eq!(excerpt(b"a\\\xff\nrest", 4), "a\\\\\u{fffd}\\n");
    }

    #[test]
    fn what_is_escaped_stays_as_it_is_when_it_passes_again() {
        let once = escape_line("a\n\\n\u{202e}").into_owned();
        assert_eq!(once, r"a\n\n\u{202e}");
        assert_eq!(escape_line(&once), once);
    }
}
