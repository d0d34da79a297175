//! The command line: its arguments, and their help.
//!
//! This module contains only arguments and texts. The code of a command is in the module with its name. Settings that the command
//! line does not give come from the configuration ([`crate::config`]), which has all defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, InvalidConfig};
use crate::simulate::bad::{self, Defect};
use weir_wasm::COMPILING;

/// A rule engine for Kafka whose rules are sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: WeirCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir demo                                   the whole path in one process, no Kafka needed
  weir build rules/validation --out rules/dist
  weir check rules/dist/*.wasm
  weir simulate --count 5 --to-stdout | weir apply
  weir run --config weir.toml
  weir rules deploy rules/dist/device-filter.wasm

Every key of weir.toml can be overridden by the environment: `kafka.brokers` by WEIR_KAFKA_BROKERS, \
`counts.every` by WEIR_COUNTS_EVERY, and so on.

Exit codes: 0 well, 1 failed, 2 bad usage or configuration.";

#[derive(Debug, Subcommand)]
pub enum WeirCommand {
    Run(Run),
    Demo(Demo),
    Simulate(Simulate),
    Verify(Verify),
    Apply(Apply),
    Build(Build),
    Check(Check),
    Rules(Rules),
    Config(ConfigArgs),
}

/// Where the configuration is.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFile {
    /// Configuration file; without it $WEIR_CONFIG, else ./weir.toml if it is there, else the defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Variables that go before those of the environment
    #[arg(skip)]
    pub overrides: BTreeMap<String, String>,
}

impl ConfigFile {
    /// Reads the configuration for a command that uses Kafka, overridden by the environment of this process.
    pub fn load_for_kafka(&self) -> Result<Config, InvalidConfig> {
        Config::load_for_kafka(config::locate(self.config.as_deref()).as_deref(), config::environment()?)
    }

    /// Reads the configuration, overridden by the environment of this process.
    pub fn load(&self) -> Result<Config, InvalidConfig> {
        let environment = config::environment()?.into_iter().chain(self.overrides.clone());
        Config::load(config::locate(self.config.as_deref()).as_deref(), environment)
    }

    /// Returns the source of the configuration, which is read again while a process runs with `running`.
    pub fn source(&self, running: Config) -> config::ConfigSource {
        config::ConfigSource::new(self.config.as_deref(), self.overrides.clone(), running)
    }
}

/// Print a configuration file: every key at its default, with its bounds and what it means
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
What a file leaves out keeps its default, and each key can be overridden by a variable of the environment.

Examples:
  weir config > weir.toml
  weir config | grep -A 5 '^\\[batch\\]'")]
pub struct ConfigArgs {}

/// Read logins from Kafka, judge them by the rules, write outputs, rejections and counts back
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Runs until SIGINT or SIGTERM, then finishes the batch at hand, commits, and exits 0.

Examples:
  weir run
  weir run --config /etc/weir/weir.toml
  WEIR_KAFKA_BROKERS=kafka-1:9092,kafka-2:9092 weir run
  WEIR_RULES_PIPELINE=validation,utc-enrichment weir run")]
pub struct Run {
    #[command(flatten)]
    pub file: ConfigFile,
}

/// Show the whole path in one process: an embedded broker, simulated logins, the rules, a live view
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Needs neither Kafka nor Docker, and takes the rules inside the program where the folder of rules has none. Nothing is kept \
but the cache of compiled rules. Counts appear every 10 s. Where standard output is no terminal, or TERM is `dumb` or not \
set, a plain line every few seconds takes the place of the view.

Examples:
  weir demo
  weir demo --rate 5000
  weir demo --seconds 15 | cat")]
pub struct Demo {
    #[command(flatten)]
    pub file: ConfigFile,

    /// Logins per second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,

    /// Stop by itself after so many seconds; without it, `q` or Ctrl-C stops
    #[arg(long, value_name = "N")]
    pub seconds: Option<u32>,
}

/// Produce logins, some of them bad, to Kafka or to standard output
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "\
The same seed gives the same logins, except for their timestamps, which begin now (or at --start).
What is not given is taken from [simulate], [kafka] and [topics] of the configuration. With --to-stdout there is no rate \
but --rate, and each message is one line; what would break the line structure is left out (see --list-kinds).

Examples:
  weir simulate --count 1000 --rate 0             1,000 logins to Kafka, as fast as it takes them
  weir simulate --count 0 --rate 50               50 a second until stopped
  weir simulate --to-stdout --count 20 --bad-share 0.5
  weir simulate --to-stdout --count 3 --only old-version
  weir simulate --list-kinds")]
pub struct Simulate {
    #[command(flatten)]
    pub file: ConfigFile,

    /// How many messages; 0: until stopped
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,

    /// Messages per second; 0: as fast as possible, as with --to-stdout where it is not given
    #[arg(long, value_name = "N")]
    pub rate: Option<u32>,

    /// Seed of the generator
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Share of bad messages, from 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub bad_share: Option<f64>,

    /// Kinds of bad messages to choose from; all if not given
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = bad::find)]
    pub bad_kinds: Vec<&'static Defect>,

    /// Only messages of this kind: short for --bad-share 1 --bad-kinds KIND
    #[arg(long, value_name = "KIND", value_parser = bad::find, conflicts_with_all = ["bad_share", "bad_kinds"])]
    pub only: Option<&'static Defect>,

    /// Timestamp of the first login, in seconds since the epoch; now if not given
    #[arg(long, value_name = "SECONDS")]
    pub start: Option<i64>,

    /// Write to standard output instead of Kafka
    #[arg(long, conflicts_with_all = ["brokers", "topic"])]
    pub to_stdout: bool,

    /// Brokers to produce to, `host:port,…`
    #[arg(long, value_name = "LIST", value_parser = brokers)]
    pub brokers: Option<String>,

    /// Topic to produce to
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,

    /// List the kinds of bad messages and exit
    #[arg(long)]
    pub list_kinds: bool,
}

/// Prove from the topics that no message is lost, none doubled, and all are counted
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Takes the committed offsets of the group as a cut, and reads input, outputs, dead letters and counts up to it, as \
committed messages only. It changes nothing, joins no group, and may look at a system that runs. It proves:
  none lost      each input record before the cut is an output or a dead letter
  none twice     and not both, and only once
  in order       outputs of one input partition follow each other as their records do
  of the input   each output and dead letter names a record of the input (weir-source)
  one rule set   each names one set of rules (weir-ruleset)
  counts add up  the windows that were sent and the open ones count each output once
What can't be judged, such as what has expired, is said in a note, and never passes for proven.

Examples:
  weir verify
  weir verify --json | jq .found
  weir verify --follow --every 30           until Ctrl-C, which prints the verdict

Exit codes: 0 verified, 1 violated or failed, 2 bad usage or configuration.")]
pub struct Verify {
    #[command(flatten)]
    pub file: ConfigFile,

    /// Brokers to ask, `host:port,…`
    #[arg(long, value_name = "LIST", value_parser = brokers)]
    pub brokers: Option<String>,

    /// The verdict as one JSON object; with --follow one a line for each cut, the last one for all
    #[arg(long)]
    pub json: bool,

    /// Take one cut after another until stopped; a line for each, and what is wrong as it is found
    #[arg(short, long)]
    pub follow: bool,

    /// Seconds between two cuts
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = seconds, requires = "follow")]
    pub every: u32,

    /// Seconds to wait for an answer of the cluster, or for the end of a transaction
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = seconds)]
    pub timeout: u32,
}

/// Run the rules over a file or standard input, one message a line
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The same engine as `weir run`, without Kafka. Outputs keep the order of the input; a summary goes to standard error.

Examples:
  weir apply logins.jsonl > outputs.jsonl
  weir apply logins.jsonl --rejected rejected.jsonl --counts counts.json
  weir simulate --to-stdout --count 5 | weir apply --rejected -
  weir apply --processed-at 1704067200000 < logins.jsonl        the same bytes each time

Exit codes: 0 all lines were judged, whatever came of them; 1 failed, or --fail-on-fault and a rule failed; 2 bad usage or \
configuration.")]
pub struct Apply {
    #[command(flatten)]
    pub file: ConfigFile,

    /// Messages to read, one a line; without it, or with `-`, standard input
    #[arg(value_name = "FILE", conflicts_with = "input")]
    pub messages: Option<PathBuf>,

    /// Another way to name FILE
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Where outputs go, one a line; `-`: standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Where rejections go, one JSON object a line; without it they are only counted
    #[arg(long, value_name = "FILE")]
    pub rejected: Option<PathBuf>,

    /// Where the counts go, as one JSON object
    #[arg(long, value_name = "FILE")]
    pub counts: Option<PathBuf>,

    /// The time that the rules are told, in milliseconds since the epoch; now if not given
    #[arg(long, value_name = "MILLIS")]
    pub processed_at: Option<i64>,

    /// Exit with 1 if a rule failed on a line (`rule_fault`), also where `on_fault` lets the line pass
    #[arg(long)]
    pub fail_on_fault: bool,
}

/// Build rule crates into WebAssembly components
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
A rule is an ordinary Rust library crate that depends on `weir-rule`. Each is built for wasm32-unknown-unknown and \
written to DIR/NAME.wasm, where NAME is the name of the package.

Examples:
  weir build rules/validation rules/device-filter --out rules/dist
  weir build .")]
pub struct Build {
    /// Folders of rule crates
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Folder for the components, made if it is missing
    #[arg(short, long, value_name = "DIR", default_value = "dist")]
    pub out: PathBuf,
}

/// Prove rule components: contract, imports, manifest, limits
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Prints what each rule reads, writes and rejects for. A rule that the configuration names is configured as it says, \
any other one with an empty object. Fails if one of them would be refused by `weir run`.

Examples:
  weir check rules/dist/validation.wasm
  weir check --config weir.toml rules/dist/*.wasm")]
pub struct Check {
    /// Rule components, or folders of them
    #[arg(required = true, value_name = "RULE.wasm")]
    pub rules: Vec<PathBuf>,

    #[command(flatten)]
    pub file: ConfigFile,
}

/// See which rules a running `weir run` judges by, and swap them
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Asks the admin interface of the running process (`admin.listen`). A new set of rules is proven before it takes the place \
of the live one, between two batches; what is refused changes nothing. A set is named by its hash, as in the header \
`weir-ruleset`, or by its first digits.

Examples:
  weir rules status
  weir rules deploy rules/dist/device-filter.wasm --dry-run
  weir rules deploy rules/dist
  weir rules rollback
  weir rules shadow rules/dist/device-filter.wasm --seconds 60

Exit codes: 0 done, 1 refused, failed or not live yet, 2 bad usage or configuration.")]
pub struct Rules {
    #[command(subcommand)]
    pub command: RulesCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum RulesCommand {
    Status(RulesStatus),
    Deploy(RulesDeploy),
    Rollback(RulesRollback),
    Resume(RulesResume),
    History(RulesHistory),
    Diff(RulesDiff),
    Shadow(RulesShadow),
    Promote(RulesPromote),
}

/// Whom to ask, and how to answer.
#[derive(Args, Clone, Debug)]
pub struct Interface {
    #[command(flatten)]
    pub file: ConfigFile,

    /// Admin interface to ask; without it `admin.listen` of the configuration
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub admin: Option<String>,

    /// The answer as it came, in JSON
    #[arg(long)]
    pub json: bool,
}

/// Show the live rules, why they are live, and what stands in the way of others
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weir rules status
  weir rules status --admin 10.0.0.7:8081
  weir rules status --json | jq --raw-output .live.hash")]
pub struct RulesStatus {
    #[command(flatten)]
    pub interface: Interface,
}

/// Prove rule components, put them into the folder, and make them live
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
A file is for the rule of its name: device-filter.wasm is for `device-filter` of `rules.pipeline`. Other rules stay as the \
folder has them. All files go live together, as one set. Waits until they judge, and shows from which offsets on. \
Afterwards the set stands its trial ([trial]), which takes it back if it does badly.

Examples:
  weir rules deploy rules/dist/device-filter.wasm
  weir rules deploy rules/dist --dry-run            prove them and show what would change
  weir rules deploy validation.wasm device-filter.wasm")]
pub struct RulesDeploy {
    /// Components, or folders of which each *.wasm is taken
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,

    /// Prove them and show what would change, but change nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub interface: Interface,
}

/// Go back to a set of rules that was live before, and stay there
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The set is pinned: changes of the folder wait until `weir rules resume`, or `weir rules deploy`.

Examples:
  weir rules rollback                               to the newest other set that was not taken back
  weir rules rollback 5f2a9c                        to this one, see `weir rules history`")]
pub struct RulesRollback {
    /// Hash of the set, or its first digits; without it the newest other one that was not taken back
    #[arg(value_name = "HASH")]
    pub hash: Option<String>,

    #[command(flatten)]
    pub interface: Interface,
}

/// Follow the folder and the configuration again, after `weir rules rollback`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weir rules resume")]
pub struct RulesResume {
    #[command(flatten)]
    pub interface: Interface,
}

/// List the sets of rules that went live, the last first
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weir rules history
  weir rules history --json | jq '.[] | select(.taken_back)'")]
pub struct RulesHistory {
    #[command(flatten)]
    pub interface: Interface,
}

/// Show what is different between two sets of rules
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weir rules diff 5f2a9c 81d0be                     see `weir rules history`")]
pub struct RulesDiff {
    /// Hash of the set before, or its first digits
    pub a: String,

    /// Hash of the set after, or its first digits
    pub b: String,

    #[command(flatten)]
    pub interface: Interface,
}

/// Run rule components beside the live rules, and compare what both say
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The candidate judges copies of messages, with the share of a core that `shadow.share` gives it. Nothing that it says is \
written to Kafka, and the live rules don't wait for it. It runs until --seconds or Ctrl-C, and is ended then.

Examples:
  weir rules shadow rules/dist/device-filter.wasm --seconds 60
  weir rules shadow rules/dist --seconds 600 --keep
  weir rules shadow --report
  weir rules promote                                make what was kept live
  weir rules shadow --end")]
pub struct RulesShadow {
    /// Components, or folders of which each *.wasm is taken
    #[arg(value_name = "FILE|DIR", required_unless_present_any = ["report", "end"], conflicts_with_all = ["report", "end"])]
    pub files: Vec<PathBuf>,

    /// Show the report after so many seconds; without it, Ctrl-C does
    #[arg(long, value_name = "N", value_parser = seconds, requires = "files")]
    pub seconds: Option<u32>,

    /// Let the candidate run on afterwards, to be promoted or ended later
    #[arg(long, requires = "files")]
    pub keep: bool,

    /// Show how the running candidate does
    #[arg(long, conflicts_with = "end")]
    pub report: bool,

    /// End the running candidate, and show how it did
    #[arg(long)]
    pub end: bool,

    #[command(flatten)]
    pub interface: Interface,
}

/// Make the candidate of `weir rules shadow` live, as `weir rules deploy` would
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weir rules shadow rules/dist/device-filter.wasm --seconds 60 --keep && weir rules promote")]
pub struct RulesPromote {
    #[command(flatten)]
    pub interface: Interface,
}

/// The arguments of a child process that only compiles: it reads the component from standard input, and writes machine code to
/// standard output. It is an internal command: no help lists it, and no error suggests it.
#[derive(Clone, Debug, Parser)]
pub struct Compile {
    /// Address space, bytes
    #[arg(long, value_name = "BYTES")]
    pub memory: u64,

    /// Time of each core
    #[arg(long, value_name = "SECONDS")]
    pub seconds: u64,
}

impl Compile {
    /// Returns the arguments of this process, if it was started only to compile.
    pub fn of_process() -> Option<Compile> {
        let is_one = std::env::args_os().nth(1).is_some_and(|first| first == COMPILING);
        is_one.then(|| Compile::parse_from(std::env::args_os().skip(1)))
    }
}

/// The error for arguments that make no sense together, or that only the command can check. Its exit code is that of clap's
/// errors.
#[derive(Debug)]
pub struct BadUsage(pub String);

impl fmt::Display for BadUsage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

/// Returns whether `error` means that the reader of the output has closed it, as `head` does. This is no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// Writes `text` to standard output, where results go.
///
/// # Errors
/// If the text can't be written. If the reader has closed the output, that is among the causes; it is no reason to panic.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("failed to write to standard output")
}

/// Parses a number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Parses a number of whole seconds, at most a day: a plain number, or one with a unit as in `weir.toml`.
fn seconds(text: &str) -> Result<u32, String> {
    let with_unit = || config::duration(text).filter(|duration| duration.subsec_nanos() == 0).map(|duration| duration.as_secs());
    let seconds = text.parse().ok().or_else(with_unit).filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(|seconds| seconds as u32).ok_or_else(|| "expected 1 to 86400 seconds, such as 90, 90s or 2m".to_owned())
}

/// Checks a list of brokers, as in `kafka.brokers`.
fn brokers(text: &str) -> Result<String, String> {
    config::check_brokers(text).map(|()| text.to_owned()).map_err(|expected| format!("expected {expected}"))
}

/// Checks a host and a port, in the form in which a URL contains them.
fn address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = bracketed.map_or_else(|| config::is_host_name(host), |host| host.parse::<Ipv6Addr>().is_ok());
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_host && is_port).then(|| text.to_owned()).ok_or_else(|| "expected HOST:PORT, such as 127.0.0.1:8081".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_share_is_a_number_from_0_to_1() {
        assert_eq!(share("0.25"), Ok(0.25));
        for bad in ["-0.1", "1.1", "NaN", "much"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_may_have_a_unit() {
        assert_eq!([seconds("2"), seconds("90s"), seconds("2m"), seconds("24h")], [Ok(2), Ok(90), Ok(120), Ok(86_400)]);
        for bad in ["", "0", "0s", "500ms", "86401", "25h", "s", "2 days", "-1", "99999999999999999999"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:8081", "[::1]:8081", "weir-1.internal:1"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["", "8081", ":8081", "host:", "host:0", "host:70000", "::1:8081", "a/b:1", "a@b:1", "http://host:1", "[x]:1"]
        {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
