//! The three rules as an expert would write them in native Rust with a JSON library: borrowed fields, no tree, and the output
//! spliced out of the message.
//!
//! There is one contender for each of three libraries, each into the same borrowed struct, and each without an option that skips a
//! check of RFC 8259. Left out is what the engine does beyond the three rules: details of rejections, windows of counts, limits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use weir_core::record::Batch;

use super::hand_written::{DEVICES, LAST_SECOND, OLDEST, integer, splice, version};
use super::{Answers, Contender};

/// A JSON library, with what it keeps from message to message.
pub trait Library: Default {
    /// Returns the fields of a message, or None if the message is not JSON.
    fn parse<'a>(&'a mut self, message: &'a [u8]) -> Option<Login<'a>>;
}

/// It does not see whether a string that it skips is UTF-8, so the message is checked before.
#[derive(Default)]
pub struct SerdeJson;

impl Library for SerdeJson {
    fn parse<'a>(&'a mut self, message: &'a [u8]) -> Option<Login<'a>> {
        serde(message)
    }
}

fn serde(message: &[u8]) -> Option<Login<'_>> {
    serde_json::from_str(std::str::from_utf8(message).ok()?).ok()
}

/// It does not check the digits of `\u` in a string that it skips, so a message with escapes is left to `serde_json`.
#[derive(Default)]
pub struct SonicRs;

impl Library for SonicRs {
    fn parse<'a>(&'a mut self, message: &'a [u8]) -> Option<Login<'a>> {
        if memchr::memchr(b'\\', message).is_some() {
            return serde(message);
        }
        sonic_rs::from_slice(message).ok()
    }
}

/// It unescapes strings in place, so it needs a copy of the message.
#[derive(Default)]
pub struct SimdJson {
    message: Vec<u8>,
    buffers: simd_json::Buffers,
}

impl Library for SimdJson {
    fn parse<'a>(&'a mut self, message: &'a [u8]) -> Option<Login<'a>> {
        self.message.clear();
        self.message.extend_from_slice(message);
        simd_json::serde::from_slice_with_buffers(&mut self.message, &mut self.buffers).ok()
    }
}

/// The fields that the rules read.
#[derive(Deserialize)]
pub struct Login<'a> {
    #[serde(borrow, default)]
    app_version: Scalar<'a>,
    #[serde(borrow, default)]
    device_type: Scalar<'a>,
    #[serde(borrow, default)]
    timestamp: Scalar<'a>,
}

/// The value of a field.
#[derive(Default)]
pub enum Scalar<'a> {
    /// Null, or absent.
    #[default]
    Missing,
    Text(Cow<'a, str>),
    Whole(u64),
    /// A value of another type.
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar<'a>, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar<'de>, E> {
        Ok(u64::try_from(number).map_or(Scalar::Other, Scalar::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Scalar<'de>, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// The rules, with buffers that are used again.
#[derive(Default)]
pub struct Expert<L> {
    library: L,
    bytes: Vec<u8>,
    /// The record, and the end of its output in `bytes`.
    outputs: Vec<(u32, usize)>,
    rejections: Vec<(u32, &'static str)>,
    counts: Vec<(String, u64)>,
}

impl<L: Library> Contender for Expert<L> {
    fn process(&mut self, batch: &Batch) {
        let Expert { library, bytes, outputs, rejections, counts } = self;
        bytes.clear();
        outputs.clear();
        rejections.clear();
        let processed_time = format!(",\"processed_time\":{}", batch.processed_at);
        for record in 0..batch.len() {
            let message = batch.value(record).unwrap_or_default();
            match library.parse(message).ok_or("malformed_json").and_then(judge) {
                Ok((device, seconds)) => {
                    match counts.iter_mut().find(|(known, _)| *known == *device) {
                        Some((_, count)) => *count += 1,
                        None => counts.push((device.into_owned(), 1)),
                    }
                    splice(message, seconds, &processed_time, bytes);
                    outputs.push((record as u32, bytes.len()));
                }
                Err(reason) => rejections.push((record as u32, reason)),
            }
        }
    }

    fn answers(&self, _: &Batch) -> Answers {
        let starts = std::iter::once(0).chain(self.outputs.iter().map(|(_, end)| *end));
        let outputs = self.outputs.iter().zip(starts).map(|((record, end), start)| (*record, self.bytes[start..*end].to_vec()));
        let rejections = self.rejections.iter().map(|(record, reason)| (*record, (*reason).to_owned(), None));
        Answers { outputs: outputs.collect(), rejections: rejections.collect() }
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.iter().cloned().collect()
    }
}

/// Returns the device type of a login and its time in seconds, or the reason of its rejection.
fn judge(login: Login<'_>) -> Result<(Cow<'_, str>, u64), &'static str> {
    let Login { app_version, device_type, timestamp } = login;
    if [&app_version, &device_type, &timestamp].iter().any(|field| matches!(field, Scalar::Missing)) {
        return Err("missing_field");
    }
    let Scalar::Text(text) = &app_version else { return Err("malformed_app_version") };
    match version(text.as_bytes()) {
        None => return Err("malformed_app_version"),
        Some(version) if version < OLDEST => return Err("old_app_version"),
        Some(_) => {}
    }
    let seconds = match &timestamp {
        Scalar::Whole(seconds) => Some(*seconds),
        Scalar::Text(text) => integer(text.as_bytes()),
        Scalar::Missing | Scalar::Other => None,
    };
    let seconds = seconds.filter(|seconds| *seconds <= LAST_SECOND).ok_or("malformed_timestamp")?;
    match device_type {
        Scalar::Text(device) if DEVICES.iter().any(|known| known.eq_ignore_ascii_case(&device)) => Ok((device, seconds)),
        _ => Err("unsupported_device_type"),
    }
}
