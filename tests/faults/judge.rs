//! The verdict: everything is computed anew from the input, in the plainest way, and held against what came out.
//!
//! Each input message is exactly once an output or a dead letter, with the right bytes; in order; under one set of rules. What
//! was counted in windows, and what the committed offsets say is still open, add up to what passed. It shares no code with
//! `weir verify` or the engine, so that each checks the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kafka::Record;
use crate::oracle::{self, Passed, Rejected};

/// How many violations are shown.
const SHOWN: usize = 20;

type Counts = BTreeMap<String, u64>;

/// All that is known once nothing happens any more.
#[derive(Default)]
pub struct Evidence {
    pub topic: String,
    pub input: Vec<Record>,
    pub outputs: Vec<Record>,
    pub letters: Vec<Record>,
    pub windows: Vec<Record>,
    /// The committed offset of each input partition, with its metadata.
    pub committed: BTreeMap<i32, (i64, String)>,
}

/// How to judge.
#[derive(Clone, Copy)]
pub struct Judge {
    /// What has to become of a message.
    pub expected: fn(&Record) -> Result<Passed, Rejected>,
    /// Whether outputs have the bytes that the oracle computes. Otherwise the test looks at them itself.
    pub bytes: bool,
    /// Whether each device type has a counter of its own, or some may be counted under `__other__`.
    pub names: bool,
}

impl Default for Judge {
    fn default() -> Judge {
        Judge { expected: |record| oracle::judge(record.value.as_deref()), bytes: true, names: true }
    }
}

impl Judge {
    /// What is wrong; nothing if all is well.
    pub fn violations(&self, evidence: &Evidence) -> Vec<String> {
        let mut found = Vec::new();
        self.once(evidence, &mut found);
        in_order(&evidence.outputs, "outputs", &mut found);
        in_order(&evidence.letters, "dead letters", &mut found);
        one_ruleset(evidence, &mut found);
        self.counts(evidence, &mut found);
        if found.len() > SHOWN {
            let more = found.len() - SHOWN;
            found.truncate(SHOWN);
            found.push(format!("and {more} more"));
        }
        found
    }

    /// Each input message is one output or one dead letter, the right one.
    fn once(&self, evidence: &Evidence, found: &mut Vec<String>) {
        let mut left: BTreeMap<_, _> = evidence.input.iter().map(|record| (record.place(), record)).collect();
        let written = evidence.outputs.iter().map(|output| (output, true));
        for (record, is_output) in written.chain(evidence.letters.iter().map(|letter| (letter, false))) {
            let what = if is_output { "output" } else { "dead letter" };
            let place = record.source();
            let named = record.header("weir-source").is_some_and(|source| source.starts_with(&format!("{}/", evidence.topic)));
            let Some(origin) = left.remove(&place).filter(|_| named) else {
                let why = match evidence.input.iter().any(|record| record.place() == place) {
                    true => "that has become another message already",
                    false => "that is not in the input",
                };
                found.push(format!("{what} {:?} is of {place:?}, {why}", record.place()));
                continue;
            };
            let wrong = match ((self.expected)(origin), is_output) {
                (Ok(passed), true) => self.output(record, origin, &passed),
                (Err(rejected), false) => letter(record, origin, rejected),
                (expected, _) => {
                    let said = ["weir-reason", "weir-detail"].map(|name| record.header(name));
                    Some(format!("expected was {expected:?}; it says {said:?}"))
                }
            };
            found.extend(wrong.map(|wrong| format!("{what} {:?} of {place:?}: {wrong}", record.place())));
        }
        found.extend(left.keys().map(|place| format!("input {place:?} has become nothing")));
    }

    fn output(&self, output: &Record, origin: &Record, passed: &Passed) -> Option<String> {
        if (&output.key, output.timestamp) != (&origin.key, origin.timestamp) {
            return Some("key or timestamp have changed".to_owned());
        }
        let at = self.bytes.then(|| output.json()["processed_time"].as_i64().unwrap_or_default())?;
        let expected = oracle::output(origin.value.as_deref().unwrap_or_default(), passed, at);
        (output.value.as_ref() != Some(&expected)).then(|| "the bytes are not those expected".to_owned())
    }

    /// What was counted is what passed: by device type in the windows, and by partition in the committed totals.
    fn counts(&self, evidence: &Evidence, found: &mut Vec<String>) {
        let mut counted = Counts::new();
        for window in &evidence.windows {
            add(&mut counted, &window.json()["window"]["counts"], |count| count.as_u64());
        }
        for (partition, (offset, metadata)) in evidence.committed.iter().filter(|(_, (_, metadata))| !metadata.is_empty()) {
            let state: Value = serde_json::from_str(metadata).unwrap_or_default();
            add(&mut counted, &state["counts"], |pair| pair[1].as_u64());
            let mut totals = Counts::new();
            add(&mut totals, &state["counts"], |pair| pair[0].as_u64());
            let Some(from) = state["from"].as_i64() else {
                found.push(format!("the metadata of partition {partition} is no state: {metadata}"));
                continue;
            };
            let covered = |record: &&Record| record.partition == *partition && (from..*offset).contains(&record.offset);
            let passed = self.passed(evidence.input.iter().filter(covered));
            found.extend(self.differ(&totals, &passed).map(|wrong| format!("totals of partition {partition}: {wrong}")));
        }
        let passed = self.passed(evidence.input.iter());
        found.extend(self.differ(&counted, &passed).map(|wrong| format!("windows and open windows: {wrong}")));
    }

    /// How many of `input` passed, by device type.
    fn passed<'a>(&self, input: impl Iterator<Item = &'a Record>) -> Counts {
        let mut counts = Counts::new();
        for passed in input.filter_map(|record| (self.expected)(record).ok()) {
            *counts.entry(passed.device_type).or_default() += 1;
        }
        counts
    }

    fn differ(&self, counted: &Counts, passed: &Counts) -> Option<String> {
        if self.names {
            return (counted != passed).then(|| format!("{counted:?} were counted, and {passed:?} passed"));
        }
        let sum = |counts: &Counts| counts.values().sum::<u64>();
        let (all, expected) = (sum(counted), sum(passed));
        let too_many = counted.iter().find(|(name, count)| *name != "__other__" && passed.get(*name) < Some(count));
        let wrong = all != expected || too_many.is_some();
        wrong.then(|| format!("{all} were counted, and {expected} passed; too many: {too_many:?}"))
    }
}

fn letter(letter: &Record, origin: &Record, (rule, reason): Rejected) -> Option<String> {
    let said = (letter.header("weir-rule"), letter.header("weir-reason"));
    if said != (Some(rule), Some(reason)) {
        return Some(format!("it says {said:?} instead of {:?}", (rule, reason)));
    }
    let (mine, whole) = ((&letter.key, &letter.value), (&origin.key, &origin.value));
    if letter.header("weir-shortened").is_some() {
        let is_start = |short: &Option<Vec<u8>>, whole: &Option<Vec<u8>>| match (short, whole) {
            (Some(short), Some(whole)) => whole.starts_with(short),
            (short, whole) => short == whole,
        };
        let starts = is_start(mine.0, whole.0) && is_start(mine.1, whole.1);
        return (!starts).then(|| "what is left of it is not its beginning".to_owned());
    }
    (mine != whole).then(|| "key or value have changed".to_owned())
}

/// Messages of one input partition stand in the partition where they went in the order in which they came.
fn in_order(records: &[Record], what: &str, found: &mut Vec<String>) {
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| record.place());
    let mut last = BTreeMap::new();
    for record in sorted {
        let (partition, offset) = record.source();
        if let Some(last) = last.insert((record.partition, partition), offset).filter(|last| *last >= offset) {
            found.push(format!("{what}: {offset} of input partition {partition} stands after {last} at {:?}", record.place()));
        }
    }
}

fn one_ruleset(evidence: &Evidence, found: &mut Vec<String>) {
    let all = evidence.outputs.iter().chain(&evidence.letters);
    let rulesets: BTreeSet<Option<&str>> = all.map(|record| record.header("weir-ruleset")).collect();
    if rulesets.len() > 1 || rulesets.contains(&None) {
        found.push(format!("there is not one set of rules: {rulesets:?}"));
    }
}

fn add(counts: &mut Counts, object: &Value, count: impl Fn(&Value) -> Option<u64>) {
    for (name, value) in object.as_object().into_iter().flatten() {
        *counts.entry(name.clone()).or_default() += count(value).unwrap_or_default();
    }
    // Nothing counted is as good as a count of nothing.
    counts.retain(|_, count| *count > 0);
}
