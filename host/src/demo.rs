//! `weir demo`: an embedded broker, the simulator and the engine in one process, with a view of their work.
//!
//! There are three threads: the engine as in `weir run`, the simulator as in `weir simulate`, and the calling thread, which shows
//! the snapshot and ends the other two. There is no special path through the engine: a demo runs the same code as production.

mod home;
mod scratch;

use std::env;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::config::Config;
use crate::simulate::{self, Feed, Logins, Options, Produced};
use crate::start::LoadedRules;
use crate::view::{self, EndOfView, ViewSources};
use crate::{cli, logging};
use weir_engine::process_snapshot::ProcessSnapshot;
use weir_engine::snapshot::Snapshot;
use weir_kafka::Embedded;
use weir_system::clock::now;
use weir_system::shutdown::Shutdown;

use home::Home;

/// The length of a window. It is short, so that counts appear soon.
const WINDOW: Duration = Duration::from_secs(10);

/// The interval at which the simulator checks whether the engine is ready.
const READY_EVERY: Duration = Duration::from_millis(50);

/// Runs the command until `q` is pressed, a signal arrives, or the time is over.
///
/// # Errors
/// If the rules cannot be loaded, the broker cannot be started, or the engine stops by itself.
pub fn demo(args: &cli::Demo) -> anyhow::Result<()> {
    let mut home = Home::make(args.file.clone())?;
    home.config.embed();
    home.config.kafka.client.group = "weir-demo".into();
    home.config.counts.every = WINDOW;
    home.config.fixed.extend(["kafka.group", "counts.every", "rules.state"]);
    home.config.simulate.rate = args.rate;
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    let end = if is_terminal && logging::can_draw(env::var_os("TERM").as_deref()) {
        let log = logging::start_in_memory(&home.config.log);
        play(&home, until, &mut |stage, watch| view::screen(stage, &log, watch))?
    } else {
        logging::start(&home.config.log);
        play(&home, until, &mut |stage, watch| view::lines(&stage.snapshot, &mut io::stdout(), watch))?
    };
    view::farewell(&end, &mut io::stdout())
}

/// The conditions under which the demo ends.
struct DemoEnd<'a> {
    shutdown: Shutdown,
    until: Option<Instant>,
    /// The functions that return whether the engine and the simulator still run.
    players: [&'a dyn Fn() -> bool; 2],
}

impl EndOfView for DemoEnd<'_> {
    /// Waits for `time`, or until a shutdown or the end of the demo. Returns whether time is left, no shutdown is requested, and
    /// both threads run.
    fn wait(&mut self, time: Duration) -> bool {
        let left = self.until.map_or(time, |until| until.saturating_duration_since(Instant::now()));
        self.shutdown.wait(time.min(left)) && time <= left && self.players.iter().all(|at_work| at_work())
    }
}

type Show<'a> = &'a mut dyn FnMut(&ViewSources, &mut dyn EndOfView) -> anyhow::Result<()>;

/// Sets up the parts, lets `show` display them until it returns, and ends them. Returns the last snapshot.
fn play(home: &Home, until: Option<Instant>, show: Show<'_>) -> anyhow::Result<Snapshot> {
    let Home { config, file, .. } = home;
    let stop = Shutdown::default();
    stop.request_on_signals_and(home.remover())?;
    if home.uses_embedded_rules {
        tracing::info!("{} lacks rules: those inside the program run", config.rules.folder.display());
    }
    let rules = LoadedRules::load(config, file)?;
    let broker = Embedded::start(&config.kafka.topics)?;
    let brokers = broker.bootstrap_servers()?;
    let started = rules.start(config.threads.count(true))?;
    let snapshot = started.snapshot.clone();
    let (stop_engine, stop_simulator) = (Shutdown::default(), Shutdown::default());
    let admin = weir_admin::serve(&config.admin, snapshot.clone(), started.handle.clone())?;
    let invitation = invitation(home, admin.map(|server| server.address));
    let stage = ViewSources { snapshot: snapshot.clone(), rules: started.handle.clone(), invitation };
    thread::scope(|scope| {
        let engine = scope.spawn(|| started.run(config, &brokers, &stop_engine).map(drop));
        let simulator = scope.spawn(|| simulator(config, &brokers, &stop_simulator, &snapshot));
        let players: [&dyn Fn() -> bool; 2] = [&|| !engine.is_finished(), &|| !simulator.is_finished()];
        let shown = show(&stage, &mut DemoEnd { shutdown: stop, until, players });
        // Ends the simulator first, so that the engine can read the last records.
        let simulated = end(simulator, &stop_simulator, "simulator");
        end(engine, &stop_engine, "engine")?;
        simulated?;
        shown
    })?;
    Ok(snapshot.get())
}

/// Returns the text that tells the operator how to swap the rules.
fn invitation(home: &Home, admin: Option<SocketAddr>) -> String {
    let edit = format!("swap rules meanwhile: edit {}", home.edited.display());
    let usual = Config::default().admin.listen;
    match admin {
        Some(address) if usual.is_some_and(|usual| usual == address.to_string()) => {
            format!("{edit}, or weir rules deploy RULE.wasm")
        }
        Some(address) => format!("{edit}, or weir rules deploy RULE.wasm --admin {address}"),
        None => edit,
    }
}

fn simulator(config: &Config, brokers: &str, shutdown: &Shutdown, snapshot: &ProcessSnapshot) -> anyhow::Result<()> {
    // Waits for the engine: a backlog from before it was ready would distort every rate that is shown.
    while snapshot.get().partitions.is_empty() {
        if !shutdown.wait(READY_EVERY) {
            return Ok(());
        }
    }
    let simulate = &config.simulate;
    let options = Options {
        seed: simulate.seed,
        start: now() / 1_000,
        per_second: simulate.rate,
        bad_share: simulate.bad_share,
        kinds: Vec::new(),
        users: simulate.users,
    };
    let Produced { messages, bad } =
        simulate::produce(Logins::new(&options), &mut Feed::open(config, brokers)?, simulate.rate, shutdown)?;
    tracing::debug!(messages, bad, "simulated");
    Ok(())
}

/// Asks a thread to stop, and waits for it.
fn end(thread: ScopedJoinHandle<'_, anyhow::Result<()>>, stop: &Shutdown, name: &'static str) -> anyhow::Result<()> {
    stop.request();
    thread.join().map_err(|_| anyhow!("the {name} panicked"))?.with_context(|| format!("the {name} stopped"))
}
