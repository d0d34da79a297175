//! Compiling bytes that nobody vouches for: in a child process, with bounds on its memory and time.
//!
//! A compiler's time and memory may grow out of proportion with what it is given. In a process of its own that harms nobody:
//! it reads a component from standard input and writes machine code to standard output, under limits that it sets
//! for itself before it looks at the first byte. It knows nothing else: not the configuration, not the environment. What
//! comes back is trusted as far as the compiler is.

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
use super::settings::Compile;
use weir_core::printable::harmless;
use weir_core::units::size;

/// What compiling may take. A component of 100 KiB takes some 0.2 s and 60 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Address space of the process, bytes.
    pub memory: u64,
    /// Time of the clock, and of each core, in seconds.
    pub seconds: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { memory: MOST_MEMORY, seconds: 30 }
    }
}

/// The first argument of a process that compiles. Like no command that a person might mean, so that it is never suggested.
pub const COMPILING: &str = "-compile-one-component";

impl Bounds {
    /// Those of the configuration. Where it leaves the memory open, half of what this process's cgroup may have is for the
    /// compiler, so that it is not the stream that is ended. In a cgroup of less than 512 MiB it is more than half, and the
    /// kernel may have to end a process: by its score that is the compiler, unless all of the cgroup ends together
    /// (`memory.oom.group`).
    pub fn new(compile: &Compile) -> Bounds {
        Bounds { memory: compile.memory.unwrap_or_else(|| share(cgroup::memory_limit())), seconds: compile.time.as_secs() }
    }
}

/// The part of `limit` that compiling may take.
fn share(limit: Option<u64>) -> u64 {
    limit.map_or(MOST_MEMORY, |limit| (limit / 2).clamp(LEAST_MEMORY, MOST_MEMORY))
}

/// What compiling may take where nothing says otherwise, in bytes of address space: the most, and the least, without which no
/// honest rule is compiled. That is so even where it is more than half of the cgroup's.
const MOST_MEMORY: u64 = 2 << 30;
const LEAST_MEMORY: u64 = 256 << 20;
/// How ready the kernel is to end the compiler rather than others when memory runs out. This is the most.
const OOM_SCORE: &str = "1000";
/// How far the compiler stands back behind the data loop where cores are few: it gets a tenth of what others get, which still
/// ends in seconds where there is but one core and that is busy.
const NICENESS: i32 = 10;
/// Most machine code that is taken back, in bytes. It has some five times the size of the component.
const MAX_COMPILED_BYTES: u64 = 256 << 20;
/// Most globals, and most functions, that a component may have. Each takes 16 or 32 bytes in each of its instances, which are
/// not in the memory that is bounded. Honest rules have a handful and some thousand.
const MAX_GLOBALS: u64 = 10_000;
const MAX_FUNCTIONS: u64 = 50_000;
/// Longest name of a function, in bytes. wasmtime copies it into each frame of each trap's backtrace, which no deadline bounds.
const MAX_NAME_BYTES: usize = 64 << 10;
/// Threads that compile. Each reserves address space, which is bounded, and on a large machine there would be very many.
const THREADS: &str = "4";
/// Arenas that they allocate from, for the same reason.
const ARENAS: &str = "2";
/// How much of what the process says of a failure is kept, in bytes.
const MAX_WORDS: u64 = 2_048;

/// Where components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process: for components that its user has built.
    Here,
    /// In a process of this program.
    Child { program: PathBuf, bounds: Bounds },
}

impl Compiler {
    /// A child process of the program that runs, within the bounds of the configuration.
    pub fn child(compile: &Compile) -> Compiler {
        // Also where the file has been replaced since.
        Compiler::Child { program: PathBuf::from("/proc/self/exe"), bounds: Bounds::new(compile) }
    }

    /// The machine code of the component `bytes` for `engine`.
    ///
    /// # Errors
    /// If the bytes are no sound component, or compiling takes too much.
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

/// Refuses what would take much memory for each of its instances.
fn check_counts(bytes: &[u8]) -> anyhow::Result<()> {
    let (mut globals, mut functions) = (0, 0);
    // Where it can't be parsed the compiler says so, and better.
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

/// What such a process does: bounds itself, and compiles standard input to standard output.
///
/// # Errors
/// If that is no sound component, or takes too much.
pub fn compile_standard_input(bounds: Bounds) -> anyhow::Result<()> {
    for (resource, most) in [(Resource::As, bounds.memory), (Resource::Cpu, bounds.seconds), (Resource::Core, 0)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).context("failed to bound the compiler")?;
    }
    // Nobody waits for what it compiles once its parent is gone.
    set_parent_process_death_signal(Some(Signal::KILL)).context("failed to tie the compiler to its parent")?;
    // Where these are not allowed the compiler is only less polite.
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
        .envs([("RAYON_NUM_THREADS", THREADS), ("MALLOC_ARENA_MAX", ARENAS)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start the compiler")?;
    let mut input = child.stdin.take().context("the compiler has no input")?;
    let mut output = child.stdout.take().context("the compiler has no output")?.take(MAX_COMPILED_BYTES + 1);
    let mut errors = child.stderr.take().context("the compiler has no errors")?.take(MAX_WORDS);
    let (done, read) = mpsc::channel();
    let (in_time, compiled, words) = thread::scope(|scope| {
        // If it ends before it has read everything, its exit code tells why.
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
        // Where it has said all it has to say it is about to end by itself, and is to tell how.
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
    // What ended in the middle of it may have written a part, which must not be run.
    if status.success() && !compiled.is_empty() {
        return Ok(compiled);
    }
    match words.trim().strip_prefix("error: ").map(|words| harmless(words).into_owned()) {
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
