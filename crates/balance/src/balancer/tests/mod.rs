//! Tests of the balancer as a whole, and the fixture that the policies' tests use too.

mod connecting;
pub(crate) mod fixture;
mod health;
mod heeding;
mod model;
mod outliers;
mod preview;
pub(crate) mod queueing;
mod spreading;
mod standing;
mod suite;
mod updating;
