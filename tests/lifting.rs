//! Properties of the outcomes that are lifted out of a rule. They hold for sound, nearly sound and arbitrary answers: nothing
//! panics, faults are found in exactly the rows whose answers break the contract, and the fields that the other rows get arrive
//! to the byte.
//!
//! A fake rule answers for each row with the answer that the row's field `spell` selects. So it is a pure function of its rows,
//! as the contract demands. [`boundary`] tests the same properties through Wasm. `PROPTEST_CASES` is the number of cases that are
//! tried.

mod boundary;
mod promises;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use serde::de::IgnoredAny;
use weir_core::column::Column;
use weir_core::counts::Counts;
use weir_core::pipeline::OnFault;
use weir_core::pipeline::{Evaluate, Fault, MAX_DETAIL_BYTES, Manifest, Outcome, Pipeline, Stage, View};
use weir_core::record::{Batch, Cause, Chunk, Rejection, RuleStats, Step};
use weir_core::reserved::RULE_FAULT;

/// Returns the configuration with the number of cases of a property: `PROPTEST_CASES`, or else `modest`.
fn cases(modest: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(modest, |cases| cases.parse().expect("PROPTEST_CASES is a number"));
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// The fields that the first rule may write.
const WRITES: [&str; 2] = ["y", "z"];
/// The reasons for which the first rule may reject.
const REASONS: [&str; 2] = ["bad", "worse"];

/// The answer of a rule to one row.
#[derive(Clone, Debug)]
enum Answer {
    Outcome(Outcome),
    Trap(String),
}

impl Answer {
    fn keeps_the_contract(&self) -> Option<&Outcome> {
        match self {
            Answer::Outcome(outcome) => Some(outcome).filter(|outcome| promises::kept(outcome, 1, WRITES.len(), REASONS.len())),
            Answer::Trap(_) => None,
        }
    }
}

/// A message, and the rule's answer to it.
#[derive(Clone, Debug)]
enum Message {
    /// The engine can't read it, so no rule sees it.
    Unreadable,
    Row {
        /// The JSON text of the fields that the message has already.
        y: Option<&'static str>,
        z: Option<&'static str>,
        space: &'static str,
        answer: Answer,
    },
}

/// A rule that gives each row the answer that its `spell` selects.
struct Teller {
    answers: Arc<[Option<Answer>]>,
}

impl Evaluate for Teller {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let spell = |row| std::str::from_utf8(promises::cell(view.columns[0], row)).unwrap().parse::<usize>().unwrap();
        let answers: Vec<&Answer> = (0..view.rows).filter_map(|row| self.answers[spell(row)].as_ref()).collect();
        let mut whole = Outcome { columns: vec![Column::default(); WRITES.len()], ..Outcome::default() };
        for (row, answer) in answers.iter().enumerate() {
            match answer {
                Answer::Trap(text) => return Err(Fault::new(text.clone())),
                Answer::Outcome(outcome) => join(&mut whole, outcome, row as u32),
            }
        }
        // Two wrong answers together may look right. A row that breaks the contract alone must break it in any batch.
        let broken = answers.iter().any(|answer| answer.keeps_the_contract().is_none());
        if broken && promises::kept(&whole, view.rows, WRITES.len(), REASONS.len()) {
            whole.columns.clear();
        }
        Ok(whole)
    }
}

/// Appends the answer to row `row`. The first wrong number of columns is kept.
fn join(whole: &mut Outcome, outcome: &Outcome, row: u32) {
    if whole.columns.len() == WRITES.len() {
        whole.columns.resize(outcome.columns.len(), Column::default());
    }
    for (column, next) in whole.columns.iter_mut().zip(&outcome.columns) {
        let base = column.bytes.len() as u32;
        column.kinds.extend(&next.kinds);
        column.ends.extend(next.ends.iter().map(|end| end.wrapping_add(base)));
        column.bytes.extend(&next.bytes);
    }
    let shifted =
        outcome.rejections.iter().map(|(rejected, reason, detail)| (rejected.wrapping_add(row), *reason, detail.clone()));
    whole.rejections.extend(shifted);
}

/// A rule that writes into `seen` what it reads in `y`. It fails on more than two rows at a time.
struct Mirror;

impl Evaluate for Mirror {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        assert!(promises::is_column(view.columns[0], view.rows), "a rule sees what the contract says: {view:?}");
        if view.rows > 2 {
            return Err(Fault::new("too many rows"));
        }
        Ok(Outcome { rejections: Vec::new(), columns: vec![view.columns[0].clone()] })
    }
}

/// Both rules in one type, because a pipeline has one type of rules.
struct Fake {
    rule: Either,
    /// The time that each call takes, in nanoseconds.
    took: u64,
}

enum Either {
    Teller(Teller),
    Mirror(Mirror),
}

impl Evaluate for Fake {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        match &mut self.rule {
            Either::Teller(teller) => teller.evaluate(view),
            Either::Mirror(mirror) => mirror.evaluate(view),
        }
    }

    fn take_elapsed(&mut self) -> u64 {
        self.took
    }
}

fn manifest(name: &str, reads: &[&str], writes: &[&str], reasons: &[&str]) -> Manifest {
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    Manifest { name: name.into(), reads: list(reads), writes: list(writes), reasons: list(reasons), ..Manifest::default() }
}

fn pipeline(messages: &[Message], drop: bool, on_fault: OnFault, took: u64) -> Pipeline<Fake> {
    let answers = messages.iter().map(|message| match message {
        Message::Row { answer, .. } => Some(answer.clone()),
        Message::Unreadable => None,
    });
    let teller = Fake { rule: Either::Teller(Teller { answers: answers.collect() }), took };
    let mirror = Fake { rule: Either::Mirror(Mirror), took };
    let stages = vec![
        Stage { manifest: manifest("teller", &["spell"], &WRITES, &REASONS), drop, on_fault, rule: teller },
        Stage { manifest: manifest("mirror", &["y"], &["seen"], &[]), drop, on_fault, rule: mirror },
    ];
    Pipeline::new(stages, "x").unwrap()
}

/// A part of a message: bytes as they are, or a string in any spelling.
#[derive(Clone, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Text(Vec<u8>),
}

impl Piece {
    /// Returns the value that a cell stands for. None if the cell is absent.
    fn of_cell(kind: u8, bytes: &[u8]) -> Option<Piece> {
        match kind {
            0 => None,
            1 => Some(Piece::Bytes(b"null".to_vec())),
            4 => Some(Piece::Text(bytes.to_vec())),
            5 => {
                let in_one_line = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
                Some(Piece::Bytes(bytes.iter().map(in_one_line).collect()))
            }
            _ => Some(Piece::Bytes(bytes.to_vec())),
        }
    }
}

/// Returns message number `spell` after the rules have written `writes` to y, z and seen. A field that the message has is
/// replaced where it stands; a new field comes last.
fn message(message: &Message, spell: usize, writes: [Option<Piece>; 3]) -> Vec<Piece> {
    let Message::Row { y, z, space, .. } = message else { return vec![Piece::Bytes(b"{\"x\":".to_vec())] };
    let bytes = |text: String| Piece::Bytes(text.into_bytes());
    let mut pieces = vec![bytes(format!("{{{space}\"spell\":{space}{spell}{space}"))];
    let mut new = Vec::new();
    for ((name, old), written) in [("y", *y), ("z", *z), ("seen", None)].into_iter().zip(writes) {
        match (old, written) {
            (Some(old), written) => {
                pieces.push(bytes(format!(",\"{name}\"{space}:")));
                pieces.push(written.unwrap_or(Piece::Bytes(old.into())));
                pieces.push(bytes(space.to_string()));
            }
            (None, Some(written)) => new.extend([bytes(format!(",\"{name}\":")), written]),
            (None, None) => {}
        }
    }
    pieces.extend(new);
    pieces.push(bytes("}".into()));
    pieces
}

/// Returns whether `bytes` are these pieces, one after the other.
fn matches(mut bytes: &[u8], pieces: &[Piece]) -> bool {
    for piece in pieces {
        let rest = match piece {
            Piece::Bytes(piece) => bytes.strip_prefix(piece.as_slice()),
            Piece::Text(text) => {
                let mut strings = serde_json::Deserializer::from_slice(bytes).into_iter::<String>();
                let found = strings.next().is_some_and(|string| string.is_ok_and(|string| string.as_bytes() == text));
                found.then(|| &bytes[strings.byte_offset()..])
            }
        };
        match rest {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
    bytes.is_empty()
}

/// Returns the cell, kind and bytes, for the JSON text of a field.
fn cell_of(json: Option<&str>) -> (u8, Vec<u8>) {
    match json {
        None => (0, vec![]),
        Some("null") => (1, vec![]),
        Some(text) if text.starts_with('"') => (4, serde_json::from_str::<String>(text).unwrap().into_bytes()),
        Some(composite) if composite.starts_with(['{', '[']) => (5, composite.into()),
        Some(word) if word.starts_with(['t', 'f']) => (2, word.into()),
        Some(number) => (3, number.into()),
    }
}

/// The outcome of a message.
enum Fate {
    Passes(Vec<Piece>),
    Rejected(Option<usize>, Option<&'static str>, Option<String>),
}

/// Returns the outcome that the contract demands for message `spell`.
fn fate(told: &Message, spell: usize, on_fault: OnFault) -> Fate {
    let Message::Row { y, answer, .. } = told else { return Fate::Rejected(None, None, None) };
    let (mut seen, mut writes) = (cell_of(*y), [None, None]);
    match answer.keeps_the_contract() {
        Some(Outcome { rejections, columns }) => {
            if let [(_, reason, detail)] = &rejections[..] {
                return Fate::Rejected(Some(0), Some(REASONS[*reason as usize]), detail.clone());
            }
            if columns[0].kinds[0] != 0 {
                seen = (columns[0].kinds[0], columns[0].bytes.clone());
            }
            writes = [0, 1].map(|index: usize| Piece::of_cell(columns[index].kinds[0], &columns[index].bytes));
        }
        None if on_fault == OnFault::DeadLetter => return Fate::Rejected(Some(0), Some(RULE_FAULT), None),
        None => {}
    }
    let [y, z] = writes;
    Fate::Passes(message(told, spell, [y, z, Piece::of_cell(seen.0, &seen.1)]))
}

/// Sends messages through the rules, in as many parts as that takes, and compares their outcomes with those that the contract
/// demands.
fn compare(messages: &[Message], drop: bool, on_fault: OnFault, took: u64) -> Result<(), TestCaseError> {
    let mut batch = Batch::new("user-login");
    for (spell, told) in messages.iter().enumerate() {
        let pieces = message(told, spell, [None, None, None]);
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|(Piece::Bytes(bytes) | Piece::Text(bytes))| bytes).collect();
        batch.push(0, spell as i64, None, None, Some(&bytes));
    }
    let (mut pipeline, mut parts) = (pipeline(messages, drop, on_fault, took), Vec::new());
    while !batch.is_empty() {
        let mut step = Step::default();
        pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
        let rest = batch.split_off(step.processed_records.unwrap_or(batch.len()));
        prop_assert!(!batch.is_empty(), "it gets on");
        parts.push(Chunk { batch: std::mem::replace(&mut batch, rest), step });
    }
    let place = |part: &Chunk, record: u32| part.batch.records()[record as usize].offset;
    let mut outputs = parts.iter().flat_map(|part| part.step.outputs.iter().map(move |output| (part, output)));
    let mut rejections = parts.iter().flat_map(|part| part.step.rejections.iter().map(move |rejection| (part, rejection)));
    for (spell, told) in messages.iter().enumerate() {
        match fate(told, spell, on_fault) {
            Fate::Passes(pieces) => {
                let output = outputs.next().filter(|(part, output)| place(part, output.record) == spell as i64);
                prop_assert!(output.is_some(), "message {} passes", spell);
                let (part, output) = output.unwrap();
                let value = part.step.value(output, &part.batch);
                prop_assert!(matches(value, &pieces), "{:?} is not {:?}", value.escape_ascii().to_string(), pieces);
                prop_assert!(serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(value).is_ok(), "the output is an object");
            }
            Fate::Rejected(rule, reason, detail) => {
                let rejection = rejections.next().filter(|(part, rejection)| place(part, rejection.record) == spell as i64);
                prop_assert!(rejection.is_some(), "message {} is rejected", spell);
                check_rejection(rejection.unwrap().1, rule, reason, detail.as_deref(), drop)?;
            }
        }
    }
    prop_assert!(outputs.next().is_none() && rejections.next().is_none(), "each message has one fate");
    let broken = |told: &Message| matches!(told, Message::Row { answer, .. } if answer.keeps_the_contract().is_none());
    prop_assert_eq!(parts.iter().any(|part| part.step.stop.is_some()), on_fault == OnFault::Stop && messages.iter().any(broken));
    check_stats(messages, on_fault, &parts)
}

/// Checks that each message is counted once, whichever part it was processed in. Nothing is checked for a step that must not be
/// committed.
fn check_stats(messages: &[Message], on_fault: OnFault, parts: &[Chunk]) -> Result<(), TestCaseError> {
    let mut found = [RuleStats::default(); 2];
    parts.iter().flat_map(|part| part.step.rules.iter().enumerate()).for_each(|(rule, stats)| found[rule].add(stats));
    let told: Vec<&Answer> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Row { answer, .. } => Some(answer),
            Message::Unreadable => None,
        })
        .collect();
    let broken = told.iter().filter(|answer| answer.keeps_the_contract().is_none()).count() as u64;
    let rejects = |answer: &&&Answer| answer.keeps_the_contract().is_some_and(|outcome| !outcome.rejections.is_empty());
    let rejected = told.iter().filter(rejects).count() as u64 + if on_fault == OnFault::DeadLetter { broken } else { 0 };
    if on_fault == OnFault::Stop {
        return Ok(());
    }
    prop_assert_eq!((found[0].rows, found[0].faults, found[0].skipped), (told.len() as u64, broken, 0));
    prop_assert_eq!((found[1].rows, found[1].faults, found[1].skipped), (told.len() as u64 - rejected, 0, 0));
    Ok(())
}

/// Returns the reason of a rejection by a rule whose reasons are [`REASONS`], or by the engine.
fn reason_of(rejection: &Rejection) -> &'static str {
    match rejection.cause {
        Cause::Rejected { reason, .. } => REASONS[reason],
        Cause::Fault { .. } | Cause::Skipped { .. } => RULE_FAULT,
        Cause::Engine(reason) => reason.name(),
    }
}

fn check_rejection(
    rejection: &Rejection,
    rule: Option<usize>,
    reason: Option<&str>,
    detail: Option<&str>,
    drop: bool,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(rejection.rule(), rule);
    if let Some(reason) = reason {
        prop_assert_eq!(reason_of(rejection), reason);
    }
    let kept = rejection.detail.as_deref();
    prop_assert!(kept.is_none_or(|kept| kept.len() <= MAX_DETAIL_BYTES && MAX_DETAIL_BYTES == 1_024));
    match reason {
        None | Some(RULE_FAULT) => prop_assert!(!rejection.drop, "what is nobody's decision is not dropped"),
        Some(_) => {
            prop_assert_eq!(rejection.drop, drop);
            prop_assert_eq!(kept.is_some(), detail.is_some());
            let (kept, detail) = (kept.unwrap_or_default(), detail.unwrap_or_default());
            prop_assert!(detail.starts_with(kept) && (kept == detail || kept.len() > 1_024 - 4), "{:?} of {:?}", kept, detail);
        }
    }
    Ok(())
}

/// Strings with every kind of character, some of them long.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
        4 => select(vec!["", "\u{1b}[2J\r\n", "\0", "\"\\", "é😀", "plain"]).prop_map(str::to_owned),
        1 => (any::<char>(), 0..3_000_usize).prop_map(|(character, times)| character.to_string().repeat(times)),
    ]
}

/// Sound cells.
fn cells() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let numbers = vec!["0", "-0", "1.50e3", "1E+400", "-12.5e-7", "123456789012345678901234567890"];
    let composites = vec!["{}", "[]", "[1, {\"a\":null}]", "{\"a\":\"\\ud800\",\"a\":2}", "[\n\"\\u0000\"\t]"];
    prop_oneof![
        3 => Just((0, vec![])),
        1 => Just((1, vec![])),
        1 => select(vec!["true", "false"]).prop_map(|json| (2, json.into())),
        1 => select(numbers).prop_map(|json| (3, json.into())),
        1 => any::<i64>().prop_map(|number| (3, number.to_string().into())),
        2 => texts().prop_map(|text| (4, text.into_bytes())),
        1 => select(composites).prop_map(|json| (5, json.into())),
    ]
}

/// Bytes that are wrong for cells of some kind, and arbitrary bytes.
fn spoiled_bytes() -> impl Strategy<Value = Vec<u8>> {
    let spoiled: Vec<&[u8]> = vec![
        b"NaN",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"-",
        b"1e",
        b"0x1",
        b" 1",
        b"1 ",
        b"tru",
        b"TRUE",
        b"true ",
        b"null",
        b"[1",
        b"{\"a\":1,}",
        b"[1] ",
        b" {}",
        b"[]]",
        b"{}{}",
        b"[\"\n\"]",
        b"\"text\"",
        b"[\"\xff\"]",
        b"\xff",
        b"\xc3",
        b"\xa9",
        b"\xed\xa0\x80",
        b"a\xf0\x9f\x98",
        b"},\"x\":{",
        b"\",\"x\":\"",
    ];
    prop_oneof![
        3 => select(spoiled).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

/// Numbers that are unlikely to be right: small, large and arbitrary ones.
fn words() -> impl Strategy<Value = u32> {
    prop_oneof![0..8_u32, Just(u32::MAX), Just(1 << 31), any::<u32>()]
}

/// The answers to one row that keep the contract.
fn sound() -> impl Strategy<Value = Outcome> {
    let column = || cells().prop_map(|(kind, bytes)| Column { kinds: vec![kind], ends: vec![bytes.len() as u32], bytes });
    let rejection = prop::option::weighted(0.2, (Just(0), 0..REASONS.len() as u32, prop::option::of(texts())));
    (rejection, column(), column())
        .prop_map(|(rejection, y, z)| Outcome { rejections: rejection.into_iter().collect(), columns: vec![y, z] })
}

/// One change to an outcome.
#[derive(Clone, Debug)]
enum Change {
    Columns(usize),
    Kind(u8),
    Kinds(Vec<u8>),
    End(u32),
    Ends(Vec<u32>),
    Bytes(Vec<u8>),
    /// Bytes whose length is stated correctly.
    Cell(Vec<u8>),
    Rejections(Vec<(u32, u32, Option<String>)>),
}

impl Change {
    fn apply(self, outcome: &mut Outcome, column: usize) {
        let columns = &mut outcome.columns;
        match self {
            Change::Columns(count) => columns.resize(count, columns[0].clone()),
            Change::Kind(kind) => columns[column].kinds = vec![kind],
            Change::Kinds(kinds) => columns[column].kinds = kinds,
            Change::End(end) => columns[column].ends = vec![end],
            Change::Ends(ends) => columns[column].ends = ends,
            Change::Bytes(bytes) => columns[column].bytes = bytes,
            Change::Cell(bytes) => {
                columns[column].ends = vec![bytes.len() as u32];
                columns[column].bytes = bytes;
            }
            Change::Rejections(rejections) => outcome.rejections = rejections,
        }
    }
}

fn changes() -> impl Strategy<Value = Change> {
    let rejections = prop::collection::vec((words(), words(), prop::option::of(texts())), 0..4);
    prop_oneof![
        (0..4_usize).prop_map(Change::Columns),
        (0..8_u8).prop_map(Change::Kind),
        prop::collection::vec(0..7_u8, 0..3).prop_map(Change::Kinds),
        words().prop_map(Change::End),
        prop::collection::vec(words(), 0..3).prop_map(Change::Ends),
        spoiled_bytes().prop_map(Change::Bytes),
        spoiled_bytes().prop_map(Change::Cell),
        rejections.prop_map(Change::Rejections),
    ]
}

/// Arbitrary answers of a rule.
fn arbitrary() -> impl Strategy<Value = Outcome> {
    let column =
        (prop::collection::vec(prop_oneof![0..7_u8, any::<u8>()], 0..3), prop::collection::vec(words(), 0..3), spoiled_bytes());
    let column = column.prop_map(|(kinds, ends, bytes)| Column { kinds, ends, bytes });
    let rejections = prop::collection::vec((words(), words(), prop::option::of(texts())), 0..3);
    (rejections, prop::collection::vec(column, 0..4)).prop_map(|(rejections, columns)| Outcome { rejections, columns })
}

fn answers() -> impl Strategy<Value = Answer> {
    let nearly_sound = (sound(), changes(), 0..2_usize).prop_map(|(mut outcome, change, column)| {
        change.apply(&mut outcome, column);
        outcome
    });
    prop_oneof![
        6 => sound().prop_map(Answer::Outcome),
        3 => nearly_sound.prop_map(Answer::Outcome),
        1 => arbitrary().prop_map(Answer::Outcome),
        1 => texts().prop_map(Answer::Trap),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let member = || prop::option::of(select(vec!["1.0", "\"old\\u0000\"", "null", "{\"y\": [1]}", "false"]));
    let row = (member(), member(), select(vec!["", " ", "\r\n\t"]), answers());
    prop_oneof![
        1 => Just(Message::Unreadable),
        15 => row.prop_map(|(y, z, space, answer)| Message::Row { y, z, space, answer }),
    ]
}

proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn whatever_a_rule_answers_only_the_rows_are_blamed_that_break_the_contract(
        messages in prop::collection::vec(messages(), 0..10),
        drop: bool,
        on_fault in select(vec![OnFault::DeadLetter, OnFault::DeadLetter, OnFault::Pass, OnFault::Stop]),
        // A search ends after 30 s.
        took in select(vec![0, 0, 3_000_000_000, 10_000_000_000, 60_000_000_000]),
    ) {
        compare(&messages, drop, on_fault, took)?;
    }
}
