//! The commands and events that the loader of rules and the data loops exchange. They share nothing else.
//!
//! A process may have several data loops. Each loop takes commands between two transactions, and each event names its loop. A set
//! is live when all loops have activated it. Until then both sets process records, each record being processed by one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::instances::RuleInstances;
use crate::shadow::ShadowSampler;
use crate::shared_trial::SharedTrial;
use crate::trial::TrackRecord;

/// The number of a data loop within its process, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoopId(pub usize);

/// A command of the loader to a data loop. The enum is closed on purpose: the compiler then finds every place that must handle a
/// new command.
#[derive(Debug)]
pub enum Command {
    /// Processes by other rules from the next record on.
    Activate(Box<Activation>),
    /// Hands samples to a candidate, or stops handing out samples.
    Sample(Option<ShadowSampler>),
}

/// A set that is to take the place of the one in force.
#[derive(Debug)]
pub struct Activation {
    pub rules: RuleInstances,
    pub why: LiveReason,
    /// The set's trial, if it has to stand one: the same trial for all loops.
    pub trial: Option<Arc<SharedTrial>>,
    /// The baseline: what the set before has done lately, if an earlier process has recorded that.
    pub baseline: TrackRecord,
}

/// An event that a data loop reports to the loader. Events carry the instances that are no longer needed, because dropping them
/// takes time that the data loop does not have. Of all loops, only the one that reaches the verdict on a set reports it.
#[derive(Debug)]
pub enum Event {
    /// A set is in force in this loop.
    Activated(Activated),
    /// The trial of a set has ended.
    Judged(Judgement),
    /// The loop follows the verdict that another loop has reached, and no longer needs these instances.
    Retired(Vec<RuleInstances>),
    /// The loop does not run and never will, because there are fewer input partitions than loops.
    Dismissed,
}

/// The end of a set's trial.
#[derive(Debug)]
pub enum Judgement {
    /// The set has passed.
    Passed {
        /// The hash of the set.
        hash: String,
        retired: Vec<RuleInstances>,
    },
    /// The set has failed, and another one is in force again.
    TakenBack {
        retired: RuleInstances,
        /// The hash of the set in force.
        back: String,
        /// The bound that was exceeded, and by how much.
        reason: String,
        /// Some of the records that speak against the set that failed.
        evidence: Vec<String>,
    },
}

impl Judgement {
    /// Returns the hash of the set whose trial has ended.
    pub fn hash(&self) -> &str {
        match self {
            Judgement::Passed { hash, .. } => hash,
            Judgement::TakenBack { retired, .. } => retired.hash(),
        }
    }
}

/// An event: a set is in force.
#[derive(Debug)]
pub struct Activated {
    /// The hash of the set.
    pub hash: String,
    /// By partition, the first offset that the set processes.
    pub from: BTreeMap<i32, i64>,
    pub retired: Vec<RuleInstances>,
    /// The set's trial, if it stands one.
    pub trial: Option<OnTrial>,
    /// The hash of the set that comes back first if this one fails, if that set was still on trial itself when it was replaced.
    pub replaced: Option<String>,
}

/// The trial of a set that is in force, or is about to be, and has not passed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    /// The hash of the set that comes back if the trial fails.
    pub before: String,
    /// The baseline: what the set `before` has done lately.
    #[serde(rename = "usual")]
    pub baseline: TrackRecord,
}

/// The reason why a set is in force. `docs/rules.md` has the precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveReason {
    /// The set is the one in the folder and the configuration.
    #[default]
    Folder,
    /// An operator has pinned the set. It stays until an operator ends the pin.
    Pinned,
    /// The set was in force before, and the set in the folder can't be proven or was taken back.
    LastGood,
}

impl fmt::Display for LiveReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            LiveReason::Folder => "folder",
            LiveReason::Pinned => "pinned",
            LiveReason::LastGood => "last-good",
        })
    }
}

/// The loader's end of the connection with all data loops of the process.
#[derive(Debug)]
pub struct Loops {
    ends: Vec<LoopHandle>,
    pub events: Receiver<(LoopId, Event)>,
}

/// The loader's connection with one data loop.
#[derive(Debug)]
struct LoopHandle {
    commands: Sender<Command>,
    is_dismissed: Arc<AtomicBool>,
}

/// A data loop's end of the connection with the loader.
#[derive(Debug)]
pub struct LoopEnd {
    pub id: LoopId,
    pub commands: Receiver<Command>,
    events: Sender<(LoopId, Event)>,
    is_dismissed: Arc<AtomicBool>,
    /// The results of the rules in force in all loops of the process.
    pub(crate) lately: Arc<Mutex<TrackRecord>>,
}

/// Connects a loader with `count` data loops.
pub fn connect(count: usize) -> (Loops, Vec<LoopEnd>) {
    let (sender, events) = mpsc::channel();
    let mut loops = Loops { ends: Vec::new(), events };
    let lately = Arc::default();
    let ends = (0..count).map(|id| {
        let (command, commands) = mpsc::channel();
        let is_dismissed = Arc::<AtomicBool>::default();
        loops.ends.push(LoopHandle { commands: command, is_dismissed: Arc::clone(&is_dismissed) });
        LoopEnd { id: LoopId(id), commands, events: sender.clone(), is_dismissed, lately: Arc::clone(&lately) }
    });
    let ends = ends.collect();
    (loops, ends)
}

impl Loops {
    /// Returns the loops of the process, without those that were dismissed.
    pub fn ids(&self) -> impl Iterator<Item = LoopId> {
        let ends = self.ends.iter().enumerate();
        ends.filter(|(_, end)| !end.is_dismissed.load(Ordering::Acquire)).map(|(id, _)| LoopId(id))
    }

    /// Sends a command to a loop. Returns false if the loop has ended. A command to a loop that was dismissed has no effect.
    pub fn tell(&self, to: LoopId, command: Command) -> bool {
        let Some(end) = self.ends.get(to.0) else { return false };
        end.commands.send(command).is_ok() || end.is_dismissed.load(Ordering::Acquire)
    }
}

impl LoopEnd {
    /// Sends an event to the loader. Does nothing if the loader has gone.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send((self.id, event));
    }

    /// Tells the loader that this loop will not run.
    pub fn dismiss(self) {
        self.is_dismissed.store(true, Ordering::Release);
        self.tell(Event::Dismissed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loop_gets_its_own_commands_and_names_itself() {
        let (loops, ends) = connect(2);
        assert!(loops.tell(LoopId(1), Command::Sample(None)));
        assert!(ends[0].commands.try_recv().is_err() && ends[1].commands.try_recv().is_ok());
        ends[1].tell(Event::Judged(Judgement::Passed { hash: "cafe".into(), retired: Vec::new() }));
        assert_eq!(loops.events.recv().unwrap().0, LoopId(1));
        assert!(!loops.tell(LoopId(2), Command::Sample(None)), "there is no such loop");
        drop(ends);
        assert!(!loops.tell(LoopId(0), Command::Sample(None)) && loops.events.recv().is_err());
    }

    #[test]
    fn a_loop_that_was_dismissed_is_none_that_has_ended() {
        let (loops, mut ends) = connect(2);
        ends.pop().unwrap().dismiss();
        assert!(matches!(loops.events.recv(), Ok((LoopId(1), Event::Dismissed))));
        assert!(loops.tell(LoopId(1), Command::Sample(None)), "a command that was on its way is no error");
        assert_eq!(loops.ids().collect::<Vec<_>>(), [LoopId(0)]);
    }
}
