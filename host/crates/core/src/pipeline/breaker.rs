//! The circuit breaker of a rule: it opens if the rule fails on everything, and closes when a probe shows that the rule works.
//!
//! It leaves out the calls of the rule: [`super::bisect`] makes them, and tells the breaker their results.

/// The number of strikes, with no row evaluated in between, from which on a rule is suspected of failing on all rows. A fault is
/// a strike.
const SUSPECT: u32 = 32;
/// The number of strikes for a fault that ran out of time. Such a fault costs some thousand times as much as others.
const TIMEOUT: u32 = 16;
/// The factor by which the pause after a probe is longer than the probe: a tenth of the time goes into probes.
const PAUSE_FACTOR: u64 = 9;
/// The longest pause between probes, in milliseconds.
pub(super) const LONGEST_PAUSE: u64 = 30_000;

/// The circuit breaker of a rule: its memory of faults, from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// The strikes since a row was evaluated last: faults, of which those that ran out of time count several times.
    strikes: u32,
    open: Option<Open>,
}

/// The state of an open circuit breaker.
#[derive(Debug)]
struct Open {
    why: String,
    /// The times of the last and of the next probe, in milliseconds since the epoch.
    probed: i64,
    next: i64,
}

impl Breaker {
    /// Returns the reason why the circuit breaker is open. None if it is closed.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.why.as_str())
    }

    /// Counts a fault.
    pub(super) fn strike(&mut self, timed_out: bool) {
        self.strikes += if timed_out { TIMEOUT } else { 1 };
    }

    /// Forgets the strikes, after the rule has evaluated a row.
    pub(super) fn clear_strikes(&mut self) {
        self.strikes = 0;
    }

    /// Returns whether the rule is suspected of failing on all rows.
    pub(super) fn is_suspicious(&self) -> bool {
        self.strikes >= SUSPECT
    }

    /// Opens the circuit breaker at `now`, after a probe that took `nanos` nanoseconds.
    pub(super) fn trip(&mut self, why: String, now: i64, nanos: u64) {
        self.open = Some(Open { why, probed: now, next: now });
        self.schedule_probe(now, nanos);
    }

    /// Schedules the next probe after one at `now` that took `nanos` nanoseconds.
    pub(super) fn schedule_probe(&mut self, now: i64, nanos: u64) {
        let pause = (nanos.saturating_mul(PAUSE_FACTOR) / 1_000_000).min(LONGEST_PAUSE);
        if let Some(open) = &mut self.open {
            (open.probed, open.next) = (now, now.saturating_add(pause as i64));
        }
    }

    /// Closes the circuit breaker, after the rule has evaluated a row of a probe.
    pub(super) fn close(&mut self) {
        *self = Breaker::default();
    }

    /// Returns whether a probe is due. A clock that was set back must not delay the probe.
    pub(super) fn is_due(&self, now: i64) -> bool {
        self.open.as_ref().is_some_and(|open| now >= open.next || now < open.probed)
    }
}
