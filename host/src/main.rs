//! The program: dispatches the command, prints an error once with its causes, and sets the exit code by the kind of error.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir::cli::{self, BadUsage, Cli, Compile, WeirCommand};
use weir::config::InvalidConfig;
use weir::verify::NotVerified;
use weir_core::printable::escape_line;
use weir_wasm::{Bounds, ConfigRefused, compile_standard_input};

/// The exit code for bad usage or a bad configuration. clap uses the same code.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    bound_heaps();
    let done = match Compile::of_process() {
        Some(Compile { memory, seconds }) => compile_standard_input(Bounds { memory, seconds }),
        None => run(Cli::parse().command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has closed it, as `head` does. This is no failure.
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        // The verdict that was printed contains the reasons.
        Err(error) if error.is::<NotVerified>() => ExitCode::FAILURE,
        Err(error) => {
            // Writes one line, even if a rule, a broker or a name contributes line breaks. A failed write is ignored, because
            // standard error may be closed.
            let _ = writeln!(io::stderr(), "error: {}", escape_line(&format!("{error:#}")));
            let is_bad_usage = error.is::<BadUsage>() || error.is::<InvalidConfig>() || error.is::<ConfigRefused>();
            if is_bad_usage { ExitCode::from(BAD_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Bounds the free memory that the process keeps.
///
/// All threads share two heaps. By default glibc uses up to eight heaps for each processor, and each heap keeps the largest size
/// that its threads ever needed. The threads of the Kafka client come and go with its connections.
///
/// Large blocks are returned to the system at once. By default glibc would take later blocks of up to 32 MiB each from the heaps,
/// and keep them there.
///
/// Settings in the environment (such as `MALLOC_ARENA_MAX`) take precedence.
fn bound_heaps() {
    /// Larger than the buffers of a batch, and smaller than a component with its base64.
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

fn run(command: WeirCommand) -> anyhow::Result<()> {
    match command {
        WeirCommand::Run(args) => weir::start::start(&args),
        WeirCommand::Demo(args) => weir::demo::demo(&args),
        WeirCommand::Simulate(args) => weir::simulate::simulate(&args),
        WeirCommand::Verify(args) => weir::verify::verify(&args),
        WeirCommand::Apply(args) => weir::apply::apply(&args, &args.file.load()?),
        WeirCommand::Build(args) => weir::build::build(&args.paths, &args.out),
        WeirCommand::Check(args) => weir::check::check(&args, &args.file.load()?),
        WeirCommand::Rules(args) => weir::rules::rules(&args.command),
        WeirCommand::Config(_) => cli::print(&weir::config::document()),
    }
}
