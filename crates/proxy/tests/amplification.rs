//! What a client's bytes make the proxy hold and send on: the figures of SECURITY.md.
//!
//! The client writes its frames by hand: the project's own encoder would not do what an attacker's does. Held is what the
//! worker's heap grew by; the backend answers nothing, so that all calls stay open.

mod peers;

use allocation_counter::measure;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::Action;
use evenkeel_proxy::worker::overload::Accountant;

use self::peers::World;

/// Calls that a connection of the edge profile may have open.
const STREAMS: u32 = 100;

/// What an attack cost the two sides, in bytes.
#[derive(Debug)]
struct Cost {
    sent: usize,
    held: usize,
    to_backend: usize,
    to_client: usize,
}

/// Hands these bytes of the client to the worker, and takes all that it writes.
fn attack(world: &mut World, client: usize, bytes: &[u8]) -> Cost {
    let (now, worker) = (world.now, &mut world.worker);
    let (id, _) = world.peers[&client];
    let (mut to_backend, mut to_client) = (0, 0);
    let grown = measure(|| {
        worker.received(now, id, bytes);
        loop {
            while let Some(action) = worker.poll_action(now) {
                let Action::Write { conn } = action else { continue };
                let count = worker.output(conn).len();
                *(if conn == id { &mut to_client } else { &mut to_backend }) += count;
                worker.written(now, conn, count);
            }
            if !worker.has_unfinished_input() {
                break;
            }
            worker.resume(now);
        }
    });
    Cost { sent: bytes.len(), held: grown.bytes_current as usize, to_backend, to_client }
}

/// A world with a client that has made no call yet; another has.
fn world() -> (World, usize) {
    let mut world = World::with_limits(&Accountant::new(u64::MAX), Limits::edge());
    let other = world.client();
    world.call(other, b'S', 10);
    world.turns(5);
    let client = world.client();
    (world, client)
}

/// SETTINGS with a HEADER_TABLE_SIZE of 0 (RFC 9113 section 6.5.2).
const NO_TABLE: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

/// A HEADERS frame that leaves its stream open.
fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u32).to_be_bytes();
    [&length[1..], &[1, 4], &stream.to_be_bytes(), block].concat()
}

/// A field that enters the client's table (RFC 7541 section 6.2.1), with a new name.
fn entry(name: &str, value: &str) -> Vec<u8> {
    // A length of 127 at least goes on behind its first byte (section 5.1).
    let length = |bytes: usize| match bytes.checked_sub(127) {
        None => vec![bytes as u8],
        Some(rest) if rest < 128 => vec![127, rest as u8],
        Some(rest) => vec![127, rest as u8 | 128, (rest >> 7) as u8],
    };
    [&[0x40][..], &length(name.len()), name.as_bytes(), &length(value.len()), value.as_bytes()].concat()
}

/// Opens all streams: the first brings the fields into the table, `bomb` last; the others refer to them by a byte each, and to
/// `bomb` so many times.
fn requests(bomb: &str, repeats: usize) -> Vec<u8> {
    let mut first = vec![0x83, 0x86];
    for (name, value) in [
        (":path", "/pkg.Service/Method"),
        (":authority", "service"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-bomb", bomb),
    ] {
        first.extend(entry(name, value));
    }
    // The newest entry is 62 (RFC 7541 section 2.3.3).
    let mut other = vec![0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63];
    other.resize(other.len() + repeats, 0x80 | 62);
    let others = (1..STREAMS).flat_map(|number| headers(2 * number + 1, &other));
    headers(1, &first).into_iter().chain(others).collect()
}

#[test]
fn an_open_call_holds_a_kibibyte_however_few_bytes_opened_it() {
    let (mut world, client) = world();
    let cost = attack(&mut world, client, &requests("v", 0));
    assert_eq!(world.worker.call_count(), STREAMS as usize);
    assert!(cost.held <= STREAMS as usize * 1024, "{cost:?}");
    assert!(cost.to_backend <= cost.sent + 1024, "{cost:?}");
}

#[test]
fn a_bomb_of_references_holds_no_copies() {
    let (mut world, client) = world();
    let bomb = "v".repeat(120);
    let cost = attack(&mut world, client, &requests(&bomb, 90));
    assert_eq!(world.worker.call_count(), STREAMS as usize);
    // A call's kibibyte, and sixteen bytes for a reference in a list that grows by doubling.
    assert!(cost.held <= STREAMS as usize * (1024 + 16 * 128), "{cost:?}");
    assert!(cost.to_backend <= cost.sent + 1024, "{cost:?}");
}

#[test]
fn a_backend_reads_no_more_for_a_request_than_the_list_that_the_listener_admits() {
    // What a backend's table does not take is written out for each reference: RFC 7541 leaves no other way.
    let list = Limits::edge().header_list.list_bytes;
    for (has_table, size, repeats) in [(false, 120, 90), (true, 3000, 5)] {
        let (mut world, client) = world();
        if !has_table {
            let (id, _) = world.peers[&world.backend];
            world.worker.received(world.now, id, &NO_TABLE);
        }
        let cost = attack(&mut world, client, &requests(&"v".repeat(size), repeats));
        assert_eq!(world.worker.call_count(), STREAMS as usize);
        assert!(cost.to_backend <= STREAMS as usize * list, "{cost:?}");
    }
}

#[test]
fn an_answer_of_the_proxy_itself_takes_half_a_kibibyte() {
    let (mut world, client) = world();
    // The path of the first is malformed, and so is that of the others.
    let mut bytes = requests("v", 0);
    let at = bytes.windows(4).position(|bytes| bytes == b"/pkg").unwrap();
    bytes[at] = b'x';
    let cost = attack(&mut world, client, &bytes);
    assert_eq!((world.worker.call_count(), cost.to_backend), (0, 0));
    assert!((1..=STREAMS as usize * 512).contains(&cost.to_client), "{cost:?}");
    // The connection's buffer for what it writes, which the next answers use.
    assert!(cost.held <= 2 * cost.to_client, "{cost:?}");
}

#[test]
fn a_client_that_reads_nothing_holds_a_window_for_each_call_and_half_a_mebibyte() {
    let (mut world, _) = world();
    world.slow_client(STREAMS as usize);
    world.turns(60);
    let limits = Limits::edge();
    let windows = u64::from(STREAMS * limits.stream_window_bytes);
    // Its answers are of 60 kB: nearly a window each.
    assert!((windows / 10 * 9..=windows + (1 << 19)).contains(&world.peak), "{}", world.peak);
}
