//! The file of a configuration, for whoever reads it again while the process runs.
//!
//! A file that is gone, or that has become empty, as where a disk is full, is no decision for the defaults: it was lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Config, Invalid, environment, locate, needing_restart, read};

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// None as long as no file is named and `weir.toml` has never been there.
    file: Option<PathBuf>,
    /// Something was written in it when it was read last.
    is_written: bool,
    /// Variables that go before those of the environment.
    overrides: BTreeMap<String, String>,
    /// What the process runs with.
    running: Config,
}

impl Source {
    /// The file that [`Config::load`] reads for `named`, under variables that go before those of the environment, of a process that
    /// runs with `running`.
    pub fn new(named: Option<&Path>, overrides: BTreeMap<String, String>, running: Config) -> Source {
        let file = locate(named);
        let is_written = file.as_deref().is_some_and(|file| read(file).is_ok_and(|text| !is_blank(&text)));
        Source { file, is_written, overrides, running }
    }

    /// Reads it, and the environment.
    ///
    /// # Errors
    /// If it is not valid, or was lost.
    fn read_all(&mut self) -> Result<Config, Invalid> {
        self.file = weir_control::Source::file(self);
        let environment = environment()?.into_iter().chain(self.overrides.clone());
        let Some(file) = &self.file else { return Config::parse("", Path::new(""), environment) };
        let text = read(file)
            .map_err(|Invalid(error)| Invalid(format!("{error}; put it back, a restart without it takes the defaults")))?;
        if self.is_written && is_blank(&text) {
            let file = file.display();
            return Err(Invalid(format!("{file} has become empty; write it again, a restart takes the defaults")));
        }
        let config = Config::parse(&text, file, environment)?;
        self.is_written = !is_blank(&text);
        Ok(config)
    }
}

impl weir_control::Source for Source {
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
        let mut source = Source::new(Some(&file), BTreeMap::new(), Config::default());
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
        let mut source = Source::new(Some(&file), BTreeMap::new(), Config::default());
        assert!(source.read_all().is_ok() && source.read_all().is_ok());
    }
}
