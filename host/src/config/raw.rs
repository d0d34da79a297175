//! The raw configuration: the written values over the defaults, by dotted path, each with its origin.
//!
//! Tables are flattened: `kafka.brokers` is one key wherever and however it is written. Only `rule.NAME.config` keeps its shape,
//! because it belongs to the rule. A key that has no default and is in no open table is refused here, with the nearest known key
//! as a suggestion. The values themselves are checked later, in [`mod@super::read`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::InvalidConfig;
use super::fields::{FieldPlace, FieldPlaces};
use super::keys::{self, ALIASES, OPEN_TABLES};
use super::origin::ValueOrigin;
use super::path::{child_key, is_rule_config};
use super::quoted::found;
use weir_core::suggestion::suggestion;

/// The written values, merged over the defaults.
pub(super) struct Raw {
    settings: BTreeMap<String, Setting>,
    /// The places where the tables of the file begin.
    tables: BTreeMap<String, ValueOrigin>,
    /// The places where the fields of the rules' configurations were written, by their whole paths.
    fields: BTreeMap<String, FieldPlace>,
}

/// A value and its origin. There is no `Debug`, because values may be secret: [`found`] returns the part of a value that may be
/// shown.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: ValueOrigin,
}

impl Setting {
    /// Returns the value of a key that is not written anywhere.
    fn default_of(key: &keys::ConfigKey) -> Setting {
        let value = parse_value(key.default).unwrap_or_else(|| panic!("the default of {} can be read", key.name));
        Setting { value, origin: ValueOrigin::Default }
    }
}

impl Raw {
    /// Parses TOML, and refuses unknown keys. `file` is used only as a name.
    pub(super) fn parse(text: &str, file: &Path) -> Result<Raw, InvalidConfig> {
        let name = file.display().to_string();
        let origin = |at: usize| ValueOrigin::File { name: name.clone(), line: line(text, at) };
        let written = Written::parse(text, &origin)?;
        let defaults = keys::defaults().map(|(path, key)| (path, Setting::default_of(key)));
        let mut raw = Raw { settings: defaults.collect(), tables: BTreeMap::new(), fields: BTreeMap::new() };
        raw.declare(written.rules());
        raw.refuse_unknown(&written)?;
        raw.settings.extend(written.settings);
        raw.tables = written.tables;
        raw.fields = written.fields;
        raw.declare(raw.names("rules.pipeline")?);
        Ok(raw)
    }

    /// Adds the defaults of the rules with these names, unless they are there already.
    pub(super) fn declare(&mut self, rules: impl IntoIterator<Item = String>) {
        for rule in rules {
            for key in keys::RULE {
                let path = format!("rule.{rule}.{}", key.name);
                self.settings.entry(path).or_insert_with(|| Setting::default_of(key));
            }
        }
    }

    /// Returns the value of a key that has a default.
    ///
    /// # Panics
    /// If the key has no default, which is a mistake in this program.
    pub(super) fn get(&self, path: &str) -> &Setting {
        self.settings.get(path).unwrap_or_else(|| panic!("`{path}` has a default"))
    }

    /// Returns the keys and values that are set in an open table.
    pub(super) fn fields<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a str, &'a Setting)> {
        self.settings.iter().filter_map(move |(path, setting)| Some((child_key(path, table)?, setting)))
    }

    /// Returns every key that has a value.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// Sets the value of `path`.
    pub(super) fn set(&mut self, path: &str, value: Value, origin: ValueOrigin) {
        self.settings.insert(path.to_owned(), Setting { value, origin });
    }

    /// Notes the place where a field of a rule's configuration, `rule.NAME.config`, was written.
    pub(super) fn set_config_field(&mut self, config: &str, field: &str, place: FieldPlace) {
        self.fields.insert(format!("{config}.{field}"), place);
    }

    /// Returns the places where the fields of a rule's configuration were written.
    pub(super) fn config_fields(&self, config: &str) -> FieldPlaces {
        let fields = self.fields.iter();
        FieldPlaces::new(fields.filter_map(|(path, place)| Some((child_key(path, config)?.to_owned(), place.clone()))))
    }

    /// Refuses tables of rules that are in none of the `pipelines`.
    pub(super) fn refuse_unused_rules(&self, pipelines: &[String]) -> Result<(), InvalidConfig> {
        let rule = |path| child_key(path, "rule").filter(|rest| !rest.contains('.'));
        let unused = self.tables.iter().filter_map(|(path, origin)| Some((rule(path)?, origin)));
        match unused.into_iter().find(|(rule, _)| !pipelines.iter().any(|name| name == rule)) {
            Some((rule, origin)) => Err(InvalidConfig(format!(
                "`[rule.{rule}]` in {origin} is about a rule that `rules.pipeline` does not have{}",
                suggestion(rule, pipelines.iter().map(String::as_str))
            ))),
            None => Ok(()),
        }
    }

    fn refuse_unknown(&self, written: &Written) -> Result<(), InvalidConfig> {
        let known_table = |path: &str| OPEN_TABLES.contains(&path) || self.paths().any(|known| child_key(known, path).is_some());
        let unknown_key = |path: &str| !self.settings.contains_key(path) && !in_open_table(path);
        if let Some((path, Setting { value, origin })) = written.settings.iter().find(|(path, _)| unknown_key(path)) {
            return Err(InvalidConfig(match known_table(path) {
                true => format!("`{path}` in {origin} is {}; expected a table", found(path, value)),
                false => format!("unknown key `{path}` in {origin}{}", suggestion(path, self.paths())),
            }));
        }
        match written.tables.iter().find(|(path, _)| !known_table(path) && !in_open_table(path)) {
            Some((path, origin)) => {
                Err(InvalidConfig(format!("unknown table `[{path}]` in {origin}{}", suggestion(path, self.tables()))))
            }
            None => Ok(()),
        }
    }

    /// Returns the known tables.
    fn tables(&self) -> impl Iterator<Item = &str> {
        let tables: BTreeSet<&str> = self.paths().filter_map(|path| Some(path.rsplit_once('.')?.0)).chain(OPEN_TABLES).collect();
        tables.into_iter()
    }
}

/// One TOML document, flattened.
struct Written {
    settings: BTreeMap<String, Setting>,
    /// The places where the tables begin.
    tables: BTreeMap<String, ValueOrigin>,
    /// The places of the fields of the rules' configurations.
    fields: BTreeMap<String, FieldPlace>,
}

impl Written {
    fn parse(text: &str, origin: &dyn Fn(usize) -> ValueOrigin) -> Result<Written, InvalidConfig> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            InvalidConfig(format!("failed to parse {}: {}", origin(at), error.message().replace('\n', ", ")))
        })?;
        let mut written = Written { settings: BTreeMap::new(), tables: BTreeMap::new(), fields: BTreeMap::new() };
        written.flatten(table.into_inner(), "", origin)?;
        Ok(written)
    }

    fn flatten(&mut self, table: DeTable<'_>, above: &str, origin: &dyn Fn(usize) -> ValueOrigin) -> Result<(), InvalidConfig> {
        for (key, value) in table {
            let path = if above.is_empty() { key.get_ref().to_string() } else { format!("{above}.{}", key.get_ref()) };
            let origin_here = origin(key.span().start);
            match value.into_inner() {
                DeValue::Table(inner) if !is_rule_config(&path) => {
                    self.tables.insert(path.clone(), origin_here);
                    self.flatten(inner, &path, origin)?;
                }
                value => {
                    if is_rule_config(&path) {
                        self.note_fields(&value, &path, origin);
                    }
                    let value = plain(value).map_err(|Unfit(expected)| {
                        InvalidConfig(format!("`{path}` in {origin_here} has a number that can't be used; expected {expected}"))
                    })?;
                    let (key, value) = resolve_alias(&path, value);
                    let setting = Setting { value, origin: origin_here.clone() };
                    if let Some(Setting { origin, .. }) = self.settings.insert(key.clone(), setting) {
                        return Err(InvalidConfig(format!(
                            "`{key}` is in {origin} and, by another name, in {origin_here}; expected one of them"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes the places of the fields of a rule's configuration.
    fn note_fields(&mut self, value: &DeValue<'_>, above: &str, origin: &dyn Fn(usize) -> ValueOrigin) {
        let DeValue::Table(table) = value else { return };
        for (key, value) in table {
            let path = format!("{above}.{}", key.get_ref());
            self.note_fields(value.get_ref(), &path, origin);
            self.fields.insert(path, FieldPlace { origin: origin(key.span().start), text: None });
        }
    }

    /// Returns the rules that have a table.
    fn rules(&self) -> BTreeSet<String> {
        let tables = self.tables.keys().filter_map(|path| child_key(path, "rule"));
        tables.map(|rest| rest.split('.').next().unwrap_or(rest).to_owned()).collect()
    }
}

/// Parses a single TOML value, as it is written in an environment variable.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    plain(DeValue::parse(text).ok()?.into_inner()).ok()
}

/// Parses a TOML document, without checking whether its keys are known.
pub(super) fn parse_table(text: &str) -> Option<serde_json::Map<String, Value>> {
    match plain(DeValue::Table(DeTable::parse(text).ok()?.into_inner())).ok()? {
        Value::Object(table) => Some(table),
        _ => None,
    }
}

/// The error for a number that can't be used: a description of the expected number. It never contains the number itself, which
/// may be a secret under a wrong or misspelt key.
struct Unfit(&'static str);

/// Returns a TOML value as JSON. Dates become texts.
fn plain(value: DeValue<'_>) -> Result<Value, Unfit> {
    let inner = |value: Spanned<DeValue<'_>>| plain(value.into_inner());
    Ok(match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Integer(number) => {
            let integer = i64::from_str_radix(number.as_str(), number.radix());
            integer.map_err(|_| Unfit("one of at most 64 bits"))?.into()
        }
        DeValue::Float(number) => {
            let finite = number.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            Value::Number(finite.ok_or(Unfit("a finite one"))?)
        }
        DeValue::Array(items) => Value::Array(items.into_iter().map(inner).collect::<Result<_, _>>()?),
        DeValue::Table(table) => {
            let fields = table.into_iter().map(|(key, value)| Ok((key.into_inner().into_owned(), inner(value)?)));
            Value::Object(fields.collect::<Result<_, Unfit>>()?)
        }
    })
}

/// Returns the key that `path` stands for, which may be an alias, and the meaning of `value` for that key.
pub(super) fn resolve_alias(path: &str, value: Value) -> (String, Value) {
    let Some((_, key, unit)) = ALIASES.iter().find(|(name, ..)| *name == path) else { return (path.to_owned(), value) };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = match value {
        Value::Number(number) => Value::String(format!("{number}{unit}")),
        Value::String(text) if is_number(&text) => Value::String(text + unit),
        other => other,
    };
    ((*key).to_owned(), value)
}

fn in_open_table(path: &str) -> bool {
    OPEN_TABLES.iter().any(|table| child_key(path, table).is_some())
}

/// Returns the line, counted from 1, of the byte `at`.
fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}
