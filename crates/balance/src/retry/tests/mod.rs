mod decision;
mod hedging;
mod sharing;
mod simulated;

use core::time::Duration;

use evenkeel_grpc::{Code, Pushback};

use super::*;
use crate::attempt::AttemptEnd;
use crate::factor::Factor;

const START: Duration = Duration::from_secs(1_000);

const MS: Duration = Duration::from_millis(1);

/// A budget that never refuses, for tests of the other gates.
fn ample_budget() -> RetryBudget {
    RetryBudget::new(RetryBudgetConfig { min_concurrency: u32::MAX, ..RetryBudgetConfig::default() })
}

fn throttle(max_tokens: u16, thousandths: u32) -> RetryThrottle {
    let ratio = Factor::from_thousandths(thousandths);
    RetryThrottle::new(RetryThrottleConfig::new(max_tokens, ratio).unwrap())
}

fn moment(now: Duration) -> Moment {
    Moment { now, deadline: None, replay: Replay::Possible, is_idempotent: false }
}

const UNAVAILABLE: AttemptEnd = AttemptEnd::Status { code: Code::Unavailable, pushback: None };
const OK: AttemptEnd = AttemptEnd::Status { code: Code::Ok, pushback: None };

fn unavailable_after(pushback: Pushback) -> AttemptEnd {
    AttemptEnd::Status { code: Code::Unavailable, pushback: Some(pushback) }
}
