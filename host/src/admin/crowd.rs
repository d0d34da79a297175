//! Who is connected: everybody is let in, and where there are too many, whoever has been silent longest gives way.
//!
//! A probe of liveness must get its answer however many others hold connections open. So a connection is accepted at once, and the
//! number of connections is kept within its bound by closing one. What a request asks for is not looked at here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Connections at a time.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// How far a connection has come. The lower, the sooner it gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The head of its request is not complete.
    Silent,
    /// The head is there: the body arrives, or the answer leaves.
    Asking,
    /// The loader has its request.
    Waiting,
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    members: Mutex<Members>,
}

/// By number, in the order in which they came.
#[derive(Debug, Default)]
struct Members {
    next: u64,
    open: BTreeMap<u64, (Stage, AbortHandle)>,
}

/// One connection. It is forgotten when this goes.
#[derive(Debug)]
pub(super) struct Guest {
    number: u64,
    crowd: Arc<Crowd>,
}

impl Crowd {
    /// Lets a connection in, which `serve` begins to serve in a task of its own.
    pub(super) fn admit(self: &Arc<Crowd>, serve: impl FnOnce(Arc<Guest>) -> AbortHandle) {
        let number = {
            let mut members = self.members();
            members.next += 1;
            members.next
        };
        let task = serve(Arc::new(Guest { number, crowd: self.clone() }));
        let mut members = self.members();
        members.open.insert(number, (Stage::Silent, task));
        let away = if members.open.len() > MAX_CONNECTIONS { members.give_way() } else { None };
        drop(members);
        if let Some(task) = away {
            task.abort();
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    /// Takes out the one that came least far, and of several the oldest.
    fn give_way(&mut self) -> Option<AbortHandle> {
        let (_, number) = self.open.iter().map(|(number, (stage, _))| (*stage, *number)).min()?;
        self.open.remove(&number).map(|(_, task)| task)
    }
}

impl Guest {
    /// The head of its request is complete.
    pub(super) fn asks(&self) {
        self.reaches(Stage::Asking);
    }

    /// The loader has its request.
    pub(super) fn waits(&self) {
        self.reaches(Stage::Waiting);
    }

    fn reaches(&self, stage: Stage) {
        if let Some(member) = self.crowd.members().open.get_mut(&self.number) {
            member.0 = stage;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.crowd.members().open.remove(&self.number);
    }
}
