//! The settings of the loader, and the source from which it reads them again while the process runs.

use std::fmt::Debug;
use std::path::PathBuf;

use weir_engine::TrialBounds;
use weir_wasm::definition::Definition;
use weir_wasm::rule::Rule;

/// The rules that should run, and the settings for swapping them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The rules in their order. `rules.pipeline`, `[rule.NAME]`
    pub pipeline: Vec<Rule>,
    /// The folder in which `NAME.wasm` is looked for, and into which `weir rules deploy` puts it. `rules.folder`
    pub folder: PathBuf,
    /// The field whose values are counted. `counts.member`
    pub counted: String,
    /// Whether the loader watches the rules' files and the configuration for changes. `rules.watch`
    pub watch: bool,
    /// The folder that keeps the sets that went live. None: a folder of this user with the name of the group. `rules.state`
    pub state: Option<PathBuf>,
    /// The number of sets that are kept. `rules.history`
    pub history: usize,
    /// The length and the bounds of a trial. `[trial]`
    pub trial: TrialBounds,
    /// The share of a core's time that a candidate may take, 0 to 1. `shadow.share`
    pub shadow_share: f64,
}

impl Settings {
    /// Reads the files of the rules.
    ///
    /// # Errors
    /// If a file can't be read, or is too large. The message names the file and the remedy.
    pub fn definition(&self) -> anyhow::Result<Definition> {
        Definition::read(&self.pipeline, &self.folder, &self.counted)
    }
}

/// The source from which the settings are read again.
pub trait SettingsSource: Debug + Send {
    /// Returns the file that contains the settings, if there is one.
    fn file(&self) -> Option<PathBuf>;

    /// Reads the settings as they are now. Also returns the keys that have changed but take effect only with a restart.
    ///
    /// # Errors
    /// If the settings are not valid, or can't be found any more.
    fn read(&mut self) -> anyhow::Result<(Settings, Vec<String>)>;
}
