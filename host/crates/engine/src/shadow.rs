//! A candidate that processes live records beside the live rules, and produces nothing.
//!
//! The data loop offers samples of committed records, but only while the candidate has time. A sample is a copy of some records
//! and of what the live rules made of them. The candidate has a thread of its own, which rests after each sample long enough to
//! take no more than its share of a core. If the candidate is slow, fewer records are compared; the live rules never wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::instances::RuleInstances;
use weir_core::counts::Counts;
use weir_core::pipeline::{Manifest, reason_name, rule_name};
use weir_core::printable::excerpt;
use weir_core::record::{Batch, Chunk, Step};
use weir_wasm::description::SetDescription;

/// The most records of a sample. Copying so few takes next to no time beside processing a batch.
const SAMPLE_ROWS: usize = 250;
/// The most kinds of differences that are told apart. Records with a further kind are counted, but not as agreed.
const MAX_KINDS: usize = 50;
/// The most examples of each kind of difference.
const MAX_EXAMPLES: usize = 3;
/// The most of an output that is shown, in characters.
const MAX_TEXT: usize = 300;
/// The smallest share of a core that a candidate gets, so that it makes progress.
const SMALLEST_SHARE: f64 = 0.001;

/// The comparison of a candidate with the live rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    pub candidate: SetDescription,
    pub since: i64,
    /// The records that both the candidate and the live rules have processed.
    pub records: u64,
    /// The records that only the live rules have processed, because the candidate had no time.
    pub skipped: u64,
    /// The records with the same result from both.
    pub agreed: u64,
    /// The kinds of differences, the most frequent first.
    pub differences: Vec<Difference>,
    /// The records on which a rule of the candidate failed.
    pub faults: u64,
    /// The average time that the candidate took for a record, in nanoseconds.
    pub nanos: u64,
    /// The average time that the live rules took for one of these records, in nanoseconds.
    pub live_nanos: u64,
}

/// A kind of difference between two sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The verdict of the live rules; `candidate` is that of the candidate. Each is `passed`, or `rejected by RULE: REASON`. Both
    /// are `passed` if the outputs differ.
    pub live: String,
    pub candidate: String,
    pub records: u64,
    /// Some of the records: their positions, and the two outputs or details.
    pub examples: Vec<String>,
}

/// A sample: records, and what the live rules made of them.
#[derive(Debug)]
struct Sample {
    batch: Batch,
    /// The results of the live rules, in the order of the batch.
    live: Vec<RecordResult>,
    /// The average time that the live rules took for a record, in nanoseconds.
    nanos: u64,
}

/// The result for a record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RecordResult {
    verdict: NamedVerdict,
    /// The output, or the detail of the rejection.
    text: Vec<u8>,
}

/// The verdict on a record. It has rules and reasons by name, because verdicts of two sets are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NamedVerdict {
    Passed,
    Rejected {
        rule: String,
        reason: String,
    },
    /// The record has neither an output nor a rejection.
    Lost,
}

impl fmt::Display for NamedVerdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamedVerdict::Passed => out.write_str("passed"),
            NamedVerdict::Rejected { rule, reason } => write!(out, "rejected by {rule}: {reason}"),
            NamedVerdict::Lost => out.write_str("lost"),
        }
    }
}

/// The data loop's end of the connection with a candidate.
#[derive(Clone, Debug)]
pub struct ShadowSampler {
    has_time: Arc<AtomicBool>,
    skipped: Arc<AtomicU64>,
    samples: SyncSender<Sample>,
}

impl ShadowSampler {
    /// Hands a sample of the committed `chunks` to the candidate, if the candidate has time. `took` is the time that the live
    /// rules took for all chunks.
    pub fn sample(&self, chunks: &[Chunk], manifests: &[Manifest], took: Duration) {
        let records: usize = chunks.iter().map(|chunk| chunk.batch.len()).sum();
        let chunk = chunks.iter().find(|chunk| !chunk.batch.is_empty());
        let Some(chunk) = chunk.filter(|_| self.has_time.swap(false, Ordering::AcqRel)) else {
            self.skipped.fetch_add(records as u64, Ordering::Relaxed);
            return;
        };
        let sample = sample_of(chunk, manifests, took.as_nanos() as u64 / records as u64);
        self.skipped.fetch_add((records - sample.batch.len()) as u64, Ordering::Relaxed);
        // If the candidate has gone, the sample is dropped.
        let _ = self.samples.try_send(sample);
    }
}

fn sample_of(chunk: &Chunk, manifests: &[Manifest], nanos: u64) -> Sample {
    let rows = chunk.batch.len().min(SAMPLE_ROWS);
    let batch = chunk.batch.first(rows);
    let live = fates(&chunk.batch, &chunk.step, manifests, rows);
    Sample { batch, live, nanos }
}

/// Returns the results for the first `rows` records of a batch.
fn fates(batch: &Batch, step: &Step, manifests: &[Manifest], rows: usize) -> Vec<RecordResult> {
    let lost = RecordResult { verdict: NamedVerdict::Lost, text: Vec::new() };
    let mut fates = vec![lost; rows];
    for output in step.outputs.iter().take_while(|output| (output.record as usize) < rows) {
        fates[output.record as usize] = RecordResult { verdict: NamedVerdict::Passed, text: step.value(output, batch).to_vec() };
    }
    for rejection in step.rejections.iter().filter(|rejection| (rejection.record as usize) < rows) {
        let (rule, reason) = (rule_name(rejection.rule(), manifests).into(), reason_name(rejection, manifests).into());
        let verdict = NamedVerdict::Rejected { rule, reason };
        let text = rejection.detail.clone().unwrap_or_default().into_bytes();
        fates[rejection.record as usize] = RecordResult { verdict, text };
    }
    fates
}

/// A running candidate. It ends when this value is dropped.
#[derive(Debug)]
pub struct Candidate {
    report: Arc<Mutex<ShadowReport>>,
    skipped: Arc<AtomicU64>,
    _end: mpsc::Sender<()>,
}

impl Candidate {
    /// Starts `rules` as a candidate beside the live rules, with `share` of a core.
    ///
    /// # Errors
    /// If its thread can't be started.
    pub fn start(rules: RuleInstances, set: &SetDescription, share: f64, now: i64) -> anyhow::Result<(Candidate, ShadowSampler)> {
        let report = Arc::new(Mutex::new(ShadowReport { candidate: set.clone(), since: now, ..ShadowReport::default() }));
        let (has_time, skipped) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default());
        let (samples, offered) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel();
        let work = ShadowWork {
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

    /// Returns the comparison so far.
    pub fn report(&self) -> ShadowReport {
        let mut report = self.report.lock().clone();
        report.skipped = self.skipped.load(Ordering::Relaxed);
        report.differences.sort_by_key(|difference| std::cmp::Reverse(difference.records));
        report
    }
}

struct ShadowWork {
    rules: RuleInstances,
    share: f64,
    has_time: Arc<AtomicBool>,
    skipped: Arc<AtomicU64>,
    report: Arc<Mutex<ShadowReport>>,
}

impl ShadowWork {
    fn run(mut self, offered: &Receiver<Sample>, ended: &Receiver<()>) {
        let counts = Counts::new(60_000, false);
        let mut step = Step::default();
        let mut kinds = BTreeMap::new();
        while let Ok(mut sample) = offered.recv() {
            let began = Instant::now();
            self.rules.process(&counts, &sample.batch, &mut step);
            let took = began.elapsed();
            if let Some(processed) = step.processed_records {
                // The candidate processed only the first records of the sample. The others count as skipped.
                self.skipped.fetch_add((sample.batch.len() - processed) as u64, Ordering::Relaxed);
                sample.batch.truncate(processed);
            }
            let fates = fates(&sample.batch, &step, &self.rules.manifests, sample.batch.len());
            let faults = step.rules.iter().map(|rule| rule.faults + rule.skipped).sum();
            let mut report = self.report.lock();
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

/// Returns the time to rest after work that lasted for `took`. The end of the candidate ends even a very long rest at once.
fn rest(took: Duration, share: f64) -> Duration {
    took.mul_f64(1.0 / share - 1.0)
}

/// Adds the times for a sample to the averages.
fn add_cost(report: &mut ShadowReport, sample: &Sample, took: Duration, faults: u64) {
    let rows = sample.batch.len() as u64;
    let average = |before: u64, now: u64| (before * report.records + now * rows) / (report.records + rows).max(1);
    let nanos = average(report.nanos, took.as_nanos() as u64 / rows.max(1));
    let live_nanos = average(report.live_nanos, sample.nanos);
    (report.nanos, report.live_nanos) = (nanos, live_nanos);
    report.records += rows;
    report.faults += faults;
}

fn compare(
    report: &mut ShadowReport,
    kinds: &mut BTreeMap<(NamedVerdict, NamedVerdict), usize>,
    sample: &Sample,
    candidate: &[RecordResult],
) {
    for (index, (live, candidate)) in sample.live.iter().zip(candidate).enumerate() {
        // Details of a rejection are words for operators, so only the verdicts of rejections are compared.
        let same_text = live.verdict != NamedVerdict::Passed || live.text == candidate.text;
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
            let position = sample.batch.position(index);
            difference.examples.push(format!("{position} {} | {}", text(live), text(candidate)));
        }
    }
}

fn text(fate: &RecordResult) -> String {
    excerpt(&fate.text, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::set;

    fn judge(process: impl FnMut(&Counts, &Batch, &mut Step) + Send + 'static) -> RuleInstances {
        let manifest = Manifest { name: "rule".into(), ..Manifest::default() };
        RuleInstances::new(process, vec![manifest], set("cafe"))
    }

    fn chunk(values: &[&str]) -> Chunk {
        let mut chunk = Chunk { batch: Batch::new("user-login"), step: Step::default() };
        for (offset, value) in values.iter().enumerate() {
            chunk.batch.push(1, offset as i64, None, None, Some(value.as_bytes()));
            chunk.step.outputs_mut().pass(offset as u32);
        }
        chunk
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
                    Some(b"same") => step.outputs_mut().pass(record),
                    _ => step.outputs_mut().pass_with(record, |out| std::io::Write::write_all(out, b"other")).unwrap(),
                }
            }
        });
        let (candidate, sampler) = Candidate::start(differing, &SetDescription::default(), 1.0, 7).unwrap();
        sampler.sample(&[chunk(&["same", "live\n", "same"])], &[], Duration::from_nanos(300));
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
            sampler.sample(&[chunk(&["a"; 2 * SAMPLE_ROWS])], &[], Duration::ZERO);
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
