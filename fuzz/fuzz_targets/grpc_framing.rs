//! Fuzz target: see `evenkeel_oracle::grpc::grpc_framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::grpc::grpc_framing(data));
