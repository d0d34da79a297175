//! Which set should run: the precedence of docs/rules.md as a function of what is there.
//!
//! Pure: what is there is found out by the loader, and by the bootstrap before there is one. `S` is a set that proves, `E` says
//! why the folder's can't run.

use weir_engine::protocol::Why;

/// The set that an operator has gone back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin<S> {
    /// There is none, or it does not prove any more.
    None,
    /// It is in force, and stands no trial.
    Live,
    /// It is another one; or it is in force, and its trial has to end.
    Other(S),
}

/// What the folder and the configuration have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder<S, E> {
    /// It was changing while it was read.
    Unsettled,
    /// The set in force.
    Live,
    /// Another one.
    Other(S),
    /// Nothing that can run: it can't be read, does not prove, or was rolled back.
    Nothing(E),
}

/// The set in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is none yet: the process begins.
    None,
    /// Nothing speaks against it.
    Good,
    /// A trial speaks against it, of this process or of another one.
    RolledBack,
}

/// What should be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision<S, E> {
    /// Nothing before the folder has come to rest.
    Wait,
    /// The set in force stays, for this reason.
    Keep(Why),
    /// This set is activated, for this reason.
    Activate(S, Why),
    /// The set in force stays as the last good one.
    Refuse(E),
    /// The last good one of the history is activated, if there is one: the latest that was not rolled back, is not on trial, and
    /// proves.
    FallBack(E),
}

/// Decides which set should run. The folder is asked only where no pin decides: to prove what it has takes time.
pub(crate) fn decide<S, E>(pin: Pin<S>, folder: impl FnOnce() -> Folder<S, E>, live: Standing) -> Decision<S, E> {
    match pin {
        Pin::Live => return Decision::Keep(Why::Pinned),
        Pin::Other(set) => return Decision::Activate(set, Why::Pinned),
        Pin::None => {}
    }
    match (folder(), live) {
        (Folder::Unsettled, _) => Decision::Wait,
        (Folder::Live, _) => Decision::Keep(Why::Folder),
        (Folder::Other(set), _) => Decision::Activate(set, Why::Folder),
        (Folder::Nothing(why), Standing::Good) => Decision::Refuse(why),
        (Folder::Nothing(why), Standing::None | Standing::RolledBack) => Decision::FallBack(why),
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Activate, FallBack, Keep, Refuse, Wait};
    use super::*;

    /// The table of docs/rules.md: the first row that holds wins.
    #[test]
    fn each_row_of_the_table_decides() {
        const ANY: [Standing; 3] = [Standing::None, Standing::Good, Standing::RolledBack];
        type Seen = Option<Folder<&'static str, &'static str>>;
        let table: [(_, Seen, &[Standing], _); 8] = [
            (Pin::Live, None, &ANY, Keep(Why::Pinned)),
            (Pin::Other("pinned"), None, &ANY, Activate("pinned", Why::Pinned)),
            (Pin::None, Some(Folder::Unsettled), &ANY, Wait),
            (Pin::None, Some(Folder::Live), &ANY, Keep(Why::Folder)),
            (Pin::None, Some(Folder::Other("folder's")), &ANY, Activate("folder's", Why::Folder)),
            (Pin::None, Some(Folder::Nothing("broken")), &[Standing::Good], Refuse("broken")),
            (Pin::None, Some(Folder::Nothing("broken")), &[Standing::RolledBack], FallBack("broken")),
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
