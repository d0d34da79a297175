//! An operator who changes rules all the time, with good and bad sets, and the checks of messages and log for these changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use fastrand::Rng;

use crate::folder::{Folder, RULES, marked, shipped, variant};
use crate::guest::{Guest, TRAP_IN_EARNEST};
use crate::kafka::Record;
use crate::oracle::Rejected;
use crate::program::{Weir, field, within};

/// One in this number of sets is bad, and is rolled back.
const BAD_EVERY: usize = 10;
/// One in this number of swaps is preceded by a broken set, which is refused.
const BROKEN_EVERY: usize = 5;
/// The time until a set is live, refused or rolled back.
const PATIENCE: Duration = Duration::from_secs(120);
/// The number of versions of each rule that differ in their bytes alone. They are compiled once, and are in the cache then.
const VARIANTS: u8 = 10;
/// The settings of a trial that is short, and that rolls back no good set by chance: a fifth of the logins is bad.
const TRIAL: &str = "[trial]\nrecords = 300\nrejections = 0.5\n";
/// The expected rejections by bad sets.
const BLAME: [Rejected; 2] = [("device-filter", "rule_fault"), ("validation", "old_app_version")];

/// An operator who changes the rules of a folder.
pub struct Operator {
    pub folder: Folder,
    pub random: Rng,
    /// The hashes of the sets that are bad on purpose.
    pub bad: BTreeSet<String>,
    /// The hashes of the good sets. Each set is made once, so that a log line with its hash belongs to one swap.
    good: BTreeSet<String>,
}

impl Operator {
    pub fn new(seed: u64) -> Operator {
        let folder = Folder::new();
        folder.configure(TRIAL);
        let good = BTreeSet::from([folder.hash()]);
        Operator { folder, random: Rng::with_seed(seed), bad: BTreeSet::new(), good }
    }

    /// Puts sound rules into the folder that differ from `live` and from all earlier sets. Returns their hash.
    pub fn improve(&mut self, live: &str) -> String {
        let number = self.random.u8(..VARIANTS);
        for rule in RULES {
            let number = if self.random.bool() { number } else { self.random.u8(..VARIANTS) };
            self.folder.put(rule, &variant(rule, number));
        }
        self.folder.configure(&format!("{TRIAL}[rule.validation]\ndeadline = \"{}ms\"\n", self.random.u32(1_000..2_000)));
        let hash = self.folder.hash();
        if hash == live || !self.good.insert(hash.clone()) { self.improve(live) } else { hash }
    }

    /// Puts a rule or a configuration into the folder that can't be used.
    fn break_something(&mut self) {
        match self.random.u8(..5) {
            0 => self.folder.configure("[rules]\npipeline = 7"),
            _ => self.break_a_rule(),
        }
    }

    pub fn break_a_rule(&mut self) {
        let rule = RULES[self.random.usize(..RULES.len())];
        let whole = shipped(rule);
        match self.random.u8(..4) {
            0 => self.folder.put(rule, b""),
            1 => self.folder.put(rule, b"\0asm\x01\0\0\0"),
            2 => self.folder.put(rule, &whole[..self.random.usize(1..whole.len())]),
            _ => fs::remove_file(self.folder.file(rule)).unwrap(),
        }
    }

    /// Puts rules into the folder that pass the proof but fail their trial. Returns their hash.
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

    /// Swaps the rules of `engine`, which runs the rules of the folder, `swaps` times, with broken and bad ones among them.
    /// Returns the number of refused sets.
    pub fn swap(&mut self, engine: &mut Weir, swaps: usize) -> usize {
        let (before, mut bad) = (said(engine, "are refused").len(), said(engine, "rules are taken back").len());
        let (mut live, mut refused) = (self.folder.hash(), before);
        for swap in 0..swaps {
            if swap % BROKEN_EVERY == 1 {
                self.break_something();
                says(engine, "are refused", refused);
                refused += 1;
            }
            if swap % BAD_EVERY == 4 {
                live = self.spoil();
                is_live(engine, &live);
                let line = says(engine, "rules are taken back", bad);
                assert_eq!(field(&line, "failed"), live);
                live = field(&line, "back");
                bad += 1;
            } else {
                live = self.improve(&live);
                is_live(engine, &live);
            }
        }
        refused - before
    }
}

/// Returns the log lines of an engine that contain `words`.
pub fn said(engine: &Weir, words: &str) -> Vec<String> {
    engine.lines().into_iter().filter(|line| line.contains(words)).collect()
}

/// Waits for a line that contains `words`, after the first `known` ones.
pub fn says(engine: &mut Weir, words: &str, known: usize) -> String {
    within(PATIENCE, format_args!("`{words}` is said for the {}. time", known + 1), || {
        assert!(engine.is_running(), "{:#?}", engine.lines());
        said(engine, words).into_iter().nth(known)
    })
}

/// Waits until an engine logs that the set `hash` is live.
pub fn is_live(engine: &mut Weir, hash: &str) {
    within(PATIENCE, format_args!("{hash} is live"), || {
        assert!(engine.is_running(), "{:#?}", engine.lines());
        said(engine, "rules are live").iter().any(|line| field(line, "ruleset") == hash).then_some(())
    });
}

/// Returns the offsets from which on a set is in force, by partition, from a log line: `from={0: 12, 1: 7}`.
fn offsets(line: &str) -> BTreeMap<i32, i64> {
    let (_, rest) = line.split_once("from={").unwrap_or_else(|| panic!("{line}"));
    let (list, _) = rest.split_once('}').unwrap();
    let pairs = list.split(", ").filter_map(|pair| pair.split_once(": "));
    pairs.map(|(partition, offset)| (partition.parse().unwrap(), offset.parse().unwrap())).collect()
}

/// Returns the expected rejections by `bad` sets, by the position of the input message.
pub fn blamed(letters: &[Record], bad: &BTreeSet<String>) -> BTreeMap<(i32, i64), Rejected> {
    let by_bad = letters.iter().filter(|letter| letter.header("weir-ruleset").is_some_and(|hash| bad.contains(hash)));
    let blame = |letter: &Record| {
        let said = (letter.header("weir-rule")?, letter.header("weir-reason")?);
        Some((letter.source(), *BLAME.iter().find(|blame| **blame == said)?))
    };
    by_bad.filter_map(blame).collect()
}

/// Returns the hashes of the messages by partition and offset in the input.
fn hashes<'a>(written: impl Iterator<Item = &'a Record>) -> BTreeMap<i32, BTreeMap<i64, &'a str>> {
    let mut hashes: BTreeMap<i32, BTreeMap<i64, &str>> = BTreeMap::new();
    for record in written {
        let (partition, offset) = record.source();
        hashes.entry(partition).or_default().insert(offset, record.header("weir-ruleset").unwrap_or_default());
    }
    hashes
}

pub fn seen<'a>(written: impl Iterator<Item = &'a Record>) -> BTreeSet<String> {
    hashes(written).into_values().flat_map(BTreeMap::into_values).map(str::to_owned).collect()
}

/// Asserts that messages have the hashes of the sets that were in force according to `lines`, the log of engines that began with
/// the set `first`.
pub fn assert_as_said<'a>(first: &str, lines: &[String], written: impl Iterator<Item = &'a Record>) {
    let live: Vec<(String, BTreeMap<i32, i64>)> =
        lines.iter().filter(|line| line.contains("rules are live")).map(|line| (field(line, "ruleset"), offsets(line))).collect();
    let taken_back = lines.iter().filter(|line| line.contains("rules are taken back"));
    let back: BTreeMap<String, String> = taken_back.map(|line| (field(line, "failed"), field(line, "back"))).collect();
    for (partition, hashes) in hashes(written) {
        let from = |(hash, from): &(String, BTreeMap<i32, i64>)| Some((*from.get(&partition)?, hash.clone()));
        // If no message came between two swaps, the later one counts.
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
