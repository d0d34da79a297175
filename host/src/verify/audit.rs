//! The check of the records: takes them one by one, and returns at a cut whether they are right. Pure: no client, no clock.
//!
//! The caller names the cut first ([`Audit::cut`]). It then hands in the input up to its end, and only then outputs, dead letters
//! and counts, so that every input record that one of these may name is known. The input offsets that are checked, or *judged*,
//! at a cut begin with the first that the state counts and end before the committed one. Records past the cut are only
//! remembered: the next cut, if there is one, judges them. There is one exception: duplicates and records out of order are
//! reported past the cut as well, because later records can't put them right.
//!
//! Memory: four bitmaps for each input partition ([`super::partition`]), of which three have many records, and a copy of one
//! while the partition is judged; an entry of some 60 bytes for each pair of input and output partition; at most
//! [`MAX_KEPT`](super::violation::MAX_KEPT) violations of each kind in words. The offsets of an input are dense. A bitmap takes
//! at most two bits a record, which it does if every record has a marker of its transaction beside it. For 100 million records
//! that is 25 MB, and 100 MB for the three bitmaps with the copy, whatever the records are. It is half of that if batches are
//! larger. A test measures it.

mod left_out;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use roaring::RoaringTreemap;

use super::partition::{InputPartition, PartitionCut};
use super::report::{AuditVerdict, Audited, ProofOutcome, Read, Unsure, amount};
use super::violation::{Findings, PROOFS, Proof, ROLES, Role, TopicNames, Violation, ViolationKind};
use super::window::Knowledge;
use super::windows::Windows;
use crate::view::number;
use weir_core::position::Position;
use weir_core::printable::{escape_value, excerpt};
use weir_core::state::State;
use weir_kafka::reader::WeirHeaders;

/// The most hashes of rule sets that are counted one by one.
const MAX_RULESETS: usize = 1_000;
/// The longest part of a foreign header that a message repeats, in characters.
const SHOWN: usize = 80;

/// The outputs, or the dead letters, of one input partition in one partition of their topic.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// The lowest input offset that was seen.
    first: u64,
    /// The highest input offset of the records so far that are judged.
    last: Option<u64>,
}

/// The sums over all partitions that the counts are compared with.
#[derive(Default)]
struct Sums {
    outputs: u64,
    /// The records that were counted in open windows.
    open: u64,
    /// By type, the counts of the states: in all, and in open windows.
    types: BTreeMap<String, (u64, u64)>,
    /// The number of partitions whose outputs are not all there, or not for certain.
    incomplete: usize,
    /// The number of partitions whose outputs are all there.
    complete: usize,
    /// True if a partition has lost its state.
    stateless: bool,
    /// True if a partition has a state that leaves out records with earlier outputs or dead letters.
    began_anew: bool,
}

/// The facts that were read, and the violations in them.
#[derive(Clone, Debug)]
pub struct Audit {
    names: TopicNames,
    /// True if a rule drops the records that it rejects.
    drops: bool,
    inputs: BTreeMap<i32, InputPartition>,
    lanes: BTreeMap<(Role, i32, i32), Lane>,
    /// The first offset that still exists, for the partitions of the other topics.
    lows: BTreeMap<(Role, i32), u64>,
    compacted: Vec<Role>,
    /// The topics whose settings the cluster does not tell.
    untold: Vec<Role>,
    /// True if there are states that do not say which topic they belong to.
    nameless: bool,
    windows: Windows,
    rulesets: BTreeMap<String, u64>,
    read: [u64; 4],
    found: Findings,
}

impl Audit {
    /// Returns an audit that has read nothing. `drops` says whether a rule drops the records that it rejects. `compacted` are the
    /// topics that lose records of old keys.
    pub fn new(names: TopicNames, drops: bool, compacted: Vec<Role>) -> Audit {
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
            found: Findings::default(),
        }
    }

    /// Takes a cut, with an entry for each input partition.
    pub fn cut(&mut self, cuts: Vec<PartitionCut>) {
        for cut in cuts {
            let input = self.inputs.entry(cut.partition).or_default();
            input.cut = cut;
        }
    }

    /// Takes the topics whose settings the cluster does not tell. They are treated as topics that are not compacted.
    pub fn untold(&mut self, roles: Vec<Role>) {
        self.untold = roles;
    }

    /// Takes whether there are states that do not say which topic they belong to.
    pub fn nameless(&mut self, nameless: bool) {
        self.nameless = nameless;
    }

    /// Takes the offsets `there` that an input partition has. To be called before its records are handed in, and again
    /// afterwards, because the oldest records may have expired meanwhile.
    pub fn input_range(&mut self, partition: i32, there: Range<i64>) {
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

    /// Takes the first offset that a partition of another topic still has.
    pub fn low(&mut self, role: Role, partition: i32, low: i64) {
        self.lows.insert((role, partition), low.max(0) as u64);
    }

    /// Takes a record of the input.
    pub fn input(&mut self, partition: i32, offset: i64, headers: &WeirHeaders) {
        self.read[Role::Input as usize] += 1;
        let input = self.inputs.entry(partition).or_default();
        input.seen.insert(offset as u64);
        if headers.sources > 0 || headers.rulesets > 0 {
            input.marked.insert(offset as u64);
        }
    }

    /// Takes a record of the counts topic.
    pub fn counts(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        self.read[Role::Counts as usize] += 1;
        if let Err(violation) = self.windows.take(self.names.position(Role::Counts, partition, offset as u64), value) {
            self.found.add(violation);
        }
        if self.windows.due() {
            self.settle();
        }
    }

    /// Takes an output or a dead letter.
    pub fn written(&mut self, role: Role, partition: i32, offset: i64, headers: &WeirHeaders) {
        self.read[role as usize] += 1;
        let (origin, wrongs) = match self.origin(headers) {
            Ok(origin) => (Some(origin), self.audit_written(role, partition, origin, headers)),
            Err(wrong) => (None, vec![wrong]),
        };
        for (kind, words) in wrongs {
            let at = self.names.position(role, partition, offset as u64);
            let source = origin.map(|(index, source)| self.source(index, source));
            self.found.add(Violation { kind, records: 1, words: format!("{at} {words}"), at: Some(at), source });
        }
    }

    fn audit_written(&mut self, role: Role, partition: i32, (index, source): (i32, u64), headers: &WeirHeaders) -> Vec<Wrong> {
        let name = || self.names.position(Role::Input, index, source);
        let Some(input) = self.inputs.get_mut(&index) else {
            return vec![(ViolationKind::NoInput, format!("is of {}, and the input has no such partition", name()))];
        };
        if source >= input.end {
            return vec![(ViolationKind::NoInput, format!("is of {}, and the input ends at {}", name(), input.end))];
        }
        input.first = Some(input.first.map_or(source, |first| first.min(source)));
        let lane = self.lanes.entry((role, partition, index)).or_insert(Lane { first: source, last: None });
        lane.first = lane.first.min(source);
        if source < input.from {
            return Vec::new();
        }
        let known = input.seen.contains(source);
        if !known && source >= input.low && !self.compacted.contains(&Role::Input) {
            return vec![(ViolationKind::NoInput, format!("is of {}, where the input has no record", name()))];
        }
        // Dead letters keep the headers of their input records.
        let brought = role == Role::DeadLetters && (!known || input.marked.contains(source));
        let mut wrong: Vec<Wrong> =
            check_headers(headers, brought).map(|(kind, words)| (kind, format!("of {} {words}", name()))).into_iter().collect();
        tally(&mut self.rulesets, headers);
        let (own, other, what) = if role == Role::Outputs { (0, 1, "output") } else { (1, 0, "dead letter") };
        if !input.done[own].insert(source) {
            wrong.push((ViolationKind::Twice, format!("is another {what} of {}", name())));
            return wrong;
        }
        if let Some(before) = lane.last.filter(|last| *last > source) {
            wrong.push((ViolationKind::OutOfOrder, format!("is of {} and stands behind one of offset {before}", name())));
        }
        lane.last = lane.last.max(Some(source));
        if input.done[other].contains(source) {
            wrong.push((ViolationKind::InBoth, format!("is a {what} of {}, which has become the other too", name())));
        }
        wrong
    }

    /// Returns the partition and the offset of the input record that `headers` name.
    fn origin(&self, headers: &WeirHeaders) -> Result<(i32, u64), Wrong> {
        if headers.sources == 0 {
            return Err((ViolationKind::NoSource, "has no header weir-source".into()));
        }
        match std::str::from_utf8(&headers.source).ok().and_then(Position::split) {
            Some((topic, partition, offset)) if topic == self.names.of(Role::Input) => Ok((partition, offset)),
            Some(_) => Err((ViolationKind::NoInput, format!("is of a record of another topic: {}", shown(&headers.source)))),
            None => Err((
                ViolationKind::NoSource,
                format!("has a header weir-source that names no record: {}", shown(&headers.source)),
            )),
        }
    }

    /// Judges all records that were read, at the latest cut.
    pub fn verdict(&mut self) -> AuditVerdict {
        self.settle();
        self.inputs.values_mut().for_each(InputPartition::optimize);
        let mut found = self.found.clone();
        let mut notes = self.notes();
        let (mut unsure, mut partitions) = (Unsure::default(), Vec::new());
        for (index, input) in &self.inputs {
            self.judge_losses(*index, input, &mut unsure, &mut found, &mut notes);
            partitions.push(audited(*index, input));
        }
        let mut of_counts = Vec::new();
        let counted = self.audit_counts(&mut found, &mut notes, &mut of_counts);
        let of_counts = if counted.is_ok() { of_counts } else { vec!["counts".into()] };
        let outcome = |proof: Proof| match found.of(proof) {
            0 if proof == Proof::CountsAddUp && counted.is_err() => ProofOutcome::NotAudited,
            0 => ProofOutcome::Holds,
            violations => ProofOutcome::Violated(violations),
        };
        AuditVerdict {
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

    fn judge_losses(
        &self,
        index: i32,
        input: &InputPartition,
        unsure: &mut Unsure,
        found: &mut Findings,
        notes: &mut Vec<String>,
    ) {
        let (name, range) = (format!("{}/{index}", self.names.of(Role::Input)), input.range());
        if let Some(committed) = input.cut.committed.filter(|committed| *committed > input.end as i64) {
            let words = format!(
                "{name} ends at {}, and the group has committed {committed}: the topic was created anew or cut short",
                input.end
            );
            found.add(Violation { kind: ViolationKind::PastTheEnd, records: 1, at: None, source: Some(name.clone()), words });
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

    fn name_lost(&self, index: i32, input: &InputPartition, missing: &RoaringTreemap, found: &mut Findings) {
        let mut left = missing.len();
        for (first, last, records) in input.ranges(missing) {
            if !found.has_room(ViolationKind::Lost) {
                break;
            }
            let range = if first == last { String::new() } else { format!("..={last}") };
            let source = self.source(index, first) + &range;
            let words = match records {
                1 => format!("{source} became neither output nor dead letter"),
                _ => format!("{source}: {} records became neither output nor dead letter", number(records)),
            };
            found.add(Violation { kind: ViolationKind::Lost, records, at: None, source: Some(source), words });
            left -= records;
        }
        found.add_unnamed(ViolationKind::Lost, left);
    }

    /// Returns the offset of an input partition below which its outputs or dead letters may have expired. None if none may have.
    fn floor(&self, index: i32) -> Option<u64> {
        [Role::Outputs, Role::DeadLetters].into_iter().filter_map(|role| self.floor_of(role, index)).max()
    }

    fn floor_of(&self, role: Role, index: i32) -> Option<u64> {
        if self.compacted.contains(&role) {
            return Some(u64::MAX);
        }
        let partitions = self.lows.range((role, i32::MIN)..=(role, i32::MAX));
        // If both topics have the same number of partitions, an output has the same partition number as its input record.
        let same = partitions.clone().count() == self.inputs.len();
        let shortened = partitions.filter(|((_, partition), low)| **low > 0 && (!same || *partition == index));
        shortened.map(|((_, partition), _)| self.lanes.get(&(role, *partition, index)).map_or(u64::MAX, |lane| lane.first)).max()
    }

    /// Checks the counts. Returns in words what they were compared with, or else the reason why they were not compared.
    fn audit_counts(
        &self,
        found: &mut Findings,
        notes: &mut Vec<String>,
        not_judged: &mut Vec<String>,
    ) -> Result<String, String> {
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

    /// Compares the state of a partition with its outputs.
    fn judge_state(&self, index: i32, input: &InputPartition, state: &State, sums: &mut Sums, found: &mut Findings) {
        let (seen, total, range) = (input.audited(&input.done[0]), state.total(), input.range());
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
            found.add(Violation { kind: ViolationKind::CountsDiffer, records: 1, at: None, source: Some(source), words });
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

    /// Compares the windows with the outputs.
    fn judge_windows(&self, sums: &Sums, found: &mut Findings) -> Result<String, String> {
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
            found.add(Violation { kind: ViolationKind::WindowsDiffer, records: 1, at: None, source: None, words });
        }
        self.judge_types(sums, found);
        self.windows.totals.violations(&|partition| self.known(partition)).into_iter().for_each(|violation| found.add(violation));
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

    /// Compares the windows of each type with the states.
    fn judge_types(&self, sums: &Sums, found: &mut Findings) {
        let sent = &self.windows.sums;
        let names: BTreeSet<&str> = sent.keys().map(|name| &**name).chain(sums.types.keys().map(String::as_str)).collect();
        for name in names {
            let (total, open) = sums.types.get(name).copied().unwrap_or_default();
            let sent = sent.get(name).copied().unwrap_or_default();
            let counted = sent.saturating_add(open);
            if counted < total || counted > total && !sums.began_anew {
                let words = format!(
                    "of type `{}` {} in windows that were sent and {} in open ones were counted, and the states have {}",
                    escape_value(name),
                    number(sent),
                    number(open),
                    number(total)
                );
                found.add(Violation { kind: ViolationKind::TypesDiffer, records: 1, at: None, source: None, words });
            }
        }
    }

    fn judge_overlaps(&self, found: &mut Findings) {
        let (overlaps, unnamed) =
            self.windows.covered.overlaps(|partition| matches!(self.known(partition), Knowledge::State { anew: true, .. }));
        overlaps.for_each(|violation| found.add(violation.clone()));
        found.add_unnamed(ViolationKind::WindowsOverlap, unnamed);
    }

    fn state_missing(&self, index: i32, input: &InputPartition) -> Violation {
        let source = format!("{}/{index}", self.names.of(Role::Input));
        let words = format!(
            "{source} has offset {} committed without a readable state, though records below were written: what was counted of \
             them is lost; or the offset was set by hand or by `kafka.start` of a new group: then verify again once the engine has \
             gone on from there",
            number(input.range().end)
        );
        Violation { kind: ViolationKind::StateMissing, records: 1, at: None, source: Some(source), words }
    }

    fn notes(&self) -> Vec<String> {
        let name = |index: i32| format!("{}/{index}", self.names.of(Role::Input));
        let mut notes = Vec::new();
        for (index, input) in &self.inputs {
            if let Some(reason) = &input.cut.no_state {
                let audited = match input.begins_here() {
                    true => "nothing was written of it either, so nothing before that offset is judged".to_owned(),
                    false => format!("judged from {} on, without counts", number(input.from)),
                };
                notes.push(format!("{} has an offset without a readable state ({reason}): {audited}", name(*index)));
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

    fn known(&self, partition: i32) -> Knowledge<'_> {
        known(&self.inputs, partition)
    }

    fn source(&self, partition: i32, offset: u64) -> String {
        self.names.position(Role::Input, partition, offset).to_string()
    }
}

/// Returns the knowledge that the cut gives of a partition.
fn known(inputs: &BTreeMap<i32, InputPartition>, partition: i32) -> Knowledge<'_> {
    let Some(input) = inputs.get(&partition) else { return Knowledge::Absent };
    match &input.cut {
        PartitionCut { state: Some(state), .. } => Knowledge::State { state, anew: input.began_anew() },
        PartitionCut { committed: Some(_), state: None, .. } => Knowledge::Stateless,
        PartitionCut { .. } => Knowledge::Nothing,
    }
}

/// A violation of one record, in words that follow the position of the record.
type Wrong = (ViolationKind, String);

/// Returns the violation of the headers, if any. `brought` says that the input record may have had headers of the same names.
fn check_headers(headers: &WeirHeaders, brought: bool) -> Option<Wrong> {
    match headers {
        WeirHeaders { rulesets: 0, .. } => Some((ViolationKind::NoRuleset, "has no header weir-ruleset".into())),
        _ if brought => None,
        WeirHeaders { rulesets: 2.., .. } => {
            Some((ViolationKind::SeveralRulesets, format!("has {} headers weir-ruleset", headers.rulesets)))
        }
        WeirHeaders { sources: 2.., .. } => {
            Some((ViolationKind::SeveralSources, format!("has {} headers weir-source", headers.sources)))
        }
        _ => None,
    }
}

/// Returns the text of a foreign header in a form that can't harm a terminal.
fn shown(header: &[u8]) -> String {
    format!("`{}`", excerpt(header, SHOWN))
}

fn tally(rulesets: &mut BTreeMap<String, u64>, headers: &WeirHeaders) {
    if headers.rulesets == 0 {
        return;
    }
    let hash = &headers.ruleset;
    // Most records have a known hash: for these, no new text is allocated.
    if let Some(count) = std::str::from_utf8(hash).ok().and_then(|hash| rulesets.get_mut(hash)) {
        *count += 1;
        return;
    }
    let hash = excerpt(hash, SHOWN);
    if rulesets.len() < MAX_RULESETS || rulesets.contains_key(&hash) {
        *rulesets.entry(hash).or_default() += 1;
    }
}

fn audited(partition: i32, input: &InputPartition) -> Audited {
    let range = input.range();
    Audited {
        partition,
        from: range.start,
        committed: input.cut.committed,
        records: input.audited(&input.seen),
        outputs: input.audited(&input.done[0]),
        dead_letters: input.audited(&input.done[1]),
        waiting: input.waiting(),
        state: input.cut.state.is_some(),
    }
}

#[cfg(test)]
mod tests;
