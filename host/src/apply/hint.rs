//! What a whole input is that has no message in it: each of its lines fails, and no line says why all of them do.

use std::fmt;

use crate::json::Foreign;

/// What the input looks like by its beginning, and what makes lines of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    Foreign(Foreign),
    /// All of it is one array.
    Array,
    /// A message takes several lines.
    PrettyPrinted,
}

impl Hint {
    /// For an input that begins with `head`. Only a byte order mark leaves sound lines behind the first one; anything else is of
    /// interest where `all_fail`.
    pub(super) fn of(head: &[u8], all_fail: bool) -> Option<Hint> {
        let hint = Foreign::of(head).map(Hint::Foreign).or_else(|| Hint::of_json(head));
        hint.filter(|hint| all_fail || *hint == Hint::Foreign(Foreign::ByteOrderMark))
    }

    fn of_json(head: &[u8]) -> Option<Hint> {
        let text = head.trim_ascii_start();
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
        // What is broken over lines ends its first one where more has to follow.
        let goes_on = [b'{', b'[', b','].iter().any(|last| first.last() == Some(last));
        let begins_object = first.starts_with(b"{") && goes_on && first.len() < text.len();
        match text.first() {
            Some(b'[') => Some(Hint::Array),
            _ => begins_object.then_some(Hint::PrettyPrinted),
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, remedy) = match self {
            Hint::Foreign(Foreign::ByteOrderMark) => ("a byte order mark is in front of the first line", "tail --bytes +4 FILE"),
            Hint::Foreign(Foreign::Utf16) => ("this looks like UTF-16", "iconv --from-code UTF-16 --to-code UTF-8 FILE"),
            Hint::Foreign(Foreign::Gzip) => ("this looks like gzip", "gunzip --stdout FILE"),
            Hint::Foreign(Foreign::Zstd) => ("this looks like zstd", "zstd --decompress --stdout FILE"),
            Hint::Foreign(Foreign::Framed(_)) => {
                return out.write_str("this looks framed for a schema registry, and Weir reads plain JSON, one message a line");
            }
            Hint::Array => ("this looks like one JSON array", "jq --compact-output '.[]' FILE"),
            Hint::PrettyPrinted => ("this looks like JSON over several lines", "jq --compact-output . FILE"),
        };
        write!(out, "{what}; one message a line is expected: `{remedy} | weir apply`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_without_a_message_is_told_for_what_it_is() {
        let cases: [(&[u8], Hint); 8] = [
            (b"\x1f\x8b\x08\0", Hint::Foreign(Foreign::Gzip)),
            (b"\x28\xb5\x2f\xfd\x04", Hint::Foreign(Foreign::Zstd)),
            (b"\xff\xfe{\0", Hint::Foreign(Foreign::Utf16)),
            (b"{\0\"\0", Hint::Foreign(Foreign::Utf16)),
            (b"\0\0\0\0\x07{", Hint::Foreign(Foreign::Framed(7))),
            (b" [\n{}]", Hint::Array),
            (b"{\n  \"a\": 1\n}\n", Hint::PrettyPrinted),
            (b"\xef\xbb\xbf{}\n", Hint::Foreign(Foreign::ByteOrderMark)),
        ];
        for (head, hint) in cases {
            assert_eq!(Hint::of(head, true), Some(hint), "{head:?}");
        }
        for plain in [&b"not JSON\n"[..], b"", b"{\"a\":1}\n{\"a\":2}\n", b"{\"a\":", b"{} x\n"] {
            assert_eq!(Hint::of(plain, true), None, "{plain:?}");
        }
    }

    #[test]
    fn where_lines_pass_only_a_byte_order_mark_is_worth_a_word() {
        assert_eq!(Hint::of(b"[\n", false), None);
        assert_eq!(Hint::of(b"\xef\xbb\xbf{}\n", false), Some(Hint::Foreign(Foreign::ByteOrderMark)));
    }
}
