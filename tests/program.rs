//! The built program: how tests start it, listen to it, and make sure that it ends.
//!
//! It runs in a folder of its own that looks like a checkout after `make rules`, and it sees nothing of the environment that
//! the tests were started in.

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

/// How long anything may take before a test fails. Generous: only what is broken takes so long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a process may take to end once it is asked to.
pub const GRACE: Duration = Duration::from_secs(10);
/// How many lines of a program a test that fails shows.
const LAST_LINES: usize = 30;
/// How often [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// If there is nothing within [`PATIENCE`].
pub fn eventually<T>(what: impl fmt::Display, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// [`eventually`], for what may take longer, or must not take as long.
///
/// # Panics
/// If there is nothing to see within `patience`.
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

/// The file of a shipped rule.
pub fn built(rule: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../rules/dist/{rule}.wasm"));
    assert!(file.exists(), "{} is missing: run `make rules`", file.display());
    file
}

/// A folder with the built rules in `rules/dist`.
pub fn checkout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    let dist = built("validation").canonicalize().unwrap();
    symlink(dist.parent().unwrap(), folder.path().join("rules/dist")).unwrap();
    folder
}

/// Shows the last of the `lines` that somebody wrote.
pub fn show_last(who: impl fmt::Display, lines: &[String]) {
    eprintln!("{who} wrote last:\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"));
}

/// `program`, to be started in `folder` with a clean environment. `weir` is found on its path.
pub fn command(program: &str, folder: &Path) -> Command {
    let weir = Path::new(env!("CARGO_BIN_EXE_weir"));
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear();
    command.env("PATH", format!("{}:/usr/bin:/bin", weir.parent().unwrap().display()));
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    // What one test decides about rules is not for others, and several programs run at a time.
    command.env("XDG_STATE_HOME", folder.join("state")).env("WEIR_ADMIN_LISTEN", "127.0.0.1:0");
    command
}

/// A running `weir`. It is killed when this is dropped, so that a failed test leaves nothing behind.
pub struct Weir {
    child: Child,
    /// What it has written so far, line by line: standard output and standard error.
    lines: Arc<Mutex<Vec<String>>>,
    listeners: Vec<thread::JoinHandle<()>>,
    /// Kept as long as it runs, where it is nobody else's.
    folder: Option<TempDir>,
}

/// How a `weir` has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub lines: Vec<String>,
}

impl Weir {
    /// Starts `weir` with `arguments`, split at blanks, and `variables` in its environment, in a checkout of its own.
    pub fn start(arguments: &str, variables: &[(&str, &str)]) -> Weir {
        let folder = checkout();
        let mut weir = Weir::start_in(folder.path(), arguments, variables);
        weir.folder = Some(folder);
        weir
    }

    /// The same in `folder`.
    pub fn start_in(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> Weir {
        let mut command = command(env!("CARGO_BIN_EXE_weir"), folder);
        command.args(arguments.split_whitespace()).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let listeners =
            vec![listen(child.stdout.take().unwrap(), lines.clone()), listen(child.stderr.take().unwrap(), lines.clone())];
        Weir { child, lines, listeners, folder: None }
    }

    /// What it has written so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that contains `words`.
    pub fn line(&mut self, words: &str) -> String {
        eventually(format_args!("`{words}` is written"), || {
            let found = self.lines().into_iter().find(|line| line.contains(words));
            assert!(found.is_some() || self.is_running(), "it ended without writing `{words}`: {:#?}", self.lines());
            found
        })
    }

    /// The value of `name=` in a line that contains it.
    pub fn field(&mut self, name: &str) -> String {
        field(&self.line(&format!("{name}=")), name)
    }

    /// What its admin interface says at `/metrics`.
    pub fn metrics(&mut self) -> String {
        let line = self.line("admin interface on http://");
        let address = line.rsplit_once("http://").unwrap().1.trim();
        let mut connection = TcpStream::connect(address).unwrap();
        write!(connection, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The ids of the processes that it has started and that have not ended.
    pub fn children(&self) -> Vec<u32> {
        let id = self.child.id();
        // Each thread has its own.
        let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().map(|thread| thread.unwrap().path().join("children"));
        let children: String = threads.filter_map(|file| fs::read_to_string(file).ok()).collect();
        children.split_whitespace().map(|child| child.parse().unwrap()).collect()
    }

    /// The process as the kernel sees it: a file of `/proc/PID`.
    pub fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// How long it has kept a processor busy.
    pub fn processor_time(&self) -> Duration {
        // After the name in parentheses, which may hold anything, utime and stime are fields 12 and 13 (proc_pid_stat(5)),
        // in hundredths of a second.
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        Duration::from_millis(10 * fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
    }

    /// Memory in KiB: `VmRSS`, what is resident now, or `VmHWM`, the most that ever was.
    pub fn memory_kib(&self, what: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGTERM, and sees it end within [`GRACE`].
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        let ended = self.end();
        assert!(asked.elapsed() < GRACE, "it took {:?} to stop: {:#?}", asked.elapsed(), ended.lines);
        ended
    }

    /// Waits until it ends by itself.
    pub fn end(mut self) -> Ended {
        let status: ExitStatus = eventually("it ends", || self.child.try_wait().unwrap());
        // What it wrote is complete once both streams are closed.
        self.listeners.drain(..).for_each(|listener| listener.join().unwrap());
        Ended { code: status.code(), lines: self.lines() }
    }
}

impl Drop for Weir {
    /// Where a test fails it shows what this wrote last: the files of a machine that runs tests may be gone with it.
    fn drop(&mut self) {
        if thread::panicking() {
            show_last("weir", &self.lines());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The value of `name=` in the last line that has it, a number.
    pub fn number(&self, name: &str) -> u64 {
        let name = format!("{name}=");
        let value = self.lines.iter().rev().find_map(|line| Some(line.split_once(&name)?.1));
        let value = value.unwrap_or_else(|| panic!("`{name}` is not in {:#?}", self.lines));
        value.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// The value of `name=` in `line`.
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
