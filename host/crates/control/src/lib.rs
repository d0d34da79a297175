//! Which rules should run: the loader, what it keeps, and what operators ask of it.
//!
//! A thread of its own, the loader, reads, compiles, proves and prepares sets; the data loops activate a prepared one between
//! two transactions. Whoever wants something of the loader has a [`Handle`]. It knows the engine, and the engine does not know it.

mod bootstrap;
mod decision;
mod loader;
pub mod report;
mod settings;
mod store;
mod watch;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use weir_engine::shadow::ShadowReport;
use weir_engine::snapshot::Snapshot;
use weir_wasm::description::{Change, changes};

pub use bootstrap::Bootstrap;
pub use loader::Loader;
use report::{Deployed, Entry, LoaderStatus, Refusal, Status};
pub use settings::{Settings, Source};
use store::Saved;
pub use store::Store;

/// What the loader says of itself. Only the loader changes it.
pub type SharedStatus = Arc<Mutex<LoaderStatus>>;

/// Changes what the loader says of itself. Keep `change` short.
pub fn update(status: &SharedStatus, change: impl FnOnce(&mut LoaderStatus)) {
    change(&mut status.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A component that somebody hands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The rule that it is for: the name of the file without `.wasm`.
    pub rule: String,
    /// The component.
    pub bytes: Vec<u8>,
}

/// What the loader can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Prove the rules with these files in the place of the folder's, and make them live.
    Deploy { files: Vec<File>, dry_run: bool },
    /// Go back to a set that was live before; without a hash, to the one before the present one.
    Rollback { hash: Option<String> },
    /// Follow the folder again.
    Resume,
    /// Run the rules with these files beside the live ones.
    Shadow { files: Vec<File> },
    /// End that.
    EndShadow,
    /// Make the candidate live.
    Promote,
}

/// What the loader answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Deployed(Deployed),
    Shadow(ShadowReport),
}

/// The loader, for whoever wants something of it. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<Asked>,
    status: SharedStatus,
    store: Store,
}

/// A request, and where the answer goes.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    pub answer: Sender<Result<Answer, Refusal>>,
}

impl Handle {
    /// A handle on a loader that takes the requests, renews `status` and writes to `store`.
    pub fn new(status: SharedStatus, store: Store) -> (Handle, Receiver<Asked>) {
        let (requests, asked) = mpsc::channel();
        (Handle { requests, status, store }, asked)
    }

    /// Asks, and waits for the answer: as long as compiling takes, and until the data loop has taken a new set.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn ask(&self, request: Request) -> Result<Answer, Refusal> {
        let (answer, answered) = mpsc::channel();
        // Where the loader has gone nobody takes the request, and nobody answers it.
        let _ = self.requests.send(Asked { request, answer });
        let message = "the loader of rules has ended: the process is stopping, or its log says why";
        answered.recv().unwrap_or_else(|_| Err(Refusal { at: weir_system::clock::now(), message: message.into() }))
    }

    /// Returns what runs, which `snapshot` says, with what should, which the loader says. Does not wait.
    pub fn status(&self, snapshot: &Snapshot) -> Status {
        let loader = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Status::joined(snapshot, loader)
    }

    /// What went live, the last first; `live` is in force. Reads the state folder, and does not wait for the loader.
    pub fn history(&self, live: &str) -> Vec<Entry> {
        let entry = |saved: Saved| Entry {
            live: saved.set.hash == live,
            taken_back: self.store.taken_back(&saved.set.hash).map(|verdict| verdict.reason),
            rules: saved.set.rules.iter().map(|rule| format!("{} {}", rule.name, rule.version)).collect(),
            hash: saved.set.hash,
            at: saved.at,
            why: saved.why,
        };
        self.store.history().into_iter().map(entry).collect()
    }

    /// Returns what is different between two sets that went live, each given by its hash or the beginning of that. Reads the state
    /// folder, and does not wait for the loader.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn diff(&self, a: &str, b: &str) -> anyhow::Result<Vec<Change>> {
        Ok(changes(&self.store.find(a)?.set, &self.store.find(b)?.set))
    }
}
