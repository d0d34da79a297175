//! Who is connected: everybody is let in, and where there are too many, one of the older connections is closed.
//!
//! A probe of liveness must get its answer however many others hold connections open. So a connection is accepted at once, and
//! the number of connections is kept within its bound by closing another one. The younger half is left alone: what these ask for
//! may be on its way. Of the older half the one that has come least far goes: first those that have not sent the head of their
//! request, then those that have not sent all of it, then those that wait for their answer, or do not read it. What a request
//! asks for is not looked at here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Connections at a time.
pub(crate) const MAX_CONNECTIONS: usize = 256;
/// The youngest ones, of which none is closed to let another one in.
const YOUNG: usize = MAX_CONNECTIONS / 2;

/// How far a connection has come. The lower, the sooner it gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The head of its request is not complete.
    Silent,
    /// The head is there, and the body is not.
    Sending,
    /// The whole request is there: the answer is made, or leaves.
    Answering,
    /// The loader has its request.
    Waiting,
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    members: Mutex<Members>,
}

/// By number, in the order in which they came.
#[derive(Debug, Default)]
struct Members {
    /// Counts who comes, and who comes further.
    steps: u64,
    open: BTreeMap<u64, Member>,
}

#[derive(Debug)]
struct Member {
    stage: Stage,
    /// The step by which it came to this stage.
    since: u64,
    task: AbortHandle,
}

/// One connection. It is forgotten when this goes.
#[derive(Debug)]
pub(crate) struct Guest {
    number: u64,
    crowd: Arc<Crowd>,
    answered: Notify,
}

impl Crowd {
    /// Lets a connection in, which `serve` begins to serve in a task of its own.
    pub(crate) fn admit(self: &Arc<Crowd>, serve: impl FnOnce(Arc<Guest>) -> AbortHandle) {
        let number = self.members().step();
        let task = serve(Arc::new(Guest { number, crowd: self.clone(), answered: Notify::new() }));
        let mut members = self.members();
        members.open.insert(number, Member { stage: Stage::Silent, since: number, task });
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
    fn step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    /// Takes out, of those that are not young, the one that came least far, and of several the one that came there first.
    fn give_way(&mut self) -> Option<AbortHandle> {
        let older = self.open.iter().take(self.open.len().saturating_sub(YOUNG));
        let (number, _) = older.min_by_key(|(_, member)| (member.stage, member.since))?;
        let number = *number;
        self.open.remove(&number).map(|member| member.task)
    }
}

impl Guest {
    /// The head of its request is there, and if it has no body the `whole` request.
    pub(crate) fn asks(&self, whole: bool) {
        self.reaches(if whole { Stage::Answering } else { Stage::Sending });
    }

    /// The loader has its request.
    pub(crate) fn waits(&self) {
        self.reaches(Stage::Waiting);
    }

    /// Its answer is made, and leaves.
    pub(crate) fn answers(&self) {
        self.reaches(Stage::Answering);
        self.answered.notify_one();
    }

    /// Comes back once its answer is made.
    pub(crate) async fn until_answered(&self) {
        self.answered.notified().await;
    }

    fn reaches(&self, stage: Stage) {
        let mut members = self.crowd.members();
        let since = members.step();
        if let Some(member) = members.open.get_mut(&self.number) {
            (member.stage, member.since) = (stage, since);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.crowd.members().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// As many connections as there may be, which do nothing by themselves.
    struct Field {
        runtime: Runtime,
        crowd: Arc<Crowd>,
        guests: Vec<Arc<Guest>>,
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

        /// Which ones were closed, in the order in which they came.
        fn closed(&self) -> Vec<usize> {
            let members = self.crowd.members();
            (0..self.guests.len()).filter(|index| !members.open.contains_key(&self.guests[*index].number)).collect()
        }
    }

    #[test]
    fn whoever_comes_is_let_in_and_an_older_one_goes_whatever_all_others_do() {
        for stage in [Stage::Silent, Stage::Sending, Stage::Answering, Stage::Waiting] {
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
        field.guests.iter().for_each(|guest| guest.reaches(Stage::Waiting));
        field.guests[10].asks(true);
        field.guests[20].asks(true);
        field.guests[30].asks(false);
        field.guests[40].reaches(Stage::Silent);
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
