//! What the data loop is told beside what its Kafka side is.

use std::time::Duration;

/// How device types are counted. `[counts]`
#[derive(Clone, Debug, PartialEq)]
pub struct CountSettings {
    /// The length of a window.
    pub every: Duration,
    /// Send windows in which nothing was counted too.
    pub emit_empty: bool,
    /// `on_bad_state = "reset"`: where the state that was committed with an offset cannot be read, count anew instead of
    /// stopping.
    pub reset_bad_state: bool,
}

/// When a new set of rules is taken back. `[trial]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrialBounds {
    /// How many messages the trial of a new set takes. 0: there is no trial.
    pub records: u64,
    /// How long it takes at most.
    pub time: Duration,
    /// Share of messages on which rules may fail, 0 to 1.
    pub faults: f64,
    /// How much the share of rejected messages may rise over that of the set before, 0 to 1.
    pub rejections: f64,
    /// Share of the messages that the set before rejects which this one may let pass, 0 to 1.
    pub fewer_rejections: f64,
}

impl Default for TrialBounds {
    fn default() -> TrialBounds {
        TrialBounds { records: 10_000, time: Duration::from_secs(60), faults: 0.01, rejections: 0.2, fewer_rejections: 0.5 }
    }
}
