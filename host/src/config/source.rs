//! The source of the configuration, which is read again while the process runs.
//!
//! A file that is missing is an error, and so is a file that has become empty, as may happen on a full disk. Neither means that
//! the operator wants the defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Config, InvalidConfig, environment, locate, needing_restart, read};

/// The source of a configuration.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// The file. None as long as no file is named and `weir.toml` has never existed.
    file: Option<PathBuf>,
    /// True if the file had content when it was last read.
    is_written: bool,
    /// The variables that take precedence over those of the environment.
    overrides: BTreeMap<String, String>,
    /// The configuration that the process runs with.
    running: Config,
}

impl ConfigSource {
    /// Returns the source with the file that [`Config::load`] reads for `named`. `overrides` are variables that take precedence
    /// over those of the environment. `running` is the configuration that the process runs with.
    pub fn new(named: Option<&Path>, overrides: BTreeMap<String, String>, running: Config) -> ConfigSource {
        let file = locate(named);
        let is_written = file.as_deref().is_some_and(|file| read(file).is_ok_and(|text| !is_blank(&text)));
        ConfigSource { file, is_written, overrides, running }
    }

    /// Reads the file and the environment.
    ///
    /// # Errors
    /// If the configuration is not valid, or if the file is missing or has become empty.
    fn read_all(&mut self) -> Result<Config, InvalidConfig> {
        self.file = weir_control::SettingsSource::file(self);
        let environment = environment()?.into_iter().chain(self.overrides.clone());
        let Some(file) = &self.file else { return Config::parse("", Path::new(""), environment) };
        let text = read(file).map_err(|InvalidConfig(error)| {
            InvalidConfig(format!("{error}; put it back, a restart without it takes the defaults"))
        })?;
        if self.is_written && is_blank(&text) {
            let file = file.display();
            return Err(InvalidConfig(format!("{file} has become empty; write it again, a restart takes the defaults")));
        }
        let config = Config::parse(&text, file, environment)?;
        self.is_written = !is_blank(&text);
        Ok(config)
    }
}

impl weir_control::SettingsSource for ConfigSource {
    fn file(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| locate(None))
    }

    fn read(&mut self) -> anyhow::Result<(weir_control::Settings, Vec<String>)> {
        let read = self.read_all()?;
        let pending = needing_restart(&self.running, &read);
        Ok((read.rules, pending))
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_lost_is_not_taken_for_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        fs::write(&file, "batch.rows = 7").unwrap();
        let mut source = ConfigSource::new(Some(&file), BTreeMap::new(), Config::default());
        assert_eq!(source.read_all().unwrap().kafka.batch.rows, 7);
        fs::write(&file, "\n").unwrap();
        let error = source.read_all().unwrap_err().to_string();
        assert!(error.contains("weir.toml has become empty"), "{error}");
        fs::remove_file(&file).unwrap();
        let error = source.read_all().unwrap_err().to_string();
        assert!(error.contains("weir.toml") && error.contains("put it back"), "{error}");
        fs::write(&file, "# the defaults").unwrap();
        assert_eq!(source.read_all().unwrap().kafka.batch.rows, Config::default().kafka.batch.rows);
    }

    #[test]
    fn what_never_said_anything_may_go_on_like_that() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        fs::write(&file, "").unwrap();
        let mut source = ConfigSource::new(Some(&file), BTreeMap::new(), Config::default());
        assert!(source.read_all().is_ok() && source.read_all().is_ok());
    }
}
