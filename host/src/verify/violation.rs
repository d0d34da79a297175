//! The violations: their kinds, the proofs that they break, and a list of them. The list stays small however many violations
//! there are.

use std::collections::BTreeMap;
use std::fmt;

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
pub struct Names(pub [String; 4]);

impl Names {
    /// Returns the name of the topic with this role.
    pub fn of(&self, role: Role) -> &str {
        &self.0[role as usize]
    }
}

/// The position of a record: `topic/partition/offset`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { topic, partition, offset } = self;
        write!(out, "{topic}/{partition}/{offset}")
    }
}

/// The kind of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
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

impl Kind {
    /// Returns the proof that a violation of this kind breaks.
    pub fn proof(self) -> Proof {
        match self {
            Kind::Lost | Kind::PastTheEnd => Proof::NoneLost,
            Kind::Twice | Kind::InBoth => Proof::NoneTwice,
            Kind::OutOfOrder => Proof::InOrder,
            Kind::NoSource | Kind::SeveralSources | Kind::NoInput => Proof::OfTheInput,
            Kind::NoRuleset | Kind::SeveralRulesets => Proof::OneRuleset,
            Kind::StateMissing
            | Kind::CountsDiffer
            | Kind::WindowsDiffer
            | Kind::TypesDiffer
            | Kind::TotalsDiffer
            | Kind::WindowsOverlap
            | Kind::WindowMixed
            | Kind::NoPartition
            | Kind::UnreadableCounts => Proof::CountsAddUp,
        }
    }
}

/// One violation, or several of a kind in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub kind: Kind,
    /// The number of records that the violation is about.
    pub records: u64,
    /// The position of the offending record. None if a record is missing.
    pub at: Option<Place>,
    /// The input record, or the range of input records: `user-login/0/17..=29`.
    pub source: Option<String>,
    /// The whole violation in words.
    pub words: String,
}

/// The violations that were found so far.
#[derive(Clone, Debug, Default)]
pub struct Found {
    kept: BTreeMap<Kind, Vec<Violation>>,
    counts: BTreeMap<Kind, u64>,
}

impl Found {
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
    pub fn add_unnamed(&mut self, kind: Kind, records: u64) {
        if records > 0 {
            *self.counts.entry(kind).or_default() += records;
        }
    }

    /// Returns whether there is room for more violations of `kind` in words.
    pub fn has_room(&self, kind: Kind) -> bool {
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
        let mut found = Found::default();
        for offset in 0..MAX_KEPT as i64 + 5 {
            let at = Place { topic: "out".into(), partition: 0, offset };
            found.add(Violation { kind: Kind::Twice, records: 1, words: at.to_string(), at: Some(at), source: None });
        }
        found.add_unnamed(Kind::Lost, 7);
        assert!(found.has_room(Kind::Lost) && !found.has_room(Kind::Twice));
        assert_eq!((found.of(Proof::NoneTwice), found.of(Proof::NoneLost)), (MAX_KEPT as u64 + 5, 7));
        assert_eq!((found.total(), found.into_kept().len()), (MAX_KEPT as u64 + 12, MAX_KEPT));
    }
}
