//! The built program: how tests start it, read its output, and make sure that it ends.
//!
//! It runs in its own folder that looks like a checkout after `make rules`, and it does not see the environment of the tests.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The default time limit of a test for one step. It is generous: only a broken step takes so long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The time that a process may take to end after it is asked to.
pub const GRACE: Duration = Duration::from_secs(10);
/// The number of last lines of a program that a failed test shows.
const LAST_LINES: usize = 30;
/// The interval between two looks of [`eventually`].
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Calls `look` until it returns a value, and returns this value.
///
/// # Panics
/// If there is no value within [`PATIENCE`].
pub fn eventually<T>(what: impl fmt::Display, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Calls `look` until it returns a value, like [`eventually`], but with its own time limit.
///
/// # Panics
/// If there is no value within `patience`.
pub fn within<T>(patience: Duration, what: impl fmt::Display, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "within {patience:?} it did not happen that {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Returns the file of a shipped rule.
pub fn built(rule: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../rules/dist/{rule}.wasm"));
    assert!(file.exists(), "{} is missing: run `make rules`", file.display());
    file
}

/// Creates a folder with the built rules in `rules/dist`.
pub fn checkout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    let dist = built("validation").canonicalize().unwrap();
    symlink(dist.parent().unwrap(), folder.path().join("rules/dist")).unwrap();
    folder
}

/// Prints the last of the `lines` that the program `who` wrote.
pub fn show_last(who: impl fmt::Display, lines: &[String]) {
    eprintln!("{who} wrote last:\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"));
}

/// Returns a command that starts `program` in `folder` with a clean environment. `weir` is on its path.
pub fn command(program: &str, folder: &Path) -> Command {
    let weir = Path::new(env!("CARGO_BIN_EXE_weir"));
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear();
    command.env("PATH", format!("{}:/usr/bin:/bin", weir.parent().unwrap().display()));
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    // Each folder has its own state, so that decisions about rules do not affect other tests. The port of the admin interface is
    // free, because several programs run at a time.
    command.env("XDG_STATE_HOME", folder.join("state")).env("WEIR_ADMIN_LISTEN", "127.0.0.1:0");
    command
}

/// A running `weir`. It is killed when this value is dropped, so that a failed test leaves no process behind.
pub struct Weir {
    child: Child,
    /// The lines that the program has written so far to standard output and standard error.
    lines: Arc<Mutex<Vec<String>>>,
    listeners: Vec<thread::JoinHandle<()>>,
    /// The folder of the program if no test owns it. It is kept until the program has ended.
    folder: Option<TempDir>,
}

/// The exit code and the output of a `weir` that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub lines: Vec<String>,
}

impl Weir {
    /// Starts `weir` with `arguments`, split at blanks, and `variables` in its environment, in its own checkout.
    pub fn start(arguments: &str, variables: &[(&str, &str)]) -> Weir {
        let folder = checkout();
        let mut weir = Weir::start_in(folder.path(), arguments, variables);
        weir.folder = Some(folder);
        weir
    }

    /// Starts `weir` in `folder`, with `arguments` and `variables` as for [`Weir::start`].
    pub fn start_in(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> Weir {
        let mut command = command(env!("CARGO_BIN_EXE_weir"), folder);
        command.args(arguments.split_whitespace()).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let listeners =
            vec![listen(child.stdout.take().unwrap(), lines.clone()), listen(child.stderr.take().unwrap(), lines.clone())];
        Weir { child, lines, listeners, folder: None }
    }

    /// Returns the lines that the program has written so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that contains `words`, and returns it.
    pub fn line(&mut self, words: &str) -> String {
        eventually(format_args!("`{words}` is written"), || {
            let found = self.lines().into_iter().find(|line| line.contains(words));
            assert!(found.is_some() || self.is_running(), "it ended without writing `{words}`: {:#?}", self.lines());
            found
        })
    }

    /// Waits for a line that contains `name=`, and returns the value.
    pub fn field(&mut self, name: &str) -> String {
        field(&self.line(&format!("{name}=")), name)
    }

    /// Returns the page `/metrics` of the admin interface.
    pub fn metrics(&mut self) -> String {
        let line = self.line("admin interface on http://");
        let address = line.rsplit_once("http://").unwrap().1.trim();
        let mut connection = TcpStream::connect(address).unwrap();
        write!(connection, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Returns the ids of the child processes that have not ended.
    pub fn children(&self) -> Vec<u32> {
        let id = self.child.id();
        // Each thread has its own file of children.
        let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().map(|thread| thread.unwrap().path().join("children"));
        let children: String = threads.filter_map(|file| fs::read_to_string(file).ok()).collect();
        children.split_whitespace().map(|child| child.parse().unwrap()).collect()
    }

    /// Returns the text of a file of `/proc/PID`.
    pub fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// Returns the processor time that the program has used.
    pub fn processor_time(&self) -> Duration {
        // After the name in parentheses, which may contain anything, utime and stime are fields 12 and 13 (proc_pid_stat(5)), in
        // hundredths of a second.
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        Duration::from_millis(10 * fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
    }

    /// Returns memory in KiB: `VmRSS` is resident now, `VmHWM` is the largest value so far.
    pub fn memory_kib(&self, what: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns whether the program has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGTERM, and asserts that the program ends within [`GRACE`].
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        let ended = self.end();
        assert!(asked.elapsed() < GRACE, "it took {:?} to stop: {:#?}", asked.elapsed(), ended.lines);
        ended
    }

    /// Waits until the program ends by itself.
    pub fn end(mut self) -> Ended {
        let status: ExitStatus = eventually("it ends", || self.child.try_wait().unwrap());
        // The output is complete when both streams are closed.
        self.listeners.drain(..).for_each(|listener| listener.join().unwrap());
        Ended { code: status.code(), lines: self.lines() }
    }
}

impl Drop for Weir {
    /// After a failed test shows the last lines of the program: its files may be lost with the machine that runs the tests.
    fn drop(&mut self) {
        if thread::panicking() {
            show_last("weir", &self.lines());
        }
        // The program may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Returns the number after `name=` in the last line that has it.
    pub fn number(&self, name: &str) -> u64 {
        let name = format!("{name}=");
        let value = self.lines.iter().rev().find_map(|line| Some(line.split_once(&name)?.1));
        let value = value.unwrap_or_else(|| panic!("`{name}` is not in {:#?}", self.lines));
        value.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// Returns the value of `name=` in `line`.
pub fn field(line: &str, name: &str) -> String {
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("`{name}` is not in {line}"));
    rest.split_whitespace().next().unwrap().trim_matches('"').to_owned()
}

fn listen(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            lines.lock().unwrap().push(String::from_utf8_lossy(&line.unwrap()).into_owned());
        }
    })
}
