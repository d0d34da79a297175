//! What running and compiling rules is told.

use std::time::Duration;

/// What a rule may use. `[rule.NAME]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest linear memory, bytes.
    pub memory: usize,
    /// Most elements of a table.
    pub tables: usize,
    /// Most core instances, and as many memories and tables.
    pub instances: usize,
    /// Deepest stack of Wasm code, bytes.
    pub stack: usize,
    /// Most that one call may hand back, bytes.
    pub result: usize,
    /// Longest time for one batch.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: 32 << 20,
            tables: 20_000,
            instances: 10,
            stack: 512 << 10,
            result: 64 << 20,
            deadline: Duration::from_secs(1),
        }
    }
}

/// What compiling a rule may take. `[rules] compile_memory, compile_time`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compile {
    /// Address space, bytes. None: by what there is.
    pub memory: Option<u64>,
    pub time: Duration,
}
