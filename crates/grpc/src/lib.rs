//! gRPC's wire rules: timeouts, status, message framing, metadata, detection and HTTP mapping.
