//! The fault tests: Weir on a real Apache Kafka, whose processes and network are broken while Weir works.
//!
//! `make test-kafka` runs them. Each test has its own topics and its own group on a broker that all tests share, except where
//! brokers are killed. Each test ends with the judge, which computes anew what should have come out.

#[path = "../folder.rs"]
mod folder;
#[path = "../guest.rs"]
#[allow(dead_code, reason = "tests/main.rs uses the rest")]
mod guest;
#[path = "../kafka.rs"]
#[allow(dead_code, reason = "tests/main.rs uses the rest")]
mod kafka;
#[path = "../operator.rs"]
mod operator;
#[path = "../oracle.rs"]
mod oracle;
#[path = "../poisons.rs"]
#[allow(dead_code, reason = "tests/main.rs uses the rest")]
mod poisons;
#[path = "../program.rs"]
#[allow(dead_code, reason = "tests/main.rs uses the rest")]
mod program;

mod auditor;
mod cluster;
mod proxy;
mod reader;
mod weir;

mod backpressure;
mod chaos;
mod crashes;
mod culprits;
mod input;
mod outages;
mod packed;
mod positions;
mod refusals;
mod secured;
mod soak;
mod swaps;
mod threads;
mod upstream;
mod zombies;
