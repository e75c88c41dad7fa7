//! Priorities and localities: which group of endpoints gets a call, before the policy chooses one of the group.
//!
//! Why: a policy spreads calls over endpoints that are all alike. They are not when some are far away, cost more to reach, or
//! are only there for when the others fail. So a set's endpoints are put into *groups*, one per priority, or one per
//! priority and locality; a call is given to a group by the rules below, and the cluster's policy chooses in it.
//!
//! **Priorities** (Envoy's rule). With `f` the overprovisioning factor, 1.4 by default:
//! ```text
//! health(p) = min(100 %, f * available(p) / endpoints(p))
//! total     = min(100 %, sum of health(p))
//! load(p)   = min(100 % - load of the priorities before p, health(p) / total)
//! ```
//! Why not gRPC's (A56), where a priority has all calls while one endpoint of it is ready? Because the last one of ten would
//! get what ten can bear. What gRPC's failover timer is for needs no timer here: an endpoint that is being connected to counts
//! as available until the attempt fails, which it does after the connect timeout at the latest, and calls wait for it.
//!
//! *Available* is an endpoint that is ready or may soon be, and that nothing withholds. One that drains was asked to leave:
//! it counts neither as available nor as an endpoint, so that a rollout is no failure (Envoy's *excluded* hosts).
//!
//! **Localities**, within a priority; one of
//! - *weighted* (Envoy's locality weighted balancing): `weight * min(100 %, f * available / endpoints)` in proportion;
//! - *zone-aware* (Envoy's): the own zone gets all of this proxy's calls while its share `u` of the ready endpoints' weight is
//!   at least its share `o` of the proxies, else `u / o` of them. The rest goes to the other zones, in proportion to the
//!   part of their share of endpoints that their own proxies leave over. So all endpoints get equally much, with as few
//!   calls between zones as that allows.
//!
//! A locality none of whose endpoints is ready gets nothing while another of its priority has one.
//!
//! **Panic**: if the priorities' health does not sum up to 100 %, and fewer than the threshold of a priority's endpoints are
//! available, then what says so is more likely to be wrong than nearly all endpoints are; and if it is right, the few that are
//! left would break under the load of all. So health is disregarded there: all that are connected and do not drain get calls.
//! Or none, if it is to fail at once.
//!
//! Shares are kept to by a Weyl sequence ([`Loads::choose`]): any stretch of n calls is within a few calls of its shares, where
//! random numbers would be within the square root of n. With a key, under policies that hash, the key decides instead, so
//! that its calls stay in their group while shares stay.
//!
//! Invariants: shares sum up to 1; a group without an endpoint that can be picked has none while another has one, but for a
//! priority whose endpoints are all being connected to.
//!
//! Source: Envoy's architecture overview, "Priority levels", "Panic threshold", "Locality weighted load balancing", "Zone
//! aware routing"; Weyl 1916 and Knuth 6.4 for the sequence.

mod config;
mod loads;
mod panic;
#[cfg(test)]
mod tests;

pub use config::{Localities, Overprovisioning, OverprovisioningError, PanicMode, SpreadConfig, ZoneAware};
pub(crate) use loads::{GroupHealth, GroupKey, Loads};
pub use panic::PanicChange;
pub(crate) use panic::PanicCounts;
