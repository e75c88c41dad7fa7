//! Compiles the service definitions under `proto/` with protox, so that no `protoc` needs to be installed.

use std::error::Error;

const PROTOS: [&str; 3] = ["ecommerce/orders.proto", "evenkeel/echo.proto", "grpc/testing/test.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure().emit_rerun_if_changed(false).compile_fds(files)?;
    Ok(())
}
