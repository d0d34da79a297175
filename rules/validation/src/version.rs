//! App versions: dotted numbers with an optional pre-release and build, as `2.10.0-beta.2+exp`.
//!
//! Like semantic versions, but with any count of numbers, leading zeros, and numbers of any length, because apps are numbered
//! by people. What is missing counts as zero, so `2.3` equals `2.3.0`. Build metadata does not count. Comparing allocates
//! nothing.

use std::cmp::Ordering;

/// A version to compare others with.
pub(crate) struct Version {
    numbers: Vec<Vec<u8>>,
    pre_release: Option<Vec<u8>>,
}

impl Version {
    /// Reads a version; none if it is none.
    pub(crate) fn parse(text: &str) -> Option<Version> {
        let mut numbers = Vec::new();
        let suffix = release(text.as_bytes(), |number| numbers.push(number.to_vec()))?;
        Some(Version { numbers, pre_release: pre_release(suffix)?.map(<[u8]>::to_vec) })
    }

    /// How the version in `text` stands to this one: `Less` is older. None if `text` is no version.
    #[inline]
    pub(crate) fn compare(&self, text: &str) -> Option<Ordering> {
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

/// Gives the numbers of a release to `each`, in order, and returns what stands behind them. None if they are not digits with
/// single dots between them, followed by nothing, a pre-release or a build.
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

/// Takes `-pre.release+build` apart: the pre-release, if there is one. None if an identifier is empty or has odd characters.
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

/// A pre-release is older than its release; two are compared identifier by identifier, and the shorter of two that begin alike
/// is older: <https://semver.org/#spec-item-11>.
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

/// Numbers by value, words by their ASCII order, and numbers before words.
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

    /// From old to new.
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
