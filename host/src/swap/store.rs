//! The state folder: every set that went live, and what operators and trials have decided since.
//!
//! ```text
//! components/SHA-256.wasm     the components, by their contents
//! sets/HASH.json              what a set is made of, and when it went live last
//! pin                         the set that an operator went back to
//! taken-back/HASH.json        what a trial found against a set
//! on-trial/HASH.json          that a set has not passed its trial yet
//! ```
//!
//! Each file is put in place whole, so a crash leaves the old or the new one. Several processes of one host may share the
//! folder: a pin and a verdict are then for all of them. What it is worth is for the loader to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::report::{Set, TakenBack, Why};
use super::trial::Record;
use crate::config;
use crate::files;
use crate::ruleset::{Defined, Definition};
use crate::wasm::hex;

/// How old a component must be before it is thrown away that no set has: another process may be about to write the set.
const SETTLED: Duration = Duration::from_secs(3_600);
/// Fewest digits by which a set may be named.
const FEWEST_DIGITS: usize = 4;

/// The state folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

/// A set that went live once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub set: Set,
    /// When it went live, the last time: milliseconds since the epoch.
    pub at: i64,
    pub why: Why,
}

/// That a set has gone live, or is about to, and has not passed its trial yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    /// The hash of the set that comes back if it fails.
    pub before: String,
    /// What that one has done lately.
    pub usual: Record,
}

impl Store {
    /// The folder of the configuration, made if it is missing; by default one of this user's by the name of the group.
    ///
    /// # Errors
    /// If it can't be made or written to. The message names it and the key.
    pub fn open(swap: &config::Swap, group: &str) -> anyhow::Result<Store> {
        let folder = swap.state.clone().unwrap_or_else(|| default_folder(group));
        let store = Store { folder, keep: swap.history };
        let made = ["components", "sets", "taken-back", "on-trial"].map(|part| fs::create_dir_all(store.folder.join(part)));
        let probe = store.folder.join("probe");
        let probed = || files::replace(&probe, b"").and_then(|()| fs::remove_file(&probe));
        let made = made.into_iter().collect::<io::Result<()>>().and_then(|()| probed());
        made.with_context(|| {
            format!(
                "failed to keep the history of rules in {}; set `rules.state` to a folder that can be written",
                store.folder.display()
            )
        })?;
        Ok(store)
    }

    /// Keeps a set that has gone live. The oldest ones beyond the bound go, but none of `needed`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save(&self, definition: &Definition, saved: &Saved, needed: &[&str]) -> anyhow::Result<()> {
        for rule in &definition.rules {
            let file = self.component(&hex(&rule.digest));
            if !file.exists() {
                files::replace(&file, &rule.bytes).with_context(|| format!("failed to write {}", file.display()))?;
            }
        }
        self.write(&self.set(&saved.set.hash), saved)?;
        self.forget(needed);
        Ok(())
    }

    /// The sets that went live, the last first. Those that can't be read are left out.
    pub fn history(&self) -> Vec<Saved> {
        let mut history: Vec<Saved> = self.names("sets").iter().filter_map(|hash| self.read(&self.set(hash))).collect();
        history.sort_by_key(|saved| std::cmp::Reverse(saved.at));
        history
    }

    /// The set whose hash begins with `hash`.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(&self, hash: &str) -> anyhow::Result<Saved> {
        ensure!(hash.len() >= FEWEST_DIGITS, "give at least {FEWEST_DIGITS} digits of a hash; `weir rules history` lists them");
        let mut found = self.history();
        found.retain(|saved| saved.set.hash.starts_with(hash));
        ensure!(found.len() < 2, "more than one set begins with {hash:?}; give more of its hash");
        found.pop().with_context(|| format!("no set that went live begins with {hash:?}; `weir rules history` lists them"))
    }

    /// What a set was made of.
    ///
    /// # Errors
    /// If a component is missing or damaged.
    pub fn definition(&self, set: &Set, counted: &str) -> anyhow::Result<Definition> {
        let rules = set.rules.iter().map(|rule| {
            let file = self.component(&rule.digest);
            let bytes = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
            let config = config::Rule::from_settings(&rule.name, file.clone(), &rule.settings, rule.config.clone())?;
            let defined = Defined::new(config, bytes);
            ensure!(hex(&defined.digest) == rule.digest, "{} is not what was written there; remove it", file.display());
            Ok(defined)
        });
        Ok(Definition { rules: rules.collect::<anyhow::Result<_>>()?, counted: counted.to_owned() })
    }

    /// The set that an operator went back to.
    pub fn pin(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("pin")).ok().map(|hash| hash.trim().to_owned()).filter(|hash| !hash.is_empty())
    }

    /// Goes back to a set, or follows the folder again.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn set_pin(&self, hash: Option<&str>) -> anyhow::Result<()> {
        let pin = self.folder.join("pin");
        files::replace(&pin, hash.unwrap_or_default().as_bytes()).with_context(|| format!("failed to write {}", pin.display()))
    }

    /// What a trial found against a set.
    pub fn taken_back(&self, hash: &str) -> Option<TakenBack> {
        self.read(&self.verdict(hash))
    }

    /// Keeps that.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn take_back(&self, verdict: &TakenBack) -> anyhow::Result<()> {
        self.write(&self.verdict(&verdict.hash), verdict)
    }

    /// Gives a set another chance.
    pub fn pardon(&self, hash: &str) {
        // It is gone, or it was never there.
        let _ = fs::remove_file(self.verdict(hash));
    }

    /// The trial of a set that has not passed it yet, in this process or in an earlier one.
    pub fn on_trial(&self, hash: &str) -> Option<OnTrial> {
        self.read(&self.mark(hash))
    }

    /// Keeps that, so that a restart does not end the trial.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn put_on_trial(&self, hash: &str, trial: &OnTrial) -> anyhow::Result<()> {
        self.write(&self.mark(hash), trial)
    }

    /// The trial is over.
    pub fn end_trial(&self, hash: &str) {
        // It is gone, or it was never there.
        let _ = fs::remove_file(self.mark(hash));
    }

    /// Changes whenever an operator or a trial decides something, in this process or in another one.
    pub fn decisions(&self) -> (Option<String>, BTreeSet<String>) {
        (self.pin(), self.names("taken-back"))
    }

    /// Throws away what is too much.
    fn forget(&self, needed: &[&str]) {
        let history = self.history();
        let (kept, old): (Vec<(usize, &Saved)>, Vec<_>) =
            history.iter().enumerate().partition(|(age, saved)| *age < self.keep || needed.contains(&saved.set.hash.as_str()));
        for (_, saved) in old {
            let _ = fs::remove_file(self.set(&saved.set.hash)); // It is tried again with the next set.
            self.pardon(&saved.set.hash);
            self.end_trial(&saved.set.hash);
        }
        let used: BTreeSet<&str> = kept.iter().flat_map(|(_, saved)| &saved.set.rules).map(|rule| rule.digest.as_str()).collect();
        for digest in self.names("components").iter().filter(|digest| !used.contains(digest.as_str())) {
            let file = self.component(digest);
            let modified = fs::metadata(&file).and_then(|metadata| metadata.modified());
            if modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > SETTLED)) {
                let _ = fs::remove_file(file);
            }
        }
    }

    /// The files of a part of the folder, without their extensions.
    fn names(&self, part: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder.join(part)).into_iter().flatten().flatten();
        let whole = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json" || extension == "wasm");
        let paths = entries.map(|entry| entry.path()).filter(whole);
        paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
    }

    fn component(&self, digest: &str) -> PathBuf {
        self.folder.join("components").join(format!("{digest}.wasm"))
    }

    fn set(&self, hash: &str) -> PathBuf {
        self.folder.join("sets").join(format!("{hash}.json"))
    }

    fn mark(&self, hash: &str) -> PathBuf {
        self.folder.join("on-trial").join(format!("{hash}.json"))
    }

    fn verdict(&self, hash: &str) -> PathBuf {
        self.folder.join("taken-back").join(format!("{hash}.json"))
    }

    fn read<T: DeserializeOwned>(&self, file: &Path) -> Option<T> {
        let text = fs::read(file).ok()?;
        let read = serde_json::from_slice(&text);
        if let Err(error) = &read {
            tracing::warn!(file = %file.display(), "a file of the history can't be read and is left out: {error}");
        }
        read.ok()
    }

    fn write<T: Serialize>(&self, file: &Path, value: &T) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(value)?;
        files::replace(file, &text).with_context(|| format!("failed to write {}", file.display()))
    }
}

/// `$XDG_STATE_HOME/weir/GROUP`, or `~/.local/state/weir/GROUP`, or one that lasts as long as the machine runs.
fn default_folder(group: &str) -> PathBuf {
    let home = |name: &str, below: &str| {
        std::env::var_os(name).map(PathBuf::from).filter(|home| home.is_absolute()).map(|home| home.join(below))
    };
    let state = home("XDG_STATE_HOME", "").or_else(|| home("HOME", ".local/state"));
    let state = state.unwrap_or_else(|| std::env::temp_dir().join(format!("weir-{}", rustix::process::getuid().as_raw())));
    let name: String = group.chars().map(|next| if next.is_ascii_alphanumeric() || next == '-' { next } else { '_' }).collect();
    state.join("weir").join(name)
}

/// The parts of a set, for people and for the store.
pub fn describe(definition: &Definition, manifests: &[&crate::pipeline::Manifest]) -> Set {
    let rules = definition.rules.iter().zip(manifests).map(|(rule, manifest)| super::report::Rule {
        name: rule.config.name.clone(),
        version: manifest.version.clone(),
        description: manifest.description.clone(),
        digest: hex(&rule.digest),
        size: rule.bytes.len(),
        reads: manifest.reads.clone(),
        writes: manifest.writes.clone(),
        reasons: manifest.reasons.clone(),
        config: rule.config.config.clone(),
        settings: rule.config.settings(),
    });
    Set { hash: definition.hash(), rules: rules.collect() }
}

/// What is different between two sets.
pub fn changes(a: &Set, b: &Set) -> Vec<super::report::Change> {
    let names = |set: &Set| set.rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>().join(", ");
    let mut changes = Vec::new();
    let mut note = |rule: Option<&str>, what: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            changes.push(super::report::Change { rule: rule.map(str::to_owned), what: what.to_owned(), before, after });
        }
    };
    note(None, "rules", Some(names(a)), Some(names(b)));
    for after in &b.rules {
        let before = a.rules.iter().find(|rule| rule.name == after.name);
        let (old, new) = (before.map(facts).unwrap_or_default(), facts(after));
        for (what, value) in new {
            note(Some(&after.name), &what, old.get(&what).cloned(), Some(value));
        }
    }
    changes
}

/// What is compared of a rule, by name.
fn facts(rule: &super::report::Rule) -> BTreeMap<String, String> {
    let mut facts = rule.settings.clone();
    let own = [
        ("component", rule.digest.clone()),
        ("version", rule.version.clone()),
        ("reads", rule.reads.join(", ")),
        ("writes", rule.writes.join(", ")),
        ("reasons", rule.reasons.join(", ")),
        ("config", rule.config.to_string()),
    ];
    facts.extend(own.map(|(what, value)| (what.to_owned(), value)));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &Path, history: usize) -> Store {
        let swap = config::Swap { state: Some(folder.to_owned()), history, ..config::Config::default().swap };
        Store::open(&swap, "group").unwrap()
    }

    fn definition(bytes: &[u8]) -> Definition {
        Definition { rules: vec![Defined::new(config::Rule::with_defaults("a"), bytes)], counted: "x".into() }
    }

    fn saved(definition: &Definition, at: i64) -> Saved {
        Saved { set: describe(definition, &[&crate::pipeline::Manifest::default()]), at, why: Why::Folder }
    }

    #[test]
    fn what_went_live_is_found_again_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut set) = (store(folder.path(), 5), definition(b"wasm"));
        set.rules[0].config.config = serde_json::json!({"a": 1});
        set.rules[0].config.on_fault = config::OnFault::Pass;
        store.save(&set, &saved(&set, 7), &[]).unwrap();
        let found = store.find(&set.hash()[..6]).unwrap();
        assert_eq!(found.at, 7);
        let again = store.definition(&found.set, "x").unwrap();
        assert_eq!((again.hash(), &*again.rules[0].bytes), (set.hash(), &b"wasm"[..]));
        assert!(store.find("0000").unwrap_err().to_string().contains("weir rules history"));
    }

    #[test]
    fn a_component_that_was_tampered_with_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (store, set) = (store(folder.path(), 5), definition(b"wasm"));
        store.save(&set, &saved(&set, 1), &[]).unwrap();
        fs::write(store.component(&hex(&set.rules[0].digest)), b"other").unwrap();
        let found = store.find(&set.hash()).unwrap();
        assert!(store.definition(&found.set, "x").unwrap_err().to_string().contains("not what was written"));
    }

    #[test]
    fn the_history_is_bounded_and_keeps_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2);
        let sets: Vec<Definition> = (0..5).map(|index| definition(&[index])).collect();
        for (at, set) in sets.iter().enumerate() {
            store.save(set, &saved(set, at as i64), &[&sets[0].hash()]).unwrap();
        }
        let kept: Vec<i64> = store.history().iter().map(|saved| saved.at).collect();
        assert_eq!(kept, [4, 3, 0]);
    }

    #[test]
    fn decisions_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2);
        assert_eq!(store.decisions(), (None, BTreeSet::new()));
        store.set_pin(Some("cafe")).unwrap();
        let verdict = TakenBack { hash: "beef".into(), at: 1, reason: "bad".into(), evidence: vec![] };
        store.take_back(&verdict).unwrap();
        assert_eq!(store.decisions(), (Some("cafe".into()), BTreeSet::from(["beef".into()])));
        assert_eq!(store.taken_back("beef"), Some(verdict));
        store.set_pin(None).unwrap();
        store.pardon("beef");
        assert_eq!(store.decisions(), (None, BTreeSet::new()));
    }

    #[test]
    fn a_trial_is_kept_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2);
        let usual = Record { records: 500, rejected: 7, faults: 0 };
        let trial = OnTrial { before: "cafe".into(), usual };
        store.put_on_trial("beef", &trial).unwrap();
        assert_eq!((store.on_trial("beef"), store.on_trial("cafe")), (Some(trial), None));
        assert_eq!(store.decisions(), (None, BTreeSet::new()), "it is for no other process");
        store.end_trial("beef");
        assert_eq!(store.on_trial("beef"), None);
    }

    #[test]
    fn changes_name_what_is_different() {
        let describe = |set: &Definition| describe(set, &[&crate::pipeline::Manifest::default()]);
        let (a, mut b) = (definition(b"a"), definition(b"b"));
        b.rules[0].config.limits.memory = 1 << 20;
        let found: Vec<String> = changes(&describe(&a), &describe(&b)).into_iter().map(|change| change.what).collect();
        assert_eq!(found, ["component", "memory"]);
        assert_eq!(changes(&describe(&a), &describe(&a)), []);
    }
}
