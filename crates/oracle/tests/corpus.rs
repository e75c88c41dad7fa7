//! The corpora of all fuzz targets, replayed: every file as it is, and mutations of it.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use std::path::PathBuf;

use evenkeel_oracle::{ORACLES, Oracle};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Mutations of each file.
const MUTATIONS: usize = 200;

/// Numbers at which lengths, flags and limits change their meaning.
const EDGES: [u8; 10] = [0, 1, 2, 4, 0x20, 0x3f, 0x7f, 0x80, 0xfe, 0xff];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}

/// A folder's entries in the order of their names.
fn names(path: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// The corpus of a target: names and contents.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder("corpus").join(target);
    let read = |name: String| (name.clone(), std::fs::read(folder.join(name)).unwrap());
    names(folder.clone()).into_iter().map(read).collect()
}

/// Runs an input; a failure says how to keep it.
fn check(oracle: Oracle, input: &[u8], origin: &str) {
    // The panic itself has told which property was broken.
    if std::panic::catch_unwind(|| (oracle.check)(input)).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!(
            "{origin}: `echo {hex} | xxd -r -p > fuzz/corpus/{0}/regression-WHAT` keeps it, \
             `cargo test -p evenkeel-oracle {0}` repeats it",
            oracle.name
        );
    }
}

/// Changes one thing: a byte, a number at an edge, a range cut out, repeated, or taken from another file.
fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut SmallRng) {
    let at = rng.random_range(0..=input.len());
    let length = rng.random_range(0..=(input.len() - at).min(32));
    match rng.random_range(0..6) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = EDGES[rng.random_range(0..EDGES.len())],
        2 => drop(input.drain(at..at + length)),
        3 => {
            let again = input[at..at + length].repeat(rng.random_range(1..4));
            drop(input.splice(at..at, again));
        }
        4 => {
            let from = rng.random_range(0..=other.len());
            drop(input.splice(at..at + length, other[from..].iter().copied().take(64)));
        }
        _ => input.insert(at, rng.random()),
    }
}

fn replay(target: &str) {
    let oracle = *ORACLES.iter().find(|oracle| oracle.name == target).unwrap();
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{target} has no corpus");
    for (at, (name, input)) in corpus.iter().enumerate() {
        check(oracle, input, &format!("{target}/{name}"));
        let mut rng = SmallRng::seed_from_u64(at as u64);
        for mutation in 0..MUTATIONS {
            let mut mutated = input.clone();
            let (_, other) = &corpus[rng.random_range(0..corpus.len())];
            for _ in 0..rng.random_range(1..5) {
                mutate(&mut mutated, other, &mut rng);
            }
            check(oracle, &mutated, &format!("{target}/{name}, mutation {mutation} (seed {at})"));
        }
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        #[test]
        fn every_oracle_is_replayed_and_has_its_fuzz_target_and_corpus() {
            let oracles = ORACLES.map(|oracle| oracle.name);
            assert_eq!([$(stringify!($target)),*], oracles);
            let mut sorted = oracles.map(str::to_owned);
            sorted.sort_unstable();
            assert_eq!(names(folder("corpus")), sorted);
            assert_eq!(names(folder("fuzz_targets")), sorted.map(|name| name + ".rs"));
        }
    };
}

replays! {
    frame_headers
    hpack_decode
    hpack_round_trip
    server_connection
    client_connection
    grpc_framing
    grpc_values
    config_parse
    target_parse
}
