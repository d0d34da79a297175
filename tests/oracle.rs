//! The oracle: computes the result of a message under the default configuration, in the plainest way: serde_json, chrono, one
//! message at a time. It shares no code with the engine or the rules, so that their results can be compared.
//!
//! It covers the messages of the simulator and no more: of several faults in one message it may report another one first, and it
//! treats a version as three numbers and an optional pre-release.

use std::fmt;

use chrono::DateTime;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The field that the engine counts, and those that the default rules read or write: none of them may occur twice.
const KNOWN: [&str; 5] = ["app_version", "device_type", "timestamp", "timestamp_in_utc", "processed_time"];
/// The last second of the year 9999.
const LATEST: f64 = 253_402_300_799.0;

/// The result of a message that passes.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    /// The device type under which the message is counted.
    pub device_type: String,
    /// The value of `timestamp_in_utc`.
    pub utc: String,
}

/// The rule that rejects a message, and the reason.
pub type Rejected = (&'static str, &'static str);

/// Computes the result for the value of a message.
pub fn expected(value: Option<&[u8]>) -> Result<Passed, Rejected> {
    let value = value.ok_or(("weir", "tombstone"))?;
    let login = parse(value).map_err(|reason| ("weir", reason))?;
    let timestamp = validate(&login).map_err(|reason| ("validation", reason))?;
    let device_type = login["device_type"].as_str().unwrap_or_default();
    if !["android", "ios"].contains(&device_type.to_lowercase().as_str()) {
        return Err(("device-filter", "unsupported_device_type"));
    }
    let utc = DateTime::from_timestamp(timestamp, 0).unwrap().format("%Y-%m-%d %H:%M:%S").to_string();
    Ok(Passed { device_type: device_type.to_owned(), utc })
}

/// Returns the output for a simulated login: the original bytes, and two fields before the closing brace.
pub fn output(value: &[u8], passed: &Passed, processed_at: i64) -> Vec<u8> {
    let added = format!(",\"timestamp_in_utc\":\"{}\",\"processed_time\":{processed_at}}}", passed.utc);
    [&value[..value.len() - 1], added.as_bytes()].concat()
}

fn parse(value: &[u8]) -> Result<Map<String, Value>, &'static str> {
    if value.is_empty() {
        return Err("empty_value");
    }
    let text = std::str::from_utf8(value).map_err(|_| "not_utf8")?;
    match serde_json::from_str(text) {
        Ok(Members(login)) => Ok(login),
        Err(error) => Err(reason(text, &error.to_string())),
    }
}

fn reason(text: &str, error: &str) -> &'static str {
    let says = |words: &str| error.contains(words);
    match () {
        () if says("twice") => "duplicate_member",
        () if says("recursion limit") => "too_deep",
        () if says("invalid type") => "not_an_object",
        // serde_json reports half of a surrogate pair as a fault of the escape.
        () if text.contains(r"\ud800") => "lone_surrogate",
        () => "malformed_json",
    }
}

/// An object in which no known field occurs twice.
struct Members(Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Map<String, Value>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if KNOWN.contains(&name.as_str()) && members.contains_key(&name) {
                        return Err(A::Error::custom("twice"));
                    }
                    members.insert(name, value);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Each).map(Members)
    }
}

/// Computes the result of the rule `validation`: the time in seconds since the epoch, or the reason.
fn validate(login: &Map<String, Value>) -> Result<i64, &'static str> {
    let member = |name: &str| login.get(name).filter(|value| !value.is_null()).ok_or("missing_field");
    let (version, _, timestamp) = (member("app_version")?, member("device_type")?, member("timestamp")?);
    let version = version.as_str().and_then(numbers).ok_or("malformed_app_version")?;
    if version < ([2, 3, 0], Release::Done) {
        return Err("old_app_version");
    }
    let seconds = match timestamp {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse::<i64>().ok().map(|seconds| seconds as f64),
        _ => None,
    };
    seconds
        .map(f64::trunc)
        .filter(|seconds| (0.0..=LATEST).contains(seconds))
        .map(|seconds| seconds as i64)
        .ok_or("malformed_timestamp")
}

#[derive(PartialEq, PartialOrd)]
enum Release {
    Pre,
    Done,
}

fn numbers(version: &str) -> Option<([u64; 3], Release)> {
    let (version, release) = match version.split_once('-') {
        Some((version, _)) => (version, Release::Pre),
        None => (version, Release::Done),
    };
    let mut numbers = [0; 3];
    for (index, number) in version.split('.').enumerate() {
        *numbers.get_mut(index)? = number.parse().ok()?;
    }
    Some((numbers, release))
}
