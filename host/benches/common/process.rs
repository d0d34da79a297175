//! A process that is measured. Its output goes to a file, its costs and those of its children are read from `/proc`, and it is
//! ended by its id.
//!
//! SIGINT and SIGTERM end a benchmark at its next look at a process. So its processes are ended too, also where the signal
//! reached the benchmark alone.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use weir_system::shutdown::Shutdown;

/// The most time in which a process has to end once it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// The interval at which [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The number of lines that are shown of the log of a process that failed.
const LOG_LINES: usize = 20;
/// The clock ticks per second in `/proc/PID/stat`. On today's machines Linux always shows this number to user space.
const TICKS: f64 = 100.0;

/// Whether the benchmark is to end.
static END: LazyLock<Shutdown> = LazyLock::new(Shutdown::default);

/// Ends the benchmark in good order on SIGINT or SIGTERM from now on.
pub fn watch_signals() -> anyhow::Result<()> {
    END.request_on_signals()
}

/// Fails if the benchmark is to end. All that takes long asks.
pub fn go_on() -> anyhow::Result<()> {
    ensure!(!END.is_requested(), "the benchmark was ended by a signal");
    Ok(())
}

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

    /// Returns the processor time of the process and its children since it was started, in seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        // After the name in parentheses, which may contain any text, come utime, stime, and those of children that have ended, as
        // fields 12 to 15: proc_pid_stat(5).
        let ticks = |stat: &str| -> Option<u64> {
            let fields = stat.rsplit_once(')')?.1.split_whitespace();
            Some(fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
        };
        Ok(self.tree("stat")?.iter().filter_map(|stat| ticks(stat)).sum::<u64>() as f64 / TICKS)
    }

    /// Returns a line of `/proc/PID/status` in MiB, such as `VmRSS`, or `VmHWM` for the peak: the sum of the process and its
    /// children.
    pub fn mebibytes(&self, line: &str) -> anyhow::Result<f64> {
        let kibibytes = |status: &str| -> Option<f64> {
            let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))?;
            found.trim().trim_end_matches(" kB").parse().ok()
        };
        Ok(self.tree("status")?.iter().filter_map(|status| kibibytes(status)).sum::<f64>() / 1024.0)
    }

    /// Asks the process to end, and waits until it has ended.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let until = Instant::now() + GRACE;
        while self.ended()?.is_none() {
            if Instant::now() > until {
                bail!("{} did not end within {GRACE:?}: {}", self.name, self.tail());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Returns how the process has ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Returns what the process has written so far.
    pub fn written(&self) -> String {
        fs::read(self.log.path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns the last lines of what the process has written.
    fn tail(&self) -> String {
        let text = self.written();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Returns a file in `/proc` of the process, and of each of its children that is there.
    fn tree(&self, file: &str) -> anyhow::Result<Vec<String>> {
        let root = self.child.id();
        let mut found =
            vec![fs::read_to_string(format!("/proc/{root}/{file}")).with_context(|| format!("{} has ended", self.name))?];
        let mut open = children(root);
        while let Some(id) = open.pop() {
            found.extend(fs::read_to_string(format!("/proc/{id}/{file}")));
            open.extend(children(id));
        }
        Ok(found)
    }
}

/// Returns the processes that the threads of a process have started. A process that has ended has none.
fn children(id: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()).collect()
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls `look` until it returns something, and returns that. Fails after `patience`, when `process` has ended, or when the
/// benchmark is to end.
pub fn eventually<T>(
    what: &str,
    patience: Duration,
    process: &mut ChildProcess,
    mut look: impl FnMut(&ChildProcess) -> Option<T>,
) -> anyhow::Result<T> {
    let until = Instant::now() + patience;
    loop {
        if let Some(seen) = look(process) {
            return Ok(seen);
        }
        go_on()?;
        if let Some(status) = process.ended()? {
            bail!("{} has ended ({status}): {}", process.name, process.tail());
        }
        if Instant::now() > until {
            bail!("within {patience:?} it did not happen that {what}; {} wrote: {}", process.name, process.tail());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
