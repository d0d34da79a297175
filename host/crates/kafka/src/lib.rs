//! Kafka: the only place that names rdkafka, narrowed here to what the engine needs.
//!
//! In reading order: [`client`] has the settings, [`properties`] proves those that people give, [`troubles`] tells of trouble
//! once, in the words of `connection` and without what `secrets` hides, [`failure`] says which errors waiting can help,
//! [`topics`] finds or creates the topics, [`source`] reads batches and commits their offsets, from where [`beginning`] says,
//! [`reset`] words the command by which people say otherwise, [`sink`] writes steps, as [`writer`] words them, and sees them
//! delivered, `transaction` brackets that, `outbox` is the producer below it, `refusals` has what topics do not take, `scale`
//! tells how large records are, [`publish`] is for those who only produce, [`reader`] for those who only read, [`embedded`] is
//! a broker within the process, and `native` has the few calls that the Rust client lacks.
//!
//! A step is sent, all of it is seen delivered, then the offsets are committed: within a transaction, which makes it exactly
//! once, or without one, which makes it at least once. The source is polled, its offsets are committed and its rebalances are
//! served on one thread, the data loop's: a partition is never taken away while a batch of it is being worked on.

pub mod beginning;
pub mod client;
mod connection;
pub mod embedded;
pub mod failure;
mod identity;
mod native;
pub mod offsets;
mod outbox;
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
pub mod sink;
pub mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topics;
mod transaction;
pub mod troubles;
pub mod writer;

pub use embedded::Embedded;
pub use failure::Failure;
pub use publish::Publisher;
pub use reader::Reader;
pub use session::{Restored, Session};
pub use settings::{BatchLimits, ClientSettings, Delivery, Settings, Start, Topics};
pub use sink::Sink;
pub use source::{Polled, Source};
