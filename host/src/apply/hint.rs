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
    /// For an input that begins with `head`, and has `readable` lines that are messages. A byte order mark leaves sound lines
    /// behind the first one, and an array with an object a line leaves its last one, which has no comma; anything else is of
    /// interest where no line can be read.
    pub(super) fn of(head: &[u8], readable: u64) -> Option<Hint> {
        let hint = Foreign::of(head).map(Hint::Foreign).or_else(|| Hint::of_json(head))?;
        let fits = match hint {
            Hint::Foreign(Foreign::ByteOrderMark) => true,
            Hint::Array if !first_line(head).ends_with(b"]") => readable <= 1,
            _ => readable == 0,
        };
        fits.then_some(hint)
    }

    fn of_json(head: &[u8]) -> Option<Hint> {
        let text = head.trim_ascii_start();
        let first = first_line(head);
        // What is broken over lines ends its first one where more has to follow.
        let goes_on = [b'{', b'[', b','].iter().any(|last| first.last() == Some(last));
        let begins_object = first.starts_with(b"{") && goes_on && first.len() < text.len();
        match text.first() {
            Some(b'[') => Some(Hint::Array),
            _ => begins_object.then_some(Hint::PrettyPrinted),
        }
    }
}

/// The first line that is not empty, without what is blank around it.
fn first_line(head: &[u8]) -> &[u8] {
    head.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end()
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
            assert_eq!(Hint::of(head, 0), Some(hint), "{head:?}");
        }
        for plain in [&b"not JSON\n"[..], b"", b"{\"a\":1}\n{\"a\":2}\n", b"{\"a\":", b"{} x\n"] {
            assert_eq!(Hint::of(plain, 0), None, "{plain:?}");
        }
    }

    #[test]
    fn an_array_with_an_object_a_line_is_told_though_its_last_object_is_a_message() {
        for array in [&b"[\n{},\n{}\n]\n"[..], b"[\r\n{}\r\n]\r\n", b"[{},\n{}\n]"] {
            assert_eq!(Hint::of(array, 1), Some(Hint::Array), "{array:?}");
        }
        assert_eq!(Hint::of(b"[1]\n{}\n", 1), None, "the array ends where its line does");
    }

    #[test]
    fn where_lines_pass_only_a_byte_order_mark_is_worth_a_word() {
        assert_eq!(Hint::of(b"[\n", 2), None);
        assert_eq!(Hint::of(b"{\n", 1), None);
        assert_eq!(Hint::of(b"\xef\xbb\xbf{}\n", 2), Some(Hint::Foreign(Foreign::ByteOrderMark)));
    }
}
