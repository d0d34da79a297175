//! Poison: messages that break naive engines, as a table with the expected fate of each. It is used by tests on the command line,
//! on the embedded broker and on a real Kafka.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::kafka::{PARTITIONS, Record};

/// A login that passes, without its closing brace.
const OPEN: &str = r#"{"app_version":"2.3.0","device_type":"iOS","timestamp":0"#;
/// The fields that the rules add when the batch is processed at 0.
const ADDED: &str = r#","timestamp_in_utc":"1970-01-01 00:00:00","processed_time":0"#;
/// A mebibyte.
const MIB: usize = 1 << 20;

/// The expected fate of a message.
#[derive(Debug)]
pub enum Fate {
    /// The message passes, with [`ADDED`] spliced in before its last brace.
    Passes,
    /// The engine rejects the message for this reason.
    ConfigRefused(&'static str),
    /// This rule rejects the message for this reason.
    Rejected(&'static str, &'static str),
}

use Fate::{ConfigRefused, Passes, Rejected};

pub struct Poison {
    pub name: &'static str,
    pub value: Option<Vec<u8>>,
    pub fate: Fate,
}

fn poison(name: &'static str, value: impl Into<Vec<u8>>, fate: Fate) -> Poison {
    Poison { name, value: Some(value.into()), fate }
}

/// A login with `more` before its closing brace.
fn login(more: impl AsRef<[u8]>) -> Vec<u8> {
    [OPEN.as_bytes(), more.as_ref(), b"}"].concat()
}

/// A login that consists of these fields.
fn members(app_version: &str, device_type: &str, timestamp: &str) -> String {
    format!(r#"{{"app_version":{app_version},"device_type":{device_type},"timestamp":{timestamp}}}"#)
}

fn nested(depth: usize) -> String {
    format!(r#","deep":{}{}"#, "[".repeat(depth), "]".repeat(depth))
}

const MALFORMED: Fate = ConfigRefused("malformed_json");
const NOT_UTF8: Fate = ConfigRefused("not_utf8");

/// Returns all poison messages.
pub fn poisons() -> Vec<Poison> {
    let mut poisons = vec![Poison { name: "tombstone", value: None, fate: ConfigRefused("tombstone") }];
    poisons.extend(sizes());
    poisons.extend(encodings());
    poisons.extend(grammar());
    poisons.extend(values());
    poisons
}

fn sizes() -> Vec<Poison> {
    vec![
        poison("empty value", "", ConfigRefused("empty_value")),
        poison("1 MiB in a member that nobody reads", login(format!(r#","x":"{}""#, "x".repeat(MIB))), Passes),
        poison("1 MiB of members", login(format!(r#","x":[{}0]"#, "0,".repeat(MIB / 2))), Passes),
        poison(
            "1 MiB in a member that a rule reads",
            members(r#""2.3.0""#, &format!("\"{}\"", "x".repeat(MIB)), "0"),
            Rejected("device-filter", "unsupported_device_type"),
        ),
        poison("1 MiB that is no JSON", "x".repeat(MIB), MALFORMED),
        poison("1 MiB that is not UTF-8", vec![0xff; MIB], NOT_UTF8),
        poison("nested as deep as is allowed", login(nested(127)), Passes),
        poison("nested one deeper", login(nested(128)), ConfigRefused("too_deep")),
        poison("nested 100,000 deep", login(nested(100_000)), ConfigRefused("too_deep")),
        poison("100,000 arrays that never end", "[".repeat(100_000), ConfigRefused("too_deep")),
        poison("100,000 objects that never end", r#"{"a":"#.repeat(100_000), ConfigRefused("too_deep")),
    ]
}

fn encodings() -> Vec<Poison> {
    vec![
        poison("not UTF-8 where nobody reads", login(b",\"city\":\"Z\xfcrich\""), NOT_UTF8),
        poison("not UTF-8 where a rule reads", b"{\"device_type\":\"\xff\"}", NOT_UTF8),
        poison("UTF-8 that is too long", login(b",\"x\":\"\xc0\xaf\""), NOT_UTF8),
        poison("a surrogate in UTF-8", login(b",\"x\":\"\xed\xa0\x80\""), NOT_UTF8),
        poison("UTF-16", [0xff, 0xfe, b'{', 0, b'}', 0], NOT_UTF8),
        poison("a byte order mark", format!("\u{feff}{OPEN}}}"), MALFORMED),
        poison("NUL in a string", login(",\"x\":\"\0\""), MALFORMED),
        poison("NUL after the end", [&login("")[..], b"\0"].concat(), MALFORMED),
        poison("only NUL", "\0", MALFORMED),
        poison("NUL, escaped", login(r#","x":"\u0000""#), Passes),
        poison(
            "NUL, escaped, where a rule reads",
            members(r#""2.3.0""#, r#""iOS\u0000""#, "0"),
            Rejected("device-filter", "unsupported_device_type"),
        ),
        poison("half of a surrogate pair", login(r#","x":"\ud800""#), Passes),
        poison("the other half", login(r#","x":"\udc00 \ude00\ud83d""#), Passes),
        poison("half of a surrogate pair as a name", login(r#","\ud800":0"#), Passes),
        poison(
            "half of a surrogate pair where a rule reads",
            members(r#""2.3.0""#, r#""\ud800""#, "0"),
            ConfigRefused("lone_surrogate"),
        ),
        poison(
            "a pair in the wrong order where a rule reads",
            members(r#""\udc00\ud800""#, r#""iOS""#, "0"),
            ConfigRefused("lone_surrogate"),
        ),
        poison("a whole surrogate pair", login(r#","x":"\ud83d\ude00""#), Passes),
        poison("raw line feed in a string", login(",\"x\":\"\n\""), MALFORMED),
        poison("raw tab in a string", login(",\"x\":\"\t\""), MALFORMED),
    ]
}

/// Values that RFC 8259 forbids, though many readers accept them.
fn grammar() -> Vec<Poison> {
    let beside = [
        ("blanks", "  "),
        ("plain text", "user logged in"),
        ("an end that is missing", OPEN),
        ("a second object", "{} {}"),
        ("bytes after the end", "{}x"),
        ("a brace after the end", "{}}"),
        ("a line comment", "{} // done"),
        ("a comment", "{/**/}"),
        ("a comma before the end", r#"{"a":1,}"#),
        ("a comma too many", r#"{"a":1,,"b":2}"#),
        ("a comma before the first", r#"{,"a":1}"#),
        ("a comma before the end of an array", r#"{"a":[1,]}"#),
        ("a missing comma", r#"{"a":1 "b":2}"#),
        ("a missing colon", r#"{"a" 1}"#),
        ("a missing value", r#"{"a":}"#),
        ("single quotes", "{'a':1}"),
        ("names without quotes", "{a:1}"),
        ("a number for a name", "{1:1}"),
        ("NaN", r#"{"a":NaN}"#),
        ("Infinity", r#"{"a":-Infinity}"#),
        ("undefined", r#"{"a":undefined}"#),
        ("a literal in capitals", r#"{"a":True}"#),
        ("a literal that is cut off", r#"{"a":tru}"#),
        ("a literal that goes on", r#"{"a":nulll}"#),
        ("a leading zero", r#"{"a":01}"#),
        ("a leading zero after the sign", r#"{"a":-00}"#),
        ("a leading plus", r#"{"a":+1}"#),
        ("a leading point", r#"{"a":.5}"#),
        ("a point at the end", r#"{"a":1.}"#),
        ("an exponent without digits", r#"{"a":1e}"#),
        ("only a sign", r#"{"a":-}"#),
        ("a hexadecimal number", r#"{"a":0x10}"#),
        ("an escape that there is not", r#"{"a":"\x41"}"#),
        ("an escape that is too short", r#"{"a":"\u12"}"#),
        ("an escape with other digits", r#"{"a":"\u00g0"}"#),
        ("a quote that is missing", r#"{"a":"b}"#),
        ("a form feed for white space", "{\u{c}}"),
        ("a no-break space for white space", "{\u{a0}}"),
        ("brackets that cross", r#"{"a":[1}]"#),
    ];
    beside.into_iter().map(|(name, value)| poison(name, value, MALFORMED)).collect()
}

fn values() -> Vec<Poison> {
    let huge = "9".repeat(400);
    vec![
        poison("an array", format!("[{OPEN}}}]"), ConfigRefused("not_an_object")),
        poison("a text", "\"text\"", ConfigRefused("not_an_object")),
        poison("a number", "-0.5e+1", ConfigRefused("not_an_object")),
        poison("null", " null ", ConfigRefused("not_an_object")),
        poison("an object without members", "{}", Rejected("validation", "missing_field")),
        poison("white space around it", [&login("")[..], b" \t\r\n"].concat(), Passes),
        poison("a member that is read, twice", login(r#","device_type":"iOS""#), ConfigRefused("duplicate_member")),
        poison("twice, once escaped", login(r#","\u0064evice_type":"web""#), ConfigRefused("duplicate_member")),
        poison(
            "a member that is written, twice",
            login(r#","processed_time":1,"processed_time":2"#),
            ConfigRefused("duplicate_member"),
        ),
        poison("a member that nobody knows, twice", login(r#","x":1,"x":2"#), Passes),
        poison("a member that is read, inside another", login(r#","x":{"device_type":7,"device_type":8}"#), Passes),
        poison(
            "an object with odd contents for a text that a rule reads",
            members(r#""2.3.0""#, r#"{"a":1,"a":"\ud800"}"#, "0"),
            Rejected("device-filter", "unsupported_device_type"),
        ),
        poison("members without a name", login(r#","":1,"":2"#), Passes),
        poison("integers beyond 64 bits", login(format!(r#","x":{huge},"y":-18446744073709551617"#)), Passes),
        poison("numbers beyond floating point", login(r#","x":1e400,"y":-1E-400"#), Passes),
        poison(
            "a time beyond 64 bits",
            members(r#""2.3.0""#, r#""iOS""#, "18446744073709551616"),
            Rejected("validation", "malformed_timestamp"),
        ),
        poison("a time of 400 digits", members(r#""2.3.0""#, r#""iOS""#, &huge), Rejected("validation", "malformed_timestamp")),
        poison(
            "a time beyond floating point",
            members(r#""2.3.0""#, r#""iOS""#, "1e400"),
            Rejected("validation", "malformed_timestamp"),
        ),
        poison("a time before the epoch", members(r#""2.3.0""#, r#""iOS""#, "-1"), Rejected("validation", "malformed_timestamp")),
        poison("a time that says it is -0", members(r#""2.3.0""#, r#""iOS""#, "-0"), Passes),
        poison("a version that is an object", members("{}", r#""iOS""#, "0"), Rejected("validation", "malformed_app_version")),
        poison("a version of 400 digits", members(&format!(r#""{huge}.0""#), r#""iOS""#, "0"), Passes),
        poison("null where a rule reads", members("null", r#""iOS""#, "0"), Rejected("validation", "missing_field")),
    ]
}

/// Returns the output for a `value` that passes at the time `processed_at`.
pub fn spliced(value: &[u8], processed_at: &str) -> Vec<u8> {
    let brace = value.iter().rposition(|byte| *byte == b'}').unwrap();
    let added = ADDED.strip_suffix('0').unwrap().to_owned() + processed_at;
    [&value[..brace], added.as_bytes(), &value[brace..]].concat()
}

/// Returns the rule and the reason of a rejection; `None` for a message that passes.
pub fn verdict(fate: &Fate) -> Option<(&'static str, &'static str)> {
    match fate {
        Passes => None,
        ConfigRefused(reason) => Some(("weir", reason)),
        Rejected(rule, reason) => Some((rule, reason)),
    }
}

/// Returns the verdict on the poison with this name, if there is one.
pub fn named(name: &[u8]) -> Option<Option<(&'static str, &'static str)>> {
    type Verdicts = HashMap<&'static [u8], Option<(&'static str, &'static str)>>;
    static VERDICTS: OnceLock<Verdicts> = OnceLock::new();
    let all = || poisons().into_iter().map(|poison| (poison.name.as_bytes(), verdict(&poison.fate))).collect();
    VERDICTS.get_or_init(all).get(name).copied()
}

/// Returns the record of a poison: its name is the key, and it has a header of each kind.
pub fn record(index: usize, poison: &Poison) -> Record {
    Record {
        partition: index as i32 % PARTITIONS,
        timestamp: Some(1_700_000_000_000 + index as i64),
        key: Some(poison.name.as_bytes().to_vec()),
        value: poison.value.clone(),
        headers: vec![("trace".to_owned(), Some(vec![0xff, 0])), ("trace".to_owned(), None), (String::new(), Some(Vec::new()))],
        ..Record::default()
    }
}

/// Asserts that `found` is the expected result of a poison that was sent.
pub fn check(poison: &Poison, sent: &Record, found: &Record) {
    let name = poison.name;
    assert_eq!((found.partition, found.timestamp), (sent.partition, sent.timestamp), "{name}");
    assert_eq!(found.headers[..sent.headers.len()], sent.headers, "{name}");
    let Some((rule, reason)) = verdict(&poison.fate) else {
        let processed = found.value.as_deref().unwrap();
        let time = processed.rsplit(|byte| *byte == b':').next().unwrap();
        let digits: String = time.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
        assert!(processed == spliced(sent.value.as_deref().unwrap(), &digits), "{name}: not the bytes that were expected");
        return;
    };
    assert!(found.value == sent.value, "{name}: the bytes of the message have changed");
    assert_eq!((found.header("weir-rule"), found.header("weir-reason")), (Some(rule), Some(reason)), "{name}");
}
