//! One end under random traffic: any split of it gives the same events, no damage to it makes a panic or a spin.

use proptest::prelude::*;

use super::subject::{Seen, Subject};
use super::wire::{OK, POST, STATUS_0, Wire, wire, with};
use crate::error::ErrorCode;
use crate::limits::Limits;
use crate::settings::id;

/// One step of random traffic: what, on which stream, how much.
type Step = (u8, u8, u16);

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u16>()), 0..most)
}

/// Traffic that is mostly legal.
fn traffic(steps: &[Step]) -> Wire {
    let mut next = 1;
    steps.iter().fold(wire(), |wire, &(what, which, amount)| {
        let stream = 2 * (u32::from(which) % (next / 2 + 1)) + 1;
        let amount = usize::from(amount) % 2_000;
        match what % 24 {
            0..=5 => {
                next += 2;
                let more = [("x-index", ["a", "b", "c", "d"][amount % 4])];
                wire.headers(next - 2, &with(POST, &more), what.is_multiple_of(2))
            }
            6..=10 => wire.data(stream, &vec![what; amount]),
            11 => wire.last_data(stream, &vec![what; amount]),
            12 => wire.padded_data(stream, &vec![what; amount], which),
            13 => wire.headers(stream, STATUS_0, true),
            14 | 15 => wire.window_update(stream, amount as u32 + 1),
            16 => wire.window_update(0, amount as u32 + 1),
            17 => wire.reset(stream, ErrorCode(u32::from(which % 14))),
            18 => wire.ping(&[what; 8]),
            19 => wire.settings(&[
                (id::INITIAL_WINDOW_SIZE, 40 * amount as u32),
                (id::HEADER_TABLE_SIZE, 3 * amount as u32),
            ]),
            20 => wire.priority(stream, 0),
            21 => {
                next += 2;
                let block = super::wire::block(POST);
                let at = amount % block.len();
                wire.unfinished_headers(next - 2, &block[..at]).continuation(next - 2, &block[at..], true)
            }
            22 => {
                // A field that goes into the table, and a reference to it.
                next += 2;
                let mut block = super::wire::block(POST);
                block.extend_from_slice(&[0x40, 1, b'k', 1, b'a' + which % 8, 0xbe]);
                wire.headers_block(next - 2, &block, true)
            }
            _ => wire.frame(0x20 + which % 8, what, stream, &vec![0; amount]),
        }
    })
}

/// A server that reacts to each event alone, so that what it does depends on nothing but the order of events.
fn react(server: &mut Subject, seen: &[Seen]) {
    for seen in seen {
        let ended = match seen {
            Seen::Request { stream, end, .. } | Seen::Data { stream, end, .. } => end.then_some(*stream),
            Seen::Trailers(stream) => Some(*stream),
            _ => None,
        };
        if let Some(stream) = ended
            && server.headers(stream, OK, false).is_ok()
        {
            server.data(stream, &[7; 300], false).expect("the header section went first");
            server.trailers(stream).expect("the header section went first");
            if !server.http2.has_queued(server.key(stream)) {
                server.release(stream);
            }
        }
    }
}

/// Everything that a server tells and writes, given its input in these pieces.
fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Vec<u8>) {
    let limits = Limits { ping_strikes: u32::MAX, ledger_burst: 5_000, ..Limits::edge() };
    let mut server = Subject::server_with(limits, &[]);
    let mut all = Vec::new();
    for piece in pieces {
        server.input.extend_from_slice(piece);
        let input = core::mem::take(&mut server.input);
        let mut at = 0;
        loop {
            server.http2.begin_wake(server.now);
            while let Some(seen) = next(&mut server, &input, &mut at) {
                let over = matches!(seen, Seen::Error(_));
                react(&mut server, core::slice::from_ref(&seen));
                all.push(seen);
                if over {
                    return (all, server.take_output());
                }
            }
            if !server.http2.has_had_its_share() {
                break;
            }
        }
        server.input = input[at..].to_vec();
    }
    (all, server.take_output())
}

fn next(server: &mut Subject, input: &[u8], at: &mut usize) -> Option<Seen> {
    match server.http2.next_event(&mut server.fields, server.now, input, at) {
        Ok(Some(event)) => {
            server.handle(&event);
            server.seen.pop()
        }
        Ok(None) => None,
        Err(error) => Some(Seen::Error(error)),
    }
}

/// Cuts bytes at random places.
fn cut<'a>(bytes: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) * bytes.len() / 65_536).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    let mut pieces = Vec::new();
    for place in places {
        pieces.push(&bytes[from..place]);
        from = place;
    }
    pieces
}

proptest! {
    /// Any split of the input bytes gives the same events and the same output.
    #[test]
    fn any_split_of_the_input_gives_the_same_events(steps in steps(120), cuts in proptest::collection::vec(any::<u16>(), 0..200)) {
        let bytes = traffic(&steps).0;
        let whole = outcome(core::iter::once(bytes.as_slice()));
        prop_assert_eq!(&outcome(cut(&bytes, &cuts).into_iter()), &whole);
    }

    /// So does one byte at a time.
    #[test]
    fn one_byte_at_a_time_gives_the_same_events(steps in steps(20)) {
        let bytes = traffic(&steps).0;
        prop_assert_eq!(outcome(bytes.chunks(1)), outcome(core::iter::once(bytes.as_slice())));
    }

    /// Traffic with bytes changed, dropped and doubled never makes a panic, a spin, or a field that is kept.
    #[test]
    fn damaged_traffic_is_survived(steps in steps(80), damage in proptest::collection::vec((any::<u16>(), any::<u8>(), 0_u8..4), 1..20), client in any::<bool>()) {
        let mut bytes = traffic(&steps).0;
        for (place, value, how) in damage {
            if bytes.is_empty() {
                break;
            }
            let place = usize::from(place) % bytes.len();
            match how {
                0 => bytes[place] = value,
                1 => bytes[place] ^= 1 << (value % 8),
                2 => drop(bytes.remove(place)),
                _ => bytes.insert(place, value),
            }
        }
        survives(client, &bytes)?;
    }

    /// So it is with bytes of any kind.
    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), client in any::<bool>()) {
        survives(client, &bytes)?;
    }

    /// And with frames whose headers are right and whose payloads are random.
    #[test]
    fn random_frames_are_survived(frames in proptest::collection::vec((0_u8..11, any::<u8>(), 0_u32..8, proptest::collection::vec(any::<u8>(), 0..40)), 0..60), client in any::<bool>()) {
        let frames = frames.iter().fold(wire(), |wire, (kind, flags, stream, payload)| wire.frame(*kind, *flags, *stream, payload));
        survives(client, &frames.0)?;
    }
}

fn survives(client: bool, bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut subject = if client { Subject::client() } else { Subject::server() };
    if client {
        for at in 0..4 {
            subject.request(at % 2 == 0);
        }
    }
    for _ in 0..50 {
        let before = subject.input.len();
        let seen = subject.feed(if before == 0 { wire().raw(bytes) } else { wire() });
        prop_assert!(seen.len() <= bytes.len() / 9 + 8, "no more events than frames, and refused streams");
        if !subject.http2.has_had_its_share() {
            break;
        }
    }
    let (input, output) = (subject.input.len(), subject.http2.output().len());
    let ended = subject.http2.has_ended();
    subject.wake();
    let left = if ended { 0 } else { input };
    prop_assert_eq!(
        subject.input.len(),
        left,
        "no progress without new bytes, and none is kept after the end"
    );
    subject.flush();
    prop_assert_eq!(subject.http2.output().len(), output, "no output without new bytes");
    if let Some(deadline) = subject.http2.deadline() {
        subject.now = deadline;
        let _ended_or_not = subject.http2.handle_timeout(&mut subject.fields, deadline);
        prop_assert!(subject.http2.deadline().is_none_or(|next| next > deadline), "a deadline passes once");
    }
    Ok(())
}
