//! A worker whose peers make it hold too much: what it gives up, what it keeps, and how much it holds at most.

mod peers;

use core::time::Duration;

use evenkeel_grpc::Code;
use evenkeel_proxy::worker::overload::{Accountant, Level};
use evenkeel_telemetry::Shed;

use self::peers::{End, LARGE, World};

const LIMIT: u64 = 8 * 1024 * 1024;

/// Sixty clients with ten large answers each that none of them reads, and one that makes a small call every turn.
fn slow_readers(limit: u64) -> (World, usize) {
    let mut world = World::new(&Accountant::new(limit));
    let honest = world.client();
    for _ in 0..60 {
        world.slow_client(10);
        for _ in 0..3 {
            world.call(honest, b'S', 10);
            world.turn();
        }
    }
    world.turns(5);
    (world, honest)
}

#[test]
fn slow_readers_are_shed_within_the_limit_and_honest_calls_go_on() {
    let (mut world, honest) = slow_readers(LIMIT);
    // One turn brings ten answers at most before the account is looked at again.
    let turn = 10 * LARGE as u64;
    assert!(world.peak <= LIMIT + turn, "{} bytes held of {LIMIT}", world.peak);
    assert!(world.peak >= LIMIT / 100 * 90, "the attack is a real one: {} bytes", world.peak);
    assert!(world.shed(Shed::CloseConnection) + world.shed(Shed::ResetStream) > 0);
    assert!(world.levels.contains(&Level::Shed), "{:?}", world.levels);
    assert_eq!(world.peer(honest).ends, vec![End::Status(Code::Ok); 180]);
    assert!(!world.peer(honest).closed);
    world.close_clients();
}

#[test]
fn without_a_limit_the_same_slow_readers_hold_several_times_as_much() {
    let (mut world, honest) = slow_readers(u64::MAX);
    assert!(world.peak > 2 * LIMIT, "{} bytes", world.peak);
    assert_eq!(world.levels, []);
    assert_eq!(world.peer(honest).ends.len(), 180);
    world.close_clients();
}

#[test]
fn calls_whose_backend_does_not_read_are_ended_with_a_status() {
    let mut world = World::new(&Accountant::new(LIMIT));
    let backend = world.backend;
    world.peer(backend).reads = false;
    let clients: Vec<usize> = (0..30).map(|_| world.client()).collect();
    for client in &clients {
        for _ in 0..10 {
            world.call(*client, b'L', LARGE);
        }
        world.turn();
    }
    world.turns(5);
    // A call takes its bytes twice: kept for another attempt, and waiting for the backend.
    assert!(world.peak <= LIMIT + 20 * LARGE as u64, "{} bytes held of {LIMIT}", world.peak);
    let ends: Vec<End> = clients.iter().flat_map(|client| world.peers[client].1.ends.clone()).collect();
    assert!(ends.len() > 100, "{}", ends.len());
    assert!(ends.iter().all(|end| *end == End::Status(Code::ResourceExhausted)), "{ends:?}");
    assert_eq!(world.shed(Shed::ResetStream), ends.len() as u64);
    assert_eq!(world.shed(Shed::CloseConnection), 0, "clients that read keep their connections");
    world.close_clients();
}

#[test]
fn refusing_spares_who_holds_little_and_does_not_last() {
    let accountant = Accountant::new(LIMIT);
    let mut world = World::new(&accountant);
    let mut ballast = World::new(&accountant);
    let honest = world.client();
    let heavy = world.slow_client(8);
    while Level::of(accountant.total(), LIMIT) < Level::Refuse {
        ballast.slow_client(1);
    }
    world.turns(2);
    assert_eq!(Level::of(accountant.total(), LIMIT), Level::Refuse);
    assert!(world.worker.refuses_connections());

    world.call(honest, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(honest).ends, [End::Status(Code::Ok)]);
    assert_eq!(world.shed(Shed::RefuseStream), 0);
    world.call(heavy, b'S', 10);
    world.turns(3);
    assert_eq!(world.shed(Shed::RefuseStream), 1);
    assert_eq!((world.shed(Shed::ResetStream), world.shed(Shed::CloseConnection)), (0, 0));

    for both in [&mut world, &mut ballast] {
        both.now += Duration::from_secs(5);
        both.turns(2);
    }
    world.turns(2);
    assert!(Level::of(accountant.total(), LIMIT) < Level::Refuse);
    assert!(!world.worker.refuses_connections());
    assert!(world.peer(heavy).closed, "it held more than any other");
    assert!(!world.peer(honest).closed);
    world.close_clients();
    ballast.close_clients();
    drop((world, ballast));
    assert_eq!(accountant.total(), 0);
}

#[test]
fn the_largest_client_is_asked_to_go_before_anything_is_ended() {
    let mut world = World::new(&Accountant::new(LIMIT));
    let large = world.slow_client(12);
    let mut clients = Vec::new();
    while !world.levels.contains(&Level::Drain) {
        clients.push(world.slow_client(1));
    }
    world.turn();
    assert_eq!(world.shed(Shed::DrainConnection), 1);
    assert_eq!((world.shed(Shed::ResetStream), world.shed(Shed::CloseConnection)), (0, 0));
    assert!(!world.peer(large).closed);
    // A connection accepted now gets less than the usual hundred streams.
    let newcomer = world.client();
    assert_eq!(world.peer(newcomer).http2.peer_settings().max_concurrent_streams, 25);
    world.close_clients();
}
