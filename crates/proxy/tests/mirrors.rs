//! Copies of calls: what they hold of their cluster, and what they say of its endpoints.

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::{AdaptiveConfig, AdaptiveLimiter, MinRtt};
use evenkeel_balance::outlier::{OutlierConfig, OutlierDetector};
use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits};
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::mirror::Mirror;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::route::{Route, RouteActions, RouteTable};
use evenkeel_proxy::worker::snapshot::Listener;
use evenkeel_telemetry::{ClusterEvent, Ejected};

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);

/// All calls go to one cluster, and are copied to the other.
fn mirroring(calls: usize, cluster: usize) -> Listener {
    let mirror = Some(Mirror { cluster, part: 1_000_000 });
    let actions = Some(Arc::new(RouteActions { mirror, ..RouteActions::default() }));
    let routes = RouteTable::to_cluster(calls).get(0).cloned().map(|route| Route { actions, ..route });
    Listener::new("test", Limits::edge(), RouteTable::new(routes.into_iter().collect()))
}

/// A mirrored watch would else hold the place of a call of the mirror's own cluster for as long as it lives.
#[test]
fn a_copy_whose_answer_goes_on_for_a_second_gives_its_place_of_adaptive_concurrency_back() {
    let mut world = World::with_limits(&Accountant::new(u64::MAX), Limits::edge());
    let shadow = world.add_cluster("shadow", mirroring(0, 1));
    let min_rtt = MinRtt::Fixed(MS);
    let (min_limit, max_limit, initial_limit) = (1, 1, 1);
    let config = AdaptiveConfig { min_limit, max_limit, initial_limit, min_rtt, ..AdaptiveConfig::default() };
    let adaptive = Some(Arc::new(AdaptiveLimiter::new(config, Duration::ZERO)));
    world.limit_cluster(1, ClusterLimits { adaptive, ..ClusterLimits::default() });
    let client = world.client();
    world.peer(shadow).answers_headers_only = true;
    world.call(client, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(shadow).served, 1);
    world.reload(Listener::new("test", Limits::edge(), RouteTable::to_cluster(1)));
    let begun_at = world.now;
    world.call(client, b'S', 10);
    while world.peer(shadow).served == 1 && world.now < begun_at + MS * 2_000 {
        world.turn();
    }
    let waited = world.now - begun_at;
    assert!((MS * 990..MS * 1_010).contains(&waited), "{waited:?}");
    assert_eq!(world.peer(shadow).http2.stream_count(), 2, "the copy goes on");
}

#[test]
fn a_copy_that_is_ended_by_going_away_with_an_error_counts_against_its_backend_as_a_call_does() {
    for (code, ejected) in [(ErrorCode::INTERNAL_ERROR, 1), (ErrorCode::NO_ERROR, 0)] {
        let config = OutlierConfig { consecutive_failures: Some(1), ..OutlierConfig::default() };
        let detector = Arc::new(OutlierDetector::new(config, 2, Duration::ZERO));
        let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 2, |cluster, _| {
            cluster.outliers = Some(detector);
        });
        let copied = world.backends.clone();
        world.add_cluster("calls", mirroring(1, 0));
        let client = world.client();
        copied.iter().for_each(|backend| world.peer(*backend).is_silent = true);
        world.call(client, b'S', 10);
        world.turns(3);
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
        let asked = *copied.iter().find(|backend| world.peers[*backend].1.served == 1).unwrap();
        world.worker_may_connect = true;
        // GOAWAY whose last stream is 0 (RFC 9113 section 6.8).
        let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame.extend(code.0.to_be_bytes());
        world.peer(asked).raw = frame;
        world.turns(3);
        let counted = ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures);
        assert_eq!(world.telemetry.snapshot().cluster_event(counted), ejected, "{code:?}");
    }
}
