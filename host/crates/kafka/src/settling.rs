//! The pause between two transactions of one producer.
//!
//! The coordinator answers a commit before it has written the markers that end the transaction. If the producer begins the next
//! transaction in between, the coordinator refuses it once (`CONCURRENT_TRANSACTIONS`), and the client asks again only 20 ms
//! later. So a short pause saves a long one. How long the markers take depends on the cluster and its load, and nobody tells. So
//! the pause is learned: it grows with each transaction that began too early, and otherwise shrinks slowly. Records that arrive
//! during the pause are not delayed by more than the pause: they join the next transaction.
//!
//! A transaction that began too early is known by its records: they are delivered later than usual, by about those 20 ms. Under
//! lag nothing is learned, and nothing is lost: the first chunk takes longer to fill than the pause.

use std::time::{Duration, Instant};

/// The longest pause.
const LONGEST: Duration = Duration::from_millis(10);
/// The addition to the pause after a transaction that began too early.
const STEP: Duration = Duration::from_micros(500);
/// The part of the pause that each transaction takes off it. Hence about one transaction in 2000 begins too early.
const SHRINK: u32 = 4096;
/// The delay of a delivery, over the usual time, from which on the transaction is taken to have begun too early. The client's
/// wait is 20 ms, and the time that the refused request took belongs to it.
const LATE: Duration = Duration::from_millis(16);
/// The part of a longer delivery that the usual time grows by. A shorter delivery is the usual time at once.
const USUAL: u32 = 64;

/// What is known of the pauses and deliveries of a producer.
#[derive(Debug, Default)]
pub(super) struct Settling {
    pause: Duration,
    /// The time at which the last commit was answered. None if no transaction can be settling.
    ended: Option<Instant>,
    /// The time at which the open transaction began, and whether that was soon after the last one. None if nothing is to be
    /// learned from its delivery.
    began: Option<(Instant, bool)>,
    /// The usual time from the beginning to the delivery, of a transaction that did not begin too early.
    usual: Option<Duration>,
}

impl Settling {
    /// Returns the time before which the next transaction should not begin.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.ended.map(|ended| ended + self.pause)
    }

    /// Notes that a transaction begins.
    pub(super) fn begin(&mut self, now: Instant) {
        let soon = self.ended.take().is_some_and(|ended| now < ended + self.pause.max(STEP) * 2);
        self.began = Some((now, soon));
    }

    /// Notes that the open transaction has more than one chunk: the time to its delivery tells nothing.
    pub(super) fn grow(&mut self) {
        self.began = None;
    }

    /// Notes that all records of the open transaction are delivered.
    pub(super) fn delivered(&mut self, now: Instant) {
        let Some((began, soon)) = self.began.take() else { return };
        let took = now - began;
        let usual = *self.usual.get_or_insert(took);
        match soon {
            true if took >= usual + LATE => self.pause = (self.pause + STEP).min(LONGEST),
            true => self.pause -= self.pause / SHRINK,
            false => {}
        }
        self.usual = Some(if took < usual { took } else { usual + (took - usual).min(LATE) / USUAL });
    }

    /// Notes that the commit was answered.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ended = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Makes a transaction that begins as early as it should, and is delivered after `delivery`. Returns when it has ended.
    fn transaction(settling: &mut Settling, begin: Instant, delivery: Duration) -> Instant {
        settling.begin(begin);
        settling.delivered(begin + delivery);
        settling.ended(begin + delivery + MILLI);
        settling.earliest().unwrap()
    }

    #[test]
    fn the_pause_grows_until_transactions_begin_late_enough_and_then_stays() {
        let (mut settling, mut now, mut refused) = (Settling::default(), Instant::now(), 0);
        // Markers that take 2 ms. The first transaction follows no other one.
        for _ in 0..1_000 {
            let too_early = settling.ended.is_some() && settling.pause < 2 * MILLI;
            refused += u32::from(too_early);
            now = transaction(&mut settling, now, if too_early { 24 * MILLI } else { 4 * MILLI });
        }
        assert!((3..=6).contains(&refused), "{refused} began too early");
        assert!((2 * MILLI..3 * MILLI).contains(&settling.pause), "{:?}", settling.pause);
    }

    #[test]
    fn a_cluster_that_is_slow_for_good_makes_no_pause() {
        let (mut settling, mut now) = (Settling::default(), Instant::now());
        for _ in 0..1_000 {
            now = transaction(&mut settling, now, 50 * MILLI);
        }
        assert_eq!(settling.pause, Duration::ZERO);
    }

    #[test]
    fn nothing_is_learned_from_what_began_late_or_took_more_than_a_chunk() {
        let (mut settling, now) = (Settling::default(), Instant::now());
        let mut ended = transaction(&mut settling, now, 4 * MILLI);
        ended = transaction(&mut settling, ended, 4 * MILLI);
        ended = transaction(&mut settling, ended + Duration::from_secs(1), 40 * MILLI);
        settling.begin(ended);
        settling.grow();
        settling.delivered(ended + 40 * MILLI);
        assert_eq!(settling.pause, Duration::ZERO);
        assert_eq!(settling.earliest(), None, "the transaction is open");
    }

    #[test]
    fn the_pause_has_a_limit() {
        let (mut settling, mut now) = (Settling::default(), Instant::now());
        for index in 0..1_000 {
            now = transaction(&mut settling, now, if index < 10 { 4 * MILLI } else { 24 * MILLI });
        }
        assert!(settling.pause <= LONGEST);
    }
}
