//! Where to begin with partitions of which nothing is committed.
//!
//! `kafka.start` is for a group that is new to the topic. If it has offsets for other partitions, then this one was added to
//! the topic later, and all of it is read: whatever is in it arrived while the group was there.
//!
//! A start at the end of the topic, or at a time, must be the same for all processes of the group and after a crash. So the
//! process that has partition 0 writes it down for all partitions, by committing it, before anything is read.
//!
//! Where a position is lost, only people can say where to go on. [`super::reset`] words the command by which they do.

use std::time::Duration;

use anyhow::anyhow;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::failure::Operation;
use super::offsets::{Committed, committed};
use super::{Failure, native, topics};
use crate::config::Start;

/// How long brokers may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Gives those of `found` an offset that have none.
pub(super) fn begin<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    start: Start,
    found: &mut [Committed],
) -> Result<(), Failure> {
    let is_new = is_new(consumer, topic)?;
    if start != Start::Earliest && is_new {
        if !found.iter().any(|found| found.partition == 0) {
            return Err(Failure::Wait(anyhow!(
                "waiting for the process with partition 0 of topic {topic} to say where to begin"
            )));
        }
        let offsets = begin_all(consumer, topic, start)?;
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

/// Whether the group has no offset in the whole topic.
fn is_new<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<bool, Failure> {
    let all = committed(consumer, topic, partitions(consumer, topic)?)?;
    Ok(all.iter().all(|found| found.offset.is_none()))
}

/// Commits where to begin, for all partitions.
fn begin_all<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, start: Start) -> Result<Vec<(i32, i64)>, Failure> {
    let what = format!("commit where to begin in topic {topic}");
    let mut offsets = Vec::new();
    let mut list = TopicPartitionList::new();
    for partition in partitions(consumer, topic)? {
        let offset = resolve(consumer, topic, partition, start)?;
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(|error| Failure::from_client(&error, &what))?;
        offsets.push((partition, offset));
    }
    tracing::info!(topic, ?offsets, "the group is new: starting as `kafka.start` says");
    let mut rounds = 0;
    // The wait looks every so often whether to go on.
    let patience = ANSWER.as_millis() / native::LOOK_EVERY.as_millis();
    match native::commit(consumer, &list, || {
        rounds += 1;
        rounds > patience
    }) {
        Some(RDKafkaErrorCode::NoError) => Ok(offsets),
        Some(code) => Err(Failure::of(code, &what)),
        None => Err(Failure::Wait(anyhow!("failed to {what}: no answer"))),
    }
}

fn resolve<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32, start: Start) -> Result<i64, Failure> {
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
                // Nothing is that late.
                _ => high,
            })
        }
    }
}

fn watermarks<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Result<(i64, i64), Failure> {
    let what = format!("find the first and last offset of partition {partition} of topic {topic}");
    let ask = || consumer.fetch_watermarks(topic, partition, ANSWER);
    let answer = match ask() {
        // So the client calls a partition that had no leader when it last looked, and it does not look again by itself.
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) => {
            partitions(consumer, topic)?;
            ask()
        }
        answer => answer,
    };
    answer.map_err(|error| Failure::from_client(&error, &what))
}

/// The partitions of a topic that has to be there.
pub(super) fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<std::ops::Range<i32>, Failure> {
    let missing = || Failure::of(RDKafkaErrorCode::UnknownTopicOrPartition, &format!("find topic {topic}"));
    topics::partitions(consumer.client(), topic, Operation::Read)?.map(|count| 0..count).ok_or_else(missing)
}
