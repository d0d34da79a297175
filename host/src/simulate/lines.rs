//! The outlet for lines of text, which `weir apply` or a person reads.
//!
//! A message is written as it is, as one line. An empty value is an empty line. A tombstone has no value, and a value with a line
//! feed would be two lines. Both are left out and counted, so that each line is one message.

use std::io::{self, Write};

use super::{GeneratedLogin, Outlet};
use weir_system::shutdown::Shutdown;

/// Writes messages to `W`, which should be buffered.
pub(super) struct Lines<W: Write> {
    out: W,
    left_out: u64,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W) -> Lines<W> {
        Lines { out, left_out: 0 }
    }

    #[cfg(test)]
    pub(super) fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Outlet for Lines<W> {
    fn put(&mut self, message: &GeneratedLogin, _: &Shutdown) -> anyhow::Result<()> {
        match message.value.as_deref().filter(|value| !value.contains(&b'\n')) {
            Some(value) => [value, b"\n"].iter().try_for_each(|bytes| self.out.write_all(bytes)).map_err(failed),
            None => {
                self.left_out += 1;
                Ok(())
            }
        }
    }

    fn idle(&mut self) -> anyhow::Result<()> {
        self.out.flush().map_err(failed)
    }

    fn finish(&mut self, _: &Shutdown) -> anyhow::Result<()> {
        if self.left_out > 0 {
            tracing::info!(messages = self.left_out, "left out what is no line");
        }
        self.idle()
    }
}

fn failed(error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("failed to write to standard output")
}
