//! `weir run`: starts the engine from the configuration.

use anyhow::Context;

use crate::cli;
use crate::config::{self, Config};
use crate::logging;
use weir_control::{Bootstrap, Handle, Loader, Store};
use weir_engine::RuleInstances;
use weir_engine::Setup;
use weir_engine::protocol::{self, LiveReason, LoopEnd};
use weir_engine::snapshot::SharedSnapshot;
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
    let snapshot = SharedSnapshot::default();
    let (at_work, rules) = rules.start()?;
    let _admin = weir_admin::serve(&config.admin, snapshot.clone(), rules.clone())?;
    let (kafka, counts) = (&config.kafka, &config.counts);
    let setup = Setup {
        kafka,
        brokers: &brokers,
        counts,
        shutdown: &shutdown,
        control: at_work.control,
        snapshot: &snapshot,
        clock: now,
    };
    let done = setup.run(at_work.rules, at_work.why)?;
    tracing::info!(read = done.read, written = done.written, rejected = done.rejected, batches = done.batches, "stopped");
    Ok(())
}

/// The number of data loops in a process.
const LOOPS: usize = 1;

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

    /// Starts instances of the rules, and the loader. The loader ends when the last handle is dropped.
    ///
    /// # Errors
    /// If an instance or the loader's thread can't be started.
    pub(crate) fn start(self) -> anyhow::Result<(AtWork, Handle)> {
        let (loops, mut ends) = protocol::connect(LOOPS);
        let control = ends.pop().context("there is no data loop")?;
        let (rules, why) = (RuleInstances::start(self.first.rules(), Occasion::Live)?, self.first.why());
        Ok((AtWork { rules, why, control }, self.loader.start(loops)?))
    }
}

/// The values with which a data loop begins.
pub(crate) struct AtWork {
    pub(crate) rules: RuleInstances,
    pub(crate) why: LiveReason,
    pub(crate) control: LoopEnd,
}
