//! ring_hash: each endpoint has entries on a ring of hashes, and a key goes to the first entry at or behind its own hash.
//!
//! Why: calls with the same key meet the same endpoint, in every worker, proxy and gRPC client, without any of them
//! telling the other. When one of n endpoints leaves, only its keys move, about 1/n of all, each to the endpoint behind it
//! on the ring (but see [`RingSize`]); when it comes back they return. [Maglev](crate::policy::maglev) is faster to look up and more even, but
//! moves a few more keys.
//!
//! Rule (gRFC A42, after Envoy's ring_hash, so that all three place the same key on the same endpoint): entry i of an
//! endpoint stands at XXH64 of `address_i`, seed 0. With weights w normalised to a sum of 1, the ring has
//! `min(k / min(w), max_size)` entries, k being a set number or, as in gRPC, `ceil(min(w) * min_size)`. They are shared out in
//! proportion to the weights, in the order of the addresses: an endpoint gets entries until the sum of entries reaches the
//! sum of shares.
//!
//! Difference to gRPC: all endpoints are connected to at once, not at their first call. What happens to calls whose
//! endpoint is not ready: [`consistent`](crate::policy::consistent).
//!
//! A lookup is O(1): hashes are uniform, so a *directory* by their leading bits leads to within an entry or two.

mod config;
mod ring;
#[cfg(test)]
mod tests;

pub use config::{RingSize, RingSizeError};
pub(crate) use ring::Ring;
