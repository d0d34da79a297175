//! The command line as an operator uses it: transcripts in `tests/cli/*.txt` are replayed, and the output must be the same.
//!
//! A transcript is plain text. `$` begins a command, which bash runs; lines with `<` below it are its standard input. The output
//! follows: `>` standard output, `!` standard error, `=` an exit code other than 0. All other lines are prose. The commands of a
//! transcript share a folder that looks like a checkout. After an intended change, renew all transcripts with `RENEW=1 cargo test
//! --release --package weir cli::`, and read the difference.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::guest::{Guest, TRAP_IN_EARNEST};
use crate::oracle::{self, Rejected};
use crate::program::{checkout, command};

/// The folder of the transcripts.
const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cli");
/// The mark for output that does not end with a line feed.
const UNFINISHED: char = '␄';

/// Returns the visible symbol of a control character; other characters unchanged.
fn visible(character: char) -> char {
    let code = u32::from(character);
    if code < 0x20 { char::from_u32(0x2400 + code).unwrap() } else { character }
}

/// Runs `line` in `folder` with bash; a pipe fails if any part of it does.
fn shell(line: &str, input: Option<&str>, folder: &Path) -> Output {
    let mut bash = command("bash", folder);
    bash.args(["-o", "pipefail", "-c", line]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = bash.stdin(input.map_or(Stdio::null(), |_| Stdio::piped())).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // The command may end without reading its input.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    }
    child.wait_with_output().unwrap()
}

/// Returns `bytes` as lines of a transcript. Values that differ from run to run are replaced by names.
fn shown(mark: char, bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push(UNFINISHED);
    }
    let line =
        |line: &str| format!("{mark} {}", steady(line).chars().map(visible).collect::<String>()).trim_end().to_owned() + "\n";
    // Not `lines`, which would swallow a carriage return.
    text.split_terminator('\n').map(line).collect()
}

/// Returns `line` with times, hashes and sizes replaced by their names.
fn steady(line: &str) -> String {
    let mut steady: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let bare = word.trim_end_matches(',');
        let name = match steady.last().map(String::as_str).unwrap_or_default() {
            "in" if is_duration(bare) => "TIME",
            "set" | "SHA-256" if bare.len() >= 16 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) => "HASH",
            _ if line.starts_with("  bytes ") && bare.parse::<u64>().is_ok() => "SIZE",
            _ if bare.starts_with("seconds=") => "seconds=TIME",
            _ if steady.is_empty() && is_instant(bare) => "TIME",
            _ => bare,
        };
        steady.push(name.to_owned() + &word[bare.len()..]);
    }
    steady.join(" ")
}

/// Returns whether `word` is a duration like `9.4ms`.
fn is_duration(word: &str) -> bool {
    let number = word.trim_end_matches(|character: char| !character.is_ascii_digit());
    number.parse::<f64>().is_ok() && ["ns", "µs", "ms", "s"].contains(&&word[number.len()..])
}

/// Returns whether `word` is a time like `2024-01-31T12:00:00.123Z`.
fn is_instant(word: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(word).is_ok()
}

/// Runs the commands of `transcript`. Returns the transcript with their actual output.
fn replay(transcript: &str) -> String {
    let folder = checkout();
    let mut replayed = String::new();
    let mut lines = transcript.lines().filter(|line| !line.starts_with(['>', '!', '='])).peekable();
    while let Some(line) = lines.next() {
        replayed += &format!("{line}\n");
        let Some(line) = line.strip_prefix("$ ") else { continue };
        let mut input = None;
        while let Some(line) = lines.next_if(|line| line.starts_with('<')) {
            replayed += &format!("{line}\n");
            *input.get_or_insert_with(String::new) += &format!("{}\n", line[1..].trim_start());
        }
        let output = shell(line, input.as_deref(), folder.path());
        replayed += &(shown('>', &output.stdout) + &shown('!', &output.stderr));
        match output.status.code() {
            Some(0) => {}
            Some(code) => replayed += &format!("= {code}\n"),
            None => panic!("`{line}` was ended by {}", output.status),
        }
    }
    replayed
}

fn transcript(name: &str) -> PathBuf {
    Path::new(TRANSCRIPTS).join(name).with_extension("txt")
}

/// Replays a transcript, and compares the output or, with `RENEW`, renews the file.
fn check(name: &str) {
    let file = transcript(name);
    let expected = fs::read_to_string(&file).unwrap();
    let replayed = replay(&expected);
    if std::env::var_os("RENEW").is_some() {
        fs::write(file, replayed).unwrap();
    } else if expected != replayed {
        panic!("tests/cli/{name}.txt comes out otherwise:\n{}", difference(&expected, &replayed));
    }
}

/// Returns the first line that differs, and the command that it belongs to.
fn difference(expected: &str, replayed: &str) -> String {
    let (mut expected, mut replayed) = (expected.lines(), replayed.lines());
    let mut command = "";
    loop {
        match (expected.next(), replayed.next()) {
            (Some(line), Some(same)) if line == same => command = if line.starts_with('$') { line } else { command },
            (line, other) => return format!("{command}\n- {}\n+ {}", line.unwrap_or_default(), other.unwrap_or_default()),
        }
    }
}

macro_rules! transcripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_transcript_is_replayed() {
            let mut found: Vec<String> = fs::read_dir(TRANSCRIPTS).unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

transcripts! { apply checking configuration files help operating policies rules simulating usage verifying }

/// Returns the lines of `bytes`.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines[..lines.len() - 1].to_vec()
}

#[test]
fn what_apply_says_is_what_a_plain_recomputation_says() {
    let folder = checkout();
    let run = |line: &str| {
        let output = shell(line, None, folder.path());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run("weir simulate --to-stdout --rate 0 --count 5000 --bad-share 0.5 --seed 7 > logins");
    let outputs = run("weir apply --processed-at 1767225600000 --input logins --rejected rejected --counts counts");

    let (mut passed, mut rejected, mut counts) = (Vec::new(), Vec::new(), BTreeMap::<String, u64>::new());
    let logins = fs::read(folder.path().join("logins")).unwrap();
    for (index, login) in lines(&logins).into_iter().enumerate() {
        match oracle::expected(Some(login)) {
            Ok(login_passed) => {
                passed.push(oracle::output(login, &login_passed, 1_767_225_600_000));
                *counts.entry(login_passed.device_type).or_default() += 1;
            }
            Err(reason) => rejected.push((index + 1, reason, login.to_vec())),
        }
    }
    assert!(passed.len() > 2_000 && rejected.len() > 2_000, "{} passed, {} rejected", passed.len(), rejected.len());
    let differing = lines(&outputs).iter().zip(&passed).position(|(output, expected)| output != expected);
    assert_eq!((differing, lines(&outputs).len()), (None, passed.len()));
    let found: Vec<_> = lines(&fs::read(folder.path().join("rejected")).unwrap()).into_iter().map(rejection).collect();
    for (found, expected) in found.iter().zip(&rejected) {
        let (line, (rule, reason), value) = expected;
        let value_text = String::from_utf8_lossy(value);
        assert_eq!(*found, (*line, (rule.to_string(), reason.to_string()), value.clone()), "{value_text}");
    }
    assert_eq!(found.len(), rejected.len());
    let written: Value = serde_json::from_slice(&fs::read(folder.path().join("counts")).unwrap()).unwrap();
    assert_eq!(written, serde_json::json!({ "device_type_counts": counts }));
    let reasons: std::collections::BTreeSet<Rejected> = rejected.iter().map(|(_, reason, _)| *reason).collect();
    assert!(reasons.len() >= 10, "the simulator has too few kinds for this test to say much: {reasons:?}");
}

/// Parses a line of `--rejected` into (line, (rule, reason), value).
fn rejection(line: &[u8]) -> (usize, (String, String), Vec<u8>) {
    use base64::Engine;
    let line: Value = serde_json::from_slice(line).unwrap();
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let value = match text("value_base64") {
        Some(value) => base64::prelude::BASE64_STANDARD.decode(value).unwrap(),
        None => text("value").unwrap().into_bytes(),
    };
    (line["line"].as_u64().unwrap() as usize, (text("rule").unwrap(), text("reason").unwrap()), value)
}

#[test]
fn the_first_example_of_the_readme_runs_as_it_stands_and_at_once() {
    const GOAL: Duration = Duration::from_secs(5);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let example = readme.lines().find(|line| line.starts_with("weir simulate --to-stdout")).expect("the README has the example");
    let folder = checkout();
    // This file sets a rate, which applies to Kafka only.
    fs::copy(root.join("weir.toml"), folder.path().join("weir.toml")).unwrap();
    let begun = Instant::now();
    let output = shell(example, None, folder.path());
    assert!(output.status.success() && begun.elapsed() < GOAL, "it took {:?}: {output:?}", begun.elapsed());
    let written = |name: &str| lines(&fs::read(folder.path().join(name)).unwrap()).len();
    let (passed, rejected) = (written("outputs.jsonl"), written("rejected.jsonl"));
    assert!(passed > 800 && rejected > 50 && passed + rejected <= 1_000, "{passed} passed, {rejected} rejected");
}

#[test]
fn a_rule_that_fails_on_a_line_is_a_failure_on_request() {
    let folder = checkout();
    fs::write(folder.path().join("guest.wasm"), Guest::new(TRAP_IN_EARNEST).component()).unwrap();
    let apply = |policy: &str, option: &str| {
        let variables = "WEIR_RULES_PIPELINE=guest WEIR_RULE_GUEST_FILE=guest.wasm WEIR_COUNTS_MEMBER=x";
        let line = format!("{variables} WEIR_RULE_GUEST_ON_FAULT={policy} weir apply {option}");
        let output = shell(&line, Some("{\"x\":1}\n{\"x\":2}\n"), folder.path());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for policy in ["dead-letter", "pass"] {
        assert_eq!(apply(policy, "").0, Some(0), "{policy}");
        let (code, said) = apply(policy, "--fail-on-fault");
        assert_eq!(code, Some(1), "{policy}: {said}");
        assert!(said.ends_with("error: rules failed on 2 of 2 lines\n"), "{said}");
    }
}

#[test]
fn check_warns_of_a_rule_that_answers_otherwise_when_it_is_asked_again() {
    let folder = checkout();
    let fickle = include_str!("guests/state-that-changes-its-mind.wat");
    fs::write(folder.path().join("fickle.wasm"), Guest::new(fickle).component()).unwrap();
    let said = shell("weir check rules/dist fickle.wasm", None, folder.path());
    assert!(said.status.success(), "{said:?}");
    let warnings = String::from_utf8(said.stderr).unwrap();
    assert!(warnings.starts_with("fickle.wasm: warning: it answers the same rows otherwise"), "{warnings}");
    for cause in ["`HashMap`", "`fastrand`", "state that is kept from row to row"] {
        assert!(warnings.contains(cause), "{cause}: {warnings}");
    }
    assert_eq!(warnings.lines().count(), 1, "{warnings}");
}

#[test]
fn a_line_is_judged_soon_after_the_start() {
    const GOAL: Duration = Duration::from_millis(300);
    let folder = checkout();
    let once = || {
        let begun = Instant::now();
        assert!(shell("weir apply", Some("{}\n"), folder.path()).status.success());
        begun.elapsed()
    };
    // The first start may have to compile the rules; others may have to wait for a processor.
    let best = (0..5).map(|_| once()).min().unwrap();
    assert!(best <= GOAL, "the fastest of five took {best:?}");
}
