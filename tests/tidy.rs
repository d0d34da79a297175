//! The walls of the house: who may name what, and that every file says what it is.

use std::fs;
use std::path::{Path, PathBuf};

/// The Rust sources of the project, with their text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["host/src", "host/benches", "rules", "tests"].map(|folder| root.join(folder)).to_vec();
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

#[test]
fn heavy_dependencies_stay_in_their_rooms() {
    let rooms = [
        ("rdkafka", "host/src/kafka/"),
        ("wasmtime::", "host/src/wasm/"),
        ("axum::", "host/src/admin/"),
        ("ureq", "host/src/rules/"),
    ];
    for (word, room) in rooms {
        for (name, text) in sources().iter().filter(|(name, _)| name.starts_with("host/src") && !name.starts_with(room)) {
            let offence = code(text).find(|line| line.contains(word) && !line.contains(&format!("\"{word}")));
            assert_eq!(offence, None, "{name} names {word}, which belongs to {room}");
        }
    }
}

#[test]
fn the_core_is_pure() {
    let core = ["host/src/pipeline/", "host/src/json/", "host/src/record.rs", "host/src/column.rs", "host/src/counts.rs"];
    for (name, text) in sources().iter().filter(|(name, _)| core.iter().any(|core| name.starts_with(core))) {
        for word in ["Instant", "SystemTime", "Utc::now", "tokio", "rdkafka", "wasmtime", "std::fs", "std::net", "std::env"] {
            let offence = code(text).find(|line| line.contains(word));
            assert_eq!(offence, None, "{name} names {word}, and the core is pure");
        }
    }
}

#[test]
fn no_test_is_switched_off() {
    let ignore = concat!("#[", "ignore");
    let off: Vec<String> = sources().into_iter().filter(|(_, text)| text.contains(ignore)).map(|(name, _)| name).collect();
    assert!(off.is_empty(), "these files switch tests off: {off:?}");
}
