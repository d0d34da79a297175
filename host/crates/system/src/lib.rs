//! The services that Weir takes from the machine: the time of day, signals, private folders, files that are whole or absent, and
//! pauses.
//!
//! No code here depends on Kafka, rules or records; only messages and reasons name them.

pub mod clock;

pub mod shutdown;

pub mod backoff;

pub mod throttle;

pub mod folder;

pub mod files;

#[cfg(feature = "testing")]
pub mod testing;
