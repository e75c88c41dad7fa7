//! Fuzz target: see `evenkeel_oracle::config::target_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::config::target_parse(data));
