//! `weir verify`: proves from the topics alone that no record is lost or doubled, and that all are counted.
//!
//! The command takes a cut: the committed offsets of the group with the states beside them, in one request. Then it reads the
//! records that were written before the cut, and their input records. The order of the requests matters on a live system:
//!
//! - First the cut.
//! - Then the end of the outputs, so that all outputs that the cut covers are below that end. Transactions below it are waited
//!   for.
//! - Last the end of the input, so that the input records of these outputs are below that end.
//!
//! [`session`] reads the topics. [`audit`] checks the records and knows nothing of Kafka; it uses [`partition`] and [`windows`]
//! ([`covered`] and [`totals`] belong to windows too). [`violation`] names the possible violations, and [`report`] puts the
//! verdict into words. The command shares no code with the tests' oracle, which recomputes the content of the outputs. The
//! command relies on headers and counts, and does not run the rules.

pub mod audit;
mod covered;
pub mod partition;
mod progress;
pub mod report;
mod session;
mod totals;
pub mod violation;
mod window;
mod windows;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::{SecondsFormat, Utc};

use crate::config::Config;
use crate::{cli, logging};
use weir_kafka::Failure;
use weir_system::shutdown::Shutdown;

use progress::ReadProgress;
use report::AuditVerdict;
use session::AuditSession;
use violation::{MAX_KEPT, Violation};

/// The error after a verdict with violations, which has been printed.
#[derive(Debug)]
pub struct NotVerified;

/// Runs the command.
///
/// # Errors
/// [`NotVerified`] if there is a violation; other errors if topics or offsets can't be read.
pub fn verify(args: &cli::Verify) -> anyhow::Result<()> {
    let mut config = args.file.load_for_kafka()?;
    logging::start(&config.log);
    config.kafka.client.brokers = args.brokers.clone().or(config.kafka.client.brokers.take());
    let brokers = check(&config)?;
    let verdict = match args.follow {
        true => follow(args, &config, &brokers)?,
        false => once(args, &config, &brokers)?,
    };
    let verdict_in_words = if args.json { format!("{}\n", verdict.to_json()) } else { verdict.to_string() };
    match cli::print(&verdict_in_words) {
        Err(error) if !cli::is_broken_pipe(&error) => Err(error),
        // A reader that has closed the pipe early still gets the exit code.
        _ if !verdict.holds() => Err(NotVerified.into()),
        printed => printed,
    }
}

/// Returns the time within which the cluster has to answer.
fn patience(args: &cli::Verify) -> Duration {
    Duration::from_secs(args.timeout.into())
}

/// Returns the addresses of the brokers, if the configuration is one that can be verified.
fn check(config: &Config) -> anyhow::Result<String> {
    if !config.kafka.client.headers {
        bail!(
            "failed to verify without headers: outputs say what they are of only with `kafka.headers = true`; set it for \
             `weir run`, and verify what is written from then on"
        );
    }
    let topics = &config.kafka.topics;
    if topics.output == topics.rejected || topics.output == topics.counts || topics.rejected == topics.counts {
        bail!("failed to tell outputs, dead letters and counts apart: two of them go to the same topic");
    }
    let none = || {
        cli::BadUsage(
            "failed to find a broker to ask: the embedded one lives within `weir run` or `weir demo`; give --brokers with its \
             address, which is logged at the start"
                .to_owned(),
        )
    };
    Ok(config.kafka.client.brokers.clone().ok_or_else(none)?)
}

fn once(args: &cli::Verify, config: &Config, brokers: &str) -> anyhow::Result<AuditVerdict> {
    // The command writes nothing to Kafka, so a signal may end it at any point.
    let mut progress = ReadProgress::new(Shutdown::default());
    let mut session = AuditSession::open(config, brokers, patience(args), &mut progress).map_err(cause)?;
    session.round(&mut progress).map_err(cause)?.with_context(|| {
        let (group, topic) = (&config.kafka.client.group, &config.kafka.topics.input);
        format!("failed to take a cut: group {group} has committed no offsets of topic {topic}: check `kafka.group`, or wait")
    })
}

/// Takes one cut after the other until a signal comes. Returns the last verdict, with all violations of earlier cuts.
fn follow(args: &cli::Verify, config: &Config, brokers: &str) -> anyhow::Result<AuditVerdict> {
    let shutdown = Shutdown::default();
    shutdown.request_on_signals()?;
    let mut progress = ReadProgress::new(shutdown);
    let mut session = AuditSession::open(config, brokers, patience(args), &mut progress).map_err(cause)?;
    follow_rounds(args, &mut progress, |progress| session.round(progress), cli::print)
}

/// Follows as `follow` does, with `round` to take a cut and `say` to print.
fn follow_rounds(
    args: &cli::Verify,
    progress: &mut ReadProgress,
    mut round: impl FnMut(&mut ReadProgress) -> Result<Option<AuditVerdict>, Failure>,
    mut say: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<AuditVerdict> {
    let (mut told, mut last) = (BTreeMap::new(), None);
    loop {
        match round(progress) {
            Ok(Some(verdict)) => {
                let said = tell(args, &verdict, &mut told, &mut say);
                last = Some(verdict);
                match said {
                    Err(error) if cli::is_broken_pipe(&error) => break,
                    said => said?,
                }
            }
            Ok(None) if last.is_none() => warn("the group has committed no offsets yet"),
            Ok(None) => {}
            Err(Failure::Wait(error) | Failure::Missing(error)) => warn(&format!("{error:#}; trying again, from where it was")),
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Cancelled) => break,
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
fn tell(
    args: &cli::Verify,
    verdict: &AuditVerdict,
    told: &mut BTreeMap<String, Violation>,
    say: &mut impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut lines = match args.json {
        true => format!("{}\n", verdict.to_json()),
        false => format!("{}  {}\n", Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true), verdict.line()),
    };
    for violation in &verdict.found {
        if told.len() < MAX_KEPT && told.insert(violation.words.clone(), violation.clone()).is_none() && !args.json {
            lines += &format!("          {}\n", violation.words);
        }
    }
    say(&lines)
}

/// Returns the error that explains why there is no verdict.
fn cause(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Wait(error) | Failure::Missing(error) | Failure::Stop(error) => error,
        Failure::Cancelled => anyhow!("stopped before the end of what was to be read"),
    }
}

fn warn(line: &str) {
    // An error is ignored: if standard error is closed, the line has no reader.
    let _ = writeln!(io::stderr(), "{line}");
}

impl fmt::Display for NotVerified {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not verified")
    }
}

impl std::error::Error for NotVerified {}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::audit::Audit;
    use super::violation::TopicNames;
    use super::*;

    /// Returns a verdict without a violation if `good`, or else with one.
    fn verdict(good: bool) -> AuditVerdict {
        let mut audit = Audit::new(TopicNames(["in", "out", "rejected", "counts"].map(str::to_owned)), false, vec![]);
        if !good {
            audit.counts(0, 7, None);
        }
        audit.verdict()
    }

    /// Follows until `rounds` are used up. Returns the outcome, and the lines that were printed.
    fn followed(
        mut rounds: Vec<Result<Option<AuditVerdict>, Failure>>,
        mut heard: impl FnMut() -> anyhow::Result<()>,
    ) -> (anyhow::Result<AuditVerdict>, Vec<String>) {
        let shutdown = Shutdown::default();
        let args = cli::Verify { file: Default::default(), brokers: None, json: false, follow: true, every: 0, timeout: 60 };
        let mut said = Vec::new();
        rounds.reverse();
        let outcome = follow_rounds(
            &args,
            &mut ReadProgress::new(shutdown.clone()),
            |_| {
                let round = rounds.pop().expect("it has stopped by now");
                if rounds.is_empty() {
                    shutdown.request();
                }
                round
            },
            |lines| {
                said.push(lines.to_owned());
                heard()
            },
        );
        (outcome, said)
    }

    #[test]
    fn an_outage_is_sat_out_and_what_was_found_before_is_kept() {
        let outage = Err(Failure::Wait(anyhow!("nobody answers")));
        let (outcome, said) = followed(vec![Ok(Some(verdict(false))), outage, Ok(Some(verdict(true)))], || Ok(()));
        let verdict = outcome.unwrap();
        assert!(!verdict.holds() && verdict.found[0].words.ends_with("(at an earlier cut)"), "{verdict}");
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("counts/0/7 is no counts message"), "{said:?}");
    }

    #[test]
    fn what_waiting_cannot_help_ends_it() {
        let (outcome, _) = followed(vec![Ok(Some(verdict(true))), Err(Failure::Stop(anyhow!("denied")))], || Ok(()));
        assert_eq!(outcome.unwrap_err().to_string(), "denied");
    }

    #[test]
    fn a_reader_that_has_gone_away_ends_it_with_the_verdict() {
        let gone = || Err(std::io::Error::from(ErrorKind::BrokenPipe).into());
        let (outcome, said) = followed(vec![Ok(Some(verdict(false))), Ok(Some(verdict(true)))], gone);
        assert!(!outcome.unwrap().holds() && said.len() == 1, "{said:?}");
    }
}
