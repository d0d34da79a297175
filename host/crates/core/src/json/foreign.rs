//! Recognizes values that are not JSON by their first bytes: the most common mistakes of producers.
//!
//! The result is used only for the detail of a rejection. The record is rejected with the same reason either way.

use std::fmt;

/// A format that is not JSON text in UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The byte order mark of UTF-8, which is invisible.
    ByteOrderMark,
    /// UTF-16, with its byte order mark, or as ASCII characters with zero bytes between them.
    Utf16,
    Gzip,
    Zstd,
    /// A zero byte and this schema id. Serialisers that use a schema registry begin a value like this.
    Framed(u32),
}

impl Foreign {
    /// Returns the format that `bytes` begin like, if it is one of these.
    pub fn of(bytes: &[u8]) -> Option<Foreign> {
        match bytes {
            [0xef, 0xbb, 0xbf, ..] => Some(Foreign::ByteOrderMark),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', 0, ..] => Some(Foreign::Utf16),
            [0x1f, 0x8b, ..] => Some(Foreign::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Foreign::Zstd),
            // Ids are small. Zeros alone, or the beginning of a WebAssembly module, are something else.
            [0, 0, b, c, d, _, ..] if [*b, *c, *d] != [0; 3] => Some(Foreign::Framed(u32::from_be_bytes([0, *b, *c, *d]))),
            _ => None,
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Foreign::ByteOrderMark => out.write_str("begins with a byte order mark, EF BB BF; send the value without it"),
            Foreign::Utf16 => out.write_str("looks like UTF-16; send the value in UTF-8"),
            Foreign::Gzip => out.write_str("looks like gzip; leave compression to the producer, by compression.type"),
            Foreign::Zstd => out.write_str("looks like zstd; leave compression to the producer, by compression.type"),
            Foreign::Framed(id) => {
                write!(out, "begins with 00 and the schema id {id}, as for a schema registry; send plain JSON")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_byte_alone_is_no_frame_of_a_schema_registry() {
        assert_eq!(Foreign::of(b"\0\0\0\x01\x02{}"), Some(Foreign::Framed(258)));
        for other in [&b"\0asm\x01\0\0\0"[..], &[0; 16], &[0, 1]] {
            assert_eq!(Foreign::of(other), None, "{other:?}");
        }
    }
}
