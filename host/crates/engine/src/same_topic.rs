//! Finds out whether the input topic was deleted and created anew while it is read.
//!
//! A topic that is deleted loses its committed offsets. The client does not notice: once the new topic has the next offset, the
//! client reads on there. Only the id of the topic shows the difference.

use std::time::{Duration, Instant};

/// The pause between two requests for the id.
const EVERY: Duration = Duration::from_secs(10);

/// The topic that is read.
pub(crate) struct SameTopic {
    /// The id of the topic. Empty if the topic has none, or if no broker has told it yet.
    id: String,
    asked: Instant,
}

impl SameTopic {
    pub(crate) fn new() -> SameTopic {
        SameTopic { id: String::new(), asked: Instant::now() }
    }

    /// Returns whether it is time to ask for the id.
    pub(crate) fn is_due(&self) -> bool {
        self.asked.elapsed() >= EVERY
    }

    /// Returns false if `found`, the topic's current id, differs from the known one. An empty id means "unknown" and matches.
    pub(crate) fn is_still(&mut self, found: String) -> bool {
        self.asked = Instant::now();
        if self.id.is_empty() {
            self.id = found;
            return true;
        }
        found.is_empty() || found == self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_id_is_another_topic_and_no_answer_is_none() {
        let mut topic = SameTopic::new();
        for (found, same) in [("", true), ("a", true), ("", true), ("a", true), ("b", false), ("a", true)] {
            assert_eq!(topic.is_still(found.into()), same, "{found}");
        }
        assert!(!topic.is_due());
    }
}
