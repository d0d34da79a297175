//! Descriptions of rule sets, for operators, for the state folder and for comparison: plain data that goes through JSON and back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::pipeline::Manifest;

use crate::definition::Definition;
use crate::hex;

/// The description of a rule set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetDescription {
    /// The hash of the set, as in the header `weir-ruleset`.
    pub hash: String,
    /// The rules in the order of the pipeline.
    pub rules: Vec<RuleDescription>,
}

/// The description of one rule of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleDescription {
    pub name: String,
    pub version: String,
    pub description: String,
    /// The SHA-256 of the component.
    pub digest: String,
    /// The size of the component, in bytes.
    pub size: usize,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    pub reasons: Vec<String>,
    /// The configuration that the rule's `configure` gets.
    pub config: Value,
    /// The rule's policies and limits, by their keys in `[rule.NAME]`, as they are written there.
    pub settings: BTreeMap<String, String>,
}

/// One difference between two sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The rule that has changed. None if the change is one of the whole set.
    pub rule: Option<String>,
    /// The part that has changed: `rules` (the pipeline's order), `component`, `version`, `reads`, `writes`, `reasons`, `config`,
    /// or a key of `[rule.NAME]`.
    pub what: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl SetDescription {
    /// Describes the set of `definition`. `manifests` are the manifests of its rules, in the same order.
    pub fn of<'a>(definition: &Definition, manifests: impl IntoIterator<Item = &'a Manifest>) -> SetDescription {
        let rules = definition.rules.iter().zip(manifests).map(|(rule, manifest)| RuleDescription {
            name: rule.config.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            digest: hex(&rule.digest),
            size: rule.bytes.len(),
            reads: manifest.reads.clone(),
            writes: manifest.writes.clone(),
            reasons: manifest.reasons.clone(),
            config: rule.config.config.clone(),
            settings: rule.config.settings(),
        });
        SetDescription { hash: definition.hash(), rules: rules.collect() }
    }
}

/// Returns the differences between two sets.
pub fn changes(a: &SetDescription, b: &SetDescription) -> Vec<Change> {
    let names = |set: &SetDescription| set.rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>().join(", ");
    let mut changes = Vec::new();
    let mut note = |rule: Option<&str>, what: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            changes.push(Change { rule: rule.map(str::to_owned), what: what.to_owned(), before, after });
        }
    };
    note(None, "rules", Some(names(a)), Some(names(b)));
    for after in &b.rules {
        let before = a.rules.iter().find(|rule| rule.name == after.name);
        let (old, new) = (before.map(facts).unwrap_or_default(), facts(after));
        for (what, value) in new {
            note(Some(&after.name), &what, old.get(&what).cloned(), Some(value));
        }
    }
    changes
}

/// Returns the facts of a rule that are compared, by their names.
fn facts(rule: &RuleDescription) -> BTreeMap<String, String> {
    let mut facts = rule.settings.clone();
    let own = [
        ("component", rule.digest.clone()),
        ("version", rule.version.clone()),
        ("reads", rule.reads.join(", ")),
        ("writes", rule.writes.join(", ")),
        ("reasons", rule.reasons.join(", ")),
        ("config", rule.config.to_string()),
    ];
    facts.extend(own.map(|(what, value)| (what.to_owned(), value)));
    facts
}
