//! What a route does to its calls, among peers.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits, OpenError, StreamKey};
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::rewrite::{MetadataChange, Rewrite};
use evenkeel_proxy::worker::route::{RouteActions, RouteTable};
use evenkeel_proxy::worker::snapshot::{Listener, MaxAge};

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
    world.now += Duration::from_secs(10);
    world.turns(3);
    assert!(world.peer(client).closed);
}
