//! Hints about an input without any message: each line fails, but the error of a line does not say why all lines fail.

use std::fmt;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

use weir_core::json::Foreign;

/// The form that the beginning of the input suggests, and the command that turns this form into lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    what: &'static str,
    /// The command. None if no command turns the input into lines.
    remedy: Option<&'static str>,
}

const fn hint(what: &'static str, remedy: &'static str) -> Hint {
    Hint { what, remedy: Some(remedy) }
}

const BYTE_ORDER_MARK: Hint = hint("a byte order mark is in front of the first line", "tail --bytes +4 FILE");
const UTF_16: Hint = hint("this looks like UTF-16", "iconv --from-code UTF-16 --to-code UTF-8 FILE");
const UTF_16_BE: Hint = hint("this looks like UTF-16BE", "iconv --from-code UTF-16BE --to-code UTF-8 FILE");
const UTF_16_LE: Hint = hint("this looks like UTF-16LE", "iconv --from-code UTF-16LE --to-code UTF-8 FILE");
const UTF_32: Hint = hint("this looks like UTF-32", "iconv --from-code UTF-32 --to-code UTF-8 FILE");
const UTF_32_BE: Hint = hint("this looks like UTF-32BE", "iconv --from-code UTF-32BE --to-code UTF-8 FILE");
const UTF_32_LE: Hint = hint("this looks like UTF-32LE", "iconv --from-code UTF-32LE --to-code UTF-8 FILE");
const GZIP: Hint = hint("this looks like gzip", "gunzip --stdout FILE");
const ZSTD: Hint = hint("this looks like zstd", "zstd --decompress --stdout FILE");
const BZIP2: Hint = hint("this looks like bzip2", "bunzip2 --stdout FILE");
const XZ: Hint = hint("this looks like xz", "xz --decompress --stdout FILE");
const ZIP: Hint = hint("this looks like zip", "unzip -p FILE");
const COMPONENT: Hint = Hint { what: "this looks like a WebAssembly component, which `weir check FILE` proves", remedy: None };
const FRAMED: Hint = Hint { what: "this looks framed for a schema registry", remedy: None };
const ARRAY: Hint = hint("this looks like one JSON array", "jq --compact-output '.[]' FILE");
const PRETTY_PRINTED: Hint = hint("this looks like JSON over several lines", "jq --compact-output . FILE");
const JOINED: Hint = hint("this looks like JSON objects without line ends between them", "jq --compact-output . FILE");
const COMMAS: Hint = hint("this looks like JSON objects with commas at the ends of lines", "sed 's/,[[:space:]]*$//' FILE");
const CARRIAGE_RETURNS: Hint = hint("this looks like lines that end with a carriage return alone", r"tr '\r' '\n' < FILE");
const QUOTED: Hint = hint("this looks like JSON objects quoted as JSON strings", "jq --raw-output . FILE");

/// The beginnings of files that are no plain text, except for those that [`Foreign`] knows. The first match counts.
const BEGINNINGS: [(&[u8], Hint); 8] = [
    (b"\xff\xfe\0\0", UTF_32),
    (b"\0\0\xfe\xff", UTF_32),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"BZh", BZIP2),
    (b"\xfd7zXZ\0", XZ),
    (b"PK\x03\x04", ZIP),
    (b"\0asm", COMPONENT),
];
/// The offset of the message after the id of a schema, in bytes.
const FRAME: usize = 5;

impl Hint {
    /// Returns the hint for an input that begins with `head` and has `readable` lines that are messages. After a byte order mark,
    /// all lines but the first may be sound. If a comma follows each object, the last line may have none, and so be a message.
    /// All other hints are given only if no line can be read.
    pub(super) fn of(head: &[u8], readable: u64) -> Option<Hint> {
        let beginning = BEGINNINGS.iter().find(|(beginning, _)| head.starts_with(beginning)).map(|(_, hint)| *hint);
        let hint = beginning.or_else(|| wide(head)).or_else(|| foreign(head)).or_else(|| json(head))?;
        let most = match hint {
            BYTE_ORDER_MARK => u64::MAX,
            ARRAY if first_line(head).ends_with(b"]") => 0,
            ARRAY | COMMAS => 1,
            _ => 0,
        };
        (readable <= most).then_some(hint)
    }
}

/// Recognizes JSON in a wide encoding without a byte order mark, by the zeros around its first character.
fn wide(head: &[u8]) -> Option<Hint> {
    let begins = |byte: u8| byte.is_ascii_whitespace() || b"{[\"".contains(&byte);
    match head {
        [first, 0, 0, 0, ..] if begins(*first) => Some(UTF_32_LE),
        [0, 0, 0, first, 0, 0, 0, ..] if begins(*first) => Some(UTF_32_BE),
        [first, 0, second, ..] if begins(*first) && *second != 0 => Some(UTF_16_LE),
        [0, first, 0, ..] if begins(*first) => Some(UTF_16_BE),
        _ => None,
    }
}

/// Returns the hint for a form that the engine also recognizes in a single message. A file counts as framed only if at least half
/// of it is text after the id of a schema, because many other files begin with zeros.
fn foreign(head: &[u8]) -> Option<Hint> {
    match Foreign::of(head)? {
        Foreign::ByteOrderMark => Some(BYTE_ORDER_MARK),
        Foreign::Gzip => Some(GZIP),
        Foreign::Zstd => Some(ZSTD),
        Foreign::Framed(_) => {
            let message = &head[FRAME..];
            let text = message.iter().filter(|byte| matches!(byte, b' '..=b'~')).count();
            (text > 0 && 2 * text >= message.len()).then_some(FRAMED)
        }
        // `BEGINNINGS` and `wide` have recognized UTF-16 already, with its byte order.
        Foreign::Utf16 => None,
    }
}

fn json(head: &[u8]) -> Option<Hint> {
    let text = head.trim_ascii_start();
    if text.starts_with(b"[") {
        return Some(ARRAY);
    }
    let Some((value, rest)) = first_value(text) else {
        let first = first_line(head);
        // The first line of an object that is spread over lines ends with a character after which more has to follow.
        let goes_on = [b'{', b'[', b','].iter().any(|last| first.last() == Some(last));
        return (first.starts_with(b"{") && goes_on && first.len() < text.len()).then_some(PRETTY_PRINTED);
    };
    if value.starts_with(b"\"") {
        let quoted = serde_json::from_slice::<String>(value).ok()?;
        return quoted.trim_start().starts_with('{').then_some(QUOTED);
    }
    let next = rest.trim_ascii_start();
    let gap = &rest[..rest.len() - next.len()];
    let [is_broken, has_return, is_apart] = [value.contains(&b'\n'), value.contains(&b'\r'), gap.contains(&b'\n')];
    match next.first() {
        _ if !value.starts_with(b"{") => None,
        Some(b',') => (!is_broken && !is_apart && first_line_is_blank(&next[1..])).then_some(COMMAS),
        _ if is_broken => Some(PRETTY_PRINTED),
        Some(b'{') if is_apart => None,
        Some(b'{') if gap.contains(&b'\r') && !has_return => Some(CARRIAGE_RETURNS),
        Some(b'{') => Some(JOINED),
        _ => None,
    }
}

/// Returns the JSON value at the beginning of `text`, and the rest. Returns None if the value is broken, or longer than `text`.
fn first_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut values = Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(text.split_at(values.byte_offset()))
}

/// Returns the first line that is not empty, without the blanks around it.
fn first_line(head: &[u8]) -> &[u8] {
    head.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end()
}

fn first_line_is_blank(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').next().is_none_or(|line| line.trim_ascii().is_empty())
}

impl fmt::Display for Hint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remedy {
            Some(remedy) => write!(out, "{}; one message a line is expected: `{remedy} | weir apply`", self.what),
            None => write!(out, "{}, and Weir reads plain JSON, one message a line", self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_without_a_message_is_told_for_what_it_is() {
        let cases: [(&[u8], Hint); 34] = [
            (b"\xef\xbb\xbf{}\n", BYTE_ORDER_MARK),
            (b"\x1f\x8b\x08\0", GZIP),
            (b"\x28\xb5\x2f\xfd\x04", ZSTD),
            (b"BZh91AY&SY", BZIP2),
            (b"\xfd7zXZ\0\0", XZ),
            (b"PK\x03\x04\x14\0", ZIP),
            (b"\xff\xfe{\0", UTF_16),
            (b"\xfe\xff\0{", UTF_16),
            (b"{\0\"\0", UTF_16_LE),
            (b"\0{\0\"", UTF_16_BE),
            (b"\0\n\0{", UTF_16_BE),
            (b"\xff\xfe\0\0{\0\0\0", UTF_32),
            (b"\0\0\xfe\xff\0\0\0{", UTF_32),
            (b"{\0\0\0\"\0\0\0", UTF_32_LE),
            (b"\0\0\0{\0\0\0\"", UTF_32_BE),
            (b"\0asm\x0d\0\x01\0\x07\x0d", COMPONENT),
            (b"\0\0\0\0\x07{", FRAMED),
            (b"\0\0\x01\x86\xa1\x0eandroid", FRAMED),
            (b" [\n{}]", ARRAY),
            (b"{\n  \"a\": 1\n}\n", PRETTY_PRINTED),
            (b"{\n  \"a\": {\n", PRETTY_PRINTED),
            (b"{\"a\": 1,\n\"b\": 2}\n", PRETTY_PRINTED),
            (b"{\"a\":\"}{\"}{\"a\":2}", JOINED),
            (b"{} {}\n", JOINED),
            (b"{\r\"a\": 1\r}\r{\r\"a\": 2\r}\r", JOINED),
            (b"{},\n{},\n{}\n", COMMAS),
            (b"{} , \r\n{}\r\n", COMMAS),
            (b"\n{},", COMMAS),
            (b"{\"a\":[1,\"\\n\"]}\r{}\r", CARRIAGE_RETURNS),
            (b"{}\r\r{}\r", CARRIAGE_RETURNS),
            (b"\"{\\\"a\\\":1}\"\n", QUOTED),
            (b"\" {}\"", QUOTED),
            (b"\"{}\"\"{}\"", QUOTED),
            (b"[\r{}\r]", ARRAY),
        ];
        for (head, hint) in cases {
            assert_eq!(Hint::of(head, 0), Some(hint), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn what_is_only_broken_is_not_told_for_something_else() {
        let cases: [&[u8]; 17] = [
            b"not JSON\n",
            b"",
            b"{\"a\":1}\n{\"a\":2}\n",
            b"{\"a\":1}\r\n{\"a\":2}\r\n",
            b"{\"a\":",
            b"{} x\n",
            b"{},{}\n",
            b"{\n},\n{\n}\n",
            b"\"text\"\n\"text\"\n",
            b"7\n8\n",
            b"BZ",
            &[0; 300],
            b"\0\0\0\0\0{}",
            b"\0\xff\xff\xff\xff{}",
            b"\0\0\0\0\x07",
            b"\0\0\0\x18\x66\x01\x02\x03\x04\x05",
            b"\0\x01\x02",
        ];
        for head in cases {
            assert_eq!(Hint::of(head, 0), None, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn the_last_line_behind_commas_may_be_a_message() {
        for array in [&b"[\n{},\n{}\n]\n"[..], b"[\r\n{}\r\n]\r\n", b"[{},\n{}\n]"] {
            assert_eq!(Hint::of(array, 1), Some(ARRAY), "{array:?}");
        }
        assert_eq!(Hint::of(b"{},\n{}\n", 1), Some(COMMAS));
        assert_eq!(Hint::of(b"[1]\n{}\n", 1), None, "the array ends where its line does");
    }

    #[test]
    fn where_lines_pass_only_a_byte_order_mark_is_worth_a_word() {
        assert_eq!(Hint::of(b"[\n", 2), None);
        assert_eq!(Hint::of(b"{},\n", 2), None);
        assert_eq!(Hint::of(b"{\n", 1), None);
        assert_eq!(Hint::of(b"\xef\xbb\xbf{}\n", 2), Some(BYTE_ORDER_MARK));
    }

    #[test]
    fn a_hint_names_a_command_or_what_is_expected() {
        let said = Hint::of(b"\0{\0\"", 0).unwrap().to_string();
        let expected = "this looks like UTF-16BE; one message a line is expected: \
                        `iconv --from-code UTF-16BE --to-code UTF-8 FILE | weir apply`";
        assert_eq!(said, expected);
        let said = Hint::of(b"\0asm\x0d", 0).unwrap().to_string();
        let expected = "this looks like a WebAssembly component, which `weir check FILE` proves, and Weir reads plain JSON, one \
                        message a line";
        assert_eq!(said, expected);
    }
}
