//! `weir run`: from the configuration to a running engine.

use std::sync::mpsc;

use anyhow::Context;

use crate::cli;
use crate::config::Config;
use crate::events::{self, Inbox};
use crate::kafka::Embedded;
use crate::logging;
use crate::ruleset::RuleSet;
use crate::run;
use crate::snapshot::Shared;
use crate::wasm::{Cache, Runtime};

/// Runs the command until a signal ends it.
///
/// # Errors
/// If the rules cannot be loaded, or something is wrong with Kafka that waiting does not help.
pub fn start(args: &cli::Run) -> anyhow::Result<()> {
    let config = args.file.load()?;
    logging::start(&config.log);
    let rules = load(&config)?;
    let (sender, receiver) = mpsc::channel();
    events::signals(sender)?;
    let embedded = config.kafka.brokers.is_none().then(|| Embedded::start(&config.topics)).transpose()?;
    let brokers = match (&config.kafka.brokers, &embedded) {
        (Some(brokers), _) => brokers.clone(),
        (None, embedded) => embedded.as_ref().context("failed to start the embedded broker")?.bootstrap_servers()?,
    };
    tracing::info!(brokers, embedded = embedded.is_some(), input = config.topics.input, "starting");
    let done = run::run(&config, &rules, &brokers, &mut Inbox::new(receiver), &Shared::default(), now)?;
    tracing::info!(read = done.read, written = done.written, rejected = done.rejected, batches = done.batches, "stopped");
    Ok(())
}

/// Compiles and proves the rules of `config`, and says which they are.
pub(crate) fn load(config: &Config) -> anyhow::Result<RuleSet> {
    let rules = RuleSet::load(&Runtime::new(Cache::of_user())?, config)?;
    let names: Vec<String> = rules.manifests().map(|manifest| format!("{} {}", manifest.name, manifest.version)).collect();
    tracing::info!(ruleset = rules.hash(), "rules: {}", names.join(", "));
    Ok(rules)
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
