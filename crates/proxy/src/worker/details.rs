//! What an answer of our own says to programs: why, who said so, and when to come back.
//!
//! Why: a client sees UNAVAILABLE and cannot tell a server's own from that of a proxy without endpoints, unless it reads
//! English. So each answer of ours carries a `google.rpc.ErrorInfo` whose reason stands for the response flag; and one that is
//! given because something is full says when to try again (gRFC A6), since clients that all retry at once keep it full.
//!
//! Bound: reason and flag are program text, a cluster's name has 128 bytes at most, and the message, which the details repeat,
//! 1 KiB: less than 3 KiB in all, of the 8 KiB that gRPC's clients take.

use core::time::Duration;

use evenkeel_grpc::details::STATUS_DETAILS_BIN;
use evenkeel_grpc::pushback::RETRY_PUSHBACK_MS;
use evenkeel_grpc::{Code, ErrorInfo, Pushback, encode_status_details};
use evenkeel_http2::field::FieldBlock;
use evenkeel_telemetry::ResponseFlag;
use rand::RngExt;

use super::Worker;
use super::observe::UNKNOWN;

/// Who defines the reasons.
const DOMAIN: &str = "evenkeel";

/// The shortest and the longest time after which a client that found something full should try again. Long enough for a
/// queue of 1024 calls to move, and for memory to be given up, which is looked at every 250 ms; at random between the two,
/// so that not all come back at once.
const PUSHBACK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1500));

/// The shortest pushback: it is said in whole milliseconds, and none would invite to come back at once. Where it is known when
/// there is room, it is that at the soonest and twice that at the latest, so that not all come back together.
const PUSHBACK_MIN: Duration = Duration::from_millis(1);

/// The longest soonest pushback; beyond an hour nobody waits.
const PUSHBACK_MAX: Duration = Duration::from_secs(3600);

/// The reason that stands for a flag: at most 63 of `A-Z 0-9 _` (google.rpc.ErrorInfo). Never changed once published.
fn reason(flag: ResponseFlag) -> &'static str {
    match flag {
        ResponseFlag::NoRoute => "NO_ROUTE",
        ResponseFlag::NoCluster => "NO_CLUSTER",
        ResponseFlag::NoHealthyUpstream => "NO_HEALTHY_UPSTREAM",
        ResponseFlag::UpstreamConnectFailure => "UPSTREAM_CONNECT_FAILURE",
        ResponseFlag::UpstreamOverflow => "UPSTREAM_OVERFLOW",
        ResponseFlag::UpstreamTimeout => "UPSTREAM_TIMEOUT",
        ResponseFlag::UpstreamReset => "UPSTREAM_RESET",
        ResponseFlag::UpstreamConnectionTermination => "UPSTREAM_CONNECTION_TERMINATION",
        ResponseFlag::RetryLimit => "RETRY_LIMIT",
        ResponseFlag::UpstreamProtocolError => "UPSTREAM_PROTOCOL_ERROR",
        ResponseFlag::MaxDuration => "MAX_DURATION",
        ResponseFlag::LocalReset => "LOCAL_RESET",
        ResponseFlag::DownstreamConnectionTermination => "DOWNSTREAM_CONNECTION_TERMINATION",
        ResponseFlag::DownstreamProtocolError => "DOWNSTREAM_PROTOCOL_ERROR",
        ResponseFlag::DownstreamReset => "DOWNSTREAM_RESET",
        ResponseFlag::StreamIdle => "STREAM_IDLE",
        ResponseFlag::RateLimited => "RATE_LIMITED",
        ResponseFlag::Unauthorized => "UNAUTHORIZED",
        ResponseFlag::OverloadManager => "OVERLOAD",
        ResponseFlag::FaultInjected => "FAULT_INJECTED",
        ResponseFlag::DelayInjected => "DELAY_INJECTED",
    }
}

/// Whether something was full, so that it is worth to come back later.
fn is_full(flag: ResponseFlag) -> bool {
    matches!(flag, ResponseFlag::UpstreamOverflow | ResponseFlag::OverloadManager)
}

impl Worker {
    /// Adds to an answer of our own, beside its status and message, what programs read.
    pub(super) fn push_details(
        &mut self,
        block: &mut FieldBlock,
        id: u32,
        code: Code,
        text: &str,
        pushback: Option<Pushback>,
    ) {
        let call = &self.calls[id as usize];
        let Some(flag) = call.flag else { return };
        let cluster = self.clusters.get(call.cluster as usize).filter(|_| call.method != UNKNOWN);
        let attempts = call.attempts.to_string();
        let mut metadata = vec![("flag", flag.as_str())];
        metadata.extend(cluster.map(|cluster| ("cluster", &*cluster.settings.name)));
        metadata.push(("attempts", attempts.as_str()));
        let info = ErrorInfo { reason: reason(flag), domain: DOMAIN, metadata: &metadata };
        let details = encode_status_details(code, text, &info);
        block.push_literal(STATUS_DETAILS_BIN.as_bytes(), details.as_bytes(), false);
        let pushback = match pushback {
            Some(Pushback::RetryAfter(soonest)) => {
                let soonest = soonest.clamp(PUSHBACK_MIN, PUSHBACK_MAX);
                Some(Pushback::RetryAfter(self.rng.random_range(soonest..=soonest * 2)))
            }
            Some(never) => Some(never),
            None => {
                is_full(flag).then(|| Pushback::RetryAfter(self.rng.random_range(PUSHBACK.0..=PUSHBACK.1)))
            }
        };
        if let Some(pushback) = pushback {
            let pushback = pushback.print();
            block.push_literal(RETRY_PUSHBACK_MS.as_bytes(), pushback.as_bytes(), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_flag_has_a_reason_of_its_own_that_is_a_legal_one() {
        let reasons: HashSet<&str> = ResponseFlag::ALL.iter().map(|flag| reason(*flag)).collect();
        assert_eq!(reasons.len(), ResponseFlag::ALL.len());
        for reason in reasons {
            // error_details.proto: [A-Z][A-Z0-9_]+[A-Z0-9], at most 63 characters.
            assert!(reason.len() <= 63 && reason.starts_with(|first: char| first.is_ascii_uppercase()));
            assert!(reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{reason}");
        }
    }

    /// Flags of answers that are given. After the others nothing can be said any more, or they are of parts to come.
    const ANSWERED: &[ResponseFlag] = &[
        ResponseFlag::NoRoute,
        ResponseFlag::NoHealthyUpstream,
        ResponseFlag::UpstreamConnectFailure,
        ResponseFlag::UpstreamOverflow,
        ResponseFlag::UpstreamTimeout,
        ResponseFlag::UpstreamReset,
        ResponseFlag::UpstreamConnectionTermination,
        ResponseFlag::UpstreamProtocolError,
        ResponseFlag::DownstreamProtocolError,
        ResponseFlag::StreamIdle,
        ResponseFlag::MaxDuration,
        ResponseFlag::FaultInjected,
        ResponseFlag::OverloadManager,
        ResponseFlag::RateLimited,
    ];

    #[test]
    fn the_reference_lists_every_reason_that_is_given() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
        let reference = std::fs::read_to_string(path).unwrap();
        for flag in ANSWERED {
            let line = format!("| {} | `{}` |", flag.as_str(), reason(*flag));
            assert!(reference.contains(&line), "{line}");
        }
    }
}
