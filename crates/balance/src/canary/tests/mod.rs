//! Tests of the state machine, and of the judgement with simulated calls.

mod machine;
mod simulated;

use core::time::Duration;

use evenkeel_grpc::Code;

use super::*;
use crate::Factor;

const START: Duration = Duration::from_secs(1_000);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Counts of calls of which some failed, all equally quick.
fn counts(calls: u64, errors: u64) -> Counts {
    let mut counts = Counts::default();
    for call in 0..calls {
        let code = if call < errors { Code::Internal } else { Code::Ok };
        counts.record(code, Some(Duration::from_millis(10)));
    }
    counts
}

fn window(stable: (u64, u64), canary: (u64, u64)) -> Window {
    Window { stable: counts(stable.0, stable.1), canary: counts(canary.0, canary.1) }
}
