//! The host's data for a guest in its store, and the only thing that a guest may do to the host: to log.
//!
//! The log lines of a rule carry its name, the digest of its component, and the positions of the records that it is called with.
//! The lines are few and short, and a terminal takes nothing in them for anything but text.

use super::bindings::weir::rule::log::{Host, Level};
use super::bindings::weir::rule::types;
use super::limits::Meter;
use super::settings::Limits;
use weir_core::pipeline::Origin;
use weir_core::printable::escape_value;
use weir_system::throttle::Throttle;

/// The longest line of a rule that is logged, in bytes. The rest is cut off.
const MAX_LINE_BYTES: usize = 1_024;

/// The occasion on which a rule is called. The rule's log lines are marked with it: only lines about live records may raise an
/// alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Occasion {
    /// The rule evaluates live records.
    #[default]
    Live,
    /// The rule has to show that it works, with test rows.
    Probe,
    /// The rule evaluates copies of records beside the live rules.
    Shadow,
}

/// The host's side of a store.
pub(super) struct Guest {
    rule: String,
    /// The beginning of the component's digest, in hexadecimal.
    component: String,
    pub(super) meter: Meter,
    throttle: Throttle,
    occasion: Occasion,
    /// The first and the last record of the present call, as partition and offset.
    origin: Option<[(i32, i64); 2]>,
    /// True if other rules process the records of the present call, and this rule is only compared with them.
    compared: bool,
    panic: Option<String>,
}

impl Guest {
    pub(super) fn new(rule: &str, component: &str, limits: Limits, throttle: Throttle, occasion: Occasion) -> Guest {
        let (rule, component) = (rule.to_owned(), component.to_owned());
        Guest { rule, component, meter: Meter::new(limits), throttle, occasion, origin: None, compared: false, panic: None }
    }

    /// Prepares for a call with the records of `origin`.
    pub(super) fn begin_call(&mut self, origin: Origin<'_>) {
        // The rule has survived the earlier call, so a panic message of that call is void.
        (self.origin, self.compared, self.panic) = (origin.ends(), origin.compared(), None);
    }

    /// Takes the rule's panic message from the present call, escaped.
    pub(super) fn take_panic_message(&mut self) -> Option<String> {
        self.panic.take()
    }

    /// Returns the log throttle, so that a restarted instance keeps its spent budget.
    pub(super) fn into_throttle(self) -> Throttle {
        self.throttle
    }

    /// Returns the first and the last record of the present call, as `partition/offset`.
    fn records(&self) -> Option<String> {
        let [first, last] = self.origin?;
        let alone = format!("{}/{}", first.0, first.1);
        Some(if first == last { alone } else { format!("{alone} to {}/{}", last.0, last.1) })
    }
}

impl types::Host for Guest {}

impl Host for Guest {
    fn log(&mut self, level: Level, mut message: String) {
        message.truncate(message.floor_char_boundary(MAX_LINE_BYTES));
        if let Level::Panic = level {
            self.panic = Some(escape_value(&message));
            return;
        }
        let level = if self.occasion == Occasion::Probe { Level::Debug } else { level };
        // A line that is not logged because of its level must not use up the budget of other lines.
        let is_read = match level {
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Warn => tracing::enabled!(tracing::Level::WARN),
            Level::Error | Level::Panic => tracing::enabled!(tracing::Level::ERROR),
        };
        let Some(dropped) = is_read.then(|| self.throttle.admit()).flatten() else { return };
        let (rule, component, records, message) = (&self.rule, &self.component, self.records(), escape_value(&message));
        let dropped = (dropped > 0).then_some(dropped);
        let [probe, shadow] = [Occasion::Probe, Occasion::Shadow].map(|mark| (self.occasion == mark).then_some(true));
        let trial = self.compared.then_some(true);
        match level {
            Level::Debug => tracing::debug!(rule, component, probe, shadow, trial, records, dropped, "{message}"),
            Level::Info => tracing::info!(rule, component, probe, shadow, trial, records, dropped, "{message}"),
            Level::Warn => tracing::warn!(rule, component, probe, shadow, trial, records, dropped, "{message}"),
            Level::Error | Level::Panic => tracing::error!(rule, component, probe, shadow, trial, records, dropped, "{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Rule;

    #[test]
    fn the_length_of_what_is_said_obeyed_and_violated() {
        let mut guest = Guest::new("guest", "", Rule::with_defaults("guest").limits, Throttle::new(), Occasion::Live);
        for (said, kept) in [(MAX_LINE_BYTES, MAX_LINE_BYTES), (MAX_LINE_BYTES + 1, MAX_LINE_BYTES)] {
            guest.log(Level::Panic, "a".repeat(said));
            assert_eq!(guest.take_panic_message().map(|words| words.len()), Some(kept));
        }
    }

    #[test]
    fn what_is_said_beside_live_messages_is_marked() {
        let told = [Occasion::Live, Occasion::Shadow, Occasion::Probe].map(|occasion| {
            weir_system::testing::recorded(|| {
                let limits = Rule::with_defaults("guest").limits;
                Guest::new("guest", "", limits, Throttle::new(), occasion).log(Level::Warn, "odd".into());
            })
        });
        let [live, shadow, probe] = &told;
        assert!(live.contains("WARN") && !live.contains("probe") && !live.contains("shadow"), "{live}");
        assert!(shadow.contains("WARN") && shadow.contains("shadow=true"), "{shadow}");
        assert!(probe.contains("DEBUG") && probe.contains("probe=true") && !probe.contains("WARN"), "{probe}");
    }

    #[test]
    fn what_is_said_of_messages_that_other_rules_judge_is_marked() {
        let told = [false, true].map(|compared| {
            weir_system::testing::recorded(|| {
                let limits = Rule::with_defaults("guest").limits;
                let mut guest = Guest::new("guest", "", limits, Throttle::new(), Occasion::Live);
                guest.compared = compared;
                guest.log(Level::Warn, "odd".into());
            })
        });
        assert!(!told[0].contains("trial") && told[1].contains("trial=true"), "{told:?}");
    }

    #[test]
    fn words_are_forgotten_with_the_next_question() {
        let mut guest = Guest::new("guest", "", Rule::with_defaults("guest").limits, Throttle::new(), Occasion::Live);
        guest.log(Level::Panic, "a lie".into());
        guest.begin_call(Origin::default());
        assert_eq!(guest.take_panic_message(), None);
    }
}
