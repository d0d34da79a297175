//! Rejects messages that the rest of the pipeline can't use: those that lack a field, come from an app that is too old, or have
//! an impossible timestamp.
//!
//! The first defect is the reason of the rejection. Checked are first the fields in the order of `required`, then `app_version`,
//! then `timestamp`. A field that is missing (or null) and is not required is not checked. A version is text: the number `2.3` is
//! malformed, because as a number it equals 2.30.

use std::cmp::Ordering;

use serde::Deserialize;
use weir_rule::version::Version;
use weir_rule::{About, Field, Manifest, Reason, Row, Rule, Verdict, time};

/// The settings of the rule.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The fields that every message must have: by name, or nested ones by JSON Pointer.
    pub required: Vec<String>,
    /// The oldest `app_version` to accept.
    pub min_app_version: String,
}

impl Default for Config {
    fn default() -> Config {
        let required = ["app_version", "device_type", "timestamp"].map(str::to_owned).to_vec();
        Config { required, min_app_version: "2.3.0".to_owned() }
    }
}

/// The rule.
pub struct Validation {
    required: Vec<Field>,
    /// The required fields whose values are not looked at.
    others: Vec<Field>,
    app_version: Field,
    timestamp: Field,
    oldest: Version,
    missing_field: Reason,
    old_app_version: Reason,
    malformed_app_version: Reason,
    malformed_timestamp: Reason,
}

impl Rule for Validation {
    const ABOUT: About = weir_rule::about!();
    type Config = Config;

    fn configure(config: Config, manifest: &mut Manifest) -> Result<Validation, String> {
        let oldest = Version::parse(&config.min_app_version).ok_or_else(|| {
            format!("failed to read `min_app_version`: `{}` is no version, write one like 2.3.0", config.min_app_version)
        })?;
        let required: Vec<Field> = config.required.iter().map(|name| manifest.reads(name)).collect();
        let (app_version, timestamp) = (manifest.reads("app_version"), manifest.reads("timestamp"));
        Ok(Validation {
            others: required.iter().copied().filter(|field| ![app_version, timestamp].contains(field)).collect(),
            required,
            app_version,
            timestamp,
            oldest,
            missing_field: manifest.rejects("missing_field"),
            old_app_version: manifest.rejects("old_app_version"),
            malformed_app_version: manifest.rejects("malformed_app_version"),
            malformed_timestamp: manifest.rejects("malformed_timestamp"),
        })
    }

    #[inline]
    fn evaluate(&self, row: &mut Row<'_>) -> Verdict {
        let version = row.text(self.app_version).and_then(|version| self.oldest.compare(version));
        let is_sound = version.is_some_and(Ordering::is_ge) && time::epoch_seconds(row, self.timestamp).is_some();
        if is_sound && !self.others.iter().any(|field| row.is_missing(*field)) {
            return Verdict::Keep;
        }
        self.explain(row, version)
    }
}

impl Validation {
    /// Returns the verdict on a row that not all is well with, in the order of the checks.
    #[cold]
    #[inline(never)]
    fn explain(&self, row: &Row<'_>, version: Option<Ordering>) -> Verdict {
        if let Some(missing) = self.required.iter().find(|field| row.is_missing(**field)) {
            return Verdict::reject_with(self.missing_field, row.name(*missing));
        }
        if !version.is_some_and(Ordering::is_ge) && !row.is_missing(self.app_version) {
            let reason = if version.is_some() { self.old_app_version } else { self.malformed_app_version };
            return row.reject(reason, self.app_version);
        }
        if time::epoch_seconds(row, self.timestamp).is_none() && !row.is_missing(self.timestamp) {
            return time::reject_seconds(row, self.malformed_timestamp, self.timestamp);
        }
        Verdict::Keep
    }
}

weir_rule::export!(Validation);

#[cfg(test)]
mod tests;
