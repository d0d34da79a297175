//! Numbers for Prometheus, in its text format (prometheus.io/docs/instrumenting/exposition_formats).
//!
//! All of it comes from the snapshot and the loader's status, and reading changes nothing. Counters begin with the process.
//! Labels are names of rules, reasons, partitions and hashes: each set is bounded by what runs.

use std::fmt::{Display, Write};

use weir_control::report::Status;
use weir_engine::snapshot::{Histogram, Snapshot, State};

/// The text.
pub(crate) fn text(snapshot: &Snapshot, status: &Status) -> String {
    let mut page = Page(String::new());
    page.gauge("weir_build_info", "The program that runs.", [(labels(&[("version", &env!("CARGO_PKG_VERSION"))]), 1)]);
    let running = u64::from(snapshot.state == State::Running);
    page.gauge(
        "weir_running",
        "Whether messages are read and written: 1, or 0 while it connects, waits or stops.",
        [(none(), running)],
    );
    messages(&mut page, snapshot);
    rules(&mut page, snapshot);
    sets(&mut page, status);
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Memory that is really there.", [(none(), bytes)]);
    }
    page.0
}

fn messages(page: &mut Page, snapshot: &Snapshot) {
    page.counter("weir_records_read_total", "Messages read and committed.", [(none(), snapshot.read)]);
    page.counter("weir_records_written_total", "Messages that passed every rule.", [(none(), snapshot.written)]);
    let rejected = snapshot
        .rejected
        .iter()
        .map(|rejected| (labels(&[("rule", &rejected.rule), ("reason", &rejected.reason)]), rejected.messages));
    page.counter(
        "weir_records_rejected_total",
        "Messages that did not pass, by rule and reason; weir is the engine itself.",
        rejected,
    );
    let lag = snapshot.lag.iter().map(|(partition, lag)| (labels(&[("partition", partition)]), *lag));
    page.gauge("weir_lag_records", "Messages of an input partition that are not committed yet.", lag);
    page.histogram(
        "weir_transaction_seconds",
        "How long a transaction took, from its first message to its commit.",
        &snapshot.transaction_seconds,
    );
    page.histogram("weir_transaction_records", "Messages in a transaction.", &snapshot.transaction_records);
}

fn rules(page: &mut Page, snapshot: &Snapshot) {
    let stats = || snapshot.stats.iter().map(|(rule, stats)| (labels(&[("rule", rule)]), stats));
    page.counter(
        "weir_rule_rows_total",
        "Messages that a rule was asked about.",
        stats().map(|(label, stats)| (label, stats.rows)),
    );
    page.counter("weir_rule_calls_total", "Calls of a rule.", stats().map(|(label, stats)| (label, stats.calls)));
    page.counter(
        "weir_rule_seconds_total",
        "Time in calls of a rule.",
        stats().map(|(label, stats)| (label, stats.nanos as f64 / 1e9)),
    );
    page.counter(
        "weir_rule_faults_total",
        "Messages on which a rule failed.",
        stats().map(|(label, stats)| (label, stats.faults)),
    );
    page.counter(
        "weir_rule_skipped_total",
        "Messages that a rule was not asked about, because it failed on everything before.",
        stats().map(|(label, stats)| (label, stats.skipped)),
    );
    page.gauge(
        "weir_rule_short_circuited",
        "Whether a rule is left out because it fails on everything.",
        stats().map(|(label, stats)| (label, u64::from(stats.open))),
    );
}

fn sets(page: &mut Page, status: &Status) {
    let live = labels(&[("hash", &status.live.hash), ("why", &status.why)]);
    page.gauge("weir_ruleset_info", "The set of rules in force, and why it is this one.", [(live, 1)]);
    page.gauge("weir_ruleset_live_since_seconds", "Since when, as Unix time.", [(none(), status.since as f64 / 1e3)]);
    page.counter("weir_ruleset_swaps_total", "Sets that went live after the first one.", [(none(), status.swaps.live)]);
    page.counter(
        "weir_ruleset_refused_total",
        "Sets that were refused: the folder's, and those of commands.",
        [(none(), status.swaps.refused)],
    );
    page.counter("weir_ruleset_taken_back_total", "Sets that their trial took back.", [(none(), status.swaps.taken_back)]);
    page.gauge(
        "weir_ruleset_refusal",
        "Whether what the folder has is refused.",
        [(none(), u64::from(status.refusal.is_some()))],
    );
    page.gauge(
        "weir_ruleset_unkept",
        "Whether what is decided about rules can't be written down.",
        [(none(), u64::from(status.unkept.is_some()))],
    );
    page.gauge("weir_ruleset_trial", "Whether the set in force is on trial.", [(none(), u64::from(status.trial.is_some()))]);
    page.gauge("weir_ruleset_shadow", "Whether a candidate runs beside it.", [(none(), u64::from(status.shadow.is_some()))]);
}

struct Page(String);

impl Page {
    fn counter<V: Display>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (String, V)>) {
        self.family(name, help, "counter", samples);
    }

    fn gauge<V: Display>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (String, V)>) {
        self.family(name, help, "gauge", samples);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        for (bound, count) in histogram.cumulative() {
            self.sample(&format!("{name}_bucket"), &labels(&[("le", &bound)]), count);
        }
        self.sample(&format!("{name}_bucket"), &labels(&[("le", &"+Inf")]), histogram.count());
        self.sample(&format!("{name}_sum"), "", histogram.sum());
        self.sample(&format!("{name}_count"), "", histogram.count());
    }

    fn family<V: Display>(&mut self, name: &str, help: &str, kind: &str, samples: impl IntoIterator<Item = (String, V)>) {
        self.head(name, help, kind);
        samples.into_iter().for_each(|(labels, value)| self.sample(name, &labels, value));
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn none() -> String {
    String::new()
}

fn labels(labels: &[(&str, &dyn Display)]) -> String {
    let escape = |value: &dyn Display| value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(*value))).collect();
    format!("{{{}}}", labels.join(","))
}

/// Of this process, by proc_pid_statm(5).
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::record::RuleStats;
    use weir_engine::snapshot::Rejected;

    #[test]
    fn numbers_are_in_the_format_of_prometheus() {
        let mut snapshot = Snapshot { read: 7, state: State::Running, ..Snapshot::default() };
        snapshot.rejected.push(Rejected { rule: "a\"b\n".into(), reason: "bad".into(), messages: 3 });
        snapshot.stats.insert("a".into(), RuleStats { nanos: 1_500_000_000, ..RuleStats::default() });
        snapshot.lag.insert(2, 5);
        snapshot.transaction_records.add(3.0);
        snapshot.transaction_records.add(1e9);
        let text = text(&snapshot, &Status::default());
        for line in [
            "# TYPE weir_records_read_total counter",
            "weir_records_read_total 7",
            "weir_records_rejected_total{rule=\"a\\\"b\\n\",reason=\"bad\"} 3",
            "weir_rule_seconds_total{rule=\"a\"} 1.5",
            "weir_lag_records{partition=\"2\"} 5",
            "weir_transaction_records_bucket{le=\"10\"} 1",
            "weir_transaction_records_bucket{le=\"+Inf\"} 2",
            "weir_transaction_records_count 2",
            "weir_ruleset_info{hash=\"\",why=\"folder\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
        }
        assert!(text.contains("process_resident_memory_bytes "));
    }

    #[test]
    fn every_sample_follows_its_type() {
        let text = text(&Snapshot::default(), &Status::default());
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.split(' ').next().unwrap(),
                None => assert!(line.starts_with("# HELP") || line.starts_with(family), "{line} after {family}"),
            }
        }
    }
}
