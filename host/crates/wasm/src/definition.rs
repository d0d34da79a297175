//! The definition of a rule set, as it was written: files, policies, limits and configuration. Nothing is proven here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest, Sha256};
use weir_core::units::size as written;

use super::engine::MAX_COMPONENT_BYTES;
use super::hex;
use super::rule::Rule;

/// The definition of a rule set: its rules in their order, as they were written. Nothing in it has been proven.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The rules in the order of the pipeline.
    pub rules: Vec<RuleDefinition>,
    /// The field whose values are counted.
    pub counted: String,
}

/// The bytes of a component, and the settings with which it is run.
#[derive(Clone, Debug)]
pub struct RuleDefinition {
    /// The rule's policies, limits and configuration. Messages name its file.
    pub config: Rule,
    /// The bytes of the component.
    pub bytes: Arc<[u8]>,
    /// The SHA-256 of `bytes`.
    pub digest: [u8; 32],
}

impl Definition {
    /// Reads the files of the rules of `pipeline`. `counted` is the field whose values the pipeline counts. `folder` is the
    /// default place of the files: from it follows which key of the configuration an error names.
    ///
    /// # Errors
    /// If a file can't be read, or is too large. The message names the file and the remedy.
    pub fn read(pipeline: &[Rule], folder: &Path, counted: &str) -> anyhow::Result<Definition> {
        let rules =
            pipeline.iter().map(|rule| Ok(RuleDefinition::new(rule.clone(), read_or(&rule.file, Some(&place(rule, folder)))?)));
        Ok(Definition { rules: rules.collect::<anyhow::Result<_>>()?, counted: counted.to_owned() })
    }

    /// Returns the hash over the order, bytes, policies, limits and configuration of the rules: 16 hexadecimal digits, as in the
    /// header `weir-ruleset`.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for RuleDefinition { config, digest, .. } in &self.rules {
            let settings = config.settings().into_iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>();
            let values = config.config.to_string();
            for part in [config.name.as_bytes(), digest, values.as_bytes(), settings.as_bytes()] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hex(&hasher.finalize()[..8])
    }
}

impl RuleDefinition {
    /// Returns the rule with the settings `config` and these bytes.
    pub fn new(config: Rule, bytes: impl Into<Arc<[u8]>>) -> RuleDefinition {
        let bytes = bytes.into();
        RuleDefinition { digest: Sha256::digest(&bytes).into(), config, bytes }
    }
}

/// Returns the files of the paths `named`. A folder stands for the `*.wasm` files in it.
///
/// # Errors
/// If a folder can't be listed, or contains no such file.
pub fn files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in named {
        if path.is_dir() { found.extend(components(path)?) } else { found.push(path.clone()) }
    }
    Ok(found)
}

/// Returns the `*.wasm` files of a folder, sorted by name.
fn components(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = || format!("failed to list {}", folder.display());
    let entries = fs::read_dir(folder).with_context(listed)?.collect::<io::Result<Vec<_>>>().with_context(listed)?;
    let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    found.retain(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    found.sort();
    if found.is_empty() {
        bail!("failed to find a *.wasm in {0}; `weir build CRATE --out {0}` makes one", folder.display());
    }
    Ok(found)
}

/// Returns the bytes of a rule's file.
///
/// # Errors
/// If the file can't be read, or is too large.
pub fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    read_or(file, None)
}

/// Returns the bytes of a rule's file. `key` is the key of the configuration that names the place of the file, if there is one;
/// an error mentions it.
fn read_or(file: &Path, key: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(file).map_err(|error| unreadable(error, file, key))?;
    let (size, max) = (metadata.len(), MAX_COMPONENT_BYTES as u64);
    ensure!(metadata.is_file(), "{} must be a file, a component as `weir build` makes it", file.display());
    ensure!(size <= max, "{} must be a file of at most {}, and has {size} bytes", file.display(), written(max));
    fs::read(file).map_err(|error| unreadable(error, file, key))
}

/// Returns the key of the configuration that says where the file of `rule` is.
fn place(rule: &Rule, folder: &Path) -> String {
    let is_in_folder = rule.file == folder.join(format!("{}.wasm", rule.name));
    if is_in_folder { "rules.folder".to_owned() } else { format!("rule.{}.file", rule.name) }
}

/// Returns the error for a rule's file that can't be read: the reason and the remedy.
fn unreadable(error: io::Error, file: &Path, key: Option<&str>) -> anyhow::Error {
    let (what, remedy) = match error.kind() {
        io::ErrorKind::NotFound => {
            let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            let other = key.map_or(String::new(), |key| format!(", or set {key}"));
            ("find", format!("`weir build CRATE --out {}` makes one{other}", folder.display()))
        }
        _ => ("read", "let the user that weir runs as read it".to_owned()),
    };
    anyhow::Error::new(error).context(format!("failed to {what} the rule {}; {remedy}", file.display()))
}
