//! A backend whose calls fail leaves rotation, is tried with single calls, and comes back.

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::health_check::{HealthStatus, UnhealthyReason};
use evenkeel_balance::outlier::{OutlierChange, OutlierConfig, OutlierDetector};
use evenkeel_balance::{EndpointSpec, PanicMode, SpreadConfig};
use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits};
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::{EndpointChange, TransportEnd};
use evenkeel_telemetry::{ClusterEvent, Ejected, ResponseFlag};

use self::peers::{End, World};

/// Three backends and a client that makes ten calls a turn.
fn world(outliers: Option<OutlierConfig>) -> (World, usize) {
    let detector = outliers.map(|config| Arc::new(OutlierDetector::new(config, 3, Duration::ZERO)));
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 3, |cluster, _| {
        cluster.outliers = detector;
    });
    let client = world.client();
    (world, client)
}

fn load(world: &mut World, client: usize, turns: usize) {
    for _ in 0..turns {
        for _ in 0..10 {
            world.call(client, b'S', 10);
        }
        world.turn();
    }
    world.turns(2);
}

fn served(world: &World) -> Vec<usize> {
    world.backends.iter().map(|backend| world.peers[backend].1.served).collect()
}

#[test]
fn a_backend_that_fails_every_call_gets_a_handful_of_a_thousand_and_its_share_when_it_works_again() {
    let (mut world, client) = world(Some(OutlierConfig::default()));
    let broken = world.backends[1];
    world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    load(&mut world, client, 100);
    let hits = served(&world)[1];
    // Five in a row, and those that were on their way when the fifth came.
    assert!((5..=12).contains(&hits), "{:?}", served(&world));
    let ends = core::mem::take(&mut world.peer(client).ends);
    assert_eq!(ends.len(), 1000);
    assert_eq!(ends.iter().filter(|end| **end == End::Status(Code::Unavailable)).count(), hits);
    let EndpointChange { cluster, endpoint, change } = world.worker.poll_endpoint_change().unwrap();
    assert_eq!((&*cluster, &*endpoint), ("test", "127.0.0.1:2"));
    assert!(matches!(change, OutlierChange::Ejected { .. }));
    let counted = |world: &World, event| world.telemetry.snapshot().cluster_event(event);
    assert_eq!(counted(&world, ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures)), 1);

    world.now += Duration::from_secs(34);
    load(&mut world, client, 100);
    assert_eq!(served(&world)[1], hits + 1, "one call tried it");
    assert_eq!(counted(&world, ClusterEvent::OutlierEjected(Ejected::TrialFailed)), 1);

    world.peer(broken).fails_with = None;
    world.now += Duration::from_secs(67);
    load(&mut world, client, 100);
    let share = served(&world)[1] - hits - 1;
    assert!((280..=334).contains(&share), "{share} of 1000");
    assert_eq!(counted(&world, ClusterEvent::OutlierReturned), 1);
}

#[test]
fn an_endpoint_that_only_the_cap_keeps_in_rotation_is_counted_and_told_once_in_an_interval() {
    let (mut world, client) = world(Some(OutlierConfig::default()));
    for broken in [world.backends[0], world.backends[1]] {
        world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    }
    load(&mut world, client, 10);
    let counted = |world: &World, event| world.telemetry.snapshot().cluster_event(event);
    assert_eq!(counted(&world, ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures)), 1);
    assert_eq!(counted(&world, ClusterEvent::EjectionHeldBack), 1);
    let ejected = world.worker.poll_endpoint_change().unwrap();
    assert!(matches!(ejected.change, OutlierChange::Ejected { .. }), "{ejected:?}");
    let held_back = world.worker.poll_endpoint_change().unwrap();
    assert!(matches!(held_back.change, OutlierChange::HeldBack { .. }), "{held_back:?}");
    assert_ne!(ejected.endpoint, held_back.endpoint);
    assert_eq!(world.worker.poll_endpoint_change(), None);

    world.now += Duration::from_secs(11);
    load(&mut world, client, 10);
    assert_eq!(counted(&world, ClusterEvent::EjectionHeldBack), 2);
}

#[test]
fn without_outlier_detection_a_third_of_the_calls_fails() {
    let (mut world, client) = world(None);
    let broken = world.backends[1];
    world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    load(&mut world, client, 30);
    assert_eq!(served(&world), [100; 3]);
    assert_eq!(world.worker.poll_endpoint_change(), None);
}

#[test]
fn refused_streams_eject_nobody_though_their_calls_fail() {
    let config = OutlierConfig { consecutive_failures: Some(1), ..OutlierConfig::default() };
    let (mut world, client) = world(Some(config));
    let backends = world.backends.clone();
    for backend in &backends {
        world.peer(*backend).is_silent = true;
    }
    let mut asked = vec![0; backends.len()];
    for _ in 0..10 {
        world.call(client, b'S', 10);
        for _ in 0..2 {
            world.turns(2);
            for (backend, seen) in backends.iter().zip(&mut asked) {
                let peer = world.peer(*backend);
                for stream in peer.begun.split_off(*seen) {
                    peer.begun.push(stream);
                    peer.http2.reset(&mut peer.fields, stream, ErrorCode::REFUSED_STREAM);
                }
                *seen = peer.begun.len();
            }
        }
    }
    world.turns(2);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable); 10]);
    assert_eq!(asked.iter().sum::<usize>(), 20);
    assert_eq!(world.worker.poll_endpoint_change(), None);
}

#[test]
fn going_away_in_good_order_ejects_nobody_though_a_call_meets_it_twice() {
    for (code, is_ejected) in [(ErrorCode::NO_ERROR, false), (ErrorCode::INTERNAL_ERROR, true)] {
        let config = OutlierConfig { consecutive_failures: Some(1), ..OutlierConfig::default() };
        let (mut world, client) = world(Some(config));
        let backends = world.backends.clone();
        backends.iter().for_each(|backend| world.peer(*backend).is_silent = true);
        world.worker_may_connect = true;
        world.call(client, b'S', 10);
        world.turns(2);
        for _ in 0..2 {
            let asked = |backend: &&usize| !world.peers[*backend].1.begun.is_empty();
            let backend = *backends.iter().rev().find(asked).unwrap();
            // GOAWAY whose last stream is 0 (RFC 9113 section 6.8).
            let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            frame.extend(code.0.to_be_bytes());
            world.peer(backend).begun.clear();
            world.peer(backend).raw = frame;
            world.turns(2);
        }
        assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)], "{code:?}");
        assert_eq!(world.worker.poll_endpoint_change().is_some(), is_ejected, "{code:?}");
    }
}

#[test]
fn callers_errors_and_cancelled_calls_eject_nobody() {
    for code in [Code::NotFound, Code::InvalidArgument, Code::Cancelled, Code::ResourceExhausted] {
        let (mut world, client) = world(Some(OutlierConfig::default()));
        let blamed = world.backends[1];
        world.peer(blamed).fails_with = Some((code, Vec::new()));
        load(&mut world, client, 30);
        assert_eq!(served(&world), [100; 3], "{code:?}");
    }
    let (mut world, client) = world(Some(OutlierConfig::default()));
    let silent = world.backends[1];
    world.peer(silent).is_silent = true;
    for _ in 0..30 {
        let now = world.now;
        let streams: Vec<_> = (0..3).map(|_| world.peer(client).begin(now, &[])).collect();
        world.turn();
        for stream in streams {
            world.peer(client).cancel(stream);
        }
        world.turn();
    }
    assert_eq!(world.worker.poll_endpoint_change(), None);
}

#[test]
fn of_trials_that_their_clients_cancel_there_is_one_in_the_time_that_a_trial_may_take() {
    let config = OutlierConfig::default();
    let (mut world, client) = world(Some(config));
    let broken = world.backends[1];
    world.peer(broken).fails_with = Some((Code::Unavailable, Vec::new()));
    load(&mut world, client, 10);
    (world.peer(broken).fails_with, world.peer(broken).is_silent) = (None, true);
    let asked = world.peer(broken).begun.len();
    world.now += Duration::from_secs(34);
    for trials in 1..=3 {
        for _ in 0..20 {
            let now = world.now;
            let stream = world.peer(client).begin(now, &[]);
            world.turn();
            world.peer(client).cancel(stream);
            world.turn();
        }
        assert_eq!(world.peer(broken).begun.len(), asked + trials);
        world.now += config.trial_timeout;
    }
}

#[test]
fn a_client_that_cancels_at_its_deadline_has_waited_for_the_backend() {
    // 20 ms and a twentieth before the end of 200 ms.
    for (after, is_deadline) in [(100, false), (168, false), (172, true), (198, true)] {
        let (mut world, client) = world(Some(OutlierConfig::default()));
        for backend in world.backends.clone() {
            world.peer(backend).is_silent = true;
        }
        for _ in 0..8 {
            let now = world.now;
            let streams: Vec<_> =
                (0..3).map(|_| world.peer(client).begin(now, &[("grpc-timeout", "200m")])).collect();
            world.turns(after);
            for stream in streams {
                world.peer(client).cancel(stream);
            }
            world.turn();
        }
        let counted = |event| world.telemetry.snapshot().cluster_event(event);
        let ejected = counted(ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures));
        let late = counted(ClusterEvent::LocalReply(ResponseFlag::UpstreamTimeout));
        let cancelled = counted(ClusterEvent::LocalReply(ResponseFlag::DownstreamReset));
        let expected = if is_deadline { (1, 24, 0) } else { (0, 0, 24) };
        assert_eq!((ejected, late, cancelled), expected, "after {after} ms of 200");
        assert_eq!((world.worker.call_count(), world.in_flight()), (0, 0));
    }
}

#[test]
fn a_cluster_that_discovery_has_not_found_yet_has_nothing_to_sweep() {
    let detector = Arc::new(OutlierDetector::new(OutlierConfig::default(), 0, Duration::ZERO));
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 1, |cluster, _| {
        (cluster.endpoints, cluster.outliers) = (None, Some(detector));
    });
    world.now += 2 * OutlierConfig::default().interval;
    world.turns(3);
    assert_eq!(world.worker.usage().timers, 0);
}

#[test]
fn an_ejected_backend_that_is_the_last_serves_and_is_back_after_three_trials() {
    let detector = Arc::new(OutlierDetector::new(OutlierConfig::default(), 2, Duration::ZERO));
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 2, |cluster, _| {
        cluster.outliers = Some(detector);
    });
    let client = world.client();
    let [last, other] = world.backends[..] else { panic!("there are two") };
    world.peer(last).fails_with = Some((Code::Unavailable, Vec::new()));
    load(&mut world, client, 3);
    let counted = |world: &World, event| world.telemetry.snapshot().cluster_event(event);
    assert_eq!(counted(&world, ClusterEvent::OutlierEjected(Ejected::ConsecutiveFailures)), 1);
    world.peer(last).fails_with = None;
    let lost = world.peers[&other].0;
    world.refused.push(2);
    world.worker.ended(world.now, lost, TransportEnd::Reset);
    world.now += Duration::from_secs(34);
    world.turns(3);
    let served = world.peer(last).served;
    for returned in [0, 0, 1] {
        world.call(client, b'S', 10);
        world.turns(3);
        assert_eq!(counted(&world, ClusterEvent::OutlierReturned), returned);
    }
    assert_eq!(world.peer(last).served, served + 3);
}

/// Its calls have no end at an endpoint, where changes are looked for else.
#[test]
fn a_panic_whose_calls_fail_is_told_with_the_first_of_them() {
    let mut listed = None;
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 3, |cluster, _| {
        let spread =
            SpreadConfig { panic: PanicMode { threshold: 50, fails: true }, ..SpreadConfig::default() };
        let before = cluster.endpoints.take().unwrap();
        let specs = before.endpoints().iter().map(|one| EndpointSpec::from((one.address().clone(), 1)));
        let specs: Vec<EndpointSpec> = specs.collect();
        cluster.endpoints = Some(Arc::new(before.followed_by(&specs, &Arc::new(spread))));
        listed.clone_from(&cluster.endpoints);
    });
    let client = world.client();
    let unhealthy = HealthStatus::Unhealthy(UnhealthyReason::NotServing);
    for endpoint in &listed.unwrap().endpoints()[..2] {
        endpoint.note_health(unhealthy, world.now);
    }
    world.call(client, 0, 1);
    world.turns(3);
    assert_eq!(served(&world), [0; 3]);
    assert_eq!(world.telemetry.snapshot().cluster_event(ClusterEvent::PanicBegan), 1);
    let told = world.worker.poll_panic().unwrap();
    assert_eq!((told.change.available, told.change.total, told.change.fails), (1, 3, true));
    assert_eq!(world.worker.poll_panic(), None);
}
