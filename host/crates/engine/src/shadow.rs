//! A candidate that judges live messages beside the live rules, and produces nothing.
//!
//! The data loop offers samples of what it has committed, and only while the candidate has time: a copy of some messages and of
//! what became of them. The candidate has a thread of its own, which rests after each sample so long that it takes no more
//! than its share of a core. Where it is slow, fewer messages are compared; the live rules never wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::instances::RuleInstances;
use weir_core::counts::Counts;
use weir_core::pipeline::{Manifest, reason_name, rule_name};
use weir_core::record::{Batch, Part, Step};
use weir_wasm::description::SetDescription;

/// Messages of a sample: what copying them takes is lost in what judging a batch takes.
const SAMPLE_ROWS: usize = 250;
/// Kinds of differences that are told apart; others are only counted as not agreed.
const MAX_KINDS: usize = 50;
/// Examples of each kind.
const MAX_EXAMPLES: usize = 3;
/// What is shown of an output, in characters.
const MAX_TEXT: usize = 300;
/// Share of a core that is taken at least, so that a candidate gets on.
const SMALLEST_SHARE: f64 = 0.001;

/// How a candidate does beside the live rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    pub candidate: SetDescription,
    pub since: i64,
    /// Messages that both have judged.
    pub records: u64,
    /// Messages that only the live rules have judged: the candidate had no time.
    pub skipped: u64,
    /// Messages of which both say the same.
    pub agreed: u64,
    /// Each kind of difference, the most frequent first.
    pub differences: Vec<Difference>,
    /// Messages on which a rule of the candidate failed.
    pub faults: u64,
    /// Time that a message took, in nanoseconds: the candidate's.
    pub nanos: u64,
    /// The same of the live rules, for the same messages.
    pub live_nanos: u64,
}

/// A kind of difference between two sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What the live rules said, and what the candidate said: `passed`, or `rejected by RULE: REASON`; `passed` twice where the
    /// outputs differ.
    pub live: String,
    pub candidate: String,
    pub records: u64,
    /// Some of the messages: where they are, and the two outputs or details.
    pub examples: Vec<String>,
}

/// Messages, and what the live rules made of them.
#[derive(Debug)]
struct Sample {
    batch: Batch,
    /// In the order of the batch.
    live: Vec<Fate>,
    /// What a message took, in nanoseconds.
    nanos: u64,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fate {
    verdict: Verdict,
    /// The output, or the details of the rejection.
    text: Vec<u8>,
}

/// Whether a message passed. Rules and reasons stand here by name, since those of two sets are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Passed,
    Rejected {
        rule: String,
        reason: String,
    },
    /// Nothing became of it.
    Lost,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Passed => out.write_str("passed"),
            Verdict::Rejected { rule, reason } => write!(out, "rejected by {rule}: {reason}"),
            Verdict::Lost => out.write_str("lost"),
        }
    }
}

/// The data loop's end.
#[derive(Clone, Debug)]
pub struct ShadowSampler {
    has_time: Arc<AtomicBool>,
    skipped: Arc<AtomicU64>,
    samples: SyncSender<Sample>,
}

impl ShadowSampler {
    /// Hands on a sample of what has been committed, if the candidate has time. `took` is how long the live rules took for all of it.
    pub fn sample(&self, parts: &[Part], manifests: &[Manifest], took: Duration) {
        let records: usize = parts.iter().map(|part| part.batch.len()).sum();
        let part = parts.iter().find(|part| !part.batch.is_empty());
        let Some(part) = part.filter(|_| self.has_time.swap(false, Ordering::AcqRel)) else {
            self.skipped.fetch_add(records as u64, Ordering::Relaxed);
            return;
        };
        let sample = sample_of(part, manifests, took.as_nanos() as u64 / records as u64);
        self.skipped.fetch_add((records - sample.batch.len()) as u64, Ordering::Relaxed);
        // Where the candidate has gone nobody waits for samples.
        let _ = self.samples.try_send(sample);
    }
}

fn sample_of(part: &Part, manifests: &[Manifest], nanos: u64) -> Sample {
    let rows = part.batch.len().min(SAMPLE_ROWS);
    let batch = part.batch.first(rows);
    let live = fates(&part.batch, &part.step, manifests, rows);
    Sample { batch, live, nanos }
}

/// What became of the first `rows` messages of a batch.
fn fates(batch: &Batch, step: &Step, manifests: &[Manifest], rows: usize) -> Vec<Fate> {
    let lost = Fate { verdict: Verdict::Lost, text: Vec::new() };
    let mut fates = vec![lost; rows];
    for output in step.outputs.iter().take_while(|output| (output.record as usize) < rows) {
        fates[output.record as usize] = Fate { verdict: Verdict::Passed, text: step.value(output, batch).to_vec() };
    }
    for rejection in step.rejections.iter().filter(|rejection| (rejection.record as usize) < rows) {
        let (rule, reason) = (rule_name(rejection.rule(), manifests).into(), reason_name(rejection, manifests).into());
        let verdict = Verdict::Rejected { rule, reason };
        let text = rejection.detail.clone().unwrap_or_default().into_bytes();
        fates[rejection.record as usize] = Fate { verdict, text };
    }
    fates
}

/// A candidate at work. It ends when this goes.
#[derive(Debug)]
pub struct Candidate {
    report: Arc<Mutex<ShadowReport>>,
    skipped: Arc<AtomicU64>,
    _end: mpsc::Sender<()>,
}

impl Candidate {
    /// Lets `rules` run beside the live rules, with `share` of a core.
    ///
    /// # Errors
    /// If its thread can't be started.
    pub fn start(rules: RuleInstances, set: &SetDescription, share: f64, now: i64) -> anyhow::Result<(Candidate, ShadowSampler)> {
        let report = Arc::new(Mutex::new(ShadowReport { candidate: set.clone(), since: now, ..ShadowReport::default() }));
        let (has_time, skipped) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default());
        let (samples, offered) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel();
        let work = Work {
            rules,
            share: share.max(SMALLEST_SHARE),
            has_time: Arc::clone(&has_time),
            skipped: Arc::clone(&skipped),
            report: Arc::clone(&report),
        };
        let thread = thread::Builder::new().name("weir-shadow".into()).spawn(move || work.run(&offered, &ended));
        thread.context("failed to start the candidate's thread")?;
        let sampler = ShadowSampler { has_time, skipped: Arc::clone(&skipped), samples };
        Ok((Candidate { report, skipped, _end: end }, sampler))
    }

    /// How it does.
    pub fn report(&self) -> ShadowReport {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.skipped = self.skipped.load(Ordering::Relaxed);
        report.differences.sort_by_key(|difference| std::cmp::Reverse(difference.records));
        report
    }
}

struct Work {
    rules: RuleInstances,
    share: f64,
    has_time: Arc<AtomicBool>,
    skipped: Arc<AtomicU64>,
    report: Arc<Mutex<ShadowReport>>,
}

impl Work {
    fn run(mut self, offered: &Receiver<Sample>, ended: &Receiver<()>) {
        let counts = Counts::new(60_000, false);
        let mut step = Step::default();
        let mut kinds = BTreeMap::new();
        while let Ok(mut sample) = offered.recv() {
            let began = Instant::now();
            self.rules.process(&counts, &sample.batch, &mut step);
            let took = began.elapsed();
            if let Some(judged) = step.judged {
                // It came no further, which says nothing of the rest.
                self.skipped.fetch_add((sample.batch.len() - judged) as u64, Ordering::Relaxed);
                sample.batch.truncate(judged);
            }
            let fates = fates(&sample.batch, &step, &self.rules.manifests, sample.batch.len());
            let faults = step.rules.iter().map(|rule| rule.faults + rule.skipped).sum();
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            compare(&mut report, &mut kinds, &sample, &fates);
            add_cost(&mut report, &sample, took, faults);
            drop(report);
            if ended.recv_timeout(rest(took, self.share)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            self.has_time.store(true, Ordering::Release);
        }
    }
}

/// How long to rest after work that took so long. However long that is, whoever ends the candidate ends the rest.
fn rest(took: Duration, share: f64) -> Duration {
    took.mul_f64(1.0 / share - 1.0)
}

/// Adds what a sample took to the averages.
fn add_cost(report: &mut ShadowReport, sample: &Sample, took: Duration, faults: u64) {
    let rows = sample.batch.len() as u64;
    let average = |before: u64, now: u64| (before * report.records + now * rows) / (report.records + rows).max(1);
    let nanos = average(report.nanos, took.as_nanos() as u64 / rows.max(1));
    let live_nanos = average(report.live_nanos, sample.nanos);
    (report.nanos, report.live_nanos) = (nanos, live_nanos);
    report.records += rows;
    report.faults += faults;
}

fn compare(report: &mut ShadowReport, kinds: &mut BTreeMap<(Verdict, Verdict), usize>, sample: &Sample, candidate: &[Fate]) {
    for (index, (live, candidate)) in sample.live.iter().zip(candidate).enumerate() {
        // Details of a rejection are words for people: the verdict is what counts.
        let same_text = live.verdict != Verdict::Passed || live.text == candidate.text;
        if live.verdict == candidate.verdict && same_text {
            report.agreed += 1;
            continue;
        }
        let kind = (live.verdict.clone(), candidate.verdict.clone());
        let known = kinds.len();
        if known == MAX_KINDS && !kinds.contains_key(&kind) {
            continue;
        }
        let place = *kinds.entry(kind.clone()).or_insert_with(|| {
            let (live, candidate) = (kind.0.to_string(), kind.1.to_string());
            report.differences.push(Difference { live, candidate, records: 0, examples: Vec::new() });
            known
        });
        let difference = &mut report.differences[place];
        difference.records += 1;
        if difference.examples.len() < MAX_EXAMPLES {
            let record = &sample.batch.records()[index];
            let (topic, partition, offset) = (&sample.batch.topic, record.partition, record.offset);
            difference.examples.push(format!("{topic}/{partition}/{offset} {} | {}", text(live), text(candidate)));
        }
    }
}

fn text(fate: &Fate) -> String {
    let text: String = String::from_utf8_lossy(&fate.text).chars().take(MAX_TEXT).collect();
    text.escape_debug().to_string().replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::set;

    fn judge(process: impl FnMut(&Counts, &Batch, &mut Step) + Send + 'static) -> RuleInstances {
        let manifest = Manifest { name: "rule".into(), ..Manifest::default() };
        RuleInstances::new(process, vec![manifest], set("cafe"))
    }

    fn part(values: &[&str]) -> Part {
        let mut part = Part { batch: Batch::new("user-login"), step: Step::default() };
        for (offset, value) in values.iter().enumerate() {
            part.batch.push(1, offset as i64, None, None, Some(value.as_bytes()));
            part.step.pass(offset as u32);
        }
        part
    }

    fn eventually(candidate: &Candidate, records: u64) -> ShadowReport {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let report = candidate.report();
            if report.records >= records {
                return report;
            }
            assert!(Instant::now() < until, "no sample was compared: {report:?}");
            thread::yield_now();
        }
    }

    #[test]
    fn differences_are_counted_with_examples() {
        let differing = judge(|_, batch, step| {
            step.clear();
            for record in 0..batch.len() as u32 {
                match batch.value(record as usize) {
                    Some(b"same") => step.pass(record),
                    _ => step.pass_with(record, |out| std::io::Write::write_all(out, b"other")).unwrap(),
                }
            }
        });
        let (candidate, sampler) = Candidate::start(differing, &SetDescription::default(), 1.0, 7).unwrap();
        sampler.sample(&[part(&["same", "live\n", "same"])], &[], Duration::from_nanos(300));
        let report = eventually(&candidate, 3);
        assert_eq!((report.agreed, report.skipped, report.live_nanos, report.since), (2, 0, 100, 7));
        let [difference] = &report.differences[..] else { panic!("one kind, not {:?}", report.differences) };
        assert_eq!((difference.live.as_str(), difference.candidate.as_str(), difference.records), ("passed", "passed", 1));
        assert_eq!(difference.examples, ["user-login/1/1 live\\n | other"]);
    }

    #[test]
    fn a_slow_candidate_is_not_waited_for() {
        let (go, wait) = mpsc::channel::<()>();
        let slow = judge(move |_, _, step| {
            step.clear();
            let _ = wait.recv();
        });
        let (candidate, sampler) = Candidate::start(slow, &SetDescription::default(), 1.0, 0).unwrap();
        for _ in 0..10 {
            sampler.sample(&[part(&["a"; 2 * SAMPLE_ROWS])], &[], Duration::ZERO);
        }
        assert_eq!(candidate.report().skipped as usize, SAMPLE_ROWS + 9 * 2 * SAMPLE_ROWS);
        go.send(()).unwrap();
        assert_eq!(eventually(&candidate, SAMPLE_ROWS as u64).records, SAMPLE_ROWS as u64);
    }

    #[test]
    fn a_candidate_that_is_very_slow_keeps_to_its_share_too() {
        assert_eq!(rest(Duration::from_secs(2), 0.1), Duration::from_secs(18));
        assert_eq!(rest(Duration::from_secs(2), SMALLEST_SHARE), Duration::from_secs(1_998));
    }
}
