//! Finds the changes of a configuration that take effect only after a restart.
//!
//! Values are compared by their meaning: `60s` equals `1m`. Settings that a running process takes over at once are left out:
//! those of rules, trials and shadows. `[simulate]` is left out too, because it belongs to another command.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::keys::{self, ChangeEffect};

/// Returns the keys that have different values in `running` and in `read`, and that take effect only after a restart.
pub fn needing_restart(running: &Config, read: &Config) -> Vec<String> {
    let keys = keys::defaults().filter(|(_, key)| match key.change {
        ChangeEffect::Restart(differ) => differ(running, read),
        ChangeEffect::AtOnce | ChangeEffect::Other => false,
    });
    let keys = keys.map(|(path, _)| path);
    let properties = fields("kafka.properties", &running.kafka.client.properties, &read.kafka.client.properties);
    let settings = fields("topics.settings", &running.kafka.topics.settings, &read.kafka.topics.settings);
    let all = keys.chain(properties).chain(settings);
    all.filter(|key| !running.fixed.contains(&key.as_str())).collect()
}

/// Returns the keys in which an open table differs.
fn fields<T: PartialEq>(table: &str, running: &BTreeMap<String, T>, read: &BTreeMap<String, T>) -> Vec<String> {
    let names: BTreeSet<&String> = running.keys().chain(read.keys()).collect();
    let differing = names.into_iter().filter(|name| running.get(*name) != read.get(*name));
    differing.map(|name| format!("{table}.{name}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("weir.toml"), []).unwrap()
    }

    fn changed(text: &str) -> Vec<String> {
        needing_restart(&Config::default(), &parse(text))
    }

    /// A different value for each key that takes effect only after a restart.
    const CHANGED: [(&str, &str); 29] = [
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
        ("engine.threads", "7"),
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
    fn each_key_that_needs_a_restart_has_a_case() {
        let known = CHANGED.map(|(known, _)| known);
        let restart = keys::defaults().filter(|(_, key)| matches!(key.change, ChangeEffect::Restart(_))).map(|(path, _)| path);
        let mut restart: Vec<String> = restart.collect();
        restart.sort();
        let mut known = known.map(str::to_owned).to_vec();
        known.sort();
        assert_eq!(restart, known);
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
