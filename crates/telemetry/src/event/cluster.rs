//! What is counted for each cluster: with the label `cluster`, for at most [`MAX_CLUSTER_SERIES`](crate::MAX_CLUSTER_SERIES)
//! of them, and as long as the cluster lives (see [`crate::cluster`]).
//!
//! A cluster has all these series from its beginning, at 0: the first thing that happens must show in a rate. Hence the
//! number of lines: about 80 for each cluster.

use super::{
    Ejected, Family, Hedged, KeyMet, Label, Limited, LoadReported, Mirrored, Probed, PushedBack,
    ReplayDropped, ResponseFlag, RetryDenied, RetryReason, TransparentRetry, slots_before,
};

events! {
    /// Something that a worker counts for the cluster in which it happened: the one that the call went to.
    pub enum ClusterEvent;

    /// A copy of a call to another cluster was begun in this one, or not, or given up.
    Mirrored(outcome: Mirrored) = "evenkeel_mirrored_calls", "Copies of calls for the cluster, by what became of them.";
    /// A call to the cluster ended otherwise than by a backend's answer: the proxy answered it, or the client was gone.
    LocalReply(response_flag: ResponseFlag) = "evenkeel_local_replies",
        "Calls that ended otherwise than by the backend's answer, by response flag.";
    /// A call was sent again because no backend had seen it.
    TransparentRetry(reason: TransparentRetry) = "evenkeel_transparent_retries",
        "Attempts repeated because no backend had processed them, by reason.";
    /// A call was tried again by its route's policy.
    Retry(reason: RetryReason) = "evenkeel_retries",
        "Attempts that followed another by a route's retry policy, by how that one ended.";
    /// A call was not tried again although its route's policy retries such an end.
    RetryDenied(reason: RetryDenied) = "evenkeel_retries_denied",
        "Calls that were not tried again although the policy retries such an end, by reason.";
    /// A backend said when to try a call again whose route has a policy for that.
    PushedBack(outcome: PushedBack) = "evenkeel_pushbacks",
        "Answers with grpc-retry-pushback-ms to calls that a policy may try again, by what it says.";
    /// The request of a call that was sent is not kept any more: the call cannot be tried again.
    ReplayDropped(bound: ReplayDropped) = "evenkeel_replays_dropped",
        "Calls whose requests were not kept for further attempts any more, by the bound that was reached.";
    /// A further attempt of a call was due while others ran, or decided it.
    Hedged(outcome: Hedged) = "evenkeel_hedges",
        "Further attempts of hedged calls: sent while others ran, after a failure, not sent for want of an endpoint, and won.";
    /// Outlier detection took an endpoint out of rotation.
    OutlierEjected(reason: Ejected) = "evenkeel_outlier_ejections",
        "Endpoints that outlier detection took out of rotation, by reason.";
    /// An endpoint that was ejected is back in rotation.
    OutlierReturned = "evenkeel_outlier_returns", "Ejected endpoints that came back into rotation.";
    /// The cap of ejections kept an endpoint in rotation that a rule would have taken out.
    EjectionHeldBack = "evenkeel_ejections_held_back",
        "Endpoints that stayed in rotation because max_ejection_percent were out, each once in an interval.";
    /// Too few endpoints of a cluster's priority are available to believe it: health is disregarded.
    PanicBegan = "evenkeel_panics_begun", "Times that health came to be disregarded, as too few endpoints were available.";
    /// Enough endpoints are available again.
    PanicEnded = "evenkeel_panics_ended", "Times that health came to be regarded again.";
    /// A call found the cluster's queue of waiting calls full.
    PendingOverflow = "evenkeel_pending_overflow", "Calls refused because too many waited for a connection.";
    /// A limit turned a call away.
    Limited(limit: Limited) = "evenkeel_limited_calls", "Calls that a limit turned away, by limit.";
    /// A circuit breaker kept a worker from a further connection to an endpoint.
    ConnectionOverflow = "evenkeel_upstream_connections_overflow",
        "Further connections to endpoints that a circuit breaker did not allow.";
    /// A backend reported its load with an answer.
    LoadReport(outcome: LoadReported) = "evenkeel_load_reports",
        "Load reports in answers of backends whose cluster asks for them, by what became of them.";
    /// A call whose cluster chooses by its key was sent for the first time, or turned away.
    KeyMet(outcome: KeyMet) = "evenkeel_affinity_calls",
        "Calls under a policy that hashes, by the endpoint that their first attempt met: that of their key or another.";
    /// An endpoint was asked for its load, by prequal.
    Probe(outcome: Probed) = "evenkeel_probes", "Questions for endpoints' load, under prequal, by what became of them.";
}
