//! The decision which set should run: the precedence of docs/rules.md as a pure function.
//!
//! The facts for the decision come from the loader, or from the bootstrap before there is a loader. `S` is a set that was proven.
//! `E` is the reason why the folder's set can't run.

use weir_engine::protocol::LiveReason;

/// The set that an operator has pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin<S> {
    /// No set is pinned, or the pinned set can't be proven any more.
    None,
    /// The pinned set is in force, and is not on trial.
    Live,
    /// The pinned set is not in force; or it is in force, and its trial has to end.
    Other(S),
}

/// The set of the folder and the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder<S, E> {
    /// The folder was changing while it was read.
    Unsettled,
    /// The folder has the set in force.
    Live,
    /// The folder has another set.
    Other(S),
    /// The folder has no set that can run: it can't be read, can't be proven, or was taken back.
    Nothing(E),
}

/// The set in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No set is in force yet: the process begins.
    None,
    /// Nothing speaks against it.
    Good,
    /// A trial speaks against the set, in this process or in another one.
    TakenBack,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision<S, E> {
    /// Do nothing until the folder has come to rest.
    Wait,
    /// Keep the set in force, for this reason.
    Keep(LiveReason),
    /// Activate this set, for this reason.
    Activate(S, LiveReason),
    /// Refuse the folder's set. The set in force stays as the last good one.
    Refuse(E),
    /// Activate the last good set of the history, if there is one: the latest that was not taken back, is not on trial, and can
    /// be proven.
    FallBack(E),
}

/// Decides which set should run. The folder is only read if no pin decides, because proving its set takes time.
pub(crate) fn decide<S, E>(pin: Pin<S>, folder: impl FnOnce() -> Folder<S, E>, live: Standing) -> Decision<S, E> {
    match pin {
        Pin::Live => return Decision::Keep(LiveReason::Pinned),
        Pin::Other(set) => return Decision::Activate(set, LiveReason::Pinned),
        Pin::None => {}
    }
    match (folder(), live) {
        (Folder::Unsettled, _) => Decision::Wait,
        (Folder::Live, _) => Decision::Keep(LiveReason::Folder),
        (Folder::Other(set), _) => Decision::Activate(set, LiveReason::Folder),
        (Folder::Nothing(why), Standing::Good) => Decision::Refuse(why),
        (Folder::Nothing(why), Standing::None | Standing::TakenBack) => Decision::FallBack(why),
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Activate, FallBack, Keep, Refuse, Wait};
    use super::*;

    /// Checks the table of docs/rules.md, in which the first row that holds decides.
    #[test]
    fn each_row_of_the_table_decides() {
        const ANY: [Standing; 3] = [Standing::None, Standing::Good, Standing::TakenBack];
        type Seen = Option<Folder<&'static str, &'static str>>;
        let table: [(_, Seen, &[Standing], _); 8] = [
            (Pin::Live, None, &ANY, Keep(LiveReason::Pinned)),
            (Pin::Other("pinned"), None, &ANY, Activate("pinned", LiveReason::Pinned)),
            (Pin::None, Some(Folder::Unsettled), &ANY, Wait),
            (Pin::None, Some(Folder::Live), &ANY, Keep(LiveReason::Folder)),
            (Pin::None, Some(Folder::Other("folder's")), &ANY, Activate("folder's", LiveReason::Folder)),
            (Pin::None, Some(Folder::Nothing("broken")), &[Standing::Good], Refuse("broken")),
            (Pin::None, Some(Folder::Nothing("broken")), &[Standing::TakenBack], FallBack("broken")),
            (Pin::None, Some(Folder::Nothing("broken")), &[Standing::None], FallBack("broken")),
        ];
        for (pin, folder, standings, expected) in table {
            for live in standings {
                let folder = || folder.expect("a pin decides, and nobody looks at the folder");
                assert_eq!(decide(pin, folder, *live), expected, "{pin:?} {live:?}");
            }
        }
    }
}
