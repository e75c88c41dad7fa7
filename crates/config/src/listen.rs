//! Addresses that the proxy itself listens on: listeners and the admin interface.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use evenkeel_balance::Address;
use serde::{Serialize, Serializer};

use crate::errors::quoted;
use crate::target::{Target, TargetProblem, missing_port, path_after_scheme, write_path};

/// An address to listen on: `0.0.0.0:50051`, `[::]:50051`, `unix:/run/evenkeel.sock`.
///
/// Port 0 lets the system choose a free port. Its `Display` form parses to the same address again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListenAddress {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Reads an address as it is written in a configuration or on the command line.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ListenAddressError> {
        let fail = |problem| ListenAddressError { address: text.to_owned(), problem };
        if text.chars().any(char::is_control) {
            return Err(fail(ListenAddressProblem::Unreadable));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path_after_scheme("unix", path);
            return path.map(Self::Unix).map_err(|problem| fail(ListenAddressProblem::Path(problem)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        Err(fail(diagnose(text)))
    }

    /// Whether two sockets cannot both listen: the same path, or the same port on addresses of which one includes the
    /// other. `[::]` includes IPv4, because Linux opens it for both families unless told otherwise. `[::ffff:127.0.0.1]` is
    /// 127.0.0.1.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(a), Self::Unix(b)) => a == b,
            (Self::Tcp(a), Self::Tcp(b)) => {
                let (one, two) = (a.ip().to_canonical(), b.ip().to_canonical());
                a.port() == b.port() && a.port() != 0 && (includes(one, two) || includes(two, one))
            }
            _ => false,
        }
    }

    /// Whether this socket surely gets calls to an address that the target itself names: the same one, or one of the loopback
    /// interface where it listens on all interfaces. Which other addresses are this machine's is not known.
    pub(crate) fn answers(&self, target: &Target) -> bool {
        target.addresses().iter().any(|address| self.takes(address))
    }

    /// Whether this socket surely gets calls to an endpoint, as far as [`answers`](Self::answers) knows.
    pub(crate) fn takes(&self, endpoint: &Address) -> bool {
        match (self, endpoint) {
            (Self::Unix(path), Address::Unix(asked)) => path == asked,
            (Self::Tcp(socket), Address::Tcp(asked)) => gets(*socket, *asked),
            _ => false,
        }
    }
}

/// Whether a socket surely gets what is sent to an address.
fn gets(socket: SocketAddr, asked: SocketAddr) -> bool {
    let own = socket.ip().to_canonical();
    // Whoever connects to no address in particular reaches the loopback interface.
    let other = match asked.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    socket.port() == asked.port() && (own == other || other.is_loopback() && includes(own, other))
}

/// Whether a socket on the first address gets what is sent to the second.
fn includes(wide: IpAddr, narrow: IpAddr) -> bool {
    wide == narrow || wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

fn diagnose(text: &str) -> ListenAddressProblem {
    if let Some(suggestion) = missing_port(text) {
        return ListenAddressProblem::MissingPort { suggestion };
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match (host, port.parse::<u16>()) {
        ("" | "*", Ok(port)) => ListenAddressProblem::MissingHost { port },
        (_, Ok(port)) if !host.starts_with('[') && !host.contains(':') => {
            ListenAddressProblem::HostName { host: host.to_owned(), port }
        }
        _ => ListenAddressProblem::Unreadable,
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write_path(f, "unix", path),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An address to listen on that cannot be understood.
///
/// Its `Display` form is one sentence that names the address, what is wrong with it, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenAddressError {
    address: String,
    problem: ListenAddressProblem,
}

impl ListenAddressError {
    /// The address as it was written.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> &ListenAddressProblem {
        &self.problem
    }
}

impl fmt::Display for ListenAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {}: {}; {}", quoted(&self.address), self.problem, self.problem.remedy())
    }
}

impl std::error::Error for ListenAddressError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.problem)
    }
}

/// What is wrong with an address to listen on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenAddressProblem {
    /// An IP address without a port.
    #[error("the port is missing")]
    MissingPort {
        /// The address with a port.
        suggestion: SocketAddr,
    },
    /// A port without an address.
    #[error("the IP address is missing")]
    MissingHost {
        /// The port.
        port: u16,
    },
    /// A name: which of its addresses is meant cannot be known, and may change.
    #[error("{} is not an IP address", quoted(.host))]
    HostName {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path after `unix:` is none.
    #[error("{0}")]
    Path(#[source] TargetProblem),
    /// None of the above.
    #[error("not an IP address with a port, and not `unix:` with a path")]
    Unreadable,
}

impl ListenAddressProblem {
    /// What to do about it: a clause that begins with a verb.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::MissingPort { suggestion } => format!("write `{suggestion}`"),
            Self::MissingHost { port } => {
                format!("write `0.0.0.0:{port}` for all interfaces, `127.0.0.1:{port}` for this machine only")
            }
            Self::HostName { host, port } if host == "localhost" => format!("write `127.0.0.1:{port}`"),
            Self::HostName { port, .. } => {
                format!("write the address of an interface, or `0.0.0.0:{port}` for all of them")
            }
            Self::Path(problem) => problem.remedy(),
            Self::Unreadable => "write for example `0.0.0.0:50051`".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> ListenAddressProblem {
        ListenAddress::parse(text).unwrap_err().problem().clone()
    }

    #[test]
    fn reads_addresses_of_both_families_and_paths() {
        for text in ["0.0.0.0:50051", "127.0.0.1:0", "[::]:50051", "[::1]:1", "unix:/run/x.sock"] {
            assert_eq!(ListenAddress::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ListenAddress::parse("unix:///run/x"), ListenAddress::parse("unix:/run/x"));
    }

    #[test]
    fn says_what_is_missing() {
        use ListenAddressProblem::{HostName, MissingHost, MissingPort, Path, Unreadable};
        assert_eq!(problem("0.0.0.0"), MissingPort { suggestion: "0.0.0.0:50051".parse().unwrap() });
        assert_eq!(problem("::1"), MissingPort { suggestion: "[::1]:50051".parse().unwrap() });
        for text in ["50051", ":50051", "*:50051"] {
            assert_eq!(problem(text), MissingHost { port: 50051 }, "{text}");
        }
        assert_eq!(problem("localhost:1"), HostName { host: "localhost".into(), port: 1 });
        for text in ["", "orders", "0.0.0.0:65536", "0.0.0.0:", "[::1", "::1:x", "1\u{7}:1"] {
            assert_eq!(problem(text), Unreadable, "{text:?}");
        }
        assert!(matches!(problem("unix:"), Path(TargetProblem::MissingPath { .. })));
    }

    #[test]
    fn the_error_is_one_sentence_with_the_remedy() {
        let error = ListenAddress::parse("localhost:50051").unwrap_err();
        assert_eq!(
            error.to_string(),
            "address `localhost:50051`: `localhost` is not an IP address; write `127.0.0.1:50051`"
        );
    }

    #[test]
    fn a_socket_answers_to_its_own_address_and_to_loopback_where_it_listens_everywhere() {
        let answers = |address: &str, target: &str| {
            ListenAddress::parse(address).unwrap().answers(&target.parse().unwrap())
        };
        for (address, target) in [
            ("127.0.0.1:1", "ipv4:10.0.0.1:1,127.0.0.1:1"),
            ("0.0.0.0:1", "ipv4:127.0.0.9:1"),
            ("[::]:1", "ipv4:127.0.0.1:1"),
            ("[::]:1", "ipv6:[::1]:1"),
            ("[::ffff:127.0.0.1]:1", "ipv4:127.0.0.1:1"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:1", "dns:///[::1]:1"),
            ("unix:/a", "unix:///a"),
        ] {
            assert!(answers(address, target), "{address} {target}");
        }
        for (address, target) in [
            ("127.0.0.1:1", "ipv4:127.0.0.1:2"),
            ("127.0.0.1:1", "ipv4:127.0.0.2:1"),
            ("0.0.0.0:1", "ipv4:10.0.0.1:1"),
            ("0.0.0.0:1", "ipv6:[::1]:1"),
            ("unix:/a", "unix:/b"),
            ("127.0.0.1:1", "dns:///localhost:1"),
        ] {
            assert!(!answers(address, target), "{address} {target}");
        }
    }

    #[test]
    fn addresses_conflict_if_one_includes_the_other() {
        let conflict = |a: &str, b: &str| {
            let (a, b) = (ListenAddress::parse(a).unwrap(), ListenAddress::parse(b).unwrap());
            assert_eq!(a.conflicts_with(&b), b.conflicts_with(&a));
            a.conflicts_with(&b)
        };
        assert!(conflict("127.0.0.1:1", "127.0.0.1:1"));
        assert!(conflict("0.0.0.0:1", "127.0.0.1:1"));
        assert!(conflict("[::]:1", "127.0.0.1:1"));
        assert!(conflict("[::]:1", "0.0.0.0:1"));
        assert!(conflict("[::ffff:127.0.0.1]:1", "127.0.0.1:1"));
        assert!(conflict("[::ffff:127.0.0.1]:1", "0.0.0.0:1"));
        assert!(conflict("[::ffff:0.0.0.0]:1", "127.0.0.1:1"));
        assert!(!conflict("[::ffff:127.0.0.1]:1", "127.0.0.2:1"));
        assert!(conflict("unix:/a", "unix:/a"));
        assert!(!conflict("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!conflict("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!conflict("0.0.0.0:1", "[::1]:1"));
        assert!(!conflict("0.0.0.0:0", "0.0.0.0:0"), "each gets a port of its own");
        assert!(!conflict("unix:/a", "unix:/b"));
        assert!(!conflict("unix:/a", "127.0.0.1:1"));
    }
}
