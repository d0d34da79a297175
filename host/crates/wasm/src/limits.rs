//! The limits of a guest, counted over everything in its store.
//!
//! wasmtime's own limiter bounds each memory and each table separately: a guest with ten memories would have ten times its
//! budget. The limiter of this module bounds their sums. It also remembers which limit was hit, so that the fault can name the
//! key of that limit. Time, stack and results are bounded elsewhere: by the epoch, by the engine, and by the fuel of host calls.

use wasmtime::{ResourceLimiter, Trap};

use super::settings::Limits;
use weir_core::units::size;

/// A limit of `[rule.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Memory,
    Tables,
    Instances,
    Stack,
    Result,
    Deadline,
}

impl Limit {
    /// Returns the limit that ended a call with `error`. Limits that [`Meter`] counts are not found here.
    pub(super) fn behind(error: &wasmtime::Error) -> Option<Limit> {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => return Some(Limit::Deadline),
            Some(Trap::StackOverflow) => return Some(Limit::Stack),
            _ => {}
        }
        // wasmtime has no error types for these limits.
        match error.root_cause().to_string() {
            cause if cause.contains("fuel allocated for hostcalls") => Some(Limit::Result),
            cause if cause.contains("count too high") => Some(Limit::Instances),
            _ => None,
        }
    }

    /// Returns what the rule `name` did to exceed this limit, as a part of a message.
    pub(super) fn words(self, name: &str, limits: &Limits) -> String {
        let Limits { memory, tables, instances, stack, result, deadline } = limits;
        match self {
            Limit::Memory => format!("wanted more memory than the {} of rule.{name}.memory", size(*memory as u64)),
            Limit::Tables => format!("wanted more table elements than the {tables} of rule.{name}.tables"),
            Limit::Instances => {
                format!("has more core instances, memories or tables than the {instances} of rule.{name}.instances")
            }
            Limit::Stack => format!("went deeper than the {} of rule.{name}.stack", size(*stack as u64)),
            Limit::Result => format!("handed over more than the {} of rule.{name}.result", size(*result as u64)),
            Limit::Deadline => format!("ran longer than the {deadline:?} of rule.{name}.deadline"),
        }
    }
}

/// The resources that one store has taken.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    memory: usize,
    tables: usize,
    /// The limit that ended the guest.
    pub(super) exceeded: Option<Limit>,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Meter {
        Meter { limits, memory: 0, tables: 0, exceeded: None }
    }

    fn exceed(&mut self, limit: Limit) -> wasmtime::Result<bool> {
        self.exceeded = Some(limit);
        Err(wasmtime::Error::msg("a limit was exceeded"))
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // If a memory wants more than its own declared maximum, none of our limits is hit: the guest is told that it can't grow.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.memory.saturating_add(desired - current);
        if wanted > self.limits.memory {
            return self.exceed(Limit::Memory);
        }
        self.memory = wanted;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.tables.saturating_add(desired - current);
        if wanted > self.limits.tables {
            return self.exceed(Limit::Tables);
        }
        self.tables = wanted;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    #[expect(clippy::misnamed_getters, reason = "how many tables, not how many elements in them")]
    fn tables(&self) -> usize {
        self.limits.instances
    }

    fn memories(&self) -> usize {
        self.limits.instances
    }
}
