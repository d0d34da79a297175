//! The benchmark's requests to the cluster from outside: to create and delete topics, and to read their ends and the progress of
//! a group.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The number of partitions of each topic.
pub const PARTITIONS: i32 = 3;
/// The most time in which the broker has to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Returns the basic settings of a client. They log nothing, because the caller that waits reports what goes wrong.
pub fn client(brokers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set_log_level(RDKafkaLogLevel::Emerg).set("bootstrap.servers", brokers);
    settings
}

/// Returns whether the broker answers.
pub fn answers(brokers: &str) -> bool {
    let client: Result<BaseConsumer, _> = client(brokers).create();
    client.is_ok_and(|client| client.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|found| !found.brokers().is_empty()))
}

/// Creates the topics `names`.
pub fn create(brokers: &str, names: &[&str]) -> anyhow::Result<()> {
    let new: Vec<NewTopic<'_>> = names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))).collect();
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER));
    let results = block_on(admin.create_topics(&new, &options))?;
    results
        .into_iter()
        .try_for_each(|result| result.map(|_| ()).map_err(|(topic, code)| anyhow!("failed to create topic {topic}: {code}")))
}

/// Deletes the topics `names`.
pub fn delete(brokers: &str, names: &[&str]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    block_on(admin.delete_topics(names, &AdminOptions::new().operation_timeout(Some(ANSWER))))?;
    Ok(())
}

/// The progress of a group in a topic.
pub struct GroupProgress {
    client: BaseConsumer,
    topic: String,
}

impl GroupProgress {
    pub fn new(brokers: &str, group: &str, topic: &str) -> anyhow::Result<GroupProgress> {
        // With read_committed the answer would wait for an open transaction.
        let client = client(brokers).set("group.id", group).set("isolation.level", "read_uncommitted").create()?;
        Ok(GroupProgress { client, topic: topic.to_owned() })
    }

    /// Returns the number of records in the topic.
    pub fn end(&self) -> anyhow::Result<i64> {
        end(&self.client, &self.topic)
    }

    /// Returns the number of records that the group has committed.
    pub fn committed(&self) -> anyhow::Result<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, PARTITIONS - 1);
        let committed = self.client.committed_offsets(list, ANSWER).context("failed to read the committed offsets")?;
        ensure!(committed.count() == PARTITIONS as usize, "the committed offsets of some partitions are missing");
        let offsets = committed.elements().into_iter().map(|element| match element.offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        });
        Ok(offsets.sum())
    }
}

/// Returns the sum of the ends of a topic's partitions, as the client's isolation level has it.
pub fn end(client: &BaseConsumer, topic: &str) -> anyhow::Result<i64> {
    (0..PARTITIONS).map(|partition| Ok(client.fetch_watermarks(topic, partition, ANSWER)?.1)).sum()
}

/// Returns a reader of all that is committed in the topics `names`, from their first records on.
pub fn reader(client: &mut ClientConfig, names: &[&str]) -> anyhow::Result<BaseConsumer> {
    let reader: BaseConsumer = client.set("group.id", "reader").set("isolation.level", "read_committed").create()?;
    let mut partitions = TopicPartitionList::new();
    for (name, partition) in names.iter().flat_map(|name| (0..PARTITIONS).map(move |partition| (name, partition))) {
        partitions.add_partition_offset(name, partition, Offset::Beginning)?;
    }
    reader.assign(&partitions)?;
    Ok(reader)
}

fn block_on<T>(answer: impl Future<Output = rdkafka::error::KafkaResult<T>>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(answer)?)
}
