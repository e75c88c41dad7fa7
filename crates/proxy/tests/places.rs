//! Backends that allow few streams at a time, and count one for a while after its end: calls that find no place there.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits};
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_telemetry::{ClusterEvent, TransparentRetry};

use self::peers::{End, World};

/// Backends with one connection each, which allow so many streams and answer nothing, and a client.
fn silent(backends: u16, streams: u32) -> (World, usize) {
    let mut world =
        World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), backends, |cluster, _| {
            cluster.max_connections_per_endpoint = 1;
        });
    let client = world.client();
    world.reconnect(Limits { max_concurrent_streams: streams, ..Limits::mesh() });
    for backend in world.backends.clone() {
        world.peer(backend).is_silent = true;
    }
    (world, client)
}

/// The backend answers the nth of its requests.
fn answer(world: &mut World, backend: usize, nth: usize) {
    let peer = world.peer(backend);
    let stream = peer.begun[nth];
    let status: &[(&[u8], &[u8])] = &[(b"grpc-status", b"0")];
    peer.http2.send_headers(&mut peer.fields.store, stream, &peer.headers, status, true).unwrap();
}

/// How many requests the backend has had.
fn asked(world: &mut World, backend: usize) -> usize {
    world.peer(backend).begun.len()
}

/// A full backend whose newest call has ended, which its transport counts still, and one that waits.
fn counting_late() -> (World, usize, usize) {
    let (mut world, client) = silent(1, 2);
    let backend = world.backends[0];
    (0..3).for_each(|_| world.call(client, b'S', 10));
    world.turns(3);
    assert_eq!(asked(&mut world, backend), 2, "the third waits");
    answer(&mut world, backend, 1);
    // Rests of 1, 2, 4, 8, 16 and 32 ms, and a turn or two for each.
    world.turns(60);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!((no_place(&world), asked(&mut world, backend)), (6, 2), "it finds no place and waits again");
    (world, client, backend)
}

fn no_place(world: &World) -> u64 {
    world.telemetry.snapshot().cluster_event(ClusterEvent::TransparentRetry(TransparentRetry::NoPlace))
}

/// The backend's transport counts this one of its streams no longer.
fn forget(world: &mut World, backend: usize, nth: usize) {
    let peer = world.peer(backend);
    let stream = peer.begun[nth];
    peer.http2.release(&mut peer.fields, stream);
}

#[test]
fn a_call_that_finds_no_place_is_sent_when_the_backend_has_counted() {
    let (mut world, client, backend) = counting_late();
    forget(&mut world, backend, 1);
    world.turns(40);
    assert_eq!(asked(&mut world, backend), 3);
    answer(&mut world, backend, 2);
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 2]);
    world.close_clients();
}

#[test]
fn a_call_that_finds_no_place_is_sent_when_another_one_ends() {
    let (mut world, client, backend) = counting_late();
    answer(&mut world, backend, 0);
    forget(&mut world, backend, 0);
    world.turns(3);
    assert_eq!(asked(&mut world, backend), 3, "and not when its rest of 32 ms is over");
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 2]);
    world.close_clients();
}

#[test]
fn a_call_that_never_finds_a_place_fails_as_one_that_is_refused() {
    let (mut world, client, backend) = counting_late();
    // Rests of 64 ms follow until a quarter of a second is over since the end.
    world.turns(200);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    world.turns(100);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok), End::Status(Code::Unavailable)]);
    let text = &world.peer(client).ended_with;
    assert!(text.contains(&("grpc-message".to_owned(), "upstream refused stream".to_owned())), "{text:?}");
    assert_eq!((no_place(&world), asked(&mut world, backend)), (9, 2));
    world.close_clients();
}

#[test]
fn a_backend_that_refuses_while_nothing_ends_is_asked_twice() {
    let (mut world, client) = silent(1, 2);
    let backend = world.backends[0];
    world.call(client, b'S', 10);
    world.call(client, b'S', 10);
    world.turns(3);
    for _ in 0..2 {
        let peer = world.peer(backend);
        let newest = *peer.begun.last().unwrap();
        peer.http2.reset(&mut peer.fields, newest, ErrorCode::REFUSED_STREAM);
        peer.http2.release(&mut peer.fields, newest);
        world.turns(2);
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    assert_eq!((no_place(&world), asked(&mut world, backend)), (0, 3));
    world.close_clients();
}

#[test]
fn a_call_that_finds_no_place_keeps_its_turn() {
    let (mut world, client) = silent(1, 1);
    let backend = world.backends[0];
    let call = |world: &mut World, name: &str| {
        let now = world.now;
        let stream = world.peer(client).begin(now, &[("x-call", name)]);
        world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
        world.turns(3);
    };
    ["a", "b", "c"].into_iter().for_each(|name| call(&mut world, name));
    answer(&mut world, backend, 0);
    world.turns(3);
    assert!(no_place(&world) > 0, "b is sent, and finds no place");
    call(&mut world, "d");
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    forget(&mut world, backend, 0);
    let mut order = Vec::new();
    for nth in 1..4 {
        world.turns(40);
        assert_eq!(asked(&mut world, backend), nth + 1);
        let fields = world.peer(backend).asked_with.clone();
        order.extend(fields.into_iter().filter(|(name, _)| name == "x-call").map(|(_, value)| value));
        answer(&mut world, backend, nth);
        forget(&mut world, backend, nth);
    }
    world.turns(3);
    assert_eq!(order, ["b", "c", "d"]);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 4]);
    world.close_clients();
}

#[test]
fn a_call_goes_back_to_where_it_found_no_place_while_the_others_are_full() {
    let (mut world, client) = silent(2, 1);
    (0..3).for_each(|_| world.call(client, b'S', 10));
    world.turns(3);
    let late = world.backends[0];
    answer(&mut world, late, 0);
    world.turns(10);
    assert!(no_place(&world) > 0, "the third is sent there, and finds no place");
    forget(&mut world, late, 0);
    world.turns(20);
    let [first, other] = [world.backends[0], world.backends[1]].map(|backend| asked(&mut world, backend));
    assert_eq!((first, other), (2, 1));
    world.close_clients();
}

#[test]
fn a_call_that_is_refused_goes_back_if_all_others_are_full() {
    let (mut world, client) = silent(2, 2);
    // Two at each.
    (0..4).for_each(|_| world.call(client, b'S', 10));
    world.turns(3);
    let refusing = world.backends[0];
    let peer = world.peer(refusing);
    let newest = *peer.begun.last().unwrap();
    peer.http2.reset(&mut peer.fields, newest, ErrorCode::REFUSED_STREAM);
    peer.http2.release(&mut peer.fields, newest);
    world.turns(3);
    let [first, other] = [world.backends[0], world.backends[1]].map(|backend| asked(&mut world, backend));
    assert_eq!((first, other), (3, 2), "and does not wait for the end of a call at the other one");
    world.close_clients();
}
