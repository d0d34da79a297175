//! A checkout whose rules are its own: a test replaces, breaks and mends them as operators do, and knows what should run then.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir::config::Config;

use crate::program::{Weir, built};

/// The shipped rules, in the order of the default pipeline.
pub const RULES: [&str; 3] = ["validation", "utc-enrichment", "device-filter"];
/// The name of the custom section by which variants differ.
const SECTION: &[u8] = b"variant";

/// A folder in which the program can be started any number of times.
pub struct Folder(TempDir);

impl Folder {
    /// A folder with the shipped rules and a configuration that says nothing.
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

    /// Starts `weir` here.
    pub fn start(&self, arguments: &str, variables: &[(&str, &str)]) -> Weir {
        Weir::start_in(self.path(), arguments, variables)
    }

    /// Where a rule is looked for.
    pub fn file(&self, rule: &str) -> PathBuf {
        self.path().join(format!("rules/dist/{rule}.wasm"))
    }

    /// Puts a component in the place of a rule, at once.
    pub fn put(&self, rule: &str, component: &[u8]) {
        self.replace(&self.file(rule), component);
    }

    /// Puts `text` in the place of `weir.toml`, at once.
    pub fn configure(&self, text: &str) {
        self.replace(&self.path().join("weir.toml"), text.as_bytes());
    }

    fn replace(&self, file: &Path, bytes: &[u8]) {
        let part = self.path().join("part");
        fs::write(&part, bytes).unwrap();
        fs::rename(part, file).unwrap();
    }

    /// The hash of the set that is here now.
    pub fn hash(&self) -> String {
        let config = Config::load(Some(&self.path().join("weir.toml")), []).unwrap();
        config.rules.definition().unwrap().hash()
    }
}

/// A rule as `make rules` has built it.
pub fn shipped(rule: &str) -> Vec<u8> {
    fs::read(built(rule)).unwrap()
}

/// A rule that does what the shipped one does, and is another file.
pub fn variant(rule: &str, number: u8) -> Vec<u8> {
    marked(shipped(rule), number)
}

/// A component with a section more: it takes any, and runs none.
pub fn marked(mut component: Vec<u8>, number: u8) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    // Lengths below 128 are one byte as LEB128.
    component.extend([CUSTOM, SECTION.len() as u8 + 2, SECTION.len() as u8]);
    component.extend(SECTION);
    component.push(number);
    component
}
