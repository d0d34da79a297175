//! `weir check`: proves rule components as `weir run` does before a rule may see a record, and prints their manifests.

use std::path::{Path, PathBuf};
use std::slice;

use anyhow::{Context, bail};

use crate::cli;
use crate::config::Config;
use crate::logging;
use weir_core::pipeline::Manifest;
use weir_core::printable::{escape_line, escape_value};
use weir_core::units::size;
use weir_wasm::definition::{self, RuleDefinition};
use weir_wasm::rule::Rule;
use weir_wasm::ruleset::{self, ProvenRule};
use weir_wasm::{Compiler, Runtime, unsupported_calls};

/// The warning about a rule that answers differently when the same rows are repeated. The imports of such a rule reveal nothing,
/// so only repeated calls show the problem.
const UNSTEADY: &str = "it answers the same rows otherwise when it is asked again: a rule has no randomness and no memory; likely \
    causes are the order of a `HashMap` or `HashSet` (a `BTreeMap` and a `BTreeSet` are sorted), a generator of random numbers \
    such as `fastrand`, and state that is kept from row to row, as in a `static` or a `Cell`";

/// Runs the command.
///
/// # Errors
/// If one of the files is no usable rule. Each is named with its fault.
pub fn check(args: &cli::Check, config: &Config) -> anyhow::Result<()> {
    logging::start(&config.log);
    let runtime = Runtime::new(None)?.with_compiler(Compiler::child(&config.compile));
    let files: Vec<_> = args.rules.iter().flat_map(files).collect();
    let (count, mut refused) = (files.len(), 0);
    for (file, fault) in files {
        match fault.map_or_else(|| prove(&runtime, &file, config), Err) {
            Ok(report) => cli::print(&report)?,
            Err(error) => {
                refused += 1;
                tell(&file, &format!("refused: {error:#}"));
            }
        }
    }
    match refused {
        0 => Ok(()),
        _ => bail!("{refused} of {count} files can't be used as rules"),
    }
}

/// Returns the files that `path` stands for. If there are none, returns `path` itself with the error.
fn files(path: &PathBuf) -> Vec<(PathBuf, Option<anyhow::Error>)> {
    match definition::files(slice::from_ref(path)) {
        Ok(files) => files.into_iter().map(|file| (file, None)).collect(),
        Err(error) => vec![(path.clone(), Some(error))],
    }
}

fn prove(runtime: &Runtime, file: &Path, config: &Config) -> anyhow::Result<String> {
    let rule = configuration(file, config)?;
    let defined = RuleDefinition::new(rule, definition::read(file)?);
    for call in unsupported_calls(&defined.bytes) {
        tell(file, &format!("warning: {call}"));
    }
    let proven = ruleset::prove(runtime, &defined)?;
    if !proven.is_deterministic {
        tell(file, &format!("warning: {UNSTEADY}"));
    }
    Ok(report(file, &defined, &proven))
}

/// Prints `words` about `file` in one line, and escapes control characters in the name and in the words.
fn tell(file: &Path, words: &str) {
    eprintln!("{}", escape_line(&format!("{}: {words}", file.display())));
}

/// Returns the settings with which the configuration would run `file`: those of the rule with this file or this name, or else the
/// defaults.
fn configuration(file: &Path, config: &Config) -> anyhow::Result<Rule> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).context("the file's name is no name for a rule")?;
    let same = |rule: &&Rule| rule.file.canonicalize().is_ok_and(|known| file.canonicalize().is_ok_and(|file| file == known));
    let known = config.rules.pipeline.iter().find(same).or_else(|| config.rules.pipeline.iter().find(|rule| rule.name == name));
    Ok(Rule { file: file.into(), ..known.cloned().unwrap_or_else(|| Rule::with_defaults(name)) })
}

fn report(file: &Path, RuleDefinition { config: rule, bytes, digest }: &RuleDefinition, proven: &ProvenRule) -> String {
    let Manifest { name, version, description, reads, writes, reasons } = &proven.manifest;
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let (config, memory, deadline) = (&rule.config, size(rule.limits.memory as u64), rule.limits.deadline);
    format!(
        "{}: ok\n  rule     {name} {version}: {}\n  bytes    {}, SHA-256 {}\n  reads    {}\n  writes   {}\n  rejects  {}\n  \
         config   {}\n  limits   {memory} of memory, {deadline:?} a batch\n",
        escape_line(&file.display().to_string()),
        escape_value(description),
        bytes.len(),
        weir_wasm::hex(digest),
        list(reads),
        list(writes),
        list(reasons),
        escape_line(&config.to_string()),
    )
}
