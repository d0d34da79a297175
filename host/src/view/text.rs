//! Text for operators: numbers with separators, times, and lines of a given width.

use std::borrow::Cow;
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Map, Value};

/// Returns `text` in at most `room` characters. A part near the beginning is left out, because rules write at the end.
pub(crate) fn middle_out(text: &str, room: usize) -> String {
    const HEAD: usize = 20;
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let head = HEAD.min(room / 3);
    let tail = (room - head).saturating_sub(1);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).take(room).collect()
}

/// Returns the fields in a fragment of a JSON object as `name value, name value`. Any other text is returned as it is.
pub(super) fn fields(written: &str) -> Cow<'_, str> {
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(&format!("{{{}}}", written.trim_matches(','))) else {
        return Cow::Borrowed(written);
    };
    let field = |(name, value): (String, Value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    };
    Cow::Owned(fields.into_iter().map(field).collect::<Vec<_>>().join(", "))
}

/// Returns `text` in at most `most` lines of `width` characters. A text that is too long ends in `…`. Lines end between words,
/// except for words that are longer than a line.
pub(super) fn wrap(text: &str, width: usize, most: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut rest = characters.as_slice();
    let mut lines = Vec::new();
    while rest.len() > width && lines.len() + 1 < most && width > 0 {
        let blank = rest[..=width].iter().rposition(|next| *next == ' ').filter(|at| *at > 0);
        let (line, behind) = rest.split_at(blank.unwrap_or(width));
        lines.push(line.iter().collect());
        rest = if blank.is_some() { &behind[1..] } else { behind };
    }
    let is_cut = rest.len() > width;
    let shown = if is_cut { width.saturating_sub(1) } else { rest.len() };
    lines.push(rest[..shown].iter().copied().chain(is_cut.then_some('…')).collect());
    lines
}

/// Returns a number with separators: `1234567` as `1,234,567`.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a duration as `1:02:03`, or as `2:03` if it is less than an hour.
pub(super) fn uptime(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Returns a time of day in UTC, from milliseconds since the epoch.
pub(super) fn time_of_day(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).map_or_else(|| millis.to_string(), |time| time.format("%H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_and_end_stay() {
        assert_eq!(middle_out("short", 5), "short");
        assert_eq!(middle_out("0123456789abc", 9), "012…89abc");
        assert_eq!([0, 1, 2].map(|room| middle_out("abc", room)), ["", "…", "…c"]);
    }

    #[test]
    fn what_is_too_long_for_a_line_goes_on_in_the_next() {
        assert_eq!(wrap("one two three", 7, 9), ["one two", "three"]);
        assert_eq!(wrap("one two three", 20, 9), ["one two three"]);
        assert_eq!(wrap("onetwothree", 4, 9), ["onet", "woth", "ree"]);
        assert_eq!(wrap("one two three four", 7, 2), ["one two", "three …"]);
        assert_eq!((wrap("", 5, 2), wrap("abc", 1, 1), wrap("abc", 0, 3)), (vec!["".into()], vec!["…".into()], vec!["…".into()]));
    }

    #[test]
    fn members_are_words() {
        assert_eq!(fields(r#","utc":"2024-01-01 00:00","seen":[1,true]"#), "utc 2024-01-01 00:00, seen [1,true]");
        assert_eq!(fields(r#"S","seen":1"#), r#"S","seen":1"#);
        assert_eq!(fields(""), "");
    }

    #[test]
    fn numbers_have_separators() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(uptime(Duration::from_secs(63)), "1:03");
        assert_eq!(uptime(Duration::from_secs(3_723)), "1:02:03");
        assert_eq!(time_of_day(86_399_000), "23:59:59");
    }
}
