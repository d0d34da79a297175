//! The walls of the house: who may name what, and that every file says what it is.

use std::fs;
use std::path::{Path, PathBuf};

/// The Rust sources of the project, with their text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["host/src", "host/crates", "host/benches", "rules", "tests"].map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.strip_prefix(&root).unwrap().display().to_string();
            if entry.is_dir() && !name.ends_with("target") {
                folders.push(entry);
            } else if name.ends_with(".rs") {
                found.push((name, fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// The lines of code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "these files don't begin with `//!`: {silent:?}");
}

/// A crate can name only what its manifest has, so the compiler keeps these walls once the manifests do.
#[test]
fn heavy_dependencies_stand_in_one_manifest_each() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = fs::read_dir(root.join("host/crates")).unwrap().map(|entry| entry.unwrap().path());
    let manifests: Vec<(String, String)> = crates
        .chain([root.join("host")])
        .map(|folder| {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let dependencies = manifest.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap().to_owned();
            (folder.file_name().unwrap().display().to_string(), dependencies)
        })
        .collect();
    for (dependency, room) in [("rdkafka", "kafka"), ("wasmtime", "wasm"), ("axum", "admin"), ("ureq", "host")] {
        let is_named = |line: &str| line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ']));
        let having = manifests.iter().filter(|(_, lines)| lines.lines().any(is_named)).map(|(name, _)| name.as_str());
        assert_eq!(having.collect::<Vec<_>>(), [room], "{dependency}");
    }
}

/// A rule has its say in reasons and details, so no decision may hang on their text: a `Cause` says what has happened.
#[test]
fn no_fault_is_told_by_its_text() {
    let named = ["host/crates/core/src/reserved.rs", "host/crates/core/src/pipeline/names.rs"];
    let is_ours = |name: &str| name.starts_with("host/") && !name.starts_with("host/benches") && !named.contains(&name);
    for (name, text) in sources().iter().filter(|(name, _)| is_ours(name)) {
        let work = text.split("#[cfg(test)]").next().unwrap_or_default();
        let offence = code(work).find(|line| line.contains("RULE_FAULT") || line.contains("\"rule_fault"));
        assert_eq!(offence, None, "{name} tells a fault by its reason; ask its `Cause`");
        let rooms = ["/pipeline/", "/engine/", "/control/", "/kafka/src/writer.rs", "/kafka/src/sink.rs", "/apply.rs"];
        let decides = rooms.iter().any(|room| name.contains(room));
        let compares = |line: &&str| ["==", "!=", "starts_with", "contains("].iter().any(|compare| line.contains(compare));
        let text = |line: &&str| [".reason", "detail"].iter().any(|text| line.contains(text));
        let offence = code(work).filter(|_| decides).filter(text).find(compares);
        assert_eq!(offence, None, "{name} compares what a rule may have written; ask its `Cause`");
    }
}

/// `make mutants` applies them. Here it is seen that they don't rot: what they replace is there, once, and so are their tests.
#[test]
fn every_mutant_applies_and_names_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let patches = fs::read_dir(root.join("tests/faults/mutants")).unwrap().map(|entry| entry.unwrap().path());
    let patches: Vec<PathBuf> = patches.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert!(patches.len() >= 3, "the mutants were not found");
    for patch in patches {
        let (name, text) = (patch.display(), fs::read_to_string(&patch).unwrap());
        let (head, diff) = text.split_once("\n--- a/").unwrap();
        for file in diff.split("\n--- a/") {
            let (path, hunks) = file.split_once('\n').unwrap();
            let source = fs::read_to_string(root.join(path)).unwrap();
            for hunk in hunks.split("\n@@ ").skip(1) {
                let lines = hunk.lines().skip(1).filter(|line| !line.starts_with('+'));
                let old: String = lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect();
                assert_eq!(source.matches(&old).count(), 1, "{name} does not apply to {path} any more: it expects\n{old}");
            }
        }
        let mut tests = head.lines().filter_map(|line| line.strip_prefix("caught-by: ")).peekable();
        assert!(tests.peek().is_some(), "{name} names no test that catches it");
        for (module, test) in tests.map(|test| test.split_once("::").unwrap()) {
            let tests = fs::read_to_string(root.join(format!("tests/faults/{module}.rs"))).unwrap();
            assert!(tests.contains(&format!("\nfn {test}")), "{name}: there is no test {module}::{test}…");
        }
    }
}

#[test]
fn no_test_is_switched_off() {
    let ignore = concat!("#[", "ignore");
    let off: Vec<String> = sources().into_iter().filter(|(_, text)| text.contains(ignore)).map(|(name, _)| name).collect();
    assert!(off.is_empty(), "these files switch tests off: {off:?}");
}
