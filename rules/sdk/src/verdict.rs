//! What a rule decides about a row.

use std::panic::Location;

use crate::Reason;
use crate::manifest::{Manifest, undeclared};

/// How many bytes of a detail are kept: the contract's bound, obeyed here so that a huge value is not copied in vain.
const MAX_DETAIL: usize = 1_024;

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, with what the rule wrote.
    Keep,
    /// It goes no further, and what the rule wrote is forgotten.
    Reject {
        /// Why, as one of few fixed reasons.
        cause: Cause,
        /// What exactly, for a person; at most 1,024 bytes.
        detail: Option<String>,
    },
}

/// A reason by its handle or by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The handle that `manifest.rejects` gave.
    Handle(Reason),
    /// The name that `manifest.rejects` got. One that is not declared panics once the row is judged, and the panic says where the
    /// rule has named it.
    Name(&'static str, Place),
}

/// Where a rule names a reason. It makes no difference between verdicts.
#[derive(Clone, Copy, Debug)]
pub struct Place(&'static Location<'static>);

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

impl Verdict {
    /// Rejects the row for `reason`: a handle, or the reason's name.
    #[inline]
    #[track_caller]
    pub fn reject(reason: impl Into<Cause>) -> Verdict {
        Verdict::Reject { cause: reason.into(), detail: None }
    }

    /// Rejects the row for `reason` and says what exactly was wrong: the member's name, the value refused. Of `detail` the
    /// first 1,024 bytes are kept, or up to three fewer where that would cut a character.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub fn reject_with(reason: impl Into<Cause>, detail: impl AsRef<str>) -> Verdict {
        let detail = detail.as_ref();
        let kept = detail.floor_char_boundary(MAX_DETAIL);
        Verdict::Reject { cause: reason.into(), detail: Some(detail[..kept].to_owned()) }
    }
}

impl Cause {
    pub(crate) fn index(self, manifest: &Manifest) -> u32 {
        match self {
            Cause::Handle(reason) => reason.0,
            Cause::Name(name, Place(place)) => match manifest.reasons.iter().position(|known| known == name) {
                Some(index) => index as u32,
                None => panic_at(place, &undeclared("rejects", &manifest.reasons, name)),
            },
        }
    }
}

#[cfg(target_family = "wasm")]
use crate::wasm::panic_at;

/// Panics for what was done at `place`. That it panics here can't be helped, so the message says where.
#[cfg(not(target_family = "wasm"))]
#[cold]
fn panic_at(place: &Location<'_>, what: &str) -> ! {
    panic!("{what}, at {place}");
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Cause {
        Cause::Handle(reason)
    }
}

impl From<&'static str> for Cause {
    #[inline]
    #[track_caller]
    fn from(name: &'static str) -> Cause {
        Cause::Name(name, Place(Location::caller()))
    }
}
