//! What Weir takes from the machine: the time of day, signals, private folders, files that are whole or not there, and pauses.
//!
//! Nothing here knows of Kafka, of rules or of messages.

pub mod clock;

pub mod shutdown;

pub mod backoff;

pub mod throttle;

pub mod folder;

pub mod files;

#[cfg(feature = "testing")]
pub mod testing;
