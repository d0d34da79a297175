//! The cost of swaps of rules for the records that are being processed: throughput, the longest pause, and the time from writing
//! a file until its set is live.
//!
//! The real loader watches a folder, compiles each new component in a child process, proves it and hands it over. The data loop
//! is replaced by the least code that takes over a set between two batches. There is no Kafka. Periods with swaps and periods
//! without take turns, so that both see the same state of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use weir::config::{self, Config};
use weir_control::{Bootstrap, Handle, Loader, Store};
use weir_core::counts::Counts;
use weir_core::record::{Batch, Step};
use weir_engine::RuleInstances;
use weir_engine::protocol::{self, Activated, Command, Event, LoopEnd};
use weir_wasm::{Bounds, Cache, Compiler, Occasion, Runtime};

/// The rule that is replaced.
const RULE: &str = "device-filter";
/// The time between two swaps.
const PACE: Duration = Duration::from_millis(500);
/// The length of a period in which rules are swapped, or left alone.
const SPELL: Duration = Duration::from_secs(3);
/// The number of periods of each kind.
const ROUNDS: usize = 5;
/// The most time from writing a file until its set is live. After it the benchmark fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time by which a period may be exceeded until its last swap is live.
const LOOK: Duration = Duration::from_millis(5);

/// The measurements of the data loop in one period.
#[derive(Default)]
struct Spell {
    records: u64,
    time: Duration,
    /// The time of each turn without a swap: of one batch.
    turns: Vec<Duration>,
    /// The time of each turn with a swap: of one batch, and of taking over the set before it.
    taking: Vec<Duration>,
    /// The time from writing each file until its set was taken over.
    live: Vec<Duration>,
}

/// Measures, prints, and returns the figures.
pub fn measure(batches: &[Batch]) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let (mut process, rules, events, _handle) = start(folder.path())?;
    let (mut quiet, mut swapping) = (Vec::new(), Vec::new());
    let mut number = 0;
    for _ in 0..ROUNDS {
        quiet.push(spell(&mut process, batches, &events, None)?);
        swapping.push(spell(&mut process, batches, &events, Some((&rules, &mut number)))?);
    }
    let rate = |spell: &Spell| spell.records as f64 / spell.time.as_secs_f64();
    let ratio = median(quiet.iter().zip(&swapping).map(|(quiet, swapping)| rate(swapping) / rate(quiet)));
    let millis = |time: &Duration| time.as_secs_f64() * 1e3;
    let all =
        |spells: &[Spell], of: fn(&Spell) -> &Vec<Duration>| -> Vec<f64> { spells.iter().flat_map(of).map(millis).collect() };
    let largest = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let (batch, taking, live) =
        (all(&swapping, |spell| &spell.turns), all(&swapping, |spell| &spell.taking), all(&swapping, |spell| &spell.live));
    let before = all(&quiet, |spell| &spell.turns);
    let seconds: f64 = swapping.iter().map(|spell| spell.time.as_secs_f64()).sum();
    println!(
        "swapping {:.1} times a second: {ratio:.3} x the throughput of not swapping ({} swaps, batches of {})",
        live.len() as f64 / seconds,
        live.len(),
        batches[0].len()
    );
    let (typical, taken, longest) = (median(batch.iter().copied()), median(taking.iter().copied()), largest(&taking));
    println!(
        "a batch takes {typical:.2} ms in the median; with a swap before it {taken:.2} ms, at most {longest:.2} ms = {:.2} x the \
         median (longest batch without: {:.2} ms, while not swapping {:.2} ms)",
        longest / typical,
        largest(&batch),
        largest(&before)
    );
    let (usual, slowest) = (median(live.iter().copied()), largest(&live));
    println!("from a written file until it is live, compiling included: {usual:.0} ms in the median, at most {slowest:.0} ms");
    let round = |value: f64| (value * 1e3).round() / 1e3;
    Ok(json!({
        "swapping": round(ratio), "batch_ms": round(typical), "pause_ms": round(longest),
        "live_ms": usual.round(), "slowest_live_ms": slowest.round()
    }))
}

type Started = (RuleInstances, ComponentWriter, LoopEnd, Handle);

/// Starts a loader in `folder`, with the shipped rules to begin with.
fn start(folder: &Path) -> anyhow::Result<Started> {
    let rules = folder.join("rules");
    fs::create_dir(&rules)?;
    for rule in super::configuration()?.rules.pipeline {
        fs::copy(&rule.file, rules.join(format!("{}.wasm", rule.name)))?;
    }
    let file = folder.join("weir.toml");
    // No trial, because this benchmark commits nothing.
    fs::write(&file, "[rules]\nfolder = \"rules\"\nstate = \"state\"\n[trial]\nrecords = 0\n")?;
    let config = Config::load(Some(&file), config::environment()?)?;
    let program = env!("CARGO_BIN_EXE_weir").into();
    let compiler = Compiler::Child { program, bounds: Bounds::default() };
    let runtime = Runtime::new(Some(Cache::in_folder(folder.join("cache"))?))?.with_compiler(compiler);
    let store = Store::open(config.rules.state.as_deref(), config.rules.history, &config.kafka.client.group)?;
    let first = Bootstrap::choose(&config.rules, &runtime, &store)?;
    let process = RuleInstances::start(first.rules(), Occasion::Live)?;
    let (loops, mut ends) = protocol::connect(1);
    let source = config::ConfigSource::new(Some(&file), BTreeMap::new(), config.clone());
    let handle = Loader::new(config.rules, Box::new(source), runtime, store, &first).start(loops)?;
    let component = fs::read(rules.join(format!("{RULE}.wasm")))?;
    Ok((process, ComponentWriter { folder: rules, component }, ends.remove(0), handle))
}

/// Writes components that the loader has not seen yet.
struct ComponentWriter {
    folder: std::path::PathBuf,
    component: Vec<u8>,
}

impl ComponentWriter {
    /// Writes the component with one more custom section, so that it is another component that does the same. Returns the time of
    /// writing.
    fn write(&self, number: u32) -> anyhow::Result<Instant> {
        let mut component = self.component.clone();
        component.extend([0, 6, 1, b'n']);
        component.extend(number.to_le_bytes());
        let part = self.folder.join("part");
        fs::write(&part, component)?;
        fs::rename(part, self.folder.join(format!("{RULE}.wasm")))?;
        Ok(Instant::now())
    }
}

/// Processes batches for one period, and takes over the sets that come meanwhile.
fn spell(
    process: &mut RuleInstances,
    batches: &[Batch],
    control: &LoopEnd,
    swaps: Option<(&ComponentWriter, &mut u32)>,
) -> anyhow::Result<Spell> {
    let (taken, seen) = mpsc::channel();
    thread::scope(|scope| {
        let operator = scope.spawn(move || swaps.map_or(Ok(Vec::new()), |(writer, number)| operate(writer, number, &seen)));
        let spell = judge_for_a_spell(process, batches, control, &taken, &|| operator.is_finished());
        let live = operator.join().map_err(|_| anyhow::anyhow!("the operator has panicked"))??;
        Ok(Spell { live, ..spell })
    })
}

fn judge_for_a_spell(
    process: &mut RuleInstances,
    batches: &[Batch],
    control: &LoopEnd,
    taken: &Sender<Instant>,
    over: &dyn Fn() -> bool,
) -> Spell {
    let counts = Counts::new(60_000, false);
    let (mut spell, mut step, begun) = (Spell::default(), Step::default(), Instant::now());
    for batch in batches.iter().cycle() {
        if begun.elapsed() >= SPELL && over() {
            break;
        }
        let turn = Instant::now();
        let swapped = take(process, control, taken);
        process.process(&counts, batch, &mut step);
        let time = turn.elapsed();
        spell.records += batch.len() as u64;
        if swapped { spell.taking.push(time) } else { spell.turns.push(time) }
    }
    spell.time = begun.elapsed();
    spell
}

/// Takes over a set if one has come, as the data loop does between two transactions. Returns whether one has come.
fn take(process: &mut RuleInstances, control: &LoopEnd, seen: &Sender<Instant>) -> bool {
    let Ok(Command::Activate(next)) = control.commands.try_recv() else { return false };
    let hash = next.rules.hash().to_owned();
    let retired = vec![std::mem::replace(process, next.rules)];
    control.tell(Event::Activated(Activated { hash, from: Default::default(), retired, trial: None, replaced: None }));
    let _ = seen.send(Instant::now());
    true
}

/// Writes a file at the pace, and waits until each file is live. Returns the times that this took.
fn operate(writer: &ComponentWriter, number: &mut u32, seen: &Receiver<Instant>) -> anyhow::Result<Vec<Duration>> {
    let (begun, mut live) = (Instant::now(), Vec::new());
    while begun.elapsed() + PACE <= SPELL + LOOK {
        *number += 1;
        let written = writer.write(*number)?;
        let taken = seen.recv_timeout(PATIENCE).context("a written file did not go live")?;
        live.push(taken - written);
        thread::sleep(PACE.saturating_sub(written.elapsed()));
    }
    Ok(live)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
