//! Takes one cut after the other: the requests, their order, and the reading for each cut.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::anyhow;

use super::audit::Audit;
use super::partition::Cut;
use super::progress::Progress;
use super::report::Verdict;
use super::violation::{Names, ROLES, Role};
use crate::config::Config;
use weir_core::state::State;
use weir_kafka::offsets::Committed;
use weir_kafka::reader::{Extents, Seen};
use weir_kafka::reset::Reset;
use weir_kafka::{Failure, Reader};

/// The roles of the topics that the engine writes to.
const WRITTEN: [Role; 3] = [Role::Outputs, Role::DeadLetters, Role::Counts];

/// The topics, the offsets up to which they are read, and the audit of their records.
pub(super) struct Session {
    reader: Reader,
    /// The offsets that the group has committed in the input. Errors take their remedy from here.
    offsets: Reset,
    names: Names,
    audit: Audit,
    /// The offsets up to which the partitions are read.
    read: BTreeMap<(Role, i32), i64>,
    /// The ids of the topics that are read. Empty if the committed states do not have the id of theirs.
    ids: BTreeMap<Role, String>,
}

impl Session {
    pub(super) fn open(config: &Config, brokers: &str, patience: Duration, progress: &mut Progress) -> Result<Session, Failure> {
        let topics = &config.kafka.topics;
        let names = Names([&topics.input, &topics.output, &topics.rejected, &topics.counts].map(String::clone));
        let reader = Reader::open(&config.kafka.client, brokers, patience).map_err(Failure::Stop)?;
        // A wrong address or name is reported before anything else is tried.
        reader.partitions(&topics.input, progress)?;
        let compacted = reader.compacted(&names.0.each_ref().map(String::as_str));
        let those = |answer| ROLES.into_iter().filter(|role| compacted[*role as usize] == answer).collect();
        let drops = config.rules.pipeline.iter().any(|rule| rule.drop);
        let mut audit = Audit::new(names.clone(), drops, those(Some(true)));
        audit.untold(those(None));
        Ok(Session {
            reader,
            offsets: Reset::new(&config.kafka.client, brokers, &topics.input),
            audit,
            names,
            read: BTreeMap::new(),
            ids: BTreeMap::new(),
        })
    }

    /// Takes a cut, reads up to it, and judges it. Returns None if the group has committed nothing though the input has records.
    /// After a failure that waiting can cure, the next call continues where this one ended.
    pub(super) fn round(&mut self, progress: &mut Progress) -> Result<Option<Verdict>, Failure> {
        let input = &self.names.of(Role::Input).to_owned();
        let partitions = self.reader.partitions(input, progress)?;
        let committed = self.reader.committed(input, partitions, progress)?;
        let begun = committed.iter().any(|committed| committed.offset.is_some());
        // If the input has never had a record, none can be lost.
        if !begun && self.reader.extents(input, partitions, progress)?.values().any(|extent| extent.end > 0) {
            return Ok(None);
        }
        let cuts: Vec<Cut> = committed.into_iter().map(cut).collect();
        let mut written = Vec::new();
        for role in WRITTEN {
            let topic = self.names.of(role);
            let partitions = self.reader.partitions(topic, progress)?;
            written.push((role, self.reader.extents(topic, partitions, progress)?));
        }
        self.same_topics(&cuts, progress)?;
        // The input may have got a partition meanwhile, and outputs may have records of it.
        let partitions = self.reader.partitions(input, progress)?;
        let there = self.reader.committed_extents(input, partitions, progress)?;
        self.audit.cut(cuts.clone());
        self.input(&there, progress)?;
        for (role, extents) in written {
            self.written(role, &extents, progress)?;
        }
        self.same_topics(&cuts, progress)?;
        Ok(Some(self.audit.judge()))
    }

    /// Checks that the topics are those that the group has read and that were read here before. In a topic that was deleted and
    /// created anew, an offset names another record, so the headers could not be relied on. If the id is the same before and
    /// after reading, all that was read in between is from the one topic.
    ///
    /// A state has no id if the cluster gives its topics none, or did not answer when the engine asked for it. The verdict then
    /// says that this was not judged.
    fn same_topics(&mut self, cuts: &[Cut], progress: &mut Progress) -> Result<(), Failure> {
        let known = |cut: &Cut| cut.state.as_ref().is_some_and(|state| !state.topic.is_empty());
        let nameless = |cut: &Cut| cut.state.as_ref().is_some_and(|state| state.topic.is_empty());
        self.audit.nameless(cuts.iter().any(nameless));
        if !cuts.iter().any(known) {
            return Ok(());
        }
        for role in ROLES {
            let topic = self.names.of(role);
            let id = self.reader.topic_id(topic, progress)?;
            if let Some(before) = self.ids.insert(role, id.clone()).filter(|before| *before != id) {
                return Err(Failure::Stop(anyhow!(
                    "failed to judge topic {topic}: it was deleted and created anew while it was read (id {before} before, {id} \
                     now): verify again"
                )));
            }
        }
        match another(cuts, &self.ids[&Role::Input]) {
            Some(cut) => Err(Failure::Stop(recreated(self.names.of(Role::Input), &self.offsets, cut, &self.ids[&Role::Input]))),
            None => Ok(()),
        }
    }

    fn input(&mut self, there: &Extents, progress: &mut Progress) -> Result<(), Failure> {
        for (partition, extent) in there {
            self.audit.input_extent(*partition, extent.clone());
        }
        self.read_on(Role::Input, there, progress)?;
        // The oldest records may have expired before they could be read.
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

    /// Reads the records that were not read before.
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
        // This is noted after a failure too: a record that is taken in a second time would count as a duplicate.
        let read = |(partition, extent): (&i32, &Range<i64>)| left.get(partition).map_or(extent.end, |left| left.start);
        self.read.extend(there.iter().map(|there| ((role, *there.0), read(there))));
        outcome
    }
}

/// Returns the first partition whose state belongs to another topic than the one with this `id`.
fn another<'a>(cuts: &'a [Cut], id: &str) -> Option<&'a Cut> {
    let differs = |cut: &&Cut| cut.state.as_ref().is_some_and(|state| !state.topic.is_empty() && state.topic != id);
    cuts.iter().find(differs)
}

fn recreated(topic: &str, offsets: &Reset, cut: &Cut, id: &str) -> anyhow::Error {
    let before = cut.state.as_ref().map_or("", |state| &state.topic);
    anyhow!(
        "failed to judge topic {topic}: it was deleted and created anew since the offset of partition {} was committed (its state \
         has id {before}, the topic has {id} now); {}",
        cut.partition,
        offsets.renewal()
    )
}

/// Returns a committed offset with the state that its metadata contain.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_topic_of_the_same_name_is_told_from_one_without_an_id() {
        let of = |partition, id| Cut { partition, state: Some(State::new(id, 0)), committed: Some(5), no_state: None };
        let cuts = [Cut { partition: 0, ..Cut::default() }, of(1, ""), of(2, "here")];
        assert_eq!(another(&cuts, "here"), None);
        assert_eq!(another(&cuts, "anew").map(|cut| cut.partition), Some(2));
    }
}
