//! Growing pauses between attempts.
//!
//! Each pause is random: between half of its full length and its full length. Processes that fail together therefore do
//! not try again together.

use std::time::Duration;

/// A pause that doubles from a first length to a longest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Returns a backoff whose pauses grow from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, next: first, random: fastrand::Rng::new() }
    }

    /// Returns the time to wait before the next attempt: between half of the pause's full length and its full length.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    /// Starts over with the first pause. To be called after an attempt has succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: &mut Backoff) -> Vec<f64> {
        (0..5).map(|_| backoff.pause().as_secs_f64()).collect()
    }

    fn seeded(seed: u64) -> Backoff {
        let random = fastrand::Rng::with_seed(seed);
        Backoff { random, ..Backoff::new(Duration::from_secs(1), Duration::from_secs(5)) }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_none_is_less_than_half_of_it() {
        for seed in 0..100 {
            let mut backoff = seeded(seed);
            for (pause, most) in seconds(&mut backoff).into_iter().zip([1.0, 2.0, 4.0, 5.0, 5.0]) {
                assert!((most / 2.0..=most).contains(&pause), "{pause} of {most}");
            }
            backoff.reset();
            assert!(backoff.pause() <= Duration::from_secs(1));
        }
    }

    #[test]
    fn two_that_fail_together_do_not_come_back_together() {
        assert_ne!(seconds(&mut seeded(1)), seconds(&mut seeded(2)));
        assert_eq!(seconds(&mut seeded(1)), seconds(&mut seeded(1)), "a seed decides");
    }
}
