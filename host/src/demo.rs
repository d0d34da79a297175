//! `weir demo`: an embedded broker, the simulator and the engine in one process, and a view of what they do.
//!
//! Three threads: the engine as `weir run` has it, the simulator as `weir simulate` has it, and this one, which shows their
//! snapshot and ends the other two. There is no special path through the engine: what is seen here is what runs elsewhere.

use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::config::Config;
use crate::events::{self, Event, Inbox};
use crate::kafka::Embedded;
use crate::logging;
use crate::run::{self, Summary};
use crate::ruleset::RuleSet;
use crate::simulate::{self, Feed, Logins, Options};
use crate::snapshot::{Shared, Snapshot};
use crate::start::{load, now};
use crate::{cli, view};

/// Length of a window: short, so that counts appear soon.
const WINDOW: Duration = Duration::from_secs(10);

/// Runs the command until `q`, a signal, or its time is over.
pub fn demo(args: &cli::Demo) -> anyhow::Result<()> {
    let mut config = args.file.load()?;
    config.kafka.brokers = None;
    config.counts.every = WINDOW;
    let watch = Watch::new(args.seconds);
    let summary = match io::stdout().is_terminal() && io::stdin().is_terminal() {
        true => {
            let log = logging::start_in_memory(&config.log);
            run(&config, args.rate, watch, &mut |watch, snapshot| view::terminal(snapshot, &log, &mut || watch.go_on()))?
        }
        false => {
            logging::start(&config.log);
            run(&config, args.rate, watch, &mut |watch, snapshot| view::lines(snapshot, &mut io::stdout(), &mut |time| watch.wait(time)))?
        }
    };
    view::farewell(&summary.1, &mut io::stdout())
}
