//! Whether all contenders do the same job: over a sample of logins, the outputs and dead letters of each are compared with those
//! of Weir.
//!
//! Outputs are compared as JSON without `processed_time`, dead letters by their bytes and the reason, both with their keys, by
//! partition and in order. Only a contender that keeps no order may have another one. Counts are left out: each contender begins
//! its windows at another time.

use anyhow::{Context as _, bail, ensure};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use serde_json::Value;

use super::BAD_KINDS;
use super::common::broker::Broker;
use super::common::logins;
use super::common::topics::PARTITIONS;
use super::contenders::Contender;
use super::outputs::Kind;
use super::throughput;

/// The number of logins that are compared.
const SAMPLE: usize = 20_000;
/// The topic of the sample.
const INPUT: &str = "sample";
/// No `processed_time` is before this one, in milliseconds since the epoch: September 2020.
const PAST: i64 = 1_600_000_000_000;

/// The answers to the sample by partition, outputs and dead letters, each as a line of text that can be compared.
type Answers = [Vec<String>; 2 * PARTITIONS as usize];

/// Fails if a contender answers a login differently from the first one.
pub fn check(broker: &Broker, contenders: &[Contender]) -> anyhow::Result<()> {
    logins::produce(broker, INPUT, logins::mixed(&BAD_KINDS)?.take(SAMPLE))?;
    let (first, others) = contenders.split_first().context("there are no contenders")?;
    let reference = answers(broker, first)?;
    for contender in others.iter().filter(|contender| !contender.is_quick()) {
        let mut found = answers(broker, contender)?;
        let mut expected = reference.clone();
        let in_order = found == expected;
        if !contender.keeps_order {
            found.iter_mut().chain(&mut expected).for_each(|answers| answers.sort_unstable());
        }
        for (found, expected) in found.iter().zip(&expected) {
            let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
            if let Some((found, expected)) = differing(found.get(same), expected.get(same)) {
                bail!("{} differs from {}: it wrote\n{found}\nwhere this one wrote\n{expected}", contender.name, first.name);
            }
        }
        let order = if in_order { "in order" } else { "in another order" };
        eprintln!("{} agrees with {} over {SAMPLE} logins, {order}", contender.name, first.name);
    }
    Ok(())
}

fn differing<'a>(found: Option<&'a String>, expected: Option<&'a String>) -> Option<(&'a str, &'a str)> {
    let text = |answer: Option<&'a String>| answer.map_or("nothing", String::as_str);
    (found != expected).then(|| (text(found), text(expected)))
}

fn answers(broker: &Broker, contender: &Contender) -> anyhow::Result<Answers> {
    let mut answers = Answers::default();
    let mut wrong = None;
    let count = throughput::work(broker, contender, INPUT, "sample", |kind, message| match answer(kind, message) {
        Ok(answer) => answers[message.partition() as usize + kind as usize * PARTITIONS as usize].push(answer),
        Err(error) => wrong = Some(error),
    })?
    .written;
    if let Some(error) = wrong {
        return Err(error.context(format!("{} wrote an answer that can't be read", contender.name)));
    }
    ensure!(count == SAMPLE, "{} gave {count} answers to {SAMPLE} logins", contender.name);
    Ok(answers)
}

fn answer(kind: Kind, message: &BorrowedMessage<'_>) -> anyhow::Result<String> {
    let text = |bytes: Option<&[u8]>| bytes.map_or("none".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    let value = message.payload();
    let answer = match kind {
        Kind::Output => {
            let mut login: Value = serde_json::from_slice(value.context("an output has no value")?)?;
            let members = login.as_object_mut().context("an output is no object")?;
            let time = members.remove("processed_time").and_then(|time| time.as_i64());
            ensure!(time.is_some_and(|time| time > PAST), "the processed_time of {} is wrong", text(value));
            members.sort_keys();
            login.to_string()
        }
        Kind::DeadLetter => {
            let headers = message.headers().context("a dead letter has no headers")?;
            let reason = headers.iter().find(|header| ["reason", "weir-reason"].contains(&header.key));
            format!("{}, rejected for {}", text(value), text(reason.and_then(|header| header.value)))
        }
    };
    Ok(format!("{}: {answer}", text(message.key())))
}
