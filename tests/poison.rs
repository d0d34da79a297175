//! Messages that break naive engines, through the command line and through Kafka: each is rejected for the right reason with its
//! original bytes, or processed correctly, and the messages around it pass.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use weir::config::Config;
use weir_kafka::Embedded;

use crate::kafka::{Reader, Record, write};
use crate::poisons::{Poison, check, poisons, record, spliced, verdict};
use crate::program::{Weir, checkout, command};

#[test]
fn poison_on_the_command_line() {
    // On the command line a message is a line, so messages that are no line are tested with Kafka only.
    let poisons: Vec<Poison> =
        poisons().into_iter().filter(|poison| poison.value.as_ref().is_some_and(|value| !value.contains(&b'\n'))).collect();
    let folder = checkout();
    let lines: Vec<u8> = poisons.iter().flat_map(|poison| [poison.value.as_deref().unwrap(), b"\n"].concat()).collect();
    fs::write(folder.path().join("poison"), lines).unwrap();
    let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
    weir.args(["apply", "--processed-at", "0", "--input", "poison", "--output", "outputs", "--rejected", "rejected"]);
    let ended = weir.output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));

    let (outputs, rejected) =
        (fs::read(folder.path().join("outputs")).unwrap(), fs::read(folder.path().join("rejected")).unwrap());
    let mut outputs = outputs.split(|byte| *byte == b'\n');
    let mut rejected = rejected.split(|byte| *byte == b'\n');
    for (index, Poison { name, value, fate }) in poisons.iter().enumerate() {
        let value = value.as_deref().unwrap();
        let Some((rule, reason)) = verdict(fate) else {
            assert!(outputs.next() == Some(&spliced(value, "0")[..]), "{name}: not the bytes that were expected");
            continue;
        };
        let line: Value = serde_json::from_slice(rejected.next().unwrap()).unwrap();
        let found = (line["line"].as_u64(), line["rule"].as_str(), line["reason"].as_str());
        assert_eq!(found, (Some(index as u64 + 1), Some(rule), Some(reason)), "{name}: {}", line["detail"]);
        assert!(original(&line) == value, "{name}: the bytes of the message have changed");
    }
    assert_eq!((outputs.next(), rejected.next()), (Some(&b""[..]), Some(&b""[..])), "there is more than was expected");
}

/// Returns the message in a line about a rejection.
fn original(line: &Value) -> Vec<u8> {
    match line["value_base64"].as_str() {
        Some(encoded) => BASE64_STANDARD.decode(encoded).unwrap(),
        None => line["value"].as_str().unwrap().as_bytes().to_vec(),
    }
}

#[test]
fn poison_through_kafka() {
    let poisons = poisons();
    let broker = Embedded::start(&Config::default().kafka.topics).unwrap();
    let brokers = broker.bootstrap_servers().unwrap();
    let records: Vec<Record> = poisons.iter().enumerate().map(|(index, poison)| record(index, poison)).collect();
    write(&brokers, "user-login", &records);
    let weir = Weir::start("run", &[("WEIR_KAFKA_BROKERS", &brokers)]);

    let passing = poisons.iter().filter(|poison| verdict(&poison.fate).is_none()).count();
    let (mut outputs, mut letters) =
        (Reader::open(&brokers, "processed-user-login"), Reader::open(&brokers, "user-login-rejected"));
    outputs.count(passing);
    letters.count(poisons.len() - passing);
    for (poison, sent) in poisons.iter().zip(&records) {
        let reader = if verdict(&poison.fate).is_none() { &outputs } else { &letters };
        let found = reader.records.iter().find(|record| record.key == sent.key);
        check(poison, sent, found.unwrap_or_else(|| panic!("{}: went the other way", poison.name)));
    }
    let ended = weir.stop();
    assert_eq!((ended.code, ended.number("read"), ended.number("written")), (Some(0), poisons.len() as u64, passing as u64));
}
