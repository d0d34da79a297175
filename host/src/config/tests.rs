//! Tests of the meaning of a configuration, and of the errors for a wrong one.

use std::time::Duration;

use super::*;
use weir_engine::TrialBounds;
use weir_wasm::Limits;
use weir_wasm::rule::Rule;

const FILE: &str = "weir.toml";

fn parse(text: &str) -> Result<Config, InvalidConfig> {
    Config::parse(text, Path::new(FILE), [])
}

fn with(text: &str, environment: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::parse(text, Path::new(FILE), environment)
}

fn complaint(result: Result<Config, InvalidConfig>) -> String {
    result.expect_err("the configuration is wrong").to_string()
}

/// Compares `weir.toml` with the printed configuration. `RENEW=1 cargo test -p weir --lib -- config` writes the file anew.
#[test]
fn the_file_in_the_root_is_what_the_program_says() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../weir.toml");
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(file, document()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), document(), "RENEW=1 writes it");
}

#[test]
fn the_file_with_all_keys_says_the_defaults() {
    assert_eq!(parse(&document()).unwrap(), Config::default());
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = Config::default();
    assert_eq!(config.rules.trial, TrialBounds::default());
    for rule in config.rules.pipeline {
        assert_eq!(rule.limits, Limits::default());
        assert_eq!(Rule { file: rule.file.clone(), ..Rule::with_defaults(&rule.name) }, rule);
    }
}

#[test]
fn the_defaults_are_as_documented() {
    let config = Config::default();
    assert_eq!(config.kafka.client.brokers.as_deref(), Some("localhost:9092"));
    assert_eq!(config.kafka.topics.counts, "device_type_count");
    assert_eq!((config.kafka.batch.rows, config.kafka.batch.bytes, config.kafka.batch.linger), (20_000, 4 << 20, Duration::ZERO));
    assert_eq!(config.counts.every, Duration::from_secs(60));
    let rules: Vec<&str> = config.rules.pipeline.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(rules, ["validation", "utc-enrichment", "device-filter"]);
    let Rule { file, drop, limits, config, .. } = &config.rules.pipeline[1];
    assert_eq!(file, Path::new("rules/dist/utc-enrichment.wasm"));
    assert_eq!(
        (*drop, limits.memory, limits.deadline, config),
        (false, 32 << 20, Duration::from_secs(1), &serde_json::json!({}))
    );
}

#[test]
fn every_key_can_be_written() {
    let text = r#"
        [kafka]
        brokers = "embedded"
        properties = { security.protocol = "SSL", "socket.timeout.ms" = 5000, enable.ssl.certificate.verification = false }
        [topics]
        settings = { "retention.ms" = "1000" }
        [batch]
        bytes = 1000000
        [rules]
        folder = "more"
        pipeline = ["mine"]
        [rule.mine]
        on_reject = "drop"
        [rule.mine.config]
        deep = { list = [1, 2.5, true, "x", 2024-01-01] }
    "#;
    let config = Config::parse(text, Path::new("/etc/weir/weir.toml"), []).unwrap();
    assert_eq!(config.kafka.client.brokers, None);
    let properties: Vec<(&str, &str)> =
        config.kafka.client.properties.iter().map(|(key, value)| (key.as_str(), value.reveal())).collect();
    assert_eq!(
        properties,
        [("enable.ssl.certificate.verification", "false"), ("security.protocol", "SSL"), ("socket.timeout.ms", "5000")]
    );
    assert_eq!(config.kafka.topics.settings["retention.ms"], "1000");
    assert_eq!(config.kafka.batch.bytes, 1_000_000);
    assert_eq!(config.rules.pipeline[0].file, Path::new("/etc/weir/more/mine.wasm"));
    assert!(config.rules.pipeline[0].drop);
    assert_eq!(config.rules.pipeline[0].config, serde_json::json!({ "deep": { "list": [1, 2.5, true, "x", "2024-01-01"] } }));
}

#[test]
fn an_absolute_path_stays() {
    let config = parse("rule.validation.file = '/rules/v2.wasm'").unwrap();
    assert_eq!(config.rules.pipeline[0].file, Path::new("/rules/v2.wasm"));
}

#[test]
fn the_deadlines_of_all_rules_together_obeyed_and_violated() {
    let deadlines =
        |first, second| parse(&format!("rule.validation.deadline = '{first}'\nrule.utc-enrichment.deadline = '{second}'"));
    assert!(deadlines("4s", "20s").is_ok());
    let complaint = complaint(deadlines("5s", "20s"));
    assert!(
        complaint.starts_with("`rule.utc-enrichment.deadline` in weir.toml line 2 is \"20s\"; expected less: "),
        "{complaint}"
    );
    assert!(complaint.ends_with("together may be at most 25s"), "{complaint}");
}

#[test]
fn complaints_name_the_key_the_place_and_the_remedy() {
    let cases = [
        ("\n[kafka]\nbrokres = 'x'", "unknown key `kafka.brokres` in weir.toml line 3; did you mean `kafka.brokers`?"),
        ("brokers = 'x'", "unknown key `brokers` in weir.toml line 1; did you mean `kafka.brokers`?"),
        ("[zebra]\ncrossing = 1", "unknown key `zebra.crossing` in weir.toml line 2"),
        ("[topcis]", "unknown table `[topcis]` in weir.toml line 1; did you mean `topics`?"),
        (
            "[rule.validation]\nmemroy = 1",
            "unknown key `rule.validation.memroy` in weir.toml line 2; did you mean `rule.validation.memory`?",
        ),
        (
            "[rule.validaton]",
            "`[rule.validaton]` in weir.toml line 1 is about a rule that `rules.pipeline` does not have; did you mean `validation`?",
        ),
        ("kafka = 3", "`kafka` in weir.toml line 1 is a number; expected a table"),
        ("kafka.properties = 3", "`kafka.properties` in weir.toml line 1 is a number; expected a table"),
        (
            "kafka.properties.acks = []",
            "`kafka.properties.acks` in weir.toml line 1 is a list; expected a text, a number, true or false",
        ),
        (
            "kafka.properties.\"group.id\" = 'x'",
            "`kafka.properties.group.id` in weir.toml line 1 is a text; expected `kafka.group` in its place",
        ),
        ("kafka.headers = 'yes'", "`kafka.headers` in weir.toml line 1 is \"yes\"; expected true or false"),
        ("kafka.group = ''", "`kafka.group` in weir.toml line 1 is \"\"; expected a text that is not empty"),
        ("batch.rows = 0", "`batch.rows` in weir.toml line 1 is 0; expected a whole number from 1 to 1000000"),
        ("batch.rows = 'many'", "`batch.rows` in weir.toml line 1 is \"many\"; expected a whole number from 1 to 1000000"),
        (
            "batch.bytes = '4Mib'",
            "`batch.bytes` in weir.toml line 1 is \"4Mib\"; expected a size from 64KiB to 256MiB, such as \"4MiB\"",
        ),
        (
            "batch.bytes = 99999999999",
            "`batch.bytes` in weir.toml line 1 is 99999999999; expected a size from 64KiB to 256MiB, such as \"4MiB\"",
        ),
        (
            "counts.every = 60",
            "`counts.every` in weir.toml line 1 is 60; expected a duration from 100ms to 24h, such as \"500ms\" or \"60s\"",
        ),
        (
            "counts.every = '0s'",
            "`counts.every` in weir.toml line 1 is \"0s\"; expected a duration from 100ms to 24h, such as \"500ms\" or \"60s\"",
        ),
        (
            "topics.output = 'user-login'",
            "`topics.output` in weir.toml line 1 is \"user-login\"; expected another topic than `topics.input`",
        ),
        (
            "topics.input = 'a b'",
            "`topics.input` in weir.toml line 1 is \"a b\"; expected a topic: at most 249 letters, digits, `.`, `-` and `_`",
        ),
        (
            "rules.pipeline = []",
            "`rules.pipeline` in weir.toml line 1 is []; expected a list of different names, each of letters, digits, `-` and `_`, and not `weir`",
        ),
        (
            "rules.pipeline = ['a-b', 'a_b']",
            "`rules.pipeline` in weir.toml line 1 is [\"a-b\",\"a_b\"]; expected a list of different names, each of letters, digits, `-` and `_`, and not `weir`",
        ),
        (
            "rules.pipeline = ['../x']",
            "`rules.pipeline` in weir.toml line 1 is [\"../x\"]; expected a list of different names, each of letters, digits, `-` and `_`, and not `weir`",
        ),
        (
            "rule.validation.on_reject = 'ignore'",
            "`rule.validation.on_reject` in weir.toml line 1 is \"ignore\"; expected one of \"dead-letter\", \"drop\"",
        ),
        ("rule.validation.config = 3", "`rule.validation.config` in weir.toml line 1 is 3; expected a table"),
        (
            "rule.validation.config.x = nan",
            "`rule.validation.config` in weir.toml line 1 has a number that can't be used; expected a finite one",
        ),
        ("simulate.bad_share = 2", "`simulate.bad_share` in weir.toml line 1 is 2; expected a number from 0 to 1"),
        (
            "log.level = 'loud'",
            "`log.level` in weir.toml line 1 is \"loud\"; expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(parse(text)), expected, "for {text}");
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let complaint = complaint(parse("[kafka]\nbrokers = \n"));
    assert!(complaint.starts_with("failed to parse weir.toml line 2: "), "{complaint}");
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "[kafka]\nbrokers = 'a:1'\n[rule.validation.config]\nmin_app_version = '2.3'";
    let config = with(
        text,
        &[
            ("PATH", "/bin"),
            ("WEIR_CONFIG", "elsewhere.toml"),
            ("WEIR_KAFKA_BROKERS", "b:2,c:3"),
            ("WEIR_KAFKA_HEADERS", "false"),
            ("WEIR_KAFKA_PROPERTIES_SASL_MECHANISM", "PLAIN"),
            ("WEIR_TOPICS_SETTINGS_RETENTION_MS", "1000"),
            ("WEIR_TOPICS_PARTITIONS", "6"),
            ("WEIR_BATCH_BYTES", "1MiB"),
            ("WEIR_COUNTS_EVERY", "10s"),
            ("WEIR_COUNTS_EMIT_EMPTY", "true"),
            ("WEIR_LOG_LEVEL", "debug"),
            ("WEIR_RULE_VALIDATION_ON_REJECT", "drop"),
            ("WEIR_RULE_VALIDATION_CONFIG_MIN_APP_VERSION", "2.4"),
            ("WEIR_RULE_UTC_ENRICHMENT_CONFIG_FORMAT", "%H:%M"),
            ("WEIR_RULE_DEVICE_FILTER_CONFIG", "{ normalise = true }"),
            ("WEIR_RULE_DEVICE_FILTER_CONFIG_ALLOWED", r#"["tv"]"#),
        ],
    )
    .unwrap();
    assert_eq!(config.kafka.client.brokers.as_deref(), Some("b:2,c:3"));
    assert!(!config.kafka.client.headers);
    assert_eq!(config.kafka.client.properties["sasl.mechanism"].reveal(), "PLAIN");
    assert_eq!(config.kafka.topics.settings["retention.ms"], "1000");
    assert_eq!((config.kafka.topics.partitions, config.kafka.batch.bytes), (6, 1 << 20));
    assert_eq!((config.counts.every, config.counts.emit_empty), (Duration::from_secs(10), true));
    assert_eq!(config.log.level, LevelFilter::DEBUG);
    assert!(config.rules.pipeline[0].drop);
    assert_eq!(config.rules.pipeline[0].config, serde_json::json!({ "min_app_version": "2.4" }));
    assert_eq!(config.rules.pipeline[1].config, serde_json::json!({ "format": "%H:%M" }));
    assert_eq!(config.rules.pipeline[2].config, serde_json::json!({ "normalise": true, "allowed": ["tv"] }));
}

#[test]
fn the_pipeline_may_be_a_list_or_toml() {
    for text in ["validation, extra", r#"["validation", "extra"]"#] {
        let config = with("", &[("WEIR_RULES_PIPELINE", text), ("WEIR_RULE_EXTRA_MEMORY", "2MiB")]).unwrap();
        let rules: Vec<(&str, usize)> =
            config.rules.pipeline.iter().map(|rule| (rule.name.as_str(), rule.limits.memory)).collect();
        assert_eq!(rules, [("validation", 32 << 20), ("extra", 2 << 20)]);
    }
}

#[test]
fn the_environment_may_leave_out_a_rule_that_the_file_describes() {
    let config = with("[rule.device-filter]\non_reject = 'drop'", &[("WEIR_RULES_PIPELINE", "validation")]).unwrap();
    assert_eq!(config.rules.pipeline.len(), 1);
}

#[test]
fn complaints_about_the_environment_name_the_variable() {
    let cases = [
        ("WEIR_KAFKA_BROKRES", "x", "unknown environment variable WEIR_KAFKA_BROKRES; did you mean `WEIR_KAFKA_BROKERS`?"),
        ("WEIR_CONFIGS", "x", "unknown environment variable WEIR_CONFIGS; did you mean `WEIR_CONFIG`?"),
        ("WEIR_LOG", "debug", "unknown environment variable WEIR_LOG; did you mean `WEIR_LOG_LEVEL`?"),
        (
            "WEIR_RULE_VALIDATION_ONREJECT",
            "x",
            "unknown environment variable WEIR_RULE_VALIDATION_ONREJECT; did you mean `WEIR_RULE_VALIDATION_ON_REJECT`?",
        ),
        (
            "WEIR_BATCH_ROWS",
            "many",
            "`batch.rows` in the environment variable WEIR_BATCH_ROWS is \"many\"; expected a whole number from 1 to 1000000",
        ),
        (
            "WEIR_RULES_PIPELINE",
            "",
            "`rules.pipeline` in the environment variable WEIR_RULES_PIPELINE is []; \
             expected a list of different names, each of letters, digits, `-` and `_`, and not `weir`",
        ),
    ];
    for (name, value, expected) in cases {
        assert_eq!(complaint(with("", &[(name, value)])), expected);
    }
}

#[test]
fn the_time_of_a_trial_may_be_said_in_seconds() {
    let time = |text: &str| parse(text).unwrap().rules.trial.time;
    assert_eq!(
        ["trial.seconds = 30", "trial.seconds = '30'", "[trial]\nseconds = '30s'"].map(time),
        [Duration::from_secs(30); 3]
    );
    assert_eq!(with("", &[("WEIR_TRIAL_SECONDS", "90")]).unwrap().rules.trial.time, Duration::from_secs(90));
    let complaint = complaint(parse("[trial]\ntime = '60s'\nseconds = 30"));
    assert!(complaint.contains("by another name") && complaint.contains("expected one of them"), "{complaint}");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let complaint = complaint(Config::load(Some(Path::new("/nowhere/weir.toml")), []));
    assert!(complaint.starts_with("failed to read the configuration /nowhere/weir.toml: "), "{complaint}");
    let variable = [(FILE_VARIABLE.to_owned(), "/nowhere/other.toml".to_owned())];
    let complaint = Config::load(None, variable).expect_err("it is not there").to_string();
    assert!(complaint.starts_with("failed to read the configuration /nowhere/other.toml: "), "{complaint}");
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, b"[kafka]\n# Z\xfcrich\n").unwrap();
    let complaint = complaint(Config::load(Some(&file), []));
    assert!(complaint.ends_with("weir.toml line 2: the byte 0xfc is not UTF-8; save it as UTF-8"), "{complaint}");
}

/// The variables of a pod whose namespace has a Service called `weir`.
const SERVICE_LINKS: [(&str, &str); 7] = [
    ("WEIR_SERVICE_HOST", "10.96.14.7"),
    ("WEIR_SERVICE_PORT", "8081"),
    ("WEIR_PORT", "tcp://10.96.14.7:8081"),
    ("WEIR_PORT_8081_TCP", "tcp://10.96.14.7:8081"),
    ("WEIR_PORT_8081_TCP_PROTO", "tcp"),
    ("WEIR_PORT_8081_TCP_PORT", "8081"),
    ("WEIR_PORT_8081_TCP_ADDR", "10.96.14.7"),
];

#[test]
fn what_kubernetes_sets_for_a_service_is_left_aside() {
    let admin = SERVICE_LINKS.map(|(name, value)| (name.replace("WEIR_", "WEIR_ADMIN_"), value));
    let admin = admin.each_ref().map(|(name, value)| (name.as_str(), *value));
    let ours = [("WEIR_ADMIN_LISTEN", "127.0.0.1:7"), ("WEIR_BATCH_ROWS", "7")];
    let config = with("", &[&SERVICE_LINKS[..], &admin, &ours].concat()).unwrap();
    assert_eq!((config.admin.listen.as_deref(), config.kafka.batch.rows), (Some("127.0.0.1:7"), 7));
}

#[test]
fn a_variable_that_only_looks_like_a_services_is_refused_with_the_way_out() {
    for name in ["WEIR_ADMIN_PORT", "WEIR_SERVICE_HOST", "WEIR_PORT", "WEIR_PORT_8081_TCP_ADDR"] {
        let complaint = complaint(with("", &[(name, "8081")]));
        assert!(complaint.starts_with(&format!("unknown environment variable {name}")), "{complaint}");
        assert!(complaint.contains("enableServiceLinks"), "{complaint}");
    }
    let complaint = complaint(with("", &[&SERVICE_LINKS[..], &[("WEIR_PORTS", "8081")]].concat()));
    assert_eq!(complaint, "unknown environment variable WEIR_PORTS");
}

#[test]
fn passwords_are_not_shown() {
    let config = parse("kafka.properties.\"sasl.password\" = 'hunter2'\nadmin.token = 'hunter2'").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_complaint_about_a_secret_names_the_type_that_was_found_and_not_the_value() {
    let cases = [
        ("admin.token = 4815162342", "`admin.token` in weir.toml line 1 is a number; expected a text"),
        (
            "admin.token = 48151623424815162342",
            "`admin.token` in weir.toml line 1 has a number that can't be used; expected one of at most 64 bits",
        ),
        ("admin.token_file = ['4815162342']", "`admin.token_file` in weir.toml line 1 is a list; expected a text"),
        ("admin.token_file = 4815162342", "`admin.token_file` in weir.toml line 1 is a number; expected a text"),
        (
            "admin = { token = 'x', token_file = '4815162342' }",
            "`admin.token_file` in weir.toml line 1 is a text; expected nothing, since `admin.token` is set too",
        ),
        ("admin.token = ['4815162342']", "`admin.token` in weir.toml line 1 is a list; expected a text"),
        ("admin = '4815162342'", "`admin` in weir.toml line 1 is a text; expected a table"),
        (
            "kafka.properties.'sasl.password' = ['4815162342']",
            "`kafka.properties.sasl.password` in weir.toml line 1 is a list; expected a text, a number, true or false",
        ),
        ("kafka.properties = '4815162342'", "`kafka.properties` in weir.toml line 1 is a text; expected a table"),
        (
            "kafka.properties.'group.id' = '4815162342'",
            "`kafka.properties.group.id` in weir.toml line 1 is a text; expected `kafka.group` in its place",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(parse(text)), expected);
    }
}

#[test]
fn a_number_that_can_not_be_used_is_not_shown_whatever_its_key_is() {
    for key in ["admin.tokn", "kafka.'sasl.password'", "kafka.propertis.'sasl.password'", "kafka.brokers", "password"] {
        for number in ["48151623424815162342", "[48151623424815162342]", "-48151623424815162342", "4815162342e4815162342"] {
            let complaint = complaint(parse(&format!("{key} = {number}")));
            assert!(!complaint.contains("4815162342") && complaint.contains("weir.toml line 1 has a number"), "{complaint}");
        }
    }
}

#[test]
fn a_user_and_a_password_before_a_broker_are_refused_and_not_shown() {
    let expected = "expected `host:port,…`, and user and password as `sasl.username` and `sasl.password` in `[kafka.properties]`";
    for brokers in ["user:hunter2@kafka:9092", "kafka:9092,user:hunter2@kafka-2:9092", "SASL_SSL://user:hunter2@kafka:9092"] {
        let complaint = complaint(parse(&format!("kafka.brokers = '{brokers}'")));
        assert_eq!(complaint, format!("`kafka.brokers` in weir.toml line 1 is a text with an `@`; {expected}"));
    }
    let complaint = |text: &str, variables: &[(&str, &str)]| with(text, variables).expect_err("it is refused").to_string();
    for said in [
        complaint("", &[("WEIR_KAFKA_BROKERS", "user:hunter2@kafka:9092")]),
        complaint("kafka.brokers = ['user:hunter2@kafka:9092']", &[]),
        complaint("admin.listen = 'user:hunter2@kafka'", &[]),
    ] {
        assert!(said.contains("with an `@`; expected") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_may_be_the_token_in_the_place_of_its_file_is_not_shown() {
    let token = |text: &str| parse(&format!("admin.token_file = '{text}'")).unwrap().admin.token.unwrap();
    let hidden = token("hunter2");
    assert!(!format!("{hidden:?} {:#}", hidden.read().unwrap_err()).contains("hunter2"));
    for path in ["/nowhere/hunter2", "./nowhere/hunter2", "../nowhere/hunter2"] {
        assert!(format!("{:#}", token(path).read().unwrap_err()).contains(path), "{path}");
    }
}

#[test]
fn names_that_others_have_chosen_forge_no_line() {
    let written = r#""a\u001b[2J\nerror: all is lost \u061c\u202e\u009b""#;
    let (name, escaped) =
        ("a\x1b[2J\nerror: all is lost \u{61c}\u{202e}\u{9b}", r"a\u{1b}[2J\nerror: all is lost \u{61c}\u{202e}\u{9b}");
    let rule = parse(&format!("[rule.validation.config]\n{written} = 1")).unwrap().rules.pipeline.swap_remove(0);
    for said in [
        complaint(parse(&format!("{written} = 1"))),
        complaint(parse(&format!("[kafka.{written}]"))),
        complaint(parse(&format!("kafka.properties = {{ {written} = [] }}"))),
        complaint(with("", &[(format!("WEIR_{name}").as_str(), "1")])),
        complaint(Config::parse("x = 1", Path::new(name), [])),
        complaint(Config::load(Some(Path::new(name)), [])),
        rule.explain("invalid type: integer `1`, expected a string at line 1 column 3"),
    ] {
        assert!(said.contains(escaped) && !said.contains(weir_core::printable::is_unsafe_in_line), "{said:?}");
    }
}
