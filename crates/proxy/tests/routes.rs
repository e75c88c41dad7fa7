//! What a route does to its calls, among peers.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::{BreakerLimits, CircuitBreaker, RateLimit, RateLimiter, Resource, Scope};
use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits, OpenError, StreamKey};
use evenkeel_proxy::worker::fault::Fault;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::limit::rate::RouteRateLimit;
use evenkeel_proxy::worker::mirror::Mirror;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::rewrite::{MetadataChange, Rewrite};
use evenkeel_proxy::worker::route::{Route, RouteActions, RouteTable};
use evenkeel_proxy::worker::snapshot::{Listener, MaxAge};
use evenkeel_proxy::worker::{Action, TransportEnd};

use evenkeel_telemetry::{ClusterEvent, Injected, Mirrored, ResponseFlag, RouteEvent, RouteEvents};

use peers::{End, World};

/// A world whose only route does this.
fn world(actions: RouteActions) -> World {
    World::with_backends(&Accountant::new(1 << 30), Limits::edge(), 1, |_, route| {
        route.actions = Some(Arc::new(actions));
    })
}

/// Values of a field.
fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
}

fn rewriting() -> World {
    let change = || MetadataChange::default().set("x-set", "ours").add("x-add", "ours").remove("x-remove");
    let rewrite = Rewrite {
        request: change(),
        response: MetadataChange::default().add("x-begun", "1").remove("x-remove"),
        trailers: MetadataChange::default().add("x-ended", "1"),
    };
    world(RouteActions { rewrite, ..RouteActions::default() })
}

#[test]
fn metadata_is_changed_on_the_way_to_the_backend() {
    let mut world = rewriting();
    let client = world.client();
    let (now, backend) = (world.now, world.backend);
    // Twice: the second is sent by reference to the backend's table.
    for _ in 0..2 {
        let fields = [("x-set", "theirs"), ("x-add", "theirs"), ("x-remove", "1"), ("x-set", "more")];
        let stream = world.peer(client).begin(now, &fields);
        world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
        world.turns(3);
        let asked = &world.peer(backend).asked_with;
        assert_eq!(values(asked, "x-set"), ["ours"]);
        assert_eq!(values(asked, "x-add"), ["theirs", "ours"]);
        assert!(values(asked, "x-remove").is_empty());
        assert_eq!(values(asked, ":path"), ["/pkg.Service/Method"]);
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 2]);
    world.close_clients();
}

#[test]
fn metadata_is_changed_on_the_way_to_the_client() {
    let mut world = rewriting();
    let client = world.client();
    world.call(client, b'a', 10);
    world.turns(3);
    let peer = world.peer(client);
    assert_eq!(values(&peer.answered_with, "x-begun"), ["1"]);
    assert!(values(&peer.answered_with, "x-ended").is_empty());
    assert_eq!(values(&peer.ended_with, "x-ended"), ["1"]);
    assert!(values(&peer.ended_with, "x-begun").is_empty());
    world.close_clients();
}

#[test]
fn an_answer_of_our_own_is_changed_as_a_whole() {
    let mut world = rewriting();
    let client = world.client();
    let now = world.now;
    world.peer(client).begin(now, &[("grpc-timeout", "1m")]);
    world.turns(3);
    let peer = world.peer(client);
    assert_eq!(peer.ends, [End::Status(Code::DeadlineExceeded)]);
    assert_eq!(values(&peer.ended_with, "x-begun"), ["1"]);
    assert_eq!(values(&peer.ended_with, "x-ended"), ["1"]);
    world.close_clients();
}

#[test]
fn a_call_keeps_the_changes_that_it_began_with_over_a_reload() {
    let mut world = rewriting();
    let client = world.client();
    let (now, backend) = (world.now, world.backend);
    let stream = world.peer(client).begin(now, &[]);
    world.turns(2);
    let listener = Listener::new("test", Limits::edge(), RouteTable::to_cluster(0));
    world.reload(listener);
    world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
    world.turns(3);
    assert_eq!(values(&world.peer(client).ended_with, "x-ended"), ["1"]);
    world.call(client, b'a', 10);
    world.turns(3);
    assert!(values(&world.peer(client).ended_with, "x-ended").is_empty());
    assert!(values(&world.peer(backend).asked_with, "x-set").is_empty());
    world.close_clients();
}

const MESSAGE: &[u8] = b"\0\0\0\0\x02ok";

/// A stream without an end that the backend has begun to answer: its client, and its ends on both sides.
fn stream(world: &mut World) -> (usize, StreamKey, StreamKey) {
    let client = world.client();
    let now = world.now;
    let asked = world.peer(client).begin(now, &[]);
    world.turns(2);
    let backend = world.backend;
    let peer = world.peer(backend);
    peer.is_silent = true;
    let answered = *peer.begun.last().unwrap();
    peer.http2.send_headers(&mut peer.fields.store, answered, &peer.headers, &[], false).unwrap();
    world.turns(2);
    (client, asked, answered)
}

/// The backend sends these bytes of a stream, and everyone takes what comes.
fn send(world: &mut World, answered: StreamKey, bytes: &[u8]) {
    let (now, backend) = (world.now, world.backend);
    world.peer(backend).http2.send_data(now, answered, bytes, false).unwrap();
    world.turns(2);
}

/// Lets time pass, in steps, until a client's call has ended; how long that took. At most two minutes.
fn until_ended(world: &mut World, client: usize) -> Duration {
    let began = world.now;
    while world.peer(client).ends.is_empty() && world.now - began < Duration::from_secs(120) {
        world.now += Duration::from_millis(49);
        world.turn();
    }
    world.now - began
}

fn lasting(seconds: u64) -> World {
    let max_stream_duration = Some(Duration::from_secs(seconds));
    world(RouteActions { max_stream_duration, ..RouteActions::default() })
}

#[test]
fn a_stream_that_is_too_long_ends_as_unavailable_up_to_a_tenth_early() {
    let mut lengths = Vec::new();
    let mut world = lasting(10);
    for _ in 0..20 {
        let (client, ..) = stream(&mut world);
        lengths.push(until_ended(&mut world, client));
        assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
        let text = values(&world.peer(client).ended_with, "grpc-message").concat();
        assert!(text.contains("max_stream_duration"), "{text}");
    }
    let (min, max) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
    assert!(*min >= Duration::from_millis(8_950) && *max <= Duration::from_millis(10_050), "{lengths:?}");
    assert!(*max - *min > Duration::from_millis(300), "they do not end together: {lengths:?}");
    world.close_clients();
}

#[test]
fn a_message_that_is_under_way_is_finished_first() {
    let mut world = lasting(10);
    let (client, _, answered) = stream(&mut world);
    send(&mut world, answered, &MESSAGE[..6]);
    world.now += Duration::from_millis(10_300);
    world.turns(2);
    assert!(world.peer(client).ends.is_empty());
    send(&mut world, answered, &MESSAGE[6..]);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    world.close_clients();
}

#[test]
fn a_message_that_is_not_finished_in_time_is_cut_off() {
    let mut world = lasting(10);
    let (client, _, answered) = stream(&mut world);
    send(&mut world, answered, &MESSAGE[..6]);
    let length = until_ended(&mut world, client);
    assert!(length > Duration::from_millis(9_950) && length < Duration::from_millis(11_050), "{length:?}");
    assert_eq!(world.peer(client).ends, [End::Reset(ErrorCode::INTERNAL_ERROR)]);
    world.close_clients();
}

#[test]
fn a_stream_is_idle_when_nothing_passes_in_either_direction() {
    let idle = Some(Duration::from_secs(5));
    let mut world = world(RouteActions { stream_idle_timeout: idle, ..RouteActions::default() });
    let (client, asked, answered) = stream(&mut world);
    for _ in 0..5 {
        world.now += Duration::from_secs(4);
        send(&mut world, answered, MESSAGE);
        world.now += Duration::from_secs(4);
        let now = world.now;
        world.peer(client).http2.send_data(now, asked, MESSAGE, false).unwrap();
        world.turns(2);
    }
    assert!(world.peer(client).ends.is_empty());
    let length = until_ended(&mut world, client);
    assert!(length > Duration::from_millis(4_900) && length < Duration::from_millis(5_150), "{length:?}");
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    let text = values(&world.peer(client).ended_with, "grpc-message").concat();
    assert!(text.contains("stream idle timeout"), "{text}");
    world.close_clients();
}

#[test]
fn a_call_that_waits_for_its_answer_is_idle_too() {
    let idle = Some(Duration::from_secs(5));
    let mut world = world(RouteActions { stream_idle_timeout: idle, ..RouteActions::default() });
    let client = world.client();
    let backend = world.backend;
    world.peer(backend).is_silent = true;
    world.call(client, b'a', 10);
    let length = until_ended(&mut world, client);
    assert!(length > Duration::from_millis(4_950) && length < Duration::from_millis(5_150), "{length:?}");
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    world.close_clients();
}

/// A world whose connections get at most so old.
fn ageing(grace: Option<Duration>) -> World {
    let mut world = world(RouteActions::default());
    let max_age = Some(MaxAge { age: Duration::from_secs(60), grace });
    world.reload(Listener { max_age, ..Listener::new("test", Limits::edge(), RouteTable::to_cluster(0)) });
    world
}

/// Lets time pass until a client is asked to go; how long that took.
fn until_asked_to_go(world: &mut World, client: usize) -> Duration {
    let began = world.now;
    while world.peer(client).http2.can_open().is_ok() && world.now - began < Duration::from_secs(120) {
        world.now += Duration::from_millis(49);
        world.turn();
    }
    world.now - began
}

#[test]
fn a_connection_that_is_too_old_finishes_its_calls_and_goes() {
    let mut world = ageing(None);
    let mut ages = Vec::new();
    for _ in 0..10 {
        let (client, asked, answered) = stream(&mut world);
        ages.push(until_asked_to_go(&mut world, client));
        assert_eq!(world.peer(client).http2.can_open(), Err(OpenError::GoingAway));
        world.now += Duration::from_secs(600);
        world.turns(2);
        assert!(world.peer(client).ends.is_empty() && !world.peer(client).closed);
        let (now, backend) = (world.now, world.backend);
        world.peer(client).http2.send_data(now, asked, MESSAGE, true).unwrap();
        world.turns(1);
        let peer = world.peer(backend);
        peer.http2.send_trailers(&mut peer.fields.store, answered, &peer.trailers).unwrap();
        world.turns(3);
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
        world.now += Duration::from_secs(10);
        world.turns(3);
        assert!(world.peer(client).closed);
    }
    let (min, max) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    assert!(*min >= Duration::from_secs(54) && *max <= Duration::from_millis(66_200), "{ages:?}");
    assert!(*max - *min > Duration::from_secs(3), "they do not go together: {ages:?}");
}

#[test]
fn calls_that_are_left_when_the_grace_is_over_end_as_unavailable() {
    let mut world = ageing(Some(Duration::from_secs(10)));
    let (client, ..) = stream(&mut world);
    until_asked_to_go(&mut world, client);
    let length = until_ended(&mut world, client);
    assert!(length > Duration::from_millis(9_900) && length < Duration::from_millis(10_150), "{length:?}");
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    let text = values(&world.peer(client).ended_with, "grpc-message").concat();
    assert!(text.contains("max_connection_age"), "not the backend's fault: {text}");
    world.now += Duration::from_secs(10);
    world.turns(3);
    assert!(world.peer(client).closed);
}

fn faulty(fault: Fault) -> World {
    counting(fault).0
}

/// A world whose route injects faults, and where they are counted.
fn counting(fault: Fault) -> (World, Arc<RouteEvents>) {
    let counts = Arc::<RouteEvents>::default();
    let actions =
        RouteActions { fault: Some(fault), counts: Some(Arc::clone(&counts)), ..RouteActions::default() };
    (world(actions), counts)
}

fn counted(world: &World, event: ClusterEvent) -> u64 {
    world.telemetry.snapshot().cluster_event(event)
}

/// Makes a unary call with these fields.
fn call_with(world: &mut World, client: usize, fields: &[(&str, &str)]) {
    let now = world.now;
    let stream = world.peer(client).begin(now, fields);
    world.peer(client).http2.send_data(now, stream, MESSAGE, true).unwrap();
}

#[test]
fn a_part_of_the_calls_is_answered_with_an_error() {
    let (mut world, counts) = counting(Fault { abort: Some((Code::Aborted, 250_000)), ..Fault::default() });
    let client = world.client();
    let count = 2000;
    for _ in 0..count / 10 {
        (0..10).for_each(|_| call_with(&mut world, client, &[]));
        world.turns(3);
    }
    let aborted = |end: &&End| **end == End::Status(Code::Aborted);
    let ends = &world.peer(client).ends;
    let errors = ends.iter().filter(aborted).count();
    assert_eq!(ends.len(), count);
    assert!((450..=550).contains(&errors), "{errors} of {count}");
    assert_eq!(counts.get(RouteEvent::FaultInjected(Injected::Abort)), errors as u64);
    assert_eq!(counted(&world, ClusterEvent::LocalReply(ResponseFlag::FaultInjected)), errors as u64);
    let backend = world.backend;
    assert_eq!(world.peer(backend).begun.len(), count - errors, "the backend sees the others only");
    world.close_clients();
}

#[test]
fn a_call_that_a_rate_limit_refuses_has_no_fault() {
    let counts = Arc::<RouteEvents>::default();
    let route = Some(RateLimiter::new(RateLimit::new(1, Duration::from_secs(3_600), 2).unwrap()));
    let fault = Some(Fault { delay: Some((Duration::from_secs(2), 1_000_000)), ..Fault::default() });
    let mut world = world(RouteActions {
        fault,
        rate_limit: Some(Arc::new(RouteRateLimit { route, clients: None })),
        counts: Some(Arc::clone(&counts)),
        ..RouteActions::default()
    });
    let client = world.client();
    (0..5).for_each(|_| call_with(&mut world, client, &[]));
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::ResourceExhausted); 3], "at once");
    assert_eq!(counts.get(RouteEvent::FaultInjected(Injected::Delay)), 2);
    world.now += Duration::from_secs(2);
    world.turns(5);
    assert_eq!(world.peer(client).ends[3..], [End::Status(Code::Ok); 2]);
    world.close_clients();
}

#[test]
fn a_call_is_delayed_before_it_goes_to_the_backend() {
    let (mut world, counts) =
        counting(Fault { delay: Some((Duration::from_secs(2), 1_000_000)), ..Fault::default() });
    let client = world.client();
    let backend = world.backend;
    world.call(client, b'a', 50_000);
    world.turns(3);
    world.now += Duration::from_millis(1_990);
    world.turns(3);
    assert!(world.peer(backend).begun.is_empty());
    world.now += Duration::from_millis(10);
    world.turns(5);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!(counts.get(RouteEvent::FaultInjected(Injected::Delay)), 1);
    assert_eq!(counts.get(RouteEvent::FaultInjected(Injected::Abort)), 0);
    world.close_clients();
}

#[test]
fn the_deadline_goes_on_while_a_call_is_delayed() {
    let mut world = faulty(Fault { delay: Some((Duration::from_secs(2), 1_000_000)), ..Fault::default() });
    let client = world.client();
    call_with(&mut world, client, &[("grpc-timeout", "1S")]);
    let length = until_ended(&mut world, client);
    assert!(length > Duration::from_millis(950) && length < Duration::from_millis(1_100), "{length:?}");
    assert_eq!(world.peer(client).ends, [End::Status(Code::DeadlineExceeded)]);
    world.close_clients();
}

#[test]
fn a_delayed_call_that_its_client_cancels_leaves_nothing() {
    let mut world = faulty(Fault { delay: Some((Duration::from_secs(2), 1_000_000)), ..Fault::default() });
    let client = world.client();
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    world.turns(2);
    world.peer(client).cancel(stream);
    world.turns(2);
    assert_eq!(world.worker.call_count(), 0);
    world.now += Duration::from_secs(3);
    world.turns(3);
    world.close_clients();
}

#[test]
fn a_call_asks_for_a_fault_only_where_it_may() {
    let fields = [("x-evenkeel-fault-delay-ms", "500"), ("x-evenkeel-fault-abort", "9"), ("x-other", "1")];
    let mut allowed = faulty(Fault { by_header: true, ..Fault::default() });
    let client = allowed.client();
    let backend = allowed.backend;
    call_with(&mut allowed, client, &fields);
    let length = until_ended(&mut allowed, client);
    assert!(length > Duration::from_millis(450) && length < Duration::from_millis(600), "{length:?}");
    assert_eq!(allowed.peer(client).ends, [End::Status(Code::FailedPrecondition)]);
    call_with(&mut allowed, client, &[("x-evenkeel-fault-abort", "99"), ("x-other", "1")]);
    allowed.turns(3);
    let asked = &allowed.peer(backend).asked_with;
    assert_eq!((values(asked, "x-evenkeel-fault-abort").len(), values(asked, "x-other").len()), (0, 1));
    allowed.close_clients();

    let mut other = faulty(Fault { abort: Some((Code::Aborted, 0)), ..Fault::default() });
    let client = other.client();
    let backend = other.backend;
    call_with(&mut other, client, &fields);
    other.turns(3);
    assert_eq!(other.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!(values(&other.peer(backend).asked_with, "x-evenkeel-fault-abort"), ["9"]);
    other.close_clients();
}

/// A world that copies a part of its calls to another cluster; the backend of each.
fn mirroring(part: u32) -> (World, usize, usize) {
    let mut world = world(RouteActions::default());
    let own = world.backend;
    let mirror = Some(Mirror { cluster: 1, part });
    let actions = RouteActions { mirror, ..RouteActions::default() };
    let shadow = world.add_cluster("shadow", listener_with(actions));
    assert_ne!(own, shadow);
    (world, own, shadow)
}

fn listener_with(actions: RouteActions) -> Listener {
    let route = RouteTable::to_cluster(0).get(0).cloned();
    let routes = route.map(|route| Route { actions: Some(Arc::new(actions)), ..route });
    Listener::new("test", Limits::edge(), RouteTable::new(routes.into_iter().collect()))
}

/// Ends all that there is, and checks that nothing is left on the account.
fn close_all(world: &mut World) {
    let now = world.now;
    let ids: Vec<_> = world.peers.values().filter(|(_, peer)| !peer.closed).map(|(id, _)| *id).collect();
    ids.iter().for_each(|id| world.worker.ended(now, *id, TransportEnd::Reset));
    while let Some(action) = world.worker.poll_action(now) {
        if let Action::Connect { conn, .. } = action {
            world.worker.connect_failed(now, conn, "the test is over");
        }
    }
    assert_eq!((world.worker.call_count(), world.worker.conn_count(), world.worker.held_memory()), (0, 0, 0));
}

fn mirrored(world: &World, outcome: Mirrored) -> u64 {
    counted(world, ClusterEvent::Mirrored(outcome))
}

#[test]
fn a_copy_has_all_of_the_call_and_says_that_it_is_one() {
    let (mut world, own, shadow) = mirroring(1_000_000);
    let client = world.client();
    call_with(&mut world, client, &[("x-user", "anna"), ("grpc-timeout", "5S")]);
    world.turns(5);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    let asked = world.peer(own).asked_with.clone();
    let copied = world.peer(shadow).asked_with.clone();
    assert_eq!(values(&copied, ":authority"), ["service-shadow"]);
    assert_eq!(values(&copied, "grpc-timeout"), values(&asked, "grpc-timeout"));
    let without = |fields: &[(String, String)]| -> Vec<_> {
        fields.iter().filter(|(name, _)| name != ":authority").cloned().collect()
    };
    assert_eq!(without(&copied), without(&asked));
    assert_eq!((world.peer(own).served, world.peer(shadow).served), (1, 1));
    assert_eq!(mirrored(&world, Mirrored::Sent), 1);
    close_all(&mut world);
}

#[test]
fn a_part_of_the_calls_is_copied() {
    let (mut world, own, shadow) = mirroring(100_000);
    let client = world.client();
    for _ in 0..200 {
        (0..10).for_each(|_| call_with(&mut world, client, &[]));
        world.turns(3);
    }
    world.turns(5);
    let copies = world.peer(shadow).served;
    assert!((150..=250).contains(&copies), "{copies} of 2000");
    assert_eq!(world.peer(own).served, 2000);
    assert_eq!(world.peer(client).ends, vec![End::Status(Code::Ok); 2000]);
    assert_eq!(mirrored(&world, Mirrored::Sent), copies as u64);
    close_all(&mut world);
}

#[test]
fn a_mirror_that_never_answers_or_fails_changes_nothing_for_the_client() {
    for fails in [false, true] {
        let (mut world, own, shadow) = mirroring(1_000_000);
        let client = world.client();
        if fails {
            world.peer(shadow).fails_with = Some((Code::Internal, Vec::new()));
        } else {
            world.peer(shadow).is_silent = true;
        }
        (0..20).for_each(|_| call_with(&mut world, client, &[]));
        world.turns(4);
        assert_eq!(world.peer(client).ends, vec![End::Status(Code::Ok); 20]);
        assert_eq!((world.peer(own).served, world.peer(shadow).served), (20, 20));
        assert_eq!(world.worker.call_count(), 0);
        // What has no end of its own ends 15 s after its call.
        let open = |world: &mut World| world.peer(shadow).http2.stream_count();
        world.now += Duration::from_millis(14_900);
        world.turns(2);
        assert_eq!(open(&mut world), if fails { 0 } else { 20 });
        world.now += Duration::from_millis(200);
        world.turns(3);
        assert_eq!(open(&mut world), 0);
        close_all(&mut world);
    }
}

#[test]
fn a_mirror_that_reads_nothing_is_given_up_and_never_slows_the_call() {
    let (mut world, own, shadow) = mirroring(1_000_000);
    world.peer(shadow).consumes = false;
    let client = world.client();
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    let chunk = vec![b'a'; 16_000];
    let (mut sent, mut given_up) = (0, None);
    for turn in 0..40 {
        let now = world.now;
        sent += world.peer(client).http2.send_data(now, stream, &chunk, turn == 39).unwrap();
        world.turns(3);
        if given_up.is_none() && mirrored(&world, Mirrored::BufferFull) == 1 {
            given_up = Some(sent);
        }
    }
    world.turns(5);
    assert_eq!(sent, 640_000, "the call is never held up");
    // A window of 65,535 bytes went out, and as much was kept.
    let given_up = given_up.unwrap();
    assert!((131_000..170_000).contains(&given_up), "{given_up}");
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!(world.peer(own).served, 1);
    assert_eq!(world.peer(shadow).http2.stream_count(), 0, "it was cancelled");
    close_all(&mut world);
}

#[test]
fn a_copy_ends_with_a_call_whose_request_has_not_and_outlives_one_whose_has() {
    let (mut world, own, shadow) = mirroring(1_000_000);
    let client = world.client();
    world.peer(own).is_silent = true;
    world.peer(shadow).is_silent = true;
    let now = world.now;
    let (open, whole) = (world.peer(client).begin(now, &[]), world.peer(client).begin(now, &[]));
    world.peer(client).http2.send_data(now, whole, MESSAGE, true).unwrap();
    world.turns(3);
    assert_eq!(world.peer(shadow).http2.stream_count(), 2);
    world.peer(client).cancel(open);
    world.turns(3);
    assert_eq!(world.peer(shadow).http2.stream_count(), 1);
    assert_eq!(mirrored(&world, Mirrored::CutOff), 1);
    world.peer(client).cancel(whole);
    world.turns(3);
    assert_eq!((world.worker.call_count(), world.peer(shadow).http2.stream_count()), (0, 1));
    close_all(&mut world);
}

#[test]
fn a_copy_takes_a_place_under_the_limits_of_its_cluster_and_gives_it_back() {
    let (mut world, own, shadow) = mirroring(1_000_000);
    let breaker = Arc::new(CircuitBreaker::new(
        Scope::Cluster,
        &BreakerLimits { max_requests: Some(2), ..BreakerLimits::default() },
    ));
    let limits = ClusterLimits { breaker: Some(Arc::clone(&breaker)), ..ClusterLimits::default() };
    world.limit_cluster(1, limits);
    world.peer(shadow).is_silent = true;
    let client = world.client();
    for _ in 0..5 {
        world.call(client, b'S', 10);
        world.turns(3);
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 5]);
    assert_eq!((world.peer(own).served, world.peer(shadow).served), (5, 2));
    assert_eq!([Mirrored::Sent, Mirrored::NoEndpoint].map(|outcome| mirrored(&world, outcome)), [2, 3]);
    assert_eq!((breaker.used(Resource::Requests), breaker.overflows(Resource::Requests)), (2, 3));
    close_all(&mut world);
    assert_eq!(breaker.used(Resource::Requests), 0);
}

#[test]
fn without_a_connection_there_is_no_copy_and_the_call_does_not_wait_for_one() {
    let (mut world, own, shadow) = mirroring(1_000_000);
    let client = world.client();
    let (id, now) = (world.peers[&shadow].0, world.now);
    // The mirror breaks down under the copies of two calls, one of which goes on.
    world.peer(shadow).is_silent = true;
    call_with(&mut world, client, &[]);
    let stream = world.peer(client).begin(now, &[]);
    world.turns(3);
    world.worker.ended(world.now, id, TransportEnd::Reset);
    while let Some(action) = world.worker.poll_action(world.now) {
        if let Action::Connect { conn, .. } = action {
            world.worker.connect_failed(world.now, conn, "nobody is there");
        }
    }
    world.peer(shadow).closed = true;
    let now = world.now;
    world.peer(client).http2.send_data(now, stream, MESSAGE, true).unwrap();
    call_with(&mut world, client, &[]);
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 3]);
    assert_eq!(world.peer(own).served, 3);
    assert_eq!((mirrored(&world, Mirrored::Sent), mirrored(&world, Mirrored::NoEndpoint)), (2, 1));
    close_all(&mut world);
}
