//! Rates, derived from totals. A snapshot has no rates, because each view chooses its own period for them.

use std::collections::VecDeque;
use std::time::Duration;

use weir_engine::snapshot::Snapshot;

/// The number of rates that are remembered: the most that a sparkline shows.
const REMEMBERED: usize = 120;

/// The counters from which rates are derived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordCounts {
    pub(super) read: u64,
    pub(super) written: u64,
    pub(super) rejected: u64,
}

impl RecordCounts {
    pub(super) fn of(snapshot: &Snapshot) -> RecordCounts {
        RecordCounts { read: snapshot.read, written: snapshot.written, rejected: snapshot.rejections() }
    }

    fn per_second_since(self, before: RecordCounts, elapsed: Duration) -> RecordCounts {
        let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / elapsed.as_secs_f64()).round() as u64;
        RecordCounts {
            read: rate(self.read, before.read),
            written: rate(self.written, before.written),
            rejected: rate(self.rejected, before.rejected),
        }
    }
}

/// Rates per second, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Rates {
    totals: RecordCounts,
    rates: VecDeque<RecordCounts>,
}

impl Rates {
    /// Adds the rates of the `elapsed` time since the last call.
    pub(super) fn add(&mut self, snapshot: &Snapshot, elapsed: Duration) {
        if elapsed.is_zero() {
            return;
        }
        let totals = RecordCounts::of(snapshot);
        self.rates.push_back(totals.per_second_since(self.totals, elapsed));
        self.totals = totals;
        let excess = self.rates.len().saturating_sub(REMEMBERED);
        self.rates.drain(..excess);
    }

    /// Returns the rates in the time before the last call of `add`.
    pub(super) fn last(&self) -> RecordCounts {
        self.rates.back().copied().unwrap_or_default()
    }

    /// Returns the last `count` values of one rate.
    pub(super) fn history(&self, count: usize, rate: impl Fn(&RecordCounts) -> u64) -> Vec<u64> {
        self.rates.iter().skip(self.rates.len().saturating_sub(count)).map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_added_in_a_second() {
        let mut rates = Rates::default();
        rates.add(&Snapshot { read: 100, written: 90, ..Snapshot::default() }, Duration::from_secs(2));
        assert_eq!(rates.last(), RecordCounts { read: 50, written: 45, rejected: 0 });
        rates.add(&Snapshot { read: 400, written: 90, ..Snapshot::default() }, Duration::from_millis(500));
        assert_eq!(rates.last(), RecordCounts { read: 600, written: 0, rejected: 0 });
        assert_eq!(rates.history(1, |rate| rate.read), [600]);
        assert_eq!(rates.history(9, |rate| rate.read), [50, 600]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut rates = Rates::default();
        for _ in 0..2 * REMEMBERED {
            rates.add(&Snapshot::default(), Duration::from_secs(1));
        }
        assert_eq!(rates.history(usize::MAX, |rate| rate.read).len(), REMEMBERED);
    }
}
