//! The parts that the benchmarks on Apache Kafka share: a broker, topics, processes that are measured, simulated logins, and the
//! latency of a contender. Each benchmark says itself who competes and what is asked of them.

pub mod broker;
pub mod figures;
pub mod latency;
pub mod logins;
pub mod process;
pub mod task;
pub mod topics;
