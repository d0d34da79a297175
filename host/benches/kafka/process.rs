//! A process that is measured. Its output goes to a file, its costs are read from `/proc`, and it is ended by its id.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

/// The most time in which a process has to end once it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// The interval at which [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The number of lines that are shown of the log of a process that failed.
const LOG_LINES: usize = 20;
/// The clock ticks per second in `/proc/PID/stat`. On today's machines Linux always shows this number to user space.
const TICKS: f64 = 100.0;

/// A running process. It is killed when this value is dropped.
pub struct ChildProcess {
    name: String,
    child: Child,
    log: NamedTempFile,
}

impl ChildProcess {
    /// Starts `command`. Errors call the process `name`.
    pub fn start(mut command: Command, name: &str) -> anyhow::Result<ChildProcess> {
        let log = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let file = File::options().append(true).open(log.path())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
        Ok(ChildProcess { name: name.to_owned(), child, log })
    }

    /// Returns the processor time since the process was started, in seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        // After the name in parentheses, which may contain any text, utime and stime are fields 12 and 13: proc_pid_stat(5).
        let (_, fields) = stat.rsplit_once(')').context("failed to read /proc/PID/stat")?;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / TICKS)
    }

    /// Returns a line of `/proc/PID/status` in MiB, such as `VmRSS`, or `VmHWM` for the peak.
    pub fn mebibytes(&self, line: &str) -> anyhow::Result<f64> {
        let status = self.proc("status")?;
        let found =
            status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).context("failed to read memory")?;
        Ok(found.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Asks the process to end, and waits until it has ended.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let until = Instant::now() + GRACE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("{} did not end within {GRACE:?}: {}", self.name, self.tail());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits until the process ends by itself, and returns its output.
    pub fn finish(mut self, patience: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(fs::read_to_string(self.log.path())?),
                Some(status) => bail!("{} has failed ({status}): {}", self.name, self.tail()),
                None if Instant::now() > until => bail!("{} has not ended within {patience:?}: {}", self.name, self.tail()),
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Fails if the process has ended.
    fn alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, self.tail()),
        }
    }

    /// Returns the last lines of the process's output.
    fn tail(&self) -> String {
        let text = fs::read(self.log.path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).with_context(|| format!("{} has ended", self.name))
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls `look` until it returns something, and returns that. Fails after `patience`, or when `process` has ended.
pub fn eventually<T>(
    what: &str,
    patience: Duration,
    process: &mut ChildProcess,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let until = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        process.alive()?;
        if Instant::now() > until {
            bail!("within {patience:?} it did not happen that {what}; {} wrote: {}", process.name, process.tail());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
