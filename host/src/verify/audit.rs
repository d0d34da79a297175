//! The judge: takes what was read, record by record, and says at a cut whether it is right. Pure: no client, no clock.
//!
//! The caller names the cut first ([`Audit::cut`]), then hands in the input up to its end, and only then outputs, dead letters
//! and counts: so every input record that one of these may name is known. Judged are the input offsets from the first that the
//! state counts up to the committed one. What is past the cut is only remembered: the next cut, if there is one, judges it.
//! One thing is judged past the cut as well: what is there twice, or out of order, will not get better.
//!
//! Memory: four bitmaps for each input partition ([`super::partition`]), of which three have many records, and a copy of one
//! while it is judged; an entry of some 60 bytes for each pair of input and output partition; at most
//! [`MAX_KEPT`](super::violation::MAX_KEPT) violations of each kind in words. Records stand in an input densely, so a set takes
//! at most two bits a record where every record has a marker of its transaction beside it: for 100 million records 25 MB, and
//! for the three sets with the copy 100 MB, whatever they are; half of that where batches are larger. A test measures it.

mod left_out;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use roaring::RoaringTreemap;

use super::partition::{Cut, Partition};
use super::report::{Judged, Outcome, Read, Unsure, Verdict, amount};
use super::violation::{Found, Kind, Names, PROOFS, Place, Proof, ROLES, Role, Violation};
use super::window::Known;
use super::windows::Windows;
use crate::view::number;
use weir_core::state::State;
use weir_kafka::reader::Marks;

/// How many hashes of rule sets are told apart.
const MAX_RULESETS: usize = 1_000;
/// How much of a header from others is repeated, in characters.
const SHOWN: usize = 80;

/// The outputs of one input partition in one output partition.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// The lowest source that was seen.
    first: u64,
    /// The source of the last record that is judged.
    last: Option<u64>,
}

/// What the counts are held against, over all partitions.
#[derive(Default)]
struct Sums {
    outputs: u64,
    /// Counted in windows that are open.
    open: u64,
    /// By type, what the states have in all and in windows that are open.
    types: BTreeMap<String, (u64, u64)>,
    /// How many partitions have not, or not for certain.
    incomplete: usize,
    /// How many partitions have all of their outputs.
    complete: usize,
    /// A partition has lost its state.
    stateless: bool,
    /// A partition has a state that leaves out what was written earlier.
    began_anew: bool,
}

/// What was read, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Audit {
    names: Names,
    /// A rule drops what it rejects.
    drops: bool,
    inputs: BTreeMap<i32, Partition>,
    lanes: BTreeMap<(Role, i32, i32), Lane>,
    /// The first offset that is still there, of partitions of the other topics.
    lows: BTreeMap<(Role, i32), u64>,
    compacted: Vec<Role>,
    /// Topics whose settings the cluster does not tell.
    untold: Vec<Role>,
    /// States do not say which topic they are of.
    nameless: bool,
    windows: Windows,
    rulesets: BTreeMap<String, u64>,
    read: [u64; 4],
    found: Found,
}

impl Audit {
    /// Nothing read yet. `drops` says that a rule drops what it rejects; `compacted` are topics that lose records of old keys.
    pub fn new(names: Names, drops: bool, compacted: Vec<Role>) -> Audit {
        Audit {
            names,
            drops,
            inputs: BTreeMap::new(),
            lanes: BTreeMap::new(),
            lows: BTreeMap::new(),
            compacted,
            untold: Vec::new(),
            nameless: false,
            windows: Windows::default(),
            rulesets: BTreeMap::new(),
            read: [0; 4],
            found: Found::default(),
        }
    }

    /// A cut, for each input partition.
    pub fn cut(&mut self, cuts: Vec<Cut>) {
        for cut in cuts {
            let input = self.inputs.entry(cut.partition).or_default();
            input.cut = cut;
        }
    }

    /// Topics whose settings the cluster does not tell: taken for topics that are not compacted.
    pub fn untold(&mut self, roles: Vec<Role>) {
        self.untold = roles;
    }

    /// Whether there are states that do not say which topic they are of.
    pub fn nameless(&mut self, nameless: bool) {
        self.nameless = nameless;
    }

    /// The input partition has the offsets of `there`. To be said before they are read, and again once they are, since the
    /// oldest may have gone meanwhile.
    pub fn input_extent(&mut self, partition: i32, there: Range<i64>) {
        let input = self.inputs.entry(partition).or_default();
        input.low = input.low.max(there.start.max(0) as u64);
        input.end = input.end.max(there.end.max(0) as u64);
        let first = input.from == 0 && input.seen.is_empty();
        match &input.cut.state {
            Some(state) => input.from = state.from.max(0) as u64,
            None if first => input.from = input.low,
            None => {}
        }
    }

    /// The first offset that a partition of another topic still has.
    pub fn low(&mut self, role: Role, partition: i32, low: i64) {
        self.lows.insert((role, partition), low.max(0) as u64);
    }

    /// A record of the input.
    pub fn input(&mut self, partition: i32, offset: i64, marks: &Marks) {
        self.read[Role::Input as usize] += 1;
        let input = self.inputs.entry(partition).or_default();
        input.seen.insert(offset as u64);
        if marks.sources > 0 || marks.rulesets > 0 {
            input.marked.insert(offset as u64);
        }
    }

    /// A record of the counts topic.
    pub fn counts(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        self.read[Role::Counts as usize] += 1;
        if let Err(violation) = self.windows.take(self.place(Role::Counts, partition, offset), value) {
            self.found.add(violation);
        }
        if self.windows.due() {
            self.settle();
        }
    }

    /// An output or a dead letter.
    pub fn written(&mut self, role: Role, partition: i32, offset: i64, marks: &Marks) {
        self.read[role as usize] += 1;
        let (origin, wrongs) = match self.origin(marks) {
            Ok(origin) => (Some(origin), self.judge_written(role, partition, origin, marks)),
            Err(wrong) => (None, vec![wrong]),
        };
        for (kind, words) in wrongs {
            let at = self.place(role, partition, offset);
            let source = origin.map(|(index, source)| self.source(index, source));
            self.found.add(Violation { kind, records: 1, words: format!("{at} {words}"), at: Some(at), source });
        }
    }

    fn judge_written(&mut self, role: Role, partition: i32, (index, source): (i32, u64), marks: &Marks) -> Vec<Wrong> {
        let name = || format!("{}/{index}/{source}", self.names.of(Role::Input));
        let Some(input) = self.inputs.get_mut(&index) else {
            return vec![(Kind::NoInput, format!("is of {}, and the input has no such partition", name()))];
        };
        if source >= input.end {
            return vec![(Kind::NoInput, format!("is of {}, and the input ends at {}", name(), input.end))];
        }
        input.first = Some(input.first.map_or(source, |first| first.min(source)));
        let lane = self.lanes.entry((role, partition, index)).or_insert(Lane { first: source, last: None });
        lane.first = lane.first.min(source);
        if source < input.from {
            return Vec::new();
        }
        let known = input.seen.contains(source);
        if !known && source >= input.low && !self.compacted.contains(&Role::Input) {
            return vec![(Kind::NoInput, format!("is of {}, where the input has no record", name()))];
        }
        // Dead letters keep the headers that their records came with.
        let brought = role == Role::DeadLetters && (!known || input.marked.contains(source));
        let mut wrong: Vec<Wrong> =
            check_marks(marks, brought).map(|(kind, words)| (kind, format!("of {} {words}", name()))).into_iter().collect();
        tally(&mut self.rulesets, marks);
        let (own, other, what) = if role == Role::Outputs { (0, 1, "output") } else { (1, 0, "dead letter") };
        if !input.done[own].insert(source) {
            wrong.push((Kind::Twice, format!("is another {what} of {}", name())));
            return wrong;
        }
        if let Some(before) = lane.last.filter(|last| *last > source) {
            wrong.push((Kind::OutOfOrder, format!("is of {} and stands behind one of offset {before}", name())));
        }
        lane.last = lane.last.max(Some(source));
        if input.done[other].contains(source) {
            wrong.push((Kind::InBoth, format!("is a {what} of {}, which has become the other too", name())));
        }
        wrong
    }

    /// The input record that `marks` name: partition and offset.
    fn origin(&self, marks: &Marks) -> Result<(i32, u64), Wrong> {
        if marks.sources == 0 {
            return Err((Kind::NoSource, "has no header weir-source".into()));
        }
        match std::str::from_utf8(&marks.source).ok().and_then(split) {
            Some((topic, partition, offset)) if topic == self.names.of(Role::Input) => Ok((partition, offset)),
            Some(_) => Err((Kind::NoInput, format!("is of a record of another topic: {}", shown(&marks.source)))),
            None => Err((Kind::NoSource, format!("has a header weir-source that names no record: {}", shown(&marks.source)))),
        }
    }

    /// Judges all that was read at the cut that was named last.
    pub fn judge(&mut self) -> Verdict {
        self.settle();
        self.inputs.values_mut().for_each(Partition::optimize);
        let mut found = self.found.clone();
        let mut notes = self.notes();
        let (mut unsure, mut partitions) = (Unsure::default(), Vec::new());
        for (index, input) in &self.inputs {
            self.judge_losses(*index, input, &mut unsure, &mut found, &mut notes);
            partitions.push(judged(*index, input));
        }
        let mut of_counts = Vec::new();
        let counted = self.judge_counts(&mut found, &mut notes, &mut of_counts);
        let of_counts = if counted.is_ok() { of_counts } else { vec!["counts".into()] };
        let outcome = |proof: Proof| match found.of(proof) {
            0 if proof == Proof::CountsAddUp && counted.is_err() => Outcome::NotJudged,
            0 => Outcome::Holds,
            violations => Outcome::Violated(violations),
        };
        Verdict {
            violations: found.total(),
            proofs: PROOFS.iter().map(|proof| (*proof, outcome(*proof))).collect(),
            read: ROLES
                .iter()
                .map(|role| Read { topic: self.names.of(*role).into(), records: self.read[*role as usize] })
                .collect(),
            partitions,
            unsure,
            gone: self.is_any_gone(),
            not_judged: [self.left_out(unsure), of_counts].concat(),
            counted: counted.unwrap_or_else(|reason| reason),
            rulesets: self.rulesets.clone(),
            found: found.into_kept(),
            notes,
        }
    }

    fn judge_losses(&self, index: i32, input: &Partition, unsure: &mut Unsure, found: &mut Found, notes: &mut Vec<String>) {
        let (name, range) = (format!("{}/{index}", self.names.of(Role::Input)), input.range());
        if let Some(committed) = input.cut.committed.filter(|committed| *committed > input.end as i64) {
            let words = format!(
                "{name} ends at {}, and the group has committed {committed}: the topic was created anew or cut short",
                input.end
            );
            found.add(Violation { kind: Kind::PastTheEnd, records: 1, at: None, source: Some(name.clone()), words });
        }
        let mut missing = input.missing();
        if let Some(floor) = self.floor(index).filter(|floor| *floor > range.start) {
            let unjudged = missing.remove_range(..floor);
            unsure.unjudged += unjudged;
            if unjudged > 0 {
                notes.push(format!(
                    "{} records of {name} below offset {} have neither output nor dead letter and can't be judged: what was \
                     written of them may have expired or been compacted",
                    number(unjudged),
                    number(floor.min(range.end))
                ));
            }
        }
        if !self.drops {
            return self.name_lost(index, input, &missing, found);
        }
        unsure.dropped_or_lost += missing.len();
        if !missing.is_empty() {
            notes.push(format!(
                "{} records of {name} became neither output nor dead letter: a rule has `on_reject = \"drop\"`, which leaves no \
                 trace, and a loss would look the same",
                number(missing.len())
            ));
        }
    }

    fn name_lost(&self, index: i32, input: &Partition, missing: &RoaringTreemap, found: &mut Found) {
        let mut left = missing.len();
        for (first, last, records) in input.ranges(missing) {
            if !found.has_room(Kind::Lost) {
                break;
            }
            let range = if first == last { String::new() } else { format!("..={last}") };
            let source = self.source(index, first) + &range;
            let words = match records {
                1 => format!("{source} became neither output nor dead letter"),
                _ => format!("{source}: {} records became neither output nor dead letter", number(records)),
            };
            found.add(Violation { kind: Kind::Lost, records, at: None, source: Some(source), words });
            left -= records;
        }
        found.add_unnamed(Kind::Lost, left);
    }

    /// Below it, outputs or dead letters of an input partition may have expired.
    fn floor(&self, index: i32) -> Option<u64> {
        [Role::Outputs, Role::DeadLetters].into_iter().filter_map(|role| self.floor_of(role, index)).max()
    }

    fn floor_of(&self, role: Role, index: i32) -> Option<u64> {
        if self.compacted.contains(&role) {
            return Some(u64::MAX);
        }
        let partitions = self.lows.range((role, i32::MIN)..=(role, i32::MAX));
        // With equally many partitions outputs stay in the partition of the same number.
        let same = partitions.clone().count() == self.inputs.len();
        let shortened = partitions.filter(|((_, partition), low)| **low > 0 && (!same || *partition == index));
        shortened.map(|((_, partition), _)| self.lanes.get(&(role, *partition, index)).map_or(u64::MAX, |lane| lane.first)).max()
    }

    /// What was compared in words, or why nothing was.
    fn judge_counts(&self, found: &mut Found, notes: &mut Vec<String>, not_judged: &mut Vec<String>) -> Result<String, String> {
        let mut sums = Sums::default();
        for (index, input) in self.inputs.iter().filter(|(_, input)| input.cut.committed.is_some()) {
            match &input.cut.state {
                Some(state) => self.judge_state(*index, input, state, &mut sums, found),
                None if input.begins_here() => {}
                None => {
                    sums.stateless = true;
                    found.add(self.state_missing(*index, input));
                }
            }
        }
        self.judge_overlaps(found);
        if sums.incomplete > 0 {
            not_judged.push(format!("counts of {} against outputs", amount(sums.incomplete as u64, "partition")));
        }
        if !self.windows.covered.is_whole() {
            notes.push("windows that leave gaps are too many to be held against each other".into());
            not_judged.push("overlaps of windows".into());
        }
        if !self.windows.totals.is_whole() {
            notes.push("partitions were in too many different sets to hold their running totals against each other".into());
            not_judged.push("running totals".into());
        }
        if sums.stateless {
            return Err("not all partitions have a state with their offset".into());
        }
        if self.compacted.contains(&Role::Counts) || self.has_expired(Role::Counts) {
            notes.push("windows can't be added up: some may have expired or been compacted".into());
            not_judged.push("windows".into());
            return match sums.complete {
                0 => Err("neither windows nor outputs are all there to be held against the states".into()),
                _ => Ok(format!("{} outputs are counted in the states", number(sums.outputs))),
            };
        }
        self.judge_windows(&sums, found)
    }

    /// Holds the state of a partition against its outputs.
    fn judge_state(&self, index: i32, input: &Partition, state: &State, sums: &mut Sums, found: &mut Found) {
        let (seen, total, range) = (input.judged(&input.done[0]), state.total(), input.range());
        let complete = self.floor_of(Role::Outputs, index).is_none_or(|floor| floor <= input.from);
        if seen > total || complete && seen < total {
            let source = format!("{}/{index}", self.names.of(Role::Input));
            let words = format!(
                "the state of {source} counts {}, and offsets {} to {} have {} outputs",
                number(total),
                number(range.start),
                number(range.end),
                number(seen)
            );
            found.add(Violation { kind: Kind::CountsDiffer, records: 1, at: None, source: Some(source), words });
        }
        sums.complete += usize::from(complete);
        sums.incomplete += usize::from(!complete);
        for (name, (total, open)) in &state.counts {
            let sum = sums.types.entry(name.clone()).or_default();
            *sum = (sum.0.saturating_add(*total), sum.1.saturating_add(*open));
        }
        sums.began_anew |= input.began_anew();
        sums.outputs = sums.outputs.saturating_add(if complete { seen } else { total });
        sums.open = sums.open.saturating_add(state.open());
    }

    /// Holds the windows against the outputs.
    fn judge_windows(&self, sums: &Sums, found: &mut Found) -> Result<String, String> {
        let (Windows { messages, forgotten, .. }, sum) = (&self.windows, self.windows.sum());
        if *forgotten > 0 {
            return Err(format!("{} windows are too many to keep", number(*forgotten)));
        }
        let (counted, outputs) = (sum.saturating_add(sums.open), sums.outputs);
        let sent = format!("{} in {} windows that were sent", number(sum), number(*messages));
        // Windows from before a state began anew can only add to the sum.
        if counted < outputs || counted > outputs && !sums.began_anew {
            let reset = if sum > outputs { " (windows from before the group's offsets were reset would explain it)" } else { "" };
            let words =
                format!("{sent} and {} in open ones were counted, of {} outputs{reset}", number(sums.open), number(outputs));
            found.add(Violation { kind: Kind::WindowsDiffer, records: 1, at: None, source: None, words });
        }
        self.judge_types(sums, found);
        self.windows.totals.judge(&|partition| self.known(partition)).into_iter().for_each(|violation| found.add(violation));
        match sums.began_anew {
            true => Err("more was written than the states count: counting began anew".into()),
            false => {
                let past = match self.windows.past() {
                    0 => String::new(),
                    past => format!("; {} windows past the cut", number(past as u64)),
                };
                Ok(format!("{} outputs: {sent}, {} in those that are open{past}", number(outputs), number(sums.open)))
            }
        }
    }

    /// Holds the windows of each type against the states.
    fn judge_types(&self, sums: &Sums, found: &mut Found) {
        let sent = &self.windows.sums;
        let names: BTreeSet<&str> = sent.keys().map(|name| &**name).chain(sums.types.keys().map(String::as_str)).collect();
        for name in names {
            let (total, open) = sums.types.get(name).copied().unwrap_or_default();
            let sent = sent.get(name).copied().unwrap_or_default();
            let counted = sent.saturating_add(open);
            if counted < total || counted > total && !sums.began_anew {
                let words = format!(
                    "of type `{}` {} in windows that were sent and {} in open ones were counted, and the states have {}",
                    name.escape_debug(),
                    number(sent),
                    number(open),
                    number(total)
                );
                found.add(Violation { kind: Kind::TypesDiffer, records: 1, at: None, source: None, words });
            }
        }
    }

    fn judge_overlaps(&self, found: &mut Found) {
        let (overlaps, unnamed) =
            self.windows.covered.overlaps(|partition| matches!(self.known(partition), Known::State { anew: true, .. }));
        overlaps.for_each(|violation| found.add(violation.clone()));
        found.add_unnamed(Kind::WindowsOverlap, unnamed);
    }

    fn state_missing(&self, index: i32, input: &Partition) -> Violation {
        let source = format!("{}/{index}", self.names.of(Role::Input));
        let words = format!(
            "{source} has offset {} committed without a readable state, though records below were written: what was counted of \
             them is lost; or the offset was set by hand or by `kafka.start` of a new group: then verify again once the engine has \
             gone on from there",
            number(input.range().end)
        );
        Violation { kind: Kind::StateMissing, records: 1, at: None, source: Some(source), words }
    }

    fn notes(&self) -> Vec<String> {
        let name = |index: i32| format!("{}/{index}", self.names.of(Role::Input));
        let mut notes = Vec::new();
        for (index, input) in &self.inputs {
            if let Some(reason) = &input.cut.no_state {
                let judged = match input.begins_here() {
                    true => "nothing was written of it either, so nothing before that offset is judged".to_owned(),
                    false => format!("judged from {} on, without counts", number(input.from)),
                };
                notes.push(format!("{} has an offset without a readable state ({reason}): {judged}", name(*index)));
            }
            if input.began_anew() {
                notes.push(format!(
                    "{} is counted from offset {} on, and records below were written: its offset was reset, or its state was lost; \
                     nothing below is judged",
                    name(*index),
                    number(input.from)
                ));
            }
            if input.expired() > 0 {
                notes.push(format!(
                    "{} offsets of {} are no longer there and can't be missed",
                    number(input.expired()),
                    name(*index)
                ));
            }
        }
        if !self.untold.is_empty() {
            let topics: Vec<&str> = self.untold.iter().map(|role| self.names.of(*role)).collect();
            notes.push(format!(
                "the cluster does not tell the settings of {}, so what compaction removed there would not be noticed: grant this \
                 client DESCRIBE_CONFIGS on them",
                topics.join(", ")
            ));
        }
        if self.nameless {
            notes.push(
                "states do not have the id of the input topic: the cluster gave it none, or did not answer when it was asked; \
                 offsets of a topic that was deleted and created anew would not be noticed"
                    .into(),
            );
        }
        notes
    }

    fn settle(&mut self) {
        let inputs = &self.inputs;
        let wrong = self.windows.settle(|partition| known(inputs, partition));
        wrong.into_iter().for_each(|violation| self.found.add(violation));
    }

    fn known(&self, partition: i32) -> Known<'_> {
        known(&self.inputs, partition)
    }

    fn place(&self, role: Role, partition: i32, offset: i64) -> Place {
        Place { topic: self.names.of(role).to_owned(), partition, offset }
    }

    fn source(&self, partition: i32, offset: u64) -> String {
        format!("{}/{partition}/{offset}", self.names.of(Role::Input))
    }
}

/// What the cut says of a partition.
fn known(inputs: &BTreeMap<i32, Partition>, partition: i32) -> Known<'_> {
    let Some(input) = inputs.get(&partition) else { return Known::Absent };
    match &input.cut {
        Cut { state: Some(state), .. } => Known::State { state, anew: input.began_anew() },
        Cut { committed: Some(_), state: None, .. } => Known::Stateless,
        Cut { .. } => Known::Nothing,
    }
}

/// What is wrong with a record, in words that follow its name.
type Wrong = (Kind, String);

/// What is wrong with the headers, where `brought` says that the input record may have had some of the same names.
fn check_marks(marks: &Marks, brought: bool) -> Option<Wrong> {
    match marks {
        Marks { rulesets: 0, .. } => Some((Kind::NoRuleset, "has no header weir-ruleset".into())),
        _ if brought => None,
        Marks { rulesets: 2.., .. } => Some((Kind::SeveralRulesets, format!("has {} headers weir-ruleset", marks.rulesets))),
        Marks { sources: 2.., .. } => Some((Kind::SeveralSources, format!("has {} headers weir-source", marks.sources))),
        _ => None,
    }
}

/// Topic, partition and offset of `topic/partition/offset`.
fn split(source: &str) -> Option<(&str, i32, u64)> {
    let (rest, offset) = source.rsplit_once('/')?;
    let (topic, partition) = rest.rsplit_once('/')?;
    Some((topic, partition.parse().ok()?, offset.parse().ok()?))
}

/// A header from others, such that it harms no terminal.
fn shown(header: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(header).chars().take(SHOWN).collect();
    format!("`{}`", text.escape_debug())
}

fn tally(rulesets: &mut BTreeMap<String, u64>, marks: &Marks) {
    if marks.rulesets == 0 {
        return;
    }
    let hash = &marks.ruleset;
    // Most records have the same hash: no text is made for it again.
    if let Some(count) = std::str::from_utf8(hash).ok().and_then(|hash| rulesets.get_mut(hash)) {
        *count += 1;
        return;
    }
    let hash: String = String::from_utf8_lossy(hash).chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if rulesets.len() < MAX_RULESETS || rulesets.contains_key(&hash) {
        *rulesets.entry(hash).or_default() += 1;
    }
}

fn judged(partition: i32, input: &Partition) -> Judged {
    let range = input.range();
    Judged {
        partition,
        from: range.start,
        committed: input.cut.committed,
        records: input.judged(&input.seen),
        outputs: input.judged(&input.done[0]),
        dead_letters: input.judged(&input.done[1]),
        waiting: input.waiting(),
        state: input.cut.state.is_some(),
    }
}

#[cfg(test)]
mod tests;
