//! A line now and then while much is read, and the way to stop.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::view::number;
use weir_kafka::reader::Watch;
use weir_system::shutdown::Shutdown;

/// How often there is a line.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// Watches a reader.
pub(super) struct Progress {
    shutdown: Shutdown,
    topic: String,
    told: Instant,
    /// What was read when it was told.
    before: u64,
}

impl Progress {
    pub(super) fn new(shutdown: Shutdown) -> Progress {
        Progress { shutdown, topic: String::new(), told: Instant::now(), before: 0 }
    }

    /// Waits for `time`, or until a signal comes. Returns whether to go on.
    pub(super) fn pause(&mut self, time: Duration) -> bool {
        self.shutdown.wait(time)
    }
}

impl Watch for Progress {
    fn begin(&mut self, topic: &str) {
        (self.topic, self.before, self.told) = (topic.to_owned(), 0, Instant::now());
    }

    fn reading(&mut self, read: u64, there: u64) -> bool {
        let passed = self.told.elapsed();
        if passed >= TELL_EVERY {
            let rate = ((read - self.before) as f64 / passed.as_secs_f64()) as u64;
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(
                io::stderr(),
                "reading {}: {} of {} offsets, {}/s",
                self.topic,
                number(read),
                number(there),
                number(rate)
            );
            (self.before, self.told) = (read, Instant::now());
        }
        !self.shutdown.is_requested()
    }

    fn wait(&mut self, time: Duration) -> bool {
        self.shutdown.wait(time)
    }
}
