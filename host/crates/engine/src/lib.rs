//! The engine: one or more data loops that read records, process them by the rules in force, write the results and commit,
//! exactly once.
//!
//! The engine knows Kafka and the rules. It knows no configuration, no files of rules and no operators: its caller says which
//! rules should run, by [`protocol::Command`]. The modules are listed in the order in which they are best read.

mod settings;

pub mod protocol;

mod instances;

pub mod trial;

pub mod shared_trial;

pub mod shadow;

mod active;

mod open_transaction;

pub mod snapshot;

pub mod process_snapshot;

mod data_loop;

mod process;

mod clock_warning;

mod fault_log;

mod same_topic;

pub use instances::{ProcessBatch, RuleInstances};
pub use process::{LoopStart, Setup, Summary};
pub use settings::{CountSettings, Threads, TrialBounds};
