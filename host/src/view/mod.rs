//! The view of a running engine: a screen on a terminal, plain lines elsewhere.
//!
//! Both read a [`Snapshot`] now and then, and derive rates from the changes since the one before. No text from messages reaches a
//! terminal unescaped. Left out: control of the engine. A view only asks it to end.

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
use weir_engine::process_snapshot::ProcessSnapshot;
use weir_engine::snapshot::{Rejected, Snapshot};

pub use plain::{farewell, lines};
pub use screen::screen;
pub(crate) use text::{middle_out, number};

/// The sources of a view.
pub struct ViewSources {
    /// The source of snapshots of the engine.
    pub snapshot: ProcessSnapshot,
    /// The handle on the loader, for the status of the rules.
    pub rules: Handle,
    /// A text that says how to swap rules while the engine runs.
    pub invitation: String,
}

/// Decides when the view ends.
pub trait EndOfView {
    /// Waits for `time`. Returns whether to go on.
    fn wait(&mut self, time: Duration) -> bool;
}

/// Returns the rejections, the most frequent first.
fn by_frequency(snapshot: &Snapshot) -> Vec<&Rejected> {
    let mut rejected: Vec<&Rejected> = snapshot.rejected.iter().collect();
    rejected.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| (&a.rule, &a.reason).cmp(&(&b.rule, &b.reason))));
    rejected
}
