//! `weir build`, run as a rule's author runs it. cargo is really started, so these are among the slower tests: the first one
//! compiles the dependencies of a rule, and finds them compiled the next time.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::program::built;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn weir_build(rule: &Path, out: &Path, target: &Path) -> Output {
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.arg("build").arg(rule).arg("--out").arg(out).env("CARGO_TARGET_DIR", target).output().unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a crate without dependencies, in a workspace of its own.
fn write_crate(folder: &Path, source: &str) {
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = "[package]\nname = \"a-rule\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), source).unwrap();
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        let names = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "dist").for_each(|name| copy(&from.join(&name), &to.join(&name)));
    } else {
        fs::copy(from, to).unwrap();
    }
}

#[test]
fn a_clone_in_another_place_gives_the_same_bytes() {
    let clone = tempfile::tempdir().unwrap();
    for part in ["Cargo.toml", "Cargo.lock", "host", "rules", "wit"] {
        copy(&Path::new(ROOT).join(part), &clone.path().join(part));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clone");
    let output = weir_build(&clone.path().join("rules/device-filter"), clone.path(), &target);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let same = fs::read(clone.path().join("device-filter.wasm")).unwrap() == fs::read(built("device-filter")).unwrap();
    assert!(same, "rules/dist/device-filter.wasm is another one: run `make rules`");
}

#[test]
fn a_crate_that_exports_no_rule_is_told_how_to() {
    let folder = tempfile::tempdir().unwrap();
    write_crate(folder.path(), "pub fn evaluate() {}");
    let complaint = complaint(&weir_build(folder.path(), &folder.path().join("dist"), &folder.path().join("target")));
    assert!(complaint.contains("a-rule is no rule: it exports nothing; add `weir_rule::export!(YourRule);`"), "{complaint}");
    assert_eq!(fs::read_dir(folder.path().join("dist")).unwrap().count(), 0);
}

#[test]
fn a_crate_that_does_not_compile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_crate(folder.path(), "pub fn evaluate() -> u32 {}");
    let complaint = complaint(&weir_build(folder.path(), &folder.path().join("dist"), &folder.path().join("target")));
    assert!(complaint.contains("mismatched types") && complaint.contains("failed to compile a-rule"), "{complaint}");
}

#[test]
fn a_folder_without_a_crate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = complaint(&weir_build(&folder.path().join("nowhere"), folder.path(), folder.path()));
    assert!(complaint.contains("failed to find a crate in") && complaint.contains("nowhere"), "{complaint}");
}
