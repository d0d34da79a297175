//! `weir apply`: the engine over a file or standard input, one message a line.
//!
//! The same pipeline as under Kafka, so what it says of a message is what production will do. A message's line is its
//! offset, counted from 0, in partition 0; it has no key, no headers and no timestamp. Kafka is left out, and so are
//! windows: the counts are one object at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::cli;
use crate::config::Config;
use crate::counts::Counts;
use crate::logging;
use crate::pipeline::{Evaluate, Pipeline};
use crate::record::{Batch, Rejection, Step};
use crate::ruleset::RuleSet;
use crate::snapshot;
use crate::start::now;
use crate::wasm::{Cache, Compiler, Runtime};

/// Longest line that is read, in bytes. No broker takes messages of this size.
const MAX_LINE_BYTES: usize = 64 << 20;
/// What standard output is called in messages.
const STANDARD_OUTPUT: &str = "standard output";
/// How often a long run says how far it is, on a terminal.
const PROGRESS: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// If the rules don't load, or a file can't be read or written.
pub fn apply(args: &cli::Apply, config: &Config) -> anyhow::Result<()> {
    let started = Instant::now();
    logging::start(&config.log);
    let runtime = Runtime::new(Cache::of_user())?.with_compiler(Compiler::child());
    let rules = RuleSet::load(&runtime, config)?;
    let mut pipeline = rules.instantiate()?;
    let input = Input::open(&args.input)?;
    for output in [Some(&args.output), args.rejected.as_ref(), args.counts.as_ref()].into_iter().flatten() {
        input.refuse_as_output(output)?;
    }
    let mut files = Files {
        output: Output::create(&args.output)?,
        rejected: args.rejected.as_deref().map(Output::create).transpose()?,
        counts: args.counts.as_deref().map(Output::create).transpose()?,
    };
    files.refuse_sharing()?;
    let mut run = Run { config, processed_at: args.processed_at, pipeline: &mut pipeline, totals: Totals::default() };
    let closed_early = match run.all(input, &mut files) {
        Err(error) if cli::is_broken_pipe(&error) => true,
        result => result.map(|()| false)?,
    };
    let totals = run.totals;
    eprintln!("weir: {} in {:.1?}, rule set {}", totals.summary(), started.elapsed(), rules.hash());
    if closed_early {
        eprintln!("weir: the reader of the output has closed it; the rest of the input was not read");
    }
    Ok(())
}

struct Run<'a, R> {
    config: &'a Config,
    processed_at: Option<i64>,
    pipeline: &'a mut Pipeline<R>,
    totals: Totals,
}

impl<R: Evaluate> Run<'_, R> {
    fn all(&mut self, mut input: Input, files: &mut Files) -> anyhow::Result<()> {
        let every = i64::try_from(self.config.counts.every.as_millis()).unwrap_or(i64::MAX);
        let mut counts = Counts::new(every, false);
        let (mut batch, mut step) = (Batch::new(self.config.topics.input.as_str()), Step::default());
        let mut progress = Progress::new();
        while input.fill(&mut batch, self.config.batch.rows, self.config.batch.bytes)? {
            while !batch.is_empty() {
                batch.processed_at = self.processed_at.unwrap_or_else(now);
                self.pipeline.process(&counts, &batch, &mut step);
                if let Some(reason) = step.stop.take() {
                    bail!(reason);
                }
                let rest = batch.split_off(step.judged.unwrap_or(batch.len()));
                self.write(&batch, &step, files)?;
                counts.apply(&step.counts);
                progress.show(self.totals.lines);
                batch = rest;
            }
        }
        files.finish(&counts)
    }

    fn write(&mut self, batch: &Batch, step: &Step, files: &mut Files) -> anyhow::Result<()> {
        for output in &step.outputs {
            files.output.line(step.value(output, batch))?;
        }
        for rejection in &step.rejections {
            let rule = snapshot::rule_name(rejection.rule(), self.pipeline.manifests());
            let reason = snapshot::reason_name(rejection, self.pipeline.manifests());
            if let Some(rejected) = files.rejected.as_mut().filter(|_| !rejection.drop) {
                rejected.line(rejection_line(batch, rejection, rule, reason).to_string().as_bytes())?;
            }
            self.totals.reject(rule, reason);
        }
        for forgiven in &step.forgiven {
            self.totals.forgive(snapshot::rule_name(forgiven.rule(), self.pipeline.manifests()));
        }
        self.totals.lines += batch.len() as u64;
        self.totals.passed += step.outputs.len() as u64;
        Ok(())
    }
}

/// A rejection as it is written: a line of JSON.
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
struct Totals {
    lines: u64,
    passed: u64,
    rejected: BTreeMap<String, u64>,
    /// Faults of rules that the messages passed all the same.
    forgiven: BTreeMap<String, u64>,
}

impl Totals {
    fn forgive(&mut self, rule: &str) {
        *self.forgiven.entry(rule.to_owned()).or_default() += 1;
    }

    fn reject(&mut self, rule: &str, reason: &str) {
        *self.rejected.entry(format!("{rule}/{reason}")).or_default() += 1;
    }

    fn summary(&self) -> String {
        let list = |counts: &BTreeMap<String, u64>| {
            let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
        };
        let (rejected, forgiven): (u64, u64) = (self.rejected.values().sum(), self.forgiven.values().sum());
        let passed_over = format!(", {forgiven} faults passed over{}", list(&self.forgiven));
        let passed_over = if forgiven > 0 { passed_over } else { String::new() };
        format!("{} lines: {} passed, {rejected} rejected{}{passed_over}", self.lines, self.passed, list(&self.rejected))
    }
}

/// Says how far a long run is, where somebody is watching.
struct Progress {
    last: Instant,
    watched: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { last: Instant::now(), watched: io::stderr().is_terminal() }
    }

    fn show(&mut self, lines: u64) {
        if self.watched && self.last.elapsed() >= PROGRESS {
            self.last = Instant::now();
            eprintln!("weir: {lines} lines so far");
        }
    }
}

/// Lines of a file or of standard input.
struct Input {
    name: String,
    file: File,
    reader: Box<dyn BufRead>,
    lines: i64,
    line: Vec<u8>,
}

impl Input {
    fn open(path: &Path) -> anyhow::Result<Input> {
        let file = if is_standard(path) {
            standard(io::stdin())?
        } else {
            File::open(path).with_context(|| format!("failed to open the input {}", path.display()))?
        };
        let reader = Box::new(BufReader::with_capacity(1 << 18, file.try_clone().context("failed to read the input")?));
        Ok(Input {
            name: if is_standard(path) { "standard input".into() } else { path.display().to_string() },
            file,
            reader,
            lines: 0,
            line: Vec::new(),
        })
    }

    /// Refuses to write over the file that is read: it would be empty before its first line was seen.
    fn refuse_as_output(&self, output: &Path) -> anyhow::Result<()> {
        let (Ok(input), Ok(output_file)) = (self.file.metadata(), output.metadata()) else { return Ok(()) };
        let same = input.is_file() && input.dev() == output_file.dev() && input.ino() == output_file.ino();
        ensure!(!same || is_standard(output), "{} is the input; write the output to another file", output.display());
        Ok(())
    }

    /// Fills `batch` with the next lines; false at the end of the input.
    fn fill(&mut self, batch: &mut Batch, rows: usize, bytes: usize) -> anyhow::Result<bool> {
        batch.clear();
        while batch.len() < rows && batch.bytes() < bytes {
            self.line.clear();
            let read = (&mut self.reader).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut self.line);
            if read.with_context(|| format!("failed to read {}", self.name))? == 0 {
                break;
            }
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            }
            if self.line.len() > MAX_LINE_BYTES {
                bail!("line {} of {} is longer than {MAX_LINE_BYTES} bytes", self.lines + 1, self.name);
            }
            batch.push(0, self.lines, None, None, Some(&self.line));
            self.lines += 1;
        }
        Ok(!batch.is_empty())
    }
}

/// Whether `path` stands for standard input or output.
fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A standard stream as a file, to be buffered by us and not by lines.
fn standard(stream: impl std::os::fd::AsFd) -> anyhow::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned().context("failed to use a standard stream")?))
}

struct Files {
    output: Output,
    rejected: Option<Output>,
    counts: Option<Output>,
}

impl Files {
    /// Refuses two outputs in one file: each would write over the other.
    fn refuse_sharing(&self) -> anyhow::Result<()> {
        let open: Vec<&Output> =
            [Some(&self.output), self.rejected.as_ref(), self.counts.as_ref()].into_iter().flatten().collect();
        for (index, output) in open.iter().enumerate() {
            if let Some(other) = open[..index].iter().find(|other| output.overwrites(other)) {
                bail!("{} and {} are one file; write to different ones", other.name, output.name);
            }
        }
        Ok(())
    }

    fn finish(&mut self, counts: &Counts) -> anyhow::Result<()> {
        if let Some(file) = &mut self.counts {
            file.line(json!({ "device_type_counts": counts.totals() }).to_string().as_bytes())?;
        }
        [Some(&mut self.output), self.rejected.as_mut(), self.counts.as_mut()].into_iter().flatten().try_for_each(Output::flush)
    }
}

/// A file, or standard output, that is written line by line.
struct Output {
    name: String,
    writer: BufWriter<File>,
}

impl Output {
    fn create(path: &Path) -> anyhow::Result<Output> {
        let (name, file) = match is_standard(path) {
            true => (STANDARD_OUTPUT.to_owned(), standard(io::stdout())?),
            false => {
                (path.display().to_string(), File::create(path).with_context(|| format!("failed to create {}", path.display()))?)
            }
        };
        Ok(Output { name, writer: BufWriter::with_capacity(1 << 18, file) })
    }

    /// Whether both are the same file with a position for each. Standard output has one position, however often it is used.
    fn overwrites(&self, other: &Output) -> bool {
        let (Ok(own), Ok(others)) = (self.writer.get_ref().metadata(), other.writer.get_ref().metadata()) else { return false };
        let standard = self.name == STANDARD_OUTPUT && other.name == STANDARD_OUTPUT;
        own.is_file() && own.dev() == others.dev() && own.ino() == others.ino() && !standard
    }

    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let written = self.writer.write_all(line).and_then(|()| self.writer.write_all(b"\n"));
        written.with_context(|| format!("failed to write to {}", self.name))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.flush().with_context(|| format!("failed to write to {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_messages_pass_are_told() {
        let mut totals = Totals { lines: 5, passed: 4, ..Totals::default() };
        totals.reject("a", "bad");
        assert_eq!(totals.summary(), "5 lines: 4 passed, 1 rejected (a/bad 1)");
        ["b", "b", "c"].iter().for_each(|rule| totals.forgive(rule));
        assert_eq!(totals.summary(), "5 lines: 4 passed, 1 rejected (a/bad 1), 3 faults passed over (b 2, c 1)");
    }
}
