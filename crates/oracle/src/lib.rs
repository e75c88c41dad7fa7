//! Oracles: what must hold for any bytes from outside. The fuzzer searches for a counterexample, the tests replay.
//!
//! Each function takes bytes and panics if its property is broken. `fuzz/` holds a fuzz target of one line for each, and
//! `fuzz/corpus/` the inputs that are worth keeping: this crate's tests run all of them and mutations of them, so that
//! the properties are checked without a fuzzer, too. The functions depend on no fuzzer and are deterministic: the same
//! bytes always do the same.
//!
//! | target | what is fed | what must hold |
//! |---|---|---|
//! | `frame_headers` | frames, one after the other | what is parsed is written the same; lengths and padding add up |
//! | `hpack_decode` | header blocks of one connection | limits never change the table; a list survives our encoder |
//! | `hpack_round_trip` | operations on an encoder | its decoder reads the same lists and has the same table |
//! | `server_connection`, `client_connection` | a schedule, then the peer's bytes | see [`connection`] |
//! | `grpc_framing` | the bytes of a stream | any split counts the same messages as a plain reading |
//! | `grpc_values` | the value of a header | what is read is printed and read as the same |
//! | `config_parse` | a configuration's text | a value that is written is read as itself; errors point into the text |
//! | `target_parse` | a target or an address to listen on | the canonical form is read as the same |
//!
//! A crash is kept: shrink it (`cargo fuzz tmin`), save it as `fuzz/corpus/TARGET/regression-WHAT`, and correct the code.

pub mod config;
pub mod connection;
pub mod frames;
pub mod grpc;
pub mod hpack;

/// A property and the name of its fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Oracle {
    /// The name of the fuzz target and of the folder of its corpus.
    pub name: &'static str,
    /// Panics if the property does not hold for these bytes.
    pub check: fn(&[u8]),
}

/// All oracles, in the order of the table above.
pub const ORACLES: [Oracle; 9] = [
    Oracle { name: "frame_headers", check: frames::frame_headers },
    Oracle { name: "hpack_decode", check: hpack::hpack_decode },
    Oracle { name: "hpack_round_trip", check: hpack::hpack_round_trip },
    Oracle { name: "server_connection", check: connection::server_connection },
    Oracle { name: "client_connection", check: connection::client_connection },
    Oracle { name: "grpc_framing", check: grpc::grpc_framing },
    Oracle { name: "grpc_values", check: grpc::grpc_values },
    Oracle { name: "config_parse", check: config::config_parse },
    Oracle { name: "target_parse", check: config::target_parse },
];
