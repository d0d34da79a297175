//! A set of compiled rules: loaded and proven off the data path, never changed, used as a whole.
//!
//! The unit is the set, not the rule: order, bytes and configuration together decide what becomes of a message, so one hash
//! covers all of them. A [`Definition`] is what a set is made of, a [`RuleSet`] what has been made of it. What is left out: when
//! a set takes the place of another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::description::SetDescription;
use crate::rule::Rule;
use crate::{Component, Instance, MAX_COMPONENT_BYTES, Occasion, Refused, Runtime};
use weir_core::column::{Column, Kind};
use weir_core::pipeline::{self, Evaluate, Manifest, Pipeline, Stage, View};

/// What is said of rules that each work alone.
const NOT_TOGETHER: &str = "the rules don't work together";

/// What a set is made of: rules in their order, as somebody wrote them. Nothing in it has been proven.
#[derive(Clone, Debug)]
pub struct Definition {
    /// In the order of the pipeline.
    pub rules: Vec<Defined>,
    /// The member whose values are counted.
    pub counted: String,
}

/// The bytes of a component, and how it is to be run.
#[derive(Clone, Debug)]
pub struct Defined {
    /// Its policies, limits and configuration. Messages name its file.
    pub config: Rule,
    /// The component.
    pub bytes: Arc<[u8]>,
    /// Their SHA-256.
    pub digest: [u8; 32],
}

/// Compiled and proven rules in their order.
pub struct RuleSet {
    rules: Vec<Proven>,
    definition: Definition,
    description: Arc<SetDescription>,
}

/// A rule that has shown that it loads, accepts its configuration and answers to a probe.
pub struct Proven {
    /// The compiled rule.
    pub component: Component,
    /// What the rule says of itself when it is configured with `config`.
    pub manifest: Manifest,
    /// Whether it answered the same when it was asked the same once more.
    pub is_steady: bool,
    config: Rule,
}

impl Definition {
    /// Reads the files of the rules of `pipeline`, which count the member `counted`. They are looked for in `folder` where
    /// nothing else is written.
    ///
    /// # Errors
    /// If one can't be read, or is too large. The message names it and the remedy.
    pub fn read(pipeline: &[Rule], folder: &Path, counted: &str) -> anyhow::Result<Definition> {
        let rules = pipeline.iter().map(|rule| Ok(Defined::new(rule.clone(), read_or(&rule.file, Some(&place(rule, folder)))?)));
        Ok(Definition { rules: rules.collect::<anyhow::Result<_>>()?, counted: counted.to_owned() })
    }

    /// Hash over the order, bytes, policies, limits and configuration of the rules: 16 hexadecimal digits, as in the header
    /// `weir-ruleset`.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for Defined { config, digest, .. } in &self.rules {
            let settings = config.settings().into_iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>();
            let values = config.config.to_string();
            for part in [config.name.as_bytes(), digest, values.as_bytes(), settings.as_bytes()] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        crate::hex(&hasher.finalize()[..8])
    }
}

impl Defined {
    /// A rule of these bytes.
    pub fn new(config: Rule, bytes: impl Into<Arc<[u8]>>) -> Defined {
        let bytes = bytes.into();
        Defined { digest: Sha256::digest(&bytes).into(), config, bytes }
    }
}

impl RuleSet {
    /// Compiles, configures and probes what is defined.
    ///
    /// # Errors
    /// If something is no rule, if a rule refuses its configuration or fails the probe, or if the rules can't work together. The
    /// message names the file and the remedy.
    pub fn prove(runtime: &Runtime, definition: Definition) -> anyhow::Result<RuleSet> {
        let rules = definition.rules.iter().map(|rule| {
            let proven = prove(runtime, rule)?;
            Ok(Proven { manifest: named(proven.manifest, &rule.config), ..proven })
        });
        let rules = rules.collect::<anyhow::Result<Vec<Proven>>>()?;
        let manifests: Vec<Manifest> = rules.iter().map(|rule| rule.manifest.clone()).collect();
        pipeline::check_together(&manifests, &definition.counted).map_err(anyhow::Error::msg).context(NOT_TOGETHER)?;
        let description = Arc::new(SetDescription::of(&definition, &manifests));
        Ok(RuleSet { rules, definition, description })
    }

    /// What the set was made of.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The hash of its definition.
    pub fn hash(&self) -> &str {
        &self.description.hash
    }

    /// Returns what it is made of, for people and for comparison.
    pub fn description(&self) -> &Arc<SetDescription> {
        &self.description
    }

    /// What the rules say of themselves, in their order.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.rules.iter().map(|rule| &rule.manifest)
    }

    /// A pipeline with fresh instances of the rules, to judge live messages.
    ///
    /// # Errors
    /// If the rules can't work together, or one fails to start.
    pub fn instantiate(&self) -> anyhow::Result<Pipeline<Instance>> {
        self.instantiate_for(Occasion::Live)
    }

    /// The same for another occasion.
    ///
    /// # Errors
    /// As for [`RuleSet::instantiate`].
    pub fn instantiate_for(&self, occasion: Occasion) -> anyhow::Result<Pipeline<Instance>> {
        let stages = self.rules.iter().map(|rule| {
            let (instance, manifest) = instantiate(&rule.component, &rule.config, occasion)?;
            let manifest = named(manifest, &rule.config);
            Ok(Stage { manifest, drop: rule.config.drop, on_fault: rule.config.on_fault, rule: instance })
        });
        let stages = stages.collect::<anyhow::Result<Vec<_>>>()?;
        Pipeline::new(stages, &self.definition.counted).map_err(anyhow::Error::msg).context(NOT_TOGETHER)
    }
}

fn instantiate(component: &Component, rule: &Rule, occasion: Occasion) -> anyhow::Result<(Instance, Manifest)> {
    let explained = |error: anyhow::Error| match error.downcast::<Refused>() {
        Ok(Refused(words)) => Refused(rule.explain(&words)).into(),
        Err(error) => error,
    };
    Instance::new(component, &rule.name, &rule.config.to_string(), rule.limits, occasion)
        .map_err(explained)
        .with_context(|| format!("failed to start the rule `{}` of {}", rule.name, rule.file.display()))
}

/// The manifest under the rule's name in the configuration, which is the only one of that name: metrics, dead letters and
/// remedies mean that rule, whatever it calls itself.
fn named(manifest: Manifest, rule: &Rule) -> Manifest {
    Manifest { name: rule.name.clone(), ..manifest }
}

/// Everything that a rule must show before it may see a message.
///
/// # Errors
/// What it does not show, with the file and the remedy.
pub fn prove(runtime: &Runtime, rule: &Defined) -> anyhow::Result<Proven> {
    let Defined { config, bytes, .. } = rule;
    let component =
        runtime.load(bytes, config.limits.stack).with_context(|| format!("{} can't be used as a rule", config.file.display()))?;
    let (mut instance, manifest) = instantiate(&component, config, Occasion::Probe)?;
    let is_steady =
        probe(&mut instance, &manifest).with_context(|| format!("the rule of {} failed its probe", config.file.display()))?;
    Ok(Proven { component, manifest, is_steady, config: config.clone() })
}

/// The files of `named`, where a folder stands for the `*.wasm` in it.
///
/// # Errors
/// If a folder can't be listed, or has none.
pub fn files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in named {
        if path.is_dir() { found.extend(components(path)?) } else { found.push(path.clone()) }
    }
    Ok(found)
}

/// The `*.wasm` of a folder, by their names.
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

/// The bytes of a rule's file.
///
/// # Errors
/// If it can't be read, or is too large.
pub fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    read_or(file, None)
}

/// The same of a file that was looked for where `key` of the configuration says.
fn read_or(file: &Path, key: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(file).map_err(|error| unreadable(error, file, key))?;
    let (size, max) = (metadata.len(), MAX_COMPONENT_BYTES as u64);
    ensure!(metadata.is_file(), "{} must be a file, a component as `weir build` makes it", file.display());
    ensure!(size <= max, "{} must be a file of at most {}, and has {size} bytes", file.display(), weir_core::units::size(max));
    fs::read(file).map_err(|error| unreadable(error, file, key))
}

/// The key that says where the file of `rule` is.
fn place(rule: &Rule, folder: &Path) -> String {
    let is_in_folder = rule.file == folder.join(format!("{}.wasm", rule.name));
    if is_in_folder { "rules.folder".to_owned() } else { format!("rule.{}.file", rule.name) }
}

/// Why a rule's file can't be read, and what helps.
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

/// An ordinary message, of which a rule is shown the members that it reads.
const ORDINARY: &str = r#"{"user_id":"424cdd21-063a-43a7-b91b-7ca1a833afae","app_version":"2.3.0","device_type":"android",
"ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":1694479551}"#;

/// Lets a rule judge no row, an ordinary one, rows with the same odd cell in all members, and rows with cells of all kinds
/// beside each other. It may reject them; it must not fail. Returns whether it answers the same when it is asked once more.
fn probe(instance: &mut Instance, manifest: &Manifest) -> anyhow::Result<bool> {
    let long = "a long text, ".repeat(100);
    let cells: [(Kind, &[u8]); 11] = [
        (Kind::Absent, b""),
        (Kind::Null, b""),
        (Kind::Boolean, b"true"),
        (Kind::Number, b"-1e400"),
        (Kind::Number, b"1700000000"),
        (Kind::Text, b""),
        (Kind::Text, b"android"),
        (Kind::Text, b"2.3.0"),
        (Kind::Text, long.as_bytes()),
        (Kind::Text, "\u{0}\u{1f600}\"".as_bytes()),
        (Kind::Composite, b"{\"a\":[]}"),
    ];
    let ordinary: serde_json::Value = serde_json::from_str(ORDINARY)?;
    let column = |(index, name): (usize, &String)| {
        let mut column = Column::default();
        match ordinary.get(name.trim_start_matches('/')) {
            Some(serde_json::Value::String(text)) => column.push(Kind::Text, text.as_bytes()),
            Some(number) => column.push(Kind::Number, number.to_string().as_bytes()),
            None => column.push(Kind::Text, b"android"),
        }
        let mixed = cells.iter().cycle().skip(index).take(cells.len());
        cells.iter().chain(mixed).for_each(|(kind, bytes)| column.push(*kind, bytes));
        column
    };
    let columns: Vec<Column> = manifest.reads.iter().enumerate().map(column).collect();
    let mut is_steady = true;
    for rows in [0, 1 + 2 * cells.len()] {
        let columns: Vec<Column> = columns.iter().map(|column| column.part(0, rows)).collect();
        let columns: Vec<&Column> = columns.iter().collect();
        let mut ask = || instance.evaluate(View { rows, columns: &columns, ..View::default() });
        let outcome = ask().and_then(|outcome| outcome.check(manifest, rows).map(|()| outcome));
        let outcome = outcome.map_err(|fault| anyhow::anyhow!("with {rows} rows: {fault}"))?;
        is_steady &= ask().is_ok_and(|again| again == outcome);
    }
    Ok(is_steady)
}
