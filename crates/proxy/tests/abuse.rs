//! Peers that cost a worker more than they pay for, and what it does about them.

mod peers;

use evenkeel_grpc::Code;
use evenkeel_http2::limits::{OUTPUT_STOP_BYTES, STREAMS_PER_WAKE_MAX};
use evenkeel_http2::{Limits, Role};
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::route::RouteTable;
use evenkeel_proxy::worker::snapshot::Listener;
use evenkeel_proxy::worker::{PeerName, TransportEnd};
use evenkeel_telemetry::{Event, Refused};

use self::peers::{End, LARGE, World};

fn world(limits: Limits) -> World {
    World::with_limits(&Accountant::new(u64::MAX), limits)
}

#[test]
fn a_backend_that_stops_reading_is_sent_no_more_header_sections_and_serves_all_calls_later() {
    let mut world = world(Limits::edge());
    let backend = world.backend;
    world.peer(backend).reads = false;
    let long = "v".repeat(8_000);
    let clients: Vec<usize> = (0..10).map(|_| world.client()).collect();
    for client in &clients {
        for _ in 0..50 {
            let now = world.now;
            let peer = world.peer(*client);
            let stream = peer.begin(now, &[("x-long", &long)]);
            peer.http2.send_data(now, stream, b"\0\0\0\0\x01S", true).unwrap();
        }
        world.turns(3);
    }
    let id = world.peers[&backend].0;
    let waits = world.worker.output(id).len();
    assert!((OUTPUT_STOP_BYTES..OUTPUT_STOP_BYTES + 10_000).contains(&waits), "{waits} bytes");
    assert_eq!(world.worker.call_count(), 500);
    assert_eq!(world.worker.usage().pending, 500 - waits / 8_000);
    assert!(clients.iter().all(|client| world.peers[client].1.ends.is_empty()));

    world.peer(backend).reads = true;
    world.worker.writable(world.now, id);
    world.turns(50);
    for client in clients {
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 50]);
    }
}

#[test]
fn resets_are_not_paid_for_by_calls_that_no_backend_answered() {
    let mut world = world(Limits::edge());
    let client = world.client();
    let mut pairs = 0;
    while world.peer(client).http2.can_open().is_ok() && pairs < 1000 {
        let now = world.now;
        let peer = world.peer(client);
        let cancelled = peer.begin(now, &[]);
        peer.cancel(cancelled);
        // Malformed for gRPC: the worker answers it by itself.
        let refused = peer.begin(now, &[("grpc-timeout", "soon")]);
        peer.http2.send_data(now, refused, b"", true).unwrap();
        pairs += 1;
        world.turn();
    }
    assert!(world.peer(client).http2.peer_goaway().is_some(), "asked to go at three quarters of the ledger");
    assert!((150..=155).contains(&pairs), "{pairs} pairs");
}

#[test]
fn cancelled_calls_beside_as_many_completed_ones_cost_nothing() {
    let mut world = world(Limits::edge());
    let client = world.client();
    for _ in 0..2000 {
        let now = world.now;
        let peer = world.peer(client);
        let cancelled = peer.begin(now, &[]);
        peer.cancel(cancelled);
        world.call(client, b'S', 10);
        world.turn();
    }
    world.turns(5);
    let peer = world.peer(client);
    assert_eq!((peer.ends.len(), peer.http2.peer_goaway()), (2000, None));
}

#[test]
fn a_client_that_opens_many_streams_at_once_has_one_share_of_each_turn() {
    let mut world = world(Limits::mesh());
    let client = world.client();
    let backend = world.backend;
    world.peer(backend).reads = false;
    for _ in 0..300 {
        let now = world.now;
        world.peer(client).begin(now, &[]);
    }
    let share = STREAMS_PER_WAKE_MAX as usize;
    let (id, _) = world.peers[&client];
    for expected in [share, 2 * share, 300] {
        world.turn();
        assert_eq!((world.worker.call_count(), world.worker.is_put_off(id)), (expected, expected < 300));
    }
    assert!(!world.worker.has_unfinished_input());
}

#[test]
fn a_connection_that_closes_while_it_is_put_off_is_forgotten_with_its_rest() {
    let mut world = world(Limits::mesh());
    let client = world.client();
    for _ in 0..300 {
        let now = world.now;
        world.peer(client).begin(now, &[]);
    }
    world.turn();
    assert!(world.worker.has_unfinished_input());
    let (id, _) = world.peers[&client];
    world.worker.ended(world.now, id, TransportEnd::Reset);
    world.turns(2);
    assert!(!world.worker.has_unfinished_input());
    assert_eq!((world.worker.call_count(), world.worker.client_count()), (0, 0));
}

#[test]
fn a_backend_that_strains_the_ledger_gets_another_connection() {
    let mut world = world(Limits::edge());
    let client = world.client();
    let (first, burst) = (world.backend, Limits::upstream().ledger_burst as usize);
    // PRIORITY frames, a point each, to three quarters of the ledger.
    let priority = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0];
    world.peer(first).raw = priority.repeat(burst * 3 / 4);
    world.turn();
    world.worker_may_connect = true;
    world.call(client, b'S', 10);
    world.turns(10);
    let second = world.backend;
    assert_ne!(second, first);
    assert_eq!(world.peer(second).http2.role(), Role::Server);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
}

#[test]
fn a_listener_has_as_many_connections_as_it_may_and_one_more_when_one_is_gone() {
    let mut world = world(Limits::edge());
    world.reload(Listener {
        max_connections: 3,
        ..Listener::new("test", Limits::edge(), RouteTable::to_cluster(0))
    });
    let clients = [world.client(), world.client(), world.client()];
    let refused = Event::ConnectionRefused(Refused::ListenerLimit);
    for count in 1..=2 {
        assert_eq!(world.worker.accepted(world.now, 0, PeerName::Unix), None);
        assert_eq!(world.telemetry.snapshot().event(refused), count);
    }
    for client in clients {
        world.call(client, b'S', 10);
        world.turns(3);
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    }
    let (id, _) = world.peers[&clients[1]];
    world.worker.ended(world.now, id, TransportEnd::Eof);
    world.turn();
    let next = world.client();
    world.call(next, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(next).ends, [End::Status(Code::Ok)]);
    assert_eq!(world.worker.accepted(world.now, 0, PeerName::Unix), None);
}

#[test]
fn host_beside_authority_does_not_reach_the_backend() {
    let mut world = world(Limits::edge());
    let client = world.client();
    let now = world.now;
    let peer = world.peer(client);
    let stream = peer.begin(now, &[("host", "service")]);
    peer.http2.send_data(now, stream, b"", true).unwrap();
    world.turns(3);
    let backend = world.backend;
    let seen: Vec<String> = world.peer(backend).asked_with.iter().map(|(name, _)| name.clone()).collect();
    assert!(seen.iter().any(|name| name == ":authority"), "{seen:?}");
    assert!(!seen.iter().any(|name| name == "host"), "{seen:?}");
}

#[test]
fn a_transport_that_takes_nothing_is_not_offered_anything_again() {
    let mut world = world(Limits::edge());
    let client = world.client();
    world.peer(client).reads = false;
    world.call(client, b'S', 10);
    world.turns(5);
    let (id, _) = world.peers[&client];
    let waits = world.worker.output(id).len();
    assert!(waits > 0);
    // More to write is no reason to try again before the transport takes bytes.
    world.call(client, b'S', 10);
    let offered = world.offered;
    world.turns(5);
    assert!(world.worker.output(id).len() > waits);
    assert_eq!(world.offered, offered + 1, "the backend's connection was written once, the client's never");
    world.peer(client).reads = true;
    world.worker.writable(world.now, id);
    world.turns(5);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 2]);
}

#[test]
fn clients_that_give_no_credit_do_not_keep_others_from_the_backends_connection() {
    let mut world = world(Limits::edge());
    let honest = world.client();
    let backend = world.backend;
    world.peer(backend).answers_headers_only = true;
    for _ in 0..4 {
        let greedy = world.client();
        world.peer(greedy).consumes = false;
        for _ in 0..30 {
            world.call(greedy, b'S', 10);
        }
    }
    world.turns(5);
    // Streams without end: of 7.2 MB each client takes a mebibyte, and the rest is several times the window of the connection that
    // all share.
    let now = world.now;
    let peer = world.peer(backend);
    for stream in peer.begun.clone() {
        peer.http2.send_data(now, stream, &[0; LARGE], false).unwrap();
    }
    peer.answers_headers_only = false;
    world.turns(60);
    let held = world.worker.usage().held_bytes;
    assert!(held > 2 << 20, "the attack is a real one: {held} bytes are held");
    for _ in 0..10 {
        world.call(honest, b'L', 10);
        world.turns(5);
    }
    assert_eq!(world.peer(honest).ends, [End::Status(Code::Ok); 10]);
}

#[test]
fn a_backend_that_consumes_nothing_does_not_keep_a_clients_other_calls_waiting() {
    let accountant = Accountant::new(u64::MAX);
    let mut world = World::with_backends(&accountant, Limits::edge(), 2, |_, _| {});
    let client = world.client();
    let stuck = world.backends[0];
    (world.peer(stuck).is_silent, world.peer(stuck).consumes) = (true, false);
    // What the stuck backend's connection has no room for is held, and missing from the client's window: most of it.
    for _ in 0..60 {
        world.call(client, b'S', LARGE);
    }
    world.turns(200);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 30]);
    let held = world.worker.usage().held_bytes;
    assert!((600_000..1_048_576).contains(&held), "{held} bytes are held");
    // And the rest of the window is as good as new, however long that lasts.
    for _ in 0..40 {
        world.call(client, b'S', 10);
        world.turns(2);
    }
    assert_eq!(world.peer(client).ends.len(), 50);
}
