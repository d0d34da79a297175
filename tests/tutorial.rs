//! The tutorial in `rules/sdk/README.md`, followed step by step with the program and the packaged SDK alone.
//!
//! The files and commands are taken from the page. Only the SDK beside the crate is not: it is the package that `cargo package`
//! makes, in the place where a clone would have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns the code blocks of the page in this language, in their order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Returns cargo's target folder: the same each time, so that dependencies are compiled once.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("tutorial")
}

fn ran(mut command: Command, what: &str) -> Output {
    let output = command.env("CARGO_TARGET_DIR", target()).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{what}: {out}\n{err}");
    output
}

/// Packs the SDK, and unpacks it as `to`.
fn unpack_sdk(to: &Path) {
    let mut package = Command::new(env!("CARGO"));
    package.current_dir(ROOT).args(["package", "--package", "weir-rule", "--allow-dirty", "--no-verify", "--quiet"]);
    ran(package, "cargo package");
    let crates = fs::read_dir(target().join("package")).unwrap().map(|entry| entry.unwrap().path());
    let packed = crates.filter(|path| path.extension().is_some_and(|end| end == "crate")).max().unwrap();
    fs::create_dir_all(to).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--strip-components", "1", "--file"]).arg(packed).arg("--directory").arg(to);
    ran(tar, "tar");
}

#[test]
fn the_tutorial_works_as_it_stands_with_the_packaged_sdk() {
    let folder = tempfile::tempdir().unwrap();
    unpack_sdk(&folder.path().join("weir/rules/sdk"));
    let page = fs::read_to_string(Path::new(ROOT).join("rules/sdk/README.md")).unwrap();
    let (tables, sources, commands) = (blocks(&page, "toml"), blocks(&page, "rust"), blocks(&page, "sh"));
    let [manifest, configuration] = &tables[..] else { panic!("{tables:#?}") };
    let rule = folder.path().join("country-filter");
    fs::create_dir_all(rule.join("src")).unwrap();
    fs::write(rule.join("Cargo.toml"), manifest).unwrap();
    fs::write(rule.join("weir.toml"), configuration).unwrap();
    // The same versions as in this workspace, which are on this machine already.
    fs::copy(Path::new(ROOT).join("Cargo.lock"), rule.join("Cargo.lock")).unwrap();
    let (source, tests) = sources[0].split_once("// In a file of its own").unwrap();
    let tests: String = tests.lines().skip(1).filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let tests = tests.replace("\nfn ", "\n#[test]\nfn ");
    fs::write(rule.join("src/lib.rs"), format!("{source}\n#[cfg(test)]\nmod tests {{\nuse super::*;\n{tests}}}\n")).unwrap();

    let mut shell = Command::new("sh");
    let path =
        format!("{}:{}", Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().display(), std::env::var("PATH").unwrap());
    shell.current_dir(&rule).env("PATH", path).args(["-euxc", &commands.join("\n")]);
    let output = ran(shell, "the commands of the tutorial");
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("2 passed") && out.contains("unwanted_country"), "{out}");
    assert_eq!(out.lines().last(), Some(r#"{"address":{"country":"FR"},"european":true}"#), "{out}");
}
