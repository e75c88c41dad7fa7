//! Limits: what is let through to a cluster, and what becomes of the rest, by the rules of [`evenkeel_balance::limit`].
//!
//! | limit | of | asked | above it |
//! |---|---|---|---|
//! | [`rate`] | a route, a client | when a call begins | RESOURCE_EXHAUSTED with pushback |
//! | circuit breaker | a cluster, an endpoint | when an attempt is about to be sent | UNAVAILABLE; another endpoint first |
//! | adaptive concurrency | a cluster | as well | the call waits in the queue, or RESOURCE_EXHAUSTED |
//! | queue of waiting calls | a worker, a cluster | when a call must wait | UNAVAILABLE if full, RESOURCE_EXHAUSTED if too late |
//!
//! All counts but the queue's order are shared by the workers, as atomics: a bound holds for the process.
//!
//! Invariant: what an attempt takes is in its `Places`, which are given back once, to the limits they were taken from, also
//! after a reload has put others in their place; circuit breakers that a reload turns on take over
//! what is under way (`adopt`). Copies of calls ([`mirror`](super::mirror)) take the same, and never wait.
//!
//! A cluster without limits costs a call one look at an `Option`.

pub mod rate;

mod adopt;
mod queue;

pub(super) use adopt::new_breakers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::{
    AdaptiveLimiter, CircuitBreaker, Overflow, PendingKey, Rejection, Resource, Sample, Scope,
};
use evenkeel_balance::{AttemptEnd, Endpoint, Slot};
use evenkeel_grpc::Code;
use evenkeel_telemetry::{ClusterEvent, Limited, ResponseFlag};
use rand::rngs::SmallRng;

use super::Worker;
use super::call::Call;
use super::finish::Ending;

/// How long the answer to a call may go on until the call counts as a stream under adaptive concurrency: this long, and so many times
/// as long as calls take. The answer to a unary call comes all at once, but for one that is large or read slowly.
const STREAM_AFTER: Duration = Duration::from_secs(1);
const STREAM_AFTER_RTTS: u32 = 10;

/// What bounds the calls of all workers to a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterLimits {
    /// The cluster's circuit breaker; `None`: nothing of the cluster is counted.
    pub breaker: Option<Arc<CircuitBreaker>>,
    /// Whether what is under way at each endpoint is counted, by the endpoint's own breaker. Default false.
    pub counts_endpoints: bool,
    /// Adaptive concurrency; `None`: off.
    pub adaptive: Option<Arc<AdaptiveLimiter>>,
    /// Whether a call that adaptive concurrency has no place for is refused instead of waiting for one. Default false.
    pub refuses_at_once: bool,
}

impl ClusterLimits {
    fn resources(&self, endpoint: &Endpoint, resource: Resource) -> Result<(), Overflow> {
        if self.counts_endpoints {
            endpoint.breaker().acquire(resource)?;
        }
        if let Some(breaker) = &self.breaker
            && let Err(overflow) = breaker.acquire(resource)
        {
            if self.counts_endpoints {
                endpoint.breaker().release(resource);
            }
            return Err(overflow);
        }
        Ok(())
    }

    fn release(&self, endpoint: &Endpoint, resource: Resource) {
        if self.counts_endpoints {
            endpoint.breaker().release(resource);
        }
        if let Some(breaker) = &self.breaker {
            breaker.release(resource);
        }
    }

    /// Takes what an attempt at this endpoint needs, or nothing. `may_pass` is false while other calls wait for the same.
    fn take(self: &Arc<Self>, endpoint: &Endpoint, is_retry: bool, may_pass: bool) -> Result<Places, Full> {
        if self.adaptive.as_ref().is_some_and(|limiter| !may_pass || !limiter.has_room()) {
            return Err(Full::Concurrency);
        }
        self.resources(endpoint, Resource::Requests).map_err(Full::Breaker)?;
        // The cluster's retries are counted from the decision to make one.
        let retry_at_endpoint = is_retry && self.counts_endpoints;
        if retry_at_endpoint && let Err(overflow) = endpoint.breaker().acquire(Resource::Retries) {
            self.release(endpoint, Resource::Requests);
            return Err(Full::Breaker(overflow));
        }
        // Another worker may have been faster since the look.
        if self.adaptive.as_ref().is_some_and(|limiter| limiter.acquire().is_err()) {
            self.release(endpoint, Resource::Requests);
            if retry_at_endpoint {
                endpoint.breaker().release(Resource::Retries);
            }
            return Err(Full::Concurrency);
        }
        let is_limited = self.adaptive.is_some();
        Ok(Places { limits: Arc::clone(self), retry_at_endpoint, is_limited })
    }

    /// What an attempt takes now, as far as known.
    fn recent_rtt(&self) -> Duration {
        self.adaptive.as_ref().and_then(|limiter| limiter.recent_rtt()).unwrap_or_default()
    }
}

/// What an attempt was refused by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// A circuit breaker.
    Breaker(Overflow),
    /// Adaptive concurrency.
    Concurrency,
}

impl Full {
    /// Whether no other endpoint of the cluster can help.
    pub(super) fn is_of_cluster(self) -> bool {
        !matches!(self, Self::Breaker(Overflow { scope: Scope::Endpoint, .. }))
    }
}

/// What an attempt holds of its cluster's limits.
#[derive(Debug)]
pub(super) struct Places {
    limits: Arc<ClusterLimits>,
    /// Whether it is a retry that its endpoint counts.
    retry_at_endpoint: bool,
    /// Whether it holds a place of adaptive concurrency.
    is_limited: bool,
}

impl Places {
    /// When a call whose answer begins now counts as a stream, if it does not end before; `None` if it holds no place under
    /// adaptive concurrency.
    pub(super) fn streams_at(&self, now: Duration) -> Option<Duration> {
        self.is_limited.then(|| now + (self.limits.recent_rtt() * STREAM_AFTER_RTTS).max(STREAM_AFTER))
    }

    /// Gives the place under adaptive concurrency back: the call turned out to be a stream, whose length says nothing about
    /// the backend's load.
    #[inline]
    pub(super) fn leave_adaptive(
        &mut self,
        sample: impl FnOnce() -> Sample,
        now: Duration,
        rng: &mut SmallRng,
    ) {
        if core::mem::take(&mut self.is_limited)
            && let Some(limiter) = &self.limits.adaptive
        {
            limiter.release(sample(), now, rng);
        }
    }

    #[inline]
    fn give_back(
        mut self,
        endpoint: &Endpoint,
        sample: impl FnOnce() -> Sample,
        now: Duration,
        rng: &mut SmallRng,
    ) {
        self.leave_adaptive(sample, now, rng);
        self.limits.release(endpoint, Resource::Requests);
        if self.retry_at_endpoint {
            endpoint.breaker().release(Resource::Retries);
        }
    }
}

/// What one attempt of a hedged call holds of its cluster's limits.
#[derive(Debug, Default)]
pub(super) struct Holding {
    places: Option<Places>,
    /// The breaker that counts it as a retry.
    retries_at: Option<Arc<CircuitBreaker>>,
}

/// What a call has to do with limits.
#[derive(Debug, Default)]
pub(super) struct CallLimits {
    /// Its place in its cluster's queue.
    queued: Option<PendingKey>,
    /// The place that it had there when it was sent.
    had: Option<PendingKey>,
    /// Whether it was sent and found no place: if it has to wait again, it is as one that still waits.
    is_back: bool,
    /// The breaker that counts it among the calls that wait.
    waits_at: Option<Arc<CircuitBreaker>>,
    /// What its newest attempt holds.
    places: Option<Places>,
    /// The breaker that counts a retry of it as under way: of a hedged call its main attempt, if that is a further one.
    retries_at: Option<Arc<CircuitBreaker>>,
    /// When a call whose answer has begun counts as a stream under adaptive concurrency, if it does not end before.
    pub(super) streams_at: Option<Duration>,
}

impl CallLimits {
    /// Makes it as it was before any call.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Its newest attempt found no place at its endpoint: [`AttemptEnd::NoPlace`].
    pub(super) fn comes_back(&mut self) {
        self.is_back = true;
    }
}

/// A connection that circuit breakers count.
#[derive(Debug)]
pub(super) struct CountedConn(Arc<ClusterLimits>);

impl Call {
    /// Whether it waits in its cluster's queue.
    fn is_queued(&self) -> bool {
        self.extra(|extras| extras.limits.queued).is_some()
    }

    /// Takes what the main attempt holds.
    pub(super) fn take_holding(&mut self) -> Holding {
        let limits = self.extras.as_deref_mut().map(|extras| &mut extras.limits);
        limits.map_or_else(Holding::default, |limits| Holding {
            places: limits.places.take(),
            retries_at: limits.retries_at.take(),
        })
    }

    /// Makes this what the main attempt holds.
    pub(super) fn hold(&mut self, holding: Holding) {
        if let Some(extras) = self.extras.as_deref_mut() {
            (extras.limits.places, extras.limits.retries_at) = (holding.places, holding.retries_at);
        }
    }
}

impl Worker {
    /// Takes what the call's next attempt at this endpoint needs.
    #[inline]
    pub(super) fn take_places(&mut self, id: u32, slot: Slot) -> Result<(), Full> {
        let cluster = self.calls[id as usize].cluster;
        if self.clusters[cluster as usize].settings.limits.is_none() {
            return Ok(());
        }
        let is_retry = self.calls[id as usize].previous_attempts() > 0;
        self.take_limited(id, slot, is_retry)
    }

    #[inline(never)]
    fn take_limited(&mut self, id: u32, slot: Slot, is_retry: bool) -> Result<(), Full> {
        let call = &self.calls[id as usize];
        let cluster = &self.clusters[call.cluster as usize];
        let Some(limits) = &cluster.settings.limits else { return Ok(()) };
        // First come, first served: who waits already goes first.
        let may_pass = call.is_queued() || cluster.pending.is_empty();
        let places = limits.take(cluster.balancer.endpoint(slot), is_retry, may_pass)?;
        self.extras(id).limits.places = Some(places);
        Ok(())
    }

    /// Takes what a copy of a call needs at this endpoint.
    pub(super) fn take_places_at(&self, cluster: u32, slot: Slot) -> Result<Option<Places>, Full> {
        let cluster = &self.clusters[cluster as usize];
        let Some(limits) = &cluster.settings.limits else { return Ok(None) };
        limits.take(cluster.balancer.endpoint(slot), false, cluster.pending.is_empty()).map(Some)
    }

    /// Takes what an attempt at this endpoint needs that is sent beside the one that runs; `None` if a limit has no place for
    /// it. Each further attempt is a retry of its own: those of a hedged call run at one time.
    pub(super) fn take_beside(&mut self, id: u32, slot: Slot, is_retry: bool) -> Option<Holding> {
        let main = self.calls[id as usize].take_holding();
        let is_taken = (!is_retry || self.take_retry(id)) && self.take_limited(id, slot, is_retry).is_ok();
        if !is_taken {
            self.end_retry(id);
        }
        let call = &mut self.calls[id as usize];
        let taken = call.take_holding();
        call.hold(main);
        is_taken.then_some(taken)
    }

    /// Gives back what the newest attempt took. `end` says how it went, if it was sent.
    pub(super) fn give_places_back(&mut self, now: Duration, id: u32, end: Option<&AttemptEnd>) {
        let call = &mut self.calls[id as usize];
        let Some(places) = call.take_extra(|extras| &mut extras.limits.places) else { return };
        let Some(slot) = call.slot else { return };
        let latency = now.saturating_sub(call.attempt_at);
        let sample = || end.map_or(Sample::Nothing, |end| sample_of(end, latency));
        let endpoint = self.clusters[call.cluster as usize].balancer.endpoint(slot);
        places.give_back(endpoint, sample, now, &mut self.rng);
    }

    /// Gives back what an attempt took that could not be sent.
    pub(super) fn drop_holding(&mut self, now: Duration, id: u32, slot: Slot, holding: Holding) {
        if let Some(breaker) = holding.retries_at {
            breaker.release(Resource::Retries);
        }
        self.drop_places_at(now, self.calls[id as usize].cluster, slot, holding.places);
    }

    /// Gives back what a copy of a call took.
    pub(super) fn drop_places_at(&mut self, now: Duration, cluster: u32, slot: Slot, places: Option<Places>) {
        let Some(places) = places else { return };
        let endpoint = self.clusters[cluster as usize].balancer.endpoint(slot);
        places.give_back(endpoint, || Sample::Nothing, now, &mut self.rng);
    }

    /// The answer to a call began. One that goes on for long is a stream, though it may have no second message for hours, and must
    /// not hold its place so long: a few that wait for news would leave no room for any other call.
    pub(super) fn note_answer_began(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        let Some(extras) = call.extras.as_deref_mut() else { return };
        let streams_at = extras.limits.places.as_ref().and_then(|places| places.streams_at(now));
        if streams_at.is_some() {
            extras.limits.streams_at = streams_at;
            self.arm_call(id);
        }
    }

    /// A call turned out to be a stream.
    #[cold]
    pub(super) fn leave_adaptive(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        if let Some(places) = call.extras.as_mut().and_then(|extras| extras.limits.places.as_mut()) {
            places.leave_adaptive(|| Sample::Nothing, now, &mut self.rng);
        }
    }

    /// Counts a retry of a call at the cluster's circuit breaker. Whether it may be made.
    pub(super) fn take_retry(&mut self, id: u32) -> bool {
        let cluster = &self.clusters[self.calls[id as usize].cluster as usize];
        let Some(limits) = &cluster.settings.limits else { return true };
        let Some(breaker) = limits.breaker.clone() else { return true };
        let counted = &mut self.extras(id).limits.retries_at;
        if counted.is_none() {
            if breaker.acquire(Resource::Retries).is_err() {
                return false;
            }
            *counted = Some(breaker);
        }
        true
    }

    /// No further retry of a call follows: its answer has begun, or it is over. Of a hedged call: its main attempt ended, and what
    /// follows is counted anew.
    pub(super) fn end_retry(&mut self, id: u32) {
        if let Some(breaker) = self.calls[id as usize].take_extra(|extras| &mut extras.limits.retries_at) {
            breaker.release(Resource::Retries);
        }
    }

    /// Counts a connection that is about to begin; `is_needed` ones are always allowed. `Err` if a breaker has no place.
    pub(super) fn count_connection(
        &mut self,
        cluster: u32,
        slot: Slot,
        is_needed: bool,
    ) -> Result<Option<CountedConn>, Overflow> {
        let owner = &self.clusters[cluster as usize];
        let Some(limits) = &owner.settings.limits else { return Ok(None) };
        let endpoint = owner.balancer.endpoint(slot);
        if !is_needed {
            limits.resources(endpoint, Resource::Connections)?;
        } else {
            limits.force(endpoint, Resource::Connections);
        }
        Ok(Some(CountedConn(Arc::clone(limits))))
    }

    /// A connection that was counted is gone.
    pub(super) fn forget_connection(&self, cluster: u32, slot: Slot, counted: &CountedConn) {
        let endpoint = self.clusters[cluster as usize].balancer.endpoint(slot);
        counted.0.release(endpoint, Resource::Connections);
    }

    /// Answers a call that a limit turned away. One that was to be tried again ends as its attempt did.
    pub(super) fn turn_away(&mut self, now: Duration, id: u32, limited: Limited, rejection: Rejection) {
        self.count_of_call(id, ClusterEvent::Limited(limited));
        let flag = match rejection {
            Rejection::RateLimited { .. } => ResponseFlag::RateLimited,
            _ => ResponseFlag::UpstreamOverflow,
        };
        let cluster = &self.clusters[self.calls[id as usize].cluster as usize];
        let text = match rejection {
            Rejection::RateLimited { .. } => rejection.to_string(),
            _ => format!("{rejection}: cluster {}", cluster.settings.name),
        };
        if self.end_as_answered(now, id, &text) {
            return;
        }
        let ending = Ending::local(rejection.code(), flag, &text).with_pushback(rejection.pushback());
        self.end_call(now, id, &ending);
    }

    /// What becomes of a call whose attempt was refused, and that no other endpoint takes.
    pub(super) fn refused_by(&mut self, now: Duration, id: u32, full: Full) {
        if self.calls[id as usize].extra(|extras| extras.limits.is_back.then_some(())).is_some() {
            // It had its place, and another call took it in this very moment.
            return self.wait_for_place(now, id);
        }
        match full {
            Full::Breaker(overflow) => {
                let limited = match overflow.scope {
                    Scope::Cluster => Limited::MaxRequests,
                    Scope::Endpoint => Limited::Endpoint,
                };
                self.turn_away(now, id, limited, Rejection::Overflow(overflow));
            }
            Full::Concurrency => {
                let cluster = &self.clusters[self.calls[id as usize].cluster as usize];
                let limits = cluster.settings.limits.as_ref();
                match limits
                    .filter(|limits| limits.refuses_at_once)
                    .and_then(|limits| limits.adaptive.as_ref())
                {
                    Some(limiter) => {
                        let rejection = limiter.reject();
                        self.turn_away(now, id, Limited::Concurrency, rejection);
                    }
                    None => self.wait_for_place(now, id),
                }
            }
        }
    }
}

/// What an attempt's end says about the load of its backend.
fn sample_of(end: &AttemptEnd, latency: Duration) -> Sample {
    match end {
        AttemptEnd::Status { code: Code::DeadlineExceeded, .. }
        | AttemptEnd::AttemptTimeout
        | AttemptEnd::DeadlineExceeded
        | AttemptEnd::Overtaken { .. } => Sample::TimedOut(latency),
        // What a backend answers without doing the work comes fast, and says nothing.
        AttemptEnd::Status {
            code:
                Code::Cancelled
                | Code::Unknown
                | Code::ResourceExhausted
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
                | Code::PermissionDenied
                | Code::Unauthenticated,
            ..
        } => Sample::Nothing,
        AttemptEnd::Status { .. } => Sample::Answered(latency),
        // A stream tells nothing by its length.
        AttemptEnd::Cancelled
        | AttemptEnd::CutOff
        | AttemptEnd::Served { .. }
        | AttemptEnd::RefusedStream
        | AttemptEnd::NoPlace
        | AttemptEnd::GoAway { .. }
        | AttemptEnd::NotSent
        | AttemptEnd::ConnectFailed
        | AttemptEnd::Reset => Sample::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_was_done_or_took_too_long_tells_the_load() {
        let latency = Duration::from_millis(3);
        for code in Code::ALL {
            let expected = match code {
                Code::DeadlineExceeded => Sample::TimedOut(latency),
                Code::Ok
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange => Sample::Answered(latency),
                _ => Sample::Nothing,
            };
            assert_eq!(sample_of(&AttemptEnd::status(code), latency), expected, "{code:?}");
        }
        let overtaken = AttemptEnd::Overtaken { by_later: true };
        for end in [AttemptEnd::AttemptTimeout, overtaken] {
            assert_eq!(sample_of(&end, latency), Sample::TimedOut(latency), "at least so long");
        }
        assert_eq!(sample_of(&AttemptEnd::Cancelled, latency), Sample::Nothing);
        assert_eq!(sample_of(&AttemptEnd::Reset, latency), Sample::Nothing);
    }
}
