//! Rules that fail on some messages, in real processes: the outcome of these messages and of their neighbours, the report of the
//! fault in a dead letter, and that a rule that fails on every message does not stop the stream.

use weir::config::Config;
use weir_kafka::Embedded;

use crate::folder::Folder;
use crate::guest::Guest;
use crate::kafka::{Reader, Record, write};
use crate::program::{Weir, eventually};

/// A guest that logs a panic and traps on messages whose `x` is null. It does not do so in the probe, where the clock stands at
/// 0.
const PANICS: &str = r#"
    (data (i32.const 24576) "no \1b[2Jx\0aINFO all is well")
    (func $give_up (unreachable))
    (func $on_null (param $row i32)
        (if (i64.ne (global.get $processed_at) (i64.const 0))
            (then
                (call $log (i32.const 3) (i32.const 24576) (i32.const 25))
                (call $log (i32.const 4) (i32.const 24576) (i32.const 25))
                (call $give_up))))"#;

/// A broker, and an engine whose only rule is `guest`.
struct Field {
    broker: Embedded,
    folder: Folder,
}

impl Field {
    fn new(guest: &Guest, settings: &str) -> Field {
        let (broker, folder) = (Embedded::start(&Config::default().kafka.topics).unwrap(), Folder::new());
        folder.put("guest", &guest.component());
        folder.configure(&format!("[rules]\npipeline = [\"guest\"]\n[rule.guest]\n{settings}\n"));
        Field { broker, folder }
    }

    fn brokers(&self) -> String {
        self.broker.bootstrap_servers().unwrap()
    }

    fn engine(&self) -> Weir {
        self.folder.start("run", &[("WEIR_KAFKA_BROKERS", &self.brokers()), ("WEIR_KAFKA_DELIVERY", "at-least-once")])
    }

    /// Sends a message for each `x` in `all`, to one partition.
    fn send(&self, all: &[&str]) {
        let record = |x: &&str| Record { value: Some(format!("{{\"x\":{x}}}").into()), ..Record::default() };
        write(&self.brokers(), "user-login", &all.iter().map(record).collect::<Vec<Record>>());
    }

    fn outputs(&self) -> Reader {
        Reader::open(&self.brokers(), "processed-user-login")
    }

    fn letters(&self) -> Reader {
        Reader::open(&self.brokers(), "user-login-rejected")
    }
}

#[test]
fn a_dead_letter_tells_the_trap_the_last_words_and_the_functions() {
    let field = Field::new(&Guest::new(PANICS), "");
    field.send(&["1", "null", "2"]);
    let mut engine = field.engine();
    let hash = engine.field("ruleset");
    let mut letters = field.letters();
    let [letter] = letters.count(1) else { panic!("one dead letter") };
    assert_eq!((letter.source(), letter.value.as_deref()), ((0, 1), Some(&b"{\"x\":null}"[..])));
    assert_eq!(letter.header("weir-reason"), Some("rule_fault"));
    let detail = letter.header("weir-detail").unwrap();
    assert!(detail.starts_with(r"no \u{1b}[2Jx\nINFO all is well (") && detail.contains("unreachable"), "{detail}");
    let functions: Vec<&str> = letter.header("weir-backtrace").unwrap().lines().collect();
    assert_eq!(functions[..2], ["give_up", "on_null"], "{functions:?}");
    assert_eq!(field.outputs().count(2).iter().map(Record::source).collect::<Vec<_>>(), [(0, 0), (0, 2)]);

    let line = engine.line("a rule failed on a message");
    for words in ["rule=\"guest\"", &hash, "record=\"user-login/0/1\"", "at=\"give_up\"", "unreachable"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    let own = |line: &String| line.contains("ERROR") && line.contains("no \\u{1b}[2Jx") && line.contains("records=\"0/1\"");
    assert!(engine.lines().iter().any(|line| own(line) && line.contains("component=")), "{:#?}", engine.lines());
    let ended = engine.stop();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.lines.iter().any(|line| line.contains("\u{1b}[2J") || line.starts_with("INFO all is well")));
}

#[test]
fn a_fault_that_may_pass_lets_the_message_pass() {
    let field = Field::new(&Guest::new(PANICS), "on_fault = \"pass\"");
    field.send(&["1", "null", "2"]);
    let mut engine = field.engine();
    assert_eq!(field.outputs().count(3)[1].value.as_deref(), Some(&b"{\"x\":null}"[..]));
    assert!(engine.line("a rule failed on a message").contains("user-login/0/1"));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_fault_that_must_stop_the_engine_stops_it_and_commits_nothing() {
    let field = Field::new(&Guest::new(PANICS), "on_fault = \"stop\"");
    field.send(&["1", "null", "2"]);
    let ended = field.engine().end();
    let error = ended.lines.concat();
    assert_eq!(ended.code, Some(1), "{error}");
    assert!(
        error.contains("user-login/0/1") && error.contains("rule.guest.on_fault") && error.contains("unreachable"),
        "{error}"
    );
    field.folder.configure("[rules]\npipeline = [\"guest\"]");
    let engine = field.engine();
    assert_eq!(field.outputs().count(2).len() + field.letters().count(1).len(), 3);
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_rule_that_fails_on_everything_is_short_circuited_and_probed_again() {
    let field = Field::new(&Guest::new(PANICS), "");
    field.send(&["null"; 5_000]);
    let mut engine = field.engine();
    let mut letters = field.letters();
    letters.count(5_000);
    let skipped = |letter: &&Record| letter.header("weir-detail").unwrap().starts_with("short-circuited: ");
    assert!(letters.records.iter().filter(skipped).count() > 4_000, "most were not even tried");
    assert!(letters.records.iter().all(|letter| letter.header("weir-reason") == Some("rule_fault")));
    let line = engine.line("a rule is short-circuited");
    assert!(line.contains("rule=\"guest\"") && line.contains("unreachable"), "{line}");
    let short_circuited = |value: u8| format!("weir_rule_short_circuited{{rule=\"guest\"}} {value}");
    let says = |engine: &mut Weir, value: u8| {
        eventually(short_circuited(value), || engine.metrics().contains(&short_circuited(value)).then_some(()));
    };
    says(&mut engine, 1);

    field.send(&["1"; 100]);
    field.outputs().count(1);
    engine.line("judges messages again");
    says(&mut engine, 0);
    let ended = engine.stop();
    let faults = ended.lines.iter().filter(|line| line.contains("a rule failed on a message")).count();
    assert!((1..100).contains(&faults), "{faults} lines about faults");
    assert_eq!(ended.code, Some(0));
}
