//! The settings for running and compiling rules.

use std::time::Duration;

/// The resources that a rule may use: `[rule.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest linear memory, in bytes, summed over all memories.
    pub memory: usize,
    /// The most elements of tables, summed over all tables.
    pub tables: usize,
    /// The most core instances; also the most memories, and the most tables.
    pub instances: usize,
    /// The deepest stack of Wasm code, in bytes.
    pub stack: usize,
    /// The most that one call may return, in bytes.
    pub result: usize,
    /// The longest time for one batch.
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

/// The resources that compiling a rule may take: `compile_memory` and `compile_time` of `[rules]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// The address space, in bytes. If None, it follows from the memory that this process may have.
    pub memory: Option<u64>,
    pub time: Duration,
}
