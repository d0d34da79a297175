//! The tests that see Weir from outside, in one binary. What one module promises is tested beside it, in `host/src`.

mod build;
mod contract;
mod guest;
mod hostile;
mod json;
mod tidy;
