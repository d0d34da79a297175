//! Messages and commits that should never come: poison, impossible times, too many device types, metadata of other tools.

use std::time::Duration;

use crate::auditor::{Auditor, poisoned};
use crate::cluster::shared;
use crate::kafka::{Record, write};
use crate::oracle::{Passed, Rejected};
use crate::poisons::{self, poisons, verdict};
use crate::program::{Ended, within};
use crate::weir::{Job, PARTITIONS, SETTLING};

/// A topic setting that admits the largest poison.
const LARGE: (&str, &str) = ("max.message.bytes", "4000000");
/// A topic setting that admits any timestamp.
const TIMELESS: (&str, &str) = ("message.timestamp.after.max.ms", "9223372036854775807");
/// The last millisecond of the year 9999.
const LATEST: i64 = 253_402_300_799_999;
/// The number of device types, and the longest name, in characters.
const DEVICE_TYPES: usize = 10_000;
const LONGEST_NAME: usize = 1 << 10;
/// The largest size of a state, in characters.
const LARGEST_STATE: usize = 3_000;

#[test]
fn poison_is_rejected_or_processed_and_never_in_the_way() {
    let job = Job::with_topics(shared(), "poison", |_| vec![LARGE]);
    let poisons = poisons();
    let sent: Vec<Record> = poisons.iter().enumerate().map(|(index, poison)| poisons::record(index, poison)).collect();
    write(job.brokers(), &job.topic("in"), &sent);
    job.work_off(job.engine("a"));
    job.check_by(Auditor { expected: poisoned, ..Auditor::default() });
    let (outputs, letters) = (job.outputs.seen(), job.letters.seen());
    for (poison, sent) in poisons.iter().zip(&sent) {
        let found = if verdict(&poison.fate).is_none() { &outputs } else { &letters };
        let found = found.iter().find(|record| record.key == sent.key);
        poisons::check(poison, sent, found.unwrap_or_else(|| panic!("{}: went the other way", poison.name)));
    }
}

/// Logins whose record or field has an impossible time.
fn timeless() -> Vec<Record> {
    let members = ["0", "-1", "253402300799", "253402300800", "1767225600000", "9223372036854775807", "1e308", "\"1\"", "null"];
    let stamps = [Some(0), Some(1), Some(1_767_225_600), Some(LATEST), None];
    let all = members.iter().flat_map(|member| stamps.iter().map(move |stamp| (member, *stamp)));
    all.enumerate()
        .map(|(index, (member, timestamp))| Record {
            partition: index as i32 % PARTITIONS,
            timestamp,
            key: Some(format!("user-{index}").into_bytes()),
            value: Some(format!(r#"{{"app_version":"2.3.0","device_type":"iOS","timestamp":{member}}}"#).into_bytes()),
            ..Record::default()
        })
        .collect()
}

#[test]
fn impossible_times_are_rejected_or_right_and_close_no_windows() {
    let job = Job::with_topics(shared(), "times", |_| vec![TIMELESS]).with("counts.every", "1h");
    write(job.brokers(), &job.topic("in"), &timeless());
    job.work_off(job.engine("a"));
    job.check();
    // Windows end by the clock of the engine, and stay open when the engine stops. So at most one window has ended.
    assert!(job.windows.count() <= 1, "{:#?}", job.windows.seen());
}

#[test]
fn a_time_that_the_output_refuses_makes_a_dead_letter() {
    let job = Job::with_topics(shared(), "refused", |topic| if topic == "in" { vec![TIMELESS] } else { Vec::new() });
    write(job.brokers(), &job.topic("in"), &timeless());
    job.work_off(job.engine("a"));
    // A dead letter has no timestamp if the broker refuses the timestamp of the record.
    job.check_by(Auditor {
        expected: |record| match record.timestamp == Some(LATEST) {
            true => (Auditor::default().expected)(record).and(Err(("weir", "timestamp_refused"))),
            false => (Auditor::default().expected)(record),
        },
        ..Auditor::default()
    });
}

/// The name of a device type: short names, long names, and names with characters that JSON escapes.
fn name(index: usize) -> String {
    match index % 4 {
        0 => format!("type-{index}"),
        1 => format!("{index}-{}", "x".repeat(index % LONGEST_NAME)),
        2 => format!("{index} \\\" \u{1} ü 日本"),
        _ => format!("{}", index % 7),
    }
}

#[test]
fn ten_thousand_device_types_are_counted_within_their_room() {
    let job = Job::create(shared(), "types").with("rules.pipeline", "validation,utc-enrichment");
    let logins: Vec<Record> = (0..DEVICE_TYPES)
        .map(|index| {
            let name = serde_json::to_string(&name(index)).unwrap();
            let value = format!(r#"{{"app_version":"2.3.0","device_type":{name},"timestamp":0}}"#);
            Record { partition: index as i32 % PARTITIONS, value: Some(value.into_bytes()), ..Record::default() }
        })
        .collect();
    let check = Auditor { expected: typed, names: false, ..Auditor::default() };
    let (first, second) = logins.split_at(DEVICE_TYPES / 2);
    for part in [first, second] {
        write(job.brokers(), &job.topic("in"), part);
        // The second engine continues with the state that the first one has committed.
        job.work_off(job.engine("a"));
        for (offset, metadata) in job.committed().unwrap().values() {
            assert!(metadata.chars().count() <= LARGEST_STATE && !metadata.is_empty(), "at {offset}: {metadata}");
        }
        job.check_by(check);
    }
}

/// Lets every login pass, whatever its device type is called.
fn typed(record: &Record) -> Result<Passed, Rejected> {
    let login: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap();
    Ok(Passed { device_type: login["device_type"].as_str().unwrap().to_owned(), utc: "1970-01-01 00:00:00".to_owned() })
}

/// The cases are all UTF-8: a broker of Apache Kafka keeps metadata as text, so other bytes cannot occur.
#[test]
fn metadata_that_is_not_ours_stops_it_until_it_is_told_to_begin_anew() {
    let oversized = "x".repeat(4_000);
    let kinds = [
        ("foreign", "AQAAAZ-offset-of-another-tool"),
        ("json", "{}"),
        ("newer", r#"{"weir":99,"what":1}"#),
        ("damaged", r#"{"weir":1,"topic":7}"#),
        ("oversized", &oversized),
        ("replaced", "\u{fffd}\u{fffd}\u{0}"),
    ];
    for (kind, metadata) in kinds {
        let job = Job::create(shared(), &format!("metadata-{kind}"));
        job.load(18, 2_000, 300).finish();
        job.commit(1, 0, metadata);
        let Ended { code, lines } = job.engine("a").end();
        let error = lines.iter().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{kind}: {lines:#?}"));
        assert_eq!(code, Some(1), "{kind}: {lines:#?}");
        for word in ["counts.on_bad_state", "reset", &job.topic("in")] {
            assert!(error.contains(word), "{kind}: `{word}` is not in {error}");
        }
        let job = job.with("counts.on_bad_state", "reset");
        job.work_off(job.engine("a"));
        job.check();
    }
}

#[test]
fn windows_follow_each_other_and_their_totals_grow() {
    let job = Job::create(shared(), "windows").with("counts.every", "1s");
    let engine = job.engine("a").assigned();
    job.load(26, 300, 1_500).finish();
    within(SETTLING, "two windows are there to be compared", || (job.windows.count() > 1).then_some(()));
    job.work_off(engine);
    job.check();
}

#[test]
fn a_window_is_closed_though_nothing_more_comes() {
    let job = Job::create(shared(), "quiet").with("counts.every", "1s");
    job.load(17, 2_000, 300).finish();
    let engine = job.engine("a");
    job.settle();
    within(SETTLING, "no window is left open", || {
        let committed = job.committed()?;
        let open = |metadata: &str| {
            let state: serde_json::Value = serde_json::from_str(metadata).unwrap_or_default();
            state["counts"].as_object().is_some_and(|counts| counts.values().any(|pair| pair[1] != 0))
        };
        (job.windows.count() > 0 && !committed.values().any(|(_, metadata)| open(metadata))).then_some(())
    });
    let windows = job.windows.count();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(job.windows.count(), windows, "empty windows are not sent");
    // A killed process sends nothing more.
    engine.kill();
    job.check();
}
