//! The settings of one rule: its file, its policies and limits, and the configuration that its `configure` gets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use weir_core::pipeline::OnFault;
use weir_core::printable::escape_line;

use crate::Limits;

/// One rule of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// The file of the component: `folder/NAME.wasm` unless the configuration names another.
    pub file: PathBuf,
    /// True for `on_reject = "drop"`: records that the rule rejects are counted, and produce no dead letter.
    pub drop: bool,
    pub on_fault: OnFault,
    pub limits: Limits,
    /// The configuration that the rule's `configure` gets, a JSON object.
    pub config: Value,
    /// Finds the place where the configuration was written.
    pub explain: Explain,
}

/// The values of `on_reject`, each with whether it means to drop.
pub const REJECT_POLICIES: [(&str, bool); 2] = [("dead-letter", false), ("drop", true)];

/// Finds the place where a configuration that a rule refuses was written. It gets the name of the rule, its configuration and the
/// rule's message, and returns the message with the place.
#[derive(Clone, Default)]
pub struct Explain(Option<Arc<Explains>>);

type Explains = dyn Fn(&str, &Value, &str) -> String + Send + Sync;

impl Explain {
    /// `explain` gets the rule's name, its configuration and its message.
    pub fn by(explain: impl Fn(&str, &Value, &str) -> String + Send + Sync + 'static) -> Explain {
        Explain(Some(Arc::new(explain)))
    }
}

impl PartialEq for Explain {
    /// Returns true: the place where a configuration was written makes no difference.
    fn eq(&self, _: &Explain) -> bool {
        true
    }
}

impl fmt::Debug for Explain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Explain")
    }
}

impl Rule {
    /// Returns a rule with default settings, in `NAME.wasm` of the current folder.
    pub fn with_defaults(name: &str) -> Rule {
        Rule {
            name: name.to_owned(),
            file: PathBuf::from(format!("{name}.wasm")),
            drop: false,
            on_fault: OnFault::DeadLetter,
            limits: Limits::default(),
            config: json!({}),
            explain: Explain::default(),
        }
    }

    /// Returns the rule's policies and limits by their keys, as they could be written in `[rule.NAME]`.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let Limits { memory, tables, instances, stack, result, deadline } = self.limits;
        let settings = [
            ("on_reject", word(&REJECT_POLICIES, self.drop).to_owned()),
            ("on_fault", word(&OnFault::WORDS, self.on_fault).to_owned()),
            ("memory", memory.to_string()),
            ("tables", tables.to_string()),
            ("instances", instances.to_string()),
            ("stack", stack.to_string()),
            ("result", result.to_string()),
            ("deadline", format!("{}ms", deadline.as_millis())),
        ];
        settings.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// Returns a rule with `settings` in the form of [`Rule::settings`]. A setting that is missing has its default.
    ///
    /// # Errors
    /// If a key is unknown, or its value can't be read.
    pub fn from_settings(name: &str, file: PathBuf, settings: &BTreeMap<String, String>, config: Value) -> anyhow::Result<Rule> {
        let mut rule = Rule { file, config, ..Rule::with_defaults(name) };
        for (key, value) in settings {
            rule.set(key, value).with_context(|| format!("failed to read `{key}` of the rule {name}, which is {value:?}"))?;
        }
        Ok(rule)
    }

    fn set(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let limits = &mut self.limits;
        match key {
            "on_reject" => self.drop = meaning(&REJECT_POLICIES, value)?,
            "on_fault" => self.on_fault = meaning(&OnFault::WORDS, value)?,
            "memory" => limits.memory = value.parse()?,
            "tables" => limits.tables = value.parse()?,
            "instances" => limits.instances = value.parse()?,
            "stack" => limits.stack = value.parse()?,
            "result" => limits.result = value.parse()?,
            "deadline" => {
                let millis = value.strip_suffix("ms").context("it is no number of milliseconds")?;
                limits.deadline = Duration::from_millis(millis.parse()?);
            }
            _ => bail!("there is no such key"),
        }
        Ok(())
    }

    /// Returns the message `words`, with which the rule refuses its configuration, in one line. If known, the refused key and the
    /// place where it was written are added.
    pub fn explain(&self, words: &str) -> String {
        let explained = self.explain.0.as_ref().map(|explain| explain(&self.name, &self.config, words));
        escape_line(explained.as_deref().unwrap_or(words)).into_owned()
    }
}

/// Returns the word for `value`.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, meaning)| *meaning == value).map_or("", |(word, _)| word)
}

/// Returns the value that `word` stands for.
fn meaning<T: Copy>(words: &[(&'static str, T)], word: &str) -> anyhow::Result<T> {
    words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning).context("there is no such word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let mut rule = Rule::with_defaults("a");
        (rule.drop, rule.on_fault, rule.config) = (true, OnFault::Stop, json!({"a": 1}));
        let deadline = Duration::from_millis(7);
        rule.limits = Limits { memory: 1, tables: 2, instances: 3, stack: 4, result: 5, deadline };
        let read = Rule::from_settings("a", "a.wasm".into(), &rule.settings(), json!({"a": 1}));
        assert_eq!(read.unwrap(), rule);
        let read = Rule::from_settings("a", "a.wasm".into(), &BTreeMap::new(), json!({}));
        assert_eq!(read.unwrap(), Rule::with_defaults("a"), "what an earlier version did not write has its default");
    }

    #[test]
    fn settings_that_are_none_are_refused_by_their_key() {
        for (key, value) in [("memory", "x"), ("deadline", "7s"), ("on_fault", "ignore"), ("colour", "red")] {
            let settings = [(key.to_owned(), value.to_owned())].into();
            let error = format!("{:#}", Rule::from_settings("a", "a.wasm".into(), &settings, json!({})).unwrap_err());
            assert!(error.starts_with(&format!("failed to read `{key}` of the rule a, which is {value:?}: ")), "{error}");
        }
    }
}
