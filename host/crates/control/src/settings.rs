//! What the loader is told, and where it reads that again while the process runs.

use std::fmt::Debug;
use std::path::PathBuf;

use weir_engine::TrialBounds;
use weir_wasm::definition::Definition;
use weir_wasm::rule::Rule;

/// Which rules should run, and how they are swapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The rules in their order. `rules.pipeline`, `[rule.NAME]`
    pub pipeline: Vec<Rule>,
    /// Where `NAME.wasm` is looked for, and put by `weir rules deploy`. `rules.folder`
    pub folder: PathBuf,
    /// The member whose values are counted. `counts.member`
    pub counted: String,
    /// Look after changes of the rules' files and configuration. `rules.watch`
    pub watch: bool,
    /// Where sets that went live are kept. None: a folder of this user's, by the name of the group. `rules.state`
    pub state: Option<PathBuf>,
    /// How many of them. `rules.history`
    pub history: usize,
    /// `[trial]`
    pub trial: TrialBounds,
    /// Share of a core's time that a candidate may take, 0 to 1. `shadow.share`
    pub shadow_share: f64,
}

impl Settings {
    /// Reads the files of the rules.
    ///
    /// # Errors
    /// If one can't be read, or is too large. The message names it and the remedy.
    pub fn definition(&self) -> anyhow::Result<Definition> {
        Definition::read(&self.pipeline, &self.folder, &self.counted)
    }
}

/// Where the settings are read again.
pub trait Source: Debug + Send {
    /// Returns the file that they are in, if there is one.
    fn file(&self) -> Option<PathBuf>;

    /// Reads what is written now. Returns it with the keys that have changed and that only a restart takes.
    ///
    /// # Errors
    /// If it is not valid, or was lost.
    fn read(&mut self) -> anyhow::Result<(Settings, Vec<String>)>;
}
