//! Every error that a broker may answer to a transactional call, on the embedded broker. The engine handles each error as
//! documented, and never gets stuck.
//!
//! The embedded broker answers as it is told to, but does not implement transactions: what was written before a failure stays,
//! and offsets that are committed with a transaction are lost. These tests therefore show that the engine goes on, but not that
//! it does so exactly once. The tests on Apache Kafka show that.

use std::sync::atomic::AtomicI64;
use std::thread;

use super::tests::Running;
use weir_kafka::Delivery;
use weir_kafka::testing::Code::{self, *};
use weir_kafka::testing::{Broker, Request, settings};

/// Returns a broker whose clients write in transactions.
fn broker(test: &str) -> Broker {
    let mut settings = settings();
    settings.client.delivery = Delivery::ExactlyOnce;
    settings.client.transactional_id = Some(test.to_owned());
    // The time that the client waits on its own before it tries again.
    settings.client.properties.insert("reconnect.backoff.max.ms".into(), "100".into());
    Broker::start(settings)
}

/// Answers the next request of a kind with each of `errors`, one after the other, and checks each time that a record is
/// committed.
fn survives(requests: Request, errors: &[Code]) {
    let broker = broker(&format!("{requests:?}"));
    let clock = AtomicI64::new(60_000);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("there is something to read", |snapshot| !snapshot.partitions.is_empty());
        for error in errors {
            let text = format!("iOS {error:?}");
            broker.fail(requests, &[*error]);
            broker.produce(&[(0, None, Some(text.as_bytes()))]);
            running.until(&format!("{text} is committed"), |snapshot| snapshot.last.iter().any(|last| last.text == text));
        }
        running.stop().unwrap();
    });
}

/// Answers the first requests of a kind with `errors`, and checks that the first record is committed. For kinds of requests that
/// the test's own producer uses as well.
fn survives_at_first(requests: Request, errors: &[Code]) {
    let broker = broker(&format!("{requests:?} {errors:?}"));
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"iOS first"))]);
    broker.fail(requests, errors);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until(&format!("a message is committed after {errors:?}"), |snapshot| snapshot.read > 0);
        running.stop().unwrap();
    });
}

/// Answers the next request of a kind with `error`, and returns the error that ends the engine.
fn ends(requests: Request, error: Code) -> String {
    let broker = broker(&format!("{requests:?} {error:?}"));
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"iOS first"))]);
    // Three times, because the client may try again.
    broker.fail(requests, &[error; 3]);
    thread::scope(|scope| Running::start(scope, &broker, &clock).join().unwrap_err().to_string())
}

#[test]
fn errors_of_adding_partitions_are_survived() {
    survives(
        Request::AddPartitionsToTxn,
        &[
            RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
            RD_KAFKA_RESP_ERR_OPERATION_NOT_ATTEMPTED,
            RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
            RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        ],
    );
}

#[test]
fn errors_of_adding_offsets_are_survived() {
    survives(
        Request::AddOffsetsToTxn,
        &[
            RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RD_KAFKA_RESP_ERR_UNKNOWN,
            RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        ],
    );
}

#[test]
fn errors_of_committing_offsets_are_survived() {
    survives(
        Request::TxnOffsetCommit,
        &[
            RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        ],
    );
}

#[test]
fn errors_of_ending_a_transaction_are_survived() {
    survives(
        Request::EndTxn,
        &[
            RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
            RD_KAFKA_RESP_ERR_UNKNOWN,
            RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
            RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
            RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        ],
    );
}

#[test]
fn errors_of_writing_in_a_transaction_are_survived() {
    for error in [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ] {
        survives_at_first(Request::Produce, &[error]);
    }
}

#[test]
fn errors_of_taking_up_the_transactional_id_are_survived() {
    let again = [
        RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
    ];
    survives_at_first(Request::InitProducerId, &again);
    survives_at_first(Request::InitProducerId, &[RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
}

#[test]
fn what_only_a_person_can_mend_ends_the_engine() {
    let missing = RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    for requests in [Request::InitProducerId, Request::AddPartitionsToTxn, Request::EndTxn] {
        let error = ends(requests, missing);
        assert!(error.contains("TRANSACTIONAL_ID_AUTHORIZATION_FAILED") && error.contains("grant"), "{requests:?}: {error}");
    }
    let error = ends(Request::TxnOffsetCommit, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    assert!(error.contains("GROUP_AUTHORIZATION_FAILED") && error.contains("grant"), "{error}");
    let error = ends(Request::TxnOffsetCommit, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    let words = ["commit offsets of topic user-login", "grant this client READ on topic user-login (", "docs/security.md"];
    assert!(words.iter().all(|words| error.contains(words)), "{error}");
    let error = ends(Request::TxnOffsetCommit, RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE);
    assert!(error.contains("offset.metadata.max.bytes"), "{error}");
    let error = ends(Request::InitProducerId, RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT);
    assert!(error.contains("transaction.timeout.ms"), "{error}");
}

#[test]
fn a_producer_that_is_fenced_again_and_again_ends_the_engine() {
    let broker = broker("twins");
    let clock = AtomicI64::new(60_000);
    broker.fail(Request::EndTxn, &[RD_KAFKA_RESP_ERR_PRODUCER_FENCED; 10]);
    broker.produce(&[(0, None, Some(b"iOS first"))]);
    let error = thread::scope(|scope| Running::start(scope, &broker, &clock).join().unwrap_err().to_string());
    assert!(error.contains("twins") && error.contains("kafka.transactional_id"), "{error}");
}
