//! A rule that never ends on some messages: the bisection takes longer than a transaction may be open.

use std::collections::BTreeMap;

use crate::auditor::Auditor;
use crate::cluster::shared;
use crate::folder::Folder;
use crate::guest::Guest;
use crate::kafka::{Record, write};
use crate::oracle::Rejected;
use crate::weir::Job;

/// One in this number of messages of a partition is a faulting one.
const EVERY: usize = 400;
/// The number of messages of a partition.
const COUNT: usize = 1_200;
/// The expected rejection of a faulting record.
const BLAME: Rejected = ("guest", "rule_fault");

/// A function that never ends on messages whose `x` is null, except in the probe, where the clock stands at 0.
const LOOPS: &str = "
    (func $on_null (param $row i32)
        (if (i64.ne (global.get $processed_at) (i64.const 0)) (then (loop $ever (br $ever)))))";

#[test]
fn a_search_for_culprits_that_outlasts_a_transaction_wedges_nothing() {
    let job =
        Job::create(shared(), "culprits").with("kafka.properties.transaction.timeout.ms", "3000").with("batch.rows", "20000");
    let folder = Folder::new();
    folder.put("guest", &Guest::new(LOOPS).component());
    let pipeline = r#"pipeline = ["validation", "utc-enrichment", "device-filter", "guest"]"#;
    folder.configure(&format!("[rules]\n{pipeline}\n[rule.guest]\ndeadline = \"500ms\"\n"));
    let is_culprit = |index: usize| index % EVERY == EVERY / 2;
    let login = |index: usize| {
        let x = if is_culprit(index) { "null" } else { "1" };
        format!(r#"{{"app_version":"2.3.0","device_type":"iOS","timestamp":1,"x":{x}}}"#)
    };
    for partition in 0..2 {
        let record = |index| Record { partition, value: Some(login(index).into()), ..Record::default() };
        write(job.brokers(), &job.topic("in"), &(0..COUNT).map(record).collect::<Vec<Record>>());
    }
    job.work_off(job.engine_in(&folder, "a"));
    let mut evidence = job.evidence();
    let culprits =
        (0..2).flat_map(|partition| (0..COUNT).filter(|index| is_culprit(*index)).map(move |at| (partition, at as i64)));
    evidence.blamed = culprits.map(|place| (place, BLAME)).collect::<BTreeMap<_, _>>();
    job.check_on(Auditor::default(), &evidence);
}
