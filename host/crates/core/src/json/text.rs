//! JSON strings: finds their end, unescapes them, writes them.

/// Returns the index of the first byte at or after `from` that can't stand in a string as it is: a quote, a backslash or a
/// control character. Returns the length of `bytes` if there is none.
#[inline]
pub(super) fn next_special(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + 16) {
        let specials = specials(chunk.try_into().expect("16 bytes"));
        if specials != 0 {
            return at + specials.trailing_zeros() as usize;
        }
        at += 16;
    }
    // The rest is a part of the last 16 bytes, if there are so many.
    if let Some(chunk) = bytes.last_chunk() {
        let specials = specials(chunk) >> (at + 16 - bytes.len());
        return if specials == 0 { bytes.len() } else { at + specials.trailing_zeros() as usize };
    }
    bytes[at..].iter().position(|byte| is_special(*byte)).map_or(bytes.len(), |offset| at + offset)
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Returns one bit for each byte of `chunk`, the first byte in bit 0. The bit is set if the byte is special.
#[cfg(target_arch = "x86_64")]
#[inline]
fn specials(chunk: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8};
    // SAFETY: SSE2 is part of every x86_64, and `chunk` has the 16 bytes that the unaligned load reads.
    unsafe {
        let chunk = _mm_loadu_si128(chunk.as_ptr().cast());
        let highest_control = _mm_set1_epi8(0x1f);
        let control = _mm_cmpeq_epi8(_mm_max_epu8(chunk, highest_control), highest_control);
        let quote = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'\\' as i8));
        _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash))) as u32
    }
}

/// Returns one bit for each byte of `chunk`, the first byte in bit 0. The bit is set if the byte is special.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn specials(chunk: &[u8; 16]) -> u32 {
    chunk.iter().enumerate().fold(0, |bits, (index, byte)| bits | u32::from(is_special(*byte)) << index)
}

/// Returns whether all bytes are ASCII. The last bytes are examined 16 at a time too, where the function of the standard library
/// takes them one by one.
#[inline]
pub(super) fn is_ascii(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<16>() else { return bytes.is_ascii() };
    let whole = bytes.as_chunks::<16>().0.iter().fold(u128::from_ne_bytes(*last), |all, chunk| all | u128::from_ne_bytes(*chunk));
    whole & u128::from_ne_bytes([0x80; 16]) == 0
}

/// Returns the number of decimal digits with which `bytes` begin.
#[inline]
pub(super) fn leading_digits(bytes: &[u8]) -> usize {
    const fn eight_times(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        // A digit leaves its value; any other byte has a bit in its upper half, at the latest once six is added. A carry gets
        // only into bytes behind one that is no digit.
        let values = u64::from_le_bytes(*chunk) ^ eight_times(b'0');
        let others = (values | values.wrapping_add(eight_times(6))) & eight_times(0xf0);
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Appends bytes that are mostly few: 16 to 32 of them are copied as their first and their last 16, because a copy of a fixed length
/// takes less time.
#[inline]
pub(super) fn put(bytes: &[u8], out: &mut Vec<u8>) {
    match (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        (Some(first), Some(last)) if bytes.len() <= 32 => {
            let end = out.len() + bytes.len();
            out.extend_from_slice(first);
            out.truncate(end - 16);
            out.extend_from_slice(last);
        }
        _ => out.extend_from_slice(bytes),
    }
}

/// Appends the JSON string for `text`, quotes included. `text` is UTF-8.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(next_special(rest, 0));
        put(plain, out);
        let Some((byte, after)) = special.split_first() else { break };
        write_escape(*byte, out);
        rest = after;
    }
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Appends the text of a JSON string that is given without its quotes. The escapes must be well formed. Returns None, with a part
/// of the text appended, if the string contains half of a surrogate pair.
pub(super) fn unescape(string: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = string;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        let escape = rest[backslash + 1];
        rest = &rest[backslash + 2..];
        match escape {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (character, used) = unicode(rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[used..];
            }
            itself => out.push(itself),
        }
    }
    out.extend_from_slice(rest);
    Some(())
}

/// Returns the character whose `\u` escape goes on with `rest`, and the number of bytes of `rest` that belong to it.
fn unicode(rest: &[u8]) -> Option<(char, usize)> {
    let high = hex(rest)?;
    if let Some(character) = char::from_u32(high) {
        return Some((character, 4));
    }
    let low = rest[4..].strip_prefix(b"\\u").and_then(hex)?;
    let pair = (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low);
    let character = pair.then(|| char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))).flatten()?;
    Some((character, 10))
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits.get(..4)?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_special_byte_is_found_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..len {
                for special in [b'"', b'\\', 0, 0x1f] {
                    let mut bytes = vec![b' '; len];
                    bytes[at] = special;
                    assert_eq!(next_special(&bytes, 0), at);
                    assert_eq!(next_special(&bytes, at + 1), len);
                }
            }
            assert_eq!(next_special(&vec![0xff; len], 0), len);
        }
    }

    #[test]
    fn a_byte_beyond_ascii_is_seen_wherever_it_stands() {
        for len in 0..70 {
            assert!(is_ascii(&vec![0x7f; len]));
            for at in 0..len {
                let mut bytes = vec![0x7f; len];
                bytes[at] = 0x80;
                assert!(!is_ascii(&bytes), "at {at} of {len}");
            }
        }
    }

    #[test]
    fn digits_are_counted_up_to_any_other_byte() {
        for len in 0..20 {
            for (at, byte) in (0..len).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut bytes = vec![b'7'; len];
                bytes[at] = byte;
                assert_eq!(leading_digits(&bytes), if byte.is_ascii_digit() { len } else { at }, "{bytes:?}");
            }
        }
    }

    #[test]
    fn strings_survive_being_written_and_read() {
        let text = "plain \"quoted\" back\\slash \u{0}\u{1f}\n\r\t é 😀 \u{7f}";
        let mut written = Vec::new();
        write_string(text.as_bytes(), &mut written);
        assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
        let mut read = Vec::new();
        unescape(&written[1..written.len() - 1], &mut read).unwrap();
        assert_eq!(read, text.as_bytes());
    }

    #[test]
    fn surrogates_are_read_in_pairs_only() {
        let read = |string: &str| {
            let mut out = Vec::new();
            unescape(string.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(read(r"\ud83d\ude00"), Some("😀".into()));
        assert_eq!(read(r"a\u00e9\/\b\f"), Some("aé/\u{8}\u{c}".into()));
        for lone in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\u0041", r"\ud83d\ud83d", r"\ude00\ud83d"] {
            assert_eq!(read(lone), None, "{lone}");
        }
    }
}
