//! The decision of a rule about a row.

use std::panic::Location;

use crate::Reason;
use crate::manifest::{Manifest, undeclared};

/// The most bytes of a detail that are kept. This is the bound of the contract, applied here so that a huge value is not copied.
const MAX_DETAIL: usize = 1_024;

/// The decision about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The row goes on, with the fields that the rule wrote.
    Keep,
    /// The row goes no further, and the fields that the rule wrote are dropped.
    Reject {
        /// The reason, which is one of few fixed ones.
        cause: Cause,
        /// The exact cause, in words for people. At most 1,024 bytes.
        detail: Option<String>,
    },
}

/// A reason, by its handle or by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The handle that `manifest.rejects` returned.
    Handle(Reason),
    /// The name that was given to `manifest.rejects`. A name that is not declared causes a panic after the rule has returned its
    /// verdict; the panic's text says where the rule has named it.
    Name(&'static str, Place),
}

/// The place in the code where a rule names a reason. Verdicts that differ only in it are equal.
#[derive(Clone, Copy, Debug)]
pub struct Place(&'static Location<'static>);

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

impl Verdict {
    /// Rejects the row for `reason`: a handle, or the name of the reason.
    #[inline]
    #[track_caller]
    pub fn reject(reason: impl Into<Cause>) -> Verdict {
        Verdict::Reject { cause: reason.into(), detail: None }
    }

    /// Rejects the row for `reason`, with the exact cause in words: the name of the field, or the value that was refused. The
    /// first 1,024 bytes of `detail` are kept, or up to three fewer if that would cut a character.
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

/// Panics because of the code at `place`. The location of the panic is this function, so the panic's text names `place`.
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
