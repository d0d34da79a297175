//! Decisions of operators about the rules of a running process, made with `weir rules` on its admin interface: how the process
//! goes on, and what it reports about itself.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::Value;
use weir_control::report::{LiveReason, Status};

use crate::folder::{shipped, variant};
use crate::program::{Weir, command, eventually};
use crate::swaps::{Field, RULE, live, mend};

/// An operator of a running engine.
struct Operator<'a> {
    field: &'a Field,
    address: String,
}

impl Operator<'_> {
    fn of<'a>(field: &'a Field, engine: &mut Weir) -> Operator<'a> {
        let line = engine.line("admin interface on http://");
        Operator { field, address: line.split_once("http://").unwrap().1.trim().to_owned() }
    }

    /// Runs `weir rules ARGUMENTS`. Returns whether it succeeded, and its output.
    fn run(&self, arguments: &str) -> (bool, String) {
        let mut weir = command(env!("CARGO_BIN_EXE_weir"), self.field.folder.path());
        let output = weir.arg("rules").args(arguments.split_whitespace()).args(["--admin", &self.address]).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    fn does(&self, arguments: &str) -> String {
        let (done, said) = self.run(arguments);
        assert!(done, "{arguments}: {said}");
        said
    }

    fn is_refused(&self, arguments: &str) -> String {
        let (done, said) = self.run(arguments);
        assert!(!done && said.contains("refused"), "{arguments}: {said}");
        said
    }

    /// Returns the answer of the admin interface to `GET /api/rules`.
    fn answer(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(b"GET /api/rules HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn status(&self) -> Status {
        let text = self.does("status --json");
        let value: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(value).unwrap()
    }
}

/// Lines of `weir.toml` with a password or a token in the wrong place, or of the wrong type.
const SLIPS: &[&str] = &[
    "kafka.properties.\"sasl.password\" = [\"hunter2\"]",
    "kafka.properties.\"sasl.password\" = 481516234200000000000000",
    "kafka.properties.\"sasl.password\" = \"hunter2",
    "kafka.\"sasl.password\" = \"hunter2\"",
    "admin.token = 4815162342",
    "admin.token = [\"hunter2\"]",
    "admin.token = hunter2",
    "admin.tokn = \"hunter2\"",
    "admin.tokn = 481516234248151623424815162342",
    "kafka.\"sasl.password\" = 481516234248151623424815162342",
    "kafka.propertis.\"sasl.password\" = 481516234248151623424815162342",
    "admin.token_file = [\"hunter2\"]",
    "admin.token_file = 4815162342",
    "admin = { token = \"secret\", token_file = \"hunter2\" }",
];

/// Makes the history useless: all its components are damaged.
fn spoil_what_is_kept(field: &Field) {
    let components = field.folder.path().join("state/weir/weir/components");
    for entry in fs::read_dir(components).unwrap() {
        fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
}

#[test]
fn a_pin_that_can_not_be_used_is_told_once_and_the_folder_is_followed() {
    let field = Field::new();
    let mut engine = field.engine();
    let first = field.folder.hash();
    live(&mut engine, &mend(&field.folder, 50));
    Operator::of(&field, &mut engine).does(&format!("rollback {first}"));
    assert_eq!(engine.stop().code, Some(0));

    spoil_what_is_kept(&field);
    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let line = engine.line("the pinned set can't be used");
    ["WARN", &first, "is not what was written", "weir rules resume"]
        .iter()
        .for_each(|words| assert!(line.contains(words), "{line}"));
    for number in [51, 52] {
        live(&mut engine, &mend(&field.folder, number));
        assert_eq!(operator.status().why, LiveReason::Folder);
    }
    // Another process pins a set that can't be used either.
    fs::write(field.folder.path().join("state/weir/weir/pin"), "0123456789abcdef").unwrap();
    eventually("that is told too", || engine.lines().iter().any(|line| line.contains("0123456789abcdef")).then_some(()));
    live(&mut engine, &mend(&field.folder, 53));
    let told = |words: &str| engine.lines().iter().filter(|line| line.contains(words)).count();
    assert_eq!((told("the pinned set can't be used"), told("are refused")), (2, 0), "{:#?}", engine.lines());
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn while_a_set_is_pinned_a_broken_folder_is_refused_and_a_sound_one_waits() {
    let field = Field::new();
    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let first = field.folder.hash();
    let second = mend(&field.folder, 54);
    live(&mut engine, &second);
    operator.does(&format!("rollback {first}"));
    eventually("the folder's set waits", || (operator.status().folder.as_ref() == Some(&second)).then_some(()));
    field.folder.put(RULE, &shipped(RULE)[..30_000]);
    let refused = || operator.status().refusal.filter(|refusal| refusal.message.contains("no sound"));
    eventually("the folder is refused", refused);
    let status = operator.status();
    assert_eq!((status.why, &status.live.hash, status.folder), (LiveReason::Pinned, &first, None));
    assert!(operator.is_refused("resume").contains("the pinned set stays"));
    assert_eq!(engine.stop().code, Some(0));

    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let status = operator.status();
    assert_eq!((status.why, status.folder, status.refusal.is_some()), (LiveReason::Pinned, None, true), "after a restart too");
    let third = mend(&field.folder, 55);
    eventually("the folder's set waits", || (operator.status().folder.as_ref() == Some(&third)).then_some(()));
    assert_eq!(operator.status().refusal, None);
    operator.does("resume");
    live(&mut engine, &third);
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_pin_on_the_set_that_is_on_trial_ends_its_trial() {
    let field = Field::new();
    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let second = mend(&field.folder, 58);
    live(&mut engine, &second);
    field.log_in(10);
    eventually("its trial is under way", || operator.status().trial);
    assert!(operator.does(&format!("rollback {second}")).contains("as before"));
    let status = operator.status();
    assert_eq!((status.trial, status.why, &status.live.hash), (None, LiveReason::Pinned, &second));
    assert_eq!(engine.stop().code, Some(0));
    let mut engine = field.engine();
    assert_eq!(engine.field("ruleset"), second, "after a restart too, and with no trial");
    let ended = engine.stop();
    assert!(!ended.lines.iter().any(|line| line.contains("rules are live")), "{:#?}", ended.lines);
}

#[test]
fn a_deployment_that_can_not_be_written_as_a_whole_changes_nothing() {
    let field = Field::new();
    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let before = field.folder.hash();
    let new = field.folder.path().join("new");
    fs::create_dir(&new).unwrap();
    for rule in [RULE, "validation"] {
        fs::write(new.join(format!("{rule}.wasm")), variant(rule, 56)).unwrap();
    }
    // The second file of the deployment can't be put in its place.
    let (blocked, aside) = (field.folder.file("validation"), field.folder.path().join("aside"));
    fs::rename(&blocked, &aside).unwrap();
    fs::create_dir_all(blocked.join("in-the-way")).unwrap();
    engine.line("are refused");
    let said = operator.is_refused("deploy new");
    ["validation.wasm", "failed to write", "put the file there yourself"]
        .iter()
        .for_each(|words| assert!(said.contains(words), "{said}"));
    fs::remove_dir_all(&blocked).unwrap();
    fs::rename(&aside, &blocked).unwrap();
    assert_eq!((field.folder.hash(), operator.status().live.hash), (before.clone(), before));
    operator.does("deploy new");
    live(&mut engine, &field.folder.hash());
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn what_is_refused_is_named_as_it_was_given_and_counted() {
    let field = Field::new();
    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let first = field.folder.hash();
    let given = field.folder.path().join(format!("{RULE}.wasm"));
    fs::write(&given, &shipped(RULE)[..30_000]).unwrap();
    let said = operator.is_refused(&format!("deploy {}", given.display()));
    assert!(said.contains("device-filter.wasm as handed in can't be used") && !said.contains("rules/dist"), "{said}");
    live(&mut engine, &mend(&field.folder, 57));
    spoil_what_is_kept(&field);
    assert!(operator.is_refused(&format!("rollback {first}")).contains("is not what was written"));
    field.folder.put(RULE, b"");
    let said = operator.is_refused("resume");
    assert!(said.contains("the set in force stays") && said.contains("empty"), "{said}");
    eventually("the folder is refused too", || (operator.status().swaps.refused == 4).then_some(()));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn many_large_deployments_at_a_time_take_a_bounded_part_of_memory_and_give_it_back() {
    /// The size of the largest body for three rules.
    const BODY_BYTES: usize = 40 << 20;
    /// The largest resident memory: two such bodies, decoded too, and the process itself.
    const MOST_KIB: u64 = 250 << 10;
    /// The largest resident memory after the bodies are refused: less than one such body.
    const AFTER_KIB: u64 = 60 << 10;
    let field = Field::new();
    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let base64 = "A".repeat((BODY_BYTES - 1_000) / 4 * 4);
    let body = format!(r#"{{"files":[{{"rule":"{RULE}","wasm":"{base64}"}}]}}"#);
    let deploy = || {
        let mut stream = TcpStream::connect(&operator.address).unwrap();
        let head = "POST /api/rules/deploy HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        // If there is no room for the body, it is not read to its end.
        let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).map(str::to_owned)
    };
    thread::scope(|scope| {
        let codes: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..3).map(|_| deploy()).collect::<Vec<_>>())).collect();
        let codes: Vec<_> = codes.into_iter().flat_map(|codes| codes.join().unwrap()).flatten().collect();
        assert!(codes.iter().any(|code| code == "409") && !codes.iter().any(|code| code == "200"), "{codes:?}");
    });
    let peak = engine.memory_kib("VmHWM");
    assert!(peak < MOST_KIB, "{peak} KiB");
    // The allocator keeps what is free for half a second.
    eventually("memory goes back to the system", || (engine.memory_kib("VmRSS") < AFTER_KIB).then_some(()));
    assert_eq!(engine.stop().code, Some(0));
}

#[test]
fn a_password_that_is_written_wrongly_is_shown_neither_in_the_log_nor_to_whoever_asks() {
    let field = Field::new();
    let mut engine = field.engine();
    let operator = Operator::of(&field, &mut engine);
    let shows = |text: &str| text.contains("hunter2") || text.contains("4815162342");
    for (index, slip) in SLIPS.iter().enumerate() {
        let line = 11 + index;
        field.folder.configure(&format!("{}{slip}\n", "\n".repeat(line - 1)));
        let answer = eventually(slip, || Some(operator.answer()).filter(|answer| answer.contains(&format!("line {line}"))));
        assert!(!shows(&answer), "{slip}: {answer}");
    }
    // The key takes effect after a restart only, so it is not reported as an error yet.
    field.folder.configure("kafka.properties.\"sasl.pasword\" = \"hunter2\"");
    let answer =
        eventually("a restart is asked for", || Some(operator.answer()).filter(|answer| answer.contains("sasl.pasword")));
    assert!(!shows(&answer), "{answer}");
    let ended = engine.stop();
    assert!(!ended.lines.iter().any(|line| shows(line)), "{:#?}", ended.lines);
}

#[test]
fn a_part_of_a_property_that_librdkafka_quotes_is_not_shown() {
    let properties = [
        ("WEIR_KAFKA_PROPERTIES_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("WEIR_KAFKA_PROPERTIES_SASL_MECHANISM", "OAUTHBEARER"),
        ("WEIR_KAFKA_PROPERTIES_ENABLE_SASL_OAUTHBEARER_UNSECURE_JWT", "true"),
        ("WEIR_KAFKA_PROPERTIES_SASL_OAUTHBEARER_CONFIG", "principal=a hunter2"),
        ("WEIR_KAFKA_BROKERS", "127.0.0.1:1"),
        ("WEIR_LOG_LEVEL", "debug"),
    ];
    for command in ["run", "verify --timeout 2s"] {
        let ended = Weir::start(command, &properties).end();
        assert!(ended.code != Some(0) && !ended.lines.iter().any(|line| line.contains("hunter2")), "{command}: {ended:#?}");
        let told = "OAUTHBEARER token: Unrecognized sasl.oauthbearer.config beginning at: …";
        assert!(ended.lines.iter().any(|line| line.starts_with("error: ") && line.contains(told)), "{command}: {ended:#?}");
    }
}
