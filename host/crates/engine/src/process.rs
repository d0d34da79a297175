//! The data loops of a process: how many there are, their threads, and their end.
//!
//! Each loop is a member of the consumer group with clients, instances of the rules and counts of its own, and shares no record and
//! no partition with the others. One loop that ends for good ends the process: its partitions would otherwise be read by nobody
//! until somebody notices. Not here: the work of a loop, which is in [`crate::data_loop`].

use std::thread;

use anyhow::Context as _;

use crate::active::ActiveRules;
use crate::data_loop::LoopSetup;
use crate::instances::RuleInstances;
use crate::process_snapshot::ProcessSnapshot;
use crate::protocol::{LiveReason, LoopEnd, LoopId};
use crate::settings::{CountSettings, Threads};
use crate::snapshot::{LoopState, SharedSnapshot};
use weir_kafka::{Identity, topics};
use weir_system::shutdown::Shutdown;

/// The totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The records that were read and committed.
    pub read: u64,
    /// The number of these records that passed every rule.
    pub written: u64,
    /// The number of these records that did not pass every rule.
    pub rejected: u64,
    /// The number of committed batches.
    pub batches: u64,
}

/// The parts that the data loops of a process need to run.
pub struct Setup<'a, C> {
    /// The topics, and the settings for reaching the cluster.
    pub kafka: &'a weir_kafka::Settings,
    /// The cluster's address, which may be that of an embedded broker.
    pub brokers: &'a str,
    /// The settings of the counts.
    pub counts: &'a CountSettings,
    /// Whether loops are left out for which there is no input partition.
    pub threads: Threads,
    /// Ends the run when a shutdown is requested. A loop that ends requests it, too.
    pub shutdown: &'a Shutdown,
    /// The snapshots for observers, one for each loop.
    pub snapshot: &'a ProcessSnapshot,
    /// Returns the time in milliseconds since the epoch.
    pub clock: C,
}

/// The values with which a data loop begins.
pub struct LoopStart {
    /// Instances of the first set of rules.
    pub rules: RuleInstances,
    /// The reason why this set is in force.
    pub why: LiveReason,
    /// The loop's end of the connection with the loader of rules.
    pub control: LoopEnd,
}

/// Requests a shutdown when it is dropped, also while its thread panics.
struct EndsProcess<'a>(&'a Shutdown);

impl Drop for EndsProcess<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

impl<C: Fn() -> i64 + Sync> Setup<'_, C> {
    /// Reaches the cluster, prepares the topics, and runs the loops until a shutdown is requested.
    ///
    /// # Errors
    /// If something fails in a loop that waiting can't help, such as a missing permission or topic. The other loops have finished
    /// the chunks in hand by then.
    pub fn run(self, loops: Vec<LoopStart>) -> anyhow::Result<Summary> {
        // Observers see the first set while Kafka is not reached yet.
        let show = |(LoopStart { rules, why, control }, shared): (LoopStart, SharedSnapshot)| {
            let now = (self.clock)();
            let active = ActiveRules::new(rules, why, now, control.lately.clone());
            shared.heartbeat(now);
            shared.update(|snapshot| active.show(snapshot));
            (active, control)
        };
        let outcome = self.serve(loops.into_iter().zip(self.snapshot.shared()).map(show).collect());
        self.snapshot.shared().iter().for_each(|shared| shared.update(|snapshot| snapshot.state = LoopState::Stopped));
        outcome?;
        let sum = self.snapshot.get();
        Ok(Summary { read: sum.read, written: sum.written, rejected: sum.rejections(), batches: sum.batches })
    }

    fn serve(&self, mut loops: Vec<(ActiveRules, LoopEnd)>) -> anyhow::Result<()> {
        let Some(ready) = topics::prepare(self.kafka, self.brokers, self.shutdown)? else { return Ok(()) };
        let partitions = ready.input_partitions;
        if self.threads == Threads::Auto {
            let surplus = loops.split_off(partitions.clamp(1, loops.len()));
            self.snapshot.limit(loops.len());
            surplus.into_iter().for_each(|(_, control)| control.dismiss());
        }
        let several = loops.len() > 1;
        if several {
            tracing::info!(loops = loops.len(), partitions, "data loops share the input partitions with the rest of the group");
        }
        let identity = Identity::claim(&self.kafka.client);
        thread::scope(|scope| {
            let mut running = Vec::new();
            for ((active, control), snapshot) in loops.into_iter().zip(self.snapshot.shared()) {
                let LoopId(id) = control.id;
                let (kafka, clock, largest_batch) = (identity.settings_of(self.kafka, id), &self.clock, ready.largest_batch);
                let (brokers, counts, shutdown) = (self.brokers, self.counts, self.shutdown);
                let work = move || {
                    let _ends = EndsProcess(shutdown);
                    let _span = several.then(|| tracing::error_span!("data_loop", id).entered());
                    let setup = LoopSetup { kafka: &kafka, brokers, largest_batch, counts, shutdown, snapshot, clock };
                    let outcome = setup.run(active, control);
                    if let (Err(error), true) = (&outcome, several) {
                        tracing::error!("the data loop ends, and the process with it: {error:#}");
                    }
                    outcome
                };
                let spawned = thread::Builder::new().name(format!("weir-loop-{id}")).spawn_scoped(scope, work);
                running.push(spawned.context("failed to start a data loop").inspect_err(|_| self.shutdown.request())?);
            }
            let outcomes =
                running.into_iter().map(|running| running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            // All loops have ended before an error is returned.
            let outcomes: Vec<_> = outcomes.collect();
            outcomes.into_iter().collect()
        })
    }
}

#[cfg(test)]
mod tests;
