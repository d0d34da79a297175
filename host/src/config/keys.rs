//! All keys of the configuration: name, default, accepted values, meaning, and whether a change needs a restart.
//!
//! A key that is not listed here is unknown. The parser reads the defaults and bounds from here, and `restart` reads which keys
//! need a restart. `weir config` prints all of it as a file, which is also the `weir.toml` in the root. Left out: the field that
//! a key becomes, which is in [`super::validate`], and the words that a key with a few fixed words accepts, which are with their
//! types.

use std::fmt::Write as _;

use super::Config;

/// A key.
pub(super) struct ConfigKey {
    /// The name within its table.
    pub(super) name: &'static str,
    /// The default, as it is written in a file.
    pub(super) default: &'static str,
    pub(super) takes: Accepts,
    pub(super) change: ChangeEffect,
    /// The meaning, in one line or several.
    pub(super) meaning: &'static str,
}

/// The values that a key accepts. Bounds have the notation of a configuration.
#[derive(Clone, Copy)]
pub(super) enum Accepts {
    /// A text that is not empty.
    Text,
    /// A text that may be empty.
    OptionalText,
    Flag,
    /// A whole number.
    Whole(i64, i64),
    /// `auto`, or a whole number.
    AutoOrWhole(i64, i64),
    /// A number from 0 to 1.
    Share,
    /// A number of bytes.
    Size(&'static str, &'static str),
    /// A number of bytes, or an empty text.
    OptionalSize(&'static str, &'static str),
    /// A length of time.
    Time(&'static str, &'static str),
    /// One of a few words.
    Word,
    /// A list of names.
    Names,
    /// `earliest`, `latest`, or a time.
    Start,
    /// A table whose content only a rule knows.
    Object,
}

/// The action that a change of a key needs.
#[derive(Clone, Copy)]
pub(super) enum ChangeEffect {
    /// A restart. The function returns whether two configurations differ in this key. It compares meanings: `60s` equals `1m`.
    Restart(fn(&Config, &Config) -> bool),
    /// None: a running process takes the change over at once.
    AtOnce,
    /// None here: the key belongs to another command, or another key reports the change.
    Other,
}

/// A table of keys.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The comment beside the table's name in a file.
    about: &'static str,
    pub(super) keys: &'static [ConfigKey],
    /// The text below the table in a file.
    below: &'static str,
}

/// Declares that a change of this field needs a restart.
macro_rules! restart {
    ($($field:ident).+) => {
        ChangeEffect::Restart(|running, read| running.$($field).+ != read.$($field).+)
    };
}

/// Tables whose keys are defined by librdkafka and by the broker.
pub(super) const OPEN_TABLES: [&str; 2] = ["kafka.properties", "topics.settings"];
/// Other names of keys: the alias, the key that it stands for, and the unit of a plain number.
pub(super) const ALIASES: [(&str, &str, &str); 1] = [("trial.seconds", "trial.time", "s")];
/// Keys and tables whose values are never shown: secrets, and places where a secret may be written by mistake.
pub(super) const SECRETS: [&str; 3] = ["admin.token", "admin.token_file", "kafka.properties"];

/// The tables, in the order of a file.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "kafka",
        about: "",
        keys: &[
            ConfigKey {
                name: "brokers",
                default: "\"localhost:9092\"",
                takes: Accepts::Text,
                change: restart!(kafka.client.brokers),
                meaning: "host:port, more of them after commas; \"embedded\" for a broker inside the process",
            },
            ConfigKey {
                name: "group",
                default: "\"weir\"",
                takes: Accepts::Text,
                change: restart!(kafka.client.group),
                meaning: "consumer group: instances of the same group share the partitions",
            },
            ConfigKey {
                name: "delivery",
                default: "\"exactly-once\"",
                takes: Accepts::Word,
                change: restart!(kafka.client.delivery),
                meaning: "or \"at-least-once\"; the embedded broker has no transactions, so always the latter there",
            },
            ConfigKey {
                name: "transactional_id",
                default: "\"\"",
                takes: Accepts::OptionalText,
                change: restart!(kafka.client.transactional_id),
                meaning: "each process has its own; empty: made from group and host name, the same after a restart",
            },
            ConfigKey {
                name: "start",
                default: "\"earliest\"",
                takes: Accepts::Start,
                change: restart!(kafka.client.start),
                meaning: "where a group without offsets begins: or \"latest\", or a time, \"2026-01-31T12:00:00Z\"",
            },
            ConfigKey {
                name: "headers",
                default: "true",
                takes: Accepts::Flag,
                change: restart!(kafka.client.headers),
                meaning: "add the headers weir-ruleset and weir-source to outputs",
            },
        ],
        below: "",
    },
    Table {
        name: "kafka.properties",
        about: "anything that librdkafka knows, such as TLS and SASL",
        keys: &[],
        below: "\
# \"security.protocol\" = \"SASL_SSL\"
# \"sasl.mechanism\" = \"PLAIN\"
# \"sasl.username\" = \"weir\"        # the password rather by WEIR_KAFKA_PROPERTIES_SASL_PASSWORD
",
    },
    Table {
        name: "topics",
        about: "",
        keys: &[
            ConfigKey {
                name: "input",
                default: "\"user-login\"",
                takes: Accepts::Text,
                change: restart!(kafka.topics.input),
                meaning: "",
            },
            ConfigKey {
                name: "output",
                default: "\"processed-user-login\"",
                takes: Accepts::Text,
                change: restart!(kafka.topics.output),
                meaning: "",
            },
            ConfigKey {
                name: "rejected",
                default: "\"user-login-rejected\"",
                takes: Accepts::Text,
                change: restart!(kafka.topics.rejected),
                meaning: "dead letters: the original message, with the reason in its headers",
            },
            ConfigKey {
                name: "counts",
                default: "\"device_type_count\"",
                takes: Accepts::Text,
                change: restart!(kafka.topics.counts),
                meaning: "",
            },
            ConfigKey {
                name: "create",
                default: "true",
                takes: Accepts::Flag,
                change: restart!(kafka.topics.create),
                meaning: "create those that are missing; those that exist are left alone",
            },
            ConfigKey {
                name: "partitions",
                default: "3",
                takes: Accepts::Whole(1, 10_000),
                change: restart!(kafka.topics.partitions),
                meaning: "partitions of topics that are created",
            },
            ConfigKey {
                name: "replication",
                default: "1",
                takes: Accepts::Whole(1, 100),
                change: restart!(kafka.topics.replication),
                meaning: "replicas of topics that are created",
            },
        ],
        below: "",
    },
    Table {
        name: "topics.settings",
        about: "of topics that are created",
        keys: &[],
        below: "# \"retention.ms\" = \"604800000\"\n",
    },
    Table {
        name: "engine",
        about: "",
        keys: &[ConfigKey {
            name: "threads",
            default: "\"auto\"",
            takes: Accepts::AutoOrWhole(1, 1_024),
            change: restart!(threads),
            meaning: "\
data loops of this process, each a member of the group; \"auto\": one for each core that the process
may use, but no more than input partitions, and 1 with the embedded broker; docs/scaling.md",
        }],
        below: "",
    },
    Table {
        name: "batch",
        about: "a batch is what is there now, up to these bounds",
        keys: &[
            ConfigKey {
                name: "rows",
                default: "20000",
                takes: Accepts::Whole(1, 1_000_000),
                change: restart!(kafka.batch.rows),
                meaning: "most records",
            },
            ConfigKey {
                name: "bytes",
                default: "\"4MiB\"",
                takes: Accepts::Size("64KiB", "256MiB"),
                change: restart!(kafka.batch.bytes),
                meaning: "most bytes; B, kB, KiB, MB, MiB, GB, GiB, or a plain number",
            },
            ConfigKey {
                name: "linger",
                default: "\"0ms\"",
                takes: Accepts::Time("0ms", "10s"),
                change: restart!(kafka.batch.linger),
                meaning: "how long a batch waits for more: fewer transactions, and as much more latency; ms, s, m, h",
            },
        ],
        below: "",
    },
    Table {
        name: "counts",
        about: "",
        keys: &[
            ConfigKey {
                name: "member",
                default: "\"device_type\"",
                takes: Accepts::Text,
                change: restart!(rules.counted),
                meaning: "whose values are counted",
            },
            ConfigKey {
                name: "every",
                default: "\"60s\"",
                takes: Accepts::Time("100ms", "24h"),
                change: restart!(counts.every),
                meaning: "length of a window",
            },
            ConfigKey {
                name: "emit_empty",
                default: "false",
                takes: Accepts::Flag,
                change: restart!(counts.emit_empty),
                meaning: "send windows in which nothing was counted too",
            },
            ConfigKey {
                name: "on_bad_state",
                default: "\"stop\"",
                takes: Accepts::Word,
                change: restart!(counts.reset_bad_state),
                meaning: "or \"reset\": count anew where the state committed with an offset cannot be read",
            },
        ],
        below: "",
    },
    Table {
        name: "rules",
        about: "",
        keys: &[
            ConfigKey {
                name: "folder",
                default: "\"rules/dist\"",
                takes: Accepts::Text,
                change: ChangeEffect::AtOnce,
                meaning: "NAME.wasm is looked for here",
            },
            ConfigKey {
                name: "pipeline",
                default: "[\"validation\", \"utc-enrichment\", \"device-filter\"]",
                takes: Accepts::Names,
                change: ChangeEffect::AtOnce,
                meaning: "",
            },
            ConfigKey {
                name: "watch",
                default: "true",
                takes: Accepts::Flag,
                change: restart!(rules.watch),
                meaning: "\
changed files and a changed [rules] or [rule.…] of this file go live by themselves; false: nothing does
but what this process is told by `weir rules`, other processes' pins and verdicts neither. This
file is then read again only for deploy, promote, resume and shadow",
            },
            ConfigKey {
                name: "state",
                default: "\"\"",
                takes: Accepts::OptionalText,
                change: restart!(rules.state),
                meaning: "\
where sets that went live are kept; empty: a folder for the group in $XDG_STATE_HOME/weir or
~/.local/state/weir",
            },
            ConfigKey {
                name: "history",
                default: "20",
                takes: Accepts::Whole(2, 1_000),
                change: restart!(rules.history),
                meaning: "how many sets are kept",
            },
            ConfigKey {
                name: "compile_memory",
                default: "\"\"",
                takes: Accepts::OptionalSize("128MiB", "64GiB"),
                change: restart!(compile.memory),
                meaning: "\
most memory (address space) for compiling a rule; empty: 2GiB, or half of what the cgroup of this
process may take if that is less, but at least 256MiB: more than half where that is below 512MiB
",
            },
            ConfigKey {
                name: "compile_time",
                default: "\"30s\"",
                takes: Accepts::Time("1s", "10m"),
                change: restart!(compile.time),
                meaning: "longest time for compiling a rule",
            },
        ],
        below: "
# One table for each rule of the pipeline, if it needs one, each with the same keys. [rule.NAME.config] is for the rule itself; what
# it knows and its defaults stand in its README. The admin interface shows it: no secret belongs there.
",
    },
    Table {
        name: "rule.validation",
        about: "",
        keys: RULE,
        below: "
[rule.validation.config]
# required = [\"app_version\", \"device_type\", \"timestamp\"]
# min_app_version = \"2.3.0\"

[rule.utc-enrichment.config]
# format = \"%Y-%m-%d %H:%M:%S\"

[rule.device-filter.config]
# allowed = [\"android\", \"iOS\"]
# normalise = false               # true: rewrite the spelling to the one in the list
",
    },
    Table {
        name: "trial",
        about: "a new set of rules is taken back by itself if it does too badly in its first messages",
        keys: &[
            ConfigKey {
                name: "records",
                default: "10000",
                takes: Accepts::Whole(0, i64::MAX),
                change: ChangeEffect::AtOnce,
                meaning: "how many messages these are; 0: no trial",
            },
            ConfigKey {
                name: "time",
                default: "\"60s\"",
                takes: Accepts::Time("1s", "24h"),
                change: ChangeEffect::AtOnce,
                meaning: "and how long it takes at most; `seconds = 60` says the same",
            },
            ConfigKey {
                name: "faults",
                default: "0.01",
                takes: Accepts::Share,
                change: ChangeEffect::AtOnce,
                meaning: "share of messages on which rules may fail",
            },
            ConfigKey {
                name: "rejections",
                default: "0.2",
                takes: Accepts::Share,
                change: ChangeEffect::AtOnce,
                meaning: "how much the share of messages that rules reject may rise: from 0.1 to 0.3",
            },
            ConfigKey {
                name: "fewer_rejections",
                default: "0.5",
                takes: Accepts::Share,
                change: ChangeEffect::AtOnce,
                meaning: "\
share of the messages that the set before, or any one of its rules, rejects which the new one may
let pass; 1: all of them, as where a rule is taken out on purpose",
            },
        ],
        below: "",
    },
    Table {
        name: "shadow",
        about: "candidates that run beside the live rules",
        keys: &[ConfigKey {
            name: "share",
            default: "0.1",
            takes: Accepts::Share,
            change: ChangeEffect::AtOnce,
            meaning: "share of a core's time that they may take",
        }],
        below: "",
    },
    Table {
        name: "admin",
        about: "",
        keys: &[
            ConfigKey {
                name: "listen",
                default: "\"127.0.0.1:8081\"",
                takes: Accepts::OptionalText,
                change: restart!(admin.listen),
                meaning: "health, metrics, `weir rules`; empty: none",
            },
            ConfigKey {
                name: "token",
                default: "\"\"",
                takes: Accepts::OptionalText,
                change: restart!(admin.token),
                meaning: "\
if set, a change needs it; on other addresses than loopback none is taken without. Rather by
WEIR_ADMIN_TOKEN",
            },
            ConfigKey {
                name: "token_file",
                default: "\"\"",
                takes: Accepts::OptionalText,
                // The token from the file counts as the value of `admin.token`, so a change is reported for `admin.token`.
                change: ChangeEffect::Other,
                meaning: "or a file that has it",
            },
        ],
        below: "",
    },
    Table {
        name: "log",
        about: "",
        keys: &[ConfigKey {
            name: "level",
            default: "\"info\"",
            takes: Accepts::Word,
            change: restart!(log.level),
            meaning: "off, error, warn, info, debug, trace",
        }],
        below: "",
    },
    Table {
        name: "simulate",
        about: "what `weir simulate` produces",
        keys: &[
            ConfigKey {
                name: "rate",
                default: "100",
                takes: Accepts::Whole(0, 10_000_000),
                change: ChangeEffect::Other,
                meaning: "messages a second to Kafka; 0: as fast as possible, as --to-stdout always is without --rate",
            },
            ConfigKey {
                name: "count",
                default: "10000",
                takes: Accepts::Whole(0, i64::MAX),
                change: ChangeEffect::Other,
                meaning: "how many; 0: until stopped",
            },
            ConfigKey {
                name: "seed",
                default: "1",
                takes: Accepts::Whole(0, i64::MAX),
                change: ChangeEffect::Other,
                meaning: "the same seed produces the same messages",
            },
            ConfigKey {
                name: "bad_share",
                default: "0.1",
                takes: Accepts::Share,
                change: ChangeEffect::Other,
                meaning: "share of bad messages",
            },
            ConfigKey {
                name: "users",
                default: "1000",
                takes: Accepts::Whole(1, 1_000_000),
                change: ChangeEffect::Other,
                meaning: "how many different users log in",
            },
        ],
        below: "",
    },
];

/// The keys of each rule, under `[rule.NAME]`.
pub(super) const RULE: &[ConfigKey] = &[
    ConfigKey {
        name: "file",
        default: "\"\"",
        takes: Accepts::OptionalText,
        change: ChangeEffect::AtOnce,
        meaning: "empty: NAME.wasm in rules.folder",
    },
    ConfigKey {
        name: "on_reject",
        default: "\"dead-letter\"",
        takes: Accepts::Word,
        change: ChangeEffect::AtOnce,
        meaning: "or \"drop\": count the message, and produce no dead letter",
    },
    ConfigKey {
        name: "on_fault",
        default: "\"dead-letter\"",
        takes: Accepts::Word,
        change: ChangeEffect::AtOnce,
        meaning: "where the rule fails on a message; or \"pass\", as if it were not there, or \"stop\"",
    },
    ConfigKey {
        name: "memory",
        default: "\"32MiB\"",
        takes: Accepts::Size("1MiB", "4GiB"),
        change: ChangeEffect::AtOnce,
        meaning: "most memory that the rule may have",
    },
    ConfigKey {
        name: "tables",
        default: "20000",
        takes: Accepts::Whole(1, 10_000_000),
        change: ChangeEffect::AtOnce,
        meaning: "most elements of its tables together",
    },
    ConfigKey {
        name: "instances",
        default: "10",
        takes: Accepts::Whole(1, 1_000),
        change: ChangeEffect::AtOnce,
        meaning: "most core instances, memories and tables",
    },
    ConfigKey {
        name: "stack",
        default: "\"512KiB\"",
        takes: Accepts::Size("64KiB", "1MiB"),
        change: ChangeEffect::AtOnce,
        meaning: "deepest stack",
    },
    ConfigKey {
        name: "result",
        default: "\"64MiB\"",
        takes: Accepts::Size("64KiB", "1GiB"),
        change: ChangeEffect::AtOnce,
        meaning: "most that it may hand back for a batch",
    },
    ConfigKey {
        name: "deadline",
        default: "\"1s\"",
        takes: Accepts::Time("1ms", "25s"),
        change: ChangeEffect::AtOnce,
        meaning: "longest time that it may take for a batch; those of all rules together are at most 25s",
    },
    ConfigKey { name: "config", default: "{}", takes: Accepts::Object, change: ChangeEffect::AtOnce, meaning: "" },
];

/// The head of a file.
const HEAD: &str = "\
# The configuration of Weir. Every key stands here at its default; what you leave out keeps it.
#
# Every value can be overridden by the environment. The variable is the path in capitals, with `_` for `.` and `-`:
#   WEIR_KAFKA_BROKERS=kafka:9092
#   WEIR_RULES_PIPELINE=validation,device-filter
#   WEIR_KAFKA_PROPERTIES_SASL_MECHANISM=PLAIN            kafka.properties, key sasl.mechanism
#   WEIR_RULE_UTC_ENRICHMENT_CONFIG_FORMAT='%d.%m.%Y'     rule.utc-enrichment.config, key format
# In [rule.NAME.config] only the rule knows what type it wants. A value is TOML there if it can be, and a text if not, so a text
# that looks like a number, and a list, are written as in TOML:
#   WEIR_RULE_VALIDATION_CONFIG_MIN_APP_VERSION='\"2.4\"'
#   WEIR_RULE_DEVICE_FILTER_CONFIG_ALLOWED='[\"iOS\", \"android\"]'
# Relative paths start from the folder of this file. Those in [kafka.properties], such as ssl.ca.location, are librdkafka's, and start
# from the folder that the process was started in.
";

/// The column in which the comments of a file begin.
const COMMENTS: usize = 34;

/// Returns the values that the key at `path` accepts.
///
/// # Panics
/// If there is no such key, which is a mistake in this program.
pub(super) fn takes(path: &str) -> Accepts {
    let (table, name) = path.rsplit_once('.').unwrap_or_default();
    let of_table = TABLES.iter().find(|known| known.name == table).map(|table| table.keys);
    let keys = if table.starts_with("rule.") { Some(RULE) } else { of_table };
    let key = keys.and_then(|keys| keys.iter().find(|key| key.name == name));
    key.unwrap_or_else(|| panic!("`{path}` is no key")).takes
}

/// Returns the defaults of all keys but those of rules, by their paths.
pub(super) fn defaults() -> impl Iterator<Item = (String, &'static ConfigKey)> {
    let tables = TABLES.iter().filter(|table| !table.name.starts_with("rule."));
    tables.flat_map(|table| table.keys.iter().map(|key| (format!("{}.{}", table.name, key.name), key)))
}

/// Returns a file with every key at its default, and with the meaning of every key.
pub fn document() -> String {
    let mut out = HEAD.to_owned();
    for table in TABLES {
        let name = format!("[{}]", table.name);
        out.push('\n');
        line(&mut out, &name, table.about);
        for key in table.keys.iter().filter(|key| !matches!(key.takes, Accepts::Object)) {
            let bounds = bounds(key.takes).map(|bounds| format!(" ({bounds})")).unwrap_or_default();
            let meaning = format!("{}{bounds}", key.meaning);
            let mut lines = meaning.lines();
            line(&mut out, &format!("{} = {}", key.name, key.default), lines.next().unwrap_or_default());
            lines.for_each(|more| line(&mut out, "", more.trim_start()));
        }
        out.push_str(table.below);
    }
    out
}

fn line(out: &mut String, code: &str, comment: &str) {
    let _ = match comment {
        "" => writeln!(out, "{code}"),
        _ => writeln!(out, "{code:COMMENTS$}# {comment}"),
    };
}

/// Returns the bounds of a value, if it has bounds that an operator may reach.
fn bounds(takes: Accepts) -> Option<String> {
    match takes {
        Accepts::Whole(from, to) | Accepts::AutoOrWhole(from, to) if to < i64::MAX => Some(format!("{from} to {to}")),
        Accepts::Size(from, to) | Accepts::OptionalSize(from, to) | Accepts::Time(from, to) => Some(format!("{from} to {to}")),
        Accepts::Share => Some("0 to 1".to_owned()),
        _ => None,
    }
}
