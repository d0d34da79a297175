//! The choice of the rules that should run: the loader, its state folder, and the requests of operators.
//!
//! The loader is a thread of its own that reads, compiles, proves and prepares sets. The data loops activate a prepared set
//! between two transactions. Other parts of the process use the loader through a [`Handle`]. This crate knows the engine, and the
//! engine does not know this crate.

mod bootstrap;
mod decision;
mod loader;
pub mod report;
mod settings;
mod store;
mod watch;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use parking_lot::Mutex;
use weir_engine::shadow::ShadowReport;
use weir_engine::snapshot::Snapshot;
use weir_wasm::description::{Change, changes};

pub use bootstrap::Bootstrap;
pub use loader::Loader;
use report::{Deployed, Entry, LoaderStatus, SetRefusal, Status};
pub use settings::{Settings, SettingsSource};
use store::Saved;
pub use store::Store;

/// The status of the loader. Only the loader changes it.
pub type SharedStatus = Arc<Mutex<LoaderStatus>>;

/// Changes the status of the loader. `change` must be short.
pub fn update(status: &SharedStatus, change: impl FnOnce(&mut LoaderStatus)) {
    change(&mut status.lock());
}

/// A component that an operator hands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The rule that the component is for: the name of the file without `.wasm`.
    pub rule: String,
    /// The bytes of the component.
    pub bytes: Vec<u8>,
}

/// A request to the loader.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Prove the rules, with these files in place of the folder's, and make them live.
    Deploy { files: Vec<File>, dry_run: bool },
    /// Go back to a set that was live before. Without a hash, go back to the set before the present one.
    Rollback { hash: Option<String> },
    /// Follow the folder again.
    Resume,
    /// Run the rules, with these files in place of the folder's, beside the live rules.
    Shadow { files: Vec<File> },
    /// End the candidate that runs beside the live rules.
    EndShadow,
    /// Make the candidate live.
    Promote,
}

/// The loader's answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Deployed(Deployed),
    Shadow(ShadowReport),
}

/// A handle on the loader, for requests and the status. Clones are handles on the same loader.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<PendingRequest>,
    status: SharedStatus,
    store: Store,
}

/// A request, and the channel for its answer.
#[derive(Debug)]
pub struct PendingRequest {
    pub request: Request,
    pub answer: Sender<Result<Answer, SetRefusal>>,
}

impl Handle {
    /// Returns a handle on a loader that takes the requests from the returned receiver, renews `status` and writes to `store`.
    pub fn new(status: SharedStatus, store: Store) -> (Handle, Receiver<PendingRequest>) {
        let (requests, asked) = mpsc::channel();
        (Handle { requests, status, store }, asked)
    }

    /// Sends a request and waits for the answer. That takes as long as compiling takes, and until the data loop has activated a
    /// new set.
    ///
    /// # Errors
    /// If the loader refuses the request, or has ended.
    pub fn ask(&self, request: Request) -> Result<Answer, SetRefusal> {
        let (answer, answered) = mpsc::channel();
        // If the loader has gone, the request is dropped, and the wait for its answer ends.
        let _ = self.requests.send(PendingRequest { request, answer });
        let message = "the loader of rules has ended: the process is stopping, or its log says why";
        answered.recv().unwrap_or_else(|_| Err(SetRefusal { at: weir_system::clock::now(), message: message.into() }))
    }

    /// Returns the status of the process: `snapshot` has the set in force, and the loader the set that should run. Does not wait.
    pub fn status(&self, snapshot: &Snapshot) -> Status {
        let loader = self.status.lock().clone();
        Status::joined(snapshot, loader)
    }

    /// Returns the sets that went live, the last one first. `live` is the hash of the set in force. Reads the state folder, and
    /// does not wait for the loader.
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

    /// Returns the differences between two sets that went live. Each set is given by its hash or the beginning of its hash. Reads
    /// the state folder, and does not wait for the loader.
    ///
    /// # Errors
    /// If no set has such a hash, or more than one set has.
    pub fn diff(&self, a: &str, b: &str) -> anyhow::Result<Vec<Change>> {
        Ok(changes(&self.store.find(a)?.set, &self.store.find(b)?.set))
    }
}
