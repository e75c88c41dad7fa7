//! Fuzz target: see `evenkeel_oracle::connection::client_connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::connection::client_connection(data));
