//! The offsets that a group has committed, each with its metadata.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Failure, native};

/// How long the group's coordinator may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition of the topic that was asked about.
    pub partition: i32,
    /// The next offset to be read; none if the group has not committed any.
    pub offset: Option<i64>,
    /// What was written beside it: any bytes, for any tool may commit.
    pub metadata: Vec<u8>,
}

/// Asks what the group of `consumer` has committed for `partitions` of `topic`. An open transaction that is about to change it
/// is waited for, if the consumer reads committed messages only.
///
/// # Errors
/// If there is no answer, or one of the partitions has none.
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
