//! What [ring_hash](super::ring_hash) and [maglev](super::maglev) share: from a key's hash to an endpoint that can take the
//! call.
//!
//! Both give each hash an entry of a table, and each entry an *owner*. The table is made from the endpoints as discovery
//! lists them, whatever their health: so it is the same in all workers, is built once per [`EndpointSet`], and a health
//! that changes costs nothing. Where the owner cannot take the call, the pick goes on from there:
//!
//! 1. **The walk** (gRFC A42, A61): along the table from the key's entry, to the first endpoint that is ready. One that is
//!    idle or connecting and has not failed is waited for: calls must not be spread while a proxy starts, nor move for the
//!    moment a connection takes to be made anew. One that failed, is draining or not healthy is stepped over. So each
//!    lost endpoint's keys are shared out among the others, and all workers that see the same states choose the same.
//! 2. **Rendezvous.** After [`WALK_MAX`] entries in vain, nearly all endpoints are out. Then the ready one with the highest
//!    hash of (key, endpoint) takes the call. That costs as many steps as endpoints are ready, few as they then are;
//!    walking on could mean a million entries for each call, just when all goes wrong.
//! 3. **Bounded load**, where configured ([`BoundedLoad`]): an endpoint that has its share of the calls in flight already is
//!    passed over. The next is searched for by *jumping*: the key's hash is hashed again, which gives another entry, the
//!    same for the same key each time. Why not walk? A hot key fills the endpoints behind its own, and every call on that
//!    stretch would walk along all of them; a jump finds room with a probability of `e / (1 + e)` or more, however calls
//!    are spread. (Mirrokni et al. 2016, arXiv 1608.01350; random jumps: Chen et al. 2019, arXiv 1908.08762, as in Envoy.)
//!
//! In a set with several [groups](crate::spread) each has its own part of the table.
//!
//! A call without a key draws a random hash, and waits for nobody while an endpoint is ready (gRFC A76).
//!
//! Invariants:
//! - With the same endpoints in the same states, the same hash has the same endpoint, in every worker.
//! - With a bounded load, a pick never takes an endpoint above its cap while all calls in flight there are counted, which
//!   is as long as only balancers that bound it send calls to the set's endpoints. Picks that several workers make at the
//!   very same moment may each be the last one below the cap.
//! - A pick costs O(1) on average as long as one in a few endpoints is ready, and never allocates.
//!
//! [`EndpointSet`]: crate::EndpointSet
//! [`WALK_MAX`]: pick::WALK_MAX

mod config;
mod pick;
mod table;
#[cfg(test)]
mod tests;

pub use config::{Affinity, BoundedLoad, BoundedLoadError};
pub(crate) use pick::Consistent;
pub(crate) use table::{HashTable, Part, Share, TableKind};
