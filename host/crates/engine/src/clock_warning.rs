//! Warns of windows that begin in the future, because a clock was ahead of this process's clock. No counts are sent before such a
//! window ends, so operators are told until when counts wait, and how to end the wait.
//!
//! No partition may be in two messages of one window. A window that was begun is therefore never begun again, and no window
//! begins before an earlier one ends. The counting itself is not here, but in [`weir_core::counts`].

use std::time::{Duration, Instant};

use weir_core::counts::{Counts, instant};

/// The pause between two warnings.
const TOLD_EVERY: Duration = Duration::from_secs(600);

/// The time of the last warning about windows that begin in the future.
#[derive(Debug, Default)]
pub(crate) struct ClockWarning {
    told: Option<Instant>,
}

impl ClockWarning {
    /// Returns the time until which `counts` wait, if an open window begins in the future of `now`. Warns of that now and then.
    /// `remedy` returns how to end the wait for the given partitions.
    pub(crate) fn look(&mut self, counts: &Counts, now: i64, remedy: impl Fn(&[i32]) -> String) -> Option<i64> {
        let Some((partitions, until)) = counts.ahead(now) else {
            if self.told.take().is_some() {
                tracing::info!("the clock has caught up: counts go on");
            }
            return None;
        };
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            let (until, remedy) = (instant(until), remedy(&partitions));
            tracing::warn!(
                ?partitions,
                until,
                "no counts are sent until then: the open window begins in the future, so a clock was ahead when it was begun, or is \
                 behind now; set the clock right, or, if it is, wait, or, {remedy}"
            );
        }
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_once_and_not_again_for_a_while() {
        let (mut ahead, mut counts) = (ClockWarning::default(), Counts::new(60_000, false));
        counts.apply(&counts.count(3_600_000, [(1, Some("iOS"))].into_iter()));
        let asked = std::cell::Cell::new(0);
        let remedy = |partitions: &[i32]| {
            assert_eq!(partitions, [1]);
            asked.set(asked.get() + 1);
            String::new()
        };
        assert_eq!(ahead.look(&counts, 3_600_000, remedy), None);
        assert_eq!(ahead.look(&counts, 60_000, remedy), Some(3_660_000));
        assert_eq!(ahead.look(&counts, 61_000, remedy), Some(3_660_000));
        assert_eq!(asked.get(), 1);
        assert_eq!(ahead.look(&counts, 3_600_000, remedy), None, "the clock has caught up");
        assert_eq!((ahead.look(&counts, 60_000, remedy), asked.get()), (Some(3_660_000), 2), "it leaps again");
    }
}
