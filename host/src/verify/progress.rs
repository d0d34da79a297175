//! Prints a line now and then while many records are read, and stops the reading when the process is asked to stop.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::view::number;
use weir_kafka::reader::Watch;
use weir_system::shutdown::Shutdown;

/// The time between two lines.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// The progress of a reader.
pub(super) struct Progress {
    shutdown: Shutdown,
    topic: String,
    told: Instant,
    /// The number of offsets that were read when the last line was printed.
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
            // An error is ignored: if standard error is closed, the line has no reader.
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
