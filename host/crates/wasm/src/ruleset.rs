//! A set of compiled rules: it is loaded and proven off the data path, never changed, and used as a whole.
//!
//! The unit is the set, not the rule: order, bytes and configuration together decide what becomes of a record, so one hash covers
//! all of them. A [`Definition`] says what a set is made of; a [`RuleSet`] is made from it. This module does not decide when one
//! set replaces another.

use std::sync::Arc;

use anyhow::Context as _;
use weir_core::column::{Column, Kind};
use weir_core::pipeline::{self, Evaluate, Manifest, Pipeline, Stage, View};

use super::definition::{Definition, RuleDefinition};
use super::description::SetDescription;
use super::guest::Occasion;
use super::instance::{ConfigRefused, Instance};
use super::rule::Rule;
use super::runtime::{Component, Runtime};

/// The error for rules that work alone, but not together.
const NOT_TOGETHER: &str = "the rules don't work together";

/// Compiled and proven rules in their order.
pub struct RuleSet {
    rules: Vec<ProvenRule>,
    definition: Definition,
    description: Arc<SetDescription>,
}

/// A rule that has shown that it loads, accepts its configuration and passes a probe.
pub struct ProvenRule {
    /// The compiled rule.
    pub component: Component,
    /// The rule's manifest, as the rule returns it when it is configured with `config`.
    pub manifest: Manifest,
    /// True if the rule gave the same answer when the probe was repeated.
    pub is_deterministic: bool,
    config: Rule,
}

impl RuleSet {
    /// Compiles, configures and probes the rules of `definition`.
    ///
    /// # Errors
    /// If a file is no rule, if a rule refuses its configuration or fails the probe, or if the rules can't work together. The
    /// message names the file and the remedy.
    pub fn prove(runtime: &Runtime, definition: Definition) -> anyhow::Result<RuleSet> {
        let rules = definition.rules.iter().map(|rule| {
            let proven = prove(runtime, rule)?;
            Ok(ProvenRule { manifest: named(proven.manifest, &rule.config), ..proven })
        });
        let rules = rules.collect::<anyhow::Result<Vec<ProvenRule>>>()?;
        let manifests: Vec<Manifest> = rules.iter().map(|rule| rule.manifest.clone()).collect();
        pipeline::check_together(&manifests, &definition.counted).map_err(anyhow::Error::msg).context(NOT_TOGETHER)?;
        let description = Arc::new(SetDescription::of(&definition, &manifests));
        Ok(RuleSet { rules, definition, description })
    }

    /// Returns the definition that the set was made from.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Returns the hash of the set's definition.
    pub fn hash(&self) -> &str {
        &self.description.hash
    }

    /// Returns the description of the set, for operators and for comparison.
    pub fn description(&self) -> &Arc<SetDescription> {
        &self.description
    }

    /// Returns the manifests of the rules, in their order.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.rules.iter().map(|rule| &rule.manifest)
    }

    /// Returns a pipeline with fresh instances of the rules, to evaluate live records.
    ///
    /// # Errors
    /// If the rules can't work together, or one fails to start.
    pub fn instantiate(&self) -> anyhow::Result<Pipeline<Instance>> {
        self.instantiate_for(Occasion::Live)
    }

    /// Returns a pipeline with fresh instances of the rules for `occasion`.
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
    let explained = |error: anyhow::Error| match error.downcast::<ConfigRefused>() {
        Ok(ConfigRefused(words)) => ConfigRefused(rule.explain(&words)).into(),
        Err(error) => error,
    };
    Instance::new(component, &rule.name, &rule.config.to_string(), rule.limits, occasion)
        .map_err(explained)
        .with_context(|| format!("failed to start the rule `{}` of {}", rule.name, rule.file.display()))
}

/// Returns the manifest under the rule's name in the configuration. That name is unique there: metrics, dead letters and remedies
/// refer to this one rule, whatever name the rule gives itself.
fn named(manifest: Manifest, rule: &Rule) -> Manifest {
    Manifest { name: rule.name.clone(), ..manifest }
}

/// Checks everything that a rule must show before it may see a record.
///
/// # Errors
/// If a check fails. The message says which, with the file and the remedy.
pub fn prove(runtime: &Runtime, rule: &RuleDefinition) -> anyhow::Result<ProvenRule> {
    let RuleDefinition { config, bytes, .. } = rule;
    let component =
        runtime.load(bytes, config.limits.stack).with_context(|| format!("{} can't be used as a rule", config.file.display()))?;
    let (mut instance, manifest) = instantiate(&component, config, Occasion::Probe)?;
    let is_deterministic =
        probe(&mut instance, &manifest).with_context(|| format!("the rule of {} failed its probe", config.file.display()))?;
    Ok(ProvenRule { component, manifest, is_deterministic, config: config.clone() })
}

/// An ordinary message. The probe shows a rule those of its fields that the rule reads.
const ORDINARY: &str = r#"{"user_id":"424cdd21-063a-43a7-b91b-7ca1a833afae","app_version":"2.3.0","device_type":"android",
"ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":1694479551}"#;

/// Lets a rule evaluate a batch without rows, and then a batch with an ordinary row, rows with the same odd cell in all fields,
/// and rows with different kinds of cells beside each other. The rule may reject rows; it must not fail. Returns whether the rule
/// gives the same answers when each batch is repeated.
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
    let mut is_deterministic = true;
    for rows in [0, 1 + 2 * cells.len()] {
        let columns: Vec<Column> = columns.iter().map(|column| column.part(0, rows)).collect();
        let columns: Vec<&Column> = columns.iter().collect();
        let mut ask = || instance.evaluate(View { rows, columns: &columns, ..View::default() });
        let outcome = ask().and_then(|outcome| outcome.check(manifest, rows).map(|()| outcome));
        let outcome = outcome.map_err(|fault| anyhow::anyhow!("with {rows} rows: {fault}"))?;
        is_deterministic &= ask().is_ok_and(|again| again == outcome);
    }
    Ok(is_deterministic)
}
