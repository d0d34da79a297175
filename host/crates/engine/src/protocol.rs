//! What the loader of rules and the data loops say to each other. They share nothing else.
//!
//! A process may have several data loops. Each takes commands between two transactions, and says with each event which loop it
//! is. A set is live when all of them have activated it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{self, Receiver, Sender};

use serde::{Deserialize, Serialize};

use crate::instances::RuleInstances;
use crate::settings::TrialBounds;
use crate::shadow::ShadowSampler;
use crate::trial::TrackRecord;

/// One of the data loops of a process, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoopId(pub usize);

/// What the loader tells a data loop. Closed on purpose: whoever adds to it sees every place that has to know.
#[derive(Debug)]
pub enum Command {
    /// Process by other rules from the next message on.
    Activate(Box<Activation>),
    /// Hand samples to a candidate, or no more.
    Sample(Option<ShadowSampler>),
}

/// A set that is to take the place of the one in force.
#[derive(Debug)]
pub struct Activation {
    pub rules: RuleInstances,
    pub why: Why,
    /// The bounds of its trial, if it has to stand one.
    pub trial: Option<TrialBounds>,
    /// What the set before it has done lately, where an earlier process has seen that.
    pub baseline: TrackRecord,
}

/// What a data loop tells the loader. Instances that are not needed any more come along: putting them away takes time that the
/// data loop does not have.
#[derive(Debug)]
pub enum Event {
    /// A set is in force.
    Activated(Activated),
    /// A set has passed its trial.
    Passed {
        /// Its hash.
        hash: String,
        retired: Vec<RuleInstances>,
    },
    /// A set has failed its trial, and another one is in force again.
    RolledBack {
        retired: RuleInstances,
        /// The hash of the set in force.
        back: String,
        /// Which bound was passed, and by how much.
        reason: String,
        /// Some of the records that spoke against it.
        evidence: Vec<String>,
    },
}

/// That a set is in force.
#[derive(Debug)]
pub struct Activated {
    /// Its hash.
    pub hash: String,
    /// By partition, the first offset that it processes.
    pub from: BTreeMap<i32, i64>,
    pub retired: Vec<RuleInstances>,
    /// Its trial, if it stands one.
    pub trial: Option<OnTrial>,
    /// The set that comes back first if it fails, where that was on trial itself when it was replaced.
    pub replaced: Option<String>,
}

/// That a set is in force, or is about to be, and has not passed its trial yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    /// The hash of the set that comes back if it fails.
    pub before: String,
    /// What that one has done lately.
    #[serde(rename = "usual")]
    pub baseline: TrackRecord,
}

/// Why a set is in force. One page in docs/ has the precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is what the folder and the configuration have.
    #[default]
    Folder,
    /// An operator went back to it, and it stays until they say otherwise.
    Pinned,
    /// It was in force before, and what the folder has does not prove or was rolled back.
    LastGood,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Why::Folder => "folder",
            Why::Pinned => "pinned",
            Why::LastGood => "last-good",
        })
    }
}

/// The loader's end: all data loops of the process.
#[derive(Debug)]
pub struct Loops {
    commands: Vec<Sender<Command>>,
    pub events: Receiver<(LoopId, Event)>,
}

/// A data loop's end.
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

    /// Tells a loop something. Returns whether it is still there.
    pub fn tell(&self, to: LoopId, command: Command) -> bool {
        self.commands.get(to.0).is_some_and(|commands| commands.send(command).is_ok())
    }
}

impl LoopEnd {
    /// Tells the loader something. Where it has gone there is nobody to tell.
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
