//! What a person sees of a running engine: a screen on a terminal, plain lines elsewhere.
//!
//! Both read a [`Snapshot`] now and then and derive rates from what has changed since. Nothing that
//! comes from messages reaches a terminal unescaped. Left out: steering the engine; a view only asks for the end.

mod ascii;
mod draw;
mod panels;
mod plain;
mod rates;
mod scene;
mod screen;
mod text;

use std::time::Duration;

use weir_control::Handle;
use weir_engine::snapshot::{Rejected, Shared, Snapshot};

pub use plain::{farewell, lines};
pub use screen::screen;
pub(crate) use text::{middle_out, number};

/// What there is to be shown.
pub struct Stage {
    /// What the engine does.
    pub snapshot: Shared,
    /// The rules that it judges by.
    pub rules: Handle,
    /// How to swap them while they run.
    pub invitation: String,
}

/// Says when to end the view.
pub trait Watch {
    /// Waits for `time`. Returns whether to go on.
    fn wait(&mut self, time: Duration) -> bool;
}

/// Rejections, the most frequent first.
fn by_frequency(snapshot: &Snapshot) -> Vec<&Rejected> {
    let mut rejected: Vec<&Rejected> = snapshot.rejected.iter().collect();
    rejected.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| (&a.rule, &a.reason).cmp(&(&b.rule, &b.reason))));
    rejected
}
