//! `weir simulate`: logins, some of them bad, at a rate, to Kafka or to standard output.
//!
//! [`Logins`] creates them, [`bad`] is the table of the defects that they can have, and [`produce`] sends them on at the rate.
//! The demo and the benchmark use the same parts.

pub mod bad;
mod feed;
mod lines;
pub mod logins;

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::Context;

pub use feed::Feed;
pub use logins::{FIELDS, GeneratedLogin, Logins, Options};

use crate::cli::{self, BadUsage};
use crate::config::{self, Config};
use crate::logging;
use weir_kafka::topics;
use weir_system::shutdown::Shutdown;

use lines::Lines;

/// The time between two lines of the log about progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);
/// Without a rate: the number of logins after which their timestamp is a second later.
const UNPACED_PER_SECOND: u32 = 1_000;
/// Without a rate: the number of messages between two looks at the clock and the shutdown.
const UNPACED_STRIDE: u64 = 256;

/// The destination of messages.
pub trait Outlet {
    /// Takes a message. Waits while it can't be taken, but not much longer than until a shutdown is requested.
    fn put(&mut self, message: &GeneratedLogin, shutdown: &Shutdown) -> anyhow::Result<()>;
    /// Called before a pause. Sends the messages that it holds.
    fn idle(&mut self) -> anyhow::Result<()>;
    /// Sends the remaining messages, and waits until they have arrived.
    fn finish(&mut self, shutdown: &Shutdown) -> anyhow::Result<()>;
}

/// The number of messages, and the number of bad ones among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    pub messages: u64,
    pub bad: u64,
}

/// Runs the command.
pub fn simulate(args: &cli::Simulate) -> anyhow::Result<()> {
    if args.list_kinds {
        return list(&mut io::stdout().lock()).context("failed to write to standard output");
    }
    let mut config = if args.to_stdout { args.file.load()? } else { args.file.load_for_kafka()? };
    logging::start(&config.log);
    override_by(&mut config, args);
    let shutdown = Shutdown::default();
    shutdown.request_on_signals()?;
    let logins = Logins::new(&options(&config.simulate, args)).take(bound(config.simulate.count));
    let begun = Instant::now();
    let produced = if args.to_stdout {
        produce(logins, &mut Lines::new(BufWriter::new(io::stdout().lock())), config.simulate.rate, &shutdown)?
    } else {
        // The remedy that names another input topic.
        let other = if args.topic.is_some() { "give another --topic" } else { topics::SET_INPUT };
        let Some(mut feed) = feed(&config, other, &shutdown)? else { return Ok(()) };
        produce(logins, &mut feed, config.simulate.rate, &shutdown)?
    };
    let Produced { messages, bad } = produced;
    tracing::info!(messages, bad, seconds = format_args!("{:.1}", begun.elapsed().as_secs_f64()), "simulated");
    Ok(())
}

/// Hands `logins` to `outlet`, `rate` a second (0: as fast as the outlet takes them), until there are no more or a shutdown is
/// requested. After a delay it sends faster until the rate is met again.
pub fn produce(
    logins: impl Iterator<Item = GeneratedLogin>,
    outlet: &mut dyn Outlet,
    rate: u32,
    shutdown: &Shutdown,
) -> anyhow::Result<Produced> {
    let mut produced = Produced::default();
    let mut pace = Pace::new(rate);
    for message in logins {
        if !pace.wait(produced, outlet, shutdown)? {
            break;
        }
        outlet.put(&message, shutdown)?;
        produced.messages += 1;
        produced.bad += u64::from(message.kind.is_some());
    }
    outlet.finish(shutdown)?;
    Ok(produced)
}

/// Keeps the rate, watches for a shutdown, and logs progress.
struct Pace {
    rate: u32,
    begun: Instant,
    told: Instant,
}

impl Pace {
    fn new(rate: u32) -> Pace {
        let now = Instant::now();
        Pace { rate, begun: now, told: now }
    }

    /// Waits until the next message is due. Returns whether to go on.
    fn wait(&mut self, produced: Produced, outlet: &mut dyn Outlet, shutdown: &Shutdown) -> anyhow::Result<bool> {
        if self.rate == 0 && !produced.messages.is_multiple_of(UNPACED_STRIDE) {
            return Ok(true);
        }
        if self.told.elapsed() >= PROGRESS_EVERY {
            tracing::info!(messages = produced.messages, bad = produced.bad, "simulating");
            self.told = Instant::now();
        }
        let early = self.due(produced.messages).saturating_sub(self.begun.elapsed());
        if early.is_zero() {
            return Ok(!shutdown.is_requested());
        }
        outlet.idle()?;
        Ok(shutdown.wait(early))
    }

    /// Returns the time from the beginning to when message `index` is due.
    fn due(&self, index: u64) -> Duration {
        match u64::from(self.rate) {
            0 => Duration::ZERO,
            rate => Duration::from_secs(index / rate) + Duration::from_nanos(index % rate * 1_000_000_000 / rate),
        }
    }
}

/// Overrides the configuration by the arguments of the command line.
fn override_by(config: &mut Config, args: &cli::Simulate) {
    let simulate = &mut config.simulate;
    simulate.count = args.count.unwrap_or(simulate.count);
    // A reader of a file or a pipe wants the output at once; the configured rate is for topics.
    simulate.rate = args.rate.unwrap_or(if args.to_stdout { 0 } else { simulate.rate });
    simulate.seed = args.seed.unwrap_or(simulate.seed);
    simulate.bad_share = args.only.map(|_| 1.0).or(args.bad_share).unwrap_or(simulate.bad_share);
    config.kafka.client.brokers = args.brokers.clone().or(config.kafka.client.brokers.take());
    config.kafka.topics.input = args.topic.clone().unwrap_or(std::mem::take(&mut config.kafka.topics.input));
}

fn options(simulate: &config::SimulateSettings, args: &cli::Simulate) -> Options {
    Options {
        seed: simulate.seed,
        start: args.start.unwrap_or_else(|| chrono::Utc::now().timestamp()),
        per_second: if simulate.rate == 0 { UNPACED_PER_SECOND } else { simulate.rate },
        bad_share: simulate.bad_share,
        kinds: args.only.into_iter().chain(args.bad_kinds.iter().copied()).collect(),
        users: simulate.users,
    }
}

/// Returns `count` as the bound of an iterator. 0 stands for no bound.
fn bound(count: u64) -> usize {
    usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usize::MAX)
}

/// Returns a feed for the input topic, once the cluster is reachable. None if a shutdown is requested before that.
fn feed(config: &Config, other: &'static str, shutdown: &Shutdown) -> anyhow::Result<Option<Feed>> {
    let brokers = config.kafka.client.brokers.as_deref().ok_or_else(|| {
        BadUsage(
            "failed to find a broker to produce to: the embedded one lives within `weir run` or `weir demo`; give --brokers or \
             --to-stdout"
                .to_owned(),
        )
    })?;
    match topics::prepare_input(&config.kafka, brokers, other, shutdown)? {
        Some(_) => Feed::open(config, brokers).map(Some),
        None => Ok(None),
    }
}

fn list(out: &mut dyn Write) -> io::Result<()> {
    let width = bad::DEFECTS.iter().map(|kind| kind.name.len()).max().unwrap_or_default();
    bad::DEFECTS.iter().try_for_each(|kind| writeln!(out, "{:width$}  {}", kind.name, kind.about))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(kind: &str, count: usize) -> impl Iterator<Item = GeneratedLogin> {
        let kinds = vec![bad::find(kind).unwrap()];
        Logins::new(&Options { bad_share: 1.0, kinds, ..Options::default() }).take(count)
    }

    #[test]
    fn a_message_is_a_line() {
        let mut lines = Lines::new(Vec::new());
        let produced = produce(logins("old-version", 3), &mut lines, 0, &Shutdown::default()).unwrap();
        assert_eq!(produced, Produced { messages: 3, bad: 3 });
        assert_eq!(String::from_utf8(lines.into_inner()).unwrap().lines().count(), 3);
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        for (kind, expected) in [("tombstone", ""), ("raw-newline", ""), ("empty-value", "\n\n\n")] {
            let mut lines = Lines::new(Vec::new());
            produce(logins(kind, 3), &mut lines, 0, &Shutdown::default()).unwrap();
            assert_eq!(String::from_utf8(lines.into_inner()).unwrap(), expected, "{kind}");
        }
    }

    #[test]
    fn a_shutdown_ends_it() {
        let shutdown = Shutdown::default();
        shutdown.request();
        let produced = produce(logins("old-version", usize::MAX), &mut Lines::new(io::sink()), 1, &shutdown).unwrap();
        assert_eq!(produced.messages, 0);
    }

    #[test]
    fn messages_are_due_at_their_rate() {
        let pace = Pace::new(3);
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(pace.due(7), Duration::from_nanos(2_333_333_333));
        assert_eq!(Pace::new(0).due(1_000), Duration::ZERO);
    }

    #[test]
    fn only_a_rate_that_is_typed_slows_standard_output() {
        let rate = |to_stdout, rate| {
            let mut config = Config::default();
            override_by(&mut config, &cli::Simulate { to_stdout, rate, ..cli::Simulate::default() });
            config.simulate.rate
        };
        assert_eq!([rate(true, None), rate(true, Some(50)), rate(false, Some(50))], [0, 50, 50]);
        assert_eq!(rate(false, None), Config::default().simulate.rate);
    }

    #[test]
    fn no_count_is_no_bound() {
        assert_eq!((bound(0), bound(5)), (usize::MAX, 5));
    }
}
