//! What the loader of rules tells the data loop, which looks for it between two transactions.

use crate::swap::{Prepared, Tap};

/// Something that the data loop is told. Closed on purpose: whoever adds to it sees every place that has to know.
#[derive(Debug)]
pub enum Event {
    /// Judge by other rules from the next batch on.
    Swap(Box<Prepared>),
    /// Offer samples to a candidate, or no more.
    Shadow(Option<Tap>),
}
