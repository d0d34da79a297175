//! JSON in one pass: takes fields out of a message, and puts new fields into its bytes.
//!
//! A message is validated strictly by RFC 8259, in the same pass that notes the places of the wanted fields ([`scan`]). A message
//! is never turned into a tree and never written anew: [`splice`] puts fields into the original bytes, so that all parts that no
//! rule has written stay as they came, to the byte. This module leaves out the meaning of fields, and metadata.

mod foreign;
mod habit;
mod projection;
mod scan;
mod splice;
mod text;

pub use foreign::Foreign;
pub use habit::Habit;
pub use projection::{Node, Projection};
pub use scan::{Found, Problem, exceeded_depth, is_composite, is_number};
pub use splice::{Splicer, Unwritable, Writes};
pub use text::write_string;
