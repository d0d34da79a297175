//! The judge: computes everything anew from the input, in the plainest way, and compares the result with the outputs.
//!
//! Each input message has exactly one output or dead letter, with the right bytes and with the original headers, in order, and
//! under one set of rules. With at-least-once delivery some outputs may occur more than once; then the last ones are in order.
//! The counts of the windows, and the counts of open windows in the committed offsets, add up to the number of messages that
//! passed. No partition is in two messages of one window, and no offset is committed without its state. The judge shares no code
//! with `weir verify` or the engine, so that each checks the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kafka::Record;
use crate::oracle::{self, Passed, Rejected};
use crate::poisons;
use crate::weir::Committed;

/// The largest number of violations that is shown.
const SHOWN: usize = 20;

type Counts = BTreeMap<String, u64>;

/// All topics and offsets of a job, after all engines have ended.
#[derive(Default)]
pub struct Evidence {
    pub topic: String,
    pub input: Vec<Record>,
    pub outputs: Vec<Record>,
    pub letters: Vec<Record>,
    pub windows: Vec<Record>,
    /// The committed offset of each input partition, with its metadata.
    pub committed: Committed,
    /// The expected rejections by rules that were made bad on purpose, by the position of the input message.
    pub blamed: BTreeMap<(i32, i64), Rejected>,
}

/// The settings of the judge.
#[derive(Clone, Copy)]
pub struct Auditor {
    /// The expected fate of a message. If it has no time in UTC, the bytes of the output are not checked.
    pub expected: fn(&Record) -> Result<Passed, Rejected>,
    /// Whether each device type has a counter of its own. If not, some may be counted under `__other__`.
    pub names: bool,
    /// Whether rules were swapped. If so, the hash of the set may change between two transactions.
    pub swaps: bool,
    /// Whether outputs and dead letters may occur more than once. All of them are compared with the input, but only the last ones
    /// of each input message must be in order.
    pub repeats: bool,
}

impl Default for Auditor {
    fn default() -> Auditor {
        Auditor { expected: |record| oracle::expected(record.value.as_deref()), names: true, swaps: false, repeats: false }
    }
}

/// The expected fate of poison, which is recognised by its key, and of all other messages. All poison that passes has one device
/// type.
pub fn poisoned(record: &Record) -> Result<Passed, Rejected> {
    match poisons::named(record.key.as_deref().unwrap_or_default()) {
        Some(None) => Ok(Passed { device_type: "iOS".to_owned(), utc: String::new() }),
        Some(Some(rejected)) => Err(rejected),
        None => oracle::expected(record.value.as_deref()),
    }
}

impl Auditor {
    /// Returns all violations; none if all is well.
    pub fn violations(&self, evidence: &Evidence) -> Vec<String> {
        let mut found = Vec::new();
        self.once(evidence, &mut found);
        in_order(self.last_ones(&evidence.outputs), "outputs", &mut found);
        in_order(self.last_ones(&evidence.letters), "dead letters", &mut found);
        match self.swaps {
            false => one_ruleset(evidence, &mut found),
            true => [&evidence.outputs, &evidence.letters].into_iter().for_each(|records| one_each_time(records, &mut found)),
        }
        self.counts(evidence, &mut found);
        disjoint(&evidence.windows, &mut found);
        totals(evidence, &mut found);
        if found.len() > SHOWN {
            let more = found.len() - SHOWN;
            found.truncate(SHOWN);
            found.push(format!("and {more} more"));
        }
        found
    }

    /// Checks that each input message has one output or one dead letter, with the expected content.
    fn once(&self, evidence: &Evidence, found: &mut Vec<String>) {
        let input: BTreeMap<_, _> = evidence.input.iter().map(|record| (record.place(), record)).collect();
        let mut left = input.clone();
        let written = evidence.outputs.iter().map(|output| (output, true));
        for (record, is_output) in written.chain(evidence.letters.iter().map(|letter| (letter, false))) {
            let what = if is_output { "output" } else { "dead letter" };
            let place = record.source();
            let named = record.header("weir-source").is_some_and(|source| source.starts_with(&format!("{}/", evidence.topic)));
            let first = left.remove(&place);
            let Some(origin) = first.or_else(|| input.get(&place).filter(|_| self.repeats).copied()).filter(|_| named) else {
                let why = match input.contains_key(&place) {
                    true => "that has become another message already",
                    false => "that is not in the input",
                };
                found.push(format!("{what} {:?} is of {place:?}, {why}", record.place()));
                continue;
            };
            let wrong = match (self.expected(evidence, origin), is_output) {
                (Ok(passed), true) => output(record, origin, &passed),
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

    /// Returns `records` by their positions. If they may occur more than once, only the last record of each input message.
    fn last_ones<'a>(&self, records: &'a [Record]) -> Vec<&'a Record> {
        let mut sorted: Vec<&Record> = records.iter().collect();
        sorted.sort_by_key(|record| record.place());
        if self.repeats {
            let last: BTreeMap<_, _> = sorted.iter().map(|record| (record.source(), record.place())).collect();
            sorted.retain(|record| last[&record.source()] == record.place());
        }
        sorted
    }

    fn expected(&self, evidence: &Evidence, record: &Record) -> Result<Passed, Rejected> {
        evidence.blamed.get(&record.place()).map_or_else(|| (self.expected)(record), |rejected| Err(*rejected))
    }

    /// Checks that the counts of the windows, by device type, and the committed totals, by partition, match the messages that
    /// passed.
    fn counts(&self, evidence: &Evidence, found: &mut Vec<String>) {
        let mut counted = Counts::new();
        for window in &evidence.windows {
            add(&mut counted, &window.json()["window"]["counts"], |count| count.as_u64());
        }
        for (partition, (offset, metadata)) in &evidence.committed {
            if metadata.is_empty() {
                // An offset of 0 needs no state.
                found.extend((*offset > 0).then(|| format!("offset {offset} of partition {partition} has no state beside it")));
                continue;
            }
            let state: Value = serde_json::from_str(metadata).unwrap_or_default();
            add(&mut counted, &state["counts"], |pair| pair[1].as_u64());
            let mut totals = Counts::new();
            add(&mut totals, &state["counts"], |pair| pair[0].as_u64());
            let Some(from) = state["from"].as_i64() else {
                found.push(format!("the metadata of partition {partition} is no state: {metadata}"));
                continue;
            };
            let covered = |record: &&Record| record.partition == *partition && (from..*offset).contains(&record.offset);
            let passed = self.passed(evidence, evidence.input.iter().filter(covered));
            found.extend(self.differ(&totals, &passed).map(|wrong| format!("totals of partition {partition}: {wrong}")));
        }
        let passed = self.passed(evidence, evidence.input.iter());
        found.extend(self.differ(&counted, &passed).map(|wrong| format!("windows and open windows: {wrong}")));
    }

    /// Returns the number of messages of `input` that pass, by device type.
    fn passed<'a>(&self, evidence: &Evidence, input: impl Iterator<Item = &'a Record>) -> Counts {
        let mut counts = Counts::new();
        for passed in input.filter_map(|record| self.expected(evidence, record).ok()) {
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

fn output(output: &Record, origin: &Record, passed: &Passed) -> Option<String> {
    if (&output.key, output.timestamp) != (&origin.key, origin.timestamp) {
        return Some("key or timestamp have changed".to_owned());
    }
    if !output.headers.starts_with(&origin.headers) {
        return Some("its own headers have changed".to_owned());
    }
    if passed.utc.is_empty() {
        return None;
    }
    let at = output.json()["processed_time"].as_i64().unwrap_or_default();
    let expected = oracle::output(origin.value.as_deref().unwrap_or_default(), passed, at);
    (output.value.as_ref() != Some(&expected)).then(|| "the bytes are not those expected".to_owned())
}

fn letter(letter: &Record, origin: &Record, (rule, reason): Rejected) -> Option<String> {
    let said = (letter.header("weir-rule"), letter.header("weir-reason"));
    if said != (Some(rule), Some(reason)) {
        return Some(format!("it says {said:?} instead of {:?}", (rule, reason)));
    }
    if !letter.headers.starts_with(&origin.headers) {
        return Some("its own headers have changed".to_owned());
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

/// Checks that messages of one input partition are in their original order in each partition of `sorted`.
fn in_order(sorted: Vec<&Record>, what: &str, found: &mut Vec<String>) {
    let mut last = BTreeMap::new();
    for record in sorted {
        let (partition, offset) = record.source();
        if let Some(last) = last.insert((record.partition, partition), offset).filter(|last| *last >= offset) {
            found.push(format!("{what}: {offset} of input partition {partition} stands after {last} at {:?}", record.place()));
        }
    }
}

/// Checks that the messages of one window cover different partitions.
fn disjoint(windows: &[Record], found: &mut Vec<String>) {
    let mut covered = BTreeMap::new();
    for window in windows {
        let message = window.json();
        let start = message["window"]["start"].to_string();
        for partition in message["partitions"].as_array().into_iter().flatten() {
            if let Some(first) = covered.insert((start.clone(), partition.to_string()), window.place()) {
                let second = window.place();
                found.push(format!("the window of {start} has partition {partition} twice: at {first:?} and {second:?}"));
            }
        }
    }
}

/// Checks that running totals are the sums of all windows until then. The check applies only if all windows cover the same
/// partitions and no state was reset. A process that gets other partitions begins with the counts of their former process.
fn totals(evidence: &Evidence, found: &mut Vec<String>) {
    let mut windows: Vec<(String, Value, (i32, i64))> = Vec::new();
    for window in &evidence.windows {
        let message = window.json();
        windows.push((message["window"]["start"].to_string(), message, window.place()));
    }
    windows.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let alike = windows.windows(2).all(|pair| pair[0].1["partitions"] == pair[1].1["partitions"]);
    let whole = evidence.committed.values().all(|(_, metadata)| metadata.contains(r#""from":0,"#));
    let mut until_then = Counts::new();
    for (start, message, place) in windows {
        let mut said = Counts::new();
        add(&mut said, &message["device_type_counts"], |count| count.as_u64());
        add(&mut until_then, &message["window"]["counts"], |count| count.as_u64());
        if alike && whole && said != until_then {
            found.push(format!(
                "running totals at {place:?}, of the window of {start}: {said:?}, and {until_then:?} were counted"
            ));
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

/// Checks that each message has one hash of a rule set. The end of a transaction takes an offset, so two messages with adjacent
/// offsets are of one transaction: their hashes must be the same.
fn one_each_time(records: &[Record], found: &mut Vec<String>) {
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| record.place());
    for record in &sorted {
        let hashes = record.headers.iter().filter(|(name, _)| name == "weir-ruleset").count();
        if hashes != 1 {
            found.push(format!("{:?} of {:?} has {hashes} sets of rules", record.place(), record.source()));
        }
    }
    for pair in sorted.windows(2) {
        let adjacent = (pair[0].partition, pair[0].offset + 1) == pair[1].place();
        let [before, after] = [pair[0], pair[1]].map(|record| record.header("weir-ruleset"));
        if adjacent && before != after {
            found.push(format!("the rules change from {before:?} to {after:?} in a transaction, at {:?}", pair[1].place()));
        }
    }
}

fn add(counts: &mut Counts, object: &Value, count: impl Fn(&Value) -> Option<u64>) {
    for (name, value) in object.as_object().into_iter().flatten() {
        *counts.entry(name.clone()).or_default() += count(value).unwrap_or_default();
    }
    // A count of 0 is equal to no count.
    counts.retain(|_, count| *count > 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &str = r#"{"app_version":"2.3.0","device_type":"iOS","timestamp":0}"#;

    fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
        (name.to_owned(), Some(value.as_bytes().to_vec()))
    }

    fn record(offset: i64, value: &str, source: Option<i64>) -> Record {
        let headers = source.map(|source| vec![header("weir-source", &format!("in/0/{source}")), header("weir-ruleset", "r")]);
        Record { offset, value: Some(value.into()), headers: headers.unwrap_or_default(), ..Record::default() }
    }

    fn processed(offset: i64) -> Record {
        let passed = oracle::expected(Some(LOGIN.as_bytes())).unwrap();
        let value = oracle::output(LOGIN.as_bytes(), &passed, 7);
        record(offset, std::str::from_utf8(&value).unwrap(), Some(offset))
    }

    /// Three logins that became the right outputs. Two are counted in a closed window, one in an open window.
    fn sound() -> Evidence {
        let state = r#"{"weir":1,"topic":"t","from":0,"window":[0,1],"counts":{"iOS":[3,1]}}"#;
        Evidence {
            topic: "in".to_owned(),
            input: (0..3).map(|offset| record(offset, LOGIN, None)).collect(),
            outputs: (0..3).map(processed).collect(),
            letters: Vec::new(),
            windows: vec![record(
                0,
                r#"{"device_type_counts":{"iOS":2},"window":{"start":"0","counts":{"iOS":2}},"partitions":[0,1]}"#,
                None,
            )],
            committed: [(0, (3, state.to_owned()))].into(),
            blamed: BTreeMap::new(),
        }
    }

    /// Asserts that the judge finds at least one violation after `harm`, and that all violations contain `words`.
    fn assert_found(words: &str, harm: impl FnOnce(&mut Evidence)) {
        let mut evidence = sound();
        harm(&mut evidence);
        let found = Auditor::default().violations(&evidence);
        assert!(!found.is_empty() && found.iter().all(|violation| violation.contains(words)), "{words}: {found:#?}");
    }

    #[test]
    fn what_is_sound_is_found_sound() {
        assert_eq!(Auditor::default().violations(&sound()), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_harm_is_found() {
        assert_found("has become nothing", |evidence| drop(evidence.outputs.pop()));
        assert_found("another message already", |evidence| evidence.letters.push(processed(2)));
        assert_found("the bytes", |evidence| evidence.outputs[1].value = Some(b"{}".to_vec()));
        assert_found("key or timestamp", |evidence| evidence.outputs[1].key = Some(b"k".to_vec()));
        assert_found("stands after", |evidence| {
            evidence.outputs[0].offset = 2;
            evidence.outputs[2].offset = 0;
        });
        assert_found("set of rules", |evidence| evidence.outputs[0].headers[1].1 = Some(b"other".to_vec()));
        assert_found("windows and open windows", |evidence| evidence.windows.clear());
        assert_found("windows and open windows", |evidence| evidence.committed.clear());
        assert_found("own headers", |evidence| evidence.input[1].headers.push(header("trace", "x")));
        assert_found("has no state beside it", |evidence| {
            evidence.windows.push(record(1, r#"{"window":{"start":"1","counts":{"iOS":1}},"partitions":[0]}"#, None));
            evidence.committed.get_mut(&0).unwrap().1.clear();
        });
        assert_found("has partition 1 twice", |evidence| {
            evidence.windows.push(record(1, r#"{"window":{"start":"0","counts":{}},"partitions":[1,2]}"#, None));
        });
        assert_found("running totals", |evidence| {
            let value = r#"{"device_type_counts":{"iOS":3},"window":{"start":"0","counts":{"iOS":2}},"partitions":[0,1]}"#;
            evidence.windows = vec![record(0, value, None)];
        });
        assert_found("is no state", |evidence| {
            evidence.windows.push(record(1, r#"{"window":{"counts":{"iOS":1}}}"#, None));
            evidence.committed.get_mut(&0).unwrap().1 = "mine".to_owned();
        });
    }

    #[test]
    fn repeated_messages_are_held_against_the_input_and_their_last_ones_against_the_order() {
        let found = |harm: fn(&mut Evidence)| {
            let mut evidence = sound();
            evidence.outputs.extend([0, 1, 2].map(|offset| Record { offset: offset + 3, ..processed(offset) }));
            harm(&mut evidence);
            Auditor { repeats: true, ..Auditor::default() }.violations(&evidence)
        };
        assert_eq!(found(|_| {}), Vec::<String>::new());
        assert_eq!(found(|evidence| drop(evidence.outputs.drain(1..3))), Vec::<String>::new(), "the last ones are in order");
        assert!(found(|evidence| drop(evidence.outputs.pop()))[0].contains("stands after"));
        assert!(found(|evidence| evidence.outputs.retain(|output| output.source().1 != 1))[0].contains("has become nothing"));
        assert!(found(|evidence| evidence.outputs[5].value = Some(b"{}".to_vec()))[0].contains("the bytes"));
    }

    #[test]
    fn rules_may_change_between_two_transactions() {
        let found = |last: i64| {
            let mut evidence = sound();
            evidence.outputs[2].offset = last;
            evidence.outputs[2].headers[1].1 = Some(b"other".to_vec());
            Auditor { swaps: true, ..Auditor::default() }.violations(&evidence)
        };
        assert_eq!(found(3), Vec::<String>::new(), "offset 2 is the end of a transaction");
        assert!(found(2)[0].contains("in a transaction"));
    }
}
