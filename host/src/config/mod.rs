//! Configuration: what was written (raw) becomes what is meant (validated).
//!
//! Written are [the defaults](keys), a TOML file over them, and `WEIR_…` variables over both; [`Raw`](raw::Raw) merges the
//! three and knows of every value where it came from, so that each complaint names the place to mend. [`validate`] turns that
//! into the structs of this file, which the rest of the program relies on without checking again.
//!
//! Left out on purpose: what only rules know. `[rule.NAME.config]` is passed on as it is, for the rule itself to judge.

mod brokers;
mod environment;
mod keys;
mod kubernetes;
mod members;
mod origin;
mod path;
mod properties;
mod quoted;
mod raw;
mod read;
mod restart;
mod salvage;
mod source;
mod text;
mod validate;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;

use weir_core::printable::harmless;

pub use brokers::{check as check_brokers, is_host_name};
pub use keys::document;
pub(crate) use read::duration;
pub use restart::needing_restart;
pub use salvage::{Salvaged, salvage};
pub use source::Source;

/// The file that is read if none is named and it is there.
pub const DEFAULT_FILE: &str = "weir.toml";
/// The variable that names the file if the command line does not.
pub const FILE_VARIABLE: &str = "WEIR_CONFIG";

/// A validated configuration: the sum of what each part is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[kafka]`, `[topics]`, `[batch]`
    pub kafka: weir_kafka::Settings,
    /// `[counts]`, but for the member
    pub counts: weir_engine::CountSettings,
    /// `[rules]`, `[rule.NAME]`, `[trial]`, `[shadow]`, `counts.member`
    pub rules: weir_control::Settings,
    /// `rules.compile_memory`, `rules.compile_time`
    pub compile: weir_wasm::Compile,
    /// `[admin]`
    pub admin: weir_admin::Settings,
    pub log: Log,
    pub simulate: Simulate,
    /// Keys that the program itself has set, whatever is written.
    pub fixed: Vec<&'static str>,
}

/// What is logged. `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: LevelFilter,
}

/// What `weir simulate` produces unless the command line says otherwise. `[simulate]`
#[derive(Clone, Debug, PartialEq)]
pub struct Simulate {
    /// Messages per second; 0: as fast as possible.
    pub rate: u32,
    /// How many messages; 0: until stopped.
    pub count: u64,
    pub seed: u64,
    /// Share of bad messages, 0 to 1.
    pub bad_share: f64,
    /// How many different users log in.
    pub users: usize,
}

/// The file that is read: the one named, or `$WEIR_CONFIG`, or `weir.toml` if it is there.
pub fn locate(named: Option<&Path>) -> Option<PathBuf> {
    let variable = || std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    let file = named.map(Path::to_path_buf).or_else(variable);
    file.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()))
}

/// A configuration that cannot be used: where it is wrong, what was found and what is expected.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl Config {
    /// Reads `file`, or where none is named `$WEIR_CONFIG`, or `weir.toml` if it is there, and overrides it by `environment`,
    /// which is (name, value) of variables; those that are not ours are ignored.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, Invalid> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let named = file.map(Path::to_path_buf).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
        let file = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
        let text = file.as_deref().map(read).transpose()?.unwrap_or_default();
        Config::parse(&text, file.as_deref().unwrap_or(Path::new("")), environment)
    }

    /// Takes `text` as the contents of `file`, whose folder relative paths start from, overridden by `environment`.
    pub fn parse(text: &str, file: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, Invalid> {
        let mut raw = raw::Raw::parse(text, file)?;
        let mut pipelines = raw.names("rules.pipeline")?;
        environment::apply(&mut raw, environment)?;
        // What the file says of a rule may stay there while the environment leaves the rule out.
        pipelines.extend(raw.names("rules.pipeline")?);
        raw.refuse_unused_rules(&pipelines)?;
        validate::validate(&raw, file.parent().unwrap_or(Path::new("")))
    }
}

impl Config {
    /// Takes the broker inside the process, with what it can do: it knows no TLS and no passwords.
    pub fn embed(&mut self) {
        self.kafka.client.properties.clear();
        self.kafka.client.brokers = None;
        self.kafka.client.delivery = weir_kafka::Delivery::AtLeastOnce;
        self.fixed.extend(["kafka.brokers", "kafka.delivery"]);
    }
}

impl Default for Config {
    /// What holds where nothing is written.
    fn default() -> Config {
        Config::parse("", Path::new(""), []).expect("the defaults are valid, a test sees to it")
    }
}

/// The `WEIR_…` variables of this process.
///
/// # Errors
/// If one of them is not UTF-8. The file that is named by [`FILE_VARIABLE`] need not be.
pub fn environment() -> Result<Vec<(String, String)>, Invalid> {
    let text = |(name, value): (OsString, OsString)| {
        let not_text = |_| Invalid(format!("the environment variable {} is not UTF-8; set it anew in UTF-8", name.display()));
        Ok((name.clone().into_string().map_err(not_text)?, value.into_string().map_err(not_text)?))
    };
    let ours =
        |(name, _): &(OsString, OsString)| name.as_encoded_bytes().starts_with(path::PREFIX.as_bytes()) && name != FILE_VARIABLE;
    std::env::vars_os().filter(ours).map(text).collect()
}

/// The `WEIR_…` variables of this process that are left aside, because Kubernetes sets them for Services.
pub fn service_links() -> Vec<String> {
    kubernetes::service_links(&environment().unwrap_or_default().into_iter().collect())
}

/// The text of a configuration's file.
fn read(file: &Path) -> Result<String, Invalid> {
    let failed = |what: String| Invalid(format!("failed to read the configuration {}{what}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| failed(format!(": {error}")))?;
    text::decode(bytes).map_err(|(line, found)| failed(format!(" line {line}: {found}; save it as UTF-8")))
}

impl fmt::Display for Invalid {
    /// One line, whatever keys, files and variables are called.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&harmless(&self.0))
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests;
