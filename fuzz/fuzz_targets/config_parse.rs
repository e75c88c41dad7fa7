//! Fuzz target: see `evenkeel_oracle::config::config_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::config::config_parse(data));
