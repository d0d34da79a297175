//! The configuration of commands that use Kafka: for them `[kafka.properties]` is checked too.
//!
//! Other commands skip this check: `weir apply` needs none of the files that are named there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::raw::Raw;
use super::{Config, DEFAULT_FILE, FILE_VARIABLE, InvalidConfig, environment, read};
use weir_core::suggestion::suggestion;
use weir_kafka::proof::prove;
use weir_kafka::properties::{self, PropertyProblem, Unusable};

impl Config {
    /// Loads a configuration like [`Config::load`], for a command that uses Kafka.
    pub fn load_for_kafka(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, InvalidConfig> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let config = Config::load(file, environment.clone())?;
        prove(&config.kafka.client).map_err(|unusable| complaint(&unusable, file, environment))?;
        Ok(config)
    }
}

/// Returns the error for a property, with the place where it was written.
fn complaint(unusable: &Unusable, file: Option<&Path>, environment: BTreeMap<String, String>) -> InvalidConfig {
    let Unusable { name, problem } = unusable;
    let Some(name) = name else { return InvalidConfig(unusable.to_string()) };
    let path = format!("kafka.properties.{name}");
    let origin = origin(&path, file, environment).map_or_else(String::new, |origin| format!(" in {origin}"));
    let names = properties::names();
    let suggestion = match problem {
        PropertyProblem::Unknown => suggestion(name, names.iter().map(String::as_str)),
        PropertyProblem::Wrong(_) => String::new(),
    };
    InvalidConfig(format!("`{path}`{origin} {problem}{suggestion}"))
}

/// Returns the place where the value of `path` was written.
fn origin(path: &str, file: Option<&Path>, environment: BTreeMap<String, String>) -> Option<String> {
    let named = file.map(Path::to_path_buf).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
    let file = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
    let text = file.as_deref().map(read).transpose().ok()?.unwrap_or_default();
    let mut raw = Raw::parse(&text, file.as_deref().unwrap_or(Path::new(""))).ok()?;
    environment::apply(&mut raw, environment).ok()?;
    raw.paths().any(|known| known == path).then(|| raw.get(path).origin.to_string())
}
