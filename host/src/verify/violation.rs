//! What may be found wrong: the kinds, the proofs that they break, and a list that stays small however much is wrong.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// How many violations of a kind are kept in words. The rest is counted: whoever has so many needs no more examples.
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

/// All of them, in the order in which they are read.
pub const ROLES: [Role; 4] = [Role::Input, Role::Outputs, Role::DeadLetters, Role::Counts];

/// The names of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub [String; 4]);

impl Names {
    /// The name of the topic with this role.
    pub fn of(&self, role: Role) -> &str {
        &self.0[role as usize]
    }
}

/// A record: `topic/partition/offset`.
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

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An input record became nothing.
    Lost,
    /// The group has done more than the input has.
    PastTheEnd,
    /// An input record became two outputs, or two dead letters.
    Twice,
    /// An input record became an output and a dead letter.
    InBoth,
    /// An output stands behind one of a later input record.
    OutOfOrder,
    /// It does not say which input record it is of, or not legibly.
    NoSource,
    /// It names more than one input record.
    SeveralSources,
    /// It names an input record that there is not.
    NoInput,
    /// It does not say by which rules it was judged.
    NoRuleset,
    /// It names more than one set of rules.
    SeveralRulesets,
    /// A partition has no state, though something was written of records before its offset.
    StateMissing,
    /// The state of a partition counts more or less than there are outputs.
    CountsDiffer,
    /// The windows add up to more or less than there are outputs.
    WindowsDiffer,
    /// The windows of a type add up to more or less than the states have.
    TypesDiffer,
    /// Running totals are not what was counted until then.
    TotalsDiffer,
    /// A partition is in two windows at a time.
    WindowsOverlap,
    /// A window was sent with some of its partitions and without others.
    WindowMixed,
    /// A window covers a partition that the input does not have.
    NoPartition,
    /// A message on the counts topic that is none of counts.
    UnreadableCounts,
}

/// What is proven.
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

/// All of them, in the order in which they are told.
pub const PROOFS: [Proof; 6] =
    [Proof::NoneLost, Proof::NoneTwice, Proof::InOrder, Proof::OfTheInput, Proof::OneRuleset, Proof::CountsAddUp];

impl Kind {
    /// The proof that fails.
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

/// One thing that is wrong, or several of a kind in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub kind: Kind,
    /// How many records it is about.
    pub records: u64,
    /// The offending record; none where something is missing.
    pub at: Option<Place>,
    /// The input record, or the range of them: `user-login/0/17..=29`.
    pub source: Option<String>,
    /// All of it in words.
    pub words: String,
}

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub struct Found {
    kept: BTreeMap<Kind, Vec<Violation>>,
    counts: BTreeMap<Kind, u64>,
}

impl Found {
    /// Notes a violation.
    pub fn add(&mut self, violation: Violation) {
        *self.counts.entry(violation.kind).or_default() += violation.records;
        let kept = self.kept.entry(violation.kind).or_default();
        if kept.len() < MAX_KEPT {
            kept.push(violation);
        }
    }

    /// Those that were kept, kind by kind.
    pub fn into_kept(self) -> Vec<Violation> {
        self.kept.into_values().flatten().collect()
    }

    /// Counts `records` that there is no room to name.
    pub fn add_unnamed(&mut self, kind: Kind, records: u64) {
        if records > 0 {
            *self.counts.entry(kind).or_default() += records;
        }
    }

    /// Whether there is room for more words about `kind`.
    pub fn has_room(&self, kind: Kind) -> bool {
        self.kept.get(&kind).is_none_or(|kept| kept.len() < MAX_KEPT)
    }

    /// How many violations of one proof there are.
    pub fn of(&self, proof: Proof) -> u64 {
        self.counts.iter().filter(|(kind, _)| kind.proof() == proof).map(|(_, count)| count).sum()
    }

    /// How many violations there are.
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
