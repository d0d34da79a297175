//! Limits on how often something may be logged: a burst and then a steady rate, or once in a while for each key. Both count the
//! lines that were left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

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

/// Lets one line for each key through, and the next line for this key only after [`KeyedThrottle::QUIET`].
#[derive(Debug, Default)]
pub struct KeyedThrottle {
    /// The time of the last line for each key, and the number of lines that were left out since.
    last: HashMap<String, (Instant, u64)>,
}

impl KeyedThrottle {
    /// The time between two lines for one key.
    pub const QUIET: Duration = Duration::from_secs(60);
    /// The number of keys that are remembered. A larger number of keys starts the memory anew.
    const MAX_KEYS: usize = 64;

    /// Returns None if the line must be left out. Otherwise returns the number of lines for `key` that were left out before it.
    pub fn admit(&mut self, key: &str) -> Option<u64> {
        let now = Instant::now();
        match self.last.get_mut(key) {
            Some((at, dropped)) if now.duration_since(*at) < KeyedThrottle::QUIET => {
                *dropped += 1;
                None
            }
            Some((at, dropped)) => {
                *at = now;
                Some(std::mem::take(dropped))
            }
            None => {
                if self.last.len() >= KeyedThrottle::MAX_KEYS {
                    self.last.clear();
                }
                self.last.insert(key.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_comes_through_once_in_a_while() {
        let mut throttle = KeyedThrottle::default();
        assert_eq!((throttle.admit("a"), throttle.admit("a"), throttle.admit("b")), (Some(0), None, Some(0)));
        throttle.last.get_mut("a").unwrap().0 -= KeyedThrottle::QUIET;
        assert_eq!((throttle.admit("a"), throttle.admit("a")), (Some(1), None));
        (0..10 * KeyedThrottle::MAX_KEYS).for_each(|key| assert_eq!(throttle.admit(&key.to_string()), Some(0)));
        assert!(throttle.last.len() <= KeyedThrottle::MAX_KEYS);
    }

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
