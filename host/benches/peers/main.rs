//! The race against peers: Weir, Kafka Streams, Flink, Benthos and Quix Streams do the same job on one Apache Kafka.
//!
//! First their answers to a sample are compared. Then they work through all logins in interleaved rounds, each with a fresh
//! group, fresh topics and an empty folder; figures are medians, and ratios are medians of the ratios within a round. Quix
//! Streams runs once, over fewer logins. At last each is given 1,000 logins a second, and its latency is measured. The last
//! line is JSON.
//!
//! `make bench-peers` installs what this needs. `LOGINS` and `ROUNDS` make it shorter or longer, and `PEERS` names the peers that
//! race, by their names in the JSON. docs/peers.md says how each is configured, and what is not the same.

mod agreement;
#[path = "../common/mod.rs"]
mod common;
mod contenders;
mod figures;
mod outputs;
mod throughput;

use std::collections::BTreeMap;
use std::time::Duration;

use common::broker::Broker;
use common::figures::Wanted::{self, AtLeast, AtMost};
use common::figures::{goal, goals, interleaved, number};
use common::latency::{self, Span};
use common::{logins, process, topics};
use contenders::Contender;
use figures::{Figure, Figures, ratio};

/// The topic that contenders read.
const INPUT: &str = "user-login";
/// The topic that slow contenders read, and the most logins in it.
const FEW: (&str, usize) = ("user-login-few", 100_000);
/// The time for which logins are sent where latency is measured.
const SPAN: Span = Span { seconds: 20, uncounted: Duration::from_secs(5) };
/// Kinds of bad logins on which no two JSON libraries disagree.
const BAD_KINDS: [&str; 18] = [
    "missing-app-version",
    "missing-device-type",
    "missing-timestamp",
    "null-app-version",
    "null-device-type",
    "null-timestamp",
    "old-version",
    "malformed-version",
    "number-version",
    "millis-timestamp",
    "malformed-timestamp",
    "negative-timestamp",
    "boolean-timestamp",
    "other-device",
    "number-device",
    "object-device",
    "truncated-json",
    "not-json",
];

/// The runs of each contender, by its name.
type Runs = BTreeMap<&'static str, Vec<Figures>>;

fn main() -> anyhow::Result<()> {
    let (count, rounds) = (number("LOGINS", 1_000_000)?, number("ROUNDS", 3)?);
    let few = count.min(FEW.1);
    let chosen = contenders::chosen()?;
    process::watch_signals()?;
    let broker = Broker::start()?;
    agreement::check(&broker, &chosen)?;
    logins::produce(&broker, INPUT, logins::mixed(&BAD_KINDS)?.take(count))?;
    logins::produce(&broker, FEW.0, logins::mixed(&BAD_KINDS)?.take(few))?;

    let mut runs = Runs::new();
    let (slow, fast): (Vec<Contender>, Vec<Contender>) =
        chosen.iter().filter(|one| !one.is_quick()).partition(|one| one.is_slow());
    for (round, index) in interleaved(fast.len(), rounds) {
        race(&broker, &fast[index], INPUT, round, &mut runs)?;
    }
    for contender in &slow {
        race(&broker, contender, FEW.0, 0, &mut runs)?;
    }
    let mut figures: BTreeMap<&str, Figures> = runs.iter().map(|(name, runs)| (*name, Figures::median(runs))).collect();
    // The broker compiles for a while what it runs at this rate. A run that does not count keeps that from the first contender.
    latency::measure(&broker, &chosen[0], "warm-up", &SPAN)?;
    for contender in &chosen {
        let found = latency::measure(&broker, contender, "latency", &SPAN)?;
        eprintln!("latency {}", found.row(contender.name));
        let of = figures.entry(contender.name).or_default();
        (of.p50_ms, of.p99_ms) = (Some(found.median), Some(found.p99));
    }

    println!("{count} simulated logins ({few} for Quix Streams, once), {} partitions,", topics::PARTITIONS);
    println!("medians of {rounds} interleaved rounds; latency at {} logins a second\n", latency::RATE);
    println!("{}", Figures::HEADINGS);
    for contender in &chosen {
        println!("{}", figures[contender.name].row(contender));
    }
    print_goals(&chosen, &runs, &figures);
    println!();
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Runs a contender over a topic, and says how it went.
fn race(broker: &Broker, contender: &Contender, input: &str, round: usize, runs: &mut Runs) -> anyhow::Result<()> {
    let work = throughput::work(broker, contender, input, &round.to_string(), |_, _| ())?;
    eprintln!("round {} {}", round + 1, work.figures.row(contender));
    if work.written != work.logins {
        eprintln!("{} wrote {} outputs and dead letters for {} logins", contender.name, work.written, work.logins);
    }
    runs.entry(contender.name).or_default().push(work.figures);
    Ok(())
}

fn print_goals(chosen: &[Contender], runs: &Runs, figures: &BTreeMap<&str, Figures>) {
    let reach = |what: &str, wanted: Wanted, measured: Option<f64>| {
        if let Some(measured) = measured {
            goal(what, wanted, measured);
        }
    };
    let ratio = |left: (&str, Figure), right: (&str, Figure)| ratio((runs.get(left.0)?, left.1), (runs.get(right.0)?, right.1));
    goals();
    let streams = "streams-eo";
    reach(
        "weir-eo against streams-eo when it is warm, ratio of rates",
        AtLeast(3.0),
        ratio(("weir-eo", |run| run.rate), (streams, |run| run.rate_warm)),
    );
    reach(
        "streams-eo when it is warm against weir-eo, ratio of CPU",
        AtLeast(3.0),
        ratio((streams, |run| run.cpu_warm), ("weir-eo", |run| run.cpu_per_million)),
    );
    reach(
        "streams-eo against weir-eo, ratio of peak memory",
        AtLeast(5.0),
        ratio((streams, |run| run.peak_mib), ("weir-eo", |run| run.peak_mib)),
    );
    reach(
        "weir-alo against benthos-alo, ratio of rates",
        AtLeast(5.0),
        ratio(("weir-alo", |run| run.rate), ("benthos-alo", |run| run.rate)),
    );
    let latencies: [(&str, Figure); 2] = [("p50", |of| of.p50_ms), ("p99", |of| of.p99_ms)];
    for (name, figure) in latencies {
        let of = |contender: &str| figures.get(contender).and_then(figure);
        let peers = chosen.iter().filter(|one| one.exactly_once && one.name != "weir-eo").filter_map(|one| of(one.name));
        if let Some(best) = peers.reduce(f64::min) {
            reach(
                &format!("{name} of weir-eo, below the best peer's that is exactly once, ms"),
                AtMost(tenths(best)),
                of("weir-eo"),
            );
        }
        if let Some(benthos) = of("benthos-alo") {
            reach(
                &format!("{name} of weir-alo, at most 2 ms above that of benthos-alo, ms"),
                AtMost(tenths(benthos + 2.0)),
                of("weir-alo"),
            );
        }
    }
}

fn tenths(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}
