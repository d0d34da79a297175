//! One cut after the other: what to ask, in which order, and what to read for it.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::anyhow;

use super::audit::Audit;
use super::partition::Cut;
use super::progress::Progress;
use super::report::Verdict;
use super::violation::{Names, ROLES, Role};
use crate::config::Config;
use crate::kafka::offsets::Committed;
use crate::kafka::reader::{Extents, Seen};
use crate::kafka::{Failure, Reader};
use crate::state::State;

/// What the engine writes to.
const WRITTEN: [Role; 3] = [Role::Outputs, Role::DeadLetters, Role::Counts];

/// The topics, how far they are read, and what was found in them.
pub(super) struct Session {
    reader: Reader,
    names: Names,
    audit: Audit,
    /// Up to where partitions are read.
    read: BTreeMap<(Role, i32), i64>,
}

impl Session {
    pub(super) fn open(config: &Config, brokers: &str, progress: &mut Progress) -> Result<Session, Failure> {
        let topics = &config.topics;
        let names = Names([&topics.input, &topics.output, &topics.rejected, &topics.counts].map(String::clone));
        let reader = Reader::open(&config.kafka, brokers).map_err(Failure::Stop)?;
        // A wrong address or name is told before anything else is tried.
        reader.partitions(&topics.input, progress)?;
        let compacted = reader.compacted(&names.0.each_ref().map(String::as_str));
        let compacted = ROLES.into_iter().filter(|role| compacted.contains(&names.of(*role))).collect();
        let drops = config.rules.iter().any(|rule| rule.drop);
        Ok(Session { reader, audit: Audit::new(names.clone(), drops, compacted), names, read: BTreeMap::new() })
    }

    /// Takes a cut, reads up to it, and judges. None if the group has committed nothing though there is something to do. If it
    /// fails where waiting can help, the next one goes on where this one was.
    pub(super) fn round(&mut self, progress: &mut Progress) -> Result<Option<Verdict>, Failure> {
        let input = self.names.of(Role::Input);
        let partitions = self.reader.partitions(input, progress)?;
        let committed = self.reader.committed(input, partitions, progress)?;
        let begun = committed.iter().any(|committed| committed.offset.is_some());
        // Where there has never been a message, none can be lost.
        if !begun && self.reader.extents(input, partitions, progress)?.values().any(|extent| extent.end > 0) {
            return Ok(None);
        }
        let mut written = Vec::new();
        for role in WRITTEN {
            let topic = self.names.of(role);
            let partitions = self.reader.partitions(topic, progress)?;
            written.push((role, self.reader.extents(topic, partitions, progress)?));
        }
        // A partition that was added meanwhile may have been written of.
        let partitions = self.reader.partitions(input, progress)?;
        let there = self.reader.committed_extents(input, partitions, progress)?;
        self.audit.cut(committed.into_iter().map(cut).collect());
        self.input(&there, progress)?;
        for (role, extents) in written {
            self.written(role, &extents, progress)?;
        }
        Ok(Some(self.audit.judge()))
    }

    fn input(&mut self, there: &Extents, progress: &mut Progress) -> Result<(), Failure> {
        for (partition, extent) in there {
            self.audit.input_extent(*partition, extent.clone());
        }
        self.read_on(Role::Input, there, progress)?;
        // The oldest may have expired before they could be read.
        let topic = self.names.of(Role::Input);
        for (partition, extent) in self.reader.committed_extents(topic, there.len() as i32, progress)? {
            self.audit.input_extent(partition, extent.start..there.get(&partition).map_or(0, |there| there.end));
        }
        Ok(())
    }

    fn written(&mut self, role: Role, there: &Extents, progress: &mut Progress) -> Result<(), Failure> {
        let topic = self.names.of(role).to_owned();
        self.reader.await_decided(&topic, there, progress)?;
        self.read_on(role, there, progress)?;
        for (partition, extent) in self.reader.committed_extents(&topic, there.len() as i32, progress)? {
            self.audit.low(role, partition, extent.start);
        }
        Ok(())
    }

    /// Reads what is there and was not read before.
    fn read_on(&mut self, role: Role, there: &Extents, progress: &mut Progress) -> Result<(), Failure> {
        let topic = self.names.of(role).to_owned();
        let mut left = there.clone();
        for (partition, extent) in &mut left {
            let read = self.read.get(&(role, *partition)).copied().unwrap_or_default();
            if read > extent.end {
                return Err(Failure::Stop(anyhow!(
                    "{topic}/{partition} was read up to {read} and ends at {} now: it was created anew or cut short",
                    extent.end
                )));
            }
            extent.start = extent.start.max(read);
        }
        let audit = &mut self.audit;
        let outcome = self.reader.read(&topic, &mut left, progress, |seen: Seen<'_>| match role {
            Role::Input => audit.input(seen.partition, seen.offset, seen.marks),
            Role::Outputs | Role::DeadLetters => audit.written(role, seen.partition, seen.offset, seen.marks),
            Role::Counts => audit.counts(seen.partition, seen.offset, seen.value),
        });
        // Also if that failed: what was taken in must not be taken in again, or it would be there twice.
        let read = |(partition, extent): (&i32, &Range<i64>)| left.get(partition).map_or(extent.end, |left| left.start);
        self.read.extend(there.iter().map(|there| ((role, *there.0), read(there))));
        outcome
    }
}

/// What was committed, with the state in it.
fn cut(committed: Committed) -> Cut {
    let Committed { partition, offset, metadata } = committed;
    let (state, no_state) = match State::parse(&metadata) {
        Ok(Some(state)) => (Some(state), None),
        Ok(None) => (None, Some("nothing was written beside it".to_owned())),
        Err(unreadable) => (None, Some(unreadable.to_string())),
    };
    let no_state = no_state.filter(|_| offset.is_some());
    Cut { partition, committed: offset, state: state.filter(|_| offset.is_some()), no_state }
}
