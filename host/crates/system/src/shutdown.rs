//! The request that a process should stop: signals make the request, and everything that waits checks for it.
//!
//! Code that only waits for time to pass uses [`Shutdown::wait`]. Code that waits for a broker calls [`Shutdown::is_overdue`] now
//! and then. The work to be done before the end is left out: each command knows its own.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The time in which the batch in hand has to finish once a shutdown is requested. Together with the time for leaving the
/// consumer group and the time in which librdkafka stops its threads, it stays below the 10 s that a supervisor usually grants.
pub const FINISH_GRACE: Duration = Duration::from_secs(2);

/// The time within which a repeated signal counts as the same signal: `timeout` signals its child and then its process group, and
/// so signals the child twice.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// A flag: whether a shutdown is requested, and since when. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Requested>);

#[derive(Debug, Default)]
struct Requested {
    since: OnceLock<Instant>,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Shutdown {
    /// Requests a shutdown, and wakes all threads that wait. A second request changes nothing.
    pub fn request(&self) {
        let _locked = self.0.lock.lock();
        self.0.since.get_or_init(Instant::now);
        self.0.changed.notify_all();
    }

    /// Returns whether a shutdown is requested.
    pub fn is_requested(&self) -> bool {
        self.0.since.get().is_some()
    }

    /// Returns whether a shutdown was requested so long ago that waiting for a broker has to end.
    pub fn is_overdue(&self) -> bool {
        self.0.since.get().is_some_and(|since| since.elapsed() >= FINISH_GRACE)
    }

    /// Waits for `time`, or until a shutdown is requested. Returns whether the caller is to go on, because no shutdown is
    /// requested.
    pub fn wait(&self, time: Duration) -> bool {
        self.0.changed.wait_while_for(&mut self.0.lock.lock(), |()| !self.is_requested(), time);
        !self.is_requested()
    }

    /// Requests a shutdown on the first SIGTERM or SIGINT from now on. The next signal ends the process at once, unless it
    /// follows so soon that it counts as the same signal.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn request_on_signals(&self) -> anyhow::Result<()> {
        self.request_on_signals_and(|| ())
    }

    /// Works like [`Shutdown::request_on_signals`], and calls `last` before the next signal ends the process at once.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn request_on_signals_and(&self, last: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let signals = Signals::new([SIGTERM, SIGINT]).context("failed to watch for signals")?;
        let shutdown = self.clone();
        let watching = thread::Builder::new().name("signals".into()).spawn(move || shutdown.watch(signals, last));
        watching.map(drop).context("failed to start the thread that watches for signals")
    }

    fn watch(&self, mut signals: Signals, last: impl FnOnce()) {
        let mut first: Option<Instant> = None;
        for number in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    tracing::info!(signal = number, "stopping after the batch in hand; a second signal stops at once");
                    self.request();
                }
                Some(first) if first.elapsed() < SAME_SIGNAL => {}
                Some(_) => {
                    tracing::warn!(signal = number, "stopping at once");
                    last();
                    std::process::exit(128 + number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_ends_every_wait() {
        let shutdown = Shutdown::default();
        assert!(shutdown.wait(Duration::from_millis(1)), "nobody has requested it");
        let other = shutdown.clone();
        let waiting = thread::spawn(move || other.wait(Duration::from_secs(3600)));
        shutdown.request();
        assert!(!waiting.join().unwrap());
        assert!(!shutdown.wait(Duration::from_secs(3600)));
        assert!(shutdown.is_requested() && !shutdown.is_overdue(), "the batch in hand has some time left");
    }
}
