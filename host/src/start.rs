//! `weir run`: from the configuration to a running engine.

use std::sync::mpsc;

use anyhow::Context;

use crate::admin;
use crate::cli;
use crate::config::{self, Config};
use crate::events::Event;
use crate::logging;
use crate::run::Setup;
use crate::snapshot::Shared;
use crate::swap::{First, Handle, Judge, Loader, Store};
use weir_kafka::Embedded;
use weir_system::clock::now;
use weir_system::shutdown::Shutdown;
use weir_wasm::{Cache, Compiler, Occasion, Runtime};

/// Runs the command until a signal ends it.
///
/// # Errors
/// If the rules cannot be loaded, or something is wrong with Kafka that waiting does not help.
pub fn start(args: &cli::Run) -> anyhow::Result<()> {
    let config = args.file.load_for_kafka()?;
    logging::start(&config.log);
    let links = config::service_links();
    if !links.is_empty() {
        tracing::info!("left aside, because Kubernetes sets them for Services: {}", links.join(", "));
    }
    // Before what may take a while, so that a process which is asked to stop meanwhile ends well.
    let shutdown = Shutdown::default();
    shutdown.request_on_signals()?;
    let rules = Rules::load(&config, &args.file)?;
    let embedded = config.kafka.client.brokers.is_none().then(|| Embedded::start(&config.kafka.topics)).transpose()?;
    let brokers = match (&config.kafka.client.brokers, &embedded) {
        (Some(brokers), _) => brokers.clone(),
        (None, embedded) => embedded.as_ref().context("failed to start the embedded broker")?.bootstrap_servers()?,
    };
    tracing::info!(brokers, embedded = embedded.is_some(), input = config.kafka.topics.input, "starting");
    let (snapshot, (sender, events)) = (Shared::default(), mpsc::channel());
    let (judge, rules) = rules.start(sender)?;
    let _admin = admin::serve(&config.admin, snapshot.clone(), rules.clone())?;
    let (kafka, counts) = (&config.kafka, &config.counts);
    let setup = Setup { kafka, brokers: &brokers, counts, shutdown: &shutdown, events, snapshot: &snapshot, clock: now };
    let done = setup.run(judge)?;
    tracing::info!(read = done.read, written = done.written, rejected = done.rejected, batches = done.batches, "stopped");
    Ok(())
}

/// The rules to begin with, and what it takes to replace them.
pub(crate) struct Rules {
    first: First,
    loader: Loader,
}

impl Rules {
    /// Chooses, compiles and proves the rules to begin with, and says which they are.
    ///
    /// # Errors
    /// If there are none that can be used.
    pub(crate) fn load(config: &Config, file: &cli::ConfigFile) -> anyhow::Result<Rules> {
        let runtime = Runtime::new(Cache::of_user())?.with_compiler(Compiler::child(&config.compile));
        let store = Store::open(config.rules.state.as_deref(), config.rules.history, &config.kafka.client.group)?;
        let first = First::choose(&config.rules, &runtime, &store)?;
        let names = first.rules().manifests().map(|manifest| format!("{} {}", manifest.name, manifest.version));
        let names: Vec<String> = names.collect();
        tracing::info!(ruleset = first.rules().hash(), "rules: {}", names.join(", "));
        let source = Box::new(file.source(config.clone()));
        let loader = Loader::new(config.rules.clone(), source, runtime, store, &first);
        Ok(Rules { loader, first })
    }

    /// The rules at work, and a handle on the loader, which ends with the last handle. New sets go into `events`.
    ///
    /// # Errors
    /// If an instance or the loader's thread does not start.
    pub(crate) fn start(self, events: mpsc::Sender<Event>) -> anyhow::Result<(Judge, Handle)> {
        Ok((Judge::new(self.first.rules(), Occasion::Live)?, self.loader.start(events)?))
    }
}
