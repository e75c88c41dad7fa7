//! What is measured: every policy, alone and with what a cluster may have besides.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_balance::outlier::{OutlierConfig, OutlierDetector};
use evenkeel_balance::{
    Address, Affinity, AttemptEnd, Balancer, BalancerConfig, BoundedLoad, Choice, Connectivity, EndpointSet,
    EndpointSpec, LeastRequestConfig, LoadWeightConfig, Localities, Locality, PeakEwmaConfig, Policy,
    PrequalConfig, ProbeSource, RingSize, SampleSize, SlowStart, SpreadConfig, TableSize, ZoneAware,
};
use evenkeel_grpc::Code;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Localities, in each of which are as many endpoints.
const ZONES: u32 = 8;
/// Priorities of which all endpoints are ready, so that the first one gets all calls.
const PRIORITIES: u32 = 3;
/// One endpoint in so many is ejected, where some are.
const EJECTED: usize = 100;

/// How an endpoint's weight is drawn.
type Weigh = fn(&mut SmallRng) -> u32;

/// What a cluster has besides its policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Besides {
    /// Nothing.
    #[default]
    Nothing,
    /// Localities, weighted alike.
    Localities,
    /// Priorities and localities, as many calls as possible in the proxy's own locality.
    ZoneAware,
    /// A slow start in which all endpoints are.
    SlowStart,
    /// Outlier detection that has ejected some, which get no call and are looked at with each pick.
    Outliers,
    /// Calls under way at every endpoint, as many as it weighs.
    Busy,
}

/// One row of the table.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) policy: Policy,
    weigh: Weigh,
    pub(super) besides: Besides,
}

impl Case {
    /// The name with what there is besides.
    pub(super) fn title(&self) -> String {
        let besides = match self.besides {
            Besides::Nothing => "",
            Besides::Localities => ", 8 localities",
            Besides::ZoneAware => ", 3 x 8 zones, aware",
            Besides::SlowStart => ", slow start",
            Besides::Outliers => ", 1 % ejected",
            Besides::Busy => ", all busy",
        };
        format!("{}{besides}", self.name)
    }

    /// Whether probes are answered.
    pub(super) fn answers_probes(&self) -> bool {
        self.name.contains("answered")
    }

    /// The endpoints, as discovery lists them.
    pub(super) fn listed(&self, endpoints: u32) -> Vec<EndpointSpec> {
        let mut rng = SmallRng::seed_from_u64(1);
        let (zones, priorities) = match self.besides {
            Besides::Localities => (ZONES, 1),
            Besides::ZoneAware => (ZONES, PRIORITIES),
            _ => (1, 1),
        };
        let spec = |number: u32| EndpointSpec {
            address: Address::Tcp(SocketAddr::from(((0x0a00_0000 + number).to_be_bytes(), 50051))),
            weight: (self.weigh)(&mut rng),
            priority: (number / zones % priorities) as u8,
            locality: (zones > 1).then(|| Arc::new(zone(number % zones))),
            draining: false,
        };
        (0..endpoints).map(spec).collect()
    }

    /// How calls are spread over localities.
    pub(super) fn spread(&self) -> Arc<SpreadConfig> {
        let localities = match self.besides {
            Besides::Localities => Localities::Weighted((0..ZONES).map(|number| (zone(number), 1)).collect()),
            Besides::ZoneAware => Localities::ZoneAware(ZoneAware {
                own: zone(0),
                min_cluster_size: 6,
                routing_enabled: 100,
                proxies: (0..ZONES).map(|number| (zone(number), 1 + number)).collect(),
            }),
            _ => Localities::Alike,
        };
        Arc::new(SpreadConfig { localities, ..SpreadConfig::default() })
    }

    /// The set of these endpoints, prepared for the policy.
    pub(super) fn set(&self, listed: &[EndpointSpec]) -> Arc<EndpointSet> {
        Arc::new(EndpointSet::of(listed, &self.spread()).prepared_for(self.policy))
    }

    /// A balancer that has a connection to each endpoint of the set.
    pub(super) fn connected(&self, set: &Arc<EndpointSet>) -> Balancer {
        // So long that all warm up from the first to the last pick.
        let slow_start = SlowStart { window: Duration::from_secs(3_600), ..SlowStart::default() };
        let config = BalancerConfig {
            policy: self.policy,
            slow_start: (self.besides == Besides::SlowStart).then_some(slow_start),
            ..BalancerConfig::default()
        };
        let mut balancer = Balancer::with_config(config, SmallRng::seed_from_u64(1));
        drop(balancer.update(set));
        connect(&mut balancer, Duration::ZERO);
        if self.besides == Besides::Outliers {
            eject_some(&mut balancer, set);
        }
        if self.besides == Besides::Busy {
            let slots: Vec<_> =
                balancer.slots().map(|status| (status.slot, status.endpoint.weight())).collect();
            for (slot, calls) in slots {
                (0..calls).for_each(|_| balancer.call_started(slot, Duration::ZERO));
            }
        }
        balancer
    }
}

/// Begins all connections that are wanted; all succeed.
pub(super) fn connect(balancer: &mut Balancer, now: Duration) {
    while let Some(slot) = balancer.wants_connection(now) {
        balancer.set_connectivity(slot, Connectivity::Ready, now);
    }
}

fn eject_some(balancer: &mut Balancer, set: &EndpointSet) {
    let config = OutlierConfig { base_ejection: Duration::from_secs(3_600), ..OutlierConfig::default() };
    let failures = config.consecutive_failures.unwrap_or(1);
    let number = u32::try_from(set.endpoints().len()).expect("a set has at most 65,536 endpoints");
    balancer.detect_outliers(Some(Arc::new(OutlierDetector::new(config, number, Duration::ZERO))));
    let slots: Vec<_> = balancer.slots().map(|status| status.slot).collect();
    for slot in slots.into_iter().step_by(EJECTED) {
        for _ in 0..failures {
            balancer.observe(slot, &AttemptEnd::status(Code::Unavailable), false, Duration::ZERO);
        }
    }
}

fn zone(number: u32) -> Locality {
    Locality { region: "region".into(), zone: format!("zone-{number}"), sub_zone: String::new() }
}

fn sample(count: u32) -> Policy {
    Policy::LeastRequest(LeastRequestConfig::of(Choice::Sample(
        SampleSize::try_from(count).expect("at least two are drawn"),
    )))
}

/// Every policy, alone.
fn policies() -> Vec<(&'static str, Policy, Weigh)> {
    let ring = |size, affinity| Policy::RingHash { size, affinity };
    let maglev = |affinity| Policy::Maglev { size: TableSize::default(), affinity };
    let own = PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() };
    let bounded = Affinity::Bounded(BoundedLoad::default());
    let equal: Weigh = |_| 1;
    let mixed: Weigh = |rng| rng.random_range(1..=1_000);
    let skewed: Weigh = |rng| if rng.random_ratio(1, 1_000) { 1_000 } else { 1 };
    vec![
        ("pick_first", Policy::PickFirst { shuffle: false }, equal),
        ("round_robin", Policy::RoundRobin, equal),
        ("weighted_round_robin, equal weights", Policy::WeightedRoundRobin, equal),
        ("weighted_round_robin, weights 1..1000", Policy::WeightedRoundRobin, mixed),
        ("weighted_round_robin, 1 in 1000 weighs 1000", Policy::WeightedRoundRobin, skewed),
        ("random", Policy::Random, equal),
        ("least_request, sample of 2", sample(2), equal),
        ("least_request, sample of 2, weights", sample(2), mixed),
        ("least_request, sample of 10", sample(10), equal),
        ("least_request, full scan", Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan)), equal),
        (
            "least_request, full scan, weights",
            Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan)),
            mixed,
        ),
        ("weighted_round_robin, by load", Policy::LoadWeightedRoundRobin(LoadWeightConfig::default()), equal),
        ("peak_ewma", Policy::PeakEwma(PeakEwmaConfig::default()), equal),
        ("peak_ewma, weights", Policy::PeakEwma(PeakEwmaConfig::default()), mixed),
        ("prequal, all probes answered", Policy::Prequal(PrequalConfig::default()), equal),
        ("prequal, no probe sent", Policy::Prequal(PrequalConfig::default()), equal),
        ("prequal, own knowledge", Policy::Prequal(own), equal),
        ("ring_hash", ring(RingSize::default(), Affinity::Rehash), equal),
        ("ring_hash, sized as gRPC's", ring(RingSize::GRPC, Affinity::Rehash), equal),
        ("ring_hash, bounded load", ring(RingSize::default(), bounded), equal),
        ("ring_hash, bounded load, weights", ring(RingSize::default(), bounded), mixed),
        ("ring_hash, no other endpoint", ring(RingSize::default(), Affinity::Fail), equal),
        ("maglev", maglev(Affinity::Rehash), equal),
        ("maglev, bounded load", maglev(bounded), equal),
        ("maglev, bounded load, weights", maglev(bounded), mixed),
        ("maglev, no other endpoint", maglev(Affinity::Fail), equal),
    ]
}

/// Which policies are measured with this besides: one of each kind.
fn is_measured_with(besides: Besides, name: &str) -> bool {
    let heeds_weights = [
        "weighted_round_robin, weights 1..1000",
        "weighted_round_robin, by load",
        "least_request, sample of 2",
        "least_request, sample of 2, weights",
        "least_request, full scan",
        "least_request, full scan, weights",
        "peak_ewma",
        "prequal, all probes answered",
        "prequal, own knowledge",
    ];
    let others = [
        "pick_first",
        "round_robin",
        "random",
        "ring_hash",
        "ring_hash, bounded load",
        "maglev, bounded load",
    ];
    match besides {
        Besides::Nothing => true,
        Besides::SlowStart => heeds_weights.contains(&name),
        Besides::Busy => name.starts_with("least_request"),
        // Under pick_first a call has no choice, and one that is ejected is not connected to.
        Besides::Outliers if name == "pick_first" => false,
        Besides::Localities | Besides::ZoneAware | Besides::Outliers => {
            heeds_weights.contains(&name) || others.contains(&name)
        }
    }
}

/// All rows.
pub(super) fn cases() -> Vec<Case> {
    let all = [
        Besides::Nothing,
        Besides::Localities,
        Besides::ZoneAware,
        Besides::SlowStart,
        Besides::Outliers,
        Besides::Busy,
    ];
    let with = |besides: Besides| {
        let measured = policies().into_iter().filter(move |(name, ..)| is_measured_with(besides, name));
        measured.map(move |(name, policy, weigh)| Case { name, policy, weigh, besides })
    };
    all.into_iter().flat_map(with).collect()
}
