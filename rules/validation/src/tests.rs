//! The rule as a whole, on records. How versions compare is tested in `version.rs`.

use weir_rule::serde_json::{Value, json};
use weir_rule::test::{Harness, Judged, Record};

use super::*;

fn rule(config: Value) -> Harness<Validation> {
    Harness::new(config).unwrap()
}

fn login() -> Value {
    json!({ "app_version": "2.3.0", "device_type": "android", "timestamp": 1_700_000_000 })
}

/// Evaluates a login with one field set to a JSON text.
fn with(field: &str, json: &str) -> Judged {
    rule(json!({})).judge(Record::new(login()).raw(field, json))
}

fn assert_rejected(judged: &Judged, reason: &str, detail: &str) {
    assert_eq!((judged.reason(), judged.detail()), (Some(reason), Some(detail)));
}

#[test]
fn keeps_a_good_login_and_writes_nothing() {
    let rule = rule(json!({}));
    assert!(rule.judge(login()).is_kept());
    assert_eq!(rule.manifest().reads, ["app_version", "device_type", "timestamp"]);
    assert!(rule.manifest().writes.is_empty());
}

#[test]
fn names_the_first_required_member_that_is_missing_or_null() {
    let rule = rule(json!({}));
    for field in ["app_version", "device_type", "timestamp"] {
        let mut absent = login();
        absent.as_object_mut().unwrap().remove(field);
        assert_rejected(&rule.judge(absent), "missing_field", field);
        let mut null = login();
        null[field] = Value::Null;
        assert_rejected(&rule.judge(null), "missing_field", field);
    }
    assert_rejected(&rule.judge(json!({})), "missing_field", "app_version");
}

#[test]
fn an_empty_member_is_not_a_missing_one() {
    assert!(with("device_type", "\"\"").is_kept());
    assert!(with("device_type", "0").is_kept());
}

#[test]
fn other_members_can_be_required_by_name_and_by_pointer() {
    let rule = rule(json!({ "required": ["/device/os", "user_id"] }));
    assert!(rule.judge(json!({ "device": { "os": "x" }, "user_id": 7 })).is_kept());
    assert_rejected(&rule.judge(json!({ "device": {}, "user_id": 7 })), "missing_field", "/device/os");
    assert_rejected(&rule.judge(json!({ "device": { "os": "x" } })), "missing_field", "user_id");
}

#[test]
fn what_is_not_required_is_checked_only_if_it_is_there() {
    let rule = rule(json!({ "required": [] }));
    assert!(rule.judge(json!({})).is_kept());
    assert!(rule.judge(json!({ "app_version": null, "timestamp": null })).is_kept());
    assert_rejected(&rule.judge(json!({ "app_version": "1" })), "old_app_version", "1");
    assert_rejected(&rule.judge(json!({ "timestamp": "x" })), "malformed_timestamp", "x");
}

#[test]
fn compares_versions_number_by_number() {
    for version in ["2.3.0", "2.3", "2.3.0+build", "2.3.1", "2.10.0", "2.3.1-beta", "3", "2.99999999999999999999.0"] {
        assert!(with("app_version", &format!("\"{version}\"")).is_kept(), "{version}");
    }
    for version in ["2.2.9", "2.3.0-beta", "2", "0.0.0", "1.99999999999999999999.0"] {
        assert_rejected(&with("app_version", &format!("\"{version}\"")), "old_app_version", version);
    }
}

#[test]
fn what_is_no_version_is_malformed_and_so_is_what_is_no_text() {
    for version in ["", "latest", "2..3", "2.3.", "+2.3", "2.3.0 ", "v2.3.0"] {
        assert_rejected(&with("app_version", &format!("\"{version}\"")), "malformed_app_version", version);
    }
    for json in ["2.3", "3", "true", "[2,3]", "{}"] {
        assert_rejected(&with("app_version", json), "malformed_app_version", json);
    }
}

#[test]
fn the_detail_is_bounded() {
    let judged = with("app_version", &format!("\"{}\"", "x".repeat(1 << 20)));
    assert_eq!(judged.detail().unwrap().len(), 1_024);
}

#[test]
fn a_timestamp_is_seconds_up_to_the_end_of_the_year_9999() {
    let good = [
        "0",
        "-0",
        "-0.5",
        "0.5",
        "1.7e9",
        "1700000000.999",
        "17E8",
        "253402300799",
        "253402300799.9",
        "\"0\"",
        "\"1700000000\"",
        "\"-0\"",
    ];
    for json in good {
        assert!(with("timestamp", json).is_kept(), "{json}");
    }
    let bad = ["-1", "-1.5", "1e300", "99999999999999999999", "true", "[]", "{}"];
    for json in bad {
        assert_rejected(&with("timestamp", json), "malformed_timestamp", json);
    }
    for text in ["", "now", "1.5", "1e9", " 1", "-1", "2024-01-01T00:00:00Z"] {
        assert_rejected(&with("timestamp", &format!("\"{text}\"")), "malformed_timestamp", text);
    }
    for json in ["253402300800", "1700000000000", "1.7e12", "\"1700000000000\""] {
        let detail = format!("{}: seconds are expected; milliseconds?", json.trim_matches('"'));
        assert_rejected(&with("timestamp", json), "malformed_timestamp", &detail);
    }
}

#[test]
fn the_first_reason_wins() {
    assert_rejected(&rule(json!({})).judge(json!({ "app_version": "1", "timestamp": "x" })), "missing_field", "device_type");
    let judged = rule(json!({})).judge(json!({ "app_version": "1", "device_type": "iOS", "timestamp": "x" }));
    assert_rejected(&judged, "old_app_version", "1");
}

#[test]
fn the_oldest_version_can_be_configured() {
    let rule = rule(json!({ "min_app_version": "3.0.0-rc.1" }));
    let judge = |version: &str| rule.judge(json!({ "app_version": version, "device_type": "iOS", "timestamp": 0 }));
    assert!(judge("3.0.0-rc.1").is_kept());
    assert!(judge("3.0.0").is_kept());
    assert_rejected(&judge("3.0.0-beta"), "old_app_version", "3.0.0-beta");
}

#[test]
fn refuses_a_configuration_that_cannot_be_meant() {
    let cases = [
        (json!({ "min_app_version": "new" }), "`new` is no version"),
        (json!({ "min_version": "2.3.0" }), "`min_version`"),
        (json!({ "required": "app_version" }), "invalid type"),
        (json!({ "required": [""] }), "empty name"),
    ];
    for (config, named) in cases {
        let error = Harness::<Validation>::new(config).err().unwrap();
        assert!(error.contains(named), "{error}");
    }
}
