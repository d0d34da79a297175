//! The commands and events that the loader of rules and the data loops exchange. They share nothing else.
//!
//! A process may have several data loops. Each loop takes commands between two transactions, and each event names its loop. A set
//! is live when all loops have activated it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{self, Receiver, Sender};

use serde::{Deserialize, Serialize};

use crate::instances::RuleInstances;
use crate::settings::TrialBounds;
use crate::shadow::ShadowSampler;
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
    /// The bounds of the set's trial, if it has to stand one.
    pub trial: Option<TrialBounds>,
    /// The baseline: what the set before has done lately, if an earlier process has recorded that.
    pub baseline: TrackRecord,
}

/// An event that a data loop reports to the loader. Events carry the instances that are no longer needed, because dropping them
/// takes time that the data loop does not have.
#[derive(Debug)]
pub enum Event {
    /// A set is in force.
    Activated(Activated),
    /// A set has passed its trial.
    Passed {
        /// The hash of the set.
        hash: String,
        retired: Vec<RuleInstances>,
    },
    /// A set has failed its trial, and another one is in force again.
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
    commands: Vec<Sender<Command>>,
    pub events: Receiver<(LoopId, Event)>,
}

/// A data loop's end of the connection with the loader.
#[derive(Debug)]
pub struct LoopEnd {
    pub id: LoopId,
    pub commands: Receiver<Command>,
    events: Sender<(LoopId, Event)>,
}

/// Connects a loader with `count` data loops.
pub fn connect(count: usize) -> (Loops, Vec<LoopEnd>) {
    let (sender, events) = mpsc::channel();
    let mut loops = Loops { commands: Vec::new(), events };
    let ends = (0..count).map(|id| {
        let (command, commands) = mpsc::channel();
        loops.commands.push(command);
        LoopEnd { id: LoopId(id), commands, events: sender.clone() }
    });
    let ends = ends.collect();
    (loops, ends)
}

impl Loops {
    /// Returns the loops of the process.
    pub fn ids(&self) -> impl Iterator<Item = LoopId> {
        (0..self.commands.len()).map(LoopId)
    }

    /// Sends a command to a loop. Returns whether the loop still runs.
    pub fn tell(&self, to: LoopId, command: Command) -> bool {
        self.commands.get(to.0).is_some_and(|commands| commands.send(command).is_ok())
    }
}

impl LoopEnd {
    /// Sends an event to the loader. Does nothing if the loader has gone.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send((self.id, event));
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
        ends[1].tell(Event::Passed { hash: "cafe".into(), retired: Vec::new() });
        assert_eq!(loops.events.recv().unwrap().0, LoopId(1));
        assert!(!loops.tell(LoopId(2), Command::Sample(None)), "there is no such loop");
        drop(ends);
        assert!(!loops.tell(LoopId(0), Command::Sample(None)) && loops.events.recv().is_err());
    }
}
