//! weighted_round_robin: in turn, each candidate exactly as often as its weight says.
//!
//! Why: machines of different sizes. The weights are those that an operator sets ([`pick`]), or follow from the load that
//! endpoints report ([`adaptive`], [`load_weight`]; gRFC A58). Why exactly, and not by weighted draws? Draws
//! cluster: an endpoint would get its share on average only, with bursts in between.
//!
//! Rule, in two levels:
//! 1. Candidates are grouped into *classes* by the power of two below their weight: 1, 2-3, 4-7, ... A smooth weighted
//!    round robin (nginx's rule) over the at most 32 classes gives each class its turn: every class gains its weight (the
//!    sum of its candidates'), the highest credit is chosen and pays the sum of all weights.
//! 2. Within a class a *static stride scheduler* (Waldspurger and Weihl 1995, as gRPC has for gRFC A58) walks round and
//!    round: each time it meets a candidate, the candidate's phase grows by its weight, and when that reaches the largest
//!    weight of the class, the candidate is picked and pays that much.
//!
//! Why classes? gRPC's scheduler is one class: with weights of 1,000 and 9,999 times 1 it steps over 900 candidates for
//! each pick. Within a class the smallest weight is more than half the largest, so at most every second meeting is in vain,
//! and a pick costs O(1) whatever the weights. Weights stay integers; gRPC rounds them to 16 bits.
//!
//! Invariants: with weights w, any sum(w) picks in a row from a fresh start hold each candidate exactly w times. With
//! equal weights each meeting is a pick: round_robin. Candidates join at a random place with a random phase, so workers do
//! not fall into step; one that joins or leaves costs O(1), and the others keep their phases. Only when the last holder of
//! a class' largest weight leaves is that class looked through, O(n).

mod adaptive;
mod config;
mod load_weight;
mod pick;
mod rotation;
mod stride;
#[cfg(test)]
mod tests;

pub(crate) use adaptive::{AdaptiveRoundRobin, WeightSource};
pub use config::{LoadSource, LoadWeightConfig};
pub use load_weight::ReportedWeight;
pub(crate) use pick::WeightedRoundRobin;
use rotation::Rotation;
