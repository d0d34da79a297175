//! The violations: their kinds, the proofs that they break, and a list of them. The list stays small however many violations
//! there are.

use std::collections::BTreeMap;
use weir_core::position::Position;

use serde::Serialize;

/// The most violations of one kind that are kept in words. Further ones are only counted: so many examples are enough.
pub const MAX_KEPT: usize = 1_000;

/// One of the four topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Input,
    Outputs,
    DeadLetters,
    Counts,
}

/// All roles, in the order in which the topics are read.
pub const ROLES: [Role; 4] = [Role::Input, Role::Outputs, Role::DeadLetters, Role::Counts];

/// The names of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames(pub [String; 4]);

impl TopicNames {
    /// Returns the name of the topic with this role.
    pub fn of(&self, role: Role) -> &str {
        &self.0[role as usize]
    }

    /// Returns the position of a record in the topic with this role.
    pub fn position(&self, role: Role, partition: i32, offset: u64) -> Position {
        Position { topic: self.of(role).into(), partition, offset }
    }
}

/// The kind of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationKind {
    /// An input record has neither an output nor a dead letter.
    Lost,
    /// The group has committed an offset past the end of the input.
    PastTheEnd,
    /// An input record has two outputs, or two dead letters.
    Twice,
    /// An input record has an output and a dead letter.
    InBoth,
    /// An output stands behind the output of a later input record.
    OutOfOrder,
    /// A record does not name its input record, or not legibly.
    NoSource,
    /// A record names more than one input record.
    SeveralSources,
    /// A record names an input record that does not exist.
    NoInput,
    /// A record does not name the rule set that processed it.
    NoRuleset,
    /// A record names more than one rule set.
    SeveralRulesets,
    /// A partition has no state, though outputs or dead letters of records before its offset exist.
    StateMissing,
    /// The state of a partition counts more or less than there are outputs.
    CountsDiffer,
    /// The windows add up to more or less than there are outputs.
    WindowsDiffer,
    /// The windows of a type add up to more or less than the states have.
    TypesDiffer,
    /// A running total differs from what was counted until then.
    TotalsDiffer,
    /// Two windows of one partition overlap.
    WindowsOverlap,
    /// At the cut, some partitions of a window have moved on to a later window, and others have not.
    WindowMixed,
    /// A window covers a partition that the input does not have.
    NoPartition,
    /// A record of the counts topic is no counts message.
    UnreadableCounts,
}

/// A claim that the command proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    NoneLost,
    NoneTwice,
    InOrder,
    OfTheInput,
    OneRuleset,
    CountsAddUp,
}

/// All proofs, in the order in which they are reported.
pub const PROOFS: [Proof; 6] =
    [Proof::NoneLost, Proof::NoneTwice, Proof::InOrder, Proof::OfTheInput, Proof::OneRuleset, Proof::CountsAddUp];

impl ViolationKind {
    /// Returns the proof that a violation of this kind breaks.
    pub fn proof(self) -> Proof {
        match self {
            ViolationKind::Lost | ViolationKind::PastTheEnd => Proof::NoneLost,
            ViolationKind::Twice | ViolationKind::InBoth => Proof::NoneTwice,
            ViolationKind::OutOfOrder => Proof::InOrder,
            ViolationKind::NoSource | ViolationKind::SeveralSources | ViolationKind::NoInput => Proof::OfTheInput,
            ViolationKind::NoRuleset | ViolationKind::SeveralRulesets => Proof::OneRuleset,
            ViolationKind::StateMissing
            | ViolationKind::CountsDiffer
            | ViolationKind::WindowsDiffer
            | ViolationKind::TypesDiffer
            | ViolationKind::TotalsDiffer
            | ViolationKind::WindowsOverlap
            | ViolationKind::WindowMixed
            | ViolationKind::NoPartition
            | ViolationKind::UnreadableCounts => Proof::CountsAddUp,
        }
    }
}

/// One violation, or several of a kind in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub kind: ViolationKind,
    /// The number of records that the violation is about.
    pub records: u64,
    /// The position of the offending record. None if a record is missing.
    pub at: Option<Position>,
    /// The input record, or the range of input records: `user-login/0/17..=29`.
    pub source: Option<String>,
    /// The whole violation in words.
    pub words: String,
}

/// The violations that were found so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: BTreeMap<ViolationKind, Vec<Violation>>,
    counts: BTreeMap<ViolationKind, u64>,
}

impl Findings {
    /// Adds a violation.
    pub fn add(&mut self, violation: Violation) {
        *self.counts.entry(violation.kind).or_default() += violation.records;
        let kept = self.kept.entry(violation.kind).or_default();
        if kept.len() < MAX_KEPT {
            kept.push(violation);
        }
    }

    /// Returns the violations that were kept, kind by kind.
    pub fn into_kept(self) -> Vec<Violation> {
        self.kept.into_values().flatten().collect()
    }

    /// Counts `records` that there is no room to name.
    pub fn add_unnamed(&mut self, kind: ViolationKind, records: u64) {
        if records > 0 {
            *self.counts.entry(kind).or_default() += records;
        }
    }

    /// Returns whether there is room for more violations of `kind` in words.
    pub fn has_room(&self, kind: ViolationKind) -> bool {
        self.kept.get(&kind).is_none_or(|kept| kept.len() < MAX_KEPT)
    }

    /// Returns the number of violations of one proof.
    pub fn of(&self, proof: Proof) -> u64 {
        self.counts.iter().filter(|(kind, _)| kind.proof() == proof).map(|(_, count)| count).sum()
    }

    /// Returns the number of all violations.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_keep_is_counted() {
        let mut found = Findings::default();
        for offset in 0..MAX_KEPT as u64 + 5 {
            let at = Position { topic: "out".into(), partition: 0, offset };
            found.add(Violation { kind: ViolationKind::Twice, records: 1, words: at.to_string(), at: Some(at), source: None });
        }
        found.add_unnamed(ViolationKind::Lost, 7);
        assert!(found.has_room(ViolationKind::Lost) && !found.has_room(ViolationKind::Twice));
        assert_eq!((found.of(Proof::NoneTwice), found.of(Proof::NoneLost)), (MAX_KEPT as u64 + 5, 7));
        assert_eq!((found.total(), found.into_kept().len()), (MAX_KEPT as u64 + 12, MAX_KEPT));
    }
}
