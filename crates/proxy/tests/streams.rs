//! What streams tell of their backends: nothing by their length, and nothing by the bounds on time that end them.

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::canary::Observed;
use evenkeel_balance::outlier::{OutlierConfig, OutlierDetector, TRIAL_SETTLES_AFTER};
use evenkeel_balance::{PeakEwmaConfig, Policy, PrequalConfig, ProbeSource};
use evenkeel_grpc::Code;
use evenkeel_http2::{Limits, StreamKey};
use evenkeel_proxy::worker::mirror::Mirror;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::route::{Route, RouteActions, Split, Versions};
use evenkeel_proxy::worker::snapshot::Cluster;
use evenkeel_telemetry::{ClusterEvent, Ejected};

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn world(backends: u16, adjust: impl FnOnce(&mut Cluster, &mut Route)) -> (World, usize) {
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), backends, adjust);
    let client = world.client();
    (world, client)
}

/// A world with outlier detection.
fn watched(backends: u16, adjust: impl FnOnce(&mut Route)) -> (World, usize) {
    let detector = OutlierDetector::new(OutlierConfig::default(), backends.into(), Duration::ZERO);
    world(backends, |cluster, route| {
        cluster.outliers = Some(Arc::new(detector));
        adjust(route);
    })
}

/// Opens a stream whose request is complete. Returns it, its backend's number, and it there.
fn open(world: &mut World, client: usize, fields: &[(&str, &str)]) -> (StreamKey, usize, StreamKey) {
    for backend in world.backends.clone() {
        let peer = world.peer(backend);
        peer.is_silent = true;
        peer.begun.clear();
    }
    let now = world.now;
    let stream = world.peer(client).begin(now, fields);
    world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).expect("it is open");
    world.turn();
    let begun = |world: &World, number: usize| world.peers[&world.backends[number]].1.begun.first().copied();
    let numbers = 0..world.backends.len();
    let (number, there) = numbers
        .filter_map(|number| Some((number, begun(world, number)?)))
        .next()
        .expect("one backend has it");
    for backend in world.backends.clone() {
        world.peer(backend).is_silent = false;
    }
    (stream, number, there)
}

/// Opens a stream, and lets its backend send a first message, as soon as it answers other calls.
fn watch(world: &mut World, client: usize, fields: &[(&str, &str)]) -> (StreamKey, usize, StreamKey) {
    let (stream, number, there) = open(world, client, fields);
    let (now, backend) = (world.now, world.backends[number]);
    world.peer(backend).begin_answer(now, there);
    world.turns(2);
    (stream, number, there)
}

fn counted(world: &World, event: ClusterEvent) -> u64 {
    world.telemetry.snapshot().cluster_event(event)
}

fn ejections(world: &World) -> u64 {
    let reasons = [
        Ejected::ConsecutiveFailures,
        Ejected::SuccessRate,
        Ejected::FailurePercentage,
        Ejected::TrialFailed,
    ];
    reasons.into_iter().map(|reason| counted(world, ClusterEvent::OutlierEjected(reason))).sum()
}

/// Ejects the backend with this number by calls that fail.
fn eject(world: &mut World, client: usize, number: usize) {
    let backend = world.backends[number];
    world.peer(backend).fails_with = Some((Code::Unavailable, Vec::new()));
    for _ in 0..20 {
        world.call(client, b'S', 10);
    }
    world.turns(3);
    world.peer(backend).fails_with = None;
    assert_eq!(ejections(world), 1);
}

#[test]
fn a_deadline_ejects_who_delivered_nothing_and_nobody_who_delivered_a_message() {
    for is_delivering in [true, false] {
        let (mut world, client) = watched(3, |_| {});
        for round in 0..24 {
            let fields = [("grpc-timeout", "200m")];
            if is_delivering {
                watch(&mut world, client, &fields);
            } else {
                open(&mut world, client, &fields);
            }
            world.turns(200);
            assert_eq!(world.peer(client).ends.pop(), Some(End::Status(Code::DeadlineExceeded)));
            // In turn: the fifth failure of the first backend is that of round 12.
            let expected = u64::from(!is_delivering && round >= 12);
            assert_eq!(ejections(&world), expected, "round {round}");
        }
        assert_eq!((world.worker.call_count(), world.in_flight()), (0, 0));
    }
}

#[test]
fn a_watch_that_its_client_cancels_at_the_deadline_and_one_that_the_route_ends_served_too() {
    for route_timeout in [None, Some(200 * MS)] {
        let (mut world, client) = watched(3, |route| route.timeout = route_timeout);
        for _ in 0..24 {
            let fields: &[_] = if route_timeout.is_none() { &[("grpc-timeout", "200m")] } else { &[] };
            let (stream, ..) = watch(&mut world, client, fields);
            if route_timeout.is_none() {
                world.turns(190);
                world.peer(client).cancel(stream);
            }
            world.turns(200);
        }
        assert_eq!((ejections(&world), world.worker.call_count()), (0, 0));
    }
}

#[test]
fn a_backend_that_tells_the_deadline_first_served_and_one_that_tells_it_early_failed() {
    // 20 ms and a twentieth before the end of 200 ms.
    for (after, expected) in [(180, 0), (100, 1)] {
        let (mut world, client) = watched(3, |_| {});
        for _ in 0..24 {
            let (_, number, there) = watch(&mut world, client, &[("grpc-timeout", "200m")]);
            world.turns(after);
            let backend = world.backends[number];
            world.peer(backend).end_answer(there, Code::DeadlineExceeded);
            world.turns(2);
        }
        assert_eq!(ejections(&world), expected, "after {after} of 200 ms");
    }
}

#[test]
fn a_stream_that_breaks_after_messages_is_a_failure_as_ever() {
    let (mut world, client) = watched(3, |_| {});
    for _ in 0..15 {
        let (_, number, there) = watch(&mut world, client, &[("grpc-timeout", "200m")]);
        let backend = world.backends[number];
        world.peer(backend).break_off(there);
        world.turns(2);
    }
    assert_eq!(ejections(&world), 1);
}

#[test]
fn trials_that_are_streams_bring_a_backend_back_a_second_after_their_first_messages() {
    let (mut world, client) = watched(3, |_| {});
    eject(&mut world, client, 1);
    world.now += 34 * SECOND;
    let mut trials = Vec::new();
    while trials.len() < 3 {
        let (_, number, there) = watch(&mut world, client, &[]);
        if number == 1 {
            trials.push(there);
            // One at a time, until it is settled: the first message came two turns ago.
            world.turn_at(world.now + TRIAL_SETTLES_AFTER - 4 * MS);
            assert_eq!(counted(&world, ClusterEvent::OutlierReturned), 0);
            world.turns(4);
        }
    }
    assert_eq!(counted(&world, ClusterEvent::OutlierReturned), 1);
    // Their ends are now like any other's: five failures in a row eject.
    let backend = world.backends[1];
    for there in trials {
        world.peer(backend).break_off(there);
    }
    world.turns(2);
    assert_eq!(ejections(&world), 1, "three of five");
}

#[test]
fn a_trial_stream_that_breaks_within_a_second_fails() {
    let (mut world, client) = watched(3, |_| {});
    eject(&mut world, client, 1);
    world.now += 34 * SECOND;
    let there = loop {
        let (_, number, there) = watch(&mut world, client, &[]);
        if number == 1 {
            break there;
        }
    };
    world.turn_at(world.now + TRIAL_SETTLES_AFTER - 10 * MS);
    let backend = world.backends[1];
    world.peer(backend).break_off(there);
    world.turns(2);
    assert_eq!(counted(&world, ClusterEvent::OutlierEjected(Ejected::TrialFailed)), 1);
    world.turn_at(world.now + 2 * SECOND);
    assert_eq!(counted(&world, ClusterEvent::OutlierReturned), 0);
}

/// What one of three backends gets of 900 calls after a stream there of 20 s that ended well.
fn share_after_a_stream(policy: Policy) -> usize {
    let (mut world, client) = world(3, |cluster, _| cluster.policy = policy);
    let load = |world: &mut World, turns: usize| {
        for _ in 0..turns {
            for _ in 0..9 {
                world.call(client, b'S', 10);
            }
            world.turns(3);
        }
    };
    load(&mut world, 100);
    let (_, number, there) = watch(&mut world, client, &[]);
    let backend = world.backends[number];
    for _ in 0..20 {
        world.turn_at(world.now + SECOND);
        let now = world.now;
        world.peer(backend).deliver(now, there);
    }
    world.peer(backend).end_answer(there, Code::Ok);
    world.turns(3);
    let before = world.peer(backend).served;
    load(&mut world, 100);
    world.peer(backend).served - before
}

#[test]
fn a_stream_that_ended_well_leaves_its_backend_its_calls() {
    let own = PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() };
    for policy in [
        Policy::PeakEwma(PeakEwmaConfig::default()),
        Policy::Prequal(PrequalConfig::default()),
        Policy::Prequal(own),
    ] {
        let share = share_after_a_stream(policy);
        // A third; with 20 s for a latency it gets next to none.
        assert!((200..=400).contains(&share), "{share} of 900 under {policy:?}");
    }
}

#[test]
fn a_latency_runs_from_when_there_was_something_to_answer_to_the_first_message() {
    let (mut world, client) = world(1, |_, _| {});
    let backend = world.backends[0];
    world.peer(backend).is_silent = true;
    // Opened, and asked a minute later; answered after 30 ms, ended after another minute.
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    world.turns(2);
    world.turn_at(world.now + 60 * SECOND);
    let now = world.now;
    world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", false).unwrap();
    world.turns(30);
    let there = world.peer(backend).begun[0];
    let now = world.now;
    world.peer(backend).begin_answer(now, there);
    world.turns(2);
    world.turn_at(world.now + 60 * SECOND);
    world.peer(backend).end_answer(there, Code::Ok);
    world.turns(3);
    assert_eq!(world.mean_latency(), Some(30 * MS));
    // An upload of a minute, and 50 ms from its end to its answer.
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", false).unwrap();
    world.turns(2);
    world.turn_at(world.now + 60 * SECOND);
    let now = world.now;
    world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
    world.turns(50);
    let (now, there) = (world.now, world.peer(backend).begun[1]);
    world.peer(backend).begin_answer(now, there);
    world.peer(backend).end_answer(there, Code::Ok);
    world.turns(3);
    assert_eq!(world.mean_latency(), Some(40 * MS));
    // Without an answer: until the end.
    open(&mut world, client, &[("grpc-timeout", "100m")]);
    world.turns(200);
    let mean = world.mean_latency().unwrap();
    assert!((59 * MS..=61 * MS).contains(&mean), "{mean:?}");
}

/// A world of one version of a canary, with its counts: calls and errors.
fn versioned(actions: RouteActions) -> (World, usize, impl Fn() -> (u64, u64)) {
    let observed = Arc::<Observed>::default();
    let versions = Versions { stable: 1, canary: 0, observed: Arc::clone(&observed) };
    let (world, client) = world(1, |_, route| {
        route.actions = Some(Arc::new(actions));
        route.destination = Split::to(0).with_versions(versions);
    });
    let counts = move || (observed.totals().canary.calls, observed.totals().canary.errors);
    (world, client, counts)
}

#[test]
fn a_version_of_a_canary_served_the_streams_that_a_bound_on_time_ended() {
    let bounds = [
        RouteActions::default(),
        RouteActions { max_stream_duration: Some(SECOND), ..RouteActions::default() },
        RouteActions { stream_idle_timeout: Some(SECOND), ..RouteActions::default() },
    ];
    for (number, actions) in bounds.into_iter().enumerate() {
        let (mut world, client, counts) = versioned(actions);
        let fields: &[_] = if number == 0 { &[("grpc-timeout", "1S")] } else { &[] };
        watch(&mut world, client, fields);
        world.turn_at(world.now + 2 * SECOND);
        world.turns(3);
        assert_eq!((counts(), world.worker.call_count()), ((1, 0), 0), "bound {number}");
        // What breaks is still an error.
        let (_, _, there) = watch(&mut world, client, fields);
        let backend = world.backends[0];
        world.peer(backend).break_off(there);
        world.turns(3);
        assert_eq!(counts(), (2, 1), "bound {number}");
        // Without a message a deadline is the version's, as is its silence; a stream that was only long says nothing.
        open(&mut world, client, fields);
        world.turn_at(world.now + 2 * SECOND);
        world.turns(3);
        let expected = if number == 1 { (2, 1) } else { (3, 2) };
        assert_eq!((counts(), world.worker.call_count()), (expected, 0), "bound {number}");
    }
}

#[test]
fn a_drain_that_cuts_a_stream_off_says_so_and_blames_no_version() {
    let (mut world, client, counts) = versioned(RouteActions::default());
    watch(&mut world, client, &[]);
    let now = world.now;
    world.worker.abort(now);
    world.turns(2);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    let message = world.peer(client).ended_with.iter().find(|(name, _)| name == "grpc-message").cloned();
    let text = message.expect("it says why").1;
    assert_eq!(text, "the proxy is shutting down: its drain grace is over");
    assert_eq!(counts(), (1, 0));
}

#[test]
fn a_copy_of_a_watch_that_its_deadline_ends_ejects_nobody() {
    let detector = OutlierDetector::new(OutlierConfig::default(), 1, Duration::ZERO);
    let detector = Arc::new(detector);
    let (mut world, client) = world(1, |cluster, route| {
        cluster.outliers = Some(Arc::clone(&detector));
        let mirror = Some(Mirror { cluster: 0, part: 1_000_000 });
        route.actions = Some(Arc::new(RouteActions { mirror, ..RouteActions::default() }));
    });
    let backend = world.backends[0];
    for _ in 0..10 {
        open(&mut world, client, &[("grpc-timeout", "200m")]);
        let (now, both) = (world.now, world.peer(backend).begun.clone());
        assert_eq!(both.len(), 2, "the call and its copy");
        for there in both {
            world.peer(backend).begin_answer(now, there);
        }
        world.turns(250);
    }
    assert_eq!((detector.held_back(), detector.out(), world.in_flight()), (0, 0, 0));
}
