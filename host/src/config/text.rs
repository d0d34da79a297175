//! The encoding of a configuration file, which must be UTF-8. For any other encoding the error says what was found, and in which
//! line.

/// Returns `bytes` as text. The error is the number of the first line that is not UTF-8, and a description of what it contains.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, (usize, String)> {
    const ODD: [u8; 2] = [0xff, 0xfe];
    // A configuration consists mostly of Latin letters. In UTF-16, every second byte of these is 0.
    let is_wide = matches!(bytes.get(..2), Some(first) if first == ODD || first == [0xfe, 0xff] || first.contains(&0));
    if is_wide {
        return Err((1, "it is UTF-16".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let (before, rest) = error.as_bytes().split_at(at);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        (line, format!("the byte 0x{:02x} is not UTF-8", rest.first().copied().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_is_taken_as_it_is() {
        assert_eq!(decode("# Zürich\n".into()).unwrap(), "# Zürich\n");
        assert_eq!(decode(Vec::new()).unwrap(), "");
    }

    #[test]
    fn another_encoding_is_named_with_its_line() {
        let wide = |swap: bool, text: &str| -> Vec<u8> {
            text.encode_utf16().flat_map(|unit| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        for (swap, text) in [(false, "\u{feff}[kafka]"), (true, "\u{feff}[kafka]"), (false, "[kafka]"), (true, "[kafka]")] {
            assert_eq!(decode(wide(swap, text)), Err((1, "it is UTF-16".to_owned())));
        }
        assert_eq!(decode(b"# one\n# Z\xfcrich\n".to_vec()), Err((2, "the byte 0xfc is not UTF-8".to_owned())));
    }
}
