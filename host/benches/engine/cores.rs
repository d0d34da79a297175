//! The engine on several cores: as many pipelines as cores, each in a thread of its own, over compiled code that they share.
//!
//! This is what the data loops of a process do, without Kafka. What keeps the rate from growing with the cores is then in the engine,
//! in wasmtime, in the allocator, or in the machine, whose cores share caches and memory.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use weir_core::record::Batch;
use weir_wasm::Runtime;
use weir_wasm::ruleset::RuleSet;

use super::{BenchPipeline, Contender, RECORDS, configuration};

/// The number of rounds. In each of them every number of threads has its turn.
const ROUNDS: usize = 9;
/// The number of passes of each thread over all records.
const PASSES: usize = 5;

/// Returns, by the number of threads, how many times as many records they process in the same time as one thread does: the median
/// over the rounds. Measures 2, 4, 8 … threads, and as many as there are cores.
///
/// # Errors
/// If the rules can't be compiled or started.
pub fn measure(batches: &[Batch]) -> anyhow::Result<BTreeMap<String, f64>> {
    let rules = RuleSet::prove(&Runtime::new(None)?, configuration()?.rules.definition()?)?;
    let cores = thread::available_parallelism().context("failed to count the cores")?.get();
    let mut counts: Vec<usize> = (1..).map(|power| 1 << power).take_while(|count| *count < cores).collect();
    counts.extend((cores > 1).then_some(cores));
    let mut ratios: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let one = rate(&rules, batches, 1)?;
        for count in &counts {
            ratios.entry(*count).or_default().push(rate(&rules, batches, *count)? / one);
        }
    }
    let median = |mut ratios: Vec<f64>| {
        ratios.sort_by(f64::total_cmp);
        (ratios[ROUNDS / 2] * 1e2).round() / 1e2
    };
    Ok(ratios.into_iter().map(|(count, ratios)| (count.to_string(), median(ratios))).collect())
}

/// Returns the records per second of `count` threads together.
fn rate(rules: &RuleSet, batches: &[Batch], count: usize) -> anyhow::Result<f64> {
    let mut pipelines = Vec::new();
    for _ in 0..count {
        pipelines.push(BenchPipeline::new(rules.instantiate()?));
    }
    let (begin, end) = (Barrier::new(count + 1), Barrier::new(count + 1));
    let seconds = thread::scope(|scope| {
        for mut pipeline in pipelines {
            let (begin, end) = (&begin, &end);
            scope.spawn(move || {
                // Buffers have their size after the first batch.
                pipeline.process(&batches[0]);
                begin.wait();
                (0..PASSES).for_each(|_| batches.iter().for_each(|batch| pipeline.process(batch)));
                end.wait();
            });
        }
        begin.wait();
        let started = Instant::now();
        end.wait();
        started.elapsed().as_secs_f64()
    });
    Ok((count * PASSES * RECORDS) as f64 / seconds)
}
