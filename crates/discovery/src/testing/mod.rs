//! A name server on loopback whose answers a test scripts (feature `testing`).
//!
//! It speaks real DNS over UDP and TCP: EDNS0 sizes, truncation, CNAMEs, SRV with the targets' addresses carried along.
//! A target reaches it through its authority, `dns://127.0.0.1:PORT/orders.test.:50051`, or a resolver through
//! [`ResolveOptions::nameservers`](crate::ResolveOptions::nameservers). Together with addresses such as 127.0.0.2 to
//! 127.0.0.4, all of them loopback, it makes a faithful headless Service.
//!
//! ```
//! # use evenkeel_discovery::testing::{DnsServer, Failure};
//! # use std::net::Ipv4Addr;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = DnsServer::start().await?;
//! server.set("orders.test.", [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)], 1);
//! server.fail("orders.test.", Failure::ServFail);
//! assert!(server.queries().is_empty());
//! # Ok(())
//! # }
//! ```

mod server;
mod zone;

pub use hickory_resolver::proto::rr::RecordType;

pub use self::server::DnsServer;
pub use self::zone::{Failure, Query, Record, Transport};
