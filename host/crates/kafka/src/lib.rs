//! Kafka: the only place that names rdkafka, narrowed here to what the engine needs.
//!
//! The modules, in reading order:
//!
//! - [`settings`] has the settings of the Kafka side.
//! - [`client`] has the settings of the clients.
//! - [`properties`] checks the properties that the operator sets. [`proof`] tries them before the start.
//! - [`client_log`] logs each trouble of a client once, in the words of `connection` and without what `secrets` hides.
//! - [`failure`] says which errors waiting can help.
//! - [`topics`] finds or creates the topics.
//! - [`source`] reads batches and commits their offsets. [`offsets`] reads committed offsets, [`start_offsets`] decides the
//!   offsets to begin with, and [`reset`] words the command by which the operator sets other offsets.
//! - [`sink`] writes steps, as [`writer`] words them, and waits until they are delivered. `transaction` puts them into a
//!   transaction, `producer` is the producer below it, `identity` makes the transactional ids, `refusals` has what topics do not
//!   take, `settling` is the pause between two transactions, and `scale` measures how large records are.
//! - [`session`] joins source and sink.
//! - [`publish`] is for commands that only produce, [`reader`] for commands that only read.
//! - [`embedded`] is a broker within the process.
//! - `native` has the few calls that the Rust client lacks.
//!
//! A step is sent, all of it is delivered, and then the offsets are committed. Within a transaction this is exactly once; without
//! a transaction it is at least once. One thread, that of the data loop, polls the source, commits its offsets and serves its
//! rebalances. So a partition is never taken away while a batch of it is being processed.

pub mod client;
pub mod client_log;
mod connection;
pub mod embedded;
pub mod failure;
mod identity;
mod native;
pub mod offsets;
mod producer;
pub mod proof;
pub mod properties;
pub mod publish;
pub mod reader;
mod refusals;
pub mod reset;
mod scale;
mod secrets;
pub mod session;
pub mod settings;
mod settling;
pub mod sink;
pub mod source;
pub mod start_offsets;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topics;
mod transaction;
pub mod writer;

pub use embedded::Embedded;
pub use failure::Failure;
pub use identity::Identity;
pub use publish::Publisher;
pub use reader::Reader;
pub use session::{Restored, Session};
pub use settings::{BatchLimits, ClientSettings, Delivery, Settings, Start, Topics};
pub use sink::Sink;
pub use source::{Polled, Source};
