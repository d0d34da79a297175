//! JSON in one pass: members out of a message, new members into its bytes.
//!
//! A message is validated strictly by RFC 8259 in the same pass that notes where the wanted members stand ([`scan`]). It is
//! never turned into a tree and never written anew: [`splice`] puts members into the original bytes, so that everything no
//! rule touched leaves as it came, to the byte. What is left out: the meaning of members, and metadata.

mod foreign;
mod projection;
mod scan;
mod splice;
mod text;

pub use foreign::Foreign;
pub use projection::{Node, Projection};
pub use scan::{Found, Problem, exceeded_depth, is_composite, is_number};
pub use splice::{Splicer, Unwritable, Writes};
pub use text::write_string;
