//! Fuzz target: see `evenkeel_oracle::grpc::grpc_values`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_oracle::grpc::grpc_values(data));
