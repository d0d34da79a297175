//! Lines of progress on standard error, for commands that take long. Results go to standard output and are not mixed with them.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::logging::can_draw;

/// The progress of a command.
pub(crate) struct Progress {
    /// The time between two lines where they do not overwrite each other.
    every: Duration,
    /// The time that has to pass before the next line.
    pause: Duration,
    /// True if each line overwrites the line before.
    overwrites: bool,
    /// The time of the last line, or of the start.
    since: Instant,
    shown: bool,
}

impl Progress {
    /// Returns the progress of a command that prints a new line after each `every`.
    pub(crate) fn lines(every: Duration) -> Progress {
        Progress { every, pause: every, overwrites: false, since: Instant::now(), shown: false }
    }

    /// Returns the progress of a command whose lines overwrite each other on a terminal that can do that. Elsewhere the first
    /// line is printed at once, and a new line after each `every`.
    pub(crate) fn overwritten(every: Duration) -> Progress {
        let overwrites = io::stderr().is_terminal() && can_draw(env::var_os("TERM").as_deref());
        Progress { overwrites, pause: Duration::ZERO, ..Progress::lines(every) }
    }

    /// Prints `line` if it is time for one. `line` gets the time since the line before.
    pub(crate) fn show(&mut self, line: impl FnOnce(Duration) -> String) {
        let passed = self.since.elapsed();
        if passed < self.pause {
            return;
        }
        // An error is ignored: if standard error is closed, the line has no reader.
        if self.overwrites {
            let _ = write!(io::stderr(), "\r\x1b[K{}", line(passed));
        } else {
            let _ = writeln!(io::stderr(), "{}", line(passed));
            self.pause = self.every;
        }
        (self.since, self.shown) = (Instant::now(), true);
    }
}

impl Drop for Progress {
    /// Clears the line for the output that follows.
    fn drop(&mut self) {
        if self.overwrites && self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
