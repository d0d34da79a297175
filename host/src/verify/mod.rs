//! `weir verify`: proves from the topics alone that nothing is lost, nothing doubled, and all is counted.
//!
//! It takes a cut: the committed offsets of the group with the states beside them, in one request. Then it reads what was
//! written before the cut, and what it is of. The order of the questions matters on a live system. Where outputs end is asked
//! after the cut, so that all that the cut covers is below; transactions below are waited for. Where the input ends is asked
//! last, so that whatever these outputs are of is below that.
//!
//! [`session`] reads, [`audit`] judges without knowing Kafka, with [`partition`] and [`windows`] for the two things it keeps
//! books of, [`violation`] names what may be wrong, [`report`] words the verdict. It shares no code with the tests' oracle,
//! which recomputes what messages should say; here only headers and counts are believed, not the rules.

pub mod audit;
pub mod partition;
mod progress;
pub mod report;
mod session;
pub mod violation;
mod windows;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{SecondsFormat, Utc};

use crate::config::Config;
use crate::events::{self, Inbox};
use crate::{cli, logging};

use progress::Progress;
use report::Verdict;
use session::Session;
use violation::{MAX_KEPT, Violation};

/// The verdict was no good one, and has been printed.
#[derive(Debug)]
pub struct NotVerified;

/// Runs the command.
///
/// # Errors
/// [`NotVerified`] if there is a violation; others if topics or offsets cannot be read.
pub fn verify(args: &cli::Verify) -> anyhow::Result<()> {
    let mut config = args.file.load()?;
    logging::start(&config.log);
    config.kafka.brokers = args.brokers.clone().or(config.kafka.brokers.take());
    let brokers = check(&config)?;
    let verdict = match args.follow {
        true => follow(args, &config, &brokers)?,
        false => once(&config, &brokers)?,
    };
    print(args, &verdict)?;
    if verdict.holds() { Ok(()) } else { Err(NotVerified.into()) }
}

/// The brokers to ask, if the configuration is one that can be verified.
fn check(config: &Config) -> anyhow::Result<String> {
    if !config.kafka.headers {
        bail!(
            "failed to verify without headers: outputs say what they are of only with `kafka.headers = true`; set it for \
             `weir run`, and verify what is written from then on"
        );
    }
    let topics = &config.topics;
    if topics.output == topics.rejected || topics.output == topics.counts || topics.rejected == topics.counts {
        bail!("failed to tell outputs, dead letters and counts apart: two of them go to the same topic");
    }
    config.kafka.brokers.clone().context(
        "failed to find a broker to ask: the embedded one lives within `weir run` or `weir demo`; give --brokers with its \
         address, which is logged at the start",
    )
}

fn once(config: &Config, brokers: &str) -> anyhow::Result<Verdict> {
    // Nothing is written, so a signal may end it anywhere.
    let mut progress = Progress::new(Inbox::new(mpsc::channel().1));
    let mut session = Session::open(config, brokers, &mut progress)?;
    session.round(&mut progress)?.with_context(|| {
        let (group, topic) = (&config.kafka.group, &config.topics.input);
        format!("failed to take a cut: group {group} has committed no offsets of topic {topic}: check `kafka.group`, or wait")
    })
}

/// Takes one cut after the other until a signal comes. Returns the last verdict, with all that was wrong before.
fn follow(args: &cli::Verify, config: &Config, brokers: &str) -> anyhow::Result<Verdict> {
    let (sender, receiver) = mpsc::channel();
    events::signals(sender)?;
    let mut progress = Progress::new(Inbox::new(receiver));
    let mut session = Session::open(config, brokers, &mut progress)?;
    let (mut told, mut last) = (BTreeMap::new(), None);
    loop {
        match session.round(&mut progress) {
            Ok(Some(verdict)) => {
                tell(args, &verdict, &mut told)?;
                last = Some(verdict);
            }
            Ok(None) if last.is_none() => eprintln!("group {} has committed no offsets yet", config.kafka.group),
            Ok(None) => {}
            Err(_) if progress.stopping() => break,
            Err(error) => return Err(error),
        }
        if !progress.pause(Duration::from_secs(args.every.into())) {
            break;
        }
    }
    let mut verdict = last.context("stopped before the first cut was judged")?;
    if verdict.holds() {
        verdict.recall(told.into_values());
    }
    Ok(verdict)
}

/// Prints a line for a cut, and the violations that are new.
fn tell(args: &cli::Verify, verdict: &Verdict, told: &mut BTreeMap<String, Violation>) -> anyhow::Result<()> {
    if args.json {
        cli::print(&format!("{}\n", verdict.to_json()))?;
    } else {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        cli::print(&format!("{now}  {}\n", verdict.line()))?;
    }
    for violation in &verdict.found {
        if told.len() < MAX_KEPT && told.insert(violation.words.clone(), violation.clone()).is_none() && !args.json {
            cli::print(&format!("          {}\n", violation.words))?;
        }
    }
    Ok(())
}

fn print(args: &cli::Verify, verdict: &Verdict) -> anyhow::Result<()> {
    cli::print(&if args.json { format!("{}\n", verdict.to_json()) } else { verdict.to_string() })
}

impl fmt::Display for NotVerified {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not verified")
    }
}

impl std::error::Error for NotVerified {}
