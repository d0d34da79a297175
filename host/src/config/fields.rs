//! The places where the fields of `[rule.NAME.config]` were written, for error messages about a refused configuration.
//!
//! A rule gets its configuration as one line of JSON, which the host has generated. When the rule refuses it, the rule names a
//! column of that line. This module translates the column into a key, with its place in the file or its variable. If the host
//! guessed the type of a variable wrongly, it also adds the right way to write the value.

use std::collections::BTreeMap;

use serde_json::Value;

use super::origin::ValueOrigin;
use weir_core::suggestion::suggestion;

/// The words with which a refusal of a rule that uses `weir-rule` begins.
const UNREADABLE: &str = "failed to read the configuration: ";
/// The words with which serde_json names a place.
const PLACE: &str = " at line 1 column ";

/// The fields of a rule's configuration by their paths, with their places.
#[derive(Clone, Debug, Default)]
pub struct FieldPlaces(BTreeMap<String, FieldPlace>);

/// The place where a field was written.
#[derive(Clone, Debug)]
pub(super) struct FieldPlace {
    pub(super) origin: ValueOrigin,
    /// The value of the variable, if the field was set by a variable.
    pub(super) text: Option<String>,
}

impl FieldPlaces {
    pub(super) fn new(fields: impl IntoIterator<Item = (String, FieldPlace)>) -> FieldPlaces {
        FieldPlaces(fields.into_iter().collect())
    }

    /// Returns `words`, with which the rule `rule` refuses `config`. If known, the refused key and the place where it was written
    /// are added.
    pub(super) fn explain(&self, rule: &str, config: &Value, words: &str) -> String {
        let Some((words, column)) = words.rsplit_once(PLACE).and_then(|(words, at)| Some((words, at.parse().ok()?))) else {
            return self.explain_named(rule, config, words);
        };
        let path = locate(config, 0, column);
        let words = words.strip_prefix(UNREADABLE).unwrap_or(words);
        format!("{}: {words}{}", self.place(rule, &path), self.advice(&path, config, words))
    }

    /// Returns `words` with key and place if they name a field but no column.
    fn explain_named(&self, rule: &str, config: &Value, words: &str) -> String {
        let named = |key: &&String| words.contains(&format!("`{key}`"));
        match config.as_object().and_then(|config| config.keys().find(named)) {
            Some(key) => format!("{}: {words}", self.place(rule, std::slice::from_ref(key))),
            None => words.to_owned(),
        }
    }

    /// Returns the key of `path`, and the place where the field or the innermost table around it was written.
    fn place(&self, rule: &str, path: &[String]) -> String {
        let key = std::iter::once(format!("rule.{rule}.config")).chain(path.iter().cloned()).collect::<Vec<_>>().join(".");
        match self.field(path) {
            Some(FieldPlace { origin, .. }) => format!("`{key}` in {origin}"),
            None => format!("`{key}`"),
        }
    }

    /// Returns the innermost field at or around `path` whose place is known.
    fn field(&self, path: &[String]) -> Option<&FieldPlace> {
        (1..=path.len()).rev().find_map(|length| self.0.get(&path[..length].join(".")))
    }

    fn advice(&self, path: &[String], config: &Value, words: &str) -> String {
        if words.starts_with("unknown ") {
            let mut quoted = words.split('`').skip(1).step_by(2);
            let given = quoted.next().unwrap_or_default();
            return suggestion(given, quoted);
        }
        let Some(FieldPlace { origin: ValueOrigin::Variable(name), text: Some(text) }) = self.field(path) else {
            return String::new();
        };
        match path.iter().try_fold(config, |value, key| value.get(key)) {
            Some(Value::Number(_) | Value::Bool(_)) if words.contains("expected a string") => {
                format!("; for a text, put it in quotes: {name}='\"{text}\"'")
            }
            Some(Value::String(_) | Value::Number(_)) if words.contains("expected a sequence") => {
                let items: Value = text.split(',').map(str::trim).collect();
                format!("; for a list of texts, write {name}='{items}'")
            }
            _ => String::new(),
        }
    }
}

/// Returns the path of the innermost field that contains the byte before column `at`. `value` is written without blanks, from
/// `begin` on.
fn locate(value: &Value, begin: usize, at: usize) -> Vec<String> {
    let length = |value: &Value| value.to_string().len();
    let mut next = begin + 1;
    for (key, value) in value.as_object().into_iter().flatten() {
        let begin = next + length(&Value::from(key.as_str())) + 1;
        let end = begin + length(value);
        if next < at && at <= end {
            return std::iter::once(key.clone()).chain(locate(value, begin, at)).collect();
        }
        next = end + 1;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    /// Returns the explanation of `words`, with which `validation` refuses the configuration that it gets from `text` and
    /// `variables`.
    fn said(text: &str, variables: &[(&str, &str)], words: &str) -> String {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let config = Config::parse(text, Path::new("weir.toml"), variables).unwrap();
        config.rules.pipeline[0].explain(words)
    }

    #[test]
    fn a_column_becomes_a_key_with_its_line() {
        let text = "[rule.validation.config]\nrequired = []\nmin_version = '1'\ndeep = { a = 1, b = 2 }\n";
        // {"deep":{"a":1,"b":2},"min_version":"1","required":[]}
        let words = "failed to read the configuration: unknown field `min_version`, expected `required` or `min_app_version`";
        assert_eq!(
            said(text, &[], &format!("{words} at line 1 column 35")),
            "`rule.validation.config.min_version` in weir.toml line 3: unknown field `min_version`, expected `required` or \
             `min_app_version`; did you mean `min_app_version`?"
        );
        assert_eq!(
            said(text, &[], "invalid type: integer `2`, expected a string at line 1 column 20"),
            "`rule.validation.config.deep.b` in weir.toml line 4: invalid type: integer `2`, expected a string"
        );
        assert_eq!(said(text, &[], "missing field `x` at line 1 column 54"), "`rule.validation.config`: missing field `x`");
        assert_eq!(
            said(text, &[], "`required` is empty"),
            "`rule.validation.config.required` in weir.toml line 2: `required` is empty"
        );
        assert_eq!(said(text, &[], "it is Monday"), "it is Monday");
    }

    #[test]
    fn a_variable_that_was_read_as_another_type_is_told_how_to_be_written() {
        let number = ("WEIR_RULE_VALIDATION_CONFIG_MIN_APP_VERSION", "2.40");
        assert_eq!(
            said("", &[number], "invalid type: floating point `2.4`, expected a string at line 1 column 22"),
            "`rule.validation.config.min_app_version` in the environment variable WEIR_RULE_VALIDATION_CONFIG_MIN_APP_VERSION: \
             invalid type: floating point `2.4`, expected a string; for a text, put it in quotes: \
             WEIR_RULE_VALIDATION_CONFIG_MIN_APP_VERSION='\"2.40\"'"
        );
        let list = ("WEIR_RULE_VALIDATION_CONFIG_REQUIRED", "ip, timestamp");
        let said = said("", &[list], "invalid type: string \"ip, timestamp\", expected a sequence at line 1 column 27");
        assert!(
            said.ends_with("; for a list of texts, write WEIR_RULE_VALIDATION_CONFIG_REQUIRED='[\"ip\",\"timestamp\"]'"),
            "{said}"
        );
    }
}
