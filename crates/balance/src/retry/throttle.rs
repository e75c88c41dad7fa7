//! gRPC's retry throttling: no extra attempts while too many attempts fail.
//!
//! Rule (gRFC A6, `retryThrottling`): a bucket that starts with `max_tokens`. An attempt that failed in a retryable way, or
//! with a pushback that forbids retries, takes one token; an attempt that succeeded gives `token_ratio`. Extra attempts are
//! allowed while there are more than `max_tokens / 2`. The first attempt of a call is always sent.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use evenkeel_grpc::{Code, Pushback};

use crate::attempt::AttemptEnd;
use crate::factor::Factor;

/// Largest `max_tokens` (gRFC A6).
const MAX_TOKENS: u16 = 1_000;

/// gRPC's `retryThrottling`; off unless configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryThrottleConfig {
    max_tokens: u16,
    token_ratio: Factor,
}

/// Values that are no [`RetryThrottleConfig`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RetryThrottleConfigError {
    /// Out of range.
    #[error("max_tokens is {0}: give a whole number from 1 to 1000")]
    MaxTokens(u16),
    /// Zero, with which one bad minute would forbid retries for ever.
    #[error("token_ratio is 0: give a number of at least 0.001")]
    TokenRatio,
}

impl RetryThrottleConfig {
    /// The settings; gRFC A6's example is 10 tokens and a ratio of 0.1.
    ///
    /// # Errors
    /// `max_tokens` is not within 1 to 1,000, or `token_ratio` is 0.
    pub fn new(max_tokens: u16, token_ratio: Factor) -> Result<Self, RetryThrottleConfigError> {
        if !(1..=MAX_TOKENS).contains(&max_tokens) {
            return Err(RetryThrottleConfigError::MaxTokens(max_tokens));
        }
        if token_ratio == Factor::ZERO {
            return Err(RetryThrottleConfigError::TokenRatio);
        }
        Ok(Self { max_tokens, token_ratio })
    }
}

impl RetryThrottleConfig {
    /// Tokens of a full bucket.
    #[must_use]
    pub fn max_tokens(&self) -> u16 {
        self.max_tokens
    }

    /// Tokens that an attempt which succeeded gives back.
    #[must_use]
    pub fn token_ratio(&self) -> Factor {
        self.token_ratio
    }
}

/// The bucket of one cluster, shared by all workers.
#[derive(Debug)]
pub struct RetryThrottle {
    /// In thousandths, as A6 counts three decimals.
    tokens: AtomicU32,
    max: u32,
    ratio: u32,
}

impl RetryThrottle {
    /// A full bucket.
    #[must_use]
    pub fn new(config: RetryThrottleConfig) -> Self {
        let max = u32::from(config.max_tokens) * 1_000;
        Self { tokens: AtomicU32::new(max), max, ratio: (config.token_ratio.get() * 1_000.0).round() as u32 }
    }

    /// Whether extra attempts are allowed now.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.tokens.load(Relaxed) > self.max / 2
    }

    /// Tokens of a full bucket, in thousandths.
    #[must_use]
    pub fn max_thousandths(&self) -> u32 {
        self.max
    }

    /// Tokens in the bucket, in thousandths.
    #[must_use]
    pub fn tokens_thousandths(&self) -> u32 {
        self.tokens.load(Relaxed)
    }

    /// Counts the end of a call that no policy tries again: one that succeeds gives tokens back, and one whose backend forbids a retry
    /// takes one, as gRPC's clients count the calls of all methods (gRFC A6).
    pub fn ended_without_policy(&self, end: &AttemptEnd) {
        self.attempt_ended(end, false);
    }

    /// Counts an attempt's end; `is_retryable` is the policy's word on it.
    pub(super) fn attempt_ended(&self, end: &AttemptEnd, is_retryable: bool) {
        if matches!(end, AttemptEnd::Status { code: Code::Ok, .. }) {
            self.succeeded();
        } else if is_retryable || end.pushback() == Some(Pushback::Never) {
            self.failed();
        }
    }

    fn failed(&self) {
        let less = |tokens: u32| (tokens > 0).then(|| tokens.saturating_sub(1_000));
        let _at_zero = self.tokens.fetch_update(Relaxed, Relaxed, less);
    }

    #[inline]
    pub(super) fn succeeded(&self) {
        // A full bucket is only read: most attempts succeed, and a write would take the cache line from other workers.
        let more = |tokens: u32| (tokens < self.max).then(|| tokens.saturating_add(self.ratio).min(self.max));
        let _full = self.tokens.fetch_update(Relaxed, Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(max_tokens: u16, thousandths: u32) -> RetryThrottle {
        let ratio = Factor::from_thousandths(thousandths);
        RetryThrottle::new(RetryThrottleConfig::new(max_tokens, ratio).unwrap())
    }

    #[test]
    fn forbids_at_half_of_the_tokens_and_allows_above() {
        let throttle = throttle(10, 100);
        for left in [9, 8, 7, 6] {
            throttle.failed();
            assert_eq!((throttle.tokens_thousandths(), throttle.allows()), (left * 1_000, true));
        }
        throttle.failed();
        assert!(!throttle.allows(), "five of ten are not more than half");
        throttle.succeeded();
        assert_eq!((throttle.tokens_thousandths(), throttle.allows()), (5_100, true));
    }

    #[test]
    fn stays_within_zero_and_the_maximum() {
        let throttle = throttle(1, 600);
        throttle.succeeded();
        assert_eq!(throttle.tokens_thousandths(), 1_000);
        throttle.failed();
        throttle.failed();
        assert_eq!(throttle.tokens_thousandths(), 0);
        throttle.succeeded();
        throttle.failed();
        assert_eq!(throttle.tokens_thousandths(), 0, "less than a token is taken whole");
        throttle.succeeded();
        throttle.succeeded();
        assert_eq!((throttle.tokens_thousandths(), throttle.allows()), (1_000, true));
    }

    #[test]
    fn refuses_settings_outside_of_a6() {
        let ratio = Factor::from_thousandths(1);
        for max_tokens in [0, 1_001] {
            let refused = RetryThrottleConfig::new(max_tokens, ratio);
            assert_eq!(refused, Err(RetryThrottleConfigError::MaxTokens(max_tokens)));
        }
        assert_eq!(RetryThrottleConfig::new(1, Factor::ZERO), Err(RetryThrottleConfigError::TokenRatio));
        assert!(RetryThrottleConfig::new(1, ratio).is_ok());
        assert!(RetryThrottleConfig::new(1_000, Factor::MAX).is_ok());
    }
}
