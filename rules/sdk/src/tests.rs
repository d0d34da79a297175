//! The crate as an author meets it: a rule that does what a configuration tells it, and what the harness makes of it.

use std::panic;
use std::sync::Mutex;
use std::thread::{self, ThreadId};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::abi::{Batch, Column, Loaded};
use crate::test::{Harness, Record};
use crate::{About, Field, Kind, Manifest, NoConfig, Output, Row, Rule, Verdict};

/// Writes down what it sees in `@key`, `x` and `/a/b`, in all the ways that there are.
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
        // The last of two members with one name is what a `Value` has; `raw` has both.
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

/// Rejects as it is configured to, after it has written something.
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

/// Reads a member that it has not declared.
struct Forgetful;

/// Where it does so.
const FORGOTTEN: u32 = line!() + 11;

impl Rule for Forgetful {
    const ABOUT: About = About::new("forgetful", "1.0.0", "Reads what it has not declared");
    type Config = NoConfig;

    fn configure(_: NoConfig, _: &mut Manifest) -> Result<Forgetful, String> {
        Ok(Forgetful)
    }

    fn evaluate(&self, row: &mut Row<'_>) -> Verdict {
        row.text("x").map_or(Verdict::Keep, |_| Verdict::Keep)
    }
}

#[test]
fn an_undeclared_member_is_reported_with_the_line_of_the_author() {
    static PLACES: Mutex<Vec<(ThreadId, u32)>> = Mutex::new(Vec::new());
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        let line = panicked.location().filter(|place| place.file().ends_with("tests.rs")).map_or(0, |place| place.line());
        PLACES.lock().unwrap().push((thread::current().id(), line));
        usual(panicked);
    }));
    let rule = Harness::<Forgetful>::new(json!({})).unwrap();
    panic::catch_unwind(panic::AssertUnwindSafe(|| rule.judge(json!({ "x": 1 })))).unwrap_err();
    let mine = thread::current().id();
    // The lock is let go of before anything can panic again.
    let places = PLACES.lock().unwrap().clone();
    assert_eq!(places.iter().find(|(thread, _)| *thread == mine).map(|(_, line)| *line), Some(FORGOTTEN));
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

/// Breaks its promise.
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
