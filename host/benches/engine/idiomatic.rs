//! The three rules as a first version would be written: parse to `serde_json::Value`, check, format the time with chrono, write
//! the `Value`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::{Value, json};
use weir_core::record::Batch;

use super::{Answers, Contender};

#[derive(Default)]
pub struct Idiomatic {
    outputs: Vec<(u32, Vec<u8>)>,
    rejections: Vec<(u32, String, Option<String>)>,
    counts: BTreeMap<String, u64>,
}

impl Contender for Idiomatic {
    fn process(&mut self, batch: &Batch) {
        self.outputs.clear();
        self.rejections.clear();
        for record in 0..batch.len() {
            match process(batch.value(record).unwrap_or_default(), batch.processed_at) {
                Ok((device, output)) => {
                    *self.counts.entry(device).or_default() += 1;
                    self.outputs.push((record as u32, output));
                }
                Err((reason, detail)) => self.rejections.push((record as u32, reason.to_owned(), Some(detail))),
            }
        }
    }

    fn answers(&self, _: &Batch) -> Answers {
        Answers { outputs: self.outputs.clone(), rejections: self.rejections.clone() }
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.clone()
    }
}

type Rejection = (&'static str, String);

fn process(message: &[u8], processed_at: i64) -> Result<(String, Vec<u8>), Rejection> {
    let mut login: Value = serde_json::from_slice(message).map_err(|error| ("malformed_json", error.to_string()))?;
    for field in ["app_version", "device_type", "timestamp"] {
        if login.get(field).is_none_or(Value::is_null) {
            return Err(("missing_field", field.to_owned()));
        }
    }
    let version = login["app_version"].as_str().and_then(parse_version);
    match version.map(|version| version.cmp(&vec![2, 3, 0])) {
        None => return Err(("malformed_app_version", login["app_version"].to_string())),
        Some(Ordering::Less) => return Err(("old_app_version", login["app_version"].to_string())),
        Some(_) => {}
    }
    let timestamp = match &login["timestamp"] {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let time = timestamp
        .filter(|seconds| (0..=253_402_300_799).contains(seconds))
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let Some(time) = time else { return Err(("malformed_timestamp", login["timestamp"].to_string())) };
    let device = login["device_type"].as_str().unwrap_or_default().to_owned();
    if !["android", "iOS"].iter().any(|known| known.eq_ignore_ascii_case(&device)) {
        return Err(("unsupported_device_type", device));
    }
    login["timestamp_in_utc"] = json!(time.format("%Y-%m-%d %H:%M:%S").to_string());
    login["processed_time"] = json!(processed_at);
    let output = serde_json::to_vec(&login).map_err(|error| ("malformed_json", error.to_string()))?;
    Ok((device, output))
}

/// Returns the numbers of a version, at least three.
fn parse_version(text: &str) -> Option<Vec<u64>> {
    let mut numbers: Vec<u64> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.resize(numbers.len().max(3), 0);
    Some(numbers)
}
