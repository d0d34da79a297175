//! The cost of finding the records on which a rule fails: batches with one and with ten faulting records, against a batch with
//! none.
//!
//! The shipped rules fail on no record, so a rule made for this benchmark follows them. It traps on marked logins, and its store
//! is as large as theirs. The time for a fresh store with a rule is shown too, because a fresh store is the largest part of what
//! a trap costs.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use weir::config::Config;
use weir_core::counts::Counts;
use weir_core::record::{Batch, Step};
use weir_wasm::Runtime;
use weir_wasm::rule::Rule;
use weir_wasm::ruleset::RuleSet;

use crate::guest::Guest;

/// The number of records in a batch.
const ROWS: usize = 1_000;
/// The number of times that each batch is processed, in turns.
const ROUNDS: usize = 30;
/// The numbers of faulting records in the three batches.
const CULPRITS: [usize; 3] = [0, 1, 10];

/// A rule that traps on records whose `x` is null, except in the probe, where the clock is at 0.
const TRAPS: &str = "
    (func $on_null (param $row i32) (if (i64.ne (global.get $processed_at) (i64.const 0)) (then (unreachable))))";

/// Measures, prints, and returns the figures.
pub fn measure(config: &Config) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("guest.wasm");
    fs::write(&file, Guest::new(TRAPS).component())?;
    let mut config = config.clone();
    config.rules.pipeline.push(Rule { file, ..Rule::with_defaults("guest") });
    let rules = RuleSet::prove(&Runtime::new(None)?, config.rules.definition()?)?;
    let (mut pipeline, counts, mut step) = (rules.instantiate()?, Counts::new(60_000, false), Step::default());
    let batches = CULPRITS.map(batch);
    let mut times = [const { Vec::new() }; CULPRITS.len()];
    for _ in 0..ROUNDS {
        for (index, batch) in batches.iter().enumerate() {
            let started = Instant::now();
            pipeline.process(&counts, batch, &mut step);
            times[index].push(started.elapsed().as_secs_f64() * 1e6);
            anyhow::ensure!(step.rejections.len() == CULPRITS[index], "{} were rejected", step.rejections.len());
        }
    }
    let mut starts: Vec<f64> = (0..ROUNDS).map(|_| start(&rules)).collect::<anyhow::Result<_>>()?;
    let [clean, one, ten] = times.map(|mut times| median(&mut times));
    let store = median(&mut starts) / config.rules.pipeline.len() as f64;
    println!("a batch of {ROWS} takes {clean:.0} µs; with one culprit {:.1} x that, with ten {:.1} x", one / clean, ten / clean);
    println!("a fresh store with a configured rule takes {store:.0} µs");
    let round = |value: f64| (value * 10.0).round() / 10.0;
    Ok(json!({ "clean_us": round(clean), "one": round(one / clean), "ten": round(ten / clean), "store_us": round(store) }))
}

/// Returns a batch of logins that the shipped rules pass. `culprits` of them are marked as faulting records.
fn batch(culprits: usize) -> Batch {
    let mut batch = Batch::new("user-login");
    batch.processed_at = 1_700_000_000_000;
    for row in 0..ROWS {
        let culprit = culprits > 0 && row % (ROWS / culprits) == ROWS / culprits / 2;
        let x = if culprit { "null" } else { "1" };
        let login = format!(
            r#"{{"user_id":"424cdd21-063a-43a7-b91b-7ca1a833afae","app_version":"2.3.0","device_type":"android","ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":1694479551,"x":{x}}}"#
        );
        batch.push(0, row as i64, None, None, Some(login.as_bytes()));
    }
    batch
}

/// Returns the time to start all rules, in microseconds.
fn start(rules: &RuleSet) -> anyhow::Result<f64> {
    let started = Instant::now();
    rules.instantiate()?;
    Ok(started.elapsed().as_secs_f64() * 1e6)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
