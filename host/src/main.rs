//! The program: dispatches the command, prints an error once with its causes, and sets the exit code by the kind of error.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tikv_jemallocator::Jemalloc;
use weir::cli::{self, BadUsage, Cli, Compile, WeirCommand};
use weir::config::InvalidConfig;
use weir::verify::NotVerified;
use weir_core::printable::escape_line;
use weir_wasm::{Bounds, ConfigRefused, compile_standard_input};

/// The allocator of the whole process, the Kafka client included: jemalloc.
///
/// The client allocates each record in one thread and frees it in another one, for which glibc needs locks. A process with jemalloc
/// takes a fifth less processor time under lag.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The settings of the allocator, which bound the free memory that the process keeps (<https://jemalloc.net/jemalloc.3.html>).
/// Memory that is not used for a tenth of a second goes back to the system, also while the process is idle. The variable
/// `MALLOC_CONF` takes precedence.
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8] = b"dirty_decay_ms:100,muzzy_decay_ms:0,background_thread:true,max_background_threads:1\0";

/// The exit code for bad usage or a bad configuration. clap uses the same code.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
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
