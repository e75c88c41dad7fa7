//! Fuzz target: see `evenkeel_oracle::hpack::hpack_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::hpack::hpack_decode(data));
