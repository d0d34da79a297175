//! The configuration: the texts that were written (raw) become typed, validated settings.
//!
//! Values come from three layers: [the defaults](keys), a TOML file that overrides them, and `WEIR_…` variables that override
//! both. [`Raw`](raw::Raw) merges the layers and records the origin of every value, so that each error names the place to
//! correct. [`validate`] turns the merged values into the structs of this file. The rest of the program uses these structs
//! without checking them again.
//!
//! Left out on purpose: checks that only a rule can make. `[rule.NAME.config]` is passed on unchanged, and the rule itself checks
//! it.

mod brokers;
mod environment;
mod fields;
mod keys;
mod kubernetes;
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

use weir_core::printable::escape_line;

pub use brokers::{check as check_brokers, is_host_name};
pub use keys::document;
pub(crate) use read::duration;
pub use restart::needing_restart;
pub use salvage::{Salvaged, salvage};
pub use source::ConfigSource;

/// The file that is read if no file is named and this one exists.
pub const DEFAULT_FILE: &str = "weir.toml";
/// The variable that names the file if the command line names none.
pub const FILE_VARIABLE: &str = "WEIR_CONFIG";

/// A validated configuration: the settings of all parts of the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[kafka]`, `[topics]`, `[batch]`
    pub kafka: weir_kafka::Settings,
    /// `[engine]`
    pub threads: weir_engine::Threads,
    /// `[counts]`, except for `counts.member`
    pub counts: weir_engine::CountSettings,
    /// `[rules]`, `[rule.NAME]`, `[trial]`, `[shadow]`, `counts.member`
    pub rules: weir_control::Settings,
    /// `rules.compile_memory`, `rules.compile_time`
    pub compile: weir_wasm::CompileLimits,
    /// `[admin]`
    pub admin: weir_admin::Settings,
    pub log: Log,
    pub simulate: SimulateSettings,
    /// The keys that the program itself has set, regardless of the configuration.
    pub fixed: Vec<&'static str>,
}

/// The settings of the log: `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: LevelFilter,
}

/// The settings of `weir simulate`, unless the command line overrides them: `[simulate]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulateSettings {
    /// The records per second. If 0, as many as possible.
    pub rate: u32,
    /// The number of records. If 0, records are sent until the program is stopped.
    pub count: u64,
    pub seed: u64,
    /// The share of bad messages, 0 to 1.
    pub bad_share: f64,
    /// The number of different users that log in.
    pub users: usize,
}

/// Returns the file that is read: `named`, or `$WEIR_CONFIG`, or `weir.toml` if it exists.
pub fn locate(named: Option<&Path>) -> Option<PathBuf> {
    let variable = || std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    let file = named.map(Path::to_path_buf).or_else(variable);
    file.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()))
}

/// The error for a configuration that can't be used. It names the place of the error, the value found, and the value expected.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidConfig(String);

impl Config {
    /// Reads `file` and overrides it by `environment`, the names and values of variables. If `file` is None, reads
    /// `$WEIR_CONFIG`, or `weir.toml` if it exists. Variables that do not begin with `WEIR_` are ignored.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, InvalidConfig> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let named = file.map(Path::to_path_buf).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
        let file = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
        let text = file.as_deref().map(read).transpose()?.unwrap_or_default();
        Config::parse(&text, file.as_deref().unwrap_or(Path::new("")), environment)
    }

    /// Parses `text`, the contents of `file`, and overrides it by `environment`. Relative paths start from the folder of `file`.
    pub fn parse(
        text: &str,
        file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, InvalidConfig> {
        let mut raw = raw::Raw::parse(text, file)?;
        let mut pipelines = raw.names("rules.pipeline")?;
        environment::apply(&mut raw, environment)?;
        // Settings of a rule may stay in the file while the environment leaves the rule out of the pipeline.
        pipelines.extend(raw.names("rules.pipeline")?);
        raw.refuse_unused_rules(&pipelines)?;
        validate::validate(&raw, file.parent().unwrap_or(Path::new("")))
    }
}

impl Config {
    /// Configures the process to use the broker inside it, which supports neither TLS nor passwords.
    pub fn embed(&mut self) {
        self.kafka.client.properties.clear();
        self.kafka.client.brokers = None;
        self.kafka.client.delivery = weir_kafka::Delivery::AtLeastOnce;
        self.fixed.extend(["kafka.brokers", "kafka.delivery"]);
    }
}

impl Default for Config {
    /// Returns the configuration that is used if nothing is written.
    fn default() -> Config {
        Config::parse("", Path::new(""), []).expect("the defaults are valid, a test sees to it")
    }
}

/// Returns the `WEIR_…` variables of this process.
///
/// # Errors
/// If one of the variables is not UTF-8. The variable [`FILE_VARIABLE`] may have another encoding.
pub fn environment() -> Result<Vec<(String, String)>, InvalidConfig> {
    let text = |(name, value): (OsString, OsString)| {
        let not_text =
            |_| InvalidConfig(format!("the environment variable {} is not UTF-8; set it anew in UTF-8", name.display()));
        Ok((name.clone().into_string().map_err(not_text)?, value.into_string().map_err(not_text)?))
    };
    let ours =
        |(name, _): &(OsString, OsString)| name.as_encoded_bytes().starts_with(path::PREFIX.as_bytes()) && name != FILE_VARIABLE;
    std::env::vars_os().filter(ours).map(text).collect()
}

/// Returns the names of the `WEIR_…` variables of this process that are ignored, because Kubernetes sets them for Services.
pub fn service_links() -> Vec<String> {
    kubernetes::service_links(&environment().unwrap_or_default().into_iter().collect())
}

/// Returns the text of a configuration file.
fn read(file: &Path) -> Result<String, InvalidConfig> {
    let failed = |what: String| InvalidConfig(format!("failed to read the configuration {}{what}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| failed(format!(": {error}")))?;
    text::decode(bytes).map_err(|(line, found)| failed(format!(" line {line}: {found}; save it as UTF-8")))
}

impl fmt::Display for InvalidConfig {
    /// Writes one line, even if the names of keys, files or variables contain line breaks.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&escape_line(&self.0))
    }
}

impl std::error::Error for InvalidConfig {}

#[cfg(test)]
mod tests;
