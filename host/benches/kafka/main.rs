//! The cost of Weir on a real Apache Kafka: exactly once and at least once, against a bare relay that does nothing with the
//! records, and against the same job in Python.
//!
//! All contenders run on this machine, over the same simulated logins. Weir and the relays run over all logins, in interleaved
//! rounds, each with a fresh group and fresh topics. Figures are medians. Ratios are medians of the ratios within a round,
//! because a shared machine is not equally fast all the time. Python runs once, over fewer logins.
//!
//! `make bench-kafka` installs what this needs. `LOGINS` and `ROUNDS` make it shorter or longer. Variables of Weir's
//! configuration, such as `WEIR_BATCH_ROWS`, reach Weir and the relays alike.

mod broker;
mod latency;
mod process;
mod python;
mod relay;
mod throughput;
mod topics;

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use weir::simulate::bad::{self, Defect};
use weir::simulate::logins::{Logins, Options};

use broker::Broker;
use throughput::Run;

/// The topic that every contender reads.
const INPUT: &str = "user-login";
/// Kinds of bad logins on which no two JSON libraries disagree.
const BAD_KINDS: [&str; 6] =
    ["missing-app-version", "old-version", "malformed-version", "millis-timestamp", "other-device", "truncated-json"];

/// The contenders that are compared in rounds.
const CONTENDERS: [Contender; 5] = [
    Contender { letter: 'a', name: "weir, exactly once", program: Program::Weir("exactly-once", "1") },
    Contender { letter: 'b', name: "weir, at least once", program: Program::Weir("at-least-once", "1") },
    Contender { letter: 'c', name: "bare relay, transactions", program: Program::Relay("transactions") },
    Contender { letter: 'd', name: "bare relay, none", program: Program::Relay("none") },
    Contender { letter: 'e', name: "weir, exactly once, 2 data loops", program: Program::Weir("exactly-once", "2") },
];

/// A program that is compared with others.
#[derive(Clone, Copy)]
pub struct Contender {
    letter: char,
    name: &'static str,
    program: Program,
}

#[derive(Clone, Copy)]
enum Program {
    /// The real program, with this delivery and this number of data loops.
    Weir(&'static str, &'static str),
    /// This program itself, as a relay.
    Relay(&'static str),
}

/// The input and the group of a process. The names of its output topics begin with the name of the group.
pub struct Task<'a> {
    broker: &'a Broker,
    input: String,
    group: String,
}

impl Task<'_> {
    fn outputs(&self) -> [String; 3] {
        ["output", "rejected", "counts"].map(|topic| format!("{}-{topic}", self.group))
    }

    /// Passes the task to `command`, in the variables of Weir's configuration.
    fn tell(&self, command: &mut Command) {
        let [output, rejected, counts] = self.outputs();
        command
            .env("WEIR_KAFKA_BROKERS", &self.broker.address)
            .env("WEIR_KAFKA_GROUP", &self.group)
            .env("WEIR_TOPICS_INPUT", &self.input)
            .env("WEIR_TOPICS_OUTPUT", output)
            .env("WEIR_TOPICS_REJECTED", rejected)
            .env("WEIR_TOPICS_COUNTS", counts)
            .env("WEIR_RULES_FOLDER", rules())
            .env("XDG_STATE_HOME", std::env::temp_dir().join(&self.group))
            .env("WEIR_ADMIN_LISTEN", "127.0.0.1:0");
    }
}

impl Contender {
    fn command(&self, task: &Task<'_>) -> anyhow::Result<Command> {
        let mut command = match self.program {
            Program::Weir(delivery, threads) => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
                command.arg("run");
                command.env("WEIR_KAFKA_DELIVERY", delivery).env("WEIR_ENGINE_THREADS", threads);
                command
            }
            Program::Relay(transactions) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["relay", transactions]);
                command
            }
        };
        task.tell(&mut command);
        // In this folder there is no `weir.toml`, so the settings are the defaults.
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        Ok(command)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["relay", transactions] => relay::relay(transactions == "transactions"),
        _ => bench(),
    }
}

fn bench() -> anyhow::Result<()> {
    let (logins, rounds) = (number("LOGINS", 2_000_000)?, number("ROUNDS", 5)?);
    python::check_agreement()?;
    let broker = Broker::start()?;
    throughput::produce(&broker, logins)?;
    println!("{logins} simulated logins, {} partitions, medians of {rounds} interleaved rounds\n", topics::PARTITIONS);
    println!("{}", Run::HEADINGS);
    let runs = throughput::rounds(&broker, rounds)?;
    for (contender, runs) in CONTENDERS.iter().zip(&runs) {
        println!("{}", Run::median(runs).row(contender.letter, contender.name));
    }
    let (few, some) = (logins.min(10_000), logins.min(200_000));
    let naive = python::run(&broker, "naive.py", few)?;
    println!("{}", naive.row('f', &format!("python, a flush a message, {few} logins")));
    let batched = python::run(&broker, "batched.py", some)?;
    println!("{}", batched.row('g', &format!("python, a flush in 1,000, {some} logins")));

    let [exactly_once, at_least_once] = [CONTENDERS[0], CONTENDERS[1]];
    println!("\n| at {} logins a second | median ms | p99 ms | max ms |\n|---|---:|---:|---:|", latency::RATE);
    let latency = latency::measure(&broker, &exactly_once)?;
    println!("{}", latency.row(exactly_once.name));
    println!("{}", latency::measure(&broker, &at_least_once)?.row(at_least_once.name));
    let idle = latency::idle_mebibytes(&broker, &exactly_once)?;
    let start = latency::start_to_first_output(&broker, &exactly_once)?;

    let weir = Run::median(&runs[0]);
    println!("\n| goal | wanted | measured | |\n|---|---:|---:|---|");
    goal("(a) against (c), ratio of rates", AtLeast(0.9), throughput::ratio(&runs[0], &runs[2]));
    goal("(a) against (f), ratio of rates", AtLeast(50.0), weir.rate / naive.rate);
    goal("(a) against (g), ratio of rates", AtLeast(5.0), weir.rate / batched.rate);
    goal("median latency, ms", AtMost(30.0), latency.median);
    goal("p99 latency, ms", AtMost(150.0), latency.p99);
    goal("resident memory, idle, MiB", AtMost(64.0), idle);
    goal("resident memory, peak under load, MiB", AtMost(256.0), weir.peak_mib);
    goal("start to first output, warm group, s", AtMost(2.0), start);
    println!(
        "\n(b) against (d): {:.2}; (a) against (b): {:.2}; (e) against (a): {:.2}",
        throughput::ratio(&runs[1], &runs[3]),
        throughput::ratio(&runs[0], &runs[1]),
        throughput::ratio(&runs[4], &runs[0])
    );
    Ok(())
}

/// The goal of a figure.
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}
use Wanted::{AtLeast, AtMost};

fn goal(what: &str, wanted: Wanted, measured: f64) {
    let (sign, bound, reached) = match wanted {
        AtLeast(bound) => ('≥', bound, measured >= bound),
        AtMost(bound) => ('≤', bound, measured <= bound),
    };
    println!("| {what} | {sign} {bound} | {measured:.2} | {} |", if reached { "reached" } else { "missed" });
}

/// Returns simulated logins, with a share of bad ones. All contenders treat these bad logins alike.
pub fn logins(bad_share: f64) -> anyhow::Result<Logins> {
    let kinds: Vec<&Defect> =
        BAD_KINDS.iter().map(|name| bad::find(name)).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    Ok(Logins::new(&Options { kinds, bad_share, ..Options::default() }))
}

/// Returns the median.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rules() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/dist")
}

fn number(variable: &str, default: usize) -> anyhow::Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text.replace('_', "").parse().with_context(|| format!("failed to read {variable}: `{text}` is no number")),
        Err(_) => Ok(default),
    }
}
