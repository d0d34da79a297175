//! The list of the parts that were not judged at a cut, in a few words each. The last line of a verdict names all of them,
//! whether or not the verdict is a good one; the notes give the reasons. The list leaves out what could never be judged, such as
//! records that expired before the group began.

use super::super::partition::InputPartition;
use super::super::report::{Unsure, amount};
use super::super::violation::Role;
use super::Audit;

impl Audit {
    /// Returns the parts that were not judged, except for the counts.
    pub(super) fn left_out(&self, unsure: Unsure) -> Vec<String> {
        let Unsure { dropped_or_lost, unjudged } = unsure;
        let expired: u64 = self.inputs.values().map(InputPartition::expired).sum();
        let mut left_out = vec![
            (dropped_or_lost > 0).then(|| format!("{} dropped or lost", amount(dropped_or_lost, "record"))),
            (unjudged > 0).then(|| format!("{} without output or dead letter", amount(unjudged, "record"))),
            (expired > 0).then(|| amount(expired, "expired offset")),
            self.compacted.contains(&Role::Input).then(|| "compacted input".into()),
            self.inputs.values().any(InputPartition::leaves_out_below).then(|| "what is below the first counted offset".into()),
            self.nameless.then(|| "whether the input was created anew".into()),
            (!self.untold.is_empty()).then(|| "whether topics are compacted".into()),
        ];
        left_out
            .extend([(Role::Outputs, "outputs"), (Role::DeadLetters, "dead letters")].map(|(role, name)| self.gone(role, name)));
        left_out.into_iter().flatten().collect()
    }

    /// Returns how records of a topic may be gone, if they may. Gone records might have shown a second output or a wrong order.
    fn gone(&self, role: Role, name: &str) -> Option<String> {
        let how = match () {
            () if self.compacted.contains(&role) => "compacted",
            () if self.has_expired(role) => "expired",
            () => return None,
        };
        Some(format!("{how} {name}"))
    }

    /// Returns whether outputs or dead letters may be gone.
    pub(super) fn is_any_gone(&self) -> bool {
        [Role::Outputs, Role::DeadLetters].into_iter().any(|role| self.gone(role, "").is_some())
    }

    /// Returns whether the first records of a partition of the topic are gone.
    pub(super) fn has_expired(&self, role: Role) -> bool {
        self.lows.range((role, i32::MIN)..=(role, i32::MAX)).any(|(_, low)| *low > 0)
    }
}
