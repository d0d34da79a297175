//! Typed access to raw values. Each reader states which value it expects. Its error names the expected value, the value found,
//! and its place.
//!
//! The bounds are in [`super::keys`], in the notation of a configuration, so that an error can quote them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use super::InvalidConfig;
use super::keys::{Accepts, takes};
use super::path::variable;
use super::quoted::found;
use super::raw::Raw;
use weir_core::reserved::ENGINE;
use weir_core::units;
use weir_engine::Threads;
use weir_kafka::Start;

impl Raw {
    /// Reads a text that is not empty.
    pub(super) fn text(&self, path: &str) -> Result<String, InvalidConfig> {
        self.read(path, "a text that is not empty", |value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// Reads a text that may be empty.
    pub(super) fn optional_text(&self, path: &str) -> Result<String, InvalidConfig> {
        self.read(path, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&self, path: &str) -> Result<bool, InvalidConfig> {
        self.read(path, "true or false", Value::as_bool)
    }

    pub(super) fn whole<T: TryFrom<i64>>(&self, path: &str) -> Result<T, InvalidConfig> {
        let Accepts::Whole(from, to) = takes(path) else { panic!("`{path}` is no whole number") };
        let expected = match to {
            i64::MAX => format!("a whole number from {from}"),
            to => format!("a whole number from {from} to {to}"),
        };
        self.read(path, &expected, |value| T::try_from(value.as_i64().filter(|number| (from..=to).contains(number))?).ok())
    }

    /// Reads the number of data loops: `"auto"`, or a whole number. A variable of the environment has the number as a text.
    pub(super) fn threads(&self, path: &str) -> Result<Threads, InvalidConfig> {
        let Accepts::AutoOrWhole(from, to) = takes(path) else { panic!("`{path}` is no number of threads") };
        self.read(path, &format!("\"auto\" or a whole number from {from} to {to}"), |value| {
            let number = match value.as_str() {
                Some("auto") => return Some(Threads::Auto),
                Some(text) => text.parse().ok()?,
                None => value.as_i64()?,
            };
            usize::try_from(number).ok().filter(|_| (from..=to).contains(&number)).map(Threads::Number)
        })
    }

    /// Reads a number from 0 to 1.
    pub(super) fn share(&self, path: &str) -> Result<f64, InvalidConfig> {
        self.read(path, "a number from 0 to 1", |value| value.as_f64().filter(|share| (0.0..=1.0).contains(share)))
    }

    /// Reads one of a few words, and returns the value that the word stands for.
    pub(super) fn choice<T: Copy>(&self, path: &str, choices: &[(&str, T)]) -> Result<T, InvalidConfig> {
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        let find = |value: &Value| choices.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, meaning)| *meaning);
        self.read(path, &format!("one of {}", words.join(", ")), find)
    }

    /// Reads a list of names, for example of rules. A name consists of letters, digits, `-` and `_`. Names must differ, and
    /// `weir`, the engine's own name, is refused.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, InvalidConfig> {
        let expected = "a list of different names, each of letters, digits, `-` and `_`, and not `weir`";
        let names: Vec<String> = self.read(path, expected, |value| {
            let names = value.as_array()?.iter().map(|name| name.as_str().filter(|name| is_name(name)).map(str::to_owned));
            names.collect::<Option<_>>()
        })?;
        // The variables of the names must differ too: `a-b` and `a_b` would have the same variable.
        let variables: std::collections::BTreeSet<String> = names.iter().map(|name| variable(name)).collect();
        if variables.len() < names.len() || names.is_empty() { Err(self.complaint(path, expected)) } else { Ok(names) }
    }

    /// Reads a number of bytes, such as `"4MiB"` or 4194304.
    pub(super) fn bytes(&self, path: &str) -> Result<usize, InvalidConfig> {
        let (Accepts::Size(from, to) | Accepts::OptionalSize(from, to)) = takes(path) else { panic!("`{path}` is no size") };
        let limits = limits(from, to, units::bytes);
        self.read(path, &format!("a size from {from} to {to}, such as \"4MiB\""), |value| {
            let written = |text: &str| units::bytes(text).or_else(|| text.parse().ok());
            let bytes = value.as_u64().or_else(|| written(value.as_str()?)).filter(|bytes| limits.contains(bytes))?;
            usize::try_from(bytes).ok()
        })
    }

    /// Reads a length of time, such as `"60s"`.
    pub(super) fn duration(&self, path: &str) -> Result<Duration, InvalidConfig> {
        let Accepts::Time(from, to) = takes(path) else { panic!("`{path}` is no length of time") };
        let limits = limits(from, to, duration);
        self.read(path, &format!("a duration from {from} to {to}, such as \"500ms\" or \"60s\""), |value| {
            duration(value.as_str()?).filter(|duration| limits.contains(duration))
        })
    }

    /// Reads the offset to begin with: a word, or a time.
    pub(super) fn start(&self, path: &str) -> Result<Start, InvalidConfig> {
        self.read(path, "\"earliest\", \"latest\" or a time such as \"2026-01-31T12:00:00Z\"", |value| match value.as_str()? {
            "earliest" => Some(Start::Earliest),
            "latest" => Some(Start::Latest),
            time => Some(Start::At(DateTime::parse_from_rfc3339(time).ok()?.timestamp_millis())),
        })
    }

    /// Reads an open table of texts. Numbers and booleans become the texts as which they would be written.
    pub(super) fn table<T: From<String>>(&self, table: &str) -> Result<BTreeMap<String, T>, InvalidConfig> {
        let text = |(key, _): (&str, _)| {
            let read = |value: &Value| match value {
                Value::String(text) => Some(text.clone().into()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string().into()),
                _ => None,
            };
            Ok((key.to_owned(), self.read(&format!("{table}.{key}"), "a text, a number, true or false", read)?))
        };
        self.fields(table).map(text).collect()
    }

    /// Reads a table without looking into it.
    pub(super) fn object(&self, path: &str) -> Result<Value, InvalidConfig> {
        self.read(path, "a table", |value| value.is_object().then(|| value.clone()))
    }

    /// Returns the error for a value at `path` that is not the expected one.
    pub(super) fn complaint(&self, path: &str, expected: impl Display) -> InvalidConfig {
        let setting = self.get(path);
        InvalidConfig(format!("`{path}` in {} is {}; expected {expected}", setting.origin, found(path, &setting.value)))
    }

    fn read<T>(&self, path: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, InvalidConfig> {
        read(&self.get(path).value).ok_or_else(|| self.complaint(path, expected))
    }
}

fn limits<T>(from: &str, to: &str, read: fn(&str) -> Option<T>) -> RangeInclusive<T> {
    let limit = |text| read(text).expect("limits are written as a configuration is");
    limit(from)..=limit(to)
}

/// Reads a duration with its unit, such as `90s` or `1m 30s`, in whole milliseconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| duration.subsec_nanos() % 1_000_000 == 0)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text != ENGINE && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
