//! Converts JSON numbers to integers, exactly: without `f64`, which would round beyond 2^53.

/// Returns the value of a JSON number that is an integer and fits. `1.50e3` is 1500, `0.5` is none.
#[inline]
pub(crate) fn exact(text: &str) -> Option<i64> {
    digits(text).or_else(|| whole(text).filter(|whole| whole.exact).map(|whole| whole.value))
}

/// Returns the value of a JSON number with its fraction cut off, if that fits. `-1.9` is -1, `1e19` is none.
#[cold]
#[inline(never)]
pub(crate) fn truncated(text: &str) -> Option<i64> {
    whole(text).map(|whole| whole.value)
}

/// Returns the value of a text that is an integer: an optional sign and decimal digits, nothing else.
#[cold]
#[inline(never)]
pub(crate) fn integer_text(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Returns the value of 1 to [`MOST_DIGITS`] digits, and `None` for any other text. This is the fast path. Timestamps are read
/// without a loop, because in Wasm every iteration costs a check.
#[inline(always)]
pub(crate) fn digits(text: &str) -> Option<i64> {
    let text = text.as_bytes();
    match text.len() {
        9..=MOST_DIGITS => {
            // The first eight digits, without those that are among the last eight as well.
            let first = u64::from_le_bytes(*text.first_chunk()?);
            let shared = 8 * (MOST_DIGITS - text.len());
            Some(eight(behind_zeros(first, shared))? * 100_000_000 + eight(u64::from_le_bytes(*text.last_chunk()?))?)
        }
        8 => eight(u64::from_le_bytes(*text.first_chunk()?)),
        1..8 => few(text),
        _ => None,
    }
}

/// Returns the value of less than eight digits.
#[inline(never)]
fn few(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| Some(value * 10 + byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?))
}

/// The most digits that are read on the fast path: twice as many as fit a word. Their value always fits an `i64`.
const MOST_DIGITS: usize = 16;

/// Shifts a text by `bits`: digits drop out at its end, and digits zero come in at its beginning.
#[inline(always)]
fn behind_zeros(text: u64, bits: usize) -> u64 {
    (text ^ ZEROS) << bits ^ ZEROS
}

/// The digit zero, eight times.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Returns the value of eight digits, computed at once: neighbours become pairs, pairs become fours, fours become the number. The
/// first digit is in the lowest byte, so a shift to the right moves its right neighbour into that byte.
#[inline(always)]
fn eight(text: u64) -> Option<i64> {
    let digits = text ^ ZEROS;
    if (digits | digits.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some(((fours * 10_000 + (fours >> 32)) & 0xffff_ffff) as i64)
}

/// The part of a number before its decimal point. `exact` is true if only zeros follow the point.
struct Whole {
    value: i64,
    exact: bool,
}

/// Moves the decimal point by the exponent, and returns the part before it.
#[cold]
fn whole(text: &str) -> Option<Whole> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], saturating(&text[at + 1..])),
        None => (text, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = exponent.saturating_add(before.len() as i64);

    let mut whole = Whole { value: 0, exact: true };
    let mut place = 0;
    for byte in before.bytes().chain(after.bytes()) {
        let digit = i64::from(char::from(byte).to_digit(10)?);
        if place < point {
            whole.value = whole.value.checked_mul(10)?.checked_sub(digit)?; // negative, because `i64` has one more value there
        } else {
            whole.exact &= digit == 0;
        }
        place += 1;
    }
    if whole.value != 0 {
        for _ in place..point {
            whole.value = whole.value.checked_mul(10)?;
        }
    }
    if !negative {
        whole.value = whole.value.checked_neg()?;
    }
    Some(whole)
}

/// Returns an exponent of any length. If it does not fit, the nearest bound stands for it: so far out the exact value does not
/// matter.
fn saturating(exponent: &str) -> i64 {
    let far = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    exponent.parse().unwrap_or(far)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_exact_however_it_is_spelt() {
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("1.50e3", 1500),
            ("1500E-2", 15),
            ("1.7e9", 1_700_000_000),
            ("0e99999999999999999999", 0),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("922337203685477580.7e1", i64::MAX),
            ("0.0000000000000000000000001e25", 1),
        ];
        for (text, value) in cases {
            assert_eq!(exact(text), Some(value), "{text}");
        }
    }

    #[test]
    fn only_digits_are_digits_wherever_they_stand() {
        for length in 1..=MOST_DIGITS {
            let number = &"9876543210123456"[..length];
            assert_eq!(digits(number), number.parse().ok(), "{number}");
            for (place, byte) in (0..length).flat_map(|place| (0..=127).map(move |byte| (place, byte))) {
                let mut text = number.as_bytes().to_vec();
                text[place] = byte;
                let text = String::from_utf8(text).unwrap();
                let expected = byte.is_ascii_digit().then(|| text.parse().unwrap());
                assert_eq!(digits(&text), expected, "{text:?}");
            }
        }
        for text in ["", "1234567é", "12345678901234567"] {
            assert_eq!(digits(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_integer_or_does_not_fit_is_none() {
        for text in [
            "0.5",
            "-1.5",
            "1e-1",
            "9223372036854775808",
            "-9223372036854775809",
            "1e19",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(exact(text), None, "{text}");
        }
    }

    #[test]
    fn truncation_goes_towards_zero() {
        let cases =
            [("0.5", 0), ("-0.5", 0), ("1.999", 1), ("-1.999", -1), ("17e-1", 1), ("1e-99999999999999999999", 0), ("12", 12)];
        for (text, value) in cases {
            assert_eq!(truncated(text), Some(value), "{text}");
        }
        assert_eq!(truncated("1e19"), None);
    }

    #[test]
    fn an_integer_in_a_text_has_a_sign_and_digits_only() {
        assert_eq!(integer_text("1700000000"), Some(1_700_000_000));
        assert_eq!(integer_text("-12"), Some(-12));
        assert_eq!(integer_text("+12"), Some(12));
        assert_eq!(integer_text("0000000000000000000000012"), Some(12));
        for text in ["", " 1", "1 ", "1.0", "1e3", "-", "0x10", "9223372036854775808", "１"] {
            assert_eq!(integer_text(text), None, "{text:?}");
        }
    }
}
