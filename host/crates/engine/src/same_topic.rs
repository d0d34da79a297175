//! Whether the input topic is still the one that was read before.
//!
//! A topic that is deleted and created anew takes its committed offsets with it, and the client reads on in it once it has the
//! offset that is next. Only its id tells.

use std::time::{Duration, Instant};

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(10);

/// The topic that is read.
pub(crate) struct SameTopic {
    /// Its id; empty where it has none, or nobody has told it yet.
    id: String,
    asked: Instant,
}

impl SameTopic {
    pub(crate) fn new() -> SameTopic {
        SameTopic { id: String::new(), asked: Instant::now() }
    }

    /// Whether it is time to ask for the id.
    pub(crate) fn is_due(&self) -> bool {
        self.asked.elapsed() >= EVERY
    }

    /// Whether it is still the same, now that its id is `found` to be this; empty if nobody has told it.
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
