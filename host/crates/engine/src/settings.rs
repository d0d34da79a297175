//! The settings of the data loop that do not concern Kafka.

use std::num::NonZero;
use std::time::Duration;

/// The settings by which device types are counted. `[counts]`
#[derive(Clone, Debug, PartialEq)]
pub struct CountSettings {
    /// The length of a window.
    pub every: Duration,
    /// Whether windows in which nothing was counted are sent, too.
    pub emit_empty: bool,
    /// True for `on_bad_state = "reset"`: if the state that was committed with an offset can't be read, the data loop counts anew
    /// instead of stopping.
    pub reset_bad_state: bool,
}

/// The number of data loops of a process. `engine.threads`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One for each core that the process may use, but no more than there are input partitions.
    Auto,
    Number(usize),
}

impl Threads {
    /// Returns the number of loops, before the number of input partitions is known. The cores are those that the affinity of the
    /// process and the quota of its cgroup allow. With the broker inside the process (`embedded`), `auto` is 1.
    pub fn count(self, embedded: bool) -> usize {
        match self {
            Threads::Number(number) => number.max(1),
            Threads::Auto if embedded => 1,
            Threads::Auto => std::thread::available_parallelism().map_or(1, NonZero::get),
        }
    }
}

/// The length of a trial, and the bounds beyond which a new set of rules is taken back. `[trial]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrialBounds {
    /// The number of records that the trial of a new set takes. 0 means that there is no trial.
    pub records: u64,
    /// The most time that a trial takes.
    pub time: Duration,
    /// The share of records on which rules may fail, 0 to 1.
    pub faults: f64,
    /// The most by which the share of rejected records may rise over that of the set before, 0 to 1.
    pub rejections: f64,
    /// The share of the records rejected by the set before that the new set may let pass, 0 to 1.
    pub fewer_rejections: f64,
}

impl Default for TrialBounds {
    fn default() -> TrialBounds {
        TrialBounds { records: 10_000, time: Duration::from_secs(60), faults: 0.01, rejections: 0.2, fewer_rejections: 0.5 }
    }
}
