//! The metrics of `GET /metrics`, in the text format of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats>).
//!
//! All values come from the snapshot and the loader's status, and reading changes nothing. Counters begin with the process.
//! Labels are names of rules, reasons, partitions and hashes: each label has a bounded number of values. `prometheus-client`
//! writes the text; the engine keeps the numbers, because it publishes them as one picture after each commit.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{self, CONTENT_TYPE};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use weir_control::report::Status;
use weir_core::record::RuleStats;
use weir_engine::snapshot::{Histogram, LoopState, Snapshot};

/// The value of the header `content-type`.
pub(crate) const FORMAT: &str = CONTENT_TYPE;

/// Returns the metrics as text: those of the process, from the sum `snapshot` of its data loops, and those of each of `loops`.
pub(crate) fn text(snapshot: Snapshot, loops: Vec<Snapshot>, status: Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics { snapshot, loops, status }));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

/// The sources of the values.
#[derive(Debug)]
struct Metrics {
    snapshot: Snapshot,
    loops: Vec<Snapshot>,
    status: Status,
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.info("weir_build", "The program that runs.", &[("version", env!("CARGO_PKG_VERSION"))])?;
        let running = self.snapshot.state == LoopState::Running;
        page.flag("weir_running", "Whether messages are read and written: 1, or 0 while it connects, waits or stops.", running)?;
        messages(&mut page, &self.snapshot)?;
        data_loops(&mut page, &self.loops)?;
        rules(&mut page, &self.snapshot)?;
        sets(&mut page, &self.status)?;
        match resident_bytes() {
            Some(bytes) => page.gauge("process_resident_memory_bytes", "Memory that is really there.", bytes),
            None => Ok(()),
        }
    }
}

fn messages(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    page.counter("weir_records_read", "Messages read and committed.", snapshot.read)?;
    page.counter("weir_records_written", "Messages that passed every rule.", snapshot.written)?;
    let help = "Messages that did not pass, by rule and reason; weir is the engine itself.";
    let mut family = page.family("weir_records_rejected", help, MetricType::Counter)?;
    for rejected in &snapshot.rejected {
        let labels = [("rule", &*rejected.rule), ("reason", &*rejected.reason)];
        count(family.encode_family(&labels)?, rejected.messages)?;
    }
    let help = "Messages of an input partition that are not committed yet.";
    let mut family = page.family("weir_lag_records", help, MetricType::Gauge)?;
    for (partition, lag) in &snapshot.lag {
        family.encode_family(&[("partition", *partition)])?.encode_gauge(lag)?;
    }
    let help = "How long a transaction took, from its first message to its commit.";
    page.histogram("weir_transaction_seconds", help, &snapshot.transaction_seconds)?;
    page.histogram("weir_transaction_records", "Messages in a transaction.", &snapshot.transaction_records)
}

fn data_loops(page: &mut Page<'_>, loops: &[Snapshot]) -> fmt::Result {
    let help = "Whether a data loop reads and writes: 1, or 0 while it connects, waits or stops.";
    page.by_loop("weir_loop_running", help, MetricType::Gauge, loops, |one| u64::from(one.state == LoopState::Running))?;
    let help = "Input partitions that a data loop has.";
    page.by_loop("weir_loop_partitions", help, MetricType::Gauge, loops, |one| one.partitions.len() as u64)?;
    let help = "Messages that a data loop has read and committed.";
    page.by_loop("weir_loop_records_read", help, MetricType::Counter, loops, |one| one.read)
}

fn rules(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let stats = &snapshot.stats;
    page.by_rule("weir_rule_rows", "Messages that a rule was asked about.", stats, |stats| stats.rows)?;
    page.by_rule("weir_rule_calls", "Calls of a rule.", stats, |stats| stats.calls)?;
    page.by_rule("weir_rule_seconds", "Time in calls of a rule.", stats, |stats| stats.nanos as f64 / 1e9)?;
    page.by_rule("weir_rule_faults", "Messages on which a rule failed.", stats, |stats| stats.faults)?;
    let help = "Messages that a rule was not asked about, because it failed on everything before.";
    page.by_rule("weir_rule_skipped", help, stats, |stats| stats.skipped)?;
    let help = "Whether a rule is left out because it fails on everything.";
    let mut family = page.family("weir_rule_short_circuited", help, MetricType::Gauge)?;
    for (rule, stats) in stats {
        family.encode_family(&[("rule", &**rule)])?.encode_gauge(&u32::from(stats.open))?;
    }
    Ok(())
}

fn sets(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let live = [("hash", status.live.hash.clone()), ("why", status.why.to_string())];
    page.info("weir_ruleset", "The set of rules in force, and why it is this one.", &live)?;
    page.gauge("weir_ruleset_live_since_seconds", "Since when, as Unix time.", status.since as f64 / 1e3)?;
    page.counter("weir_ruleset_swaps", "Sets that went live after the first one.", status.swaps.live)?;
    page.counter("weir_ruleset_refused", "Sets that were refused: the folder's, and those of commands.", status.swaps.refused)?;
    page.counter("weir_ruleset_taken_back", "Sets that their trial took back.", status.swaps.taken_back)?;
    page.flag("weir_ruleset_refusal", "Whether what the folder has is refused.", status.refusal.is_some())?;
    let help = "Whether what is decided about rules can't be written down.";
    page.flag("weir_ruleset_unkept", help, status.unkept.is_some())?;
    page.flag("weir_ruleset_trial", "Whether the set in force is on trial.", status.trial.is_some())?;
    page.flag("weir_ruleset_shadow", "Whether a candidate runs beside it.", status.shadow.is_some())
}

/// Writes a sample of a counter.
fn count(mut encoder: MetricEncoder<'_>, value: impl EncodeCounterValue) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

/// Writes families of metrics; the text adds `_total` to the name of a counter, and `_info` to that of an info.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family<'s>(&'s mut self, name: &'s str, help: &str, kind: MetricType) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        count(self.family(name, help, MetricType::Counter)?, value)
    }

    /// Writes a counter with a sample for each rule.
    fn by_rule<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        stats: &BTreeMap<String, RuleStats>,
        value: impl Fn(&RuleStats) -> V,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (rule, stats) in stats {
            count(family.encode_family(&[("rule", &**rule)])?, value(stats))?;
        }
        Ok(())
    }

    /// Writes a metric with a sample for each data loop.
    fn by_loop(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        loops: &[Snapshot],
        value: impl Fn(&Snapshot) -> u64,
    ) -> fmt::Result {
        let mut family = self.family(name, help, kind)?;
        for (id, snapshot) in loops.iter().enumerate() {
            let labels = [("loop", id)];
            let mut sample = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => count(sample, value(snapshot))?,
                _ => sample.encode_gauge(&value(snapshot))?,
            }
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.family(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Writes a gauge that is 1 or 0.
    fn flag(&mut self, name: &str, help: &str, is_set: bool) -> fmt::Result {
        self.gauge(name, help, u32::from(is_set))
    }

    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.family(name, help, MetricType::Info)?.encode_info(labels)
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
        let mut family = self.family(name, help, MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(histogram.sum(), histogram.count(), &buckets, None)
    }
}

/// Returns the memory that this process has, by proc_pid_statm(5).
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::snapshot::Rejected;

    #[test]
    fn numbers_are_in_the_format_of_prometheus() {
        let mut snapshot = Snapshot { read: 7, state: LoopState::Running, ..Snapshot::default() };
        snapshot.rejected.push(Rejected { rule: "a\"b\n".into(), reason: "bad".into(), messages: 3 });
        snapshot.stats.insert("a".into(), RuleStats { nanos: 1_500_000_000, ..RuleStats::default() });
        snapshot.lag.insert(2, 5);
        snapshot.transaction_records.add(3.0);
        snapshot.transaction_records.add(1e9);
        let second = Snapshot { read: 5, partitions: vec![2, 4], ..Snapshot::default() };
        let text = text(snapshot.clone(), vec![snapshot, second], Status::default());
        for line in [
            "# TYPE weir_records_read_total counter",
            "weir_records_read_total 7",
            "weir_records_rejected_total{rule=\"a\\\"b\\n\",reason=\"bad\"} 3",
            "weir_rule_seconds_total{rule=\"a\"} 1.5",
            "weir_lag_records{partition=\"2\"} 5",
            "weir_transaction_records_bucket{le=\"10\"} 1",
            "weir_transaction_records_bucket{le=\"+Inf\"} 2",
            "weir_transaction_records_count 2",
            "weir_loop_running{loop=\"0\"} 1",
            "weir_loop_running{loop=\"1\"} 0",
            "weir_loop_partitions{loop=\"1\"} 2",
            "weir_loop_records_read_total{loop=\"1\"} 5",
            "weir_ruleset_info{hash=\"\",why=\"folder\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
        }
        assert!(text.contains("process_resident_memory_bytes "));
        let memory = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(memory.parse::<u64>().is_ok(), "bytes are a whole number: {memory}");
    }

    #[test]
    fn every_sample_follows_its_type() {
        let text = text(Snapshot::default(), vec![Snapshot::default()], Status::default());
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.split(' ').next().unwrap(),
                None => assert!(line.starts_with("# HELP") || line.starts_with(family), "{line} after {family}"),
            }
        }
    }
}
