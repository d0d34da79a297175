//! The folder of a demo, which exists while the demo runs, and contains the files that the current folder lacks.
//!
//! A demo needs nothing but the program, which contains three rules as `weir build` makes them (`make demo-rules` renews them).
//! In a checkout with rules of its own, those are used. Nothing is kept: the next demo begins with the same state.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::scratch::Scratch;
use crate::cli::ConfigFile;
use crate::config::{self, Config};

/// The rules inside the program.
const RULES: [(&str, &[u8]); 3] = [
    ("validation", include_bytes!("rules/validation.wasm")),
    ("utc-enrichment", include_bytes!("rules/utc-enrichment.wasm")),
    ("device-filter", include_bytes!("rules/device-filter.wasm")),
];
/// The configuration to edit, if there is none.
const CONFIGURATION: &str = include_str!("weir.toml");
/// The variable that names the folder of the rules.
const RULES_FOLDER: &str = "WEIR_RULES_FOLDER";

/// The folder, which is removed when this value is dropped, and the configuration of the demo.
pub(super) struct Home {
    folder: Arc<Scratch>,
    pub(super) config: Config,
    /// The source of the configuration.
    pub(super) file: ConfigFile,
    /// The configuration file that the operator can edit.
    pub(super) edited: PathBuf,
    /// True if the rules are those inside the program.
    pub(super) uses_embedded_rules: bool,
}

impl Home {
    /// Makes the folder and the configuration.
    ///
    /// # Errors
    /// If the configuration is not valid, or the folder can't be written.
    pub(super) fn make(mut file: ConfigFile) -> anyhow::Result<Home> {
        let config = file.load()?;
        let folder = Scratch::make(&env::temp_dir())
            .context("failed to make a folder for the demo: let TMPDIR name one that can be written")?;
        let uses_embedded_rules = lacks_rules(&config);
        let rules = if uses_embedded_rules { put_rules(&folder.path().join("rules"))? } else { absolute(&config.rules.folder)? };
        let located = config::locate(file.config.as_deref());
        let edited = located.as_deref().map_or_else(|| folder.path().join(config::DEFAULT_FILE), Path::to_path_buf);
        if located.is_none() {
            fs::write(&edited, CONFIGURATION).with_context(|| format!("failed to write {}", edited.display()))?;
            file.config = Some(edited.clone());
        }
        if uses_embedded_rules || located.is_none() {
            let rules = rules.to_str().with_context(|| format!("failed to use the folder {}: no UTF-8", rules.display()))?;
            file.overrides.insert(RULES_FOLDER.to_owned(), rules.to_owned());
        }
        let mut config = file.load()?;
        config.rules.state = Some(folder.path().join("state"));
        Ok(Home { folder: Arc::new(folder), config, file, edited, uses_embedded_rules })
    }

    /// Returns a function that removes the folder if the process ends without dropping this value.
    pub(super) fn remover(&self) -> impl FnOnce() + Send + use<> {
        let folder = Arc::downgrade(&self.folder);
        move || {
            // If this fails, the next demo removes the folder.
            let _ = folder.upgrade().map(|folder| folder.remove());
        }
    }
}

/// Returns whether rules are missing, and the rules inside the program can replace the whole pipeline.
fn lacks_rules(config: &Config) -> bool {
    let is_inside = |name: &str| RULES.iter().any(|(inside, _)| *inside == name);
    config.rules.pipeline.iter().any(|rule| !rule.file.exists()) && config.rules.pipeline.iter().all(|rule| is_inside(&rule.name))
}

fn put_rules(folder: &Path) -> anyhow::Result<PathBuf> {
    let written = fs::create_dir(folder)
        .and_then(|()| RULES.iter().try_for_each(|(name, bytes)| fs::write(folder.join(format!("{name}.wasm")), bytes)));
    written.with_context(|| format!("failed to write the rules of the demo to {}", folder.display()))?;
    Ok(folder.to_path_buf())
}

fn absolute(folder: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(folder).context("failed to find the current folder")
}
