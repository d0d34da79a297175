//! Validation of raw values: types, limits, and conditions between keys.
//!
//! The bounds are in [`super::keys`]. They are wide: they exclude values that can't work, but not values that are unwise.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::raw::Raw;
use super::{Config, InvalidConfig, Log, SimulateSettings, brokers};
use weir_admin::Token;
use weir_core::pipeline::OnFault;
use weir_engine::{CountSettings, TrialBounds};
use weir_kafka::{BatchLimits, ClientSettings, Delivery, Topics};
use weir_wasm::rule::{Explain, REJECT_POLICIES, Rule};
use weir_wasm::{CompileLimits, Limits};

/// The largest sum of the deadlines of all rules. A batch on which every rule runs out of time takes at most some ten times this
/// sum: once for the whole batch, four times for the bisection, and the rest for work that began before the bisection's time was
/// over. That is less than `max.poll.interval.ms`, 5 min, after which the group takes the partitions away.
const MAX_DEADLINES: Duration = Duration::from_secs(25);
/// The value of `kafka.brokers` that stands for the broker inside the process.
const EMBEDDED: &str = "embedded";
const DELIVERIES: [(&str, Delivery); 2] = [("exactly-once", Delivery::ExactlyOnce), ("at-least-once", Delivery::AtLeastOnce)];
/// Properties of librdkafka that have a key of their own in this configuration.
const OWN_KEYS: [(&str, &str); 3] = [
    ("kafka.properties.bootstrap.servers", "kafka.brokers"),
    ("kafka.properties.metadata.broker.list", "kafka.brokers"),
    ("kafka.properties.group.id", "kafka.group"),
];
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];
/// Kafka's own limit on the name of a topic, in characters.
const MAX_TOPIC_NAME: usize = 249;

/// Returns the validated configuration. Relative paths start from `folder`.
pub(super) fn validate(raw: &Raw, folder: &Path) -> Result<Config, InvalidConfig> {
    Ok(Config {
        kafka: weir_kafka::Settings {
            client: client(raw)?,
            topics: topics(raw)?,
            batch: BatchLimits {
                rows: raw.whole("batch.rows")?,
                bytes: raw.bytes("batch.bytes")?,
                linger: raw.duration("batch.linger")?,
            },
        },
        threads: raw.threads("engine.threads")?,
        counts: CountSettings {
            every: raw.duration("counts.every")?,
            emit_empty: raw.flag("counts.emit_empty")?,
            reset_bad_state: raw.choice("counts.on_bad_state", &[("stop", false), ("reset", true)])?,
        },
        rules: rules(raw, folder)?,
        compile: CompileLimits {
            memory: match raw.get("rules.compile_memory").value.as_str() {
                Some("") => None,
                _ => Some(raw.bytes("rules.compile_memory")? as u64),
            },
            time: raw.duration("rules.compile_time")?,
        },
        admin: admin(raw, folder)?,
        log: Log { level: raw.choice("log.level", &LEVELS)? },
        simulate: simulate(raw)?,
        fixed: Vec::new(),
    })
}

fn client(raw: &Raw) -> Result<ClientSettings, InvalidConfig> {
    if let Some((path, own)) = OWN_KEYS.iter().find(|(path, _)| raw.paths().any(|written| written == *path)) {
        return Err(raw.complaint(path, format!("`{own}` in its place")));
    }
    let brokers = raw.text("kafka.brokers")?;
    brokers::check(&brokers).map_err(|expected| raw.complaint("kafka.brokers", expected))?;
    let brokers = Some(brokers).filter(|brokers| brokers != EMBEDDED);
    let delivery = raw.choice("kafka.delivery", &DELIVERIES)?;
    Ok(ClientSettings {
        delivery: if brokers.is_some() { delivery } else { Delivery::AtLeastOnce },
        brokers,
        group: raw.text("kafka.group")?,
        transactional_id: Some(raw.optional_text("kafka.transactional_id")?).filter(|id| !id.is_empty()),
        start: raw.start("kafka.start")?,
        properties: raw.table("kafka.properties")?,
        headers: raw.flag("kafka.headers")?,
    })
}

pub(super) fn admin(raw: &Raw, folder: &Path) -> Result<weir_admin::Settings, InvalidConfig> {
    let text = |path| Ok(Some(raw.optional_text(path)?).filter(|text| !text.is_empty()));
    let listen = text("admin.listen")?;
    if listen.as_ref().is_some_and(|listen| listen.to_socket_addrs().is_err()) {
        return Err(raw.complaint("admin.listen", "an address such as \"127.0.0.1:8081\", or nothing for no admin interface"));
    }
    let token = match (text("admin.token")?, text("admin.token_file")?) {
        (Some(_), Some(_)) => return Err(raw.complaint("admin.token_file", "nothing, since `admin.token` is set too")),
        (Some(token), None) => Some(Token::Text(token.into())),
        (None, Some(file)) if file.starts_with(['/', '.']) => Some(Token::File(folder.join(file))),
        (None, Some(name)) => Some(Token::Named { folder: folder.to_owned(), name: name.into() }),
        (None, None) => None,
    };
    Ok(weir_admin::Settings { listen, token })
}

fn topics(raw: &Raw) -> Result<Topics, InvalidConfig> {
    let topics = Topics {
        input: topic(raw, "topics.input")?,
        output: topic(raw, "topics.output")?,
        rejected: topic(raw, "topics.rejected")?,
        counts: topic(raw, "topics.counts")?,
        create: raw.flag("topics.create")?,
        partitions: raw.whole("topics.partitions")?,
        replication: raw.whole("topics.replication")?,
        settings: raw.table("topics.settings")?,
    };
    // If the output were written to the input topic, records would go round for ever.
    let written = [("topics.output", &topics.output), ("topics.rejected", &topics.rejected), ("topics.counts", &topics.counts)];
    match written.iter().find(|(_, name)| **name == topics.input) {
        Some((path, _)) => Err(raw.complaint(path, "another topic than `topics.input`")),
        None => Ok(topics),
    }
}

fn topic(raw: &Raw, path: &str) -> Result<String, InvalidConfig> {
    let name = raw.text(path)?;
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if legal && name.len() <= MAX_TOPIC_NAME && name != "." && name != ".." {
        return Ok(name);
    }
    Err(raw.complaint(path, format!("a topic: at most {MAX_TOPIC_NAME} letters, digits, `.`, `-` and `_`")))
}

fn rules(raw: &Raw, folder: &Path) -> Result<weir_control::Settings, InvalidConfig> {
    Ok(weir_control::Settings {
        pipeline: pipeline(raw, folder)?,
        folder: folder.join(raw.text("rules.folder")?),
        counted: raw.text("counts.member")?,
        watch: raw.flag("rules.watch")?,
        state: Some(raw.optional_text("rules.state")?).filter(|state| !state.is_empty()).map(|state| folder.join(state)),
        history: raw.whole("rules.history")?,
        trial: TrialBounds {
            records: raw.whole("trial.records")?,
            time: raw.duration("trial.time")?,
            faults: raw.share("trial.faults")?,
            rejections: raw.share("trial.rejections")?,
            fewer_rejections: raw.share("trial.fewer_rejections")?,
        },
        shadow_share: raw.share("shadow.share")?,
    })
}

fn pipeline(raw: &Raw, folder: &Path) -> Result<Vec<Rule>, InvalidConfig> {
    let names = raw.names("rules.pipeline")?;
    let rules: Vec<Rule> = names.into_iter().map(|name| rule(raw, folder, name)).collect::<Result<_, _>>()?;
    let longest = rules.iter().max_by_key(|rule| rule.limits.deadline);
    match longest.filter(|_| rules.iter().map(|rule| rule.limits.deadline).sum::<Duration>() > MAX_DEADLINES) {
        Some(rule) => Err(raw.complaint(
            &format!("rule.{}.deadline", rule.name),
            format!("less: the deadlines of all rules together may be at most {MAX_DEADLINES:?}"),
        )),
        None => Ok(rules),
    }
}

fn rule(raw: &Raw, folder: &Path, name: String) -> Result<Rule, InvalidConfig> {
    let key = |key: &str| format!("rule.{name}.{key}");
    let file = match raw.optional_text(&key("file"))? {
        file if file.is_empty() => Path::new(&raw.text("rules.folder")?).join(format!("{name}.wasm")),
        file => file.into(),
    };
    let fields = raw.config_fields(&key("config"));
    Ok(Rule {
        file: folder.join(file),
        drop: raw.choice(&key("on_reject"), &REJECT_POLICIES)?,
        on_fault: raw.choice(&key("on_fault"), &OnFault::WORDS)?,
        limits: Limits {
            memory: raw.bytes(&key("memory"))?,
            tables: raw.whole(&key("tables"))?,
            instances: raw.whole(&key("instances"))?,
            stack: raw.bytes(&key("stack"))?,
            result: raw.bytes(&key("result"))?,
            deadline: raw.duration(&key("deadline"))?,
        },
        config: raw.object(&key("config"))?,
        explain: Explain::by(move |rule, config, words| fields.explain(rule, config, words)),
        name,
    })
}

fn simulate(raw: &Raw) -> Result<SimulateSettings, InvalidConfig> {
    Ok(SimulateSettings {
        rate: raw.whole("simulate.rate")?,
        count: raw.whole("simulate.count")?,
        seed: raw.whole("simulate.seed")?,
        bad_share: raw.share("simulate.bad_share")?,
        users: raw.whole("simulate.users")?,
    })
}
