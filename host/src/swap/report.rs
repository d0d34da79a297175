//! What operators are told about sets of rules and their swaps: the words of the admin interface and of `weir rules`.
//!
//! Plain data that goes through JSON and back. Times are milliseconds since the epoch; hashes are those of the header
//! `weir-ruleset`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which set runs, why, and what stands in the way of another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The set in force.
    pub live: Set,
    /// Why it is this one.
    pub why: Why,
    /// Since when.
    pub since: i64,
    /// The set that the folder and the configuration have, if it is another one and proves.
    pub folder: Option<String>,
    /// What was refused last, until something takes its place.
    pub refusal: Option<Refusal>,
    /// Why something of this would be lost with the process: the set in force, its trial, or a verdict could not be written down.
    #[serde(default)]
    pub unkept: Option<String>,
    /// The trial of the set in force, while it lasts.
    pub trial: Option<Trial>,
    /// The set that was taken back last, until another one is tried.
    pub taken_back: Option<TakenBack>,
    /// The candidate that runs beside the live rules.
    pub shadow: Option<Shadow>,
    /// How often something happened since the start of the process.
    pub swaps: Swaps,
    /// Keys of the configuration that have changed, and that only a restart takes.
    #[serde(default)]
    pub pending: Vec<String>,
}

/// Why a set is in force. One page in docs/ has the precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is what the folder and the configuration have.
    #[default]
    Folder,
    /// An operator went back to it, and it stays until they say otherwise.
    Pinned,
    /// It was in force before, and what the folder has does not prove or was taken back.
    LastGood,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Why::Folder => "folder",
            Why::Pinned => "pinned",
            Why::LastGood => "last-good",
        })
    }
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swaps {
    /// Sets that went live after the first one, those taken back to included.
    pub live: u64,
    /// Sets that were refused: the folder's, also at the start, and those of commands.
    pub refused: u64,
    /// Sets that were taken back by their trial.
    pub taken_back: u64,
}

/// A set of rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub hash: String,
    /// In the order of the pipeline.
    pub rules: Vec<Rule>,
}

/// One rule of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    pub version: String,
    pub description: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// Bytes of the component.
    pub size: usize,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    pub reasons: Vec<String>,
    /// What its `configure` gets.
    pub config: Value,
    /// Its policies and limits, by their keys in `[rule.NAME]`, as they are written there.
    pub settings: BTreeMap<String, String>,
}

/// Why something was not done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub at: i64,
    /// The reason, with the file and the remedy.
    pub message: String,
}

/// That a set went live, or would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// False for a dry run, and while it waits.
    pub live: bool,
    /// It is proven and handed over, and goes live as soon as the data loop has Kafka's answer.
    #[serde(default)]
    pub waiting: bool,
    /// The set before.
    pub old: String,
    /// The set now.
    pub new: String,
    /// By partition, the first offset that the new set judges.
    pub from: BTreeMap<i32, i64>,
    /// What is different.
    pub changes: Vec<Change>,
    /// From the request until it was live, milliseconds.
    pub took: u64,
}

/// One difference between two sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The rule, or nothing where it is about the whole set.
    pub rule: Option<String>,
    /// `rules` (the pipeline's order), `component`, `version`, `reads`, `writes`, `reasons`, `config`, or a key of `[rule.NAME]`.
    pub what: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A set that went live once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub hash: String,
    /// When it went live, the last time.
    pub at: i64,
    pub why: Why,
    /// Names and versions, in the order of the pipeline.
    pub rules: Vec<String>,
    /// It is in force.
    pub live: bool,
    /// What its trial found, if it was taken back.
    pub taken_back: Option<String>,
}

/// How a trial goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Messages judged so far.
    pub records: u64,
    /// Messages that the trial takes.
    pub of: u64,
    /// Until when it takes at most.
    pub until: i64,
    /// Messages on which a rule failed.
    pub faults: u64,
    /// Messages that were rejected.
    pub rejected: u64,
    /// The set that takes its place if it fails.
    pub previous: String,
}

/// A set that its trial took back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    pub hash: String,
    pub at: i64,
    /// Which bound was passed, and by how much.
    pub reason: String,
    /// Some of the messages that spoke against it: where they are, the rule, the reason and its details.
    pub evidence: Vec<String>,
    /// The set that came back.
    #[serde(default)]
    pub back: Option<String>,
}

/// How a candidate does beside the live rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    pub candidate: Set,
    pub since: i64,
    /// Messages that both have judged.
    pub records: u64,
    /// Messages that only the live rules have judged: the candidate had no time.
    pub skipped: u64,
    /// Messages of which both say the same.
    pub agreed: u64,
    /// Each kind of difference, the most frequent first.
    pub differences: Vec<Difference>,
    /// Messages on which a rule of the candidate failed.
    pub faults: u64,
    /// Time that a message took, in nanoseconds: the candidate's.
    pub nanos: u64,
    /// The same of the live rules, for the same messages.
    pub live_nanos: u64,
}

/// A kind of difference between two sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What the live rules said, and what the candidate said: `passed`, or `rejected by RULE: REASON`; `passed` twice where the
    /// outputs differ.
    pub live: String,
    pub candidate: String,
    pub records: u64,
    /// Some of the messages: where they are, and the two outputs or details.
    pub examples: Vec<String>,
}
