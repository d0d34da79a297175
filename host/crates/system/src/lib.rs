//! The services that Weir takes from the machine: the time of day, signals, private folders, files that are whole or absent, and
//! pauses.
//!
//! Nothing in this crate knows of Kafka, of rules or of records.

pub mod clock;

pub mod shutdown;

pub mod backoff;

pub mod throttle;

pub mod folder;

pub mod files;

#[cfg(feature = "testing")]
pub mod testing;
