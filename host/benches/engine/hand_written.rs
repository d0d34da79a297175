//! The three rules as one function, written for speed: it goes from the message to the output with no steps in between.
//!
//! It uses the engine's own strict JSON scanner, because otherwise this would be a comparison of parsers. It reads the fields in
//! place. It supports configurations of the rules, and fields of unusual types, only as far as the default configuration and the
//! simulator's logins need.

use std::collections::BTreeMap;

use weir_core::column::Kind;
use weir_core::counts::Counts;
use weir_core::json::{Found, Habit, Node, Projection};
use weir_core::record::Batch;

use super::{Answers, Contender};

pub(super) const OLDEST: [u64; 3] = [2, 3, 0];
pub(super) const LAST_SECOND: u64 = 253_402_300_799;
pub(super) const DEVICES: [&str; 2] = ["android", "iOS"];

pub struct HandWritten {
    projection: Projection,
    app_version: Node,
    device_type: Node,
    timestamp: Node,
    layout: Vec<Found>,
    habit: Habit,
    bytes: Vec<u8>,
    outputs: Vec<(u32, usize)>,
    rejections: Vec<(u32, &'static str, String)>,
    devices: Vec<(i32, u32, u32)>,
    counts: Counts,
}

impl Default for HandWritten {
    fn default() -> HandWritten {
        let mut projection = Projection::default();
        let mut want = |name| projection.want(name).expect("a plain name");
        let (app_version, device_type, timestamp) = (want("app_version"), want("device_type"), want("timestamp"));
        // They are known to be absent from the simulator's logins, and are wanted only so that a duplicate would be seen.
        let _added = (want("timestamp_in_utc"), want("processed_time"));
        HandWritten {
            layout: vec![Found::default(); projection.nodes()],
            habit: Habit::default(),
            projection,
            app_version,
            device_type,
            timestamp,
            bytes: Vec::new(),
            outputs: Vec::new(),
            rejections: Vec::new(),
            devices: Vec::new(),
            counts: Counts::new(60_000, false),
        }
    }
}

impl Contender for HandWritten {
    fn process(&mut self, batch: &Batch) {
        self.bytes.clear();
        self.outputs.clear();
        self.rejections.clear();
        self.devices.clear();
        let processed_time = format!(",\"processed_time\":{}", batch.processed_at);
        for record in 0..batch.len() {
            let message = batch.value(record).unwrap_or_default();
            match self.one(message, &processed_time) {
                Ok(device) => {
                    self.outputs.push((record as u32, self.bytes.len()));
                    self.devices.push((batch.records()[record].partition, record as u32, device));
                }
                Err((reason, detail)) => self.rejections.push((record as u32, reason, detail)),
            }
        }
        let device = |start: u32, record: u32| {
            let value = &batch.value(record as usize).unwrap_or_default()[start as usize + 1..];
            let end = value.iter().position(|byte| *byte == b'"')?;
            std::str::from_utf8(&value[..end]).ok()
        };
        let rows = self.devices.iter().map(|(partition, record, start)| (*partition, device(*start, *record)));
        let delta = self.counts.count(batch.processed_at, rows);
        self.counts.apply(&delta);
    }

    fn answers(&self, _: &Batch) -> Answers {
        let starts = std::iter::once(0).chain(self.outputs.iter().map(|(_, end)| *end));
        let outputs = self.outputs.iter().zip(starts).map(|((record, end), start)| (*record, self.bytes[start..*end].to_vec()));
        let rejections =
            self.rejections.iter().map(|(record, reason, detail)| (*record, (*reason).to_owned(), Some(detail.clone())));
        Answers { outputs: outputs.collect(), rejections: rejections.collect() }
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.totals()
    }
}

impl HandWritten {
    /// Processes one message. Returns the position of its device type, or the reason and detail of its rejection.
    fn one(&mut self, message: &[u8], processed_time: &str) -> Result<u32, (&'static str, String)> {
        let scanned = self.projection.scan_usual(message, &mut self.habit, &mut self.layout);
        scanned.map_err(|problem| (problem.reason().name(), problem.to_string()))?;
        let text = |found: Found| &message[found.start as usize + 1..found.end as usize - 1];
        let detail = |found: Found| {
            let raw = &message[found.start as usize..found.end as usize];
            String::from_utf8_lossy(if found.kind == Kind::Text { text(found) } else { raw }).into_owned()
        };
        let [app_version, device_type, timestamp] =
            [self.app_version, self.device_type, self.timestamp].map(|node| self.layout[node]);
        for (found, name) in [(app_version, "app_version"), (device_type, "device_type"), (timestamp, "timestamp")] {
            if matches!(found.kind, Kind::Absent | Kind::Null) {
                return Err(("missing_field", name.to_owned()));
            }
        }
        match (app_version.kind == Kind::Text).then(|| version(text(app_version))).flatten() {
            None => return Err(("malformed_app_version", detail(app_version))),
            Some(version) if version < OLDEST => return Err(("old_app_version", detail(app_version))),
            Some(_) => {}
        }
        let seconds = match timestamp.kind {
            Kind::Number => integer(&message[timestamp.start as usize..timestamp.end as usize]),
            Kind::Text => integer(text(timestamp)),
            _ => None,
        };
        let seconds = match seconds {
            Some(seconds) if seconds <= LAST_SECOND => seconds,
            Some(_) => {
                return Err(("malformed_timestamp", detail(timestamp) + ": seconds are expected; milliseconds?"));
            }
            None => return Err(("malformed_timestamp", detail(timestamp))),
        };
        let known = device_type.kind == Kind::Text
            && DEVICES.iter().any(|device| device.as_bytes().eq_ignore_ascii_case(text(device_type)));
        if !known {
            return Err(("unsupported_device_type", detail(device_type)));
        }
        splice(message, seconds, processed_time, &mut self.bytes);
        Ok(device_type.start)
    }
}

/// Appends `message`, which is a JSON object with members, to `out`, with the two times as its last members.
pub(super) fn splice(message: &[u8], seconds: u64, processed_time: &str, out: &mut Vec<u8>) {
    let close = message.iter().rposition(|byte| *byte == b'}').expect("an object was parsed");
    out.extend_from_slice(&message[..close]);
    out.extend_from_slice(b",\"timestamp_in_utc\":\"");
    out.extend_from_slice(&utc(seconds));
    out.push(b'"');
    out.extend_from_slice(processed_time.as_bytes());
    out.extend_from_slice(&message[close..]);
}

/// Returns the numbers of a version that has at most three of them.
pub(super) fn version(text: &[u8]) -> Option<[u64; 3]> {
    let mut version = [0; 3];
    let mut parts = text.split(|byte| *byte == b'.');
    for number in &mut version {
        match parts.next() {
            Some(part) => *number = integer(part)?,
            None => break,
        }
    }
    parts.next().is_none().then_some(version)
}

pub(super) fn integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |number: u64, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

/// Returns the time in the format `%Y-%m-%d %H:%M:%S`. The date is computed from the days since the epoch by Howard Hinnant's
/// `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).
fn utc(seconds: u64) -> [u8; 19] {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = *b"0000-00-00 00:00:00";
    for (at, number) in
        [(0, year / 100), (2, year % 100), (5, month), (8, day), (11, second / 3_600), (14, second / 60 % 60), (17, second % 60)]
    {
        text[at] += (number / 10) as u8;
        text[at + 1] += (number % 10) as u8;
    }
    text
}
