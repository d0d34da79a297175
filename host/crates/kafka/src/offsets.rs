//! The offsets that a group has committed, each with its metadata.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Failure, native};

/// The time that the group's coordinator may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The committed offset of one partition, with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition of the topic that was asked about.
    pub partition: i32,
    /// The next offset to be read. None if the group has not committed an offset.
    pub offset: Option<i64>,
    /// The metadata that was committed with the offset. It can be any bytes, because any tool may commit.
    pub metadata: Vec<u8>,
}

/// Asks what the group of `consumer` has committed for `partitions` of `topic`. If the consumer reads committed records only,
/// this waits for an open transaction that is about to change the offsets.
///
/// # Errors
/// If there is no answer, or if the answer has an error for one of the partitions.
pub fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<Vec<Committed>, Failure> {
    let what = format!("read the committed offsets of topic {topic}");
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition);
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let list = consumer.committed_offsets(list, ANSWER).map_err(|error| Failure::from_client(&error, &what))?;
    let found = native::elements(&list).map(|element| match element.code {
        RDKafkaErrorCode::NoError => {
            let offset = match Offset::from_raw(element.offset) {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Ok(Committed { partition: element.partition, offset, metadata: element.metadata.to_vec() })
        }
        code => Err(Failure::of_offsets(code, &what, topic)),
    });
    found.collect()
}
