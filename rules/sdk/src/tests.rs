//! Tests the crate as an author of rules uses it: rules whose behaviour is configured, run in the harness.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::abi::{Batch, Column, Loaded};
use crate::test::{Harness, Record};
use crate::{About, Field, Kind, Manifest, NoConfig, Output, Row, Rule, Verdict, time};

/// A rule that writes what it reads from `@key`, `x` and `/a/b`, with every method that reads.
struct Mirror {
    x: Field,
    nested: Field,
    copy: Output,
}

impl Rule for Mirror {
    const ABOUT: About = About::new("mirror", "1.2.3", "Shows what it sees");
    type Config = NoConfig;

    fn configure(_: NoConfig, manifest: &mut Manifest) -> Result<Mirror, String> {
        manifest.reads("@key");
        let x = manifest.reads("x");
        assert_eq!(manifest.reads("x"), x, "read twice, declared once");
        for name in ["kind", "text", "integer", "float", "boolean", "raw", "json", "nested", "key", "time"] {
            manifest.writes(name);
        }
        Ok(Mirror { x, nested: manifest.reads("/a/b"), copy: manifest.writes("text") })
    }

    fn evaluate(&self, row: &mut Row<'_>) -> Verdict {
        let x = self.x;
        row.set_integer("kind", row.kind(x) as i64);
        if let Some(text) = row.text(x) {
            row.set_text("text", "this is overwritten, and longer than what follows");
            row.set_text(self.copy, text);
        }
        let numbers = (row.integer(x), row.float("x"), row.boolean(x));
        numbers.0.into_iter().for_each(|integer| row.set_integer("integer", integer));
        numbers.1.into_iter().for_each(|float| row.set_float("float", float));
        numbers.2.into_iter().for_each(|boolean| row.set_boolean("boolean", boolean));
        row.raw(x).into_iter().for_each(|raw| row.set_text("raw", raw));
        row.json(x).into_iter().for_each(|json| row.set_json("json", &json));
        row.json(self.nested).into_iter().for_each(|json| row.set_json("nested", &json));
        row.text("@key").into_iter().for_each(|key| row.set_text("key", key));
        row.set_integer("time", row.processed_at());
        Verdict::Keep
    }
}

fn mirror() -> Harness<Mirror> {
    Harness::new(json!({})).unwrap()
}

#[test]
fn every_kind_of_value_arrives_and_comes_back() {
    let cases = [
        ("null", Kind::Null, json!({ "raw": "null", "json": null })),
        ("true", Kind::Boolean, json!({ "boolean": true, "raw": "true", "json": true })),
        ("false", Kind::Boolean, json!({ "boolean": false, "raw": "false", "json": false })),
        ("1.50e3", Kind::Number, json!({ "integer": 1500, "float": 1500.0, "raw": "1.50e3", "json": 1500.0 })),
        ("-0.5", Kind::Number, json!({ "float": -0.5, "raw": "-0.5", "json": -0.5 })),
        (
            "9223372036854775807",
            Kind::Number,
            json!({ "integer": i64::MAX, "float": i64::MAX as f64, "raw": "9223372036854775807", "json": i64::MAX }),
        ),
        (r#""\u00e9\n""#, Kind::Text, json!({ "text": "é\n", "raw": "é\n", "json": "é\n" })),
        (r#""""#, Kind::Text, json!({ "text": "", "raw": "", "json": "" })),
        (r#"[1,"a"]"#, Kind::Composite, json!({ "raw": r#"[1,"a"]"#, "json": [1, "a"] })),
        ("-1e400", Kind::Number, json!({ "float": null, "raw": "-1e400" })),
        ("[1e400]", Kind::Composite, json!({ "raw": "[1e400]" })),
        (r#"["\ud800"]"#, Kind::Composite, json!({ "raw": r#"["\ud800"]"# })),
        // If two fields have the same name, a `Value` has the last one; `raw` has both.
        (r#"{"a":1,"a":2}"#, Kind::Composite, json!({ "raw": r#"{"a":1,"a":2}"#, "json": { "a": 2 } })),
    ];
    let records = cases.iter().map(|(json, ..)| Record::new(json!({})).raw("x", json));
    for (judged, (sent, kind, expected)) in mirror().judge_all(records).iter().zip(&cases) {
        assert_eq!(judged.written("kind"), Some(json!(*kind as u8)), "{sent}");
        for name in ["text", "integer", "float", "boolean", "raw", "json"] {
            assert_eq!(judged.written(name).as_ref(), expected.get(name), "{name} of {sent}");
        }
    }
}

#[test]
fn what_is_absent_stays_absent() {
    let judged = mirror().judge(json!({ "y": 1 }));
    assert_eq!(judged.written("kind"), Some(json!(0)));
    for name in ["text", "integer", "float", "boolean", "raw", "json", "nested", "key"] {
        assert_eq!(judged.written(name), None, "{name}");
    }
}

#[test]
fn members_are_found_by_pointer_and_metadata_by_its_name() {
    let record = Record::new(json!({ "a": { "b": [1] }, "/a/b": 2, "@key": 3 })).meta("@key", "k");
    let judged = mirror().processed_at(-7).judge(record);
    assert_eq!(judged.written("nested"), Some(json!([1])));
    assert_eq!(judged.written("key"), Some(json!("k")));
    assert_eq!(judged.written("time"), Some(json!(-7)));
}

#[test]
fn texts_of_every_length_keep_their_place_in_the_column() {
    let texts: Vec<String> = (0..200).map(|length| "aé€😀".chars().cycle().take(length % 70).collect()).collect();
    let judged = mirror().judge_all(texts.iter().map(|text| json!({ "x": text })));
    for (judged, text) in judged.iter().zip(&texts) {
        assert_eq!(judged.written("text"), Some(json!(text)));
    }
}

/// A rule that writes something and then rejects, as it is configured to.
struct Refuse(Config);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    by_name: Option<String>,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    writes: Vec<String>,
}

impl Rule for Refuse {
    const ABOUT: About = About::new("refuse", "1", "Rejects the odd ones");
    type Config = Config;

    fn configure(config: Config, manifest: &mut Manifest) -> Result<Refuse, String> {
        manifest.reads("odd");
        manifest.rejects("odd_one");
        manifest.writes("seen");
        for reason in &config.reasons {
            manifest.rejects(reason);
        }
        for name in &config.writes {
            manifest.writes(name);
        }
        Ok(Refuse(config))
    }

    fn evaluate(&self, row: &mut Row<'_>) -> Verdict {
        if let Some(name) = &self.0.by_name {
            row.text(name.as_str());
        }
        row.set_text("seen", "yes");
        match row.boolean("odd") {
            Some(true) => row.reject("odd_one", "odd"),
            Some(false) => Verdict::Keep,
            None => Verdict::reject_with("odd_one", "é".repeat(1_000)),
        }
    }
}

#[test]
fn rejected_rows_are_named_in_order_and_write_nothing() {
    let rule = Harness::<Refuse>::new(json!({})).unwrap();
    let judged = rule.judge_all([json!({ "odd": true }), json!({ "odd": false }), json!({}), json!({ "odd": false })]);
    let written: Vec<Option<Value>> = judged.iter().map(|judged| judged.written("seen")).collect();
    assert_eq!(written, [None, Some(json!("yes")), None, Some(json!("yes"))]);
    let details: Vec<Option<&str>> = judged.iter().map(|judged| judged.detail()).collect();
    assert_eq!(details, [Some("true"), None, Some("é".repeat(512).as_str()), None]);
    assert_eq!(judged[0].reason(), Some("odd_one"));
    assert!(judged[1].is_kept());
}

/// A rule that names what it has not declared, with each method that takes a name.
struct Careless;

impl Rule for Careless {
    const ABOUT: About = About::new("careless", "1.0.0", "Names what it has not declared");
    type Config = NoConfig;

    fn configure(_: NoConfig, manifest: &mut Manifest) -> Result<Careless, String> {
        manifest.reads("how");
        manifest.rejects("odd");
        Ok(Careless)
    }

    fn evaluate(&self, row: &mut Row<'_>) -> Verdict {
        match row.text("how") {
            Some("text") => _ = row.text("typo"),
            Some("json") => _ = row.json("typo"),
            Some("set_json") => row.set_json("typo", &json!(1)),
            Some("reject") => return Verdict::reject("typo"),
            Some("reject_with") => return Verdict::reject_with("typo", "a detail"),
            Some("row.reject") => return row.reject("typo", "how"),
            Some("row.reject a member") => return row.reject("odd", "typo"),
            Some("reject_seconds") => return time::reject_seconds(row, "typo", "how"),
            _ => return Verdict::reject("odd"),
        }
        Verdict::Keep
    }
}

/// Returns the number of the first line of this file that contains `code`.
fn line_of(code: &str) -> u32 {
    1 + include_str!("tests.rs").lines().position(|line| line.contains(code)).expect("it is in this file") as u32
}

thread_local! {
    /// The text and the place of the last panic of this thread.
    static REPORT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Returns the report of a panic of `act` as a host gets it: the text and the place.
fn report_of(act: impl FnOnce()) -> String {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let (what, place) = (panicked.payload_as_str().unwrap_or_default(), panicked.location());
            REPORT.set(format!("{what}, at {}", place.expect("every panic has a place")));
            usual(panicked);
        }));
    });
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(act)).is_err(), "it panics");
    REPORT.take()
}

#[test]
fn an_undeclared_name_is_reported_with_the_line_of_the_author() {
    let rule = Harness::<Careless>::new(json!({})).unwrap();
    let cases = [
        ("text", "row.text(\"typo\")", "reads"),
        ("json", "row.json(\"typo\")", "reads"),
        ("set_json", "row.set_json(\"typo\"", "writes"),
        ("reject", "Verdict::reject(\"typo\")", "rejects"),
        ("reject_with", "Verdict::reject_with(\"typo\"", "rejects"),
        ("row.reject", "row.reject(\"typo\"", "rejects"),
        ("row.reject a member", "row.reject(\"odd\", \"typo\")", "reads"),
        ("reject_seconds", "time::reject_seconds(row, \"typo\"", "rejects"),
    ];
    for (how, code, method) in cases {
        let report = report_of(|| drop(rule.judge(json!({ "how": how }))));
        assert!(report.contains(&format!("call manifest.{method}(\"typo\")")), "{how}: {report}");
        assert!(report.contains(&format!("tests.rs:{}:", line_of(code))), "{how}: {report}");
    }
    assert_eq!(rule.judge(json!({})).reason(), Some("odd"));
}

#[test]
fn what_a_test_says_wrongly_is_reported_with_the_line_of_the_test() {
    let judged = mirror().judge(json!({}));
    let impure = Harness::<Impure>::new(json!({})).unwrap();
    let reports = [
        (line!(), report_of(|| drop(judged.written("typo"))), "manifest.writes(\"typo\")"),
        (line!(), report_of(|| drop(Record::new(json!({})).meta("key", "k"))), "`key` is no metadata"),
        (line!(), report_of(|| drop(Record::new(json!({})).raw("x", "nonsense"))), "`nonsense` is no JSON"),
        (line!(), report_of(|| drop(impure.judge(json!({})))), "the rule is not pure"),
        (line!(), report_of(|| _ = About::new("Loud", "1", "")), "lower-case letters"),
    ];
    for (line, report, words) in reports {
        assert!(report.contains(words) && report.contains(&format!("tests.rs:{line}:")), "{line}: {report}");
    }
}

#[test]
fn verdicts_are_the_same_wherever_they_are_made() {
    let (one, other) = (Verdict::reject("odd"), Verdict::reject("odd"));
    assert_eq!(one, other);
    assert_ne!(one, Verdict::reject("even"));
}

#[test]
#[should_panic(expected = r#"`even` is not declared: call manifest.reads("even") in configure; declared are ["odd"]"#)]
fn a_name_that_is_not_declared_is_told_with_those_that_are() {
    Harness::<Refuse>::new(json!({ "by_name": "even" })).unwrap().judge(json!({}));
}

#[test]
fn declarations_that_the_host_would_refuse_are_refused() {
    let many: Vec<String> = (0..64).map(|number| format!("r{number}")).collect();
    let cases = [
        (json!({ "reasons": ["Odd"] }), "`Odd`"),
        (json!({ "reasons": ["rule_fault"] }), "its reason `rule_fault` is one of the engine's own; call it otherwise"),
        (json!({ "reasons": ["malformed_json"] }), "its reason `malformed_json` is one of the engine's own"),
        (json!({ "reasons": many }), "65 reasons"),
        (json!({ "writes": ["@key"] }), "`@key`"),
        (json!({ "writes": [""] }), "empty name"),
        (json!({ "wirtes": [] }), "`wirtes`"),
    ];
    for (config, named) in cases {
        let error = Harness::<Refuse>::new(config).err().unwrap();
        assert!(error.contains(named), "{error}");
    }
}

/// A rule with the reserved name of the engine.
struct Impostor;

impl Rule for Impostor {
    const ABOUT: About = About::new("weir", "1", "Has the engine's name");
    type Config = NoConfig;

    fn configure(_: NoConfig, _: &mut Manifest) -> Result<Impostor, String> {
        Ok(Impostor)
    }

    fn evaluate(&self, _: &mut Row<'_>) -> Verdict {
        Verdict::Keep
    }
}

#[test]
fn a_rule_with_the_name_of_the_engine_is_refused() {
    let error = Harness::<Impostor>::new(json!({})).err().unwrap();
    assert_eq!(error, "its name `weir` is the engine's own; call it otherwise");
}

#[test]
fn the_configuration_is_an_object_or_nothing() {
    for config in ["", "  \n", "{}", " {} "] {
        let (_, manifest) = Loaded::<Mirror>::configure(config).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("mirror", "1.2.3"));
    }
    for config in ["[]", "null", "{", "{} {}", "{\"a\":1}", "nonsense"] {
        let error = Loaded::<Mirror>::configure(config).err().unwrap();
        assert!(error.starts_with("failed to read the configuration: "), "{error}");
    }
}

#[test]
fn a_batch_may_be_empty() {
    let (loaded, manifest) = Loaded::<Mirror>::configure("").unwrap();
    let columns = vec![Column::default(); manifest.reads.len()];
    let outcome = loaded.evaluate(&Batch { rows: 0, processed_at: 0, columns });
    assert_eq!(outcome.columns, vec![Column::default(); manifest.writes.len()]);
}

/// A rule that is not pure.
struct Impure(std::cell::Cell<bool>);

impl Rule for Impure {
    const ABOUT: About = About::new("impure", "1", "Rejects every other time");
    type Config = NoConfig;

    fn configure(_: NoConfig, manifest: &mut Manifest) -> Result<Impure, String> {
        manifest.rejects("moody");
        Ok(Impure(false.into()))
    }

    fn evaluate(&self, _: &mut Row<'_>) -> Verdict {
        if self.0.replace(!self.0.get()) { Verdict::reject("moody") } else { Verdict::Keep }
    }
}

#[test]
#[should_panic(expected = "the rule is not pure")]
fn the_harness_finds_a_rule_that_remembers() {
    Harness::<Impure>::new(json!({})).unwrap().judge(json!({}));
}
