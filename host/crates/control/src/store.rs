//! The state folder: every set that went live or is about to go live, and the later decisions of operators and trials.
//!
//! ```text
//! components/SHA-256.wasm     the components, named by the digest of their bytes
//! sets/HASH.json              the description of a set, whether it has been live, and when it went live last
//! pin                         the hash of the set that an operator has pinned
//! taken-back/HASH.json        the verdict of a failed trial
//! on-trial/HASH.json          the trial of a set that has not passed it yet
//! ```
//!
//! Each file is put in place whole, so a crash leaves the old or the new file. Several processes of one host may share the
//! folder: a pin and a verdict are then for all of them. The loader decides what follows from the content of the folder.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::report::TakenBack;
use weir_engine::protocol::{LiveReason, OnTrial};
use weir_system::{files, folder};
use weir_wasm::definition::{Definition, RuleDefinition};
use weir_wasm::description::SetDescription;
use weir_wasm::hex;
use weir_wasm::rule::Rule;

/// The age at which a component is removed that belongs to no set. A younger one may belong to a set that another process is
/// about to write.
const SETTLED: Duration = Duration::from_secs(3_600);
/// The subfolders of the state folder.
const PARTS: [&str; 4] = ["components", "sets", "taken-back", "on-trial"];
/// The fewest digits of a hash by which an operator may name a set.
const FEWEST_DIGITS: usize = 4;

/// The state folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

/// A set that went live, or is about to go live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub set: SetDescription,
    /// The time at which the set went live last, in milliseconds since the epoch.
    pub at: i64,
    pub why: LiveReason,
    /// True if the set has been live. A process may end before its set goes live.
    #[serde(default = "has_been_live")]
    pub live: bool,
}

/// Returns the value for a file of an older version, which did not have this field.
fn has_been_live() -> bool {
    true
}

/// The decisions of operators and trials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// The set that an operator has pinned.
    pub pin: Option<String>,
    /// The sets that were taken back by their trials.
    pub taken_back: BTreeSet<String>,
}

impl Store {
    /// Opens the folder `state`, in which `history` sets are kept, and creates it if it is missing. The default is a folder of
    /// this user with a name derived from `group`.
    ///
    /// # Errors
    /// If there is no such folder, or it can't be created or written to. The message names the folder and the key.
    pub fn open(state: Option<&Path>, history: usize, group: &str) -> anyhow::Result<Store> {
        let folder = match state {
            Some(folder) => folder.to_owned(),
            None => folder::state().map(|state| state.join(folder_name(group))).context(
                "failed to find a place for the history of rules: neither XDG_STATE_HOME nor HOME is an absolute path; set \
                 `rules.state` to a folder that can be written",
            )?,
        };
        let store = Store { folder, keep: history };
        store.make().with_context(|| {
            format!(
                "failed to keep the history of rules in {}; set `rules.state` to a folder that can be written",
                store.folder.display()
            )
        })?;
        PARTS.iter().chain([&""]).for_each(|part| files::sweep(&store.folder.join(part)));
        Ok(store)
    }

    /// Creates the missing parts of the folder, closes the folder to other users, and checks that it can be written to.
    fn make(&self) -> io::Result<()> {
        folder::make_closed(&self.folder)?;
        PARTS.iter().try_for_each(|part| folder::make_closed(&self.folder.join(part)))?;
        let probe = self.folder.join("probe");
        files::replace_private(&probe, b"")?;
        // Another process that starts at the same time may have removed the file already.
        remove(&probe)
    }

    /// Keeps a set that goes live. Removes the oldest sets beyond the bound, but none of `needed`.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn save(&self, definition: &Definition, saved: &Saved, needed: &[&str]) -> anyhow::Result<()> {
        for rule in &definition.rules {
            let file = self.component(&hex(&rule.digest));
            if !file.exists() {
                files::replace_private(&file, &rule.bytes).with_context(|| format!("failed to write {}", file.display()))?;
            }
        }
        self.write(&self.set(&saved.set.hash), saved)?;
        self.forget(needed);
        Ok(())
    }

    /// Returns the file about a set, by the hash of the set.
    pub fn saved(&self, hash: &str) -> Option<Saved> {
        self.read(&self.set(hash)).ok().flatten()
    }

    /// Undoes `save` for a set that has not gone live after all. `earlier` is the content of the same file before `save`, if the
    /// file existed.
    pub fn unsave(&self, hash: &str, earlier: Option<&Saved>) {
        // An error is ignored: the same file could be written a moment ago, and the file that stays does no harm.
        let _ = match earlier {
            Some(saved) => self.write(&self.set(hash), saved),
            None => fs::remove_file(self.set(hash)).map_err(Into::into),
        };
    }

    /// Returns the sets that went live, the last one first. Sets that can't be read are left out.
    pub fn history(&self) -> Vec<Saved> {
        let mut history = self.kept();
        history.retain(|saved| saved.live);
        history
    }

    /// Returns the sets that went live or were about to go live, the last one first.
    fn kept(&self) -> Vec<Saved> {
        let saved = |hash: &String| self.read(&self.set(hash)).ok()?.filter(|saved: &Saved| saved.set.hash == *hash);
        let mut kept: Vec<Saved> = self.names("sets").iter().filter_map(saved).collect();
        kept.sort_by_key(|saved| std::cmp::Reverse(saved.at));
        kept
    }

    /// Returns whether a set has been live, as far back as the history goes.
    pub fn knows(&self, hash: &str) -> bool {
        self.saved(hash).is_some_and(|saved| saved.live)
    }

    /// Returns the set whose hash begins with `hash`.
    ///
    /// # Errors
    /// If there is no such set, or more than one.
    pub fn find(&self, hash: &str) -> anyhow::Result<Saved> {
        ensure!(hash.len() >= FEWEST_DIGITS, "give at least {FEWEST_DIGITS} digits of a hash; `weir rules history` lists them");
        let mut found = self.history();
        found.retain(|saved| saved.set.hash.starts_with(hash));
        ensure!(found.len() < 2, "more than one set begins with {hash:?}; give more of its hash");
        found.pop().with_context(|| format!("no set that went live begins with {hash:?}; `weir rules history` lists them"))
    }

    /// Returns the definition of a set, from the kept components.
    ///
    /// # Errors
    /// If a component is missing, or if a file is not what was written.
    pub fn definition(&self, set: &SetDescription, counted: &str) -> anyhow::Result<Definition> {
        let rules = set.rules.iter().map(|rule| {
            let file = self.component(&rule.digest);
            let bytes = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
            let config = Rule::from_settings(&rule.name, file.clone(), &rule.settings, rule.config.clone())?;
            let defined = RuleDefinition::new(config, bytes);
            ensure!(hex(&defined.digest) == rule.digest, "{} is not what was written there; remove it", file.display());
            Ok(defined)
        });
        let definition = Definition { rules: rules.collect::<anyhow::Result<_>>()?, counted: counted.to_owned() };
        let file = self.set(&set.hash);
        ensure!(definition.hash() == set.hash, "{} is not what was written there; remove it", file.display());
        Ok(definition)
    }

    /// Returns the hash of the set that an operator has pinned, if there is one.
    ///
    /// # Errors
    /// If the pin can't be read, so that it is not known whether a set is pinned.
    pub fn pin(&self) -> anyhow::Result<Option<String>> {
        let file = self.folder.join("pin");
        match fs::read(&file) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|hash| !hash.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| {
                format!("failed to read whether a set is pinned from {}; make it readable, or remove it", file.display())
            }),
        }
    }

    /// Pins a set, or removes the pin, so that the folder is followed again.
    ///
    /// # Errors
    /// If the pin can't be written or removed.
    pub fn set_pin(&self, hash: Option<&str>) -> anyhow::Result<()> {
        let pin = self.folder.join("pin");
        match hash {
            Some(hash) => {
                files::replace_private(&pin, hash.as_bytes()).with_context(|| format!("failed to write {}", pin.display()))
            }
            None => remove(&pin).with_context(|| format!("failed to remove the pin {}", pin.display())),
        }
    }

    /// Returns the verdict of the failed trial of a set, if there is one. A verdict that can't be read counts as a verdict, too.
    pub fn taken_back(&self, hash: &str) -> Option<TakenBack> {
        let unreadable = |error: anyhow::Error| {
            let reason = format!("why it was can't be read any more: {error:#}");
            Some(TakenBack { hash: hash.to_owned(), at: 0, reason, evidence: Vec::new(), back: None })
        };
        self.read(&self.verdict(hash)).unwrap_or_else(unreadable)
    }

    /// Persists the verdict of a failed trial.
    ///
    /// # Errors
    /// If the verdict can't be written.
    pub fn take_back(&self, verdict: &TakenBack) -> anyhow::Result<()> {
        self.write(&self.verdict(&verdict.hash), verdict)
    }

    /// Removes the verdict on a set, so that the set may be tried again.
    pub fn clear_verdict(&self, hash: &str) {
        // An error is ignored: mostly there is no verdict to remove.
        let _ = fs::remove_file(self.verdict(hash));
    }

    /// Returns the trial of a set that has not passed it yet, in this process or in an earlier one. A trial that can't be read
    /// counts as a trial, too, without a known set before and without a baseline.
    pub fn on_trial(&self, hash: &str) -> Option<OnTrial> {
        self.read(&self.mark(hash)).unwrap_or_else(|_| Some(OnTrial::default()))
    }

    /// Persists the trial of a set, so that a restart does not end the trial.
    ///
    /// # Errors
    /// If the trial can't be written.
    pub fn put_on_trial(&self, hash: &str, trial: &OnTrial) -> anyhow::Result<()> {
        self.write(&self.mark(hash), trial)
    }

    /// Removes the trial of a set: the trial is over.
    pub fn end_trial(&self, hash: &str) {
        // An error is ignored: mostly there is no trial to remove.
        let _ = fs::remove_file(self.mark(hash));
    }

    /// Returns the decisions of operators and trials. They change whenever one is made, in this process or in another one.
    ///
    /// # Errors
    /// If the pin can't be read.
    pub fn decisions(&self) -> anyhow::Result<Decisions> {
        Ok(Decisions { pin: self.pin()?, taken_back: self.names("taken-back") })
    }

    /// Removes the oldest sets beyond the bound, and the components that belong to no set.
    fn forget(&self, needed: &[&str]) {
        let all = self.kept();
        let (kept, old): (Vec<(usize, &Saved)>, Vec<_>) =
            all.iter().enumerate().partition(|(age, saved)| *age < self.keep || needed.contains(&saved.set.hash.as_str()));
        for (_, saved) in old {
            let _ = fs::remove_file(self.set(&saved.set.hash)); // A failure is harmless: the next set tries it again.
            self.clear_verdict(&saved.set.hash);
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

    /// Returns the names of the files in a part of the folder, without their extensions.
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

    /// Returns the content of a file. Returns None if there is no such file.
    fn read<T: DeserializeOwned>(&self, file: &Path) -> anyhow::Result<Option<T>> {
        let read = match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(anyhow::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        };
        read.inspect_err(|error| tracing::warn!(file = %file.display(), "a file of the history can't be read: {error:#}"))
    }

    fn write<T: Serialize>(&self, file: &Path, value: &T) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(value)?;
        files::replace_private(file, &text).with_context(|| format!("failed to write {}", file.display()))
    }
}

/// Removes a file that may have been removed already.
fn remove(file: &Path) -> io::Result<()> {
    fs::remove_file(file).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Returns the name of the folder for a group. Characters that are not plain are replaced; then some digits of the group's hash
/// distinguish the name from similar ones.
fn folder_name(group: &str) -> String {
    let plain = |next: char| next.is_ascii_alphanumeric() || matches!(next, '-' | '_');
    let name: String = group.chars().map(|next| if plain(next) { next } else { '_' }).collect();
    if name == group { name } else { format!("{name}-{}", hex(&Sha256::digest(group)[..4])) }
}

#[cfg(test)]
mod tests {
    use weir_core::pipeline::Manifest;
    use weir_engine::trial::TrackRecord;
    use weir_wasm::description::changes;

    use super::*;

    fn store(folder: &Path, history: usize) -> Store {
        Store::open(Some(folder), history, "group").unwrap()
    }

    fn definition(bytes: &[u8]) -> Definition {
        Definition { rules: vec![RuleDefinition::new(Rule::with_defaults("a"), bytes)], counted: "x".into() }
    }

    fn saved(definition: &Definition, at: i64) -> Saved {
        Saved { set: SetDescription::of(definition, &[Manifest::default()]), at, why: LiveReason::Folder, live: true }
    }

    #[test]
    fn what_went_live_is_found_again_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut set) = (store(folder.path(), 5), definition(b"wasm"));
        set.rules[0].config.config = serde_json::json!({"a": 1});
        set.rules[0].config.on_fault = weir_core::pipeline::OnFault::Pass;
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
    fn a_set_that_was_kept_and_never_ran_is_not_in_the_history_but_counts_against_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2);
        let sets = [0, 1, 2].map(|index| definition(&[index]));
        for (at, set) in sets.iter().enumerate() {
            store.save(set, &Saved { live: at != 1, ..saved(set, at as i64) }, &[]).unwrap();
        }
        assert_eq!(store.history().iter().map(|saved| saved.at).collect::<Vec<_>>(), [2]);
        assert_eq!(sets.each_ref().map(|set| store.knows(&set.hash())), [false, false, true]);
    }

    #[test]
    fn a_set_that_an_earlier_version_has_kept_has_been_live() {
        let folder = tempfile::tempdir().unwrap();
        let (store, set) = (store(folder.path(), 2), definition(b"wasm"));
        store.save(&set, &saved(&set, 1), &[]).unwrap();
        let file = store.set(&set.hash());
        let mut kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        kept.as_object_mut().unwrap().remove("live").unwrap();
        fs::write(&file, kept.to_string()).unwrap();
        assert!(store.knows(&set.hash()));
    }

    #[test]
    fn decisions_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2);
        assert_eq!(store.decisions().unwrap(), Decisions::default());
        store.set_pin(Some("cafe")).unwrap();
        let verdict = TakenBack { hash: "beef".into(), at: 1, reason: "bad".into(), evidence: vec![], back: None };
        store.take_back(&verdict).unwrap();
        let decided = Decisions { pin: Some("cafe".into()), taken_back: ["beef".into()].into() };
        assert_eq!(store.decisions().unwrap(), decided);
        assert_eq!(store.taken_back("beef"), Some(verdict));
        store.set_pin(None).unwrap();
        store.set_pin(None).unwrap();
        store.clear_verdict("beef");
        assert_eq!(store.decisions().unwrap(), Decisions::default());
    }

    #[test]
    fn a_trial_is_kept_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2);
        let baseline = TrackRecord { records: 500, rejected: 7, faults: 0 };
        let trial = OnTrial { before: "cafe".into(), baseline };
        store.put_on_trial("beef", &trial).unwrap();
        assert_eq!((store.on_trial("beef"), store.on_trial("cafe")), (Some(trial), None));
        assert_eq!(store.decisions().unwrap(), Decisions::default(), "it is for no other process");
        store.end_trial("beef");
        assert_eq!(store.on_trial("beef"), None);
    }

    #[test]
    fn what_can_not_be_read_is_not_taken_for_missing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2);
        for (file, damage) in [("taken-back/beef.json", &b""[..]), ("on-trial/beef.json", b"{"), ("pin", b"\xff\xfe")] {
            fs::write(folder.path().join(file), damage).unwrap();
        }
        assert!(store.taken_back("beef").unwrap().reason.contains("can't be read"));
        assert_eq!(store.on_trial("beef"), Some(OnTrial::default()));
        assert!(store.pin().unwrap().is_some(), "a pin that can't be used");
        fs::remove_file(folder.path().join("pin")).unwrap();
        fs::create_dir(folder.path().join("pin")).unwrap();
        let error = store.pin().unwrap_err().to_string();
        assert!(error.contains("pin") && error.contains("remove it"), "{error}");
        assert!(store.decisions().is_err());
    }

    #[test]
    fn a_set_that_is_not_what_its_name_says_is_not_run_under_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, set) = (store(folder.path(), 5), definition(b"wasm"));
        store.save(&set, &saved(&set, 1), &[]).unwrap();
        let mut found = store.find(&set.hash()).unwrap();
        found.set.rules[0].settings.insert("on_reject".into(), "drop".into());
        store.write(&store.set(&set.hash()), &found).unwrap();
        let error = store.definition(&found.set, "x").unwrap_err().to_string();
        assert!(error.contains(&set.hash()) && error.contains("not what was written"), "{error}");
        fs::rename(store.set(&set.hash()), store.set("cafecafecafecafe")).unwrap();
        assert_eq!(store.history(), [], "nor under another one's");
    }

    #[test]
    fn a_number_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut set) = (store(folder.path(), 5), definition(b"wasm"));
        // Numbers that an imprecise parser reads as their neighbours.
        set.rules[0].config.config = serde_json::json!({"bound": 1.0715086071862673e301, "other": 0.11234567890000001});
        store.save(&set, &saved(&set, 1), &[]).unwrap();
        let found = store.find(&set.hash()).unwrap();
        assert_eq!(store.definition(&found.set, "x").unwrap().hash(), set.hash());
    }

    #[test]
    fn processes_that_start_together_do_not_stand_in_each_others_way() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| drop(store(folder.path(), 2))));
            }
        });
    }

    #[test]
    fn others_cannot_look_into_the_state_folder() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir_all(state.join("sets")).unwrap();
        [&state, &state.join("sets")]
            .into_iter()
            .for_each(|open| fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap());
        let (store, set) = (store(&state, 2), definition(b"wasm"));
        store.save(&set, &saved(&set, 1), &[]).unwrap();
        store.set_pin(Some("cafe")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&state), mode(&state.join("sets")), mode(&state.join("components"))], [0o700; 3]);
        let files = [state.join("pin"), store.set(&set.hash()), store.component(&hex(&set.rules[0].digest))];
        assert_eq!(files.map(|file| mode(&file)), [0o600; 3]);
    }

    #[test]
    fn groups_share_no_folder() {
        assert_eq!((folder_name("weir-demo").as_str(), folder_name("a_b").as_str()), ("weir-demo", "a_b"));
        let names: BTreeSet<String> = ["a_b", "a.b", "a/b", "..", ".", "a b"].map(folder_name).into();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.iter().all(|name| !name.contains(['.', '/', ' '])), "{names:?}");
    }

    #[test]
    fn changes_name_what_is_different() {
        let describe = |set: &Definition| SetDescription::of(set, &[Manifest::default()]);
        let (a, mut b) = (definition(b"a"), definition(b"b"));
        b.rules[0].config.limits.memory = 1 << 20;
        let found: Vec<String> = changes(&describe(&a), &describe(&b)).into_iter().map(|change| change.what).collect();
        assert_eq!(found, ["component", "memory"]);
        assert_eq!(changes(&describe(&a), &describe(&a)), []);
    }
}
