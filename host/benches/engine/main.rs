//! The cost of a record in several ways: the engine with the rules in Wasm, the same engine with the same rules compiled natively,
//! native Rust written by hand for these three rules with the engine's scanner, native Rust as an expert would write it with
//! each of three JSON libraries, and native Rust as a first version would be written. A copy of the message is the floor.
//!
//! All of them process the same simulated logins, in batches, on one core, from the message in memory to the output in memory. First
//! it is checked that they give the same answers. Times are the best of several interleaved rounds, because the disturbance by a
//! shared machine is never negative. Then the rules in Wasm are compared with the same rules without limits, run on several cores, and are
//! swapped while records are processed. Needs the rules in `rules/dist`; `make bench` builds them.

mod copying;
mod cores;
mod culprits;
mod expert;
#[path = "../../../tests/guest.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod guest;
mod hand_written;
mod idiomatic;
mod native;
mod swaps;
mod unlimited;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{bail, ensure};
use serde_json::{Value, json};
use weir::config::{self, Config};
use weir::simulate::bad;
use weir::simulate::logins::{Logins, Options};
use weir_core::counts::Counts;
use weir_core::pipeline::{Evaluate, Pipeline, reason_name};
use weir_core::record::{Batch, Step};
use weir_wasm::Runtime;
use weir_wasm::ruleset::RuleSet;

use expert::Expert;

const RECORDS: usize = 100_000;
const BATCH_ROWS: usize = 1_000;
const ROUNDS: usize = 9;
/// The number of pairs of measurements, with and without limits.
const LIMIT_ROUNDS: usize = 15;
/// The number of passes of each measurement over all records. The best pass counts.
const LIMIT_PASSES: usize = 3;
/// The number of rows in a batch while rules are swapped. It is the most that a batch has by default, as under full load.
const SWAPPED_ROWS: usize = 20_000;
/// The clock of the first batch, in milliseconds since the epoch. Each later batch begins a millisecond after the one before.
const BEGIN: i64 = 1_767_225_600_000;

/// A way to process logins.
trait Contender {
    /// Processes a batch, and keeps the answers until the next batch.
    fn process(&mut self, batch: &Batch);

    /// Returns the answers to the last batch.
    fn answers(&self, batch: &Batch) -> Answers;

    /// Returns the number of passed records by device type, since the start.
    fn counts(&self) -> BTreeMap<String, u64>;
}

/// A contender that is measured.
struct Entry {
    name: &'static str,
    agrees: Agrees,
    contender: Box<dyn Contender>,
}

/// How far the answers of a contender are those of the first one.
#[derive(Clone, Copy)]
enum Agrees {
    /// In every byte, and in the details of rejections.
    Exactly,
    /// In the values of outputs, and in the reasons of rejections.
    InValue,
    /// It gives none.
    Not,
}

/// The answers to a batch, for comparison.
#[derive(Debug, Default, PartialEq)]
struct Answers {
    /// (record, new value)
    outputs: Vec<(u32, Vec<u8>)>,
    /// (record, reason, detail)
    rejections: Vec<(u32, String, Option<String>)>,
}

/// The engine, with any way to run its rules.
struct BenchPipeline<R> {
    pipeline: Pipeline<R>,
    counts: Counts,
    step: Step,
}

impl<R: Evaluate> BenchPipeline<R> {
    fn new(pipeline: Pipeline<R>) -> BenchPipeline<R> {
        BenchPipeline { pipeline, counts: Counts::new(60_000, false), step: Step::default() }
    }
}

impl<R: Evaluate> Contender for BenchPipeline<R> {
    fn process(&mut self, batch: &Batch) {
        self.pipeline.process(&self.counts, batch, &mut self.step);
        self.counts.apply(&self.step.counts);
    }

    fn answers(&self, batch: &Batch) -> Answers {
        let rejections = self.step.rejections.iter();
        Answers {
            outputs: self.step.outputs.iter().map(|output| (output.record, self.step.value(output, batch).to_vec())).collect(),
            rejections: rejections
                .map(|rejection| {
                    (rejection.record, reason_name(rejection, self.pipeline.manifests()).to_owned(), rejection.detail.clone())
                })
                .collect(),
        }
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.totals()
    }
}

fn main() -> anyhow::Result<()> {
    let batches = logins(BATCH_ROWS)?;
    let bytes: usize = batches.iter().map(Batch::bytes).sum();
    println!("{RECORDS} simulated logins of {} bytes each, batches of {BATCH_ROWS}, best of {ROUNDS} rounds", bytes / RECORDS);

    let wasm = BenchPipeline::new(RuleSet::prove(&Runtime::new(None)?, configuration()?.rules.definition()?)?.instantiate()?);
    let native = BenchPipeline::new(native::pipeline()?);
    let entry = |name, agrees, contender| Entry { name, agrees, contender };
    let mut entries: Vec<Entry> = vec![
        entry("wasm", Agrees::Exactly, Box::new(wasm)),
        entry("same_engine_native", Agrees::Exactly, Box::new(native)),
        entry("hand_written", Agrees::Exactly, Box::<hand_written::HandWritten>::default()),
        entry("expert_serde_json", Agrees::InValue, Box::<Expert<expert::SerdeJson>>::default()),
        entry("expert_sonic_rs", Agrees::InValue, Box::<Expert<expert::SonicRs>>::default()),
        entry("expert_simd_json", Agrees::InValue, Box::<Expert<expert::SimdJson>>::default()),
        entry("idiomatic", Agrees::InValue, Box::<idiomatic::Idiomatic>::default()),
        entry("memcpy", Agrees::Not, Box::<copying::Copying>::default()),
    ];
    check_agreement(&mut entries, &batches)?;
    check_agreement(&mut entries, &[malformed()])?;
    // As a test this program checks only the agreement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let nanos = measure(&mut entries, &batches);
    let &[wasm, native, hand_written, serde, sonic, simd, idiomatic, memcpy] = nanos.as_slice() else {
        bail!("a contender is missing")
    };
    // The expert takes the fastest library.
    let expert = serde.min(sonic).min(simd);
    for (Entry { name, .. }, nanos) in entries.iter().zip(&nanos) {
        println!(
            "{name:<20} {nanos:>7.1} ns/record   {:>5.2} x hand_written   {:>5.2} x expert   {:>5.2} x idiomatic",
            nanos / hand_written,
            nanos / expert,
            nanos / idiomatic
        );
    }
    let culprits = culprits::measure(&configuration()?)?;
    let limits = limits(&batches)?;
    println!("limits make the rules in Wasm take {limits:.3} x the time (median of {LIMIT_ROUNDS} pairs)");
    let cores = cores::measure(&batches)?;
    for (cores, ratio) in &cores {
        println!("{cores} cores process {ratio:.2} x the records of one core");
    }
    let swaps = swaps::measure(&logins(SWAPPED_ROWS)?)?;
    let round = |nanos: f64| (nanos * 10.0).round() / 10.0;
    println!(
        "{}",
        json!({
            "wasm": round(wasm), "same_engine_native": round(native), "hand_written": round(hand_written),
            "expert": round(expert), "idiomatic": round(idiomatic), "memcpy": round(memcpy),
            "limits": (limits * 1e3).round() / 1e3, "culprits": culprits, "cores": cores, "swaps": swaps
        })
    );
    Ok(())
}

/// Returns the default configuration, with the rules that were built here.
fn configuration() -> anyhow::Result<Config> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/dist");
    let mut config = Config::load(None, config::environment()?)?;
    for rule in &mut config.rules.pipeline {
        rule.file = PathBuf::from(&dist).join(format!("{}.wasm", rule.name));
        ensure!(rule.file.exists(), "{} is missing; run `make rules`", rule.file.display());
    }
    Ok(config)
}

/// Returns simulated logins, a tenth of them bad. Bad logins on which two JSON libraries may disagree are left out.
fn logins(rows: usize) -> anyhow::Result<Vec<Batch>> {
    let kinds = BAD_KINDS.iter().map(|name| bad::find(name)).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    let mut logins = Logins::new(&Options { kinds, ..Options::default() });
    let batches = (0..RECORDS / rows).map(|index| {
        let mut batch = Batch::new("user-login");
        batch.processed_at = BEGIN + index as i64;
        for (offset, login) in logins.by_ref().take(rows).enumerate() {
            batch.push(offset as i32 % 3, offset as i64, None, Some(&login.key), login.value.as_deref());
        }
        batch
    });
    Ok(batches.collect())
}

const BAD_KINDS: [&str; 6] =
    ["missing-app-version", "old-version", "malformed-version", "millis-timestamp", "other-device", "truncated-json"];

/// Returns logins that are no JSON by RFC 8259, each in a field that no rule reads.
fn malformed() -> Batch {
    let values: [&[u8]; 14] = [
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"1e",
        b"NaN",
        b"'a'",
        b"\"\t\"",
        br#""\x""#,
        br#""\u12g4""#,
        b"\"\xff\"",
        b"[1,]",
        b"{\"a\" 1}",
        b"1}x",
    ];
    let mut batch = Batch::new("user-login");
    batch.processed_at = BEGIN;
    for (offset, value) in values.iter().enumerate() {
        let login = br#"{"app_version":"2.3.0","device_type":"iOS","timestamp":1700000000,"other":"#;
        batch.push(0, offset as i64, None, None, Some(&[&login[..], value, b"}"].concat()));
    }
    batch
}

/// Checks that all contenders do the same work as the first one.
fn check_agreement(entries: &mut [Entry], batches: &[Batch]) -> anyhow::Result<()> {
    for batch in batches {
        entries.iter_mut().for_each(|entry| entry.contender.process(batch));
        let first = entries[0].contender.answers(batch);
        for Entry { name, agrees, contender } in entries.iter() {
            let answers = contender.answers(batch);
            let agree = match agrees {
                Agrees::Exactly => answers == first,
                Agrees::InValue => alike(&first, &answers),
                Agrees::Not => true,
            };
            ensure!(agree, "{name} differs: {}", difference(&first, &answers));
        }
    }
    let counts = entries[0].contender.counts();
    for Entry { name, agrees, contender } in entries.iter() {
        ensure!(matches!(agrees, Agrees::Not) || contender.counts() == counts, "{name} counts otherwise");
    }
    Ok(())
}

/// Returns whether two answers are equal in value. A JSON library may write the same value in another way, and word its errors
/// otherwise, also those of bytes that are not UTF-8.
fn alike(engine: &Answers, other: &Answers) -> bool {
    let values = |answers: &Answers| -> Vec<(u32, Option<Value>)> {
        answers.outputs.iter().map(|(record, value)| (*record, serde_json::from_slice(value).ok())).collect()
    };
    let reasons = |answers: &Answers| -> Vec<(u32, String)> {
        answers.rejections.iter().map(|(record, reason, _)| (*record, reason.replace("not_utf8", "malformed_json"))).collect()
    };
    values(engine) == values(other) && reasons(engine) == reasons(other)
}

fn difference(left: &Answers, right: &Answers) -> String {
    let output = left.outputs.iter().zip(&right.outputs).find(|(left, right)| left != right);
    let rejection = left.rejections.iter().zip(&right.rejections).find(|(left, right)| left != right);
    let text = |(record, value): &(u32, Vec<u8>)| format!("{record} {}", String::from_utf8_lossy(value));
    format!("{:?}, {rejection:?}", output.map(|(left, right)| (text(left), text(right))))
}

/// Returns the nanoseconds per record in the best round of each contender.
fn measure(entries: &mut [Entry], batches: &[Batch]) -> Vec<f64> {
    let mut best = vec![f64::INFINITY; entries.len()];
    for _ in 0..ROUNDS {
        for (entry, best) in entries.iter_mut().zip(&mut best) {
            *best = best.min(pass(entry.contender.as_mut(), batches));
        }
    }
    best
}

/// Returns the nanoseconds per record of one pass over all records.
fn pass(contender: &mut dyn Contender, batches: &[Batch]) -> f64 {
    let started = Instant::now();
    batches.iter().for_each(|batch| contender.process(batch));
    started.elapsed().as_nanos() as f64 / RECORDS as f64
}

/// Returns the time of the rules with their limits divided by the time without, as the median over pairs. Each pair has stores of
/// its own, because the place of their memory matters more than the limits do.
fn limits(batches: &[Batch]) -> anyhow::Result<f64> {
    let config = configuration()?;
    let (limited, unlimited) =
        (RuleSet::prove(&Runtime::new(None)?, config.rules.definition()?)?, unlimited::Rules::load(&config.rules.pipeline)?);
    let mut ratios = Vec::new();
    for round in 0..LIMIT_ROUNDS {
        let mut pair: [Box<dyn Contender>; 2] =
            [Box::new(BenchPipeline::new(limited.instantiate()?)), Box::new(BenchPipeline::new(unlimited.instantiate()?))];
        let [with, without] = pair.each_mut().map(|contender| {
            contender.process(&batches[0]);
            contender.answers(&batches[0])
        });
        ensure!(with == without, "the rules differ without limits");
        let mut nanos = [0.0; 2];
        // The order alternates, because the second contender finds a warmer machine.
        for index in [round % 2, 1 - round % 2] {
            nanos[index] = (0..LIMIT_PASSES).map(|_| pass(pair[index].as_mut(), batches)).fold(f64::INFINITY, f64::min);
        }
        ratios.push(nanos[0] / nanos[1]);
    }
    ratios.sort_by(f64::total_cmp);
    Ok(ratios[LIMIT_ROUNDS / 2])
}
