//! Prints a line now and then while many records are read, and stops the reading when the process is asked to stop.

use std::time::Duration;

use crate::progress::Progress;
use crate::view::number;
use weir_kafka::reader::ReadObserver;
use weir_system::shutdown::Shutdown;

/// The time between two lines.
const EVERY: Duration = Duration::from_secs(3);

/// The progress of a reader.
pub(super) struct ReadProgress {
    shutdown: Shutdown,
    topic: String,
    progress: Progress,
    /// The number of offsets that were read when the last line was printed.
    before: u64,
}

impl ReadProgress {
    pub(super) fn new(shutdown: Shutdown) -> ReadProgress {
        ReadProgress { shutdown, topic: String::new(), progress: Progress::lines(EVERY), before: 0 }
    }

    /// Waits for `time`, or until a signal comes. Returns whether to go on.
    pub(super) fn pause(&mut self, time: Duration) -> bool {
        self.shutdown.wait(time)
    }
}

impl ReadObserver for ReadProgress {
    fn begin(&mut self, topic: &str) {
        (self.topic, self.before, self.progress) = (topic.to_owned(), 0, Progress::lines(EVERY));
    }

    fn reading(&mut self, read: u64, there: u64) -> bool {
        let ReadProgress { topic, before, .. } = self;
        self.progress.show(|passed| {
            let rate = ((read - std::mem::replace(before, read)) as f64 / passed.as_secs_f64()) as u64;
            format!("reading {topic}: {} of {} offsets, {}/s", number(read), number(there), number(rate))
        });
        !self.shutdown.is_requested()
    }

    fn wait(&mut self, time: Duration) -> bool {
        self.shutdown.wait(time)
    }
}
