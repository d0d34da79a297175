//! Errors of the cluster, sorted by what can be done about them, in one table.

use anyhow::anyhow;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why a step could not be committed, or the next batch not be read.
#[derive(Debug)]
pub enum Failure {
    /// Waiting can help: back off, rewind, and read the batch again.
    Wait(anyhow::Error),
    /// Only a person can help: the message says how.
    Stop(anyhow::Error),
    /// Given up because the process is to end; what was in hand is not committed.
    GaveUp,
}

impl Failure {
    /// The failure for `code`, met while doing `what`, which reads as in `failed to <what>`.
    pub fn of(code: RDKafkaErrorCode, what: &str) -> Failure {
        match remedy(code) {
            Some(remedy) => Failure::Stop(anyhow!("failed to {what}: {}: {remedy}", describe(code))),
            None => Failure::Wait(anyhow!("failed to {what}: {}", describe(code))),
        }
    }

    /// The failure for an error of the client.
    pub fn from_client(error: &KafkaError, what: &str) -> Failure {
        match error.rdkafka_error_code() {
            Some(code) => Failure::of(code, what),
            None => Failure::Wait(anyhow!("failed to {what}: {error}")),
        }
    }
}

/// What a person has to do about `code`; none where waiting can help.
fn remedy(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    let remedy = match code {
        Code::TopicAuthorizationFailed => "grant this client the operation on the topic (an ACL), or use another principal",
        Code::GroupAuthorizationFailed => "grant this client READ on the group, or set another `kafka.group`",
        Code::ClusterAuthorizationFailed => "grant this client IDEMPOTENT_WRITE and, to create topics, CREATE on the cluster",
        Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::Authentication => {
            "check the `sasl.*` settings under `[kafka.properties]`"
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            "create the topic, or start again with `topics.create = true`"
        }
        Code::InvalidTopic => "choose a legal name: letters, digits, `.`, `_` and `-`, at most 249 of them",
        Code::InvalidReplicationFactor => "set `topics.replication` to at most the number of brokers",
        Code::InvalidPartitions => "set `topics.partitions` to a number of 1 or more",
        Code::InvalidConfig | Code::PolicyViolation => "check `[topics.settings]` against what the cluster allows",
        Code::UnsupportedVersion | Code::UnsupportedFeature => "the broker is too old: Apache Kafka 0.11 or later is needed",
        Code::InconsistentGroupProtocol => "another kind of consumer uses this group: set another `kafka.group`",
        Code::TransactionalIdAuthorizationFailed => {
            "grant this client WRITE and DESCRIBE on the transactional id, or set `kafka.delivery = \"at-least-once\"`"
        }
        Code::InvalidTransactionTimeout => {
            "set `transaction.timeout.ms` under `[kafka.properties]` to at most the broker's `transaction.max.timeout.ms`"
        }
        Code::FencedInstanceId => "another process uses the same `group.instance.id`",
        _ => return None,
    };
    Some(remedy)
}

/// The code in words, with its name in the protocol.
pub fn describe(code: RDKafkaErrorCode) -> String {
    format!("{code} ({})", super::native::name(code))
}

/// What the broker holds against one record, if that is what `code` means: the reason that its dead letter gets.
pub(super) fn refused(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => Some("message_too_large"),
        Code::InvalidTimestamp => Some("timestamp_refused"),
        Code::InvalidRecord => Some("record_refused"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_stops_with_a_remedy() {
        let Failure::Stop(error) = Failure::of(RDKafkaErrorCode::TopicAuthorizationFailed, "write to topic processed-user-login")
        else {
            panic!("waiting does not grant permissions");
        };
        let message = error.to_string();
        assert!(message.contains("processed-user-login") && message.contains("TOPIC_AUTHORIZATION_FAILED"), "{message}");
    }

    #[test]
    fn an_unreachable_broker_is_waited_for() {
        for code in
            [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::NotEnoughReplicas]
        {
            assert!(matches!(Failure::of(code, "write"), Failure::Wait(_)), "{code:?}");
        }
    }
}
