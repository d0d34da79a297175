//! App versions: dotted numbers with an optional pre-release and build, such as `2.10.0-beta.2+exp`.
//!
//! They are like semantic versions, but with any count of numbers, with leading zeros, and with numbers of any length, because
//! people number their apps in many ways. A missing number is zero: `2.3` equals `2.3.0`. Build metadata does not count.
//! Comparing allocates nothing, and the versions of most apps, a few short numbers, are compared as one integer.

use std::cmp::Ordering;

/// A version to compare others with.
///
/// ```
/// use std::cmp::Ordering;
/// use weir_rule::version::Version;
///
/// let oldest = Version::parse("2.3").unwrap();
/// assert_eq!(oldest.compare("2.10.0"), Some(Ordering::Greater));
/// assert_eq!(oldest.compare("2.3.0-beta.2"), Some(Ordering::Less));
/// assert_eq!(oldest.compare("v2.3"), None);
/// ```
pub struct Version {
    numbers: Vec<Vec<u8>>,
    pre_release: Option<Vec<u8>>,
    /// The same as one integer, if it can be [`packed`].
    packed: Option<u64>,
}

impl Version {
    /// Reads a version. Returns `None` if `text` is no version.
    pub fn parse(text: &str) -> Option<Version> {
        let mut numbers = Vec::new();
        let suffix = release(text.as_bytes(), |number| numbers.push(number.to_vec()))?;
        let pre_release = pre_release(suffix)?.map(<[u8]>::to_vec);
        let packed = packed(&numbers).filter(|_| pre_release.is_none());
        Some(Version { numbers, pre_release, packed })
    }

    /// Compares the version in `text` with this one: `Less` if the text's is older. Returns `None` if `text` is no version.
    #[inline]
    pub fn compare(&self, text: &str) -> Option<Ordering> {
        match (short(text.as_bytes()), self.packed) {
            (Some(theirs), Some(own)) => Some(theirs.cmp(&own)),
            _ => self.compare_any(text),
        }
    }

    /// Compares with any version, however long.
    #[cold]
    #[inline(never)]
    fn compare_any(&self, text: &str) -> Option<Ordering> {
        let mut ordering = Ordering::Equal;
        let mut own = self.numbers.iter();
        let suffix = release(text.as_bytes(), |number| {
            ordering = ordering.then_with(|| numeric(number, own.next().map_or(b"0", Vec::as_slice)));
        })?;
        for number in own {
            ordering = ordering.then_with(|| numeric(b"0", number));
        }
        if suffix.is_empty() && self.pre_release.is_none() {
            return Some(ordering);
        }
        let theirs = pre_release(suffix)?;
        Some(ordering.then_with(|| by_pre_release(theirs, self.pre_release.as_deref())))
    }
}

/// Returns a word of eight equal bytes, to compare eight bytes at once.
const fn eight_times(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Returns a version of 4 to 8 bytes with only numbers below 10,000 in the form of [`packed`]. Returns `None` for all other
/// versions, and for a text that is no version.
///
/// The bytes are examined together, the first one in the lowest place: a processor can't predict the lengths of numbers well,
/// and in Wasm every turn of a loop costs a check.
#[inline]
fn short(text: &[u8]) -> Option<u64> {
    if !(4..=8).contains(&text.len()) {
        return None;
    }
    let bits = 8 * text.len();
    let (first, last) = (u32::from_le_bytes(*text.first_chunk()?), u32::from_le_bytes(*text.last_chunk()?));
    let used = u64::MAX >> (64 - bits);
    // Dots are zeros once they are known; behind the text there are dots only.
    let text = (u64::from(first) | u64::from(last) << (bits - 32)) ^ eight_times(b'0') & used;
    let inner = equal(text, b'.' ^ b'0') & used;
    let digits = text & !((inner >> 7) * 0xff);
    let odd = (digits | digits.wrapping_add(eight_times(6))) & eight_times(0xf0) != 0;
    let empty = inner & (inner << 8 | 0x80) != 0 || inner >> (bits - 1) != 0;
    if odd || empty { None } else { pack(digits, inner | eight_times(0x80) & !used) }
}

/// Packs numbers that end before the marks in `dots`; `digits` holds the values of their digits. At most four numbers fit in
/// eight bytes. The widths are checked once, at the end, so that none of the four numbers waits for another.
#[inline]
fn pack(digits: u64, mut dots: u64) -> Option<u64> {
    let (mut packed, mut start, mut widest) = (0, 0, 0);
    for _ in 0..4 {
        let end = dots.trailing_zeros() & !7;
        let bits = end.saturating_sub(start);
        let number = digits.wrapping_shr(start).wrapping_shl(32_u32.wrapping_sub(bits)) as u32; // ends in the highest byte
        let pairs = (number.wrapping_mul(10).wrapping_add(number >> 8)) & 0x00ff_00ff;
        packed = packed << 16 | u64::from((pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0xffff);
        widest = widest.max(bits);
        start = end + 8;
        dots &= dots.wrapping_sub(1);
    }
    (widest <= 32).then_some(packed)
}

/// Marks the bytes that are equal to `byte` with their highest bit.
#[inline]
fn equal(text: u64, byte: u8) -> u64 {
    let (other, low) = (text ^ eight_times(byte), eight_times(0x7f));
    !(((other & low) + low) | other | low)
}

/// Returns up to four numbers as one integer of the same order: 16 bits for each number, the first one in the highest bits.
fn packed(numbers: &[Vec<u8>]) -> Option<u64> {
    let number = |at: usize| numbers.get(at).map_or(Some(0), |number| str::from_utf8(number).ok()?.parse::<u16>().ok());
    (0..4).try_fold(0, |packed, at| Some(packed << 16 | u64::from(number(at)?))).filter(|_| numbers.len() <= 4)
}

/// Calls `each` with the numbers of a release, in order, and returns the text behind them. Returns `None` if the numbers are not
/// digits with single dots between them, followed by nothing, a pre-release or a build.
#[inline]
fn release<'a>(text: &'a [u8], mut each: impl FnMut(&'a [u8])) -> Option<&'a [u8]> {
    let mut rest = text;
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let (number, behind) = rest.split_at(digits);
        each(number);
        match behind {
            [b'.', behind @ ..] => rest = behind,
            [] | [b'-' | b'+', ..] => return Some(behind),
            _ => return None,
        }
    }
}

/// Returns the pre-release of `-pre.release+build`, if there is one. Returns the outer `None` if an identifier is empty or has a
/// character that semantic versions do not allow.
fn pre_release(suffix: &[u8]) -> Option<Option<&[u8]>> {
    let (pre_release, build) = match suffix.iter().position(|byte| *byte == b'+') {
        Some(plus) => (&suffix[..plus], Some(&suffix[plus + 1..])),
        None => (suffix, None),
    };
    let pre_release = pre_release.strip_prefix(b"-");
    let valid = pre_release.into_iter().chain(build).flat_map(identifiers).all(is_identifier);
    valid.then_some(pre_release)
}

fn identifiers(dotted: &[u8]) -> impl Iterator<Item = &[u8]> {
    dotted.split(|byte| *byte == b'.')
}

fn is_identifier(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Compares decimal numbers of any length by value.
#[inline]
fn numeric(left: &[u8], right: &[u8]) -> Ordering {
    if let ([left], [right]) = (left, right) {
        return left.cmp(right);
    }
    let (left, right) = (significant(left), significant(right));
    left.len().cmp(&right.len()).then_with(|| left.iter().cmp(right))
}

#[inline]
fn significant(mut number: &[u8]) -> &[u8] {
    while let [b'0', rest @ ..] = number {
        number = rest;
    }
    number
}

/// Compares two versions with the same numbers. A pre-release is older than its release. Two pre-releases are compared identifier
/// by identifier, and the shorter of two that begin alike is older: <https://semver.org/#spec-item-11>.
fn by_pre_release(left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => compare_each(identifiers(left), identifiers(right)),
    }
}

fn compare_each<'a>(mut left: impl Iterator<Item = &'a [u8]>, mut right: impl Iterator<Item = &'a [u8]>) -> Ordering {
    loop {
        match (left.next(), right.next()) {
            (Some(left), Some(right)) => match by_identifier(left, right) {
                Ordering::Equal => {}
                decided => return decided,
            },
            (left, right) => return left.is_some().cmp(&right.is_some()),
        }
    }
}

/// Compares numbers by value and words by their ASCII order; numbers come before words.
fn by_identifier(left: &[u8], right: &[u8]) -> Ordering {
    let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    match (is_number(left), is_number(right)) {
        (true, true) => numeric(left, right),
        (false, false) => left.cmp(right),
        (left, right) => right.cmp(&left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions from old to new.
    const ASCENDING: &[&str] = &[
        "0",
        "1.99999999999999999999.99999999999999999999",
        "2.3.0-alpha",
        "2.3.0-alpha.1",
        "2.3.0-alpha.2",
        "2.3.0-alpha.10",
        "2.3.0-alpha.beta",
        "2.3.0-beta",
        "2.3.0-beta.11",
        "2.3.0-rc.1",
        "2.3.0",
        "2.3.0.1",
        "2.3.1-beta",
        "2.3.1",
        "2.10.0",
        "2.18446744073709551616.0",
        "2.99999999999999999999.0",
        "3",
        "99999999999999999999999999999999999999999.0",
    ];

    fn compare(left: &str, right: &str) -> Option<Ordering> {
        Version::parse(right).unwrap().compare(left)
    }

    #[test]
    fn versions_are_ordered_as_people_mean_them() {
        for (left_at, left) in ASCENDING.iter().enumerate() {
            for (right_at, right) in ASCENDING.iter().enumerate() {
                assert_eq!(compare(left, right), Some(left_at.cmp(&right_at)), "{left} and {right}");
            }
        }
    }

    /// Compares all texts of up to 8 of these characters, so that each place has each kind of byte.
    #[test]
    fn short_versions_compare_as_any_other() {
        let oldest = ["0", "2.1", "1.2.0.1", "22.1", "2.10.0", "9999.0", "1.0.0.0.0"].map(|text| Version::parse(text).unwrap());
        let mut texts = vec![String::new()];
        for _ in 0..8 {
            texts = texts.iter().flat_map(|text| ["0", "1", "2", ".", "-"].map(|byte| format!("{text}{byte}"))).collect();
            for text in &texts {
                for oldest in &oldest {
                    assert_eq!(oldest.compare(text), oldest.compare_any(text), "{text}");
                }
            }
        }
    }

    #[test]
    fn only_digits_and_dots_are_short() {
        for text in ["2.3.0", "9999.999", "1.2.3.45", "12.34.56", "1234", "0.10"] {
            assert!(short(text.as_bytes()).is_some(), "{text}");
            for (place, byte) in (0..text.len()).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
                let mut text = text.as_bytes().to_vec();
                text[place] = byte;
                assert!(short(&text).is_none() || byte.is_ascii_digit() || byte == b'.', "{text:?}");
            }
        }
        for text in ["2.3", "12345", "1.2.3.456", "2.3.0-a"] {
            assert_eq!(short(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn spelling_and_build_do_not_count() {
        let cases = [
            ("2.3", "2.3.0"),
            ("2", "2.0.0.0"),
            ("2.03.0", "2.3.0"),
            ("2.3.0+7", "2.3.0"),
            ("2.3-a+b-c", "2.3.0-a"),
            ("2.3.0-00", "2.3.0-0"),
        ];
        for (left, right) in cases {
            assert_eq!(compare(left, right), Some(Ordering::Equal), "{left} and {right}");
            assert_eq!(compare(right, left), Some(Ordering::Equal), "{right} and {left}");
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        let cases = [
            "",
            ".",
            "2.",
            ".2",
            "2..3",
            "v2.3.0",
            "2.3.0 ",
            " 2.3.0",
            "v2.3.0",
            "2,3",
            "-2.3.0",
            "+2.3.0",
            "2.-3.0",
            "2.+3",
            "2.3.x",
            "2.3.0-",
            "2.3.0+",
            "2.3.0-a..b",
            "2.3.0-a+",
            "2.3.0-a_b",
            "2.3.0+a+b",
            "2.3.0beta",
            "２.３",
            "2.3.0\0",
            "2.3.0-é",
        ];
        for text in cases {
            assert!(Version::parse(text).is_none(), "{text:?}");
            assert_eq!(compare(text, "2.3.0"), None, "{text:?}");
        }
    }
}
