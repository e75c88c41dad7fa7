//! What a worker counts of the two versions of a canary.

use core::time::Duration;

use evenkeel_balance::AttemptEnd;
use evenkeel_balance::canary::Version;
use evenkeel_grpc::Code;
use evenkeel_telemetry::ResponseFlag;

use super::Worker;

/// Which version of its route's canary answers a call. The mark is of one generation of the configuration: after a reload the
/// call's route may be another one's place, and calls that were in flight then are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct VersionMark {
    generation: u32,
    version: Version,
    said: Said,
}

/// What the newest attempt's end says about the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    /// What the call's status says.
    ByStatus,
    /// It served a stream until a bound on time ended that.
    Served,
    /// Nothing: the proxy ended it before a message came.
    Nothing,
}

impl VersionMark {
    pub(super) fn new(generation: u32, version: Version) -> Self {
        Self { generation, version, said: Said::ByStatus }
    }

    /// An attempt ended in this way.
    pub(super) fn attempt_ended(&mut self, end: &AttemptEnd) {
        self.said = match end {
            AttemptEnd::Served { .. } => Said::Served,
            AttemptEnd::CutOff => Said::Nothing,
            // Another attempt of the call decides, or its client did.
            AttemptEnd::Overtaken { .. } | AttemptEnd::Cancelled => return,
            _ => Said::ByStatus,
        };
    }
}

impl Worker {
    /// Counts the end of a call that one of the two versions answered. A stream has no latency that could be compared. What
    /// the route itself turned away, before its version was asked, says nothing of the version: counted as quick or failed calls,
    /// they would promote or roll back a version that hardly got any. Nor do the bounds on time that end streams: while both
    /// versions' streams all end "in errors", by their clients' deadlines or the route's longest duration, none is the worse.
    pub(super) fn count_version(&self, now: Duration, id: u32) {
        let call = &self.calls[id as usize];
        if matches!(call.flag, Some(ResponseFlag::RateLimited | ResponseFlag::FaultInjected)) {
            return;
        }
        let Some(mark) =
            call.extra(|extras| extras.version).filter(|mark| mark.generation == self.snapshot.generation)
        else {
            return;
        };
        let Some(listener) = self.snapshot.listeners.get(call.listener as usize) else { return };
        let Some(route) = listener.routes.get(usize::from(call.route)) else { return };
        let Some(versions) = route.destination.versions() else { return };
        let code = match mark.said {
            Said::ByStatus => call.code.unwrap_or(Code::Unknown),
            Said::Served => Code::Ok,
            Said::Nothing => return,
        };
        let messages = call.messages();
        let is_unary = messages.request <= 1 && messages.response <= 1 && mark.said == Said::ByStatus;
        let latency = is_unary.then(|| now.saturating_sub(call.started_at));
        versions.observed.record(mark.version, code, latency);
    }
}
