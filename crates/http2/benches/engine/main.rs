//! Instructions that the engine takes for its work, beside the h2 crate: counted by Callgrind, so that a busy machine
//! changes nothing.
//!
//! Both are given the same bytes ([`peer`]) in the same portions, as one wake-up of a connection reads them, and
//! answer with the same header lists and messages. What comes in is copied into a buffer once and what goes out is
//! copied out of one, on both sides, as a socket does. Each is driven as its interface wants it: the engine with
//! borrowed events and blocks of interned fields ([`ours`]); h2 with owned `http` types, but without the tasks and
//! wakers that it has in a runtime ([`theirs`]), which flatters it. Only [`UNITS`] units on a connection that is
//! warm are counted, no setting up and no tearing down.
//!
//! The engine's HPACK is counted alone, too ([`hpack`]); h2 keeps its own to itself.
//!
//! `cargo xtask bench engine` runs this, and prints and writes the table: see `docs/benchmarks/engine.md`.

#![expect(missing_docs, unused_qualifications, reason = "the macros make items and paths that nobody reads")]

mod hpack;
mod ours;
mod peer;
mod theirs;

use core::hint::black_box;

use gungraun::Callgrind;
use gungraun::prelude::*;

use peer::Kind;

/// Units that are counted: calls, header blocks, or messages of 64 KiB. `cargo xtask bench engine` divides by it.
const UNITS: usize = 1000;

/// Units before those: tables and buffers have their final size then.
const WARM_UP: usize = 200;

/// Something that works off what a peer sent.
trait Hop {
    /// Takes what arrived at one wake-up, and hands on what is to be written.
    fn wake(&mut self, input: &[u8]);
    /// Units that are done.
    fn done(&self) -> usize;
}

/// A hop that is warm, and the bytes that come next, one portion for each wake-up.
struct Warm<H> {
    hop: H,
    wakes: Vec<Vec<u8>>,
}

impl<H: Hop> Warm<H> {
    /// `wakes` brings [`WARM_UP`] and then [`UNITS`] units.
    fn new(mut hop: H, mut wakes: Vec<Vec<u8>>) -> Self {
        let counted = wakes.split_off(wakes.len() * WARM_UP / (WARM_UP + UNITS));
        wakes.iter().for_each(|input| hop.wake(input));
        assert_eq!(hop.done(), WARM_UP, "the warm-up is done");
        Self { hop, wakes: counted }
    }

    fn run(mut self) -> Self {
        for input in &self.wakes {
            self.hop.wake(black_box(input));
        }
        self
    }
}

/// What was counted has happened.
#[expect(clippy::needless_pass_by_value, reason = "what a benchmark returns is given to its teardown")]
fn finish<H: Hop>(warm: Warm<H>) {
    assert_eq!(warm.hop.done(), WARM_UP + UNITS, "every unit is done");
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = ours::server)]
#[bench::fresh(args = (Kind::Fresh), setup = ours::server)]
fn server_ours(warm: Warm<ours::Server>) -> Warm<ours::Server> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = theirs::server)]
#[bench::fresh(args = (Kind::Fresh), setup = theirs::server)]
fn server_theirs(warm: Warm<theirs::Server>) -> Warm<theirs::Server> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = ours::client)]
#[bench::fresh(args = (Kind::Fresh), setup = ours::client)]
fn client_ours(warm: Warm<ours::Client>) -> Warm<ours::Client> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = theirs::client)]
#[bench::fresh(args = (Kind::Fresh), setup = theirs::client)]
fn client_theirs(warm: Warm<theirs::Client>) -> Warm<theirs::Client> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = ours::interleaved)]
#[bench::fresh(args = (Kind::Fresh), setup = ours::interleaved)]
fn interleaved_ours(warm: Warm<ours::Server>) -> Warm<ours::Server> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = theirs::interleaved)]
#[bench::fresh(args = (Kind::Fresh), setup = theirs::interleaved)]
fn interleaved_theirs(warm: Warm<theirs::Server>) -> Warm<theirs::Server> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::upload(setup = ours::upload)]
#[bench::download(setup = ours::download)]
fn stream_ours(warm: Warm<ours::Server>) -> Warm<ours::Server> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::upload(setup = theirs::upload)]
#[bench::download(setup = theirs::download)]
fn stream_theirs(warm: Warm<theirs::Server>) -> Warm<theirs::Server> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = hpack::decoder)]
#[bench::fresh(args = (Kind::Fresh), setup = hpack::decoder)]
fn decode(warm: Warm<hpack::BlockDecoder>) -> Warm<hpack::BlockDecoder> {
    warm.run()
}

#[library_benchmark(teardown = finish)]
#[bench::repeated(args = (Kind::Repeated), setup = hpack::encoder)]
#[bench::fresh(args = (Kind::Fresh), setup = hpack::encoder)]
fn encode(warm: Warm<hpack::ListEncoder>) -> Warm<hpack::ListEncoder> {
    warm.run()
}

library_benchmark_group!(
    name = engine,
    benchmarks = [
        server_ours,
        server_theirs,
        client_ours,
        client_theirs,
        interleaved_ours,
        interleaved_theirs,
        stream_ours,
        stream_theirs,
        decode,
        encode,
    ]
);

main!(
    config = LibraryBenchmarkConfig::default()
        // Bytes are copied with vectors: else glibc copies with `rep movsb`, of which Callgrind counts each byte as an
        // instruction, so that large messages would seem to cost nothing but copies.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=1073741824")
        .tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = engine
);
