//! The reports to operators about sets of rules and their swaps: the words of the admin interface and of `weir rules`.
//!
//! Plain data that goes through JSON and back. Times are milliseconds since the epoch; hashes are those of the header
//! `weir-ruleset`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_engine::snapshot::Snapshot;
use weir_system::clock::now;

// Parts of the reports that other modules define.
pub use weir_engine::protocol::LiveReason;
pub use weir_engine::shadow::{Difference, ShadowReport};
pub use weir_engine::trial::TrialReport;
pub use weir_wasm::description::{Change, RuleDescription, SetDescription};

/// The set that runs, the reason why, and the obstacles to another set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The set in force.
    pub live: SetDescription,
    /// The reason why this set is in force.
    pub why: LiveReason,
    /// The time since which the set is in force.
    pub since: i64,
    /// The hash of the set in the folder and the configuration, if it is another one and can be proven.
    pub folder: Option<String>,
    /// The last refusal, until it is resolved.
    pub refusal: Option<SetRefusal>,
    /// The reason why a part of the status would be lost with the process: the set in force, its trial, or a verdict could not be
    /// written.
    #[serde(default)]
    pub unkept: Option<String>,
    /// The trial of the set in force, while it lasts.
    pub trial: Option<TrialReport>,
    /// The set that was taken back last, until another one is tried.
    pub taken_back: Option<TakenBack>,
    /// The candidate that runs beside the live rules.
    pub shadow: Option<ShadowReport>,
    /// The numbers of swaps since the start of the process.
    pub swaps: SwapCounts,
    /// The keys of the configuration that have changed but take effect only with a restart.
    #[serde(default)]
    pub pending: Vec<String>,
}

/// The loader's view: the set that should run, the reason why, and the obstacles to another set.
#[derive(Clone, Debug, Default)]
pub struct LoaderStatus {
    /// The hash of the set that, as far as the loader knows, is in force.
    pub live: String,
    /// The reason why this set is in force.
    pub why: LiveReason,
    pub folder: Option<String>,
    pub refusal: Option<SetRefusal>,
    pub unkept: Option<String>,
    pub taken_back: Option<TakenBack>,
    pub shadow: Option<ShadowReport>,
    /// The number of sets that were refused.
    pub refused: u64,
    pub pending: Vec<String>,
}

impl Status {
    /// Joins the data loop's view of the set in force with the loader's view. The data loop is ahead of the loader: the loader
    /// may be compiling while a set is taken back.
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
            swaps: SwapCounts { live: snapshot.swaps.live, refused, taken_back: snapshot.swaps.taken_back },
            pending,
        }
    }
}

/// The numbers of swaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapCounts {
    /// The sets that went live after the first one, including those that came back when another set was taken back.
    pub live: u64,
    /// The sets that were refused: the folder's, also at the start, and those of commands.
    pub refused: u64,
    /// The sets that were taken back by their trial.
    pub taken_back: u64,
}

/// The reason why a request or a change was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRefusal {
    pub at: i64,
    /// The reason, with the file and the remedy.
    pub message: String,
}

impl SetRefusal {
    /// Returns a refusal at the present time, for the reason `error`.
    pub fn of(error: &anyhow::Error) -> SetRefusal {
        SetRefusal { at: now(), message: format!("{error:#}") }
    }
}

/// The answer to a request that makes a set live, or to a dry run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// True if the set is live: not for a dry run, and not while the set is `waiting`.
    pub live: bool,
    /// True if the set is proven and handed over, and goes live as soon as Kafka answers the data loop.
    #[serde(default)]
    pub waiting: bool,
    /// The hash of the set before.
    pub old: String,
    /// The hash of the new set.
    pub new: String,
    /// By partition, the first offset that the new set processes.
    pub from: BTreeMap<i32, i64>,
    /// The differences between the two sets.
    pub changes: Vec<Change>,
    /// The time from the request until the set was live, in milliseconds.
    pub took: u64,
}

/// A set that went live once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub hash: String,
    /// The time at which the set went live last.
    pub at: i64,
    pub why: LiveReason,
    /// The names and versions of the rules, in the order of the pipeline.
    pub rules: Vec<String>,
    /// True if the set is in force.
    pub live: bool,
    /// The reason that its trial gave, if the set was taken back.
    pub taken_back: Option<String>,
}

/// A set that was taken back by its trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    pub hash: String,
    pub at: i64,
    /// The bound that was exceeded, and by how much.
    pub reason: String,
    /// Some of the records that spoke against the set: their positions, the rule, the reason and its detail.
    pub evidence: Vec<String>,
    /// The hash of the set that came back.
    #[serde(default)]
    pub back: Option<String>,
}
