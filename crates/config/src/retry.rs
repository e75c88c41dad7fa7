//! Trying again as the configuration writes it.

use evenkeel_balance::retry::{
    CodeSet, HedgingPolicy, RetryBudgetConfig, RetryOn, RetryPolicy, RetryThrottleConfig,
};
use evenkeel_grpc::Code;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::units::format_duration;

/// The word for streams and connections that break.
pub(crate) const RESET: &str = "reset";

/// The ends that can be retried by name.
pub(crate) const RETRY_ON: [&str; 17] = [
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
    RESET,
];

/// Writes a policy in the form that is read.
pub(crate) fn written(policy: &RetryPolicy) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("max_attempts", json!(policy.max_attempts));
    put("retry_on", json!(names(&policy.retry_on)));
    put("initial_backoff", json!(format_duration(policy.initial_backoff)));
    put("max_backoff", json!(format_duration(policy.max_backoff)));
    put("backoff_multiplier", json!(policy.backoff_multiplier.get()));
    if let Some(timeout) = policy.per_try_timeout {
        put("per_try_timeout", json!(format_duration(timeout)));
    }
    Value::Object(map)
}

/// Writes a policy of hedging in the form that is read.
pub(crate) fn written_hedge(policy: &HedgingPolicy) -> Value {
    json!({
        "max_attempts": policy.max_attempts,
        "delay": format_duration(policy.hedging_delay),
        "non_fatal": statuses(policy.non_fatal).collect::<Vec<_>>(),
    })
}

fn statuses(codes: CodeSet) -> impl Iterator<Item = &'static str> {
    let all = Code::ALL.into_iter().skip(1).zip(RETRY_ON);
    all.filter(move |(code, _)| codes.contains(*code)).map(|(_, name)| name)
}

fn names(retry_on: &RetryOn) -> Vec<&'static str> {
    let is_told = retry_on.codes.contains(Code::Unavailable);
    statuses(retry_on.codes).chain((retry_on.reset && !is_told).then_some(RESET)).collect()
}

pub(crate) fn serialize_budget<S: Serializer>(
    budget: &RetryBudgetConfig,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    json!({
        "percent": budget.percent,
        "min_concurrency": budget.min_concurrency,
        "window": budget.window.map_or_else(|| "off".to_owned(), format_duration),
    })
    .serialize(serializer)
}

pub(crate) fn serialize_throttling<S: Serializer>(
    throttling: &Option<RetryThrottleConfig>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let written = |config: &RetryThrottleConfig| json!({ "max_tokens": config.max_tokens(), "token_ratio": config.token_ratio().get() });
    throttling.as_ref().map_or_else(|| json!("off"), written).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_codes_in_their_order() {
        for (code, name) in Code::ALL.into_iter().skip(1).zip(RETRY_ON) {
            assert_eq!(code.name().to_ascii_lowercase(), name);
        }
        assert_eq!(RETRY_ON.len(), Code::ALL.len());
    }
}
