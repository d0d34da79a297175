//! The verdict: as data, in words for the operator, and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::violation::{Proof, Violation};
use crate::view::number;

/// The most violations of one kind that are listed in words. `--json` has all that were kept.
const LISTED: usize = 10;

/// The verdict on a system at one cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditVerdict {
    /// The number of all violations, including those that were not kept.
    pub violations: u64,
    pub proofs: BTreeMap<Proof, ProofOutcome>,
    pub read: Vec<Read>,
    pub partitions: Vec<Audited>,
    #[serde(flatten)]
    pub unsure: Unsure,
    /// True if outputs or dead letters may have expired or been compacted. Violations that they would have shown are then not
    /// found.
    pub gone: bool,
    /// In words, what the counts were compared with, or the reason why they were not compared.
    pub counted: String,
    /// The parts that were not judged, in a few words each, whether or not the rest holds. The notes give the reasons.
    pub not_judged: Vec<String>,
    /// The number of outputs and dead letters that each rule set has produced, by its hash.
    pub rulesets: BTreeMap<String, u64>,
    pub notes: Vec<String>,
    pub found: Vec<Violation>,
}

/// The result of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofOutcome {
    Holds,
    Violated(u64),
    /// There was nothing to compare with; the notes or [`AuditVerdict::counted`] give the reason.
    NotAudited,
}

/// The number of records of a topic that were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Read {
    pub topic: String,
    pub records: u64,
}

/// The part of an input partition that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audited {
    pub partition: i32,
    /// The first offset that is judged.
    pub from: u64,
    /// The first offset after it that is not judged. None if the group has committed nothing.
    pub committed: Option<i64>,
    pub records: u64,
    pub outputs: u64,
    pub dead_letters: u64,
    /// Records that wait past the cut.
    pub waiting: u64,
    /// True if there is a state that the counts can be compared with.
    pub state: bool,
}

/// The numbers of input records that are known neither to be done nor to be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unsure {
    /// The records that a rule may have dropped: dropping rejected records leaves no trace, so it looks like a loss.
    pub dropped_or_lost: u64,
    /// The records whose outputs or dead letters may have expired or been compacted.
    pub unjudged: u64,
}

impl AuditVerdict {
    /// Returns whether there is no violation.
    pub fn holds(&self) -> bool {
        self.violations == 0
    }

    /// Returns the number of records that were judged.
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.records).sum()
    }

    /// Adds the violations of earlier cuts.
    pub(super) fn recall(&mut self, earlier: impl Iterator<Item = Violation>) {
        for mut violation in earlier {
            self.violations += violation.records;
            let outcome = self.proofs.entry(violation.kind.proof()).or_insert(ProofOutcome::Holds);
            *outcome = match *outcome {
                ProofOutcome::Violated(times) => ProofOutcome::Violated(times + violation.records),
                ProofOutcome::Holds | ProofOutcome::NotAudited => ProofOutcome::Violated(violation.records),
            };
            violation.words += " (at an earlier cut)";
            self.found.push(violation);
        }
    }

    /// Returns the verdict in one line.
    pub fn line(&self) -> String {
        let left_out =
            if self.not_judged.is_empty() { String::new() } else { format!("; not judged: {}", self.not_judged.join(", ")) };
        if !self.holds() {
            return format!("NOT verified: {}{left_out}", amount(self.violations, "violation"));
        }
        let claim = match self.unsure {
            _ if self.gone => "none twice, in order, of what is still there",
            Unsure { dropped_or_lost: 0, .. } => "each exactly once, in order",
            Unsure { .. } => "none twice, in order",
        };
        let counts = match self.proofs.get(&Proof::CountsAddUp) {
            Some(ProofOutcome::Holds) => "; counts add up",
            _ => "",
        };
        format!("verified: {}, {claim}{counts}{left_out}", amount(self.records(), "record"))
    }

    /// Returns the whole verdict as one JSON object, without a line feed.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            verified: bool,
            records: u64,
            #[serde(flatten)]
            verdict: &'a AuditVerdict,
        }

        let whole = Whole { verified: self.holds(), records: self.records(), verdict: self };
        serde_json::to_string(&whole).expect("numbers and texts can be written")
    }

    fn words(&self, proof: Proof) -> String {
        let hashes = || self.rulesets.keys().map(String::as_str).take(3).collect::<Vec<_>>().join(", ");
        let there = if self.gone { ", of what is still there" } else { "" };
        match proof {
            Proof::NoneLost if self.unsure.dropped_or_lost > 0 => {
                format!("none lost, if not one of {} that rules may have dropped", number(self.unsure.dropped_or_lost))
            }
            Proof::NoneLost if self.unsure.unjudged > 0 => format!("none lost, {} not judged", number(self.unsure.unjudged)),
            Proof::NoneLost => "none lost: each input record is an output or a dead letter".into(),
            Proof::NoneTwice => format!("none twice{there}"),
            Proof::InOrder => format!("in order, for each input partition in each partition that its records went to{there}"),
            Proof::OfTheInput => "each output and dead letter is of an input record".into(),
            Proof::OneRuleset => match self.rulesets.len() {
                0 => "one rule set for each record".into(),
                different @ ..=3 => format!("one rule set for each record; {different} in all: {}", hashes()),
                different => format!("one rule set for each record; {different} in all: {}, …", hashes()),
            },
            Proof::CountsAddUp => format!("counts add up: {}", self.counted),
        }
    }
}

impl fmt::Display for AuditVerdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Read { topic, records } in &self.read {
            writeln!(out, "read      {topic}: {}", amount(*records, "record"))?;
        }
        let input = self.read.first().map_or("", |read| &read.topic);
        self.partitions.iter().try_for_each(|partition| writeln!(out, "judged    {input}/{partition}"))?;
        for (proof, outcome) in &self.proofs {
            match outcome {
                ProofOutcome::Holds => writeln!(out, "ok        {}", self.words(*proof))?,
                ProofOutcome::Violated(times) => writeln!(out, "VIOLATED  {}: {}", title(*proof), amount(*times, "violation"))?,
                ProofOutcome::NotAudited => writeln!(out, "unknown   {}: {}", title(*proof), self.counted)?,
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "note      {note}"))?;
        let mut named = 0;
        for alike in self.found.chunk_by(|one, next| one.kind == next.kind) {
            for violation in alike.iter().take(LISTED) {
                writeln!(out, "          {}", violation.words)?;
                named += violation.records;
            }
        }
        if self.violations > named {
            writeln!(out, "          … and {} more; --json lists more of them", number(self.violations - named))?;
        }
        writeln!(out, "{}", self.line())
    }
}

impl fmt::Display for Audited {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Audited { partition, from, committed, records, outputs, dead_letters, waiting, .. } = self;
        let waiting = if *waiting > 0 { format!("; {} past the cut", number(*waiting)) } else { String::new() };
        let Some(committed) = committed else { return write!(out, "{partition}: nothing committed{waiting}") };
        write!(
            out,
            "{partition}: offsets {} to {}: {}, {}, {}{waiting}",
            number(*from),
            number((*committed).max(0) as u64),
            amount(*records, "record"),
            amount(*outputs, "output"),
            amount(*dead_letters, "dead letter")
        )
    }
}

impl Serialize for ProofOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            ProofOutcome::Holds => "holds",
            ProofOutcome::Violated(_) => "violated",
            ProofOutcome::NotAudited => "not-judged",
        })
    }
}

/// Returns the claim of a proof, in a few words.
fn title(proof: Proof) -> &'static str {
    match proof {
        Proof::NoneLost => "none lost",
        Proof::NoneTwice => "none twice",
        Proof::InOrder => "in order",
        Proof::OfTheInput => "each output and dead letter is of an input record",
        Proof::OneRuleset => "one rule set for each record",
        Proof::CountsAddUp => "counts add up",
    }
}

/// Returns a count with its noun: `1 record`, `2 records`.
pub(super) fn amount(count: u64, of: &str) -> String {
    format!("{} {of}{}", number(count), if count == 1 { "" } else { "s" })
}
