//! `weir build`, run as the author of a rule runs it. It starts the real cargo, so these tests are slow: the first one compiles
//! the dependencies of a rule, the next ones find them compiled.

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

/// Writes a crate in its own workspace, with `dependencies` as lines of its manifest.
fn write_crate(folder: &Path, dependencies: &str, source: &str) {
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = "[package]\nname = \"a-rule\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), format!("{manifest}{dependencies}")).unwrap();
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

/// Returns the dependency on the SDK as lines of a manifest.
fn sdk() -> String {
    format!("[dependencies]\nweir-rule = {{ path = \"{ROOT}/rules/sdk\" }}\n")
}

#[test]
fn a_crate_without_the_sdk_is_told_so_before_it_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    write_crate(folder.path(), "", "this does not compile");
    let complaint = complaint(&weir_build(folder.path(), &folder.path().join("dist"), &folder.path().join("target")));
    assert_eq!(complaint, "error: a-rule is no rule: it does not depend on `weir-rule`; add that to its Cargo.toml\n");
}

/// Returns the source of a rule that does `action` for each row.
fn rule_that(action: &str) -> String {
    format!(
        "use weir_rule::{{About, Manifest, NoConfig, Row, Rule, Verdict}};
        pub struct A;
        impl Rule for A {{
            const ABOUT: About = About::new(\"a-rule\", \"0.1.0\", \"a rule of the tests\");
            type Config = NoConfig;
            fn configure(_: NoConfig, manifest: &mut Manifest) -> Result<A, String> {{ manifest.reads(\"x\"); Ok(A) }}
            fn evaluate(&self, row: &mut Row<'_>) -> Verdict {{ {action} Verdict::Keep }}
        }}
        weir_rule::export!(A);"
    )
}

/// Returns the output of `weir build` and that of `weir check` for a rule with this source. Asserts that the build succeeds.
fn built_and_checked(source: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    write_crate(folder.path(), &sdk(), source);
    fs::copy(Path::new(ROOT).join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    let built = weir_build(folder.path(), folder.path(), &Path::new(env!("CARGO_TARGET_TMPDIR")).join("vain"));
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(built.status.success(), "{source}: {}", said(&built));
    let mut check = Command::new(env!("CARGO_BIN_EXE_weir"));
    let checked = check.current_dir(folder.path()).args(["check", "a-rule.wasm"]).output().unwrap();
    (said(&built), said(&checked))
}

#[test]
fn calls_that_a_rule_makes_in_vain_are_named_with_the_way_out() {
    let cases = [
        ("println!(\"{:?}\", row.text(\"x\"));", "println!", "use `weir_rule::log`"),
        ("if std::time::SystemTime::now() == std::time::UNIX_EPOCH { panic!() }", "SystemTime::now", "`row.processed_at()`"),
        ("if std::fs::read(\"/x\").unwrap().is_empty() { panic!() }", "files", "`[rule.NAME.config]`"),
        ("if row.text(\"x\") == Some(&std::env::var(\"X\").unwrap()) { panic!() }", "env::var", "`[rule.NAME.config]`"),
        ("std::thread::spawn(|| ());", "thread", "no threads"),
    ];
    for (action, call, remedy) in cases {
        let (built, checked) = built_and_checked(&rule_that(action));
        assert!(built.contains("warning: a-rule: it seems to call"), "{action}: {built}");
        assert!(built.contains(call) && built.contains(remedy), "{action}: {built}");
        assert!(checked.contains("a-rule.wasm: warning: ") && checked.contains(remedy), "{action}: {checked}");
        if call == "SystemTime::now" {
            assert!(checked.contains("refused") && checked.contains("called in "), "{checked}");
        }
    }
}

#[test]
fn calls_that_trap_in_every_rule_are_all_named_and_a_name_of_the_rules_own_is_not() {
    let action = "match row.text(\"x\").unwrap_or_default().len() {
            0 => std::thread::sleep(std::time::Duration::ZERO),
            1 => drop(std::env::vars()),
            2 => drop(std::env::temp_dir()),
            3 if std::process::id() == 7 => (),
            4 => {
                let (lock, bell) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
                drop(bell.wait(lock.lock().unwrap()));
            }
            5 => weir_rule::log::debug(format!(\"{:?}\", Seen::NotPresent)),
            _ => (),
        }";
    let source = format!("#[derive(Debug)] enum Seen {{ NotPresent }}\n{}", rule_that(action));
    let (built, checked) = built_and_checked(&source);
    for call in ["thread::sleep", "env::vars", "env::temp_dir", "process::id", "Condvar::wait"] {
        assert!(built.contains(&format!("warning: a-rule: it seems to call {call}: a rule ")), "{call}: {built}");
    }
    assert!(!built.contains("env::var:"), "{built}");
    let words = ["refused", "can't sleep, at ", ": a rule can't wait"];
    assert!(words.iter().all(|words| checked.contains(words)), "{checked}");
}

#[test]
fn a_reason_that_a_component_has_not_declared_is_reported_with_the_line_of_the_author() {
    let (_, checked) = built_and_checked(&rule_that("if row.index() == 0 { return Verdict::reject(\"typo\"); }"));
    let line = 1 + rule_that("").lines().position(|line| line.contains("fn evaluate")).unwrap();
    assert!(checked.contains("`typo` is not declared") && checked.contains(&format!("src/lib.rs:{line}:")), "{checked}");
    assert!(!checked.contains("verdict.rs"), "{checked}");
}

#[test]
fn a_crate_that_exports_no_rule_is_told_how_to() {
    let folder = tempfile::tempdir().unwrap();
    write_crate(folder.path(), &sdk(), "pub fn evaluate() {}");
    let complaint = complaint(&weir_build(folder.path(), &folder.path().join("dist"), &folder.path().join("target")));
    assert!(complaint.contains("a-rule is no rule: it exports nothing; add `weir_rule::export!(YourRule);`"), "{complaint}");
    assert_eq!(fs::read_dir(folder.path().join("dist")).unwrap().count(), 0);
}

#[test]
fn a_crate_that_does_not_compile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_crate(folder.path(), &sdk(), "pub fn evaluate() -> u32 {}");
    let complaint = complaint(&weir_build(folder.path(), &folder.path().join("dist"), &folder.path().join("target")));
    assert!(complaint.contains("mismatched types") && complaint.contains("failed to compile a-rule"), "{complaint}");
}

#[test]
fn a_dependency_that_wants_randomness_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    write_crate(
        folder.path(),
        &(sdk() + "getrandom = \"0.4\"\n"),
        "pub fn evaluate() { getrandom::fill(&mut [0; 1]).unwrap(); }",
    );
    fs::copy(Path::new(ROOT).join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vain");
    let complaint = complaint(&weir_build(folder.path(), &folder.path().join("dist"), &target));
    let named =
        "failed to compile a-rule; a rule has no randomness: `cargo tree --target wasm32-unknown-unknown --invert getrandom`";
    assert!(complaint.contains(named) && complaint.contains("do without or set default-features = false"), "{complaint}");
    assert!(!complaint.contains("JavaScript"), "{complaint}");
}

#[test]
fn a_folder_without_a_crate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = complaint(&weir_build(&folder.path().join("nowhere"), folder.path(), folder.path()));
    assert!(complaint.contains("failed to find a crate in") && complaint.contains("nowhere"), "{complaint}");
}
