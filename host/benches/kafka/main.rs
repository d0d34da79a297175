//! The cost of Weir on a real Apache Kafka: exactly once and at least once, against a bare relay that does nothing with the
//! records, and against the same job in Python.
//!
//! All contenders run on this machine, over the same simulated logins. Weir and the relays run over all logins, in interleaved
//! rounds, each with a fresh group and fresh topics. Figures are medians. Ratios are medians of the ratios within a round,
//! because a shared machine is not equally fast all the time. Python runs once, over fewer logins.
//!
//! `make bench-kafka` installs what this needs. `LOGINS` and `ROUNDS` make it shorter or longer. Variables of Weir's
//! configuration, such as `WEIR_BATCH_ROWS`, reach Weir and the relays alike.

#[path = "../common/mod.rs"]
mod common;
mod python;
mod relay;
mod starts;
mod throughput;

use std::process::Command;
use std::time::Duration;

use common::broker::Broker;
use common::figures::Wanted::{AtLeast, AtMost};
use common::figures::{goal, goals, number};
use common::latency::Span;
use common::task::{self, Task};
use common::{latency, logins, process, topics};
use throughput::Run;

/// The topic that every contender reads.
const INPUT: &str = "user-login";
/// The time for which logins are sent where latency is measured.
const SPAN: Span = Span { seconds: 30, uncounted: Duration::ZERO };
/// Kinds of bad logins on which no two JSON libraries disagree.
const BAD_KINDS: [&str; 6] =
    ["missing-app-version", "old-version", "malformed-version", "millis-timestamp", "other-device", "truncated-json"];

/// The contenders that are compared in rounds.
const CONTENDERS: [Contender; 5] = [
    Contender { letter: "a", name: "weir, exactly once", program: Program::Weir("exactly-once", "1") },
    Contender { letter: "b", name: "weir, at least once", program: Program::Weir("at-least-once", "1") },
    Contender { letter: "c", name: "bare relay, transactions", program: Program::Relay("transactions") },
    Contender { letter: "d", name: "bare relay, none", program: Program::Relay("none") },
    Contender { letter: "e", name: "weir, exactly once, 2 data loops", program: Program::Weir("exactly-once", "2") },
];

/// A program that is compared with others.
#[derive(Clone, Copy)]
pub struct Contender {
    letter: &'static str,
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

impl task::Contender for Contender {
    fn name(&self) -> &str {
        self.name
    }

    fn prefix(&self) -> &str {
        self.letter
    }

    fn command(&self, task: &Task<'_>) -> anyhow::Result<Command> {
        match self.program {
            Program::Weir(delivery, threads) => {
                let mut command = task.weir(delivery);
                command.env("WEIR_ENGINE_THREADS", threads);
                Ok(command)
            }
            Program::Relay(transactions) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["relay", transactions]);
                task.tell(&mut command);
                Ok(command)
            }
        }
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
    let (count, rounds) = (number("LOGINS", 2_000_000)?, number("ROUNDS", 5)?);
    process::watch_signals()?;
    python::check_agreement()?;
    let broker = Broker::start()?;
    logins::produce(&broker, INPUT, logins::mixed(&BAD_KINDS)?.take(count))?;
    println!("{count} simulated logins, {} partitions, medians of {rounds} interleaved rounds\n", topics::PARTITIONS);
    println!("{}", Run::HEADINGS);
    let runs = throughput::rounds(&broker, rounds)?;
    for (contender, runs) in CONTENDERS.iter().zip(&runs) {
        println!("{}", Run::median(runs).row(contender.letter, contender.name));
    }
    let (few, some) = (count.min(10_000), count.min(200_000));
    let naive = python::run(&broker, "naive.py", few)?;
    println!("{}", naive.row("f", &format!("python, a flush a message, {few} logins")));
    let batched = python::run(&broker, "batched.py", some)?;
    println!("{}", batched.row("g", &format!("python, a flush in 1,000, {some} logins")));

    let [exactly_once, at_least_once] = [CONTENDERS[0], CONTENDERS[1]];
    println!("\n| at {} logins a second | median ms | p99 ms | max ms |\n|---|---:|---:|---:|", latency::RATE);
    let latency = latency::measure(&broker, &exactly_once, "latency", &SPAN)?;
    println!("{}", latency.row(exactly_once.name));
    println!("{}", latency::measure(&broker, &at_least_once, "latency", &SPAN)?.row(at_least_once.name));
    let idle = starts::idle_mebibytes(&broker, &exactly_once)?;
    let start = starts::start_to_first_output(&broker, &exactly_once)?;

    let weir = Run::median(&runs[0]);
    goals();
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
