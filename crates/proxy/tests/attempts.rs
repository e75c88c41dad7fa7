//! Ends of attempts that are out of the ordinary: how each is judged and counted, and what the call makes of it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::retry::{CodeSet, RetryBudget, RetryBudgetConfig, RetryOn, RetryPolicy};
use evenkeel_grpc::Code;
use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{ErrorCode, Half, Limits};
use evenkeel_proxy::worker::mirror::Mirror;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::route::{Route, RouteActions, RouteTable};
use evenkeel_proxy::worker::snapshot::{Listener, RetryGates, RetrySettings};
use evenkeel_telemetry::{ClusterEvent, RetryDenied, TransparentRetry};

use self::peers::{End, LARGE, World};

const MS: Duration = Duration::from_millis(1);

/// So many backends behind a route that tries calls again that end with this code, and a client.
fn retrying(backends: u16, code: Code) -> (World, usize) {
    let policy = RetryPolicy {
        max_attempts: 5,
        initial_backoff: 10 * MS,
        retry_on: RetryOn::statuses(CodeSet::of(&[code])),
        ..RetryPolicy::default()
    };
    let settings = RetrySettings { policy, is_idempotent: false };
    let budget = RetryBudgetConfig { min_concurrency: 10, ..RetryBudgetConfig::default() };
    let mut world =
        World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), backends, |cluster, route| {
            cluster.gates = Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: None });
            route.retry = Some(Arc::new(settings));
        });
    let client = world.client();
    (world, client)
}

/// How many attempts at the endpoint of this port ended with this code.
fn ended_with(world: &World, cluster: &str, port: u16, code: Code) -> u64 {
    let endpoint = world.telemetry.cluster(cluster).endpoint(&format!("127.0.0.1:{port}"));
    endpoint.totals().calls.handled[code as usize]
}

/// The newest request of a backend is answered with this status alone.
fn fail_newest(world: &mut World, backend: usize, code: Code) {
    let peer = world.peer(backend);
    let (stream, status) = (*peer.begun.last().unwrap(), (code as u8).to_string());
    let status: &[(&[u8], &[u8])] = &[(b"grpc-status", status.as_bytes())];
    peer.http2.send_headers(&mut peer.fields.store, stream, &peer.headers, status, true).unwrap();
}

#[test]
fn an_attempt_counts_with_its_own_code_whatever_the_call_ends_with() {
    let (mut world, client) = retrying(1, Code::Aborted);
    let backend = world.backends[0];
    world.peer(backend).fails_with = Some((Code::Aborted, Vec::new()));
    world.call(client, b'S', 10);
    world.turns(3);
    world.peer(backend).fails_with = None;
    world.turns(20);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    let counted =
        [Code::Aborted, Code::Ok, Code::Unavailable].map(|code| ended_with(&world, "test", 1, code));
    assert_eq!(counted, [1, 1, 0]);
}

#[test]
fn what_is_kept_for_another_attempt_does_not_grow_with_each() {
    let (mut world, client) = retrying(1, Code::Unavailable);
    let (backend, now) = (world.backends[0], world.now);
    let stream = world.peer(client).begin(now, &[]);
    let mut attempts = 0;
    while world.peer(client).ends.is_empty() && attempts < 5 {
        attempts += 1;
        let now = world.now;
        world.peer(client).http2.send_data(now, stream, &[0; 40_000], false).unwrap();
        world.turns(3);
        fail_newest(&mut world, backend, Code::Unavailable);
        world.turns(3);
        // Half a window more comes while it waits for the next attempt, which begins later.
        let now = world.now;
        world.peer(client).http2.send_data(now, stream, &[0; 30_000], false).unwrap_or(0);
        world.turns(60);
    }
    assert_eq!((world.peer(client).ends.clone(), attempts), (vec![End::Status(Code::Unavailable)], 2));
    assert_eq!(
        world.telemetry.snapshot().cluster_event(ClusterEvent::RetryDenied(RetryDenied::RequestTooLarge)),
        1
    );
}

#[test]
fn a_stream_that_is_refused_behind_its_headers_was_processed() {
    let (mut world, client) = retrying(1, Code::Aborted);
    let backend = world.backends[0];
    world.peer(backend).answers_headers_only = true;
    world.call(client, b'S', 10);
    world.turns(3);
    let peer = world.peer(backend);
    let stream = *peer.begun.last().unwrap();
    peer.http2.reset(&mut peer.fields, stream, ErrorCode::REFUSED_STREAM);
    world.turns(20);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    assert_eq!(world.peer(backend).begun.len(), 1);
    let refused = ClusterEvent::TransparentRetry(TransparentRetry::RefusedStream);
    assert_eq!(world.telemetry.snapshot().cluster_event(refused), 0);
}

#[test]
fn an_empty_frame_behind_headers_does_not_let_them_go() {
    let (mut world, client) = retrying(1, Code::Unavailable);
    let backend = world.backends[0];
    world.peer(backend).answers_headers_only = true;
    world.call(client, b'S', 10);
    world.turns(3);
    let peer = world.peer(backend);
    let stream = *peer.begun.last().unwrap();
    peer.raw.extend([0; 5]);
    peer.raw.extend(stream.id().to_be_bytes());
    world.turns(2);
    assert!(world.peer(client).answered_with.is_empty());
    let peer = world.peer(backend);
    peer.answers_headers_only = false;
    let mut trailers = FieldBlock::new();
    trailers.push_literal(b"grpc-status", b"14", false);
    peer.http2.send_trailers(&mut peer.fields.store, stream, &trailers).unwrap();
    world.turns(30);
    assert_eq!(
        world.peer(client).ends,
        [End::Status(Code::Ok)],
        "the failure was followed by another attempt"
    );
}

#[test]
fn a_status_of_grpc_counts_whatever_http_says() {
    let (mut world, client) = retrying(1, Code::Aborted);
    let backend = world.backends[0];
    world.peer(backend).is_silent = true;
    world.call(client, b'S', 10);
    world.turns(3);
    let peer = world.peer(backend);
    let stream = *peer.begun.last().unwrap();
    let mut block = FieldBlock::new();
    for (name, value) in [(":status", "503"), ("content-type", "application/grpc"), ("grpc-status", "0")] {
        block.push_literal(name.as_bytes(), value.as_bytes(), false);
    }
    peer.http2.send_headers(&mut peer.fields.store, stream, &block, &[], true).unwrap();
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    assert_eq!(ended_with(&world, "test", 1, Code::Ok), 1);
}

#[test]
fn a_client_is_not_blamed_for_the_time_that_its_backend_took() {
    let (mut world, client) = retrying(1, Code::Aborted);
    let backend = world.backends[0];
    (world.peer(backend).consumes, world.peer(backend).is_silent) = (false, true);
    world.peer(client).consumes = false;
    let now = world.now;
    let stream = world.peer(client).begin(now, &[]);
    world.peer(client).http2.send_data(now, stream, &[0; 2 * LARGE], true).unwrap();
    world.turns(5);
    world.now += Duration::from_secs(40);
    world.turns(2);
    let now = world.now;
    let peer = world.peer(backend);
    let answered = *peer.begun.last().unwrap();
    peer.http2.send_headers(&mut peer.fields.store, answered, &peer.headers, &[], false).unwrap();
    peer.http2.send_data(now, answered, &[0; 2 * LARGE], false).unwrap();
    peer.http2.send_trailers(&mut peer.fields.store, answered, &peer.trailers).unwrap();
    world.turns(5);
    world.now += Duration::from_secs(15);
    world.turns(3);
    assert!(world.peer(client).ends.is_empty());
    assert_eq!(world.worker.call_count(), 1);
}

#[test]
fn a_copy_that_outlives_its_call_for_too_long_is_no_fault_of_its_backend() {
    let (mut world, _) = retrying(1, Code::Aborted);
    let mirror = Some(Mirror { cluster: 1, part: 1_000_000 });
    let route = RouteTable::to_cluster(0).get(0).cloned().unwrap();
    let actions = Some(Arc::new(RouteActions { mirror, ..RouteActions::default() }));
    let routes = RouteTable::new(vec![Route { actions, ..route }]);
    let shadow = world.add_cluster("shadow", Listener::new("test", Limits::edge(), routes));
    world.peer(shadow).is_silent = true;
    let client = world.client();
    world.call(client, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    world.now += Duration::from_secs(16);
    world.turns(3);
    let counted = [Code::Cancelled, Code::DeadlineExceeded].map(|code| ended_with(&world, "shadow", 2, code));
    assert_eq!(counted, [1, 0]);
}

#[test]
fn an_answer_that_is_whole_keeps_its_status_when_the_rest_of_it_is_cut() {
    let (mut world, client) = retrying(1, Code::Aborted);
    let backend = world.backends[0];
    (world.peer(backend).is_silent, world.peer(client).consumes) = (true, false);
    world.call(client, b'S', 10);
    world.turns(3);
    // More than the client's window: the end of it waits in the worker.
    let now = world.now;
    let peer = world.peer(backend);
    let asked = *peer.begun.last().unwrap();
    peer.http2.send_headers(&mut peer.fields.store, asked, &peer.headers, &[], false).unwrap();
    peer.http2.send_data(now, asked, &[0; LARGE + 20_000], false).unwrap();
    peer.http2.send_trailers(&mut peer.fields.store, asked, &peer.trailers).unwrap();
    world.turns(5);
    assert_eq!(
        world.peer(backend).http2.send_half(asked),
        Half::Closed,
        "the backend has nothing left to send"
    );
    assert!(world.peer(client).ends.is_empty());
    let cut = world.worker.abort(world.now);
    world.turns(3);
    assert_eq!((cut, world.peer(client).ends.clone()), (1, vec![End::Reset(ErrorCode::INTERNAL_ERROR)]));
    let handled = world.telemetry.snapshot().calls().handled;
    assert_eq!([Code::Ok, Code::Unavailable, Code::Cancelled].map(|code| handled[code as usize]), [1, 0, 0]);
}
