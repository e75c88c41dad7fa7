//! least_request: the candidate with the fewest calls in flight, of a small sample or of all.
//!
//! Why: calls in flight show a slow endpoint within one round trip, and the counts are exact across workers. Why a
//! sample? Two random choices already shrink the mean time in system at 90 % load from 10 service times to 2.6 (power of
//! two choices; Mitzenmacher 2001, Vvedenskaya et al. 1996), cost O(1), and, where counts are a little stale, do not herd:
//! many choosers that all see the whole list all run to the same minimum. A full scan is for endpoints that take few calls at
//! a time each (one GPU, one call). It looks at all while they are few; of many it keeps an order, and the rules below hold but for
//! what [`many`] says.
//!
//! Rule with equal weights: fewest calls in flight (gRFC A48's "fewest outstanding", which knows no weights); ties are broken
//! at random. A sample holds distinct candidates (A48 draws with replacement; a candidate compared with itself is a wasted
//! draw), all of them if there are no more than the sample's size.
//!
//! Rule where weights differ: the first of the sample is the one whose turn it is in a rotation by weight, the others are drawn
//! with equal probability. While none of them has a call, the first gets it. Else the least `(bias * in_flight + u) / weight`
//! does, `u` being drawn anew for each, from 0 to 1. Why so? Drawn like that, a sample is as likely as the sum of its weights
//! says (Midzuno 1952), so that idle endpoints get calls exactly by their weights; comparing `(in_flight + 1) / weight` instead,
//! the heaviest of an idle sample would get every call, and the lightest none. And without `u` one call in flight would count
//! the same as none for the lighter of two. Envoy does without a sample where weights differ: it takes turns by
//! `weight / (active + 1)^bias`, which loads heavy endpoints less than their weights say: by the square root, with a bias of 1.
//!
//! An endpoint that warms up ([`slow_start`](crate::slow_start)) takes part in a choice with the probability of its share.

mod buckets;
mod config;
mod many;
mod pick;
#[cfg(test)]
pub(crate) mod tests;

pub use config::{Choice, LeastRequestConfig, SampleSize, SampleSizeError};
pub(crate) use pick::LeastRequest;
