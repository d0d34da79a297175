//! A checkout with its own rules: a test replaces, breaks and repairs them as operators do, and knows which set should run then.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir::config::Config;

use crate::program::{Weir, built};

/// The shipped rules, in the order of the default pipeline.
pub const RULES: [&str; 3] = ["validation", "utc-enrichment", "device-filter"];
/// The name of the custom section in which variants differ.
const SECTION: &[u8] = b"variant";

/// A folder in which the program can be started any number of times.
pub struct Folder(TempDir);

impl Folder {
    /// Creates a folder with the shipped rules and an empty configuration.
    pub fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.path().join("rules/dist")).unwrap();
        RULES.iter().for_each(|rule| folder.put(rule, &shipped(rule)));
        folder.configure("");
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Starts `weir` in this folder.
    pub fn start(&self, arguments: &str, variables: &[(&str, &str)]) -> Weir {
        Weir::start_in(self.path(), arguments, variables)
    }

    /// Returns the file of a rule.
    pub fn file(&self, rule: &str) -> PathBuf {
        self.path().join(format!("rules/dist/{rule}.wasm"))
    }

    /// Replaces the file of a rule, atomically.
    pub fn put(&self, rule: &str, component: &[u8]) {
        self.replace(&self.file(rule), component);
    }

    /// Replaces `weir.toml` by `text`, atomically.
    pub fn configure(&self, text: &str) {
        self.replace(&self.path().join("weir.toml"), text.as_bytes());
    }

    fn replace(&self, file: &Path, bytes: &[u8]) {
        let part = self.path().join("part");
        fs::write(&part, bytes).unwrap();
        fs::rename(part, file).unwrap();
    }

    /// Returns the hash of the set that is in the folder now.
    pub fn hash(&self) -> String {
        let config = Config::load(Some(&self.path().join("weir.toml")), []).unwrap();
        config.rules.definition().unwrap().hash()
    }
}

/// Returns a rule as `make rules` has built it.
pub fn shipped(rule: &str) -> Vec<u8> {
    fs::read(built(rule)).unwrap()
}

/// Returns a rule that does the same as the shipped one, but has other bytes.
pub fn variant(rule: &str, number: u8) -> Vec<u8> {
    marked(shipped(rule), number)
}

/// Returns a component with an additional custom section. Runtimes ignore custom sections.
pub fn marked(mut component: Vec<u8>, number: u8) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    // A length below 128 is one byte in LEB128.
    component.extend([CUSTOM, SECTION.len() as u8 + 2, SECTION.len() as u8]);
    component.extend(SECTION);
    component.push(number);
    component
}
