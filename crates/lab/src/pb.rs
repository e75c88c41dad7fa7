//! Messages, clients and servers generated from the definitions under `proto/`.

/// The shop's orders, `ecommerce.orders`.
pub mod orders {
    #![allow(warnings, clippy::too_many_lines, reason = "generated code")]
    tonic::include_proto!("ecommerce.orders");
}

/// The echo service of all four kinds of call, `evenkeel.echo.v1`.
pub mod echo {
    #![allow(warnings, clippy::too_many_lines, reason = "generated code")]
    tonic::include_proto!("evenkeel.echo.v1");
}

/// gRPC's interoperability test service, `grpc.testing`.
pub mod testing {
    #![allow(warnings, clippy::too_many_lines, reason = "generated code")]
    tonic::include_proto!("grpc.testing");
}
