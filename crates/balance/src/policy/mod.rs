//! The policies: which of the candidates gets the next call.
//!
//! A folder per policy, with the same files: `mod.rs` (why, and the rule), `config.rs` where there is something to
//! configure, `pick.rs` (the picker), `tests.rs`. All pickers pass one suite besides (`balancer/tests`).
//!
//! A [`Picker`] holds only what its rule must remember, such as the place in a rotation. It learns of each candidate that
//! joins, leaves or changes its weight, so that it never rebuilds anything for one endpoint's sake, and it chooses a
//! position in the [`Candidates`], all of which are ready: health and draining are not a policy's business.

mod consistent;
mod estimate;
pub(crate) mod least_request;
mod maglev;
mod peak_ewma;
pub(crate) mod pick_first;
mod prequal;
mod random;
mod ring_hash;
mod round_robin;
mod turns;
mod weighted_round_robin;

use core::ops::Add;
use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::balancer::Slot;
use crate::call::{Ask, CallReport};
use crate::candidates::Candidates;
use crate::endpoint::{Endpoint, EndpointSet};
use crate::slow_start::SlowStart;

pub use consistent::{Affinity, BoundedLoad, BoundedLoadError};
pub(crate) use consistent::{HashTable, Share, TableKind};
pub use estimate::Learned;
pub use least_request::{Choice, LeastRequestConfig, SampleSize, SampleSizeError};
pub use maglev::{TableSize, TableSizeError};
pub use peak_ewma::PeakEwmaConfig;
pub use prequal::{LoadTracker, PrequalConfig, ProbeAnswer, ProbeCounts, ProbeSource};
pub use ring_hash::{RingSize, RingSizeError};
use weighted_round_robin::{AdaptiveRoundRobin, WeightSource};
pub use weighted_round_robin::{LoadSource, LoadWeightConfig, ReportedWeight};

/// How a cluster's endpoint is chosen for each call. Default: [`Policy::LeastRequest`] with a sample of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// All calls to the first endpoint of the list that can be reached ([gRFC A62]).
    ///
    /// [gRFC A62]: https://github.com/grpc/proposal/blob/master/A62-pick-first.md
    PickFirst {
        /// Whether each balancer shuffles the list first, so that not all of them take the same endpoint. Default false.
        shuffle: bool,
    },
    /// Each in turn, from a random start; weights are ignored.
    RoundRobin,
    /// In turn, each as often as its static weight says.
    WeightedRoundRobin,
    /// In turn, each as often as follows from the load that it reports ([gRFC A58], `weighted_round_robin` in gRPC's words,
    /// `client_side_weighted_round_robin` in Envoy's); static weights are ignored.
    ///
    /// [gRFC A58]: https://github.com/grpc/proposal/blob/master/A58-client-side-weighted-round-robin-lb-policy.md
    LoadWeightedRoundRobin(LoadWeightConfig),
    /// Any with equal probability; weights are ignored.
    Random,
    /// The one with the fewest calls in flight, of all workers, for its weight.
    LeastRequest(LeastRequestConfig),
    /// Of two random ones, the one that will probably answer first: by its latency, its calls in flight and its failures.
    PeakEwma(PeakEwmaConfig),
    /// The one with the lowest latency of those that are not hot, by answers to probes that the driver sends: see
    /// [`Balancer::wants_probe`](crate::Balancer::wants_probe).
    Prequal(PrequalConfig),
    /// The one to which a ring of hashes leads from the call's key ([gRFC A42]), so that calls with the same key meet the
    /// same endpoint.
    ///
    /// [gRFC A42]: https://github.com/grpc/proposal/blob/master/A42-xds-ring-hash-lb-policy.md
    RingHash {
        /// How many entries the ring has.
        size: RingSize,
        /// What happens when the key's endpoint cannot take the call.
        affinity: Affinity,
    },
    /// The one that a Maglev table names for the call's key; quicker and more even than a ring, with a few more keys that
    /// move when an endpoint comes or goes.
    Maglev {
        /// How many entries the table has.
        size: TableSize,
        /// What happens when the key's endpoint cannot take the call.
        affinity: Affinity,
    },
}

impl Default for Policy {
    fn default() -> Self {
        Self::LeastRequest(LeastRequestConfig::default())
    }
}

/// What became of the load reports that a balancer was given; 0 where the policy takes none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadReportCounts {
    /// Those that made sense.
    pub taken: u64,
    /// Those that did not, such as one with a negative utilization, or without calls per second.
    pub ignored: u64,
}

impl Add for LoadReportCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { taken: self.taken + other.taken, ignored: self.ignored + other.ignored }
    }
}

/// What a picker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The candidate at this position.
    At(usize),
    /// The candidate in this slot, which nothing withholds. For a policy that has the endpoint at hand: at 10,000 of them, to
    /// find it by its position is two more cache misses to wait for.
    Free(Slot),
    /// An endpoint that is no candidate as it is draining, but that no other can stand in for.
    Draining(Slot),
    /// None of the candidates, but an endpoint that is not ready yet: let the call wait.
    Wait,
    /// None: fail the call.
    Refuse,
}

/// What a policy does with the candidates.
pub(crate) trait Picker {
    /// Prepares for candidates from these slots and weights, so that a later [`Picker::added`] allocates nothing.
    fn reserve(&mut self, _slots: usize, _weights: &mut dyn Iterator<Item = u32>) {}

    /// There is a new set, with this slot for each place on its ring, of which the picker has this group. The slots that went
    /// have been removed already.
    fn listed(&mut self, _set: &EndpointSet, _group: usize, _members: &[Slot]) {}

    /// A candidate was appended at `position`, the last. The picker may move it elsewhere.
    fn added(&mut self, _candidates: &mut Candidates, _position: usize, _rng: &mut SmallRng) {}

    /// The candidate at `position` is about to be taken out by [`Candidates::swap_remove`]. The picker may move it first;
    /// it returns where it is then.
    fn removing(&mut self, _candidates: &mut Candidates, position: usize) -> usize {
        position
    }

    /// The candidate at `position` has a new weight.
    fn reweighed(&mut self, _candidates: &Candidates, _position: usize, _rng: &mut SmallRng) {}

    /// Chooses among the candidates, of which there is at least one, for a call of which `ask` is known.
    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict;

    /// As [`Picker::pick`], but none of `tried`. `None` when there is none, or where the rule knows no second choice: the
    /// balancer then picks a few times more, and after that any that was not tried.
    fn pick_excluding(
        &mut self,
        _candidates: &Candidates,
        _ask: &Ask,
        _tried: &[Slot],
        _rng: &mut SmallRng,
    ) -> Option<Verdict> {
        None
    }

    /// The endpoint that calls with this key belong to, whatever state it is in; `None` where the rule knows no keys.
    fn home(&self, _hash: u64) -> Option<Slot> {
        None
    }

    /// An attempt begins at this endpoint, most often the one just picked; its calls in flight count it already. The
    /// endpoint need not be a candidate any more.
    fn started(&mut self, _slot: Slot, _endpoint: &Endpoint, _now: Duration) {}

    /// An attempt at this endpoint ended; its calls in flight count it no more. Exactly once for each
    /// [`Picker::started`]. The endpoint need not be a candidate, nor listed, any more.
    fn finished(&mut self, _slot: Slot, _endpoint: &Endpoint, _report: &CallReport) {}

    /// The weight by reported load that is used now; `None` where there is none, or the rule knows no such weights.
    fn reported_weight(&self, _slot: Slot, _now: Duration) -> Option<ReportedWeight> {
        None
    }

    /// What is known of an endpoint from its calls; `None` where nothing is, and where the rule goes by nothing of the kind.
    fn learned(&self, _slot: Slot, _endpoint: &Endpoint, _now: Duration) -> Option<Learned> {
        None
    }

    fn load_reports(&self) -> LoadReportCounts {
        LoadReportCounts::default()
    }

    /// The next candidate to probe, and that it is probed now.
    fn poll_probe(&mut self, _candidates: &Candidates, _now: Duration, _rng: &mut SmallRng) -> Option<Slot> {
        None
    }

    /// When [`Picker::poll_probe`] may have something to do that no call causes.
    fn probe_deadline(&self) -> Option<Duration> {
        None
    }

    /// An answer came. The endpoint need not be a candidate, nor probed, any more.
    fn probe_answered(
        &mut self,
        _candidates: &Candidates,
        _slot: Slot,
        _answer: &ProbeAnswer,
        _now: Duration,
        _rng: &mut SmallRng,
    ) {
    }

    /// A probe could not be sent, or was answered by an error.
    fn probe_failed(&mut self, _slot: Slot) {}

    fn probe_counts(&self) -> ProbeCounts {
        ProbeCounts::default()
    }

    /// Answers to probes that are kept.
    fn probe_pool(&self) -> usize {
        0
    }
}

/// The picker of any policy. An enum, not a boxed trait object: the call is a jump, and may be inlined.
#[derive(Clone, Debug)]
pub(crate) enum PolicyPicker {
    PickFirst(pick_first::PickFirst),
    RoundRobin(round_robin::RoundRobin),
    /// Boxed, as its classes make it a hundred times as large as the others.
    WeightedRoundRobin(Box<weighted_round_robin::WeightedRoundRobin>),
    AdaptiveRoundRobin(Box<AdaptiveRoundRobin>),
    Random(random::Random),
    LeastRequest(least_request::LeastRequest),
    PeakEwma(peak_ewma::PeakEwma),
    Prequal(Box<prequal::Prequal>),
    Consistent(consistent::Consistent),
}

macro_rules! each_picker {
    ($this:expr, $picker:ident => $body:expr) => {
        match $this {
            Self::PickFirst($picker) => $body,
            Self::RoundRobin($picker) => $body,
            Self::WeightedRoundRobin($picker) => $body,
            Self::AdaptiveRoundRobin($picker) => $body,
            Self::Random($picker) => $body,
            Self::LeastRequest($picker) => $body,
            Self::PeakEwma($picker) => $body,
            Self::Prequal($picker) => $body,
            Self::Consistent($picker) => $body,
        }
    };
}

impl PolicyPicker {
    pub(crate) fn new(policy: Policy, slow_start: Option<SlowStart>) -> Self {
        match policy {
            Policy::PickFirst { .. } => Self::PickFirst(pick_first::PickFirst),
            Policy::RoundRobin => Self::RoundRobin(round_robin::RoundRobin::default()),
            Policy::WeightedRoundRobin if slow_start.is_some() => {
                Self::AdaptiveRoundRobin(Box::new(AdaptiveRoundRobin::new(WeightSource::Static, slow_start)))
            }
            Policy::WeightedRoundRobin => Self::WeightedRoundRobin(Box::default()),
            Policy::LoadWeightedRoundRobin(config) => {
                let source = WeightSource::Reported(config);
                Self::AdaptiveRoundRobin(Box::new(AdaptiveRoundRobin::new(source, slow_start)))
            }
            Policy::Random => Self::Random(random::Random),
            Policy::LeastRequest(config) => {
                Self::LeastRequest(least_request::LeastRequest::new(config, slow_start))
            }
            Policy::PeakEwma(config) => Self::PeakEwma(peak_ewma::PeakEwma::new(config, slow_start)),
            Policy::Prequal(config) => Self::Prequal(Box::new(prequal::Prequal::new(config, slow_start))),
            Policy::RingHash { size, affinity } => {
                Self::Consistent(consistent::Consistent::new(TableKind::Ring(size), affinity))
            }
            Policy::Maglev { size, affinity } => {
                Self::Consistent(consistent::Consistent::new(TableKind::Maglev(size), affinity))
            }
        }
    }
}

impl Picker for PolicyPicker {
    fn reserve(&mut self, slots: usize, weights: &mut dyn Iterator<Item = u32>) {
        each_picker!(self, picker => picker.reserve(slots, weights));
    }

    fn listed(&mut self, set: &EndpointSet, group: usize, members: &[Slot]) {
        each_picker!(self, picker => picker.listed(set, group, members));
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        each_picker!(self, picker => picker.added(candidates, position, rng));
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        each_picker!(self, picker => picker.removing(candidates, position))
    }

    fn reweighed(&mut self, candidates: &Candidates, position: usize, rng: &mut SmallRng) {
        each_picker!(self, picker => picker.reweighed(candidates, position, rng));
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        each_picker!(self, picker => picker.pick(candidates, ask, rng))
    }

    fn pick_excluding(
        &mut self,
        candidates: &Candidates,
        ask: &Ask,
        tried: &[Slot],
        rng: &mut SmallRng,
    ) -> Option<Verdict> {
        each_picker!(self, picker => picker.pick_excluding(candidates, ask, tried, rng))
    }

    fn home(&self, hash: u64) -> Option<Slot> {
        each_picker!(self, picker => picker.home(hash))
    }

    fn started(&mut self, slot: Slot, endpoint: &Endpoint, now: Duration) {
        each_picker!(self, picker => picker.started(slot, endpoint, now));
    }

    fn finished(&mut self, slot: Slot, endpoint: &Endpoint, report: &CallReport) {
        each_picker!(self, picker => picker.finished(slot, endpoint, report));
    }

    fn reported_weight(&self, slot: Slot, now: Duration) -> Option<ReportedWeight> {
        each_picker!(self, picker => picker.reported_weight(slot, now))
    }

    fn learned(&self, slot: Slot, endpoint: &Endpoint, now: Duration) -> Option<Learned> {
        each_picker!(self, picker => picker.learned(slot, endpoint, now))
    }

    fn load_reports(&self) -> LoadReportCounts {
        each_picker!(self, picker => picker.load_reports())
    }

    fn poll_probe(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) -> Option<Slot> {
        each_picker!(self, picker => picker.poll_probe(candidates, now, rng))
    }

    fn probe_deadline(&self) -> Option<Duration> {
        each_picker!(self, picker => picker.probe_deadline())
    }

    fn probe_answered(
        &mut self,
        candidates: &Candidates,
        slot: Slot,
        answer: &ProbeAnswer,
        now: Duration,
        rng: &mut SmallRng,
    ) {
        each_picker!(self, picker => picker.probe_answered(candidates, slot, answer, now, rng));
    }

    fn probe_failed(&mut self, slot: Slot) {
        each_picker!(self, picker => picker.probe_failed(slot));
    }

    fn probe_counts(&self) -> ProbeCounts {
        each_picker!(self, picker => picker.probe_counts())
    }

    fn probe_pool(&self) -> usize {
        each_picker!(self, picker => picker.probe_pool())
    }
}

/// Two distinct positions below `len`, each pair and each order equally likely; `None` where there are no two.
fn two_distinct(len: usize, rng: &mut SmallRng) -> Option<[usize; 2]> {
    if len < 2 {
        return None;
    }
    let first = rng.random_range(0..len);
    let second = rng.random_range(0..len - 1);
    Some([first, second + usize::from(second >= first)])
}
