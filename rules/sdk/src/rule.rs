//! The definition of a rule: the trait that authors implement, and the macros that name a rule and make a component of it.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Manifest, Row, Verdict};

/// A rule: configured once, then called for every row.
///
/// The verdict and the written fields may depend only on the configuration and on the row, because a row may be evaluated twice.
pub trait Rule: Sized {
    /// The name, version and description of the rule. `weir_rule::about!()` takes them from the crate's `Cargo.toml`.
    const ABOUT: About;

    /// The settings that a deployment may give, read from a JSON object. [`NoConfig`] stands for none. Give the type defaults and
    /// `#[serde(default, deny_unknown_fields)]`, so that `{}` works and a misspelt key is reported.
    type Config: DeserializeOwned;

    /// Checks the configuration, and declares in `manifest` the fields that the rule reads and writes and its reasons.
    ///
    /// # Errors
    /// A text for the operator that says what is wrong with the configuration and what to write instead: in lower case, without a
    /// full stop.
    fn configure(config: Self::Config, manifest: &mut Manifest) -> Result<Self, String>;

    /// Evaluates one row. A panic is a fault of the rule: the host sends the record to the dead letters, with the panic's text.
    fn evaluate(&self, row: &mut Row<'_>) -> Verdict;
}

/// The name, version and description under which a rule is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) description: &'static str,
}

impl About {
    /// Returns the data under which a rule is known. `name` has lower-case letters, digits and hyphens. `name` and `version` have
    /// 1 to 64 bytes each. `description` is one line.
    ///
    /// # Panics
    /// If `name` or `version` breaks these bounds. In a `const`, as in [`Rule::ABOUT`], that is a compile error.
    #[track_caller]
    pub const fn new(name: &'static str, version: &'static str, description: &'static str) -> About {
        assert!(!name.is_empty() && name.len() <= 64, "a rule's name has 1 to 64 bytes");
        assert!(!version.is_empty() && version.len() <= 64, "a rule's version has 1 to 64 bytes");
        let mut at = 0;
        while at < name.len() {
            let byte = name.as_bytes()[at];
            let allowed = byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(allowed, "a rule's name consists of lower-case letters, digits and hyphens");
            at += 1;
        }
        About { name, version, description }
    }
}

/// The configuration of a rule without settings: `{}`. Any key is refused.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Returns an [`About`] with `name`, `version` and `description` from the `Cargo.toml` of the crate that calls it.
#[macro_export]
macro_rules! about {
    () => {
        $crate::About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"))
    };
}

/// Makes a component of the crate: exports `configure` and `evaluate` of the given [`Rule`]. To be used once in a crate, at its
/// top level.
///
/// In a build for any other target than Wasm it only checks the type, so that the crate links and tests natively.
#[macro_export]
macro_rules! export {
    ($rule:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: $crate::About = <$rule as $crate::Rule>::ABOUT;

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static LOADED: $crate::wasm::Slot<$rule> = const { $crate::wasm::Slot::new() };
            }

            impl $crate::wasm::Guest for Component {
                fn configure(
                    config: ::std::string::String,
                ) -> ::std::result::Result<$crate::abi::Manifest, ::std::string::String> {
                    LOADED.with(|slot| $crate::wasm::configure(slot, &config))
                }

                fn evaluate(batch: $crate::abi::Batch) -> $crate::abi::Outcome {
                    LOADED.with(|slot| $crate::wasm::evaluate(slot, &batch))
                }
            }

    $crate::wasm::export_world!(Component with_types_in $crate::wasm::bindings);
        };
    };
}
