//! `weir run`: starts the engine from the configuration.

use anyhow::Context;

use crate::cli;
use crate::config::{self, Config};
use crate::logging;
use weir_control::{Bootstrap, Handle, Loader, Store};
use weir_engine::process_snapshot::ProcessSnapshot;
use weir_engine::protocol;
use weir_engine::{LoopStart, RuleInstances, Setup, Summary};
use weir_kafka::Embedded;
use weir_system::clock::now;
use weir_system::shutdown::Shutdown;
use weir_wasm::{Cache, Compiler, Occasion, Runtime};

/// Runs the command until a signal ends it.
///
/// # Errors
/// If the rules can't be loaded, or if Kafka reports an error that waiting can't resolve.
pub fn start(args: &cli::Run) -> anyhow::Result<()> {
    let config = args.file.load_for_kafka()?;
    logging::start(&config.log);
    let links = config::service_links();
    if !links.is_empty() {
        tracing::info!("left aside, because Kubernetes sets them for Services: {}", links.join(", "));
    }
    // Handles signals before any step that may take a while, so that a process that is asked to stop during such a step ends
    // properly.
    let shutdown = Shutdown::default();
    shutdown.request_on_signals()?;
    let rules = LoadedRules::load(&config, &args.file)?;
    let embedded = config.kafka.client.brokers.is_none().then(|| Embedded::start(&config.kafka.topics)).transpose()?;
    let brokers = match (&config.kafka.client.brokers, &embedded) {
        (Some(brokers), _) => brokers.clone(),
        (None, embedded) => embedded.as_ref().context("failed to start the embedded broker")?.bootstrap_servers()?,
    };
    tracing::info!(brokers, embedded = embedded.is_some(), input = config.kafka.topics.input, "starting");
    let started = rules.start(config.threads.count(embedded.is_some()))?;
    let _admin = weir_admin::serve(&config.admin, started.snapshot.clone(), started.handle.clone())?;
    let done = started.run(&config, &brokers, &shutdown)?;
    tracing::info!(read = done.read, written = done.written, rejected = done.rejected, batches = done.batches, "stopped");
    Ok(())
}

/// The first set of rules, and the loader that can replace it.
pub(crate) struct LoadedRules {
    first: Bootstrap,
    loader: Loader,
}

impl LoadedRules {
    /// Chooses, compiles and proves the first set of rules, and logs the names of the rules.
    ///
    /// # Errors
    /// If there is no set that can be used.
    pub(crate) fn load(config: &Config, file: &cli::ConfigFile) -> anyhow::Result<LoadedRules> {
        let runtime = Runtime::new(Cache::of_user())?.with_compiler(Compiler::child(&config.compile));
        let store = Store::open(config.rules.state.as_deref(), config.rules.history, &config.kafka.client.group)?;
        let first = Bootstrap::choose(&config.rules, &runtime, &store)?;
        let names = first.rules().manifests().map(|manifest| format!("{} {}", manifest.name, manifest.version));
        let names: Vec<String> = names.collect();
        tracing::info!(ruleset = first.rules().hash(), "rules: {}", names.join(", "));
        let source = Box::new(file.source(config.clone()));
        let loader = Loader::new(config.rules.clone(), source, runtime, store, &first);
        Ok(LoadedRules { loader, first })
    }

    /// Starts instances of the rules for `loops` data loops, and the loader. The loader ends when the last handle is dropped.
    ///
    /// # Errors
    /// If an instance or the loader's thread can't be started.
    pub(crate) fn start(self, loops: usize) -> anyhow::Result<Started> {
        let (connection, ends) = protocol::connect(loops);
        let (set, why) = (self.first.rules(), self.first.why());
        let start = |control| Ok(LoopStart { rules: RuleInstances::start(set, Occasion::Live)?, why, control });
        let starts = ends.into_iter().map(start).collect::<anyhow::Result<_>>()?;
        Ok(Started { starts, snapshot: ProcessSnapshot::new(loops), handle: self.loader.start(connection)? })
    }
}

/// The data loops, which do not run yet, and the parts by which the rest of the program sees and changes them.
pub(crate) struct Started {
    starts: Vec<LoopStart>,
    pub(crate) snapshot: ProcessSnapshot,
    /// The handle on the loader of rules.
    pub(crate) handle: Handle,
}

impl Started {
    /// Runs the data loops until a shutdown is requested.
    ///
    /// # Errors
    /// As for [`Setup::run`].
    pub(crate) fn run(self, config: &Config, brokers: &str, shutdown: &Shutdown) -> anyhow::Result<Summary> {
        let Config { kafka, counts, threads, .. } = config;
        // The handle is dropped at once: the loader is to end when nobody else has one.
        let Started { starts, snapshot, .. } = self;
        Setup { kafka, brokers, counts, threads: *threads, shutdown, snapshot: &snapshot, clock: now }.run(starts)
    }
}
