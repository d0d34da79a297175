//! What operators are told about sets of rules and their swaps: the words of the admin interface and of `weir rules`.
//!
//! Plain data that goes through JSON and back. Times are milliseconds since the epoch; hashes are those of the header
//! `weir-ruleset`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_engine::snapshot::Snapshot;
use weir_system::clock::now;

// Parts of what is told that others define.
pub use weir_engine::protocol::Why;
pub use weir_engine::shadow::{Difference, ShadowReport};
pub use weir_engine::trial::TrialReport;
pub use weir_wasm::description::{Change, RuleDescription, SetDescription};

/// Which set runs, why, and what stands in the way of another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The set in force.
    pub live: SetDescription,
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
    pub trial: Option<TrialReport>,
    /// The set that was taken back last, until another one is tried.
    pub taken_back: Option<TakenBack>,
    /// The candidate that runs beside the live rules.
    pub shadow: Option<ShadowReport>,
    /// How often something happened since the start of the process.
    pub swaps: Swaps,
    /// Keys of the configuration that have changed, and that only a restart takes.
    #[serde(default)]
    pub pending: Vec<String>,
}

/// What the loader says: which set should run, why, and what stands in the way of another one.
#[derive(Clone, Debug, Default)]
pub struct LoaderStatus {
    /// The hash of the set that it takes to be in force.
    pub live: String,
    /// Why it is this one.
    pub why: Why,
    pub folder: Option<String>,
    pub refusal: Option<Refusal>,
    pub unkept: Option<String>,
    pub taken_back: Option<TakenBack>,
    pub shadow: Option<ShadowReport>,
    /// Sets that were refused.
    pub refused: u64,
    pub pending: Vec<String>,
}

impl Status {
    /// Joins what runs with what should. The data loop knows first which set that is: the loader may be compiling while a set is
    /// rolled back.
    pub fn joined(snapshot: &Snapshot, loader: LoaderStatus) -> Status {
        let is_known = loader.live == snapshot.live.hash;
        let LoaderStatus { why, folder, refusal, unkept, taken_back, shadow, refused, pending, .. } = loader;
        Status {
            live: SetDescription::clone(&snapshot.live),
            why: if is_known { why } else { snapshot.why },
            since: snapshot.since,
            folder,
            refusal,
            unkept,
            trial: snapshot.trial.clone(),
            taken_back,
            shadow,
            swaps: Swaps { live: snapshot.swaps.live, refused, taken_back: snapshot.swaps.rolled_back },
            pending,
        }
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

/// Why something was not done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub at: i64,
    /// The reason, with the file and the remedy.
    pub message: String,
}

impl Refusal {
    /// Returns that something is not done now, for the reason `error`.
    pub fn of(error: &anyhow::Error) -> Refusal {
        Refusal { at: now(), message: format!("{error:#}") }
    }
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
