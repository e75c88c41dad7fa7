//! Fuzz target: see `evenkeel_oracle::frames::frame_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::frames::frame_headers(data));
