//! Trying again, as routes and clusters write it.

use super::{Integer, List, Number, Off, RawDuration, StatusName, raw_mapping};
use crate::bounds;

raw_mapping! {
    /// When and how often a call is tried again: gRPC's `retryPolicy`, with a timeout for each attempt. Without it a call is
    /// tried again only when no backend has seen it.
    RawRetry as "Retry", expected "a mapping";
    required {}
    optional {
        /// Attempts of one call, the first one included. 2 to 5.
        #[schemars(range(min = bounds::RETRY_MAX_ATTEMPTS.min, max = bounds::RETRY_MAX_ATTEMPTS.max))]
        #[schemars(extend("default" = bounds::RETRY_MAX_ATTEMPTS.default))]
        max_attempts: Integer,

        /// What is tried again besides connections that fail and streams that are refused: gRPC statuses by name, such as
        /// `unavailable`, and `reset` for streams and connections that break. `unavailable` includes `reset`;
        /// `deadline_exceeded` needs `idempotent: true`.
        #[schemars(extend("default" = []))]
        retry_on: List<StatusName>,

        /// Delay before the first retry, a fifth more or less at random. 1ms to 1m.
        #[schemars(extend("default" = "25ms"))]
        initial_backoff: RawDuration,

        /// The longest delay; at least `initial_backoff`. 1ms to 10m.
        #[schemars(extend("default" = "250ms"))]
        max_backoff: RawDuration,

        /// Growth of the delay from one retry to the next. 1 to 10.
        #[schemars(range(min = bounds::RETRY_BACKOFF_MULTIPLIER.min, max = bounds::RETRY_BACKOFF_MULTIPLIER.max))]
        #[schemars(extend("default" = bounds::RETRY_BACKOFF_MULTIPLIER.default))]
        backoff_multiplier: Number,

        /// How long one attempt may take until its response begins. 1ms to 1d. Without it: as long as the call.
        per_try_timeout: RawDuration,
    }
}

raw_mapping! {
    /// When further attempts of a call are sent while the first ones still run: gRPC's `hedgingPolicy`. The first answer
    /// counts. Needs `idempotent: true`.
    RawHedge as "Hedge", expected "a mapping";
    required {}
    optional {
        /// Attempts of one call, the first one included. 2 to 5.
        #[schemars(range(min = bounds::HEDGE_MAX_ATTEMPTS.min, max = bounds::HEDGE_MAX_ATTEMPTS.max))]
        #[schemars(extend("default" = bounds::HEDGE_MAX_ATTEMPTS.default))]
        max_attempts: Integer,

        /// Time from one attempt to the next: the 95th percentile of the latency costs a twentieth more calls. 0s, which sends
        /// all at once, to 1m.
        #[schemars(extend("default" = "100ms"))]
        delay: RawDuration,

        /// gRPC statuses by name that do not decide a call: the next attempt is sent at once. With `unavailable`, streams
        /// and connections that break do not decide it either.
        #[schemars(extend("default" = ["unavailable"]))]
        non_fatal: List<StatusName>,
    }
}

raw_mapping! {
    /// Bounds the retries and hedges of all calls to a cluster, in all workers together.
    RawRetryBudget as "RetryBudget", expected "a mapping";
    required {}
    optional {
        /// Retries in percent of the calls, of those under way and of those that began in the window. 0 to 100.
        #[schemars(range(min = bounds::RETRY_BUDGET_PERCENT.min, max = bounds::RETRY_BUDGET_PERCENT.max))]
        #[schemars(extend("default" = bounds::RETRY_BUDGET_PERCENT.default))]
        percent: Integer,

        /// Retries that are always allowed, at once and in a window, so that a cluster with few calls can retry. 0 to 1000.
        #[schemars(range(min = bounds::RETRY_BUDGET_MIN_CONCURRENCY.min, max = bounds::RETRY_BUDGET_MIN_CONCURRENCY.max))]
        #[schemars(extend("default" = bounds::RETRY_BUDGET_MIN_CONCURRENCY.default))]
        min_concurrency: Integer,

        /// The window, or `off`: only retries under way are bounded. 1s to 10m.
        #[schemars(extend("default" = "10s"))]
        window: Off<RawDuration>,
    }
}

raw_mapping! {
    /// gRPC's `retryThrottling`: no retries while more than a few attempts fail.
    RawRetryThrottling as "RetryThrottling", expected "a mapping with `max_tokens` and `token_ratio`";
    required {
        /// Tokens of a full bucket. A failed attempt takes one; retries need more than half of them. 1 to 1000.
        #[schemars(range(min = bounds::RETRY_MAX_TOKENS.min, max = bounds::RETRY_MAX_TOKENS.max))]
        max_tokens: Integer,

        /// Tokens that a successful attempt gives back. 0.001 to 1000.
        #[schemars(range(min = bounds::RETRY_TOKEN_RATIO.min, max = bounds::RETRY_TOKEN_RATIO.max))]
        token_ratio: Number,
    }
    optional {}
}
