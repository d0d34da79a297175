//! A limit on how often something may be logged: a burst, then a steady rate. It counts the lines that were left out.

use std::time::Instant;

/// Lets [`Throttle::BURST`] lines through at once, and [`Throttle::RATE`] lines a second after that.
#[derive(Debug)]
pub struct Throttle {
    left: f64,
    since: Instant,
    dropped: u64,
}

impl Throttle {
    /// The number of lines that come through at once.
    pub const BURST: f64 = 20.0;
    /// The number of lines a second that come through in the long run.
    pub const RATE: f64 = 5.0;

    /// Returns a throttle that has let nothing through yet.
    pub fn new() -> Throttle {
        Throttle { left: Throttle::BURST, since: Instant::now(), dropped: 0 }
    }

    /// Returns None if the line must be left out. Otherwise returns the number of lines that were left out before it.
    pub fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        let earned = now.duration_since(self.since).as_secs_f64() * Throttle::RATE;
        (self.left, self.since) = ((self.left + earned).min(Throttle::BURST), now);
        if self.left < 1.0 {
            self.dropped += 1;
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.dropped))
    }
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_becomes_a_trickle_that_says_what_is_missing() {
        let mut throttle = Throttle::new();
        let admitted = (0..100).filter_map(|_| throttle.admit()).count();
        assert!((20..30).contains(&admitted), "{admitted} of 100 at once");
        throttle.since = throttle.since.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(throttle.admit(), Some(100 - admitted as u64));
        assert_eq!(throttle.admit(), Some(0));
    }
}
