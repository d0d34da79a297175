//! Takes one cut after the other: the requests, their order, and the reading for each cut.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::anyhow;

use super::audit::Audit;
use super::partition::PartitionCut;
use super::progress::ReadProgress;
use super::report::AuditVerdict;
use super::violation::{ROLES, Role, TopicNames};
use crate::config::Config;
use weir_core::state::State;
use weir_kafka::offsets::Committed;
use weir_kafka::reader::{OffsetRanges, Seen};
use weir_kafka::reset::Reset;
use weir_kafka::{Failure, Reader};

/// The roles of the topics that the engine writes to.
const WRITTEN: [Role; 3] = [Role::Outputs, Role::DeadLetters, Role::Counts];

/// The topics, the offsets up to which they are read, and the audit of their records.
pub(super) struct AuditSession {
    reader: Reader,
    /// The commands by which operators reset the group's offsets. Errors take their remedy from here.
    reset: Reset,
    names: TopicNames,
    audit: Audit,
    /// The offsets up to which the partitions are read.
    read: BTreeMap<(Role, i32), i64>,
    /// The ids of the topics that are read. Empty if the committed states do not have the id of theirs.
    ids: BTreeMap<Role, String>,
}

impl AuditSession {
    pub(super) fn open(
        config: &Config,
        brokers: &str,
        patience: Duration,
        progress: &mut ReadProgress,
    ) -> Result<AuditSession, Failure> {
        let topics = &config.kafka.topics;
        let names = TopicNames([&topics.input, &topics.output, &topics.rejected, &topics.counts].map(String::clone));
        let reader = Reader::open(&config.kafka.client, brokers, patience).map_err(Failure::Stop)?;
        // A wrong address or name is reported before anything else is tried.
        reader.partitions(&topics.input, progress)?;
        let compacted = reader.compacted(&names.0.each_ref().map(String::as_str));
        let those = |answer| ROLES.into_iter().filter(|role| compacted[*role as usize] == answer).collect();
        let drops = config.rules.pipeline.iter().any(|rule| rule.drop);
        let mut audit = Audit::new(names.clone(), drops, those(Some(true)));
        audit.untold(those(None));
        Ok(AuditSession {
            reader,
            reset: Reset::new(&config.kafka.client, brokers, &topics.input),
            audit,
            names,
            read: BTreeMap::new(),
            ids: BTreeMap::new(),
        })
    }

    /// Takes a cut, reads up to it, and judges it. Returns None if the group has committed nothing though the input has records.
    /// After a failure that waiting can cure, the next call continues where this one ended.
    pub(super) fn round(&mut self, progress: &mut ReadProgress) -> Result<Option<AuditVerdict>, Failure> {
        let input = &self.names.of(Role::Input).to_owned();
        let partitions = self.reader.partitions(input, progress)?;
        let committed = self.reader.committed(input, partitions, progress)?;
        let begun = committed.iter().any(|committed| committed.offset.is_some());
        // If the input has never had a record, none can be lost.
        if !begun && self.reader.offset_ranges(input, partitions, progress)?.values().any(|range| range.end > 0) {
            return Ok(None);
        }
        let cuts: Vec<PartitionCut> = committed.into_iter().map(cut).collect();
        let mut written = Vec::new();
        for role in WRITTEN {
            let topic = self.names.of(role);
            let partitions = self.reader.partitions(topic, progress)?;
            written.push((role, self.reader.offset_ranges(topic, partitions, progress)?));
        }
        self.same_topics(&cuts, progress)?;
        // The input may have got a partition meanwhile, and outputs may have records of it.
        let partitions = self.reader.partitions(input, progress)?;
        let there = self.reader.committed_ranges(input, partitions, progress)?;
        self.audit.cut(cuts.clone());
        self.input(&there, progress)?;
        for (role, offset_ranges) in written {
            self.written(role, &offset_ranges, progress)?;
        }
        self.same_topics(&cuts, progress)?;
        Ok(Some(self.audit.verdict()))
    }

    /// Checks that the topics are those that the group has read and that were read here before. In a topic that was deleted and
    /// created anew, an offset names another record, so the headers could not be relied on. If the id is the same before and
    /// after reading, all that was read in between is from the one topic.
    ///
    /// A state has no id if the cluster gives its topics none, or did not answer when the engine asked for it. The verdict then
    /// says that this was not judged.
    fn same_topics(&mut self, cuts: &[PartitionCut], progress: &mut ReadProgress) -> Result<(), Failure> {
        let known = |cut: &PartitionCut| cut.state.as_ref().is_some_and(|state| !state.topic.is_empty());
        let nameless = |cut: &PartitionCut| cut.state.as_ref().is_some_and(|state| state.topic.is_empty());
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
            Some(cut) => Err(Failure::Stop(recreated(self.names.of(Role::Input), &self.reset, cut, &self.ids[&Role::Input]))),
            None => Ok(()),
        }
    }

    fn input(&mut self, there: &OffsetRanges, progress: &mut ReadProgress) -> Result<(), Failure> {
        for (partition, range) in there {
            self.audit.input_range(*partition, range.clone());
        }
        self.read_on(Role::Input, there, progress)?;
        // The oldest records may have expired before they could be read.
        let topic = self.names.of(Role::Input);
        for (partition, range) in self.reader.committed_ranges(topic, there.len() as i32, progress)? {
            self.audit.input_range(partition, range.start..there.get(&partition).map_or(0, |there| there.end));
        }
        Ok(())
    }

    fn written(&mut self, role: Role, there: &OffsetRanges, progress: &mut ReadProgress) -> Result<(), Failure> {
        let topic = self.names.of(role).to_owned();
        self.reader.wait_for_stable(&topic, there, progress)?;
        self.read_on(role, there, progress)?;
        for (partition, range) in self.reader.committed_ranges(&topic, there.len() as i32, progress)? {
            self.audit.low(role, partition, range.start);
        }
        Ok(())
    }

    /// Reads the records that were not read before.
    fn read_on(&mut self, role: Role, there: &OffsetRanges, progress: &mut ReadProgress) -> Result<(), Failure> {
        let topic = self.names.of(role).to_owned();
        let mut left = there.clone();
        for (partition, range) in &mut left {
            let read = self.read.get(&(role, *partition)).copied().unwrap_or_default();
            if read > range.end {
                return Err(Failure::Stop(anyhow!(
                    "{topic}/{partition} was read up to {read} and ends at {} now: it was created anew or cut short",
                    range.end
                )));
            }
            range.start = range.start.max(read);
        }
        let audit = &mut self.audit;
        let outcome = self.reader.read(&topic, &mut left, progress, |seen: Seen<'_>| match role {
            Role::Input => audit.input(seen.partition, seen.offset, seen.headers),
            Role::Outputs | Role::DeadLetters => audit.written(role, seen.partition, seen.offset, seen.headers),
            Role::Counts => audit.counts(seen.partition, seen.offset, seen.value),
        });
        // This is noted after a failure too: a record that is taken in a second time would count as a duplicate.
        let read = |(partition, range): (&i32, &Range<i64>)| left.get(partition).map_or(range.end, |left| left.start);
        self.read.extend(there.iter().map(|there| ((role, *there.0), read(there))));
        outcome
    }
}

/// Returns the first partition whose state belongs to another topic than the one with this `id`.
fn another<'a>(cuts: &'a [PartitionCut], id: &str) -> Option<&'a PartitionCut> {
    let differs = |cut: &&PartitionCut| cut.state.as_ref().is_some_and(|state| !state.topic.is_empty() && state.topic != id);
    cuts.iter().find(differs)
}

fn recreated(topic: &str, offsets: &Reset, cut: &PartitionCut, id: &str) -> anyhow::Error {
    let before = cut.state.as_ref().map_or("", |state| &state.topic);
    anyhow!(
        "failed to judge topic {topic}: it was deleted and created anew since the offset of partition {} was committed (its state \
         has id {before}, the topic has {id} now); {}",
        cut.partition,
        offsets.renewal()
    )
}

/// Returns a committed offset with the state that its metadata contain.
fn cut(committed: Committed) -> PartitionCut {
    let Committed { partition, offset, metadata } = committed;
    let (state, no_state) = match State::parse(&metadata) {
        Ok(Some(state)) => (Some(state), None),
        Ok(None) => (None, Some("nothing was written beside it".to_owned())),
        Err(unreadable) => (None, Some(unreadable.to_string())),
    };
    let no_state = no_state.filter(|_| offset.is_some());
    PartitionCut { partition, committed: offset, state: state.filter(|_| offset.is_some()), no_state }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_topic_of_the_same_name_is_told_from_one_without_an_id() {
        let of = |partition, id| PartitionCut { partition, state: Some(State::new(id, 0)), committed: Some(5), no_state: None };
        let cuts = [PartitionCut { partition: 0, ..PartitionCut::default() }, of(1, ""), of(2, "here")];
        assert_eq!(another(&cuts, "here"), None);
        assert_eq!(another(&cuts, "anew").map(|cut| cut.partition), Some(2));
    }
}
