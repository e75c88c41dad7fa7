//! A whole connection: any bytes of the peer, in any split, with an owner that answers, waits, resets and lets time pass.
//!
//! # The input
//! A schedule, then the peer's bytes: byte 0 chooses the limits, byte 1 gives the number of steps, each step takes three
//! bytes (`Step`), and all that follows arrives from the peer, as much with each step as it says, the rest at the end.
//!
//! # What must hold
//! - Any split of the bytes gives the same events and the same output: each input is run three times, and between two steps
//!   the bytes arrive at once, one by one, or in pieces.
//! - Every call uses input or reports one of the streams that a GOAWAY cut off, so that an owner's loop ends.
//! - Events come in the order of HTTP/2: nothing for a stream that is unknown, released or failed, no DATA before a head or
//!   behind an end. After an error there are no more events.
//! - What is held is what the owner has not consumed; no more streams exist than allowed; a deadline that was handled
//!   lies in the future. What is in order can be sent.
//! - The output is HTTP/2 itself (see `output.rs`).
//! - When the owner has released every stream, none is left and nothing is held; when the connection is closed, no
//!   reference to a field is.

mod output;
mod owner;

use evenkeel_http2::{Limits, Role};

use self::owner::Owner;

/// Steps that one schedule has at most; more make runs longer and not more different.
const STEPS_MAX: usize = 32;

/// Bytes from the peer that are looked at; for the same reason.
const WIRE_BYTES_MAX: usize = 8 * 1024;

/// One step: some bytes arrive, then the owner does something.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// How many times eight bytes arrive first.
    octets: u8,
    /// What the owner does, see [`Owner::act`].
    action: u8,
    /// On which stream, how much, how long.
    amount: u8,
}

/// How the bytes between two steps arrive.
#[derive(Clone, Copy, Debug)]
enum Split {
    Whole,
    Bytes,
    /// In pieces of 1 to 32 bytes; the first byte of a piece says how long it is.
    Pieces,
}

/// Bytes from a client.
///
/// # Panics
/// If a property of this module does not hold.
pub fn server_connection(data: &[u8]) {
    check(Role::Server, data);
}

/// Bytes from a server.
///
/// # Panics
/// If a property of this module does not hold.
pub fn client_connection(data: &[u8]) {
    check(Role::Client, data);
}

fn check(role: Role, data: &[u8]) {
    let [profile, count, rest @ ..] = data else { return };
    let (steps, wire) = rest.split_at(rest.len().min(3 * (usize::from(*count) % (STEPS_MAX + 1))));
    let steps: Vec<Step> = steps
        .chunks_exact(3)
        .map(|step| Step { octets: step[0], action: step[1], amount: step[2] })
        .collect();
    let wire = &wire[..wire.len().min(WIRE_BYTES_MAX)];
    let run = |split| run(role, limits(*profile), &steps, wire, split);
    let (events, output) = run(Split::Whole);
    for split in [Split::Bytes, Split::Pieces] {
        let (other_events, other_output) = run(split);
        assert_eq!(other_events, events, "events do not depend on how bytes are split ({split:?})");
        assert!(other_output == output, "nor does the output ({split:?})");
    }
}

/// Limits of real profiles, and some that are reached with few bytes.
fn limits(profile: u8) -> Limits {
    match profile % 4 {
        0 => Limits::edge(),
        1 => Limits::upstream(),
        2 => {
            Limits { stream_window_bytes: 100, max_concurrent_streams: 3, ledger_burst: 20, ..Limits::edge() }
        }
        _ => {
            let mut limits = Limits { ledger_burst: 20, held_allowance_bytes: 100, ..Limits::mesh() };
            limits.header_list.list_bytes = 200;
            limits.header_list.string_bytes = 40;
            limits
        }
    }
}

fn run(role: Role, limits: Limits, steps: &[Step], wire: &[u8], split: Split) -> (Vec<owner::Seen>, Vec<u8>) {
    let mut owner = Owner::new(role, limits);
    let mut at = 0;
    let mut arrived = 0;
    for step in steps {
        let until = wire.len().min(arrived + 8 * usize::from(step.octets));
        deliver(&mut owner, wire, &mut at, &mut arrived, until, split);
        owner.settle();
        owner.act(step.action, step.amount);
        owner.settle();
    }
    deliver(&mut owner, wire, &mut at, &mut arrived, wire.len(), split);
    owner.settle();
    owner.finish()
}

/// The bytes up to `until` arrive. What is not used yet is offered again with them.
fn deliver(owner: &mut Owner, wire: &[u8], at: &mut usize, arrived: &mut usize, until: usize, split: Split) {
    while *arrived < until {
        let length = match split {
            Split::Whole => until - *arrived,
            Split::Bytes => 1,
            Split::Pieces => 1 + usize::from(wire[*arrived]) % 32,
        };
        *arrived = until.min(*arrived + length);
        owner.wake(&wire[..*arrived], at);
    }
}
