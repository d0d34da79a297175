//! Overrides by the environment. Every key has a variable, which is named like the key's path in capitals: `WEIR_KAFKA_BROKERS`
//! for `kafka.brokers`.
//!
//! If the key holds a text, the value of the variable is taken as text; otherwise it is read as TOML. A list may also be written
//! as `a,b`. Only the rule knows the types in `[rule.NAME.config]`. There a value that is valid TOML is read as TOML, and any
//! other value is taken as text: `2.3` is a number, and `"2.3"`, with its quotes, is a text.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::FieldPlace;
use super::keys::{ALIASES, OPEN_TABLES};
use weir_core::suggestion::suggestion;

use super::origin::ValueOrigin;
use super::path::{PREFIX, child_key, is_rule_config, variable};
use super::raw::{Raw, parse_value, resolve_alias};
use super::{FILE_VARIABLE, InvalidConfig, kubernetes};

/// Overrides values of `raw` by the variables that begin with `WEIR_`. Refuses those of them that are unknown.
pub(super) fn apply(raw: &mut Raw, environment: impl IntoIterator<Item = (String, String)>) -> Result<(), InvalidConfig> {
    let ours = |(name, _): &(String, String)| name.starts_with(PREFIX) && name != FILE_VARIABLE;
    let mut variables: BTreeMap<String, String> = environment.into_iter().filter(ours).collect();
    for link in kubernetes::service_links(&variables) {
        if key(raw, &link).is_none() {
            variables.remove(&link);
        }
    }
    let pipeline = format!("{PREFIX}RULES_PIPELINE");
    if let Some(text) = variables.remove(&pipeline) {
        replace(raw, "rules.pipeline", &text, pipeline);
        raw.declare(raw.names("rules.pipeline")?);
    }
    for (name, text) in variables {
        let Some(path) = path(raw, &name) else {
            return Err(unknown(raw, &name));
        };
        match path {
            Path::Key(path) => replace(raw, &path, &text, name),
            Path::RuleConfig { path, field } => replace_field(raw, &path, &field, &text, name),
        }
    }
    Ok(())
}

/// The setting that a variable stands for.
enum Path {
    Key(String),
    RuleConfig { path: String, field: String },
}

fn path(raw: &Raw, name: &str) -> Option<Path> {
    let key = key(raw, name).map(|path| Path::Key(path.to_owned()));
    let name = name.strip_prefix(PREFIX)?;
    key.or_else(|| rule_config(raw, name)).or_else(|| open_table(name))
}

/// Returns the key that has the variable `name`.
fn key<'a>(raw: &'a Raw, name: &str) -> Option<&'a str> {
    let name = name.strip_prefix(PREFIX)?;
    raw.paths().chain(ALIASES.map(|(alias, ..)| alias)).find(|path| variable(path) == name)
}

fn unknown(raw: &Raw, name: &str) -> InvalidConfig {
    let known: Vec<String> = raw.paths().map(|path| format!("{PREFIX}{}", variable(path))).collect();
    let known = known.iter().map(String::as_str).chain([FILE_VARIABLE]);
    let kubernetes = if kubernetes::looks_like_one(name) {
        "; if Kubernetes sets it for a Service, set `enableServiceLinks: false` in the pod's specification"
    } else {
        ""
    };
    InvalidConfig(format!("unknown environment variable {name}{}{kubernetes}", suggestion(name, known)))
}

/// Returns the setting of a variable such as `RULE_VALIDATION_CONFIG_REQUIRED`. If the name fits several rules, the rule with the
/// longest name is meant.
fn rule_config(raw: &Raw, name: &str) -> Option<Path> {
    let tables = raw.paths().filter(|path| is_rule_config(path));
    let fitting = tables.filter_map(|path| Some((path, name.strip_prefix(&variable(path))?.strip_prefix('_')?)));
    let (path, field) = fitting.filter(|(_, field)| !field.is_empty()).max_by_key(|(path, _)| path.len())?;
    let written = raw.get(path).value.as_object().into_iter().flat_map(|table| table.keys());
    let field = written.into_iter().find(|key| variable(key) == field).cloned().unwrap_or_else(|| field.to_ascii_lowercase());
    Some(Path::RuleConfig { path: path.to_owned(), field })
}

/// Returns the key of a variable such as `KAFKA_PROPERTIES_SASL_MECHANISM`. Kafka separates the words of a property by dots.
fn open_table(name: &str) -> Option<Path> {
    OPEN_TABLES.iter().find_map(|table| {
        let field = name.strip_prefix(&variable(table))?.strip_prefix('_').filter(|field| !field.is_empty())?;
        Some(Path::Key(format!("{table}.{}", field.to_ascii_lowercase().replace('_', "."))))
    })
}

fn replace(raw: &mut Raw, path: &str, text: &str, name: String) {
    let open = OPEN_TABLES.iter().any(|table| child_key(path, table).is_some());
    let (key, _) = resolve_alias(path, Value::Null);
    let value = if open { Value::String(text.to_owned()) } else { interpret(text, &raw.get(&key).value) };
    let (key, value) = resolve_alias(path, value);
    raw.set(&key, value, ValueOrigin::Variable(name));
}

fn replace_field(raw: &mut Raw, path: &str, field: &str, text: &str, name: String) {
    let mut config = raw.get(path).value.clone();
    if let Some(table) = config.as_object_mut() {
        let value = interpret(text, table.get(field).unwrap_or(&Value::Null));
        table.insert(field.to_owned(), value);
        raw.set_config_field(
            path,
            field,
            FieldPlace { origin: ValueOrigin::Variable(name.clone()), text: Some(text.to_owned()) },
        );
        raw.set(path, config, ValueOrigin::Variable(name));
    }
}

/// Returns the value that `text` stands for, where it overrides the value `present`.
fn interpret(text: &str, present: &Value) -> Value {
    match present {
        Value::String(_) => Value::String(text.to_owned()),
        Value::Array(_) => parse_value(text).filter(Value::is_array).unwrap_or_else(|| split(text)),
        _ => parse_value(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn split(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}
