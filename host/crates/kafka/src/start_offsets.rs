//! Sets the offset to begin with, for partitions without a committed offset.
//!
//! `kafka.start` is for a group that is new to the topic. If the group has offsets for other partitions, a partition without one
//! was added to the topic later. Such a partition is read from its first record, because all of its records arrived while the
//! group existed.
//!
//! A start at the end of the topic, or at a time, must be the same for all processes of the group and after a crash. Therefore
//! the process that has partition 0 commits the start offsets of all partitions before any record is read.
//!
//! If a position is lost, only the operator can say where to go on. [`super::reset`] words the command for that.
//!
//! A group without offsets looks new, even if its offsets were deleted or have expired. If outputs or dead letters were written
//! before, a warning says what happens then. The engine does not look up which group wrote them, so it needs no permission to
//! read them.

use std::time::Duration;

use anyhow::anyhow;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::failure::Operation;
use super::offsets::{Committed, committed};
use super::reset::Reset;
use super::settings::Start;
use super::{Failure, native, reader, topics};

/// The time that a broker may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// The facts that decide how a group begins.
pub(super) struct StartOffsets {
    pub(super) start: Start,
    /// The topics of the outputs and of the dead letters.
    pub(super) written: [String; 2],
    /// True if outputs name the position of their input record in a header.
    pub(super) headers: bool,
    /// True if it was already checked whether the group may have been here before. A warning of that is logged only once.
    pub(super) doubted: bool,
}

/// Sets the offset of each partition of `found` that has none. `reset` words the command by which the operator sets the offsets.
pub(super) fn resolve<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    start_offsets: &mut StartOffsets,
    reset: &Reset,
    found: &mut [Committed],
) -> Result<(), Failure> {
    let is_new = is_new(consumer, topic)?;
    if is_new && !start_offsets.doubted {
        doubt(consumer, start_offsets, reset)?;
        start_offsets.doubted = true;
    }
    let start = start_offsets.start;
    if start != Start::Earliest && is_new {
        if !found.iter().any(|found| found.partition == 0) {
            return Err(Failure::Wait(anyhow!(
                "waiting for the process with partition 0 of topic {topic} to say where to begin"
            )));
        }
        let offsets = resolve_all(consumer, topic, start)?;
        for found in found {
            found.offset = offsets.iter().find(|(partition, _)| *partition == found.partition).map(|(_, offset)| *offset);
        }
        return Ok(());
    }
    for found in found.iter_mut().filter(|found| found.offset.is_none()) {
        let ((low, _), partition) = (watermarks(consumer, topic, found.partition)?, found.partition);
        if low > 0 && !is_new {
            tracing::warn!(
                topic,
                partition,
                offset = low,
                "nothing is committed yet, and messages before this one are gone unread"
            );
        } else {
            tracing::info!(topic, partition, offset = low, "nothing is committed yet: starting at the first message");
        }
        found.offset = Some(low);
    }
    Ok(())
}

/// Returns whether the group has no offset in the whole topic.
fn is_new<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<bool, Failure> {
    let all = committed(consumer, topic, partitions(consumer, topic)?)?;
    Ok(all.iter().all(|found| found.offset.is_none()))
}

/// Warns of what happens if the group was here before. Only the operator knows whether it was.
fn doubt<C: ConsumerContext>(consumer: &BaseConsumer<C>, start_offsets: &StartOffsets, reset: &Reset) -> Result<(), Failure> {
    for topic in &start_offsets.written {
        if was_written_to(consumer, topic)? {
            tracing::warn!(
                "{}, though topic {topic} was written to before: if this group has done so, its offsets were deleted or have \
                 expired, and {}; {}. But where the input was deleted and created anew, {}",
                reset.absence(),
                consequence(start_offsets.start),
                reset.resumption(&start_offsets.written, start_offsets.headers),
                reset.renewal()
            );
            break;
        }
    }
    Ok(())
}

/// Returns the words for what happens to the input of a group that was here before.
fn consequence(start: Start) -> &'static str {
    match start {
        Start::Earliest => "all that is in the input is now read again and written a second time (`kafka.start` is earliest)",
        Start::Latest => "what came into the input since then is now skipped (`kafka.start` is latest)",
        Start::At(_) => {
            "what it did since the time in `kafka.start` is now written a second time, and what it had not done before that is \
             skipped"
        }
    }
}

/// Returns whether any record was ever written to `topic`.
fn was_written_to<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<bool, Failure> {
    let partitions = topics::partitions(consumer.client(), topic, Operation::Write)?.unwrap_or_default();
    Ok(reader::offset_ranges(consumer, topic, partitions)?.values().any(|range| range.end > 0))
}

/// Commits the start offsets of all partitions, and returns them.
fn resolve_all<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, start: Start) -> Result<Vec<(i32, i64)>, Failure> {
    let what = format!("commit where to begin in topic {topic}");
    let mut offsets = Vec::new();
    let mut list = TopicPartitionList::new();
    for partition in partitions(consumer, topic)? {
        let offset = resolve_one(consumer, topic, partition, start)?;
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(|error| Failure::from_client(&error, &what))?;
        offsets.push((partition, offset));
    }
    tracing::info!(topic, ?offsets, "the group is new: starting as `kafka.start` says");
    let mut rounds = 0;
    // The wait asks whether to go on once every `LOOK_EVERY`, so the patience is a number of such rounds.
    let patience = ANSWER.as_millis() / native::LOOK_EVERY.as_millis();
    match native::commit(consumer, &list, || {
        rounds += 1;
        rounds > patience
    }) {
        Some(RDKafkaErrorCode::NoError) => Ok(offsets),
        Some(code) => Err(Failure::of_offsets(code, &what, topic)),
        None => Err(Failure::Wait(anyhow!("failed to {what}: no answer"))),
    }
}

fn resolve_one<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    start: Start,
) -> Result<i64, Failure> {
    let (low, high) = watermarks(consumer, topic, partition)?;
    match start {
        Start::Earliest => Ok(low),
        Start::Latest => Ok(high),
        Start::At(time) => {
            let what = format!("find the first message of topic {topic} since the time in `kafka.start`");
            let failed = |error| Failure::from_client(&error, &what);
            let mut times = TopicPartitionList::new();
            times.add_partition_offset(topic, partition, Offset::Offset(time)).map_err(failed)?;
            let found = consumer.offsets_for_times(times, ANSWER).map_err(failed)?;
            Ok(match found.elements().first().map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // No record is that late.
                _ => high,
            })
        }
    }
}

fn watermarks<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Result<(i64, i64), Failure> {
    let what = format!("find the first and last offset of partition {partition} of topic {topic}");
    let ask = || consumer.fetch_watermarks(topic, partition, ANSWER);
    let answer = match ask() {
        // The client reports this error for a partition that had no leader when the client last looked. The client does not look
        // again by itself.
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) => {
            partitions(consumer, topic)?;
            ask()
        }
        answer => answer,
    };
    answer.map_err(|error| Failure::from_client(&error, &what))
}

/// Returns the partitions of a topic. A missing topic is an error.
pub(super) fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<std::ops::Range<i32>, Failure> {
    let missing = || Failure::of(RDKafkaErrorCode::UnknownTopicOrPartition, &format!("find topic {topic}"));
    topics::partitions(consumer.client(), topic, Operation::Read)?.map(|count| 0..count).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_was_here_before_is_told_what_happens_by_where_it_starts() {
        assert!(consequence(Start::Earliest).contains("written a second time"));
        assert!(consequence(Start::Latest).contains("skipped"));
        let both = consequence(Start::At(7));
        assert!(both.contains("written a second time") && both.contains("skipped"), "{both}");
    }
}
