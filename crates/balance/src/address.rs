//! Where an endpoint listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where an endpoint listens: a TCP address or the path of a Unix domain socket.
///
/// Its `Display` form is gRPC's: `127.0.0.1:50051`, `[::1]:50051`, `unix:/run/orders.sock`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Address {
    /// An IPv4 or IPv6 address with its port.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

/// What one has to reach for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
    Unix,
}

impl Address {
    pub(crate) fn family(&self) -> Family {
        match self {
            Self::Tcp(address) if address.is_ipv4() => Family::V4,
            Self::Tcp(_) => Family::V6,
            Self::Unix(_) => Family::Unix,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An IPv4 address within an IPv6 one (`::ffff:10.0.0.1`, RFC 4291 section 2.5.5.2) is taken out: both forms are one endpoint.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::Tcp(SocketAddr::from((ip, address.port()))),
            IpAddr::V6(_) => Self::Tcp(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_grpc_writes_targets() {
        let shown = |address: &str| Address::from(address.parse::<SocketAddr>().unwrap()).to_string();
        assert_eq!(shown("127.0.0.1:50051"), "127.0.0.1:50051");
        assert_eq!(shown("[::1]:50051"), "[::1]:50051");
        assert_eq!(shown("[::ffff:10.0.0.1]:50051"), "10.0.0.1:50051", "an IPv4 address in any form");
        assert_eq!(Address::Unix(PathBuf::from("/run/x.sock")).to_string(), "unix:/run/x.sock");
    }
}
