//! All kinds of bad logins, as a table: the name, the defect, the weight, and the edit of a good login that causes the defect.
//!
//! The table does not say what becomes of each: the engine and its rules decide that.

use fastrand::Rng;

use weir_core::suggestion::suggestion;

/// The size of a `huge-value`, in bytes: the default limit of a Kafka broker, less room for key and headers.
const HUGE_BYTES: usize = 1_000_000;
/// The depth of `very-deep`: far beyond any stack.
const VERY_DEEP: usize = 100_000;
/// The depth of `deep-nesting`: more than sound producers send.
const DEEP: usize = 1_000;

/// A kind of bad logins.
#[derive(Debug)]
pub struct Defect {
    /// The name on the command line.
    pub name: &'static str,
    /// The defect.
    pub about: &'static str,
    /// The frequency relative to other kinds. With 0 the kind occurs only if it is asked for by name.
    pub weight: usize,
    pub(super) edit: Alteration,
}

/// The edit of a good login.
#[derive(Debug)]
pub(super) enum Alteration {
    /// The field is left out.
    Leave(&'static str),
    /// The field's value is one of these, written as they are.
    Set(&'static str, &'static [&'static str]),
    /// The field's value stands between these two.
    Wrap(&'static str, &'static str, &'static str),
    /// The field comes twice, the second time with this value.
    Twice(&'static str, &'static str),
    /// The message as a whole is changed.
    Whole(fn(&mut Vec<u8>, &mut Rng)),
    /// There is no value.
    Tombstone,
}

const fn kind(weight: usize, name: &'static str, edit: Alteration, about: &'static str) -> Defect {
    Defect { name, about, weight, edit }
}

use Alteration::{Leave, Set, Tombstone, Twice, Whole, Wrap};

/// All kinds.
pub static DEFECTS: &[Defect] = &[
    kind(8, "missing-app-version", Leave("app_version"), "no `app_version`"),
    kind(8, "missing-device-type", Leave("device_type"), "no `device_type`"),
    kind(8, "missing-timestamp", Leave("timestamp"), "no `timestamp`"),
    kind(2, "null-app-version", Set("app_version", &["null"]), "`app_version` is null"),
    kind(2, "null-device-type", Set("device_type", &["null"]), "`device_type` is null"),
    kind(2, "null-timestamp", Set("timestamp", &["null"]), "`timestamp` is null"),
    kind(16, "old-version", Set("app_version", &[r#""2.2.9""#, r#""1.10.0""#, r#""0.9""#]), "`app_version` is lower than 2.3.0"),
    kind(
        4,
        "pre-release",
        Set("app_version", &[r#""2.3.0-beta""#, r#""2.3.0-rc.1""#]),
        "`app_version` is a pre-release of 2.3.0",
    ),
    kind(
        4,
        "malformed-version",
        Set("app_version", &[r#""latest""#, r#""2..3""#, r#""""#, r#""v2.3.0""#]),
        "`app_version` is no version",
    ),
    kind(2, "number-version", Set("app_version", &["2.3", "3"]), "`app_version` is a JSON number"),
    kind(6, "millis-timestamp", Wrap("timestamp", "", "000"), "`timestamp` is in milliseconds"),
    kind(
        4,
        "malformed-timestamp",
        Set("timestamp", &[r#""yesterday""#, r#""2024-01-01T00:00:00Z""#, r#""""#]),
        "`timestamp` is text, but no number",
    ),
    kind(2, "negative-timestamp", Set("timestamp", &["-1"]), "`timestamp` is before the epoch"),
    kind(2, "boolean-timestamp", Set("timestamp", &["true"]), "`timestamp` is a boolean"),
    kind(2, "huge-integer", Wrap("timestamp", "", "000000000000000000"), "`timestamp` does not fit 64 bits"),
    kind(16, "other-device", Set("device_type", &[r#""desktop""#, r#""web""#, r#""tv""#]), "`device_type` is another one"),
    kind(2, "number-device", Set("device_type", &["7"]), "`device_type` is a number"),
    kind(2, "object-device", Set("device_type", &[r#"{"os":"android"}"#]), "`device_type` is an object"),
    kind(2, "lone-surrogate", Set("device_type", &[r#""\ud800""#]), "`device_type` has half of a surrogate pair, escaped"),
    kind(1, "raw-nul", Set("device_type", &["\"andr\0id\""]), "a NUL byte in a string"),
    kind(1, "raw-newline", Set("locale", &["\"en\nUS\""]), "a line feed in a string; more than one line"),
    kind(1, "nan", Set("timestamp", &["NaN"]), "NaN for a number"),
    kind(1, "leading-zero", Wrap("timestamp", "0", ""), "a number with a leading zero"),
    kind(1, "duplicate-member", Twice("device_type", r#""iOS""#), "`device_type` twice"),
    kind(2, "broken-json", Whole(unquoted), "names without quotes"),
    kind(2, "truncated-json", Whole(truncated), "the end is missing"),
    kind(1, "comment", Whole(commented), "a comment before the end"),
    kind(1, "trailing-bytes", Whole(trailed), "more after the end"),
    kind(1, "byte-order-mark", Whole(marked), "a byte order mark before the beginning"),
    kind(1, "not-utf8", Whole(latin), "text in another encoding than UTF-8"),
    kind(1, "not-json", Whole(prose), "plain text"),
    kind(1, "not-an-object", Whole(listed), "an array around the login"),
    kind(1, "deep-nesting", Whole(deep), "a member nested 1,000 deep"),
    kind(0, "very-deep", Whole(very_deep), "a member nested 100,000 deep; only where it is named"),
    kind(0, "huge-value", Whole(huge), "a member of a million bytes; only where it is named"),
    kind(1, "empty-value", Whole(empty), "a value of no bytes"),
    kind(1, "tombstone", Tombstone, "no value at all; no line"),
];

/// Returns the kind of this name, or else an error that suggests a similar name if there is one.
pub fn find(name: &str) -> Result<&'static Defect, String> {
    DEFECTS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let similar = suggestion(name, DEFECTS.iter().map(|kind| kind.name));
        let similar = if similar.is_empty() { ";" } else { similar.as_str() };
        format!("there is no such kind{similar} `weir simulate --list-kinds` lists them all")
    })
}

fn unquoted(value: &mut Vec<u8>, _: &mut Rng) {
    *value = String::from_utf8_lossy(value).replace("\":", ":").replace("{\"", "{").replace(",\"", ",").into_bytes();
}

fn truncated(value: &mut Vec<u8>, rng: &mut Rng) {
    value.truncate(rng.usize(1..value.len()));
}

fn commented(value: &mut Vec<u8>, _: &mut Rng) {
    before_end(value, b"/* checked */");
}

fn trailed(value: &mut Vec<u8>, _: &mut Rng) {
    value.extend_from_slice(b" {}");
}

fn marked(value: &mut Vec<u8>, _: &mut Rng) {
    value.splice(..0, *b"\xef\xbb\xbf");
}

fn latin(value: &mut Vec<u8>, _: &mut Rng) {
    before_end(value, b",\"city\":\"Z\xfcrich\"");
}

fn prose(value: &mut Vec<u8>, _: &mut Rng) {
    *value = b"user logged in".to_vec();
}

fn listed(value: &mut Vec<u8>, _: &mut Rng) {
    value.insert(0, b'[');
    value.push(b']');
}

fn deep(value: &mut Vec<u8>, _: &mut Rng) {
    nest(value, DEEP);
}

fn very_deep(value: &mut Vec<u8>, _: &mut Rng) {
    nest(value, VERY_DEEP);
}

fn nest(value: &mut Vec<u8>, depth: usize) {
    before_end(value, format!(",\"extra\":{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
}

fn huge(value: &mut Vec<u8>, _: &mut Rng) {
    before_end(value, format!(",\"extra\":\"{}\"", "x".repeat(HUGE_BYTES)).as_bytes());
}

fn empty(value: &mut Vec<u8>, _: &mut Rng) {
    value.clear();
}

/// Inserts `insert` before the closing brace.
fn before_end(value: &mut Vec<u8>, insert: &[u8]) {
    value.pop();
    value.extend_from_slice(insert);
    value.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_suggested_only_where_it_is_similar() {
        assert_eq!(
            find("tombston").unwrap_err(),
            "there is no such kind; did you mean `tombstone`? `weir simulate --list-kinds` lists them all"
        );
        assert_eq!(find("nope").unwrap_err(), "there is no such kind; `weir simulate --list-kinds` lists them all");
    }
}
