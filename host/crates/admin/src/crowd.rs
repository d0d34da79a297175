//! The open connections: every new connection is accepted, and if there are too many, one of the older ones is closed.
//!
//! A liveness probe must get its answer however many connections other clients hold open. So a new connection is accepted at
//! once, and another one is closed to keep the number of connections within its bound. The younger half is never closed, because
//! their requests may be on their way. In the older half, the connection with the least progress is closed: first those that have
//! not sent the head of their request, then those that have not sent all of their request, then those whose answer is being made
//! or sent, and last those whose request the loader has. The content of a request plays no role here.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The most connections at a time.
pub(crate) const MAX_CONNECTIONS: usize = 256;
/// The number of youngest connections, none of which is closed to make room for another.
const YOUNG: usize = MAX_CONNECTIONS / 2;

/// The progress of a connection. Connections at lower stages are closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ConnectionStage {
    /// The head of the request is not complete.
    Silent,
    /// The head has arrived, but the body has not.
    Sending,
    /// The whole request has arrived. The answer is being made or sent.
    Answering,
    /// The loader has the request.
    Waiting,
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    members: Mutex<OpenConnections>,
}

/// The open connections by number, in the order of their arrival.
#[derive(Debug, Default)]
struct OpenConnections {
    /// The count of arrivals and of changes of stage.
    steps: u64,
    open: BTreeMap<u64, OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    stage: ConnectionStage,
    /// The step at which the connection reached this stage.
    since: u64,
    task: AbortHandle,
}

/// One connection. It is removed from the crowd when this value is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    crowd: Arc<Crowd>,
    answered: Notify,
}

impl Crowd {
    /// Admits a connection, which `serve` starts to serve in a task of its own.
    pub(crate) fn admit(self: &Arc<Crowd>, serve: impl FnOnce(Arc<Connection>) -> AbortHandle) {
        let number = self.members().step();
        let task = serve(Arc::new(Connection { number, crowd: self.clone(), answered: Notify::new() }));
        let mut members = self.members();
        members.open.insert(number, OpenConnection { stage: ConnectionStage::Silent, since: number, task });
        let away = if members.open.len() > MAX_CONNECTIONS { members.give_way() } else { None };
        drop(members);
        if let Some(task) = away {
            task.abort();
        }
    }

    fn members(&self) -> MutexGuard<'_, OpenConnections> {
        self.members.lock()
    }
}

impl OpenConnections {
    fn step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    /// Removes the connection to close, and returns its task. It is the one with the least progress among those that are not
    /// young. Of several at the same stage it is the one that reached the stage first.
    fn give_way(&mut self) -> Option<AbortHandle> {
        let older = self.open.iter().take(self.open.len().saturating_sub(YOUNG));
        let (number, _) = older.min_by_key(|(_, member)| (member.stage, member.since))?;
        let number = *number;
        self.open.remove(&number).map(|member| member.task)
    }
}

impl Connection {
    /// Notes that the head of the request has arrived. `whole` is true if the request has no body, so that all of it has arrived.
    pub(crate) fn asks(&self, whole: bool) {
        self.reaches(if whole { ConnectionStage::Answering } else { ConnectionStage::Sending });
    }

    /// Notes that the loader has the request.
    pub(crate) fn waits(&self) {
        self.reaches(ConnectionStage::Waiting);
    }

    /// Notes that the answer is made, and is being sent.
    pub(crate) fn answers(&self) {
        self.reaches(ConnectionStage::Answering);
        self.answered.notify_one();
    }

    /// Returns once the answer is made.
    pub(crate) async fn until_answered(&self) {
        self.answered.notified().await;
    }

    fn reaches(&self, stage: ConnectionStage) {
        let mut members = self.crowd.members();
        let since = members.step();
        if let Some(member) = members.open.get_mut(&self.number) {
            (member.stage, member.since) = (stage, since);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.crowd.members().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// The most connections that there may be. None of them does anything by itself.
    struct Field {
        runtime: Runtime,
        crowd: Arc<Crowd>,
        guests: Vec<Arc<Connection>>,
    }

    impl Field {
        fn new() -> Field {
            let runtime = Builder::new_current_thread().build().unwrap();
            let mut field = Field { runtime, crowd: Arc::default(), guests: Vec::new() };
            (0..MAX_CONNECTIONS).for_each(|_| field.come());
            field
        }

        fn come(&mut self) {
            self.crowd.admit(|guest| {
                self.guests.push(guest);
                self.runtime.spawn(std::future::pending::<()>()).abort_handle()
            });
        }

        /// Returns the indexes of the closed connections, in the order of their arrival.
        fn closed(&self) -> Vec<usize> {
            let members = self.crowd.members();
            (0..self.guests.len()).filter(|index| !members.open.contains_key(&self.guests[*index].number)).collect()
        }
    }

    #[test]
    fn whoever_comes_is_let_in_and_an_older_one_goes_whatever_all_others_do() {
        for stage in [ConnectionStage::Silent, ConnectionStage::Sending, ConnectionStage::Answering, ConnectionStage::Waiting] {
            let mut field = Field::new();
            field.guests.iter().for_each(|guest| guest.reaches(stage));
            field.come();
            assert_eq!(field.closed(), [0], "{stage:?}");
            field.come();
            assert_eq!(field.closed(), [0, 1], "{stage:?}: nor does the one go that has just come");
        }
    }

    #[test]
    fn of_the_older_ones_the_one_that_has_come_least_far_goes() {
        let mut field = Field::new();
        field.guests.iter().for_each(|guest| guest.reaches(ConnectionStage::Waiting));
        field.guests[10].asks(true);
        field.guests[20].asks(true);
        field.guests[30].asks(false);
        field.guests[40].reaches(ConnectionStage::Silent);
        for (index, closed) in [vec![40], vec![30, 40], vec![10, 30, 40], vec![10, 20, 30, 40]].into_iter().enumerate() {
            field.come();
            assert_eq!(field.closed(), closed, "{index}");
        }
    }

    #[test]
    fn of_those_that_are_answered_the_one_goes_that_has_made_no_progress_for_longest() {
        let mut field = Field::new();
        field.guests.iter().for_each(|guest| guest.asks(true));
        field.guests[0].answers();
        field.come();
        assert_eq!(field.closed(), [1]);
    }

    #[test]
    fn whoever_has_its_answer_is_not_taken_for_one_that_the_loader_works_for() {
        let mut field = Field::new();
        field.guests.iter().for_each(|guest| guest.waits());
        field.guests[5].answers();
        field.come();
        assert_eq!(field.closed(), [5]);
    }
}
