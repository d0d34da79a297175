//! Compiles untrusted bytes in a child process, with bounds on its memory and time.
//!
//! A compiler's time and memory may grow out of proportion to its input. In a process of its own this harms no other process. The
//! child reads a component from standard input and writes machine code to standard output, under limits that it sets for itself
//! before it reads the first byte. The child gets nothing else: neither the configuration nor the environment of its parent. The
//! machine code that comes back is trusted as far as the compiler is.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use wasmparser::{CustomSectionReader, KnownCustom, Name, Parser, Payload};
use wasmtime::Engine;

use super::cgroup;
use super::engine::{MAX_COMPONENT_BYTES, engine_config};
use super::settings::CompileLimits;
use weir_core::printable::escape_line;
use weir_core::units::size;

/// The bounds of one compilation. A component of 100 KiB takes some 0.2 s and 60 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The address space of the process, in bytes.
    pub memory: u64,
    /// The time on the clock, and also the CPU time of the process, in seconds.
    pub seconds: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { memory: MOST_MEMORY, seconds: 30 }
    }
}

/// The first argument of a process that compiles. It resembles no command that a user might mean, so that it is never suggested.
pub const COMPILING: &str = "-compile-one-component";

impl Bounds {
    /// Returns the bounds of the configuration. If that sets no memory bound, the compiler gets half of the memory of this
    /// process's cgroup, so that it does not make the kernel end the data loop. In a cgroup of less than 512 MiB the compiler
    /// gets more than half, and the kernel may have to end a process. By its score that is the compiler, unless all processes of
    /// the cgroup are ended together (`memory.oom.group`).
    pub fn new(compile: &CompileLimits) -> Bounds {
        Bounds { memory: compile.memory.unwrap_or_else(|| share(cgroup::memory_limit())), seconds: compile.time.as_secs() }
    }
}

/// Returns the part of the cgroup's memory `limit` that compiling may take, in bytes.
fn share(limit: Option<u64>) -> u64 {
    limit.map_or(MOST_MEMORY, |limit| (limit / 2).clamp(LEAST_MEMORY, MOST_MEMORY))
}

/// The most and the least address space that compiling may take if the configuration sets no bound, in bytes. With less than the
/// least no ordinary rule can be compiled, so the least holds even where it is more than half of the cgroup's memory.
const MOST_MEMORY: u64 = 2 << 30;
const LEAST_MEMORY: u64 = 256 << 20;
/// The score by which the kernel ends the compiler rather than other processes when memory runs out. It is the highest one.
const OOM_SCORE: &str = "1000";
/// The niceness of the compiler, which lets the data loop go first where cores are few. The compiler gets a tenth of the time
/// that other processes get. With that it still ends in seconds, even if there is only one core and that core is busy.
const NICENESS: i32 = 10;
/// The most machine code that is accepted from the child, in bytes. Machine code has some five times the size of its component.
const MAX_COMPILED_BYTES: u64 = 256 << 20;
/// The most globals, and the most functions, that a component may have. Each takes 16 or 32 bytes in each instance of the
/// component, outside of the memory that is bounded. Ordinary rules have a handful of globals and some thousand functions.
const MAX_GLOBALS: u64 = 10_000;
const MAX_FUNCTIONS: u64 = 50_000;
/// The longest name of a function, in bytes. wasmtime copies the name into each frame of each trap's backtrace, which no deadline
/// bounds.
const MAX_NAME_BYTES: usize = 64 << 10;
/// The number of threads that compile. Each reserves address space, which is bounded, and a large machine would start very many.
const THREADS: &str = "4";
/// The settings of the allocator, jemalloc, in the child. It has few arenas and keeps no address space, because that is bounded.
const ALLOCATOR: &str = "narenas:2,retain:false,background_thread:false";
/// The most of the child's error output that is kept, in bytes.
const MAX_ERROR_BYTES: u64 = 2_048;

/// The process in which components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This process: for components that its own user has built.
    Here,
    /// A child process that runs `program`.
    Child { program: PathBuf, bounds: Bounds },
}

impl Compiler {
    /// Returns a compiler that runs this program again as a child process, within the bounds of the configuration.
    pub fn child(compile: &CompileLimits) -> Compiler {
        // This path leads to the program that runs, even if its file has been replaced since.
        Compiler::Child { program: PathBuf::from("/proc/self/exe"), bounds: Bounds::new(compile) }
    }

    /// Returns the machine code of the component `bytes` for `engine`.
    ///
    /// # Errors
    /// If the bytes are no sound component, or if compiling takes too much memory or time.
    pub(super) fn compile(&self, engine: &Engine, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        match self {
            Compiler::Here => Ok(precompile(engine, bytes)?),
            Compiler::Child { program, bounds } => in_child(program, *bounds, bytes),
        }
    }
}

fn precompile(engine: &Engine, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    check_counts(bytes)?;
    engine
        .precompile_component(bytes)
        .map_err(anyhow::Error::from)
        .context("it is no sound WebAssembly component, or was not written whole; `weir build` makes one")
}

/// Refuses components that would take much memory for each of their instances or backtraces.
fn check_counts(bytes: &[u8]) -> anyhow::Result<()> {
    let (mut globals, mut functions) = (0, 0);
    // If the bytes can't be parsed the loop ends early: the compiler reports that with a better message.
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::GlobalSection(section) => globals += u64::from(section.count()),
            Payload::FunctionSection(section) => functions += u64::from(section.count()),
            Payload::CustomSection(section) => check_names(&section)?,
            _ => {}
        }
    }
    ensure!(globals <= MAX_GLOBALS, "it has {globals} globals, and at most {MAX_GLOBALS} are allowed; make it smaller");
    ensure!(functions <= MAX_FUNCTIONS, "it has {functions} functions, and at most {MAX_FUNCTIONS} are allowed; make it smaller");
    Ok(())
}

/// Refuses names of functions that are too long.
fn check_names(section: &CustomSectionReader<'_>) -> anyhow::Result<()> {
    let KnownCustom::Name(names) = section.as_known() else { return Ok(()) };
    for functions in names.map_while(Result::ok) {
        let Name::Function(functions) = functions else { continue };
        let longest = functions.into_iter().map_while(Result::ok).map(|naming| naming.name.len()).max().unwrap_or(0);
        ensure!(
            longest <= MAX_NAME_BYTES,
            "a function's name has {longest} bytes, and at most {MAX_NAME_BYTES} are allowed; strip the names of functions"
        );
    }
    Ok(())
}

/// Does the work of the child process: bounds itself, and compiles standard input to standard output.
///
/// # Errors
/// If the input is no sound component, or if compiling takes too much.
pub fn compile_standard_input(bounds: Bounds) -> anyhow::Result<()> {
    for (resource, most) in [(Resource::As, bounds.memory), (Resource::Cpu, bounds.seconds), (Resource::Core, 0)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).context("failed to bound the compiler")?;
    }
    // Once the parent is gone, no process waits for the result, so the compiler is to end too.
    set_parent_process_death_signal(Some(Signal::KILL)).context("failed to tie the compiler to its parent")?;
    // These two only protect other processes. Where they are not allowed, the compiler works without them.
    let _ = nice(NICENESS);
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut bytes = Vec::new();
    io::stdin().take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes).context("failed to read the component")?;
    let engine = Engine::new(&engine_config())?;
    let compiled = precompile(&engine, &bytes)?;
    io::stdout().write_all(&compiled).context("failed to write the machine code")
}

fn in_child(program: &PathBuf, bounds: Bounds, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let Bounds { memory, seconds } = bounds;
    let mut child = Command::new(program)
        .args([COMPILING, "--memory", &memory.to_string(), "--seconds", &seconds.to_string()])
        .env_clear()
        .envs([("RAYON_NUM_THREADS", THREADS), ("MALLOC_CONF", ALLOCATOR)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start the compiler")?;
    let mut input = child.stdin.take().context("the compiler has no input")?;
    let mut output = child.stdout.take().context("the compiler has no output")?.take(MAX_COMPILED_BYTES + 1);
    let mut errors = child.stderr.take().context("the compiler has no errors")?.take(MAX_ERROR_BYTES);
    let (done, read) = mpsc::channel();
    let (in_time, compiled, words) = thread::scope(|scope| {
        // A failure to write is ignored: if the child ends before it has read everything, its exit code tells why.
        scope.spawn(move || drop(input.write_all(bytes)));
        let words = scope.spawn(move || {
            let mut words = Vec::new();
            errors.read_to_end(&mut words).map(|_| String::from_utf8_lossy(&words).into_owned())
        });
        let compiled = scope.spawn(move || {
            let mut compiled = Vec::new();
            let read = output.read_to_end(&mut compiled).map(|_| compiled);
            let _ = done.send(());
            read
        });
        let in_time = read.recv_timeout(Duration::from_secs(seconds)).is_ok();
        // A child that has closed its output in time is about to end by itself. It is not killed, so that its exit code tells how
        // it ended.
        if !in_time {
            let _ = child.kill();
        }
        (in_time, compiled.join().unwrap_or_else(|_| Ok(Vec::new())), words.join().unwrap_or_else(|_| Ok(String::new())))
    });
    let status = child.wait().context("failed to wait for the compiler")?;
    ensure!(in_time, "compiling it takes longer than {seconds} s; make it smaller, or raise rules.compile_time");
    let (compiled, words) = (compiled.context("failed to read the machine code")?, words.unwrap_or_default());
    ensure!(
        compiled.len() as u64 <= MAX_COMPILED_BYTES,
        "its machine code has more than {MAX_COMPILED_BYTES} bytes; make it smaller"
    );
    // A child that ended too early may have written a part of the machine code, which must not be run.
    if status.success() && !compiled.is_empty() {
        return Ok(compiled);
    }
    match words.trim().strip_prefix("error: ").map(|words| escape_line(words).into_owned()) {
        Some(words) if status.code() == Some(1) => bail!("{words}"),
        _ => bail!(
            "compiling it takes more than {} of memory or {seconds} s ({status}); make it smaller, or raise rules.compile_memory \
             or rules.compile_time",
            size(memory)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiling_takes_half_of_a_small_cgroup_and_never_more_than_2_gib() {
        assert_eq!(share(None), 2 << 30);
        assert_eq!(share(Some(u64::MAX)), 2 << 30);
        assert_eq!(share(Some(1 << 30)), 512 << 20);
        assert_eq!(share(Some(64 << 20)), 256 << 20, "or nothing would be compiled");
    }
}
