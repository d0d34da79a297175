//! The shipped rules as components: what they declare, and that they decide as their native tests say. Also the names of the
//! engine that the SDK has a copy of, because it cannot ask the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use weir::config::Config;
use weir_core::counts::Counts;
use weir_core::pipeline::reason_name;
use weir_core::pipeline::{Manifest, check_manifest};
use weir_core::record::{Batch, Step};
use weir_core::reserved::{ENGINE, RULE_FAULT, Reason};
use weir_rule::abi::{Loaded, RESERVED_NAME, RESERVED_REASONS};
use weir_rule::{About, Row, Rule, Verdict};
use weir_wasm::Runtime;
use weir_wasm::rule;
use weir_wasm::ruleset::RuleSet;

use crate::program::built;

/// 2026-01-01T00:00:00Z in milliseconds.
const NOW: i64 = 1_767_225_600_000;

/// The default configuration with the shipped rules, after `change`.
fn configuration(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::parse("", Path::new("weir.toml"), []).unwrap();
    config.rules.pipeline.iter_mut().for_each(|rule: &mut rule::Rule| rule.file = built(&rule.name));
    change(&mut config);
    config
}

/// The results of messages: (record, value) of those that pass, (record, rule, reason, detail) of the others.
type Judged = (Vec<(u32, String)>, Vec<(u32, String, String, Option<String>)>);

fn judge(config: &Config, messages: &[&[u8]]) -> Judged {
    let rules = RuleSet::prove(&Runtime::new(None).unwrap(), config.rules.definition().unwrap()).unwrap();
    let mut pipeline = rules.instantiate().unwrap();
    let mut batch = Batch::new("user-login");
    batch.processed_at = NOW;
    for (offset, message) in messages.iter().enumerate() {
        batch.push(1, offset as i64, None, Some(b"key"), Some(message));
        batch.push_header("trace", Some(b"t-1"));
    }
    let mut step = Step::default();
    pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let outputs = step.outputs.iter().map(|output| (output.record, text(step.value(output, &batch))));
    let rejections = step.rejections.iter().map(|rejection| {
        let rule = rejection.rule().map_or("weir".to_owned(), |rule| pipeline.manifests()[rule].name.clone());
        (rejection.record, rule, reason_name(rejection, pipeline.manifests()).to_owned(), rejection.detail.clone())
    });
    (outputs.collect(), rejections.collect())
}

#[test]
fn a_login_passes_with_its_bytes_untouched_and_two_members_more() {
    let message = br#"{ "user_id":"\u0061", "app_version" : "2.3.0","n":1.50e3,"device_type":"ANDROID","timestamp":1694479551 }"#;
    let (outputs, rejections) = judge(&configuration(|_| ()), &[message]);
    let expected = r#"{ "user_id":"\u0061", "app_version" : "2.3.0","n":1.50e3,"device_type":"ANDROID","timestamp":1694479551 ,"timestamp_in_utc":"2023-09-12 00:45:51","processed_time":1767225600000}"#;
    assert_eq!((outputs, rejections), (vec![(0, expected.to_owned())], vec![]));
}

#[test]
fn each_rule_rejects_for_its_reasons_and_the_others_go_on() {
    let login = |change: Value| {
        let mut login = json!({"app_version": "2.3.0", "device_type": "iOS", "timestamp": 0});
        for (name, value) in change.as_object().unwrap() {
            login[name] = value.clone();
        }
        login.to_string()
    };
    let messages = [
        login(json!({})),
        login(json!({"device_type": null})),
        login(json!({"app_version": "2.2.9"})),
        "{".to_owned(),
        login(json!({"app_version": "two"})),
        login(json!({"timestamp": 1_694_479_551_000_i64})),
        login(json!({"device_type": "windows"})),
        login(json!({"timestamp": "12"})),
    ];
    let messages: Vec<&[u8]> = messages.iter().map(String::as_bytes).collect();
    let (outputs, rejections) = judge(&configuration(|_| ()), &messages);
    assert_eq!(outputs.iter().map(|(record, _)| *record).collect::<Vec<_>>(), [0, 7]);
    let rejections: Vec<_> = rejections
        .iter()
        .map(|(record, rule, reason, detail)| (*record, rule.as_str(), reason.as_str(), detail.as_deref()))
        .collect();
    assert_eq!(
        rejections,
        [
            (1, "validation", "missing_field", Some("device_type")),
            (2, "validation", "old_app_version", Some("2.2.9")),
            (3, "weir", "malformed_json", Some("expected a member's name in double quotes at byte 1")),
            (4, "validation", "malformed_app_version", Some("two")),
            (5, "validation", "malformed_timestamp", Some("1694479551000: seconds are expected; milliseconds?")),
            (6, "device-filter", "unsupported_device_type", Some("windows")),
        ]
    );
}

#[test]
fn members_that_are_there_are_replaced_where_they_stand() {
    let config = configuration(|config| config.rules.pipeline[2].config = json!({"normalise": true}));
    let message = br#"{"processed_time":"old","device_type":"IOS","app_version":"3","timestamp":0,"timestamp_in_utc":null}"#;
    let (outputs, _) = judge(&config, &[message]);
    let expected = r#"{"processed_time":1767225600000,"device_type":"iOS","app_version":"3","timestamp":0,"timestamp_in_utc":"1970-01-01 00:00:00"}"#;
    assert_eq!(outputs[0].1, expected);
}

#[test]
fn a_later_rule_sees_what_an_earlier_one_wrote() {
    let config = configuration(|config| {
        let [validation, enrichment, _] = config.rules.pipeline.clone().try_into().unwrap();
        let required = rule::Rule { config: json!({"required": ["timestamp_in_utc", "@header/trace", "@key"]}), ..validation };
        config.rules.pipeline = vec![enrichment, required];
    });
    let (outputs, rejections) = judge(&config, &[br#"{"timestamp":0}"#]);
    assert_eq!((outputs.len(), rejections), (1, vec![]));
}

#[test]
fn members_inside_objects_are_read_and_written() {
    let config = configuration(|config| {
        config.rules.pipeline.truncate(2);
        config.rules.pipeline[0].config = json!({"required": ["/event/at"]});
        config.rules.pipeline[1].config =
            json!({"timestamp": "/event/at", "timestamp_in_utc": "/event/utc", "processed_time": "/weir/at"});
    });
    let (outputs, _) = judge(&config, &[br#"{"event":{"at":0}}"#]);
    assert_eq!(outputs[0].1, r#"{"event":{"at":0,"utc":"1970-01-01 00:00:00"},"weir":{"at":1767225600000}}"#);
}

#[test]
fn a_configuration_that_a_rule_refuses_is_named() {
    let config = configuration(|config| config.rules.pipeline[0].config = json!({"min_app_version": "new"}));
    let error =
        RuleSet::prove(&Runtime::new(None).unwrap(), config.rules.definition().unwrap()).err().expect("the configuration is bad");
    let message = format!("{error:#}");
    assert!(message.contains("validation") && message.contains("min_app_version") && message.contains("new"), "{message}");
}

#[test]
fn the_hash_covers_order_bytes_and_configuration() {
    let runtime = Runtime::new(None).unwrap();
    let hash = |change: fn(&mut Config)| {
        RuleSet::prove(&runtime, configuration(change).rules.definition().unwrap()).unwrap().hash().to_owned()
    };
    let plain = hash(|_| ());
    assert_eq!(plain.len(), 16);
    assert_eq!(plain, hash(|_| ()));
    assert_ne!(plain, hash(|config| config.rules.pipeline.swap(0, 1)));
    assert_ne!(plain, hash(|config| config.rules.pipeline[2].config = json!({"normalise": true})));
    assert_ne!(plain, hash(|config| config.rules.pipeline.truncate(2)));
}

/// A rule that declares the reasons in its configuration.
struct Declares;

impl Rule for Declares {
    const ABOUT: About = About::new("declares", "1", "Declares a reason");
    type Config = BTreeMap<String, String>;

    fn configure(config: BTreeMap<String, String>, manifest: &mut weir_rule::Manifest) -> Result<Declares, String> {
        config.values().for_each(|reason| _ = manifest.rejects(reason));
        Ok(Declares)
    }

    fn evaluate(&self, _: &mut Row<'_>) -> Verdict {
        Verdict::Keep
    }
}

#[test]
fn the_sdk_refuses_the_names_that_the_engine_has_for_itself_and_says_the_same() {
    let own: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).chain([RULE_FAULT]).collect();
    assert_eq!((RESERVED_NAME, BTreeSet::from(RESERVED_REASONS)), (ENGINE, own.clone()));
    let page = include_str!("../rules/sdk/README.md");
    for reason in own {
        assert!(page.contains(&format!("`{reason}`")), "the SDK's README does not name {reason}");
        let manifest = Manifest { name: "declares".into(), reasons: vec![reason.into()], ..Manifest::default() };
        let refused = Loaded::<Declares>::configure(&json!({ "reason": reason }).to_string()).err();
        assert_eq!((refused.is_some(), refused), (true, check_manifest(&manifest).err()), "{reason}");
    }
}
