//! The demo: with the program alone, in an empty folder, and with built-in rules that match the sources.

use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::{Weir, built, checkout, command, eventually};

const RULES: [&str; 3] = ["validation", "utc-enrichment", "device-filter"];

/// Returns the file of a rule that is built into the program.
fn inside(rule: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/demo/rules/{rule}.wasm"))
}

/// Returns the commit of the compiler that built a component. It is part of the paths in panics of the standard library.
fn compiler(component: &[u8]) -> Vec<u8> {
    const PATH: &[u8] = b"/rustc/";
    const HASH: usize = 40;
    let at = memchr::memmem::find(component, PATH).expect("a component names its compiler") + PATH.len();
    component[at..at + HASH].to_vec()
}

#[test]
fn the_rules_inside_the_demo_are_those_of_the_sources() {
    for rule in RULES {
        let [kept, fresh] = [inside(rule), built(rule)].map(|file| fs::read(file).unwrap());
        // Another compiler version makes other bytes. The next test compares what the components do.
        if compiler(&kept) == compiler(&fresh) {
            assert!(kept == fresh, "{rule} has changed: run `make demo-rules`, and commit what it renews");
        }
    }
}

#[test]
fn the_rules_inside_the_demo_do_what_those_of_the_sources_do() {
    let folder = checkout();
    let kept = inside("validation");
    let run = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let mut simulate = command("weir", folder.path());
    simulate.args("simulate --to-stdout --count 5000 --bad-share 0.5 --seed 7 --start 0".split(' '));
    fs::write(folder.path().join("logins"), run(simulate)).unwrap();
    let judged = |rules: &Path| {
        let mut apply = command("weir", folder.path());
        apply.args("apply logins --rejected - --processed-at 0".split(' ')).env("WEIR_RULES_FOLDER", rules);
        run(apply)
    };
    let (kept, fresh) = (judged(kept.parent().unwrap()), judged(Path::new("rules/dist")));
    assert!(kept.len() > 500_000 && kept == fresh, "run `make demo-rules`, and commit what it renews");
}

/// A demo in a folder that has nothing but a folder for temporary files.
fn demo_alone(arguments: &str) -> (TempDir, Weir) {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let demo = Weir::start_in(folder.path(), arguments, &[("TMPDIR", temporary.to_str().unwrap())]);
    (folder, demo)
}

/// Returns the names of the entries of a folder.
fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_program_alone_is_enough_for_a_demo_with_swaps_and_nothing_is_left_of_it() {
    let (folder, mut demo) = demo_alone("demo --rate 500");
    let temporary = folder.path().join("temporary");
    demo.line("those inside the program run");
    demo.line("/s)");
    let file = temporary.join(names(&temporary).first().unwrap()).join("weir.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("normalise = false", "normalise = true")).unwrap();
    demo.line("rules are live");
    demo.signal(Signal::INT);
    let ended = demo.end();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
    assert!(!ended.lines.iter().any(|line| line.contains("ERROR")), "{:#?}", ended.lines);
    eventually("nothing is left", || names(&temporary).is_empty().then_some(()));
    assert_eq!(names(folder.path()), ["temporary"]);
}

#[test]
fn what_a_killed_demo_leaves_behind_is_removed_by_the_next() {
    let (folder, mut killed) = demo_alone("demo");
    let temporary = folder.path().join("temporary");
    killed.line("/s)");
    killed.signal(Signal::KILL);
    killed.end();
    let left = names(&temporary);
    assert_eq!(left.len(), 1, "{left:?}");
    let mut next = Weir::start_in(folder.path(), "demo --seconds 1", &[("TMPDIR", temporary.to_str().unwrap())]);
    next.line("those inside the program run");
    assert!(!names(&temporary).contains(&left[0]));
    next.end();
}

/// A full pipe: a write to it blocks.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_demo_that_is_asked_to_stop_twice_ends_at_once_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (_reader, writer) = full_pipe();
    let mut demo = command("weir", folder.path());
    demo.arg("demo").env("TMPDIR", folder.path()).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut log = BufReader::new(demo.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.any(|line| line.contains("rules are live") || line.contains("starting at")), "it has begun");
    kill_process(Pid::from_child(&demo), Signal::TERM).unwrap();
    assert!(log.any(|line| line.contains("a second signal stops at once")), "it was asked once");
    // Signals within a tenth of a second count as one signal.
    thread::sleep(Duration::from_millis(200));
    kill_process(Pid::from_child(&demo), Signal::TERM).unwrap();
    assert!(log.last().is_some_and(|line| line.contains("stopping at once")));
    assert_eq!(demo.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(names(folder.path()).into_iter().find(|name| name.starts_with("weir-demo-")), None);
}

#[test]
fn a_checkout_with_rules_has_its_own_in_the_demo() {
    let mut demo = Weir::start("demo --seconds 3", &[]);
    demo.line("/s)");
    assert!(!demo.lines().iter().any(|line| line.contains("those inside the program run")), "{:#?}", demo.lines());
    assert_eq!(demo.end().code, Some(0));
}
