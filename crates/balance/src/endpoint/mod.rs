//! What the workers of one process share about an endpoint, and the list of endpoints discovery reports.
//!
//! Why shared? A worker that knew its own calls only would see a part of an endpoint's load, and several such workers
//! herd to the same endpoint: the imbalance users of per-worker balancers complain of (envoyproxy/envoy#2593, #35935).
//! Here an atomic counts the calls of all workers, and nobody waits for anybody.
//!
//! Why `Relaxed` almost everywhere? Each counter is a number on its own: no other memory is read or written on the strength of
//! its value, and a modification order per atomic is all that exact counting needs. The exception counts changes: whoever sees
//! that there was one reads what it is.

mod set;

use core::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};
use core::time::Duration;
use std::sync::Arc;

use twox_hash::XxHash64;

use crate::address::Address;
use crate::call::LoadReport;
use crate::connectivity::Connectivity;
use crate::health_check::HealthStatus;
use crate::limit::{BreakerLimits, CircuitBreaker, Scope};
use crate::outlier::OutlierRecord;
use crate::policy::{LoadWeightConfig, ProbeAnswer, ReportedWeight};

pub(crate) use set::Group;
pub use set::{EndpointSet, MAX_ENDPOINTS, MAX_GROUPS};

/// Requests in flight that an endpoint can have: as many as the process may have calls (2^24), and more than any server holds. A
/// report of more is absurd, and must not outweigh every other number for ever.
const MOST_IN_FLIGHT: u32 = 1 << 24;

/// How an attempt at an endpoint ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// The endpoint answered with `OK`, or with a status that is the caller's doing.
    Success,
    /// The endpoint failed: refused, reset, timed out, or a status that is the server's doing.
    Failure,
    /// The downstream left before the end; says nothing about the endpoint.
    Cancelled,
    /// Another attempt of the call was faster: this one would have taken at least as long as it had.
    Overtaken,
}

/// One endpoint as all workers share it.
///
/// It lives as long as anything refers to it, also after discovery dropped it: its last calls finish on it.
#[derive(Debug)]
pub struct Endpoint {
    hot: Hot,
    totals: Totals,
    outlier: OutlierRecord,
    breaker: CircuitBreaker,
    address: Address,
    /// XXH64 of the address: a place on a ring that is the same in every worker and after every restart.
    hash: u64,
    /// See [`EndpointSet::changes`](set::EndpointSet::changes).
    changes: Arc<AtomicU64>,
}

/// What every pick reads and every call writes, in a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Hot {
    in_flight: AtomicU32,
    weight: AtomicU32,
    /// Why it gets no new calls while another can take them, as bits of [`Withheld`]; 0 in service.
    withheld: AtomicU8,
    /// What it last said of itself: the part of its requests in flight that are not this process's, how long calls took, in
    /// microseconds (0: it did not say), and when, in milliseconds plus one (0: never).
    others_in_flight: AtomicU32,
    reported_latency_us: AtomicU32,
    reported_at_ms: AtomicU64,
    /// When active checks last found it healthy after they had not, in microseconds; 0 before that.
    healthy_since_us: AtomicU64,
    /// The weight by the newest load report that came apart from calls, in millionths (0: there was none), and when it came, in
    /// microseconds.
    load_weight: AtomicU64,
    load_noted_at_us: AtomicU64,
}

/// Why an endpoint gets no new calls while others can take them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Withheld {
    /// It asked for none, as it terminates: discovery says so.
    Draining = 1,
    /// Active checks fail.
    Unhealthy = 2,
    /// Outlier detection ejected it.
    Ejected = 4,
    /// Active checks are configured, and none has had a result yet.
    Unchecked = 8,
}

impl Withheld {
    /// Every reason, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Draining, Self::Unhealthy, Self::Ejected, Self::Unchecked];

    /// The reason as logs and the admin interface name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Unchecked => "unchecked",
        }
    }

    /// The reason as a sentence, for people.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Draining => "it terminates, and asked for no new calls",
            Self::Unhealthy => "its active health checks fail",
            Self::Ejected => "outlier detection ejected it",
            Self::Unchecked => "active checks have not had a result yet",
        }
    }
}

/// The reasons that active checks give.
const HEALTH: [Withheld; 2] = [Withheld::Unchecked, Withheld::Unhealthy];

/// What is written once per finished call and read for statistics only; apart from [`Hot`] so that it slows no pick.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Totals {
    /// Finished attempts by [`Outcome`].
    outcomes: [AtomicU64; 4],
    /// Sum of the latencies of attempts that succeeded or failed, in microseconds.
    latency_us: AtomicU64,
    /// Workers by the connectivity they have to this endpoint.
    workers: [AtomicU32; Connectivity::ALL.len()],
    /// When the last worker's slow start of it began, in seconds plus one; 0 before the first.
    warming_since_s: AtomicU32,
}

impl Endpoint {
    /// An endpoint without calls. A weight of 0 counts as 1: an endpoint that must get no calls is left out of the list.
    #[must_use]
    pub fn new(address: Address, weight: u32) -> Self {
        Self::counting(address, weight, &Arc::default())
    }

    /// One whose changes are counted here, with those of its cluster's others.
    pub(crate) fn counting(address: Address, weight: u32, changes: &Arc<AtomicU64>) -> Self {
        let hash = XxHash64::oneshot(0, address.to_string().as_bytes());
        let hot = Hot {
            in_flight: AtomicU32::new(0),
            weight: AtomicU32::new(weight.max(1)),
            withheld: AtomicU8::new(0),
            others_in_flight: AtomicU32::new(0),
            reported_latency_us: AtomicU32::new(0),
            reported_at_ms: AtomicU64::new(0),
            healthy_since_us: AtomicU64::new(0),
            load_weight: AtomicU64::new(0),
            load_noted_at_us: AtomicU64::new(0),
        };
        let breaker = CircuitBreaker::new(Scope::Endpoint, &BreakerLimits::default());
        Self {
            hot,
            totals: Totals::default(),
            outlier: OutlierRecord::default(),
            breaker,
            address,
            hash,
            changes: Arc::clone(changes),
        }
    }

    /// Where the endpoint listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The static weight that discovery last reported, at least 1. A balancer uses it from its next update on.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.hot.weight.load(Relaxed)
    }

    fn set_weight(&self, weight: u32) {
        self.hot.weight.store(weight.max(1), Relaxed);
    }

    /// Attempts under way now, of all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.hot.in_flight.load(Relaxed)
    }

    /// Counts an attempt as in flight; right after the pick, so that the next pick sees it.
    pub(crate) fn call_started(&self) {
        self.hot.in_flight.fetch_add(1, Relaxed);
    }

    /// Ends what [`Endpoint::call_started`] began; exactly once per attempt, however it ended.
    pub(crate) fn call_finished(&self) {
        let before = self.hot.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a call at {} was finished that never started", self.address);
    }

    /// Takes what the endpoint says of itself with a load report, for the probes of all workers; see [`Endpoint::answer`].
    /// More calls than there can be count as the most that there can be.
    pub fn report(&self, answer: &ProbeAnswer, now: Duration) {
        // Fewer than the process's own are not true, or not for long: a call on its way is not there yet.
        let others = answer.requests_in_flight.min(MOST_IN_FLIGHT).saturating_sub(self.in_flight());
        let latency_us = answer.latency.map_or(0, |latency| latency.as_micros());
        self.hot.others_in_flight.store(others, Relaxed);
        self.hot.reported_latency_us.store(u32::try_from(latency_us).unwrap_or(u32::MAX), Relaxed);
        let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.hot.reported_at_ms.store(at_ms.saturating_add(1), Relaxed);
    }

    /// The endpoint's answer to a probe, by its last report: what others had in flight there then, and the process's own
    /// calls now. `None` if it is older than `max_age`, or there is none.
    ///
    /// While another worker takes a report the answer may mix two of them.
    #[must_use]
    pub fn answer(&self, now: Duration, max_age: Duration) -> Option<ProbeAnswer> {
        let at_ms = self.hot.reported_at_ms.load(Relaxed).checked_sub(1)?;
        if now.saturating_sub(Duration::from_millis(at_ms)) > max_age {
            return None;
        }
        let latency_us = self.hot.reported_latency_us.load(Relaxed);
        Some(ProbeAnswer {
            requests_in_flight: self.hot.others_in_flight.load(Relaxed).saturating_add(self.in_flight()),
            latency: (latency_us > 0).then(|| Duration::from_micros(latency_us.into())),
        })
    }

    /// Takes a load report that came apart from calls (ORCA's out-of-band service, gRFC A51), for the weights of all balancers
    /// whose policy is [`Policy::LoadWeightedRoundRobin`](crate::Policy::LoadWeightedRoundRobin) with
    /// [`LoadSource::OutOfBand`](crate::LoadSource::OutOfBand). Returns the weight, or `None` if the report makes no sense,
    /// which changes nothing. To be called by one thread at a time.
    pub fn note_load(
        &self,
        load: &LoadReport,
        config: &LoadWeightConfig,
        now: Duration,
    ) -> Option<ReportedWeight> {
        let weight = ReportedWeight::of(load, config)?;
        self.hot.load_weight.store(weight.millionths(), Relaxed);
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.hot.load_noted_at_us.store(now_us, Relaxed);
        Some(weight)
    }

    /// Forgets what [`Endpoint::note_load`] took: the process that said it may be gone. Balancers that took it over keep it
    /// until it expires, or their connection ends.
    pub fn forget_load(&self) {
        self.hot.load_weight.store(0, Relaxed);
    }

    /// The weight by the newest of those reports, and when it came. While another comes the answer may mix two of them, which
    /// the next look puts right.
    pub(crate) fn noted_load(&self) -> Option<(ReportedWeight, Duration)> {
        let millionths = self.hot.load_weight.load(Relaxed);
        let at = Duration::from_micros(self.hot.load_noted_at_us.load(Relaxed));
        (millionths > 0).then(|| (ReportedWeight::from_millionths(millionths), at))
    }

    /// Notes that a worker's slow start of the endpoint begins.
    pub(crate) fn note_warming(&self, now: Duration) {
        let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        self.totals.warming_since_s.fetch_max(seconds.saturating_add(1), Relaxed);
    }

    /// When its slow start began, of all workers the last one's, whether or not the cluster has one; to the second. `None` while
    /// it was never ready.
    #[must_use]
    pub fn warming_since(&self) -> Option<Duration> {
        let seconds = self.totals.warming_since_s.load(Relaxed).checked_sub(1)?;
        Some(Duration::from_secs(seconds.into()).max(self.healthy_since()))
    }

    /// Adds a finished attempt to the totals. The latency of one that was cancelled or overtaken is not counted: it is the
    /// caller's patience, or another endpoint's latency.
    pub(crate) fn record(&self, outcome: Outcome, latency: Duration) {
        self.totals.outcomes[outcome as usize].fetch_add(1, Relaxed);
        if matches!(outcome, Outcome::Success | Outcome::Failure) {
            let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.totals.latency_us.fetch_add(latency_us, Relaxed);
        }
    }

    /// Attempts that ended so, since the endpoint appeared.
    #[must_use]
    pub fn finished(&self, outcome: Outcome) -> u64 {
        self.totals.outcomes[outcome as usize].load(Relaxed)
    }

    /// Mean latency of the attempts that succeeded or failed; `None` before the first.
    #[must_use]
    pub fn mean_latency(&self) -> Option<Duration> {
        let count = self.finished(Outcome::Success) + self.finished(Outcome::Failure);
        self.totals.latency_us.load(Relaxed).checked_div(count).map(Duration::from_micros)
    }

    /// Whether the endpoint asked for no new calls (it terminates, or reports NOT_SERVING). Default false.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_withheld_as(Withheld::Draining)
    }

    /// Takes the endpoint out of rotation in all workers, or back into it. No worker needs to be told. A new set says it of all its
    /// endpoints.
    pub fn set_draining(&self, draining: bool) {
        self.set_withheld(Withheld::Draining, draining);
    }

    /// Whether there is any reason for which the endpoint gets no new calls while another can take them; asked at every
    /// pick, so that a reason that comes or goes needs to be told to no worker.
    #[inline]
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        self.hot.withheld.load(Relaxed) != 0
    }

    /// Whether it is withheld for this reason, perhaps among others.
    #[must_use]
    pub fn is_withheld_as(&self, reason: Withheld) -> bool {
        self.hot.withheld.load(Relaxed) & reason as u8 != 0
    }

    /// Notes that a reason begins or ends to hold. All workers heed it with their next pick, or, where there are thousands of
    /// endpoints, within a hundredth of a second.
    pub fn set_withheld(&self, reason: Withheld, holds: bool) {
        let before = if holds {
            self.hot.withheld.fetch_or(reason as u8, Relaxed)
        } else {
            self.hot.withheld.fetch_and(!(reason as u8), Relaxed)
        };
        if (before & reason as u8 != 0) != holds {
            // Releases: who sees this count sees the change.
            self.changes.fetch_add(1, Release);
        }
    }

    /// Takes over what active checks say of the endpoint, for all workers at once. To be told before the endpoint is in any
    /// set, and then at each [`Transition`](crate::health_check::Transition), by one thread at a time.
    pub fn note_health(&self, status: HealthStatus, now: Duration) {
        let reason = match status {
            HealthStatus::Unknown => Some(Withheld::Unchecked),
            HealthStatus::Unhealthy(_) => Some(Withheld::Unhealthy),
            HealthStatus::Healthy => None,
        };
        if reason.is_none() && HEALTH.into_iter().any(|reason| self.is_withheld_as(reason)) {
            let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
            self.hot.healthy_since_us.store(now_us, Relaxed);
        }
        // First what holds: there is no moment without a reason while one takes the place of another.
        if let Some(reason) = reason {
            self.set_withheld(reason, true);
        }
        for other in HEALTH.into_iter().filter(|other| Some(*other) != reason) {
            self.set_withheld(other, false);
        }
    }

    /// Puts the endpoint back into rotation as far as active checks took it out: its cluster has none any more.
    pub fn end_health_checks(&self) {
        for reason in HEALTH {
            self.set_withheld(reason, false);
        }
    }

    /// When active checks last found the endpoint healthy after they had not; zero if they never did.
    #[must_use]
    pub fn healthy_since(&self) -> Duration {
        Duration::from_micros(self.hot.healthy_since_us.load(Relaxed))
    }

    /// What outlier detection knows of the endpoint.
    #[must_use]
    pub fn outlier(&self) -> &OutlierRecord {
        &self.outlier
    }

    /// Its circuit breaker, without bounds unless some were set. It counts what its cluster's limits let it count.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// Puts the endpoint back into rotation as far as outlier detection took it out: its cluster has none any more.
    pub fn end_outlier_detection(&self) {
        self.outlier.reset();
        self.note_ejection();
    }

    /// Lets [`Withheld::Ejected`] say what the outlier record says: to be called by whoever changed it.
    pub(crate) fn note_ejection(&self) {
        let is_out = !self.outlier.is_in_service();
        // Read first: when all are out each pick asks, and a write would take the cache line from the other workers.
        if self.is_withheld_as(Withheld::Ejected) != is_out {
            self.set_withheld(Withheld::Ejected, is_out);
        }
    }

    /// How many balancers see the endpoint in this state.
    #[must_use]
    pub fn workers_in(&self, state: Connectivity) -> u32 {
        self.totals.workers[state.index()].load(Relaxed)
    }

    /// The state of all balancers' connections together: the first of ready, connecting, idle and failing that one of them has.
    ///
    /// gRPC aggregates so where a child may stay idle (gRFC A42, and the weighted_target policy of A28). The rule of a cluster, by
    /// which idle is connecting, holds where every endpoint is connected to at once; under pick_first those that stand by are
    /// idle for good.
    ///
    /// `None` while no balancer holds the endpoint. While workers change state the answer may mix two moments.
    #[must_use]
    pub fn connectivity(&self) -> Option<Connectivity> {
        use Connectivity::{Connecting, Idle, Ready, Shutdown, TransientFailure};
        let best_first = [Ready, Connecting, Idle, TransientFailure, Shutdown];
        best_first.into_iter().find(|state| self.workers_in(*state) > 0)
    }

    pub(crate) fn worker_entered(&self, state: Connectivity) {
        self.totals.workers[state.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn worker_left(&self, state: Connectivity) {
        self.totals.workers[state.index()].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::health_check::UnhealthyReason;

    fn endpoint(weight: u32) -> Endpoint {
        Endpoint::new(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 50051))), weight)
    }

    #[test]
    fn a_weight_is_never_below_one() {
        assert_eq!([endpoint(0).weight(), endpoint(1).weight(), endpoint(2).weight()], [1, 1, 2]);
    }

    #[test]
    fn a_load_report_apart_from_calls_is_kept_until_another_makes_sense() {
        let endpoint = endpoint(1);
        let config = LoadWeightConfig::default();
        let report =
            |utilization| LoadReport { utilization, requests_per_second: 100.0, errors_per_second: 0.0 };
        let second = Duration::from_secs(1);
        assert_eq!(endpoint.noted_load(), None);
        assert_eq!(endpoint.note_load(&report(f64::NAN), &config, second), None);
        assert_eq!(endpoint.noted_load(), None);
        let weight = endpoint.note_load(&report(0.5), &config, second).unwrap();
        assert_eq!((weight.get(), endpoint.noted_load()), (200.0, Some((weight, second))));
        assert_eq!(endpoint.note_load(&report(-1.0), &config, second * 2), None);
        assert_eq!(endpoint.noted_load(), Some((weight, second)));
        endpoint.forget_load();
        assert_eq!(endpoint.noted_load(), None);
    }

    #[test]
    fn an_endpoint_is_withheld_until_the_last_reason_is_gone() {
        let endpoint = endpoint(1);
        for reason in Withheld::ALL {
            endpoint.set_withheld(reason, true);
        }
        for reason in Withheld::ALL {
            assert!(endpoint.is_withheld() && endpoint.is_withheld_as(reason), "{}", reason.name());
            endpoint.set_withheld(reason, false);
            assert!(!endpoint.is_withheld_as(reason));
        }
        assert!(!endpoint.is_withheld());
    }

    #[test]
    fn active_checks_withhold_an_endpoint_until_they_find_it_healthy_and_remember_when() {
        let withheld = |endpoint: &Endpoint| -> Vec<Withheld> {
            Withheld::ALL.into_iter().filter(|reason| endpoint.is_withheld_as(*reason)).collect()
        };
        let endpoint = endpoint(1);
        endpoint.set_withheld(Withheld::Ejected, true);
        let unhealthy = HealthStatus::Unhealthy(UnhealthyReason::Failed);
        for (second, status, expected) in [
            (1, HealthStatus::Unknown, vec![Withheld::Ejected, Withheld::Unchecked]),
            (2, unhealthy, vec![Withheld::Unhealthy, Withheld::Ejected]),
            (3, HealthStatus::Healthy, vec![Withheld::Ejected]),
            (4, HealthStatus::Healthy, vec![Withheld::Ejected]),
        ] {
            endpoint.note_health(status, Duration::from_secs(second));
            assert_eq!(withheld(&endpoint), expected, "{status:?}");
        }
        assert_eq!(endpoint.healthy_since(), Duration::from_secs(3));
        endpoint.note_health(unhealthy, Duration::from_secs(5));
        endpoint.end_health_checks();
        assert_eq!(withheld(&endpoint), [Withheld::Ejected], "the other reasons are not theirs");
        assert_eq!(endpoint.healthy_since(), Duration::from_secs(3));
    }

    #[test]
    fn mean_latency_leaves_cancelled_attempts_out() {
        let endpoint = endpoint(1);
        assert_eq!(endpoint.mean_latency(), None);
        endpoint.record(Outcome::Cancelled, Duration::from_secs(60));
        endpoint.record(Outcome::Overtaken, Duration::from_secs(60));
        assert_eq!(endpoint.mean_latency(), None);
        endpoint.record(Outcome::Success, Duration::from_millis(10));
        endpoint.record(Outcome::Failure, Duration::from_millis(30));
        assert_eq!(endpoint.mean_latency(), Some(Duration::from_millis(20)));
        assert_eq!(endpoint.finished(Outcome::Success), 1);
        assert_eq!(endpoint.finished(Outcome::Failure), 1);
        assert_eq!((endpoint.finished(Outcome::Cancelled), endpoint.finished(Outcome::Overtaken)), (1, 1));
    }

    #[test]
    fn a_report_answers_for_others_and_the_process_for_itself() {
        let (endpoint, ms) = (endpoint(1), Duration::from_millis);
        let second = ms(1_000);
        assert_eq!(endpoint.answer(second, second), None, "nothing was reported");
        endpoint.call_started();
        endpoint.report(&ProbeAnswer { requests_in_flight: 5, latency: Some(ms(7)) }, second);
        endpoint.call_started();
        let answer = ProbeAnswer { requests_in_flight: 6, latency: Some(ms(7)) };
        assert_eq!(endpoint.answer(ms(2_000), second), Some(answer));
        assert_eq!(endpoint.answer(ms(2_001), second), None, "too old");
        endpoint.report(&ProbeAnswer { requests_in_flight: 0, latency: None }, Duration::ZERO);
        let answer = ProbeAnswer { requests_in_flight: 2, latency: None };
        assert_eq!(endpoint.answer(Duration::ZERO, second), Some(answer), "its own calls at least");
    }

    #[test]
    fn an_absurd_report_is_bounded() {
        let endpoint = endpoint(1);
        let answer = ProbeAnswer { requests_in_flight: u32::MAX, latency: Some(Duration::MAX) };
        endpoint.report(&answer, Duration::ZERO);
        let taken = endpoint.answer(Duration::ZERO, Duration::ZERO).unwrap();
        assert_eq!(taken.requests_in_flight, MOST_IN_FLIGHT);
        assert_eq!(taken.latency, Some(Duration::from_micros(u32::MAX.into())));
    }

    #[test]
    fn connectivity_is_the_best_that_any_worker_has() {
        let endpoint = endpoint(1);
        assert_eq!(endpoint.connectivity(), None);
        endpoint.worker_entered(Connectivity::TransientFailure);
        assert_eq!(endpoint.connectivity(), Some(Connectivity::TransientFailure));
        endpoint.worker_entered(Connectivity::Idle);
        assert_eq!(endpoint.connectivity(), Some(Connectivity::Idle), "nobody connects");
        endpoint.worker_entered(Connectivity::Connecting);
        assert_eq!(endpoint.connectivity(), Some(Connectivity::Connecting));
        endpoint.worker_entered(Connectivity::Ready);
        assert_eq!(endpoint.connectivity(), Some(Connectivity::Ready));
        endpoint.worker_left(Connectivity::Ready);
        assert_eq!(endpoint.connectivity(), Some(Connectivity::Connecting));
        endpoint.worker_left(Connectivity::Connecting);
        assert_eq!(endpoint.connectivity(), Some(Connectivity::Idle));
        endpoint.worker_left(Connectivity::Idle);
        assert_eq!(endpoint.connectivity(), Some(Connectivity::TransientFailure));
    }

    #[test]
    fn what_every_call_writes_shares_no_cache_line_with_the_rest() {
        assert_eq!(align_of::<Endpoint>(), 64);
        assert_eq!(size_of::<Hot>(), 64);
        assert_eq!(size_of::<Totals>(), 64);
        assert_eq!(size_of::<Endpoint>(), 384, "the bound of a set's memory counts on it");
    }
}
