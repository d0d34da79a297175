//! Rules that are replaced while messages flow and transactions are open: hundreds of times, broken ones and bad ones among
//! them, where processes are killed meanwhile, and where two processes do so at different times.
//!
//! What the engine says of its swaps has to be what can be seen in the messages: each from the offset on that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::cluster::shared;
use crate::folder::{Folder, RULES, marked, shipped, variant};
use crate::guest::{Guest, TRAP_IN_EARNEST};
use crate::judge::{Evidence, Judge};
use crate::kafka::Record;
use crate::oracle::Rejected;
use crate::program::{field, within};
use crate::weir::{Engine, Job, SETTLING};

/// How many sets go live in one test.
const SWAPS: usize = 200;
/// One in so many of these is bad, and taken back.
const BAD_EVERY: usize = 10;
/// Before one in so many of these something broken is refused.
const BROKEN_EVERY: usize = 5;
/// How often an engine is killed.
const KILLS: usize = 20;
/// How often each of two engines swaps.
const ROUNDS: usize = 10;
/// Logins a second.
const RATE: u32 = 500;
/// Versions of each rule that differ in their bytes alone. They are compiled once, and then in the cache.
const VARIANTS: u8 = 10;
/// A trial that is over soon, and by chance takes back nothing: a fifth of the logins is bad.
const TRIAL: &str = "[trial]\nrecords = 300\nrejections = 0.5\n";
/// What rules reject that are meant to be bad.
const BLAME: [Rejected; 2] = [("guest", "rule_fault"), ("validation", "old_app_version")];

/// Somebody who changes the rules of a folder.
struct Operator {
    folder: Folder,
    random: Rng,
    /// The hashes of what was meant to be bad.
    bad: BTreeSet<String>,
}

impl Operator {
    fn new(seed: u64) -> Operator {
        let folder = Folder::new();
        folder.configure(TRIAL);
        Operator { folder, random: Rng::with_seed(seed), bad: BTreeSet::new() }
    }

    /// Puts sound rules into the folder that are others than `live`. Returns their hash.
    fn improve(&mut self, live: &str) -> String {
        let number = self.random.u8(..VARIANTS);
        for rule in RULES {
            let number = if self.random.bool() { number } else { self.random.u8(..VARIANTS) };
            self.folder.put(rule, &variant(rule, number));
        }
        self.folder.configure(&format!("{TRIAL}[rule.validation]\ndeadline = \"{}ms\"\n", self.random.u32(1_000..2_000)));
        let hash = self.folder.hash();
        if hash == live { self.improve(live) } else { hash }
    }

    /// Puts something into the folder that can't be used.
    fn break_something(&mut self) {
        match self.random.u8(..5) {
            0 => self.folder.configure("[rules]\npipeline = 7"),
            _ => self.break_a_rule(),
        }
    }

    fn break_a_rule(&mut self) {
        let rule = RULES[self.random.usize(..RULES.len())];
        let whole = shipped(rule);
        match self.random.u8(..4) {
            0 => self.folder.put(rule, b""),
            1 => self.folder.put(rule, b"\0asm\x01\0\0\0"),
            2 => self.folder.put(rule, &whole[..self.random.usize(1..whole.len())]),
            _ => fs::remove_file(self.folder.file(rule)).unwrap(),
        }
    }

    /// Puts rules into the folder that prove, and do harm. Returns their hash.
    fn spoil(&mut self) -> String {
        let number = self.bad.len() as u8;
        if self.random.bool() {
            let guest = Guest::new(TRAP_IN_EARNEST);
            self.folder.put("device-filter", &marked(guest.component(), number));
        } else {
            self.folder.configure(&format!("{TRIAL}[rule.validation.config]\nmin_app_version = \"99.0.{number}\"\n"));
        }
        let hash = self.folder.hash();
        self.bad.insert(hash.clone());
        hash
    }
}

/// The lines of an engine that contain `words`.
fn said(engine: &mut Engine, words: &str) -> Vec<String> {
    engine.weir().lines().into_iter().filter(|line| line.contains(words)).collect()
}

/// Waits for a line beyond the first `known` ones that contains `words`.
fn says(engine: &mut Engine, words: &str, known: usize) -> String {
    within(SETTLING, format_args!("`{words}` is said for the {}. time", known + 1), || {
        assert!(engine.weir().is_running(), "{:#?}", engine.weir().lines());
        said(engine, words).into_iter().nth(known)
    })
}

/// Waits until an engine says that the set `hash` is live.
fn is_live(engine: &mut Engine, hash: &str) {
    within(SETTLING, format_args!("{hash} is live"), || {
        assert!(engine.weir().is_running(), "{:#?}", engine.weir().lines());
        said(engine, "rules are live").iter().any(|line| field(line, "ruleset") == hash).then_some(())
    });
}

/// The offsets from which on a set judges, by partition, as a line says them: `from={0: 12, 1: 7}`.
fn offsets(line: &str) -> BTreeMap<i32, i64> {
    let (_, rest) = line.split_once("from={").unwrap_or_else(|| panic!("{line}"));
    let (list, _) = rest.split_once('}').unwrap();
    let pairs = list.split(", ").filter_map(|pair| pair.split_once(": "));
    pairs.map(|(partition, offset)| (partition.parse().unwrap(), offset.parse().unwrap())).collect()
}

/// What `bad` sets have rejected.
fn blamed(evidence: &Evidence, bad: &BTreeSet<String>) -> BTreeMap<(i32, i64), Rejected> {
    let by_bad = evidence.letters.iter().filter(|letter| letter.header("weir-ruleset").is_some_and(|hash| bad.contains(hash)));
    let blame = |letter: &Record| {
        let said = (letter.header("weir-rule")?, letter.header("weir-reason")?);
        Some((letter.source(), *BLAME.iter().find(|blame| **blame == said)?))
    };
    by_bad.filter_map(blame).collect()
}

/// The hashes of each partition's messages, by their offsets in the input.
fn hashes(evidence: &Evidence) -> BTreeMap<i32, BTreeMap<i64, &str>> {
    let mut hashes: BTreeMap<i32, BTreeMap<i64, &str>> = BTreeMap::new();
    for record in evidence.outputs.iter().chain(&evidence.letters) {
        let (partition, offset) = record.source();
        hashes.entry(partition).or_default().insert(offset, record.header("weir-ruleset").unwrap_or_default());
    }
    hashes
}

fn seen(evidence: &Evidence) -> BTreeSet<String> {
    hashes(evidence).into_values().flat_map(BTreeMap::into_values).map(str::to_owned).collect()
}

/// That messages bear the hashes that `lines`, the log of engines that began with `first`, say they should.
fn assert_as_said(first: &str, lines: &[String], evidence: &Evidence) {
    let live: Vec<(String, BTreeMap<i32, i64>)> =
        lines.iter().filter(|line| line.contains("rules are live")).map(|line| (field(line, "ruleset"), offsets(line))).collect();
    let taken_back = lines.iter().filter(|line| line.contains("rules are taken back"));
    let back: BTreeMap<String, String> = taken_back.map(|line| (field(line, "failed"), field(line, "back"))).collect();
    for (partition, hashes) in hashes(evidence) {
        let from = |(hash, from): &(String, BTreeMap<i32, i64>)| Some((*from.get(&partition)?, hash.clone()));
        // Where no message came between two swaps, the later one counts.
        let mut swaps: BTreeMap<i64, String> = BTreeMap::from([(0, first.to_owned())]);
        swaps.extend(live.iter().filter_map(from));
        let mut gone_back = BTreeSet::new();
        for (offset, hash) in hashes {
            let (begin, named) = swaps.range(..=offset).next_back().unwrap();
            let returned = back.get(named).is_some_and(|back| back == hash);
            if returned {
                gone_back.insert(*begin);
            }
            let expected = if gone_back.contains(begin) { &back[named] } else { named };
            assert_eq!(hash, expected, "of {partition}/{offset}, after the swap at {begin}");
        }
    }
}

#[test]
fn two_hundred_swaps_under_load_lose_and_repeat_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let job = Job::create(shared(), "swaps");
    let mut operator = Operator::new(seed);
    let first = operator.folder.hash();
    let load = job.load(seed, RATE, usize::MAX);
    let mut engine = job.engine_in(&operator.folder, "a").assigned();
    // What the first rules do is what later ones are held against.
    within(SETTLING, "some messages are judged", || (job.outputs.count() > RATE as usize).then_some(()));
    let (mut live, mut refused, mut bad) = (first.clone(), 0, 0);
    for swap in 0..SWAPS {
        if swap % BROKEN_EVERY == 1 {
            operator.break_something();
            says(&mut engine, "are refused", refused);
            refused += 1;
        }
        if swap % BAD_EVERY == 4 {
            live = operator.spoil();
            is_live(&mut engine, &live);
            let line = says(&mut engine, "rules are taken back", bad);
            assert_eq!(field(&line, "failed"), live);
            live = field(&line, "back");
            bad += 1;
        } else {
            live = operator.improve(&live);
            is_live(&mut engine, &live);
        }
    }
    job.goes_on(SETTLING);
    let sent = load.stop();
    job.settle();
    let lines = engine.weir().lines();
    engine.stop();
    assert!(lines.iter().filter(|line| line.contains("rules are live")).count() >= SWAPS);
    let mut evidence = job.evidence();
    assert_as_said(&first, &lines, &evidence);
    let seen = seen(&evidence);
    assert!(operator.bad.is_subset(&seen) && seen.len() > SWAPS / 2, "{} sets were seen", seen.len());
    evidence.blamed = blamed(&evidence, &operator.bad);
    job.judge_on(Judge { swaps: true, ..Judge::default() }, &evidence);
    println!("{SWAPS} swaps, {refused} refused, {bad} taken back, {} hashes in {sent} messages", seen.len());
}

#[test]
fn killed_at_any_moment_of_a_swap_it_goes_on_with_a_sound_set() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let job = Job::create(shared(), "swap-killed")
        .with("kafka.properties.session.timeout.ms", "1500")
        .with("kafka.properties.transaction.timeout.ms", "60000");
    let mut operator = Operator::new(seed);
    let load = job.load(seed, RATE, usize::MAX);
    let (mut live, mut sound) = (operator.folder.hash(), true);
    for round in 0..KILLS {
        let mut engine = job.engine_in(&operator.folder, "a");
        let began = field(&says(&mut engine, "rules: ", 0), "ruleset");
        let expected = if sound { operator.folder.hash() } else { live };
        assert_eq!(began, expected, "round {round}: the folder's rules, or where they are broken the last good ones");
        live = began;
        job.goes_on(SETTLING);
        sound = round % 4 != 3;
        if sound {
            operator.improve(&live);
        } else {
            operator.break_a_rule();
        }
        thread::sleep(Duration::from_millis(operator.random.u64(..900)));
        engine.kill();
    }
    operator.improve(&live);
    let engine = job.engine_in(&operator.folder, "a").assigned();
    job.goes_on(SETTLING);
    load.stop();
    job.settle();
    engine.stop();
    job.judge_by(Judge { swaps: true, ..Judge::default() });
}

#[test]
fn two_engines_swap_at_different_times() {
    let job = Job::create(shared(), "swap-pair");
    let mut operators = [Operator::new(1), Operator::new(2)];
    let first = operators[0].folder.hash();
    let mut engines = [job.engine_in(&operators[0].folder, "a").assigned(), job.engine_in(&operators[1].folder, "b").assigned()];
    let load = job.load(9, RATE, usize::MAX);
    job.takes_all(SETTLING);
    let mut lives = [first.clone(), first.clone()];
    for round in 0..2 * ROUNDS {
        let mut improve = |index: usize| lives[index] = operators[index].improve(&lives[index]);
        // One, the other, both.
        let changed: &[usize] = [&[0][..], &[1], &[0, 1]][round % 3];
        changed.iter().for_each(|index| improve(*index));
        changed.iter().for_each(|index| is_live(&mut engines[*index], &lives[*index]));
        job.takes_all(SETTLING);
    }
    load.stop();
    job.settle();
    let lines: Vec<String> = engines.iter_mut().flat_map(|engine| engine.weir().lines()).collect();
    engines.into_iter().for_each(|engine| engine.stop());
    let evidence = job.evidence();
    assert_as_said(&first, &lines, &evidence);
    job.judge_on(Judge { swaps: true, ..Judge::default() }, &evidence);
}
