//! Targets: where a cluster's endpoints come from, in gRPC's own naming.
//!
//! Why gRPC's naming: whoever moves a client behind the proxy copies the string that the client dialled.
//!
//! | written | meaning |
//! |---|---|
//! | `dns:///orders:50051`, `dns:orders:50051`, `orders:50051` | A and AAAA records of a name; `dns` is the default |
//! | `dns://10.0.0.10:53/orders:50051` | the same, asked of that name server (port 53 if none is given) |
//! | `dns+srv:///_grpc._tcp.orders.svc` | SRV records, which bring ports and weights with them |
//! | `ipv4:10.0.0.1:50051,10.0.0.2:50051`, `ipv6:[::1]:50051` | these addresses |
//! | `unix:/run/orders.sock`, `unix:///run/orders.sock` | a Unix domain socket |
//! | `file:/etc/evenkeel/orders.yaml` | a list of endpoints, read again whenever it changes |
//!
//! Two choices of our own. gRPC has no scheme for SRV records, so `dns+srv` is ours. And `ipv4:`/`ipv6:` must name
//! their ports, where gRPC takes 443: with addresses written by hand a missing port is a slip, never a wish. For `dns`
//! the default port stays gRPC's 443.
//!
//! Source: [gRPC name resolution](https://github.com/grpc/grpc/blob/master/doc/naming.md).

mod error;
mod host;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use evenkeel_balance::Address;
use serde::{Serialize, Serializer};

pub use error::{TargetError, TargetProblem};
pub(crate) use parse::{missing_port, path_after_scheme};

/// The port of a `dns` target that names none: gRPC's default.
pub const DEFAULT_PORT: u16 = 443;

/// The port of a name server that is given without one (RFC 1035).
pub const DEFAULT_DNS_PORT: u16 = 53;

/// Addresses that an `ipv4:` or `ipv6:` target may list. A longer list belongs into a file.
pub const MAX_LISTED_ADDRESSES: usize = 1024;

/// Bytes that the path of a Unix domain socket may have: `sun_path` has 108 on Linux, and the last is a NUL.
pub const MAX_UNIX_PATH_BYTES: usize = 107;

/// Where a cluster's endpoints come from.
///
/// Its `Display` form is canonical and parses to the same target again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// The A and AAAA records of a host.
    Dns {
        /// The name server to ask; `None` means the system's.
        authority: Option<SocketAddr>,
        /// A host name, or an IP address as text without brackets.
        host: String,
        /// The endpoints' port. Default [`DEFAULT_PORT`].
        port: u16,
    },
    /// The SRV records of a name: addresses, ports and weights.
    Srv {
        /// The name server to ask; `None` means the system's.
        authority: Option<SocketAddr>,
        /// The name with its service and protocol labels, such as `_grpc._tcp.orders.svc`.
        name: String,
    },
    /// Addresses of one family: at least one, at most [`MAX_LISTED_ADDRESSES`].
    Ip(Vec<SocketAddr>),
    /// The path of a Unix domain socket, at most [`MAX_UNIX_PATH_BYTES`] long.
    Unix(PathBuf),
    /// A file that lists endpoints: see [`parse_endpoints`](crate::parse_endpoints).
    File(PathBuf),
}

impl Target {
    /// Reads a target as it is written in a configuration or on the command line.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        parse::parse(text).map_err(|problem| TargetError::new(text, problem))
    }

    /// Whether its endpoints come from a name server.
    #[must_use]
    pub fn is_dns(&self) -> bool {
        matches!(self, Self::Dns { .. } | Self::Srv { .. })
    }

    /// The addresses that the target itself names.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        match self {
            Self::Ip(list) => list.iter().copied().map(Address::from).collect(),
            Self::Unix(path) => vec![Address::Unix(path.clone())],
            Self::Dns { host, port, .. } => {
                let ip = host.parse::<IpAddr>().ok();
                ip.map(|ip| SocketAddr::new(ip, *port).into()).into_iter().collect()
            }
            Self::Srv { .. } | Self::File(_) => Vec::new(),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns { authority, host, port } => {
                write!(f, "dns://{}/", Authority(*authority))?;
                if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
            }
            Self::Srv { authority, name } => write!(f, "dns+srv://{}/{name}", Authority(*authority)),
            Self::Ip(addresses) => {
                let family = if addresses.iter().all(SocketAddr::is_ipv4) { "ipv4" } else { "ipv6" };
                write!(f, "{family}:")?;
                for (index, address) in addresses.iter().enumerate() {
                    write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Unix(path) => write_path(f, "unix", path),
            Self::File(path) => write_path(f, "file", path),
        }
    }
}

/// Writes `scheme:path`. A path that begins with two slashes would read as an authority; it gets an empty one.
pub(crate) fn write_path(f: &mut fmt::Formatter<'_>, scheme: &str, path: &Path) -> fmt::Result {
    let path = path.display().to_string();
    let authority = if path.starts_with("//") { "//" } else { "" };
    write!(f, "{scheme}:{authority}{path}")
}

/// The part between `//` and `/`: a name server or nothing.
struct Authority(Option<SocketAddr>);

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
