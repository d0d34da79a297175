//! Who competes, with which guarantee, and how each is started. Why that is its best stands in docs/peers.md.
//!
//! `scripts/peers` has built the peers. All of them read the task in the variables of Weir's configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure};

use super::common::task::{self, Task};

/// The Java virtual machine of the peers that need one. The heap is what they are fastest with; more changes nothing.
const JAVA: [&str; 4] = ["-Xms512m", "-Xmx512m", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"];

/// The contenders, in the order of the tables.
const ALL: [Contender; 11] = [
    Contender::new("weir-eo", "Weir", true, Program::Weir),
    Contender::new("weir-alo", "Weir", false, Program::Weir),
    Contender::new("streams-eo", "Kafka Streams", true, Program::Streams),
    Contender::new("streams-eo-quick", "Kafka Streams, commits each 10 ms", true, Program::Streams).quick("10"),
    Contender::new("streams-alo", "Kafka Streams", false, Program::Streams),
    Contender { told_by_ends: true, ..Contender::new("flink-eo", "Flink", true, Program::Flink) },
    Contender::new("flink-eo-quick", "Flink, checkpoints each 100 ms", true, Program::Flink).quick("100"),
    Contender { keeps_order: false, ..Contender::new("benthos-alo", "Benthos with franz-go", false, Program::Benthos) },
    Contender::new("quix-eo", "Quix Streams", true, Program::Quix),
    Contender::new("quix-eo-quick", "Quix Streams, commits each 10 ms", true, Program::Quix).quick("10"),
    Contender::new("quix-alo", "Quix Streams", false, Program::Quix),
];

/// A program with a guarantee.
#[derive(Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    pub title: &'static str,
    pub exactly_once: bool,
    /// Whether the ends of its outputs say how far it is, instead of the offsets of its group: they do with at least once, and
    /// where offsets are committed only some time after the outputs.
    pub told_by_ends: bool,
    /// Whether it keeps the order of a partition.
    pub keeps_order: bool,
    /// The milliseconds between its commits where it is set up for latency, and only that is measured.
    commit_ms: Option<&'static str>,
    program: Program,
}

#[derive(Clone, Copy, PartialEq)]
enum Program {
    Weir,
    Streams,
    Flink,
    Benthos,
    Quix,
}

/// Returns Weir, and the peers that `PEERS` names, or all of them.
pub fn chosen() -> anyhow::Result<Vec<Contender>> {
    let text = std::env::var("PEERS").unwrap_or_default();
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|contender| contender.name != **name)) {
        let known = ALL.map(|contender| contender.name).join(", ");
        bail!("failed to read PEERS: there is no `{unknown}`; there are {known}");
    }
    let is_chosen =
        |contender: &Contender| contender.program == Program::Weir || names.is_empty() || names.contains(&contender.name);
    Ok(ALL.into_iter().filter(is_chosen).collect())
}

impl Contender {
    const fn new(name: &'static str, title: &'static str, exactly_once: bool, program: Program) -> Contender {
        Contender { name, title, exactly_once, told_by_ends: !exactly_once, keeps_order: true, commit_ms: None, program }
    }

    const fn quick(self, commit_ms: &'static str) -> Contender {
        Contender { commit_ms: Some(commit_ms), ..self }
    }

    pub fn is_quick(&self) -> bool {
        self.commit_ms.is_some()
    }

    pub fn delivery(&self) -> &'static str {
        if self.exactly_once { "exactly once" } else { "at least once" }
    }

    /// Returns whether it is so slow that it gets fewer logins.
    pub fn is_slow(&self) -> bool {
        self.program == Program::Quix
    }
}

impl task::Contender for Contender {
    fn name(&self) -> &str {
        self.name
    }

    fn prefix(&self) -> &str {
        self.name
    }

    fn command(&self, task: &Task<'_>) -> anyhow::Result<Command> {
        let delivery = if self.exactly_once { "exactly-once" } else { "at-least-once" };
        let mut command = match self.program {
            Program::Weir => return Ok(task.weir(delivery)),
            Program::Streams => java("streams")?,
            Program::Flink => java("flink")?,
            Program::Benthos => {
                let mut command = Command::new(built("benthos/benthos")?);
                command.arg("run").arg(source("peers/benthos/pipeline.yaml"));
                // As much memory as the heap in Java, so that the collector runs less often.
                command.env("GOGC", "400").env("GOMEMLIMIT", "512MiB");
                command
            }
            Program::Quix => {
                let mut command = Command::new(built("quix/bin/python")?);
                command.args(["-W", "ignore"]).arg(source("peers/quix/main.py")).env("PYTHONPATH", source("kafka"));
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        };
        if let Some(commit_ms) = self.commit_ms {
            command.env("COMMIT_MS", commit_ms).env("LINGER_MS", "0");
        }
        task.tell(&mut command);
        command.env("WEIR_KAFKA_DELIVERY", delivery);
        Ok(command)
    }
}

/// Returns the command that starts the class `Main` of a peer in Java.
fn java(peer: &str) -> anyhow::Result<Command> {
    let mut path = built(&format!("{peer}/classes"))?.into_os_string();
    path.push(":");
    path.push(built(&format!("{peer}/jars"))?.join("*"));
    let mut command = Command::new("java");
    command.args(JAVA).arg("-cp").arg(path).arg(format!("{peer}.Main"));
    Ok(command)
}

/// Returns a path in the folder of `scripts/peers`.
fn built(path: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers").join(path);
    ensure!(path.exists(), "{} is missing; run `make bench-peers`", path.display());
    Ok(path)
}

/// Returns a path in the folder of the benchmarks.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(path)
}
