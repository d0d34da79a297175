//! Configuration: what was written (raw) becomes what is meant (validated).
//!
//! Written are [the defaults](defaults), a TOML file over them, and `WEIR_…` variables over both; [`Raw`](raw::Raw) merges the
//! three and knows of every value where it came from, so that each complaint names the place to mend. [`validate`] turns that
//! into the structs of this file, which the rest of the program relies on without checking again.
//!
//! Left out on purpose: what only rules know. `[rule.NAME.config]` is passed on as it is, for the rule itself to judge.

mod brokers;
mod defaults;
mod environment;
mod kubernetes;
mod members;
mod properties;
mod raw;
mod read;
mod restart;
mod salvage;
mod secret;
mod source;
mod text;
mod token;
mod validate;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use weir_core::pipeline::OnFault;
use weir_core::printable::harmless;

pub use brokers::{check as check_brokers, is_host_name};
pub use members::Members;
pub use raw::suggestion;
pub use read::{millis, size};
pub use restart::needing_restart;
pub use salvage::{Salvaged, salvage};
pub use secret::Secret;
pub use source::Source;

/// The file that is read if none is named and it is there.
pub const DEFAULT_FILE: &str = "weir.toml";
/// The variable that names the file if the command line does not.
pub const FILE_VARIABLE: &str = "WEIR_CONFIG";

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub kafka: Kafka,
    pub topics: Topics,
    pub batch: Batch,
    pub counts: Counts,
    pub rules: Vec<Rule>,
    pub swap: Swap,
    pub compile: Compile,
    pub trial: Trial,
    pub shadow: Shadow,
    pub admin: Admin,
    pub log: Log,
    pub simulate: Simulate,
    /// Keys that the program itself has set, whatever is written.
    pub fixed: Vec<&'static str>,
}

/// How to reach Kafka. `[kafka]`
#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// `host:port,…`, or none for the embedded broker (`brokers = "embedded"`).
    pub brokers: Option<String>,
    pub group: String,
    pub delivery: Delivery,
    /// None: made from the group and the name of the host.
    pub transactional_id: Option<String>,
    pub start: Start,
    /// Passed to librdkafka as they are; passwords are among them. `[kafka.properties]`
    pub properties: BTreeMap<String, Secret>,
    /// Add the headers `weir-ruleset` and `weir-source` to outputs.
    pub headers: bool,
}

/// What is promised of every message. `kafka.delivery`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Outputs, dead letters, counts and offsets are committed in one transaction.
    ExactlyOnce,
    /// Offsets are committed after the outputs: after a fault some messages are processed again. Always so on the embedded
    /// broker, which has no transactions.
    AtLeastOnce,
}

/// Where a group begins that has no offsets yet. `kafka.start`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first message that is there.
    Earliest,
    /// With what arrives from now on.
    Latest,
    /// With the first message of this time, in milliseconds since the epoch, or a later one.
    At(i64),
}

/// The topics, and how missing ones are created. `[topics]`
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    pub input: String,
    pub output: String,
    pub rejected: String,
    pub counts: String,
    pub create: bool,
    pub partitions: i32,
    pub replication: i32,
    /// Topic settings for topics that are created, such as `retention.ms`. `[topics.settings]`
    pub settings: BTreeMap<String, String>,
}

/// How large a batch may get. `[batch]`
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub rows: usize,
    pub bytes: usize,
    pub linger: Duration,
}

/// The device counts. `[counts]`
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// The member whose values are counted.
    pub member: String,
    pub every: Duration,
    pub emit_empty: bool,
    /// `on_bad_state = "reset"`: where the state that was committed with an offset cannot be read, count anew instead of
    /// stopping.
    pub reset_bad_state: bool,
}

/// One rule of the pipeline, in its order. `[rules] folder, pipeline`, `[rule.NAME]`, `[rule.NAME.config]`
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// `folder/NAME.wasm` unless `file` says otherwise.
    pub file: PathBuf,
    /// `on_reject = "drop"`: count what it rejects, produce no dead letter.
    pub drop: bool,
    pub on_fault: OnFault,
    pub limits: Limits,
    /// What the rule's `configure` gets, a JSON object.
    pub config: serde_json::Value,
    /// Where that was written.
    pub members: Members,
}

/// What a rule may use. `[rule.NAME]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest linear memory, bytes.
    pub memory: usize,
    /// Most elements of a table.
    pub tables: usize,
    /// Most core instances, and as many memories and tables.
    pub instances: usize,
    /// Deepest stack of Wasm code, bytes.
    pub stack: usize,
    /// Most that one call may hand back, bytes.
    pub result: usize,
    /// Longest time for one batch.
    pub deadline: Duration,
}

/// How rules are swapped. `[rules] folder, watch, state, history`
#[derive(Clone, Debug, PartialEq)]
pub struct Swap {
    /// Where `NAME.wasm` is looked for, and put by `weir rules deploy`.
    pub folder: PathBuf,
    /// Look after changes of the rules' files and configuration.
    pub watch: bool,
    /// Where sets that went live are kept. None: a folder of this user's, by the name of the group.
    pub state: Option<PathBuf>,
    /// How many of them.
    pub history: usize,
}

/// What compiling a rule may take. `[rules] compile_memory, compile_time`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compile {
    /// Address space, bytes. None: by what there is.
    pub memory: Option<u64>,
    pub time: Duration,
}

/// When a new set of rules is taken back. `[trial]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// How many messages the trial of a new set takes. 0: there is no trial.
    pub records: u64,
    /// How long it takes at most.
    pub time: Duration,
    /// Share of messages on which rules may fail, 0 to 1.
    pub faults: f64,
    /// How much the share of rejected messages may rise over that of the set before, 0 to 1.
    pub rejections: f64,
    /// Share of the messages that the set before rejects which this one may let pass, 0 to 1.
    pub fewer_rejections: f64,
}

/// Runs of candidates beside the live rules. `[shadow]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shadow {
    /// Share of a core's time that a candidate may take, 0 to 1.
    pub share: f64,
}

/// The admin interface. `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// `host:port`. None: there is no interface.
    pub listen: Option<String>,
    /// What whoever changes something has to know. None: only who reaches a loopback address may.
    pub token: Option<Token>,
}

/// Where the token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Here.
    Text(Secret),
    /// In this file, whose end of line does not belong to it.
    File(PathBuf),
    /// In the file of this name, from `folder` on. It does not look like a path, so it may be the token itself, put into the
    /// wrong place: it is shown only where there is such a file.
    Named { folder: PathBuf, name: Secret },
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
        self.kafka.properties.clear();
        self.kafka.brokers = None;
        self.kafka.delivery = Delivery::AtLeastOnce;
        self.fixed.extend(["kafka.brokers", "kafka.delivery"]);
    }
}

impl Default for Config {
    /// What holds where nothing is written.
    fn default() -> Config {
        Config::parse("", Path::new(""), []).expect("the defaults are valid, a test sees to it")
    }
}

impl Rule {
    /// A rule of which nothing is written but its name, in `NAME.wasm` of the current folder.
    pub fn with_defaults(name: &str) -> Rule {
        // The defaults of a rule are those of any other.
        let any = Config::default().rules.swap_remove(0);
        Rule { name: name.to_owned(), file: PathBuf::from(format!("{name}.wasm")), ..any }
    }

    /// Its policies and limits, by their keys, as they could be written in `[rule.NAME]`.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let Limits { memory, tables, instances, stack, result, deadline } = self.limits;
        let settings = [
            ("on_reject", validate::word(&validate::REJECT_POLICIES, self.drop).to_owned()),
            ("on_fault", validate::word(&validate::FAULT_POLICIES, self.on_fault).to_owned()),
            ("memory", memory.to_string()),
            ("tables", tables.to_string()),
            ("instances", instances.to_string()),
            ("stack", stack.to_string()),
            ("result", result.to_string()),
            ("deadline", format!("{}ms", deadline.as_millis())),
        ];
        settings.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// `words`, in which the rule refuses its configuration, with the key and the place of what it refuses, in one line.
    pub fn explain(&self, words: &str) -> String {
        harmless(&self.members.explain(&self.name, &self.config, words)).into_owned()
    }

    /// A rule by the name, with settings as [`Rule::settings`] gives them.
    pub fn from_settings(
        name: &str,
        file: PathBuf,
        settings: &BTreeMap<String, String>,
        config: serde_json::Value,
    ) -> Result<Rule, Invalid> {
        // Numbers of bytes may be written as text too, and numbers as they are.
        let lines = settings.iter().map(|(key, value)| match key.as_str() {
            "tables" | "instances" => format!("{key} = {value}\n"),
            _ => format!("{key} = {value:?}\n"),
        });
        let text = format!("[rules]\npipeline = [{name:?}]\n[rule.{name:?}]\n{}", lines.collect::<String>());
        let mut read = Config::parse(&text, Path::new(""), [])?;
        Ok(Rule { file, config, ..read.rules.swap_remove(0) })
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
    let ours = |(name, _): &(OsString, OsString)| {
        name.as_encoded_bytes().starts_with(environment::PREFIX.as_bytes()) && name != FILE_VARIABLE
    };
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
