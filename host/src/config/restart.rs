//! What of a changed configuration takes effect only after a restart.
//!
//! Values are compared by their meaning: `60s` is not another value than `1m`. What a running process takes at once is left out:
//! what is said of rules, trials and shadows. So is `[simulate]`, which is another command's.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;

/// Keys and tables that a running process takes at once, or that are another command's.
#[cfg(test)]
const OTHERS: [&str; 6] = ["rules.folder", "rules.pipeline", "rule", "trial", "shadow", "simulate"];

/// The keys of which `read` has another value than `running`, and that only a restart takes.
pub fn needing_restart(running: &Config, read: &Config) -> Vec<String> {
    macro_rules! differing {
        ($($key:literal: $($field:ident).+;)*) => {
            [$(($key, running.$($field).+ != read.$($field).+)),*]
        };
    }
    let keys = differing! {
        "kafka.brokers": kafka.client.brokers;
        "kafka.group": kafka.client.group;
        "kafka.delivery": kafka.client.delivery;
        "kafka.transactional_id": kafka.client.transactional_id;
        "kafka.start": kafka.client.start;
        "kafka.headers": kafka.client.headers;
        "topics.input": kafka.topics.input;
        "topics.output": kafka.topics.output;
        "topics.rejected": kafka.topics.rejected;
        "topics.counts": kafka.topics.counts;
        "topics.create": kafka.topics.create;
        "topics.partitions": kafka.topics.partitions;
        "topics.replication": kafka.topics.replication;
        "batch.rows": kafka.batch.rows;
        "batch.bytes": kafka.batch.bytes;
        "batch.linger": kafka.batch.linger;
        "counts.member": rules.counted;
        "counts.every": counts.every;
        "counts.emit_empty": counts.emit_empty;
        "counts.on_bad_state": counts.reset_bad_state;
        "rules.watch": rules.watch;
        "rules.state": rules.state;
        "rules.history": rules.history;
        "rules.compile_memory": compile.memory;
        "rules.compile_time": compile.time;
        "admin.listen": admin.listen;
        "admin.token": admin.token;
        "log.level": log.level;
    };
    let keys = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
    let properties = members("kafka.properties", &running.kafka.client.properties, &read.kafka.client.properties);
    let settings = members("topics.settings", &running.kafka.topics.settings, &read.kafka.topics.settings);
    let all = keys.chain(properties).chain(settings);
    all.filter(|key| !running.fixed.contains(&key.as_str())).collect()
}

/// The members of an open table that differ.
fn members<T: PartialEq>(table: &str, running: &BTreeMap<String, T>, read: &BTreeMap<String, T>) -> Vec<String> {
    let names: BTreeSet<&String> = running.keys().chain(read.keys()).collect();
    let differing = names.into_iter().filter(|name| running.get(*name) != read.get(*name));
    differing.map(|name| format!("{table}.{name}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::defaults::DEFAULTS;
    use super::super::path::below;
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("weir.toml"), []).unwrap()
    }

    fn changed(text: &str) -> Vec<String> {
        needing_restart(&Config::default(), &parse(text))
    }

    /// Another value for each key that only a restart takes.
    const CHANGED: [(&str, &str); 28] = [
        ("kafka.brokers", "'kafka:1'"),
        ("kafka.group", "'other'"),
        ("kafka.delivery", "'at-least-once'"),
        ("kafka.transactional_id", "'mine'"),
        ("kafka.start", "'latest'"),
        ("kafka.headers", "false"),
        ("topics.input", "'a'"),
        ("topics.output", "'a'"),
        ("topics.rejected", "'a'"),
        ("topics.counts", "'a'"),
        ("topics.create", "false"),
        ("topics.partitions", "7"),
        ("topics.replication", "2"),
        ("batch.rows", "7"),
        ("batch.bytes", "'1MiB'"),
        ("batch.linger", "'6ms'"),
        ("counts.member", "'a'"),
        ("counts.every", "'7s'"),
        ("counts.emit_empty", "true"),
        ("counts.on_bad_state", "'reset'"),
        ("rules.watch", "false"),
        ("rules.state", "'/state'"),
        ("rules.history", "7"),
        ("rules.compile_memory", "'1GiB'"),
        ("rules.compile_time", "'7s'"),
        ("admin.listen", "''"),
        ("admin.token", "'hunter2'"),
        ("log.level", "'warn'"),
    ];

    #[test]
    fn each_key_that_needs_a_restart_is_named_when_it_has_changed() {
        for (key, value) in CHANGED {
            assert_eq!(changed(&format!("{key} = {value}")), [key]);
        }
        assert_eq!(changed("admin.token_file = 'token'"), ["admin.token"]);
        assert_eq!(
            changed("kafka.properties.'sasl.password' = 'hunter2'\ntopics.settings.'retention.ms' = 7"),
            ["kafka.properties.sasl.password", "topics.settings.retention.ms"]
        );
    }

    #[test]
    fn each_key_is_known_to_be_taken_at_once_or_not() {
        let defaults: toml::Table = DEFAULTS.parse().unwrap();
        let keys =
            defaults.iter().flat_map(|(table, keys)| keys.as_table().unwrap().keys().map(move |key| format!("{table}.{key}")));
        for key in keys.filter(|key| key != "admin.token_file") {
            let at_once = OTHERS.iter().any(|other| key == *other || below(&key, other).is_some());
            assert_ne!(at_once, CHANGED.iter().any(|(known, _)| *known == key), "{key}");
        }
    }

    #[test]
    fn what_means_the_same_or_is_taken_at_once_needs_no_restart() {
        let rules = "[rules]\nfolder = 'x'\npipeline = ['validation']\n[rule.validation]\nmemory = '16MiB'\n[trial]\nrecords = 7";
        for text in ["counts.every = '1m'", "batch.bytes = 4194304", "shadow.share = 0.5\nsimulate.rate = 7", rules] {
            assert_eq!(changed(text), [] as [String; 0], "{text}");
        }
    }

    #[test]
    fn what_the_program_has_set_itself_has_not_changed() {
        let mut running = Config::default();
        running.embed();
        assert_eq!(needing_restart(&running, &Config::default()), [] as [String; 0]);
    }
}
