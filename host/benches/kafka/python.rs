//! The same job in Python, with confluent-kafka. First its answers are compared with those of the engine.
//!
//! The scripts end by themselves after a number of logins, and print the time from the first record to the last flush. So their
//! start-up is not in the figures either.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::common::broker::Broker;
use super::common::logins;
use super::common::process::{ChildProcess, go_on};
use super::common::task::{Task, rules};
use super::throughput::Run;
use super::{BAD_KINDS, INPUT};

/// The number of logins that both process in the comparison.
const SAMPLE: usize = 5_000;
/// The interval of looks whether a script has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The most time that a script may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Returns the interpreter of the virtual environment that `make bench-kafka` makes.
fn interpreter() -> anyhow::Result<PathBuf> {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    ensure!(python.exists(), "{} is missing; run `make bench-kafka`", python.display());
    Ok(python)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kafka").join(name)
}

/// Checks that Python does the same work: that it gives the same answers to the same logins.
pub fn check_agreement() -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for login in logins::mixed(&BAD_KINDS)?.take(SAMPLE) {
        lines.extend(login.value.unwrap_or_default());
        lines.push(b'\n');
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("logins"), &lines)?;
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.args(["apply", "--processed-at", "0", "--input"]).arg(path("logins"));
    weir.arg("--output").arg(path("outputs")).arg("--rejected").arg(path("rejected"));
    let applied = weir.env("WEIR_RULES_FOLDER", rules()).current_dir(folder.path()).output()?;
    ensure!(applied.status.success(), "failed to judge the sample: {}", String::from_utf8_lossy(&applied.stderr));
    let judged = judged_by_python(lines)?;
    let passed: Vec<&Value> = judged.iter().filter_map(|answer| answer.get("value")).collect();
    let rejected: Vec<(usize, &Value)> =
        judged.iter().enumerate().filter_map(|(line, answer)| Some((line + 1, answer.get("reason")?))).collect();
    let outputs = json_lines(&path("outputs"))?;
    let rejections = json_lines(&path("rejected"))?;
    ensure!(outputs.len() + rejections.len() == SAMPLE, "the engine has lost logins of the sample");
    ensure!(outputs.iter().eq(passed), "the outputs of Python differ from the engine's");
    let expected =
        rejections.iter().map(|rejection| (rejection["line"].as_u64().unwrap_or_default() as usize, &rejection["reason"]));
    ensure!(expected.eq(rejected), "the rejections of Python differ from the engine's");
    Ok(())
}

fn judged_by_python(lines: Vec<u8>) -> anyhow::Result<Vec<Value>> {
    let mut command = Command::new(interpreter()?);
    let mut python = command.arg(script("logins.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = python.stdin.take().context("python has no input")?;
    let writer = std::thread::spawn(move || input.write_all(&lines));
    let output = python.wait_with_output()?;
    ensure!(
        output.status.success() && writer.join().is_ok_and(|written| written.is_ok()),
        "failed to judge the sample in Python"
    );
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| Ok(serde_json::from_slice(line)?))
        .collect()
}

fn json_lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    fs::read_to_string(path)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Runs a script over `limit` logins.
pub fn run(broker: &Broker, name: &str, limit: usize) -> anyhow::Result<Run> {
    let task = Task::new(broker, INPUT, name.replace('.', "-"))?;
    task.create_outputs()?;
    let mut command = Command::new(interpreter()?);
    command.arg(script(name)).env("LIMIT", limit.to_string());
    task.tell(&mut command);
    let broker_cpu = broker.process.cpu_seconds()?;
    let said = finish(ChildProcess::start(command, name)?)?;
    let broker_cpu = broker.process.cpu_seconds()? - broker_cpu;
    task.delete_outputs()?;
    let figures: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
        .with_context(|| format!("{name} did not print its figures, but: {said}"))?;
    let figure = |name: &str| figures[name].as_f64().with_context(|| format!("`{name}` is missing in {figures}"));
    let (records, seconds) = (figure("records")?, figure("seconds")?);
    Ok(Run {
        rate: records / seconds,
        cpu: figure("cpu_seconds")? / records * 1e6,
        broker_cpu: broker_cpu / records * 1e6,
        broker_cores: broker_cpu / seconds,
        peak_mib: figure("peak_mib")?,
    })
}

/// Waits until a script ends by itself, and returns its output.
fn finish(mut script: ChildProcess) -> anyhow::Result<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        go_on()?;
        let status = script.ended()?;
        if status.is_some_and(|status| status.success()) {
            return Ok(script.written());
        }
        ensure!(status.is_none() && Instant::now() < until, "the script has failed, or takes too long: {}", script.written());
        std::thread::sleep(LOOK_EVERY);
    }
}
