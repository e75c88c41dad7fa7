//! least_request: the candidate with the fewest calls in flight, of a small sample or of all.
//!
//! Why: calls in flight show a slow endpoint within one round trip, and the counts are exact across workers. Why a
//! sample? Two random choices already shrink the mean time in system at 90 % load from 10 service times to 2.6 (power of
//! two choices; Mitzenmacher 2001, Vvedenskaya et al. 1996), cost O(1), and, where counts are a little stale, do not herd:
//! many choosers that all see the whole list all run to the same minimum. A full scan is for few endpoints, when each
//! takes few calls at a time (one GPU, one call).
//!
//! Rule: fewest `(in_flight + 1) / weight`, which is Envoy's `weight / (active + 1)` turned over, with its bias of 1; with
//! equal weights it is gRFC A48's "fewest outstanding", which knows no weights. Ties are broken at random. A sample holds
//! distinct candidates (A48 draws with replacement; a candidate compared with itself is a wasted draw), all of them if
//! there are no more than the sample's size.

mod config;
mod pick;
#[cfg(test)]
mod tests;

pub use config::{Choice, SampleSize, SampleSizeError};
pub(crate) use pick::LeastRequest;
