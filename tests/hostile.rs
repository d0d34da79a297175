//! A bad rule harms one record, not the stream: traps, endless loops, memory bombs and broken contracts of guests.
//!
//! The guests are in `guests/`: each file of WAT is inserted into the prelude of [`crate::guest`], or is a whole component. Its
//! first lines say what it does, and what the expected result is (see [`Hostile`]). The guests run one after another in a child
//! process of the test. So the survival of this process and its memory depend on these guests alone.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, panic};

use serde::de::IgnoredAny;
use weir_core::counts::Counts;
use weir_core::pipeline::{Evaluate, MAX_DETAIL_BYTES, Pipeline, View};
use weir_core::printable::is_unsafe_in_line;
use weir_core::record::{Batch, Step};
use weir_wasm::definition::{Definition, RuleDefinition};
use weir_wasm::rule::Rule;
use weir_wasm::ruleset::RuleSet;
use weir_wasm::{Instance, Limits, Occasion, Runtime};

use crate::guest::Guest;
use crate::program::{Weir, built, checkout, command};

const LIMITS: Limits = Limits {
    memory: 4 << 20,
    tables: 20_000,
    instances: 10,
    stack: 512 << 10,
    result: 64 << 20,
    deadline: Duration::from_secs(1),
};

/// The growth of the process that is allowed when a guest is gone, in bytes: memory that an allocator keeps for later.
const LEFT_BEHIND: u64 = 16 << 20;
/// The growth of the process that is allowed while a guest runs, in bytes, in addition to twice what the guest may take and hand
/// over: the compiler, the messages, and copies of a result.
const ROOM_TO_WORK: u64 = 48 << 20;
/// The largest refusal of a guest, in bytes: the guest's own text, escaped, and Weir's text.
const MOST_REFUSED: usize = 8 << 10;
/// The most that a guest may make the host log, in bytes.
const MOST_LOGGED: usize = 64 << 10;

/// A variable that is set in the process that runs the guests.
const CHILD: &str = "WEIR_TEST_RUNS_GUESTS";

/// A guest of the corpus, and its expected result.
struct Hostile {
    name: String,
    guest: Guest,
    limits: Limits,
    /// `where`: with `start`, the guest is refused before it processes rows. With `evaluate`, the default, it processes rows.
    starts: bool,
    /// `expect`: words of the refusal or of the fault.
    expect: String,
    /// `never`: words that the fault must not contain.
    never: Option<String>,
    /// `logs`: words that the log must contain.
    logs: String,
    /// `culprits`: the rows that are faulting.
    culprits: Culprits,
    /// `rows`: the values of `x` in the rows; `null*3` stands for three of them.
    rows: Vec<String>,
    /// `batches`: the number of times that the rows are processed.
    batches: usize,
    /// `seconds`: the time that everything together may take.
    patience: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq)]
enum Culprits {
    /// The rows in which `x` is null; the default.
    Null,
    /// The rows in which `x` is null. They are not faulting, but rejected as the contract allows.
    Rejected,
    All,
    None,
    /// The guest is no pure function, so the rows are not known: each row may be faulting, rejected or passed.
    Any,
}

impl Hostile {
    fn read(path: &Path) -> Hostile {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with(";; "), "{path:?} says what it does");
        let said: Vec<(&str, &str)> =
            text.lines().map_while(|line| line.strip_prefix(";; ")).filter_map(|line| line.split_once(": ")).collect();
        let find = |key: &str| said.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
        let number = |key: &str, otherwise: usize| find(key).map_or(otherwise, |number| number.parse().unwrap());
        let mut limits = LIMITS;
        for (_, limit) in said.iter().filter(|(key, _)| *key == "limit") {
            match limit.split_once(' ').unwrap() {
                ("memory", bytes) => limits.memory = bytes.parse().unwrap(),
                ("result", bytes) => limits.result = bytes.parse().unwrap(),
                ("deadline", millis) => {
                    limits.deadline = Duration::from_millis(millis.strip_suffix("ms").unwrap().parse().unwrap());
                }
                _ => panic!("{path:?}: no test sets the limit {limit}"),
            }
        }
        Hostile {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            guest: Guest::new(&text).with_spare_instances(number("instances", 0)),
            limits,
            starts: find("where") != Some("start"),
            expect: find("expect").unwrap_or_default().to_owned(),
            never: find("never").map(str::to_owned),
            logs: find("logs").unwrap_or_default().to_owned(),
            culprits: match find("culprits") {
                None => Culprits::Null,
                Some("rejected") => Culprits::Rejected,
                Some("all") => Culprits::All,
                Some("none") => Culprits::None,
                Some("any") => Culprits::Any,
                Some(other) => panic!("{path:?}: no rows are `{other}`"),
            },
            rows: find("rows").unwrap_or("1 \"two\" null {\"x\":4} 5").split(' ').flat_map(repeated).collect(),
            batches: number("batches", 2),
            patience: find("seconds").map(|seconds| Duration::from_secs(seconds.parse().unwrap())),
        }
    }

    fn corpus() -> Vec<Hostile> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() > 100, "the corpus is where it should be");
        paths.iter().map(|path| Hostile::read(path)).collect()
    }

    fn run(&self) {
        match self.guest.pipeline(self.limits) {
            Err(refusal) => {
                let refusal = format!("{refusal:#}");
                assert!(!self.starts, "it starts, but: {refusal}");
                assert!(!self.expect.is_empty() && refusal.contains(&self.expect), "it is refused in other words: {refusal}");
                assert!(!refusal.contains(is_unsafe_in_line), "its refusal is printable: {refusal:?}");
                assert!(refusal.len() < MOST_REFUSED, "its refusal has {} bytes", refusal.len());
            }
            Ok(mut pipeline) => {
                assert!(self.starts, "it does not start");
                (0..self.batches).for_each(|_| self.judge(&mut pipeline));
                if [Culprits::Null, Culprits::None, Culprits::Rejected].contains(&self.culprits) {
                    assert_sound(&mut pipeline);
                }
            }
        }
        assert_sound(&mut Guest::default().pipeline(LIMITS).unwrap());
    }

    /// Runs the guest, and checks the time, the memory and the log that this takes.
    fn run_measured(&self, log: &Log) {
        log.take();
        let before = resident("VmRSS");
        fs::write("/proc/self/clear_refs", "5").expect("the peak of memory can be measured anew");
        let begun = Instant::now();
        self.run();
        let took = begun.elapsed();
        assert!(self.patience.is_none_or(|patience| took < patience), "it took {took:?}");
        let most = before + 2 * (self.limits.memory + self.limits.result) as u64 + ROOM_TO_WORK;
        let (after, peak) = (resident("VmRSS"), resident("VmHWM"));
        assert!(after < before + LEFT_BEHIND, "{after} bytes are resident, {before} were before it");
        assert!(peak < most, "{peak} bytes were resident, {before} before it, and {most} are allowed");
        let logged = log.check();
        assert!(logged.contains(&self.logs), "the log lacks words: {logged}");
    }

    /// Processes a batch, in as many parts as needed, and checks the fate of each row.
    fn judge(&self, pipeline: &mut Pipeline<Instance>) {
        let (mut batch, mut step) = (batch(&self.rows), Step::default());
        while !batch.is_empty() {
            pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
            assert_eq!(step.stop, None);
            let rest = batch.split_off(step.processed_records.unwrap_or(batch.len()));
            assert!(!batch.is_empty(), "it gets on");
            self.check(&batch, &step);
            batch = rest;
        }
    }

    fn check(&self, batch: &Batch, step: &Step) {
        let (mut outputs, mut rejections) = (step.outputs.iter().peekable(), step.rejections.iter().peekable());
        let first = batch.records()[0].offset as usize;
        for (row, x) in (0u32..).zip(&self.rows[first..][..batch.len()]) {
            let is_culprit = match self.culprits {
                Culprits::Null | Culprits::Rejected => x == "null",
                Culprits::All => true,
                Culprits::None => false,
                Culprits::Any => rejections.peek().is_some_and(|rejection| rejection.record == row),
            };
            if !is_culprit {
                let output = outputs.next().filter(|output| output.record == row);
                let value = step.value(output.unwrap_or_else(|| panic!("row {row} passes: {:?}", step.rejections)), batch);
                let is_object = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(value).is_ok();
                assert!(is_object && (x == "null" || Some(value) == batch.value(row as usize)), "row {row} is untouched");
                continue;
            }
            let rejection = rejections.next().filter(|rejection| rejection.record == row);
            let rejection = rejection.unwrap_or_else(|| panic!("row {row} is rejected: {:?}", step.rejections));
            let detail = rejection.detail.as_deref().unwrap_or_default();
            assert!(detail.len() <= MAX_DETAIL_BYTES && rejection.rule() == Some(0));
            if self.culprits == Culprits::Rejected || self.culprits == Culprits::Any && rejection.is_decision() {
                assert!(rejection.is_decision(), "{rejection:?}");
                continue;
            }
            assert!(rejection.is_fault(), "{rejection:?}");
            assert!(!detail.is_empty() && detail.contains(&self.expect), "row {row} is blamed in other words: {detail}");
            assert!(!detail.contains(is_unsafe_in_line), "the detail is printable: {detail:?}");
            assert!(
                self.never.as_ref().is_none_or(|lie| !detail.contains(lie)),
                "row {row} is blamed in words of others: {detail}"
            );
        }
        assert!(outputs.next().is_none() && rejections.next().is_none(), "each row has one fate");
    }
}

/// Returns the rows that `text` stands for in a list of rows.
fn repeated(text: &str) -> impl Iterator<Item = String> {
    let (row, times) = text.rsplit_once('*').map_or((text, 1), |(row, times)| (row, times.parse().unwrap()));
    std::iter::repeat_n(row.to_owned(), times)
}

/// Asserts that rows without a null pass unchanged.
fn assert_sound(pipeline: &mut Pipeline<Instance>) {
    let (batch, mut step) = (batch(&["1", "\"two\"", "{\"x\":null}"]), Step::default());
    pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
    assert_eq!(step.rejections, [], "the next batch is judged right");
    assert!(step.outputs.iter().map(|output| step.value(output, &batch)).eq((0..3).map(|row| batch.value(row).unwrap())));
}

fn batch(values: &[impl AsRef<str>]) -> Batch {
    let mut batch = Batch::new("user-login");
    for (offset, value) in values.iter().enumerate() {
        batch.push(0, offset as i64, None, None, Some(format!("{{\"x\":{}}}", value.as_ref()).as_bytes()));
    }
    batch
}

#[test]
fn hostile_guests_waste_nothing_but_their_own_budget() {
    const THIS: &str = "hostile::hostile_guests_waste_nothing_but_their_own_budget";
    match env::var(CHILD) {
        Ok(part) => run_guests(part.parse().unwrap()),
        // Two parts, for two cores.
        Err(_) => {
            let child = |part: usize| {
                let mut command = Command::new(env::current_exe().unwrap());
                command.args(["--exact", THIS, "--nocapture", "--test-threads=1"]).env(CHILD, part.to_string());
                command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
            };
            for child in [child(0), child(1)] {
                let output = child.wait_with_output().unwrap();
                let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                assert!(output.status.success() && said[0].contains("1 passed"), "{}: {}{}", output.status, said[0], said[1]);
            }
        }
    }
}

/// Runs every second guest of the corpus, beginning with guest `part`.
fn run_guests(part: usize) {
    let log = Log::install();
    // The first run sets up what exists once per process; its memory must not count against a guest.
    Hostile::corpus()[0].run();
    let begin = resident("VmRSS");
    let mut failed = Vec::new();
    for hostile in Hostile::corpus().into_iter().skip(part).step_by(2) {
        println!("{}", hostile.name);
        // All guests run, even if one before has failed.
        if panic::catch_unwind(|| hostile.run_measured(&log)).is_err() {
            failed.push(hostile.name);
        }
    }
    assert!(failed.is_empty(), "these do harm: {failed:?}");
    assert!(resident("VmRSS") < begin + LEFT_BEHIND, "all of them together leave no more behind than one may");
}

/// Returns the memory of this process in bytes: resident now (`VmRSS`) or at most (`VmHWM`).
fn resident(which: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
}

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn install() -> Log {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
        log
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }

    /// Checks that the log of a guest is short, and that each line is written by the host and names the rule. Returns the log.
    fn check(&self) -> String {
        let text = self.take();
        assert!(text.len() < MOST_LOGGED, "{} bytes are logged", text.len());
        for line in text.lines() {
            assert!(line.contains("rule=\"guest\"") && !line.contains(is_unsafe_in_line), "a line is forged: {line:?}");
        }
        text
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_rule_forges_no_line_of_apply() {
    let forges = r#"(data (i32.const 24576) "[\0a{\22user_id\22:\22forged\22}\0d\0a]")
        (func $on_null (param $row i32)
          (if (i64.ne (global.get $processed_at) (i64.const 0))
            (then (call $write (local.get $row) (i32.const 5) (i32.const 25) (i32.const 25)))))"#;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("guest.wasm"), Guest::new(forges).component()).unwrap();
    fs::write(folder.path().join("weir.toml"), "[rules]\nfolder = \".\"\npipeline = [\"guest\"]").unwrap();
    fs::write(folder.path().join("in"), "{\"x\":null}\n").unwrap();
    let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
    let ended = weir.args(["apply", "--input", "in"]).output().unwrap();
    let text = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(text.0, "{\"x\":null,\"y\":[ {\"user_id\":\"forged\"}  ]}\n", "{}", text.1);
}

/// A name that would clear a terminal, begin a new line, and change the direction of writing; and its escaped form.
const EVIL: &str = "x\x1b[2J\r\nerror: all is lost \u{61c}\u{202e}\u{9b}";
const EVIL_SHOWN: &str = r"x\u{1b}[2J\r\nerror: all is lost \u{61c}\u{202e}\u{9b}";

#[test]
fn names_of_files_keys_and_variables_forge_no_line_of_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let key = r#""x\u001b[2J\r\nerror: all is lost \u061c\u202e\u009b" = 1"#;
    fs::write(folder.path().join("evil.toml"), key).unwrap();
    let (variable, rule) = (format!("WEIR_{EVIL}"), built("validation"));
    let rules = rule.parent().unwrap().to_str().unwrap();
    let cases: [(&str, &[&str], (&str, &str)); 5] = [
        ("a rule", &["check", EVIL], ("WEIR_LOG_LEVEL", "info")),
        ("the input", &["apply", EVIL], ("WEIR_RULES_FOLDER", rules)),
        ("a folder", &["apply"], ("WEIR_RULES_FOLDER", EVIL)),
        ("a variable", &["apply"], (variable.as_str(), "1")),
        ("a key", &["apply", "--config", "evil.toml"], ("WEIR_LOG_LEVEL", "info")),
    ];
    for (what, arguments, (name, value)) in cases {
        let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
        let ended = weir.args(arguments).env(name, value).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && said.contains(EVIL_SHOWN), "{what}: {said:?}");
        assert!(!said.contains(|next: char| is_unsafe_in_line(next) && next != '\n'), "{what}: {said:?}");
        let forged = said.lines().filter(|line| line.starts_with("error: all")).count();
        assert_eq!(forged, 0, "{what}: {said:?}");
    }
}

#[test]
fn a_name_that_is_logged_forges_no_line_of_the_log() {
    let folder = checkout();
    let state = folder.path().join(EVIL);
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let variables = [("WEIR_KAFKA_BROKERS", "embedded"), ("WEIR_RULES_STATE", EVIL)];
    let mut engine = Weir::start_in(folder.path(), "run", &variables);
    let line = engine.line("closed the folder to other users");
    assert!(line.contains(EVIL_SHOWN), "{line:?}");
    engine.line("partitions assigned");
    let ended = engine.stop();
    assert!(!ended.lines.iter().any(|line| line.contains(is_unsafe_in_line)), "{:#?}", ended.lines);
}

#[test]
fn only_the_rows_that_a_rule_traps_on_are_rejected() {
    let mut values = vec!["1"; 1_000];
    [0, 499, 500, 999].iter().for_each(|row| values[*row] = "null");
    let mut pipeline = Guest::new("(func $on_null (param $row i32) (unreachable))").pipeline(LIMITS).unwrap();
    let (batch, mut step) = (batch(&values), Step::default());
    pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
    assert_eq!(step.outputs.len(), 996);
    assert_eq!(step.rejections.iter().map(|rejection| rejection.record).collect::<Vec<_>>(), [0, 499, 500, 999]);
    for rejection in &step.rejections {
        assert!(rejection.is_fault(), "{rejection:?}");
        assert!(rejection.detail.as_ref().unwrap().contains("unreachable"), "{rejection:?}");
        assert!(rejection.backtrace().unwrap().starts_with("on_null\n"), "{rejection:?}");
    }
}

#[test]
fn the_last_words_of_a_rule_are_kept() {
    let guest = "(data (i32.const 24576) \"alas!\")
        (func $on_null (param $row i32)
            (call $log (i32.const 4) (global.get $scratch) (i32.const 5))
            (unreachable))";
    let (batch, mut step) = (batch(&["null"]), Step::default());
    Guest::new(guest).pipeline(LIMITS).unwrap().process(&Counts::new(60_000, false), &batch, &mut step);
    let detail = step.rejections[0].detail.as_ref().unwrap();
    assert!(detail.starts_with("alas! (") && detail.contains("unreachable"), "{detail}");
}

#[test]
fn what_is_no_rule_is_refused_with_the_reason() {
    let runtime = Runtime::new(None).unwrap();
    let refusal = |bytes: &[u8]| format!("{:#}", runtime.load(bytes, LIMITS.stack).err().expect("this is no rule"));
    let core = wat::parse_str("(module)").unwrap();
    let sound = Guest::default().component();
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"MZ garbage").contains("no WebAssembly"));
    assert!(refusal(&core).contains("core module") && refusal(&core).contains("weir build"));
    assert!(refusal(&sound[..sound.len() / 2]).contains("no sound WebAssembly component"));
    assert!(refusal(&vec![0; 9 << 20]).contains("at most"));
    let wasi = wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#).unwrap();
    assert!(refusal(&wasi).contains("wasi:clocks/wall-clock@0.2.0"));
    assert!(refusal(&wat::parse_str("(component)").unwrap()).contains("`configure` and `evaluate`"));
    let precompiled = wasmtime_precompiled(&sound);
    assert!(refusal(&precompiled).contains("compiled before"));
}

#[test]
fn a_rule_of_a_compatible_version_of_the_contract_runs_and_another_is_told_which_is_wanted() {
    let runtime = Runtime::new(None).unwrap();
    let built = fs::read(built("validation")).unwrap();
    let of_version = |version: &[u8; 5]| {
        let mut component = built.clone();
        for at in memchr::memmem::find_iter(&built, "@0.1.0") {
            component[at + 1..at + 6].copy_from_slice(version);
        }
        runtime.load(&component, LIMITS.stack).map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(of_version(b"0.1.7"), Ok(()));
    let said = of_version(b"0.2.0").unwrap_err();
    assert!(said.contains("version 0.2.0 of the contract, and this is version 0.1.0"), "{said}");
}

/// Returns `component` in compiled form, as the cache keeps it.
fn wasmtime_precompiled(component: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let cache = weir_wasm::Cache::in_folder(folder.path().join("cache")).unwrap();
    Runtime::new(Some(cache)).unwrap().load(component, LIMITS.stack).unwrap();
    let entry = std::fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap();
    // The entry begins with a digest.
    std::fs::read(entry.path()).unwrap().split_off(32)
}

#[test]
fn a_damaged_entry_of_the_cache_is_compiled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = || weir_wasm::Cache::in_folder(folder.path().join("cache")).unwrap();
    let load = || Runtime::new(Some(cache())).unwrap().load(&Guest::default().component(), LIMITS.stack).unwrap();
    load();
    let entry = std::fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&entry).unwrap();
    for part in 1..20 {
        let mut damaged = whole.clone();
        damaged[whole.len() * part / 20] ^= 4;
        std::fs::write(&entry, damaged).unwrap();
        let (mut rule, _) = Instance::new(&load(), "guest", "{}", LIMITS, Occasion::Live).unwrap();
        assert!(rule.evaluate(View::default()).is_ok(), "it runs");
        assert!(std::fs::read(&entry).unwrap() == whole, "it is in the cache anew");
    }
}

/// Returns a set whose only rule is `guest`, with the name `mine`.
fn set(guest: &Guest) -> anyhow::Result<RuleSet> {
    let rule = RuleDefinition::new(Rule::with_defaults("mine"), guest.component());
    RuleSet::prove(&Runtime::new(None)?, Definition { rules: vec![rule], counted: "x".into() })
}

#[test]
fn a_rule_goes_by_its_name_in_the_configuration() {
    let set = set(&Guest::default()).unwrap();
    assert!(set.manifests().map(|manifest| &*manifest.name).eq(["mine"]), "though it calls itself `guest`");
    let mut pipeline = set.instantiate().unwrap();
    assert_eq!(pipeline.manifests()[0].name, "mine");
    assert_sound(&mut pipeline);
}

#[test]
fn a_rule_that_fails_on_ordinary_text_fails_its_probe() {
    // The text of the probe's rows for `x` has more bytes than the odd cells have.
    let guest = "(func $on_batch
        (if (i32.gt_u (i32.load offset=20 (global.get $reads)) (i32.const 100)) (then (unreachable))))";
    let refusal = format!("{:#}", set(&Guest::new(guest)).err().expect("it is refused"));
    assert!(refusal.contains("failed its probe: with 23 rows") && refusal.contains("unreachable"), "{refusal}");
}

#[test]
fn a_guest_of_the_tests_is_a_rule() {
    assert_sound(&mut Guest::default().pipeline(LIMITS).unwrap());
}
