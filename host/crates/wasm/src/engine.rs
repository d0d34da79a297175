//! What the runtime and the child that compiles must agree on: how code is made, and of what size a component may be.

use wasmtime::{Config, OptLevel, WasmBacktraceDetails};

/// Largest component that is compiled. Compilation takes time and memory in proportion; honest rules have some 100 KiB.
pub const MAX_COMPONENT_BYTES: usize = 8 << 20;

/// What shapes compiled code.
pub(super) fn engine_config() -> Config {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed).epoch_interruption(true).concurrency_support(false);
    // A guest's debug information takes time that no deadline bounds. Without this a variable of the environment asks for it.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}
