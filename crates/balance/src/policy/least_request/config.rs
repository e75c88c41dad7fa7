//! Which candidates least_request compares, and how.

use crate::factor::Factor;

/// How least_request chooses. Default: of a sample of two, with a bias of 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeastRequestConfig {
    /// Which candidates are compared.
    pub choice: Choice,
    /// Where weights differ: what a call in flight counts against an endpoint, one request of its weight being 1. Default 1; 0:
    /// calls in flight are not looked at, and calls follow the weights alone.
    pub active_request_bias: Factor,
}

impl LeastRequestConfig {
    /// This choice, with a bias of 1.
    #[must_use]
    pub const fn of(choice: Choice) -> Self {
        Self { choice, active_request_bias: Factor::ONE }
    }
}

impl Default for LeastRequestConfig {
    fn default() -> Self {
        Self::of(Choice::default())
    }
}

/// Which candidates are compared for each call. Default: a sample of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// As many random ones: O(1).
    Sample(SampleSize),
    /// All of them, and the lowest queues. O(n) up to 128, O(1) above: then calls of other workers that ended may go unseen
    /// for about as many picks as half the candidates.
    FullScan,
}

impl Default for Choice {
    fn default() -> Self {
        Self::Sample(SampleSize::default())
    }
}

/// How many candidates are drawn for each call (gRFC A48's `choiceCount`): 2 to 10, default 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SampleSize(u32);

impl SampleSize {
    /// The smallest sample; of one there is nothing to choose.
    pub const MIN: u32 = 2;
    /// The largest sample; larger values are taken as this one (gRFC A48).
    pub const MAX: u32 = 10;

    /// The number of candidates drawn.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for SampleSize {
    fn default() -> Self {
        Self(Self::MIN)
    }
}

impl TryFrom<u32> for SampleSize {
    type Error = SampleSizeError;

    /// Takes values above 10 as 10 and refuses those below 2, as gRFC A48 says.
    fn try_from(count: u32) -> Result<Self, SampleSizeError> {
        if count < Self::MIN { Err(SampleSizeError { count }) } else { Ok(Self(count.min(Self::MAX))) }
    }
}

/// A sample too small to choose from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a sample of {count} leaves no choice: give at least 2, or use the policy `random`")]
pub struct SampleSizeError {
    /// The size asked for.
    pub count: u32,
}
