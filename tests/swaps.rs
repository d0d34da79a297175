//! Rules that are replaced while messages flow: sound ones, broken ones, and ones that turn out bad, in real processes.
//!
//! The files are changed in the ways in which operators and their tools change them. The commands of `weir rules` are tested in
//! `operating.rs`, and swaps on a real Kafka and with processes that die in `tests/faults/swaps.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::Duration;

use weir::config::Config;
use weir_kafka::Embedded;
use weir_wasm::{Cache, Runtime};

use crate::end_to_end::{Messages, assert_in_order, assert_is_letter, assert_is_output};
use crate::folder::{Folder, shipped, variant};
use crate::guest::{Guest, TRAP_IN_EARNEST};
use crate::kafka::{Reader, Record, write};
use crate::program::{Weir, command, eventually, field, within};

/// The time limit from the change of a file until the new rules are live. It includes compiling on a busy machine.
const SECONDS: Duration = Duration::from_secs(60);
/// The rule whose file is replaced.
pub const RULE: &str = "device-filter";
/// A login that the shipped rules let pass.
const LOGIN: &str = r#"{"app_version":"2.3.0","device_type":"iOS","timestamp":1}"#;

/// A broker that outlives engines, and the folder in which they run.
pub struct Field {
    broker: Embedded,
    pub folder: Folder,
}

impl Field {
    pub fn new() -> Field {
        Field { broker: Embedded::start(&Config::default().kafka.topics).unwrap(), folder: Folder::new() }
    }

    fn brokers(&self) -> String {
        self.broker.bootstrap_servers().unwrap()
    }

    /// Starts an engine, and waits until it reads.
    pub fn engine(&self) -> Weir {
        let mut engine = self.start("run", &[]);
        engine.line("partitions assigned");
        engine
    }

    pub fn start(&self, arguments: &str, more: &[(&str, &str)]) -> Weir {
        let brokers = self.brokers();
        let basics = [
            ("WEIR_KAFKA_BROKERS", brokers.as_str()),
            ("WEIR_KAFKA_DELIVERY", "at-least-once"),
            // With this broker a group can form anew only when a session timeout has passed since its last member left.
            ("WEIR_KAFKA_PROPERTIES_SESSION_TIMEOUT_MS", "1500"),
            ("WEIR_KAFKA_PROPERTIES_HEARTBEAT_INTERVAL_MS", "300"),
        ];
        self.folder.start(arguments, &[&basics, more].concat())
    }

    /// Sends `count` logins that pass.
    pub fn log_in(&self, count: usize) {
        let login = |index| Record { partition: (index % 3) as i32, value: Some(LOGIN.into()), ..Record::default() };
        write(&self.brokers(), "user-login", &(0..count).map(login).collect::<Vec<Record>>());
    }

    pub fn outputs(&self) -> Reader {
        Reader::open(&self.brokers(), "processed-user-login")
    }

    pub fn letters(&self) -> Reader {
        Reader::open(&self.brokers(), "user-login-rejected")
    }
}

/// Returns a rule that fails on every message.
pub fn hostile() -> Vec<u8> {
    Guest::new(TRAP_IN_EARNEST).component()
}

/// Waits until the set `hash` is live, and returns the line of the log that says so.
pub fn live(engine: &mut Weir, hash: &str) -> String {
    within(SECONDS, format_args!("{hash} is live: {:#?}", engine.lines()), || {
        let lines = engine.lines();
        assert!(engine.is_running(), "{lines:#?}");
        lines.into_iter().find(|line| line.contains("rules are live") && field(line, "ruleset") == hash)
    })
}

fn count(lines: &[String], words: &str) -> usize {
    lines.iter().filter(|line| line.contains(words)).count()
}

#[test]
fn a_file_that_is_replaced_under_load_goes_live_and_nothing_is_lost_or_doubled() {
    const COUNT: usize = 12_000;
    let field = Field::new();
    let mut engine = field.engine();
    let old = field.folder.hash();
    assert_eq!(engine.field("ruleset"), old);
    let simulator =
        Weir::start(&format!("simulate --brokers {} --count {COUNT} --rate 3000 --bad-share 0.3", field.brokers()), &[]);
    field.outputs().count(500);
    field.folder.put(RULE, &variant(RULE, 1));
    let new = field.folder.hash();
    let line = live(&mut engine, &new);
    assert_ne!(old, new);
    assert_eq!(simulator.end().code, Some(0));

    let messages = Messages::read(&field.brokers(), COUNT);
    assert_eq!(messages.sizes(), (COUNT, COUNT), "each message becomes one other");
    [&messages.outputs, &messages.letters].into_iter().for_each(|records| assert_in_order(records));
    let mut sets: BTreeMap<i32, BTreeMap<i64, &str>> = BTreeMap::new();
    for record in messages.outputs.iter().chain(&messages.letters) {
        assert_eq!(record.headers.iter().filter(|(name, _)| name == "weir-ruleset").count(), 1, "{record:?}");
        let (partition, offset) = record.source();
        sets.entry(partition).or_default().insert(offset, record.header("weir-ruleset").unwrap());
    }
    for (partition, sets) in sets {
        let changed = sets.values().position(|set| *set == new).expect("the new rules have judged some of each partition");
        let (before, after): (Vec<&str>, Vec<&str>) =
            (sets.values().take(changed).copied().collect(), sets.values().skip(changed).copied().collect());
        assert!(!before.is_empty() && before.iter().all(|set| *set == old), "partition {partition}");
        assert!(after.iter().all(|set| *set == new), "partition {partition} has gone back");
        let (offset, _) = sets.iter().nth(changed).unwrap();
        assert!(line.contains(&format!("{partition}: {offset}")), "{offset} is the first of {partition}: {line}");
    }
    for output in &messages.outputs {
        assert_is_output(output, messages.origin(output), output.header("weir-ruleset").unwrap());
    }
    for letter in &messages.letters {
        assert_is_letter(letter, messages.origin(letter), letter.header("weir-ruleset").unwrap());
    }
    assert_eq!(engine.stop().code, Some(0));
}

/// A way to damage a folder: its name, the damage, and the words that the refusal has to contain.
type Harm = (&'static str, fn(&Folder), [&'static str; 3]);

const MODULE: &str = "(module)";
const WASI: &str = r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#;

/// The ways to damage a folder. The words are the name of the file, the reason and the remedy.
const HARMS: [Harm; 19] = [
    ("truncated", |folder| put(folder, &shipped(RULE)[..30_000]), ["device-filter.wasm", "no sound", "weir build"]),
    (
        "one byte short",
        |folder| put(folder, &variant(RULE, 0)[..shipped(RULE).len() + 5]),
        ["device-filter.wasm", "no sound", "weir build"],
    ),
    ("garbage", |folder| put(folder, b"MZ this is something else"), ["device-filter.wasm", "no WebAssembly", "weir build"]),
    ("empty", |folder| put(folder, b""), ["device-filter.wasm", "empty", "weir build"]),
    ("core module", |folder| put(folder, &wat::parse_str(MODULE).unwrap()), ["device-filter.wasm", "core module", "weir build"]),
    (
        "imports",
        |folder| put(folder, &wat::parse_str(WASI).unwrap()),
        ["device-filter.wasm", "wasi:clocks/wall-clock@0.2.0", "remove"],
    ),
    ("world", |folder| put(folder, &wat::parse_str("(component)").unwrap()), ["device-filter.wasm", "no rule", "wit/rule.wit"]),
    ("machine code", |folder| put(folder, &precompiled()), ["device-filter.wasm", "compiled before", ".wasm component"]),
    (
        "9 MiB",
        |folder| put(folder, &[&shipped(RULE)[..], &vec![0; 9 << 20]].concat()),
        ["device-filter.wasm", "at most 8MiB", "bytes"],
    ),
    (
        "200 MB",
        |folder| File::create(folder.file(RULE)).unwrap().set_len(200_000_000).unwrap(),
        ["device-filter.wasm", "200000000", "at most 8MiB"],
    ),
    ("folder", folder_in_its_place, ["device-filter.wasm", "must be a file", "weir build"]),
    (
        "missing",
        |folder| fs::remove_file(folder.file(RULE)).unwrap(),
        ["device-filter.wasm", "failed to find", "weir build CRATE"],
    ),
    ("dangling", dangling_link, ["device-filter.wasm", "failed to find", "weir build CRATE"]),
    (
        "fails its probe",
        |folder| put(folder, &Guest::new("(func $on_batch (unreachable))").component()),
        ["device-filter.wasm", "failed its probe", "unreachable"],
    ),
    (
        "endless start",
        |folder| put(folder, &Guest::new("(func $on_configure (loop $ever (br $ever)))").component()),
        ["device-filter.wasm", "failed to start", "deadline"],
    ),
    (
        "refused configuration",
        |folder| folder.configure("[rule.device-filter.config]\nallowd = []"),
        ["device-filter", "refuses its configuration", "allowed"],
    ),
    ("a typo", |folder| folder.configure("[rules]\npipelin = []"), ["weir.toml", "pipelin", "pipeline"]),
    ("no TOML", |folder| folder.configure("[rules\n"), ["weir.toml", "line 1", "expected"]),
    (
        "a rule that is not there",
        |folder| folder.configure("[rules]\npipeline = [\"validation\", \"other\"]"),
        ["other.wasm", "failed to find", "weir build CRATE"],
    ),
];

fn put(folder: &Folder, bytes: &[u8]) {
    folder.put(RULE, bytes);
}

fn folder_in_its_place(folder: &Folder) {
    fs::remove_file(folder.file(RULE)).unwrap();
    fs::create_dir(folder.file(RULE)).unwrap();
}

fn dangling_link(folder: &Folder) {
    fs::remove_file(folder.file(RULE)).unwrap();
    symlink("nowhere", folder.file(RULE)).unwrap();
}

/// Returns machine code of a rule, taken from the cache, where a digest precedes it.
fn precompiled() -> Vec<u8> {
    const DIGEST_BYTES: usize = 32;
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::in_folder(folder.path().join("cache")).unwrap();
    Runtime::new(Some(cache)).unwrap().load(&Guest::default().component(), 512 << 10).unwrap();
    let entry = fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap();
    fs::read(entry.path()).unwrap().split_off(DIGEST_BYTES)
}

/// Repairs the folder with rules that have not been in it before. Returns the hash of the set.
pub fn mend(folder: &Folder, number: u8) -> String {
    if folder.file(RULE).is_dir() {
        fs::remove_dir(folder.file(RULE)).unwrap();
    }
    // The file is not left empty: an empty file would be taken for a lost one.
    folder.configure("# the defaults");
    folder.put(RULE, &variant(RULE, number));
    folder.hash()
}

#[test]
fn what_can_not_be_used_changes_nothing_but_a_message_until_it_is_mended() {
    let field = Field::new();
    let mut engine = field.engine();
    let (mut hash, mut outputs) = (field.folder.hash(), field.outputs());
    for (number, (name, harm, words)) in HARMS.into_iter().enumerate() {
        let before = count(&engine.lines(), "are refused");
        harm(&field.folder);
        let refusal = within(SECONDS, format_args!("{name} is refused"), || {
            assert!(engine.is_running(), "{name}: {:#?}", engine.lines());
            engine.lines().into_iter().filter(|line| line.contains("are refused")).nth(before)
        });
        words.iter().for_each(|word| assert!(refusal.contains(word), "{name}: {word}: {refusal}"));
        field.log_in(1);
        let output = outputs.count(number + 1).last().unwrap();
        assert_eq!(output.header("weir-ruleset"), Some(hash.as_str()), "{name}: the rules from before go on");
        hash = mend(&field.folder, number as u8 + 1);
        live(&mut engine, &hash);
        assert_eq!(count(&engine.lines(), "are refused"), before + 1, "{name}: once is enough: {:#?}", engine.lines());
    }
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_file_that_is_still_being_written_is_refused_or_waited_for_and_then_taken() {
    let field = Field::new();
    let mut engine = field.engine();
    let component = variant(RULE, 30);
    let (first, second) = component.split_at(component.len() / 2);
    let mut file = File::create(field.folder.file(RULE)).unwrap();
    file.write_all(first).unwrap();
    engine.line("are refused");
    file.write_all(second).unwrap();
    live(&mut engine, &field.folder.hash());
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_pipe_in_the_place_of_a_file_blocks_nobody() {
    let field = Field::new();
    let mut engine = field.engine();
    fs::remove_file(field.folder.file(RULE)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, field.folder.file(RULE), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(engine.line("are refused").contains("must be a file"));
    fs::remove_file(field.folder.file(RULE)).unwrap();
    live(&mut engine, &mend(&field.folder, 31));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_change_of_what_the_configuration_says_of_rules_is_a_swap_and_nothing_else_is() {
    let field = Field::new();
    let mut engine = field.engine();
    let all = [
        "[rule.device-filter.config]\nallowed = [\"iOS\"]",
        "[rules]\npipeline = [\"device-filter\", \"validation\", \"utc-enrichment\"]",
        "[rules]\npipeline = [\"validation\"]",
        "[rule.validation]\non_reject = \"drop\"",
        "[rule.validation]\nmemory = \"16MiB\"",
    ];
    let others = [
        "[log]\nlevel = \"debug\"",
        "[batch]\nrows = 7",
        "[counts]\nevery = \"1s\"",
        "[kafka]\nbrokers = \"nowhere:1\"",
        "# a word",
    ];
    let mut outputs = field.outputs();
    let mut before = "";
    for (swaps, (text, other)) in all.into_iter().zip(others).enumerate() {
        // A change that is no swap has no visible effect. So the test checks that the next swap that is seen is the next change
        // of rules.
        field.folder.configure(&format!("{other}\n{before}"));
        field.log_in(1);
        outputs.count(2 * swaps + 1);
        field.folder.configure(text);
        let hash = field.folder.hash();
        live(&mut engine, &hash);
        field.log_in(1);
        let output = outputs.count(2 * swaps + 2).last().unwrap();
        assert_eq!(output.header("weir-ruleset"), Some(hash.as_str()));
        assert_eq!(output.json().get("timestamp_in_utc").is_some(), !text.contains("[\"validation\"]"));
        assert_eq!(count(&engine.lines(), "rules are live"), swaps + 1, "{text}: {:#?}", engine.lines());
        before = text;
    }
    assert_eq!(count(&engine.lines(), "are refused"), 0);
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_change_that_needs_a_restart_is_told_and_stays_in_the_status_until_it_is_taken_back() {
    let field = Field::new();
    let mut engine = field.engine();
    let address = engine.line("admin interface on http://").split_once("http://").unwrap().1.trim().to_owned();
    let weir = |arguments: &[&str]| {
        let mut weir = command(env!("CARGO_BIN_EXE_weir"), field.folder.path());
        String::from_utf8(weir.args(["rules", "status", "--admin", &address]).args(arguments).output().unwrap().stdout).unwrap()
    };
    // The environment names the brokers, and overrides the file.
    field.folder.configure("counts.every = \"7s\"\ntopics.output = \"elsewhere\"\nkafka.brokers = \"nowhere:1\"");
    let line = engine.line("taken only by a restart");
    assert!(line.contains("WARN") && line.ends_with(": topics.output, counts.every"), "{line}");
    assert!(
        weir(&[])
            .contains("PENDING     changed in the configuration, and taken only by a restart: topics.output, counts.every\n")
    );
    let status: serde_json::Value = serde_json::from_str(&weir(&["--json"])).unwrap();
    assert_eq!(status["pending"], serde_json::json!(["topics.output", "counts.every"]));
    field.folder.configure("# the defaults");
    engine.line("nothing of the configuration waits for a restart any more");
    assert!(!weir(&[]).contains("PENDING"));
    let ended = engine.stop();
    assert_eq!((ended.code, count(&ended.lines, "only by a restart")), (Some(0), 1), "{:#?}", ended.lines);
}

#[test]
fn a_configuration_that_is_lost_changes_nothing_but_a_message() {
    let field = Field::new();
    field.folder.configure("[rules]\npipeline = [\"validation\"]");
    let mut engine = field.engine();
    assert_eq!(engine.field("ruleset"), field.folder.hash());
    fs::remove_file(field.folder.path().join("weir.toml")).unwrap();
    let line = engine.line("are refused");
    ["weir.toml", "put it back", "the defaults"].iter().for_each(|words| assert!(line.contains(words), "{words}: {line}"));
    // As happens on a disk that is full.
    field.folder.configure("");
    engine.line("weir.toml has become empty");
    field.folder.configure("[rules]\npipeline = [\"utc-enrichment\"]");
    live(&mut engine, &field.folder.hash());
    let ended = engine.stop();
    assert_eq!((ended.code, count(&ended.lines, "rules are live")), (Some(0), 1), "{:#?}", ended.lines);
}

#[test]
fn files_that_change_together_are_one_swap() {
    let field = Field::new();
    let mut engine = field.engine();
    let (one, other) = (variant("validation", 1), variant(RULE, 32));
    field.folder.put("validation", &one);
    field.folder.put(RULE, &other);
    field.folder.configure("[rule.validation]\non_reject = \"drop\"");
    live(&mut engine, &field.folder.hash());
    let ended = engine.stop();
    assert_eq!((ended.code, count(&ended.lines, "rules are live")), (Some(0), 1), "{:#?}", ended.lines);
}

#[test]
fn a_rule_that_fails_on_everything_is_taken_back_and_not_tried_again_until_it_changes() {
    let field = Field::new();
    let mut engine = field.engine();
    let good = field.folder.hash();
    field.log_in(300);
    let (mut outputs, mut letters) = (field.outputs(), field.letters());
    outputs.count(300);
    field.folder.put(RULE, &hostile());
    let bad = field.folder.hash();
    live(&mut engine, &bad);
    field.log_in(150);
    let line = engine.line("rules are taken back");
    assert_eq!((self::field(&line, "failed"), self::field(&line, "back")), (bad.clone(), good.clone()));
    let evidence = ["failed on", "trial.faults", "user-login/", "device-filter: rule_fault", "unreachable"];
    evidence.iter().for_each(|words| assert!(line.contains(words), "{words}: {line}"));
    field.log_in(50);
    outputs.until("what came after", |records| records.last().is_some_and(|last| last.header("weir-ruleset") == Some(&good)));
    eventually("all became one or the other", || (outputs.poll() + letters.poll() == 300 + 150 + 50).then_some(()));
    assert!(letters.records.iter().all(|letter| letter.header("weir-ruleset") == Some(&bad)), "only the bad set failed");
    assert_eq!(engine.stop().code, Some(0));

    // A restart keeps the verdict.
    let mut engine = field.engine();
    assert_eq!(self::field(&engine.line("rules: "), "ruleset"), good, "{:#?}", engine.lines());
    let line = engine.line("an earlier set of rules runs");
    assert!(line.contains(&bad) && line.contains("taken back by its trial") && line.contains("weir rules deploy"), "{line}");
    field.folder.put(RULE, &variant(RULE, 33));
    live(&mut engine, &field.folder.hash());
    assert_eq!(engine.stop().code, Some(0));
}

/// A guest that warns with each batch. It does not do so in the probe, where the clock stands at 0.
const TALKATIVE: &str = r#"
    (data (i32.const 24576) "how odd")
    (func $on_batch
      (if (i64.ne (global.get $processed_at) (i64.const 0))
        (then (call $log (i32.const 2) (global.get $scratch) (i32.const 7)))))"#;

#[test]
fn what_the_set_before_logs_about_messages_that_it_judges_again_is_marked() {
    let field = Field::new();
    field.folder.put(RULE, &Guest::new(TALKATIVE).component());
    let mut engine = field.engine();
    field.log_in(10);
    let line = engine.line("how odd");
    assert!(line.contains("WARN") && !line.contains("trial"), "{line}");
    field.outputs().count(10);
    field.folder.put(RULE, &variant(RULE, 1));
    live(&mut engine, &field.folder.hash());
    field.log_in(10);
    field.outputs().count(20);
    let line = engine.line("trial=true");
    assert!(line.contains("how odd") && line.contains("WARN"), "{line}");
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_set_that_was_on_trial_when_the_process_was_killed_stands_it_anew() {
    let field = Field::new();
    let mut engine = field.engine();
    let good = field.folder.hash();
    field.log_in(300);
    field.outputs().count(300);
    field.folder.configure("[rule.validation.config]\nmin_app_version = \"99.0.0\"");
    let bad = field.folder.hash();
    live(&mut engine, &bad);
    drop(engine);

    // This holds even if the folder is not watched.
    let mut engine = field.start("run", &[("WEIR_RULES_WATCH", "false")]);
    assert_eq!(self::field(&engine.line("rules: "), "ruleset"), good, "{:#?}", engine.lines());
    live(&mut engine, &bad);
    field.log_in(300);
    let line = engine.line("rules are taken back");
    assert!(line.contains("trial.rejections"), "what the set before rejects was not forgotten: {line}");
    assert_eq!((self::field(&line, "failed"), self::field(&line, "back")), (bad, good));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn what_is_put_into_the_folder_while_no_process_runs_stands_a_trial_too() {
    let field = Field::new();
    let engine = field.engine();
    let good = field.folder.hash();
    assert_eq!(engine.stop().code, Some(0));
    field.folder.put(RULE, &hostile());
    let bad = field.folder.hash();
    let mut engine = field.engine();
    assert_eq!(self::field(&engine.line("rules: "), "ruleset"), good, "{:#?}", engine.lines());
    live(&mut engine, &bad);
    field.log_in(150);
    let line = engine.line("rules are taken back");
    assert_eq!((self::field(&line, "failed"), self::field(&line, "back")), (bad, good));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_set_that_has_passed_its_trial_is_the_first_after_a_restart() {
    let field = Field::new();
    field.folder.configure("[trial]\nrecords = 10");
    let mut engine = field.engine();
    field.folder.put(RULE, &variant(RULE, 42));
    let hash = field.folder.hash();
    live(&mut engine, &hash);
    field.log_in(20);
    engine.line("has passed its trial");
    drop(engine);
    let mut engine = field.engine();
    assert_eq!(self::field(&engine.line("rules: "), "ruleset"), hash, "{:#?}", engine.lines());
    let ended = engine.stop();
    assert_eq!((ended.code, count(&ended.lines, "rules are live")), (Some(0), 0), "{:#?}", ended.lines);
}

#[test]
fn rules_that_reject_far_more_than_those_before_are_taken_back() {
    let field = Field::new();
    let mut engine = field.engine();
    let good = field.folder.hash();
    field.log_in(500);
    let mut outputs = field.outputs();
    outputs.count(500);
    field.folder.configure("[rule.validation.config]\nmin_app_version = \"99.0.0\"");
    let bad = field.folder.hash();
    live(&mut engine, &bad);
    field.log_in(300);
    let line = engine.line("rules are taken back");
    assert_eq!((self::field(&line, "failed"), self::field(&line, "back")), (bad, good.clone()));
    ["trial.rejections", "old_app_version", "validation"]
        .iter()
        .for_each(|words| assert!(line.contains(words), "{words}: {line}"));
    field.log_in(10);
    outputs.until("what came after", |records| records[500..].iter().any(|record| record.header("weir-ruleset") == Some(&good)));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn rules_that_let_pass_what_those_before_reject_are_taken_back_unless_that_is_intended() {
    let field = Field::new();
    let mut engine = field.engine();
    let good = field.folder.hash();
    // Half of the logins are of an old version.
    let log_in = || {
        let login = |index| if index % 2 == 0 { LOGIN.to_owned() } else { LOGIN.replace("2.3.0", "1.0.0") };
        let record = |index| Record { value: Some(login(index).into()), ..Record::default() };
        write(&field.brokers(), "user-login", &(0..200).map(record).collect::<Vec<Record>>());
    };
    log_in();
    field.letters().count(100);
    field.folder.configure("[rule.validation.config]\nmin_app_version = \"0.0.1\"");
    let lax = field.folder.hash();
    live(&mut engine, &lax);
    log_in();
    let line = engine.line("rules are taken back");
    assert_eq!((self::field(&line, "failed"), self::field(&line, "back")), (lax, good));
    for words in ["rule validation rejected", "trial.fewer_rejections", "validation: old_app_version 1.0.0"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    let intended = "[trial]\nrecords = 100\nfewer_rejections = 1.0\n[rule.validation.config]\nmin_app_version = \"0.0.2\"";
    field.folder.configure(intended);
    live(&mut engine, &field.folder.hash());
    log_in();
    let line = engine.line("the set has passed its trial");
    assert_eq!(self::field(&line, "ruleset"), field.folder.hash());
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_rule_that_rejects_nothing_any_more_is_taken_back_though_the_others_reject_most() {
    const LOGINS: usize = 4_000;
    let field = Field::new();
    let mut engine = field.engine();
    let good = field.folder.hash();
    field.folder.put(RULE, &Guest::default().component());
    let empty = field.folder.hash();
    live(&mut engine, &empty);
    // Of the bad logins that the simulator creates by default, this rule rejects a fifth.
    let simulator = Weir::start(&format!("simulate --brokers {} --count {LOGINS} --rate 3000", field.brokers()), &[]);
    let line = engine.line("rules are taken back");
    assert_eq!((self::field(&line, "failed"), self::field(&line, "back")), (empty, good));
    for words in ["rule device-filter rejected", "trial.fewer_rejections", "device-filter: unsupported_device_type"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert_eq!((simulator.end().code, engine.stop().code), (Some(0), Some(0)));
}

#[test]
fn what_a_rule_logs_while_it_is_proven_is_no_warning_of_a_live_process() {
    let field = Field::new();
    let mut engine = field.engine();
    let talks = "(data (i32.const 24576) \"odd row\")
        (func $on_batch (call $log (i32.const 2) (global.get $scratch) (i32.const 7)))";
    field.folder.put(RULE, &Guest::new(talks).component());
    live(&mut engine, &field.folder.hash());
    let said = |lines: &[String]| count(lines, "odd row");
    assert_eq!(said(&engine.lines()), 0, "{:#?}", engine.lines());
    field.log_in(1);
    let line = engine.line("odd row");
    assert!(line.contains("WARN") && line.contains("records=\"0/0\"") && !line.contains("probe"), "{line}");
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn sound_rules_that_come_before_the_first_message_are_not_blamed_for_what_is_always_rejected() {
    let field = Field::new();
    let mut engine = field.engine();
    let new = mend(&field.folder, 39);
    live(&mut engine, &new);
    let other = Record { value: Some(LOGIN.replace("iOS", "toaster").into()), ..Record::default() };
    write(&field.brokers(), "user-login", &vec![other; 300]);
    let mut letters = field.letters();
    letters.count(300);
    let ended = engine.stop();
    assert_eq!((ended.code, count(&ended.lines, "taken back")), (Some(0), 0), "{:#?}", ended.lines);
    assert!(letters.records.iter().all(|letter| letter.header("weir-ruleset") == Some(&new)));
}

#[test]
fn processes_that_share_a_folder_share_the_verdict_of_a_trial() {
    let field = Field::new();
    let good = field.folder.hash();
    let mut engines = [field.start("run", &[]), field.start("run", &[])];
    engines.iter_mut().for_each(|engine| drop(engine.line("partitions assigned")));
    field.folder.put(RULE, &hostile());
    let bad = field.folder.hash();
    engines.iter_mut().for_each(|engine| drop(live(engine, &bad)));
    // Only one partition has messages, so only one of the two processes gets any.
    write(&field.brokers(), "user-login", &vec![Record { value: Some(LOGIN.into()), ..Record::default() }; 150]);
    let all = |words: &str| engines.iter().map(|engine| count(&engine.lines(), words)).sum::<usize>();
    within(SECONDS, "one takes the rules back", || (all("rules are taken back") == 1).then_some(()));
    within(SECONDS, "the other one follows", || (all("why=last-good") == 1).then_some(()));
    let mended = mend(&field.folder, 40);
    assert_ne!(good, mended);
    for mut engine in engines {
        live(&mut engine, &mended);
        assert_eq!(engine.stop().code, Some(0));
    }
}

#[test]
fn what_mends_a_bad_rule_at_the_moment_when_it_is_taken_back_is_seen() {
    let field = Field::new();
    let mut engine = field.engine();
    field.folder.put(RULE, &hostile());
    live(&mut engine, &field.folder.hash());
    field.log_in(150);
    engine.line("rules are taken back");
    live(&mut engine, &mend(&field.folder, 34));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn what_changes_while_the_engine_starts_is_seen() {
    let field = Field::new();
    let cache = tempfile::tempdir().unwrap();
    let cold = cache.path().join("cache").display().to_string();
    let mut engine = field.start("run", &[("XDG_CACHE_HOME", &cold)]);
    let old = field.folder.hash();
    eventually("the first rule is compiled, and all are read", || (!engine.children().is_empty()).then_some(()));
    field.folder.put(RULE, &variant(RULE, 35));
    assert_eq!(engine.field("ruleset"), old, "the old file was read");
    live(&mut engine, &field.folder.hash());
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_restart_with_a_broken_folder_runs_the_last_good_set_and_says_so() {
    let field = Field::new();
    let mut engine = field.engine();
    field.folder.configure("[trial]\nrecords = 1");
    field.folder.put(RULE, &variant(RULE, 36));
    let good = field.folder.hash();
    live(&mut engine, &good);
    let mut outputs = field.outputs();
    field.log_in(1);
    engine.line("has passed its trial");
    let untried = mend(&field.folder, 41);
    live(&mut engine, &untried);
    assert_eq!(engine.stop().code, Some(0));

    field.folder.put(RULE, &shipped(RULE)[..1_000]);
    let mut engine = field.engine();
    assert_eq!(self::field(&engine.line("rules: "), "ruleset"), good);
    let line = engine.line("an earlier set of rules runs");
    ["device-filter.wasm", "no sound", &good].iter().for_each(|words| assert!(line.contains(words), "{words}: {line}"));
    field.log_in(1);
    assert_eq!(outputs.count(2)[1].header("weir-ruleset"), Some(good.as_str()), "and not the one that was on trial");
    live(&mut engine, &mend(&field.folder, 37));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_first_start_with_a_broken_folder_ends_and_names_it() {
    let field = Field::new();
    field.folder.put(RULE, b"");
    let ended = field.start("run", &[]).end();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    let last = ended.lines.last().unwrap();
    assert!(last.contains("device-filter.wasm") && last.contains("empty"), "{last}");
}

#[test]
fn a_state_folder_that_is_damaged_stands_in_nobodys_way() {
    let field = Field::new();
    let mut engine = field.engine();
    live(&mut engine, &mend(&field.folder, 38));
    assert_eq!(engine.stop().code, Some(0));
    let state = field.folder.path().join("state/weir/weir");
    let parts: BTreeSet<String> =
        fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(parts.contains("sets") && parts.contains("components"), "{parts:?}");
    for part in ["sets", "components"] {
        let files = fs::read_dir(state.join(part)).unwrap().map(|entry| entry.unwrap().path());
        files.for_each(|file| fs::write(file, "damaged").unwrap());
    }
    fs::write(state.join("pin"), "../../etc/passwd\n").unwrap();
    fs::write(state.join(format!("on-trial/{}.json", field.folder.hash())), "damaged").unwrap();
    fs::write(state.join("taken-back/0123456789abcdef.json"), [0xff; 100]).unwrap();
    let mut engine = field.engine();
    assert_eq!(self::field(&engine.line("rules: "), "ruleset"), field.folder.hash());
    assert_eq!(engine.stop().code, Some(0));
}
