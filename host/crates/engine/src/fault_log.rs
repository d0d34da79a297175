//! The log lines about rules that fail: which record, why and where, and when a circuit breaker opens and closes.
//!
//! A rule that fails on every record must not fill the log, so only some faults are logged. The metrics count all of them.

use crate::instances::RuleInstances;
use weir_core::pipeline::{Manifest, rule_name};
use weir_core::record::{Chunk, Rejection};
use weir_system::throttle::Throttle;

/// The state of the log: the throttle, and the circuit breakers that were reported as open.
#[derive(Debug, Default)]
pub(crate) struct FaultLog {
    throttle: Throttle,
    /// The names of the rules whose circuit breaker is open.
    open: Vec<String>,
}

impl FaultLog {
    /// Logs the faults and the circuit breakers of committed chunks that `rules` have processed.
    pub(crate) fn log(&mut self, chunks: &[Chunk], rules: &RuleInstances) {
        for Chunk { batch, step } in chunks {
            for (rule, (stats, manifest)) in step.rules.iter().zip(&rules.manifests).enumerate() {
                if stats.rows > 0 && stats.open != self.open.contains(&manifest.name) {
                    let own = step.rejections.iter().chain(&step.passed_despite_fault).filter(|fault| fault.rule() == Some(rule));
                    self.set_open(manifest, stats.open, own);
                }
            }
            for fault in step.rejections.iter().filter(|rejection| rejection.is_fault()).chain(&step.passed_despite_fault) {
                let Some(dropped) = self.throttle.admit() else { continue };
                let (rule, record) =
                    (rule_name(fault.rule(), &rules.manifests), batch.position(fault.record as usize).to_string());
                let at = fault.backtrace().and_then(own_function);
                let (detail, dropped) = (fault.detail.as_deref().unwrap_or_default(), (dropped > 0).then_some(dropped));
                tracing::warn!(rule, ruleset = rules.hash(), record, at, dropped, "a rule failed on a message: {detail}");
            }
        }
    }

    /// Logs that the circuit breaker of a rule has opened or closed.
    fn set_open<'a>(&mut self, manifest: &Manifest, open: bool, mut faults: impl Iterator<Item = &'a Rejection>) {
        let rule = manifest.name.as_str();
        self.open.retain(|name| name != rule);
        if !open {
            tracing::info!(rule, "a rule that was short-circuited judges messages again");
            return;
        }
        self.open.push(rule.to_owned());
        let why = faults.find(|fault| fault.is_fault()).and_then(|fault| fault.detail.as_deref()).unwrap_or_default();
        tracing::error!(
            rule,
            "a rule is short-circuited: it fails on row after row, and is asked only now and then whether it still does: {why}"
        );
    }
}

/// Returns the innermost function that is the rule's own. Skips the functions of Rust that lie between that function and a panic.
fn own_function(backtrace: &str) -> Option<&str> {
    let of_rust = |name: &&str| ["__rustc::", "std::", "core::", "alloc::"].iter().any(|of_rust| name.starts_with(of_rust));
    backtrace.lines().find(|name| !of_rust(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::set;
    use weir_core::record::{Batch, Cause, RuleStats, Step};

    #[test]
    fn a_rule_is_short_circuited_for_its_own_faults() {
        let manifests = ["first", "second"].map(|name| Manifest { name: name.into(), ..Manifest::default() }).to_vec();
        let judge = RuleInstances::new(|_: &_, _: &_, _: &mut _| {}, manifests, set("cafe"));
        let mut batch = Batch::new("user-login");
        (0..2).for_each(|offset| batch.push(0, offset, None, None, None));
        let fault = |rule: usize, detail: &str| Rejection {
            record: rule as u32,
            cause: Cause::Fault { rule, backtrace: None },
            detail: Some(detail.into()),
            drop: false,
        };
        let stats = |open| RuleStats { rows: 2, open, ..RuleStats::default() };
        let mut step = Step::default();
        step.rejections = vec![fault(0, "trapped"), fault(1, "ran too long")];
        step.rules = vec![stats(false), stats(true)];
        let text = weir_system::testing::recorded(|| FaultLog::default().log(&[Chunk { batch, step }], &judge));
        let line = text.lines().find(|line| line.contains("short-circuited")).unwrap();
        assert!(line.contains("whether it still does: ran too long") && line.contains("rule=\"second\""), "{line}");
    }

    #[test]
    fn what_lies_between_a_function_and_its_panic_is_left_out() {
        assert_eq!(own_function("__rustc::rust_panic\ncore::panicking::panic_fmt\nmine::check\nevaluate"), Some("mine::check"));
        assert_eq!(own_function("give_up\nevaluate"), Some("give_up"));
        assert_eq!(own_function(""), None);
    }
}
