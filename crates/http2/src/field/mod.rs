//! Header fields, understood once.
//!
//! A gRPC client sends the same fields over and over, as one-byte references into the HPACK table. So a table entry
//! is not a pair of strings but a [`FieldId`] into a [`FieldStore`] that all connections of a thread share: name and
//! value are stored once, what they mean ([`Meaning`]) is worked out once, and a decoded header list
//! ([`FieldBlock`]) is a short list of references instead of strings to copy, hash and compare (design, section 4).
//!
//! Rules: identifiers 0 to 60 are the static table of RFC 7541 Appendix A, always present. Any other identifier lives
//! as long as something holds a reference to it: a dynamic table entry, or a block. Its slot, with the storage of its
//! bytes, is then used again, so that clients which send a fresh timeout and trace identifier with each call cause no
//! allocation.

mod block;
mod meaning;
mod name;
mod store;
#[cfg(test)]
mod tests;

pub use block::{Field, FieldBlock};
pub(crate) use meaning::FIELD_OVERHEAD;
pub use meaning::{FieldFault, Meaning};
pub use name::Name;
pub use store::{FieldId, FieldStore};
