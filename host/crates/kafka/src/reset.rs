//! The commands by which operators set the offsets of a group, to the position that does the least harm, or delete the offsets.
//!
//! A command names only the affected partitions, because the records that an offset is set back over are written a second time.

use super::settings::{ClientSettings, Start};
use std::fmt::Write as _;

/// The position at which partitions go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// The first record that is there.
    Earliest,
    /// The committed offset. Only the metadata that is committed with the offset is dropped.
    Current,
    /// The offset that the operator puts in for `N`, in the partition that the operator puts in for `P`.
    Next,
    /// The first record of the time that the operator puts in for `TIME`.
    Time,
    /// The records that arrive from now on.
    Latest,
    /// The offset that the operator puts in for `OFFSET`.
    Offset,
}

/// The group, and how a command reaches it.
#[derive(Clone, Debug)]
pub struct Reset {
    brokers: String,
    group: String,
    topic: String,
    start: Start,
    /// True if clients need more settings than an address.
    secured: bool,
}

impl Reset {
    /// Returns the commands for the offsets that the group of `kafka` has in `topic`.
    pub fn new(kafka: &ClientSettings, brokers: &str, topic: &str) -> Reset {
        let secured = kafka.properties.contains_key("security.protocol");
        let (group, topic) = (kafka.group.clone(), topic.to_owned());
        Reset { brokers: brokers.to_owned(), group, topic, start: kafka.start, secured }
    }

    /// Returns the remedy for `partitions`, or for all partitions if `partitions` is empty.
    pub fn remedy(&self, partitions: &[i32], to: ResetTo) -> String {
        let command = self.command(partitions, to);
        let secured = self.secured();
        format!(
            "to go on, stop every process of the group, run `{command}`{secured}, and start them again; the counts of what was \
             set then begin anew"
        )
    }

    /// Returns the message that the group has no offset in the topic.
    pub fn absence(&self) -> String {
        format!("group {} has no offset in topic {}", self.group, self.topic)
    }

    /// Returns the remedy for a group whose offsets are all gone. The topics `written` contain what was done until then. If
    /// outputs get `headers`, each record of these topics names its input record.
    pub fn resumption(&self, written: &[String; 2], headers: bool) -> String {
        let [outputs, dead_letters] = written;
        if headers {
            return format!(
                "{}; P is each partition of the input, one command each, and N is one more than the highest offset that header \
                 weir-source has for P in topics {outputs} and {dead_letters}, read with `isolation.level=read_committed`",
                self.remedy(&[], ResetTo::Next)
            );
        }
        format!(
            "{}; TIME, in UTC as in 2026-11-26T10:34:25.000, is the earliest of the last timestamps in the partitions of topic \
             {outputs}, read with `isolation.level=read_committed`, or before that: what was done since then is written a second \
             time, and what was not done before it is skipped",
            self.remedy(&[], ResetTo::Time)
        )
    }

    /// Returns the remedy for `partitions` that end before their committed offsets.
    pub fn shortened(&self, partitions: &[i32]) -> String {
        format!(
            "{}; what is still there is then written a second time. With `{}`{} instead, nothing is, and what came since the \
             partition was truncated is skipped",
            self.remedy(partitions, ResetTo::Earliest),
            self.command(partitions, ResetTo::Latest),
            self.secured()
        )
    }

    /// Returns the remedy if the batch at `offset` of `partition` can't be read.
    pub fn passing(&self, partition: i32, offset: i64) -> String {
        format!(
            "{}; OFFSET is one past the `lastOffset` that `kafka-dump-log.sh --files FILE` shows for the batch with offset {offset}, \
             FILE being the segment of the partition that has it: what is in the batch is then skipped",
            self.remedy(&[partition], ResetTo::Offset)
        )
    }

    /// Returns the remedy for a topic that was deleted and created anew. The committed offsets, and the positions in the headers
    /// of what was written, belong to the topic that is gone.
    pub fn renewal(&self) -> String {
        format!(
            "its offsets and headers name records of the topic that is gone: stop every process of the group, run \
             `{} --delete-offsets`{}, and {}",
            self.of_topic(),
            self.secured(),
            self.fresh_start()
        )
    }

    /// Returns how to begin with a topic that was created anew, once the offsets of the former topic are deleted.
    pub fn fresh_start(&self) -> String {
        let start = match self.start {
            Start::Earliest => "",
            Start::Latest | Start::At(_) => ", and `kafka.start = \"earliest\"`, or else what is there already is not all read",
        };
        format!("start them again with new topics for outputs, dead letters and counts in `[topics]`{start}")
    }

    fn command(&self, partitions: &[i32], to: ResetTo) -> String {
        let mut command = self.of_topic();
        for (index, partition) in partitions.iter().enumerate() {
            let _ = write!(command, "{}{partition}", if index == 0 { ':' } else { ',' });
        }
        if to == ResetTo::Next {
            command.push_str(":P");
        }
        let to = match to {
            ResetTo::Earliest => "--to-earliest",
            ResetTo::Current => "--to-current",
            ResetTo::Next => "--to-offset N",
            ResetTo::Time => "--to-datetime TIME",
            ResetTo::Latest => "--to-latest",
            ResetTo::Offset => "--to-offset OFFSET",
        };
        command + " --reset-offsets " + to + " --execute"
    }

    fn of_topic(&self) -> String {
        let Reset { brokers, group, topic, secured, .. } = self;
        let config = if *secured { " --command-config client.properties" } else { "" };
        let (brokers, group) = (quoted(brokers), quoted(group));
        format!("kafka-consumer-groups.sh --bootstrap-server {brokers}{config} --group {group} --topic {topic}")
    }

    fn secured(&self) -> &'static str {
        if self.secured { ", with the properties of a Java client in client.properties" } else { "" }
    }
}

/// Returns `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b',');
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(group: &str, properties: &[(&str, &str)]) -> Reset {
        let properties = properties.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect();
        Reset::new(&ClientSettings { group: group.into(), properties, ..crate::testing::client() }, "kafka:9092", "logins")
    }

    #[test]
    fn the_command_names_the_partitions_that_are_affected() {
        let remedy = reset("weir", &[]).remedy(&[0, 2], ResetTo::Earliest);
        let command = "`kafka-consumer-groups.sh --bootstrap-server kafka:9092 --group weir --topic logins:0,2 --reset-offsets \
                       --to-earliest --execute`";
        assert!(remedy.contains(command), "{remedy}");
        assert!(reset("weir", &[]).remedy(&[], ResetTo::Current).contains(" --topic logins --reset-offsets --to-current "));
    }

    #[test]
    fn where_a_group_would_not_begin_with_the_first_message_the_key_for_it_is_named() {
        let renewal = |start| Reset { start, ..reset("weir", &[]) }.renewal();
        assert!(!renewal(Start::Earliest).contains("kafka.start"));
        assert!(renewal(Start::Latest).contains("`kafka.start = \"earliest\"`"));
    }

    #[test]
    fn several_brokers_are_one_word_of_the_command() {
        let reset = |brokers: &str| Reset { brokers: brokers.into(), ..reset("weir", &[]) }.remedy(&[1], ResetTo::Earliest);
        assert!(reset("a:9092,b:9092").contains("--bootstrap-server a:9092,b:9092 --group weir"));
        assert!(reset("a:9092, b:9092").contains("--bootstrap-server 'a:9092, b:9092' --group weir"));
    }

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let remedy = reset("it's one", &[("security.protocol", "SSL")]).remedy(&[1], ResetTo::Earliest);
        assert!(remedy.contains(r"--command-config client.properties --group 'it'\''s one' --topic"), "{remedy}");
    }
}
