//! What is kept of requests for further attempts: its bounds, and what becomes of calls beyond them.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::retry::{CodeSet, HedgingPolicy, RetryBudget, RetryBudgetConfig, RetryOn, RetryPolicy};
use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits, StreamKey};
use evenkeel_proxy::worker::TransportEnd;
use evenkeel_proxy::worker::overload::{Accountant, PUBLISH_BYTES};
use evenkeel_proxy::worker::route::Route;
use evenkeel_proxy::worker::snapshot::{Cluster, HedgeSettings, ReplayBounds, RetryGates, RetrySettings};
use evenkeel_telemetry::{ClusterEvent, ReplayDropped, ResponseFlag, RetryDenied, Shed};

use self::peers::{End, World};

const MS: Duration = Duration::from_millis(1);

/// The prefix of a message (gRPC over HTTP/2: Length-Prefixed-Message).
const PREFIX: usize = 5;

/// Bytes of one call, and of all, that these tests allow to be kept.
const BOUNDS: ReplayBounds = ReplayBounds { call_bytes: 1500, process_bytes: 2000 };

fn budget() -> Arc<RetryGates> {
    let budget = RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() };
    Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None })
}

/// Retries what a backend refuses and what ends with UNAVAILABLE, a millisecond later.
fn retried(cluster: &mut Cluster, route: &mut Route) {
    let statuses = RetryOn::statuses(CodeSet::of(&[Code::Unavailable]));
    let policy = RetryPolicy {
        max_attempts: 3,
        initial_backoff: MS,
        retry_on: RetryOn { refused_stream: true, ..statuses },
        ..RetryPolicy::default()
    };
    cluster.gates = budget();
    route.retry = Some(Arc::new(RetrySettings { policy, is_idempotent: false }));
}

/// Backends that say nothing, behind a route that tries calls again, and a client.
fn silent_world(backends: u16) -> (World, usize) {
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), backends, retried);
    world.bound_replay(BOUNDS);
    for backend in world.backends.clone() {
        world.peer(backend).is_silent = true;
    }
    let client = world.client();
    (world, client)
}

/// A call whose request has so many bytes in all.
fn call_of(world: &mut World, client: usize, bytes: usize) {
    world.call(client, b'S', bytes - PREFIX);
    world.turns(3);
}

fn kept(world: &World) -> u64 {
    world.worker.usage().kept_bytes
}

fn counted(world: &World, event: ClusterEvent) -> u64 {
    world.telemetry.snapshot().cluster_event(event)
}

fn dropped(world: &World) -> [u64; 3] {
    [ReplayDropped::PerCall, ReplayDropped::PerProcess, ReplayDropped::Memory]
        .map(|bound| counted(world, ClusterEvent::ReplayDropped(bound)))
}

/// The newest request of a backend.
fn newest(world: &mut World, backend: usize) -> StreamKey {
    *world.peer(backend).begun.last().unwrap()
}

/// A silent backend answers its newest request, and has room for the next before that comes.
fn answer_newest(world: &mut World, backend: usize) {
    let (now, stream) = (world.now, newest(world, backend));
    let peer = world.peer(backend);
    peer.is_silent = false;
    peer.answer(now, stream);
    peer.is_silent = true;
    peer.answered.clear();
    peer.http2.release(&mut peer.fields, stream);
    world.turns(5);
}

#[test]
fn a_call_keeps_as_much_as_it_may_and_nothing_with_one_byte_more() {
    for (bytes, left, drops) in [(1499, 1499, 0), (1500, 1500, 0), (1501, 0, 1)] {
        let (mut world, client) = silent_world(1);
        call_of(&mut world, client, bytes);
        assert_eq!((kept(&world), dropped(&world)), (left, [drops, 0, 0]), "{bytes} bytes");
        world.close_clients();
    }
}

#[test]
fn all_calls_keep_as_much_as_they_may_and_the_one_beyond_nothing() {
    for (bytes, left, drops) in [(999, 1999, 0), (1000, 2000, 0), (1001, 1000, 1)] {
        let (mut world, client) = silent_world(1);
        call_of(&mut world, client, 1000);
        call_of(&mut world, client, bytes);
        assert_eq!((kept(&world), dropped(&world)), (left, [0, drops, 0]), "{bytes} bytes");
        world.close_clients();
    }
}

#[test]
fn a_call_whose_request_comes_in_parts_is_dropped_whole_once_and_for_all() {
    let (mut world, client) = silent_world(1);
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    for (bytes, left) in [(1400, 1400), (101, 0), (10, 0)] {
        let now = world.now;
        world.peer(client).http2.send_data(now, stream, &vec![0; bytes], false).unwrap();
        world.turns(3);
        assert_eq!(kept(&world), left);
    }
    assert_eq!(dropped(&world), [1, 0, 0]);
    world.close_clients();
}

#[test]
fn the_call_that_was_kept_is_tried_again_and_the_one_beyond_the_bound_ends() {
    let (mut world, client) = silent_world(1);
    let backend = world.backends[0];
    call_of(&mut world, client, 1000);
    let first = newest(&mut world, backend);
    call_of(&mut world, client, 1001);
    let second = newest(&mut world, backend);
    let peer = world.peer(backend);
    peer.is_silent = false;
    for stream in [first, second] {
        peer.http2.reset(&mut peer.fields, stream, ErrorCode::REFUSED_STREAM);
    }
    world.turns(10);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable), End::Status(Code::Ok)]);
    assert_eq!(world.peer(backend).begun.len(), 3, "only the first was sent again");
    assert_eq!(counted(&world, ClusterEvent::LocalReply(ResponseFlag::UpstreamReset)), 1);
    assert_eq!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::BuffersFull)), 1);
    assert_eq!((kept(&world), dropped(&world)), (0, [0, 1, 0]));
    world.close_clients();
}

#[test]
fn a_call_without_a_message_is_tried_again_however_full_the_buffers_are() {
    let (mut world, client) = silent_world(1);
    let backend = world.backends[0];
    call_of(&mut world, client, 1000);
    call_of(&mut world, client, 1000);
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    world.peer(client).http2.send_data(now, stream, &[], true).unwrap();
    world.turns(3);
    let newest = newest(&mut world, backend);
    let peer = world.peer(backend);
    peer.is_silent = false;
    peer.http2.reset(&mut peer.fields, newest, ErrorCode::REFUSED_STREAM);
    world.turns(10);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!((kept(&world), dropped(&world)), (2000, [0, 0, 0]));
    world.close_clients();
}

#[test]
fn what_waits_for_an_endpoint_is_kept_beyond_both_bounds_until_it_is_sent() {
    for (bytes, left, drops) in [(1500, 1500, [0; 3]), (1501, 0, [1, 0, 0])] {
        let (mut world, client) = silent_world(1);
        world.reconnect(Limits { max_concurrent_streams: 1, ..Limits::mesh() });
        let backend = world.backends[0];
        world.peer(backend).is_silent = true;
        call_of(&mut world, client, 1000);
        call_of(&mut world, client, bytes);
        assert_eq!((kept(&world), dropped(&world)), (1000 + bytes as u64, [0; 3]), "the second waits");
        assert_eq!(world.peer(backend).begun.len(), 1);

        answer_newest(&mut world, backend);
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
        assert_eq!(world.peer(backend).begun.len(), 2, "the second was sent");
        assert_eq!((kept(&world), dropped(&world)), (left, drops), "{bytes} bytes");
        world.close_clients();
    }
}

#[test]
fn a_call_that_waited_is_not_kept_once_it_is_sent_while_others_wait_beyond_the_bound() {
    let (mut world, client) = silent_world(1);
    world.reconnect(Limits { max_concurrent_streams: 1, ..Limits::mesh() });
    let backend = world.backends[0];
    world.peer(backend).is_silent = true;
    for bytes in [500, 900, 1200] {
        call_of(&mut world, client, bytes);
    }
    assert_eq!((kept(&world), dropped(&world)), (2600, [0; 3]));
    answer_newest(&mut world, backend);
    assert_eq!(world.peer(backend).begun.len(), 2);
    assert_eq!((kept(&world), dropped(&world)), (1200, [0, 1, 0]), "900 and 1200 are more than 2000");
    world.close_clients();
}

#[test]
fn what_is_kept_is_given_back_by_every_end() {
    type End = fn(&mut World, usize, StreamKey, StreamKey);
    let headers: End = |world, _, _, asked| {
        let backend = world.backends[0];
        let peer = world.peer(backend);
        peer.http2.send_headers(&mut peer.fields.store, asked, &peer.headers, &[], false).unwrap();
    };
    let cancel: End = |world, client, stream, _| world.peer(client).cancel(stream);
    let gone: End = |world, client, _, _| {
        let conn = world.peers[&client].0;
        world.worker.ended(world.now, conn, TransportEnd::Reset);
    };
    let status: End = |world, _, _, asked| {
        let backend = world.backends[0];
        let peer = world.peer(backend);
        let status: &[(&[u8], &[u8])] = &[(b"grpc-status", b"3")];
        peer.http2.send_headers(&mut peer.fields.store, asked, &peer.headers, status, true).unwrap();
    };
    for (end, calls) in [(headers, 1), (cancel, 0), (gone, 0), (status, 0)] {
        let (mut world, client) = silent_world(1);
        let now = world.now;
        let stream = world.peer(client).begin(now, &[]);
        world.peer(client).http2.send_data(now, stream, &[0; 100], false).unwrap();
        world.turns(3);
        assert_eq!(kept(&world), 100);
        let backend = world.backends[0];
        let asked = newest(&mut world, backend);
        end(&mut world, client, stream, asked);
        world.turns(60);
        assert_eq!((kept(&world), world.worker.call_count()), (0, calls));
    }
}

#[test]
fn a_hedged_call_is_hedged_as_far_as_it_is_kept() {
    let policy = HedgingPolicy { max_attempts: 3, hedging_delay: 20 * MS, ..HedgingPolicy::default() };
    for (bytes, attempts, left, drops) in [(1000, 3, 1000, 0), (1001, 1, 0, 1)] {
        let mut world =
            World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 3, |cluster, route| {
                cluster.gates = budget();
                route.hedge = Some(Arc::new(HedgeSettings { policy }));
            });
        world.bound_replay(ReplayBounds { process_bytes: 1000, ..BOUNDS });
        let backends = world.backends.clone();
        for backend in &backends {
            world.peer(*backend).is_silent = true;
        }
        let client = world.client();
        call_of(&mut world, client, bytes);
        world.turns(100);
        let begun: usize = backends.iter().map(|backend| world.peers[backend].1.begun.len()).sum();
        assert_eq!(begun, attempts, "{bytes} bytes");
        assert_eq!((kept(&world), dropped(&world)), (left, [0, drops, 0]));
        world.close_clients();
    }
}

#[test]
fn the_bounds_of_a_reload_hold_for_calls_under_way() {
    let (mut world, client) = silent_world(1);
    call_of(&mut world, client, 1000);
    world.bound_replay(ReplayBounds { process_bytes: 1000, ..BOUNDS });
    call_of(&mut world, client, 10);
    assert_eq!((kept(&world), dropped(&world)), (1000, [0, 1, 0]));
    world.bound_replay(BOUNDS);
    call_of(&mut world, client, 10);
    assert_eq!((kept(&world), dropped(&world)), (1010, [0, 1, 0]));
    world.close_clients();
}

#[test]
fn without_memory_requests_are_forgotten_before_calls_are_ended() {
    let limit = 4 * 1024 * 1024;
    let mut world = World::with_backends(&Accountant::new(limit), Limits::edge(), 1, retried);
    world.bound_replay(ReplayBounds { call_bytes: 64 * 1024, process_bytes: limit });
    let backend = world.backends[0];
    world.peer(backend).is_silent = true;
    let mut clients = Vec::new();
    // Each turn is looked at: what a call adds is less than a level.
    while dropped(&world) == [0; 3] {
        assert!(clients.len() < 200, "the buffers of two hundred calls are more than the limit");
        let client = world.client();
        clients.push(client);
        world.call(client, b'S', 30_000);
        world.turns(3);
    }
    let [_, _, forgotten] = dropped(&world);
    assert!(forgotten > 1 && forgotten < clients.len() as u64, "{forgotten} of {}", clients.len());
    assert_eq!((world.shed(Shed::ResetStream), world.shed(Shed::CloseConnection)), (0, 0));
    assert_eq!(world.worker.call_count(), clients.len());
    // What is given up is reckoned from the sum of all workers, which is exact to this.
    let held = world.worker.held_memory();
    assert!(held < limit / 100 * 92 + PUBLISH_BYTES, "{held} of {limit}");

    // Those that are kept still are tried again.
    world.peer(backend).is_silent = false;
    for stream in world.peer(backend).begun.clone() {
        let peer = world.peer(backend);
        peer.http2.reset(&mut peer.fields, stream, ErrorCode::REFUSED_STREAM);
        world.turns(3);
    }
    let ok = clients.iter().filter(|client| world.peers[client].1.ends == [End::Status(Code::Ok)]).count();
    assert_eq!(ok as u64, clients.len() as u64 - forgotten);
    assert_eq!(counted(&world, ClusterEvent::RetryDenied(RetryDenied::BuffersFull)), forgotten);
    world.close_clients();
}
