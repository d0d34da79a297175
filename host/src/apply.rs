//! `weir apply`: runs the engine over a file or standard input, with one message per line.
//!
//! The pipeline is the same as under Kafka, so its verdict on a message is the one that production will give. The number of a
//! message's line, counted from 0, is its offset in partition 0. It has no key, no headers and no timestamp. Left out: Kafka, and
//! windows. The counts are one object at the end.

mod hint;
mod input;
mod output;

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::cli;
use crate::config::{self, Config};
use crate::logging;
use crate::progress::Progress;
use weir_core::counts::Counts;
use weir_core::pipeline::{self, Evaluate, Pipeline};
use weir_core::record::{Batch, Rejection, Step};
use weir_system::clock::now;
use weir_wasm::ruleset::RuleSet;
use weir_wasm::{Cache, Compiler, Runtime};

use hint::Hint;
use input::InputLines;
use output::Outputs;

/// The interval at which a long run reports its progress on a terminal.
const PROGRESS: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// If the rules don't load, or a file can't be read or written.
pub fn apply(args: &cli::Apply, config: &Config) -> anyhow::Result<()> {
    let started = Instant::now();
    logging::start(&config.log);
    let runtime = Runtime::new(Cache::of_user())?.with_compiler(Compiler::child(&config.compile));
    let rules = RuleSet::prove(&runtime, config.rules.definition()?)?;
    let mut pipeline = rules.instantiate()?;
    let mut input = InputLines::open(args.messages.as_deref().or(args.input.as_deref()).unwrap_or(Path::new("-")))?;
    let mut outputs = Outputs::open(args, &sources(args, config, &input))?;
    let mut run = ApplyRun { config, processed_at: args.processed_at, pipeline: &mut pipeline, totals: LineTotals::default() };
    let closed_early = match run.all(&mut input, &mut outputs) {
        Err(error) if cli::is_broken_pipe(&error) => true,
        result => result.map(|()| false)?,
    };
    let totals = run.totals;
    eprintln!("weir: {} in {:.1?}, rule set {}", totals.summary(), started.elapsed(), rules.hash());
    if let Some(hint) = Hint::of(input.head(), totals.lines - totals.unreadable) {
        eprintln!("weir: {hint}");
    }
    if closed_early {
        eprintln!("weir: the reader of the output has closed it; the rest of the input was not read");
    }
    ensure!(!args.fail_on_fault || totals.faults == 0, "rules failed on {} of {} lines", totals.faults, totals.lines);
    Ok(())
}

struct ApplyRun<'a, R> {
    config: &'a Config,
    processed_at: Option<i64>,
    pipeline: &'a mut Pipeline<R>,
    totals: LineTotals,
}

impl<R: Evaluate> ApplyRun<'_, R> {
    fn all(&mut self, input: &mut InputLines, outputs: &mut Outputs) -> anyhow::Result<()> {
        let every = i64::try_from(self.config.counts.every.as_millis()).unwrap_or(i64::MAX);
        let mut counts = Counts::new(every, false);
        let (mut batch, mut step) = (Batch::new(self.config.kafka.topics.input.as_str()), Step::default());
        let mut progress = io::stderr().is_terminal().then(|| Progress::lines(PROGRESS));
        let (rows, bytes) = (self.config.kafka.batch.rows, self.config.kafka.batch.bytes);
        let mut goes_on = input.fill(&mut batch, rows, bytes)?;
        // Only now, so that no file is emptied if the input can't be read.
        outputs.begin()?;
        while goes_on {
            while !batch.is_empty() {
                batch.processed_at = self.processed_at.unwrap_or_else(now);
                self.pipeline.process(&counts, &batch, &mut step);
                if let Some(reason) = step.stop.take() {
                    bail!(reason);
                }
                let rest = batch.split_off(step.processed_records.unwrap_or(batch.len()));
                self.write(&batch, &step, outputs)?;
                counts.apply(&step.counts);
                if let Some(progress) = &mut progress {
                    progress.show(|_| format!("weir: {} lines so far", self.totals.lines));
                }
                batch = rest;
            }
            goes_on = input.fill(&mut batch, rows, bytes)?;
        }
        if let Some(file) = outputs.counts() {
            file.line(json!({ "device_type_counts": counts.totals() }).to_string().as_bytes())?;
        }
        outputs.flush()
    }

    fn write(&mut self, batch: &Batch, step: &Step, outputs: &mut Outputs) -> anyhow::Result<()> {
        for output in &step.outputs {
            outputs.output().line(step.value(output, batch))?;
        }
        for rejection in &step.rejections {
            let rule = pipeline::rule_name(rejection.rule(), self.pipeline.manifests());
            let reason = pipeline::reason_name(rejection, self.pipeline.manifests());
            if let Some(rejected) = outputs.rejected().filter(|_| !rejection.drop) {
                rejected.line(rejection_line(batch, rejection, rule, reason).to_string().as_bytes())?;
            }
            self.totals.reject(rule, reason);
            self.totals.unreadable += u64::from(rejection.rule().is_none());
            self.totals.faults += u64::from(rejection.is_fault());
        }
        for passed_despite_fault in &step.passed_despite_fault {
            self.totals.pass_despite_fault(pipeline::rule_name(passed_despite_fault.rule(), self.pipeline.manifests()));
        }
        self.totals.faults += step.passed_despite_fault.len() as u64;
        self.totals.lines += batch.len() as u64;
        self.totals.passed += step.outputs.len() as u64;
        Ok(())
    }
}

/// Returns a rejection as it is written: a line of JSON.
fn rejection_line(batch: &Batch, rejection: &Rejection, rule: &str, reason: &str) -> serde_json::Value {
    let index = rejection.record as usize;
    let mut line = json!({ "line": batch.records()[index].offset + 1, "rule": rule, "reason": reason });
    if let Some(detail) = &rejection.detail {
        line["detail"] = json!(detail);
    }
    if let Some(backtrace) = rejection.backtrace() {
        line["backtrace"] = json!(backtrace.lines().collect::<Vec<_>>());
    }
    let value = batch.value(index).unwrap_or_default();
    match std::str::from_utf8(value) {
        Ok(value) => line["value"] = json!(value),
        Err(_) => line["value_base64"] = json!(BASE64_STANDARD.encode(value)),
    }
    line
}

#[derive(Default)]
struct LineTotals {
    lines: u64,
    passed: u64,
    /// The lines that the engine itself rejected: they can't be read as messages, or their output can't be written.
    unreadable: u64,
    /// The number of times that rules failed on a line.
    faults: u64,
    rejected: BTreeMap<String, u64>,
    /// The faults of rules that did not stop their messages from passing.
    passed_despite_fault: BTreeMap<String, u64>,
}

impl LineTotals {
    fn pass_despite_fault(&mut self, rule: &str) {
        *self.passed_despite_fault.entry(rule.to_owned()).or_default() += 1;
    }

    fn reject(&mut self, rule: &str, reason: &str) {
        *self.rejected.entry(format!("{rule}/{reason}")).or_default() += 1;
    }

    fn summary(&self) -> String {
        let list = |counts: &BTreeMap<String, u64>| {
            let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
        };
        let (rejected, passed_despite_fault): (u64, u64) =
            (self.rejected.values().sum(), self.passed_despite_fault.values().sum());
        let passed_over = format!(", {passed_despite_fault} faults passed over{}", list(&self.passed_despite_fault));
        let passed_over = if passed_despite_fault > 0 { passed_over } else { String::new() };
        format!("{} lines: {} passed, {rejected} rejected{}{passed_over}", self.lines, self.passed, list(&self.rejected))
    }
}

/// The device and inode of a regular file, which is neither a pipe nor a device.
type FileId = (u64, u64);

fn identity(file: &File) -> Option<FileId> {
    identity_by(&file.metadata().ok()?)
}

fn identity_by(metadata: &Metadata) -> Option<FileId> {
    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

/// A file that is read. No output may be written to it.
struct SourceFile {
    identity: FileId,
    /// The role of the file, in words.
    words: String,
}

/// Returns the input, the configuration and the rules, as far as they are regular files.
fn sources(args: &cli::Apply, config: &Config, input: &InputLines) -> Vec<SourceFile> {
    let file = |path: &Path| identity_by(&fs::metadata(path).ok()?);
    let configuration = config::locate(args.file.config.as_deref()).and_then(|path| file(&path));
    let own = [(input.identity(), "the input".to_owned()), (configuration, "the configuration".to_owned())];
    let rules = config.rules.pipeline.iter().map(|rule| (file(&rule.file), format!("the file of the rule {}", rule.name)));
    let all = own.into_iter().chain(rules);
    all.filter_map(|(identity, words)| Some(SourceFile { identity: identity?, words })).collect()
}

/// Returns whether `path` stands for standard input or output.
fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Returns a standard stream as a file, so that this program buffers it, and not the standard library, which buffers by lines.
fn standard(stream: impl std::os::fd::AsFd) -> anyhow::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned().context("failed to use a standard stream")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_messages_pass_are_told() {
        let mut totals = LineTotals { lines: 5, passed: 4, ..LineTotals::default() };
        totals.reject("a", "bad");
        assert_eq!(totals.summary(), "5 lines: 4 passed, 1 rejected (a/bad 1)");
        ["b", "b", "c"].iter().for_each(|rule| totals.pass_despite_fault(rule));
        assert_eq!(totals.summary(), "5 lines: 4 passed, 1 rejected (a/bad 1), 3 faults passed over (b 2, c 1)");
    }
}
