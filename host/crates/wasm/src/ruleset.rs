//! A set of compiled rules: loaded and proven off the data path, never changed, used as a whole.
//!
//! The unit is the set, not the rule: order, bytes and configuration together decide what becomes of a message, so one hash
//! covers all of them. A [`Definition`] is what a set is made of, a [`RuleSet`] what has been made of it. What is left out: when
//! a set takes the place of another.

use std::sync::Arc;

use anyhow::Context as _;
use weir_core::column::{Column, Kind};
use weir_core::pipeline::{self, Evaluate, Manifest, Pipeline, Stage, View};

use super::definition::{Defined, Definition};
use super::description::SetDescription;
use super::guest::Occasion;
use super::instance::{Instance, Refused};
use super::rule::Rule;
use super::runtime::{Component, Runtime};

/// What is said of rules that each work alone.
const NOT_TOGETHER: &str = "the rules don't work together";

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
