//! Fuzz target: see `evenkeel_oracle::connection::server_connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::connection::server_connection(data));
