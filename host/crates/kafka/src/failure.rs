//! The errors of the cluster, sorted in one table by the remedy: waiting, or a person.

use anyhow::anyhow;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use weir_core::reserved::Reason;

/// The reason why a step could not be committed, or why the next batch could not be read.
#[derive(Debug)]
pub enum Failure {
    /// Waiting can help: back off, rewind, and read the batch again.
    Wait(anyhow::Error),
    /// A topic is missing. Brokers that have just started do not know all topics yet. So only if the topic is still missing a
    /// while later, a person has to help. The message says how.
    Missing(anyhow::Error),
    /// Only a person can help. The message says how.
    Stop(anyhow::Error),
    /// The work was cancelled because the process is to end. The unfinished batch is not committed.
    Cancelled,
}

impl Failure {
    /// Returns the failure for `code`, met while doing `what`. The message reads `failed to <what>`.
    pub fn of(code: RDKafkaErrorCode, what: &str) -> Failure {
        use RDKafkaErrorCode as Code;
        let error = |remedy| anyhow!("failed to {what}: {}: {remedy}", describe(code));
        match (code, remedy(code)) {
            (Code::UnknownTopic | Code::UnknownTopicOrPartition, Some(remedy)) => Failure::Missing(error(remedy)),
            (_, Some(remedy)) => Failure::Stop(error(remedy)),
            (_, None) => Failure::Wait(anyhow!("failed to {what}: {}{}", describe(code), likely_cause(code))),
        }
    }

    /// Returns the failure for `code`, met while writing to `topic`.
    pub(super) fn of_writing(code: RDKafkaErrorCode, topic: &str) -> Failure {
        Failure::of_topic(code, Operation::Write, topic)
    }

    /// Returns the failure for `code`, met while doing `operation` with `topic`.
    pub fn of_topic(code: RDKafkaErrorCode, operation: Operation, topic: &str) -> Failure {
        let what = format!("{} topic {topic}", operation.verb());
        match code {
            RDKafkaErrorCode::TopicAuthorizationFailed => denied(code, &what, operation.acl(), &format!("topic {topic}")),
            code => Failure::of(code, &what),
        }
    }

    /// Returns the failure for an error of the client, met while doing `operation` with `topic`.
    pub fn of_topic_from_client(error: &KafkaError, operation: Operation, topic: &str) -> Failure {
        match error.rdkafka_error_code() {
            Some(code) => Failure::of_topic(code, operation, topic),
            None => Failure::from_client(error, &format!("{} topic {topic}", operation.verb())),
        }
    }

    /// Returns the failure for `code`, met while doing `what` with offsets of the input `topic`. Work with offsets needs the
    /// permission to READ the topic.
    pub(super) fn of_offsets(code: RDKafkaErrorCode, what: &str, topic: &str) -> Failure {
        match code {
            RDKafkaErrorCode::TopicAuthorizationFailed => denied(code, what, Operation::Read.acl(), &format!("topic {topic}")),
            code => Failure::of(code, what),
        }
    }

    /// Returns the failure if this client may not read the offsets of `group`.
    pub fn of_offsets_denied(group: &str) -> Failure {
        let what = format!("read the committed offsets of group {group}");
        denied(RDKafkaErrorCode::GroupAuthorizationFailed, &what, "DESCRIBE", &format!("group {group}"))
    }

    /// Returns the failure for an error of the client, met while doing `what`.
    pub fn from_client(error: &KafkaError, what: &str) -> Failure {
        match error.rdkafka_error_code() {
            Some(code) => Failure::of(code, what),
            None => Failure::Wait(anyhow!("failed to {what}: {error}")),
        }
    }
}

/// An operation on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Describe,
    Create,
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Write => "write to",
            Operation::Describe => "describe",
            Operation::Create => "create",
        }
    }

    /// Returns the name of the operation in an ACL.
    fn acl(self) -> &'static str {
        match self {
            Operation::Read => "READ",
            Operation::Write => "WRITE",
            Operation::Describe => "DESCRIBE",
            Operation::Create => "CREATE",
        }
    }
}

/// Returns the failure for a missing permission.
fn denied(code: RDKafkaErrorCode, what: &str, operation: &str, resource: &str) -> Failure {
    let code = describe(code);
    let remedy = format!("grant this client {operation} on {resource} ({ACLS}), or use another principal");
    Failure::Stop(anyhow!("failed to {what}: {code}: {remedy}"))
}

const ACLS: &str = "an ACL: docs/security.md has the commands";

/// Returns the remedy for `code`, for a person. Returns None if waiting can help.
fn remedy(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    let remedy = match code {
        Code::TopicAuthorizationFailed => {
            "grant this client READ on the input, WRITE on the other topics (ACLs: docs/security.md has the commands), or use \
             another principal"
        }
        Code::GroupAuthorizationFailed => {
            "grant this client READ on the group (an ACL: docs/security.md has the commands), or set another `kafka.group`"
        }
        Code::ClusterAuthorizationFailed => {
            "grant this client IDEMPOTENT_WRITE on the cluster (an ACL), which brokers before Apache Kafka 2.8 ask for"
        }
        Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState | Code::Authentication => {
            "check the `sasl.*` settings under `[kafka.properties]`, and `security.protocol`: the listener may not speak SASL"
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition => "create the topic, or start again with `topics.create = true`",
        Code::InvalidTopic => "choose a legal name: letters, digits, `.`, `_` and `-`, at most 249 of them",
        Code::InvalidReplicationFactor => "set `topics.replication` to at most the number of brokers",
        Code::InvalidPartitions => "set `topics.partitions` to a number of 1 or more",
        Code::InvalidConfig => "check `[topics.settings]` against what the cluster allows",
        Code::PolicyViolation => {
            "check `topics.replication`, `topics.partitions` and `[topics.settings]` against the cluster's policy for new topics \
             (`create.topic.policy.class.name`), or create the topic yourself"
        }
        Code::UnsupportedForMessageFormat => {
            "raise the topic's `message.format.version`, or the brokers' `log.message.format.version`, to 0.11.0 or later: older \
             formats have no headers and no transactions"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => "the broker is too old: Apache Kafka 0.11 or later is needed",
        Code::InconsistentGroupProtocol => "another kind of consumer uses this group: set another `kafka.group`",
        Code::TransactionalIdAuthorizationFailed => {
            "grant this client WRITE on the transactional id (an ACL: docs/security.md has the commands), or set \
             `kafka.delivery = \"at-least-once\"`"
        }
        Code::InvalidTransactionTimeout => {
            "set `transaction.timeout.ms` under `[kafka.properties]` to at most the broker's `transaction.max.timeout.ms`"
        }
        Code::FencedInstanceId => {
            "another process uses the same `group.instance.id`: give each process its own under `[kafka.properties]`, or leave it out"
        }
        Code::InvalidSessionTimeout => {
            "set `session.timeout.ms` under `[kafka.properties]` to what the broker allows, from its `group.min.session.timeout.ms` \
             to its `group.max.session.timeout.ms`"
        }
        Code::OffsetMetadataTooLarge => {
            "raise the broker's `offset.metadata.max.bytes` to its default of 4096: counts are kept there"
        }
        // Without a stop the client would skip records that it can't read, or try the same bytes forever.
        Code::BadMessage => {
            "the log of the topic is damaged there: mend it from a replica, or set the group's offset to after the batch"
        }
        Code::BadCompression => {
            "the batch there can't be unpacked: it unpacks to more than `receive.message.max.bytes`, or its bytes were damaged. \
             Where that is lower under `[kafka.properties]`, raise it to 2147483647, the default and the most. A batch of zstd that \
             does not say its size may be too large for that from 700 MB on: set the group's offset to after the batch. If the log \
             is damaged, mend it from a replica"
        }
        _ => return None,
    };
    Some(remedy)
}

/// Returns the likely cause of a failure that waiting can help, with a colon before it. Returns an empty text if the code alone
/// tells the cause.
fn likely_cause(code: RDKafkaErrorCode) -> &'static str {
    use RDKafkaErrorCode as Code;
    match code {
        // Records that lack replicas are sent again by the client, until their time is up.
        Code::MessageTimedOut | Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            ": the partition may have no leader, or fewer replicas in sync than the topic's `min.insync.replicas` (topics that \
             Weir creates have `topics.replication` replicas)"
        }
        _ => "",
    }
}

/// Returns the failure for `topics` that this client may not write to. Returns None if `topics` is empty.
pub(super) fn denied_writes(topics: &[&str]) -> Option<Failure> {
    let (first, more) = (topics.first()?, topics.len() > 1);
    let topics = if more { format!("topics {}", topics.join(", ")) } else { format!("topic {first}") };
    Some(denied(RDKafkaErrorCode::TopicAuthorizationFailed, &format!("write to {topics}"), "WRITE", &topics))
}

/// Returns the code in words, with its name in the protocol.
pub fn describe(code: RDKafkaErrorCode) -> String {
    format!("{code} ({})", super::native::name(code))
}

/// Returns the reason for which the broker refuses one record, if that is what `code` means: the reason that the dead letter of
/// the record gets, and the remedy by which the topic would take the record.
pub(super) fn refused(code: RDKafkaErrorCode) -> Option<(Reason, &'static str)> {
    use RDKafkaErrorCode as Code;
    match code {
        _ if too_large(code) => Some((
            Reason::MessageTooLarge,
            "raise the topic's `max.message.bytes`, and for more than 16 MiB `message.max.bytes` under `[kafka.properties]` as well",
        )),
        Code::InvalidTimestamp => Some((
            Reason::TimestampRefused,
            "check the topic's `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`, and this machine's clock",
        )),
        Code::InvalidRecord => Some((
            Reason::RecordRefused,
            "check the topic's `cleanup.policy` (with `compact` it takes no message without a key), its \
             `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`, and whether the broker holds messages \
             against a schema",
        )),
        _ => None,
    }
}

/// Returns whether `code` says that a record, or the batch in which it was sent, is too large for its topic.
pub(super) fn too_large(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_stops_with_a_remedy() {
        let code = RDKafkaErrorCode::TopicAuthorizationFailed;
        let Failure::Stop(error) = Failure::of_topic(code, Operation::Write, "processed-user-login") else {
            panic!("waiting does not grant permissions");
        };
        let message = error.to_string();
        assert!(
            message.contains("WRITE on topic processed-user-login") && message.contains("TOPIC_AUTHORIZATION_FAILED"),
            "{message}"
        );
    }

    #[test]
    fn a_topic_that_may_not_be_written_to_is_named_with_the_permission() {
        for topics in [&["out"][..], &["out", "counts"]] {
            let Some(Failure::Stop(error)) = denied_writes(topics) else { panic!("{topics:?}") };
            assert!(error.to_string().contains(&topics.join(", ")) && error.to_string().contains("WRITE"), "{error}");
        }
        assert!(denied_writes(&[]).is_none());
        let Failure::Stop(error) = Failure::of_writing(RDKafkaErrorCode::TopicAuthorizationFailed, "out") else { panic!() };
        assert!(error.to_string().contains("topic out: ") && error.to_string().contains("WRITE"), "{error}");
    }

    #[test]
    fn offsets_that_may_not_be_committed_are_a_matter_of_reading_their_topic() {
        let denied = RDKafkaErrorCode::TopicAuthorizationFailed;
        let Failure::Stop(error) = Failure::of_offsets(denied, "commit offsets of topic in", "in") else { panic!() };
        assert!(error.to_string().contains("grant this client READ on topic in ("), "{error}");
    }

    #[test]
    fn a_process_that_is_no_member_any_more_is_told_how_to_be_one() {
        let Failure::Stop(error) = Failure::of(RDKafkaErrorCode::FencedInstanceId, "read topic in") else { panic!() };
        assert!(error.to_string().contains("give each process its own under `[kafka.properties]`"), "{error}");
    }

    #[test]
    fn a_topic_that_is_missing_may_only_be_unknown_to_a_broker_that_has_just_started() {
        for code in [RDKafkaErrorCode::UnknownTopic, RDKafkaErrorCode::UnknownTopicOrPartition] {
            let Failure::Missing(error) = Failure::of(code, "read topic user-login") else { panic!("{code:?}") };
            assert!(error.to_string().contains("create the topic"), "{error}");
        }
    }

    #[test]
    fn what_a_topic_does_not_take_has_a_reason_and_a_remedy() {
        for code in [RDKafkaErrorCode::MessageSizeTooLarge, RDKafkaErrorCode::InvalidTimestamp, RDKafkaErrorCode::InvalidRecord] {
            let (_, remedy) = refused(code).unwrap();
            assert!(remedy.contains("topic"), "{code:?}");
        }
        assert_eq!(refused(RDKafkaErrorCode::NotEnoughReplicas), None);
    }

    #[test]
    fn an_unreachable_broker_is_waited_for() {
        for code in
            [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::NotEnoughReplicas]
        {
            assert!(matches!(Failure::of(code, "write"), Failure::Wait(_)), "{code:?}");
        }
    }

    #[test]
    fn what_is_not_acknowledged_in_time_is_waited_for_and_may_lack_replicas() {
        for code in [RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::NotEnoughReplicas] {
            let Failure::Wait(error) = Failure::of_writing(code, "out") else { panic!("{code:?}") };
            for words in ["write to topic out: ", "no leader", "`min.insync.replicas`", "`topics.replication`"] {
                assert!(error.to_string().contains(words), "{error}");
            }
        }
    }

    #[test]
    fn what_only_people_can_mend_stops_with_every_key_that_may_be_at_fault() {
        use RDKafkaErrorCode as Code;
        for (code, keys) in [
            (Code::UnsupportedForMessageFormat, ["topic out: ", "`message.format.version`", "`log.message.format.version`"]),
            (Code::PolicyViolation, ["`topics.replication`", "`topics.partitions`", "`[topics.settings]`"]),
            (Code::IllegalSASLState, ["`sasl.*`", "`security.protocol`", "may not speak SASL"]),
            (Code::Authentication, ["`sasl.*`", "`security.protocol`", "may not speak SASL"]),
        ] {
            let Failure::Stop(error) = Failure::of_topic(code, Operation::Create, "out") else { panic!("{code:?}") };
            assert!(keys.iter().all(|key| error.to_string().contains(key)), "{error}");
        }
    }

    #[test]
    fn a_record_that_is_refused_without_a_reason_names_all_that_may_refuse_it() {
        let (reason, remedy) = refused(RDKafkaErrorCode::InvalidRecord).unwrap();
        assert_eq!(reason, Reason::RecordRefused);
        for words in ["`cleanup.policy`", "`message.timestamp.before.max.ms`", "`message.timestamp.after.max.ms`", "schema"] {
            assert!(remedy.contains(words), "{remedy}");
        }
    }
}
