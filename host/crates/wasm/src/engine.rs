//! The settings on which the runtime and the compiling child process must agree: the configuration of wasmtime, and the largest
//! size of a component.

use wasmtime::{Config, OptLevel, WasmBacktraceDetails};

/// The largest component that is compiled, in bytes. Compilation takes time and memory in proportion to the size; ordinary rules
/// have some 100 KiB.
pub const MAX_COMPONENT_BYTES: usize = 8 << 20;

/// Returns the settings that shape compiled code.
pub(super) fn engine_config() -> Config {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed).epoch_interruption(true).concurrency_support(false);
    // Reading a guest's debug information takes time that no deadline bounds. Without this line an environment variable could
    // turn the reading on.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}
