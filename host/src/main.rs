//! The program: what was typed is dispatched, an error is printed once as a chain, and the exit code says which kind it was.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir::cli::{self, BadUsage, Cli, Command, Compile};
use weir::config::Invalid;
use weir::verify::NotVerified;
use weir_core::printable::harmless;
use weir_wasm::{Bounds, Refused, compile_standard_input};

/// Exit code for bad usage or configuration; clap uses it as well.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    bound_heaps();
    let done = match Compile::of_process() {
        Some(Compile { memory, seconds }) => compile_standard_input(Bounds { memory, seconds }),
        None => run(Cli::parse().command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has had enough, as `head` has: that is no failure of ours.
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        // The verdict has said it all.
        Err(error) if error.is::<NotVerified>() => ExitCode::FAILURE,
        Err(error) => {
            // One line, whatever a rule, a broker or a name has put into it. Where standard error is closed there is nobody to
            // tell.
            let _ = writeln!(io::stderr(), "error: {}", harmless(&format!("{error:#}")));
            let is_bad_usage = error.is::<BadUsage>() || error.is::<Invalid>() || error.is::<Refused>();
            if is_bad_usage { ExitCode::from(BAD_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Bounds what the process keeps of memory that is free. Lets all threads share two heaps: glibc gives them up to eight for each
/// processor, and each keeps the most that its threads ever held; those of the Kafka client come and go with its connections. Gives
/// large blocks back to the system at once: glibc would take the next ones, up to 32 MiB each, from the heaps, and keep them there.
/// What the environment says (`MALLOC_ARENA_MAX` and its like) wins.
fn bound_heaps() {
    /// Larger than what a batch takes, and smaller than a component with its base64.
    #[cfg(target_env = "gnu")]
    const LARGE_BYTES: libc::c_int = 4 << 20;
    #[cfg(target_env = "gnu")]
    for (name, parameter, value) in [
        ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, 2),
        ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, LARGE_BYTES),
        ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, LARGE_BYTES),
    ] {
        if std::env::var_os(name).is_none() {
            // SAFETY: the call sets a number, before there are other threads.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => weir::start::start(&args),
        Command::Demo(args) => weir::demo::demo(&args),
        Command::Simulate(args) => weir::simulate::simulate(&args),
        Command::Verify(args) => weir::verify::verify(&args),
        Command::Apply(args) => weir::apply::apply(&args, &args.file.load()?),
        Command::Build(args) => weir::build::build(&args.paths, &args.out),
        Command::Check(args) => weir::check::check(&args, &args.file.load()?),
        Command::Rules(args) => weir::rules::rules(&args.command),
        Command::Config(_) => cli::print(&weir::config::document()),
    }
}
