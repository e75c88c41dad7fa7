//! What can be wrong with a target, and what to write instead.

use std::fmt;
use std::net::SocketAddr;

use super::{MAX_LISTED_ADDRESSES, MAX_UNIX_PATH_BYTES};
use crate::errors::quoted;

/// A target that cannot be understood.
///
/// Its `Display` form is one sentence that names the target, what is wrong with it, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetError {
    target: String,
    problem: TargetProblem,
}

impl TargetError {
    pub(super) fn new(target: &str, problem: TargetProblem) -> Self {
        Self { target: target.to_owned(), problem }
    }

    /// The target as it was written.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> &TargetProblem {
        &self.problem
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "target {}: {}; {}", quoted(&self.target), self.problem, self.problem.remedy())
    }
}

impl std::error::Error for TargetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.problem)
    }
}

/// What is wrong with a target.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetProblem {
    /// There is nothing to parse.
    #[error("it is empty")]
    Empty,
    /// It begins or ends with a blank, or has a control character in it.
    #[error("it has a blank at an end or a control character in it")]
    Blank,
    /// The scheme before `://` is none of ours.
    #[error("unknown scheme {}", quoted(.scheme))]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// The target with the scheme that was probably meant.
        suggestion: Option<String>,
    },
    /// A name server was named where there can be none.
    #[error("{} stands where only a name server or nothing can stand", quoted(.authority))]
    UnexpectedAuthority {
        /// What stands between `//` and the next slash.
        authority: String,
        /// What was probably meant.
        suggestion: String,
    },
    /// The name server is given by a name.
    #[error("the name server {} is not an IP address", quoted(.authority))]
    InvalidAuthority {
        /// What stands between `//` and the next slash.
        authority: String,
    },
    /// There is no host.
    #[error("the host is missing")]
    MissingHost,
    /// The host can be no domain name.
    #[error("{} cannot be a host name: {reason}", quoted(.host))]
    InvalidHost {
        /// The host.
        host: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// An IPv6 address without brackets, so that its port cannot be told apart.
    #[error("the IPv6 address {} needs brackets", quoted(.address))]
    Unbracketed {
        /// The address.
        address: String,
    },
    /// No number from 1 to 65535.
    #[error("{} is not a port", quoted(.port))]
    InvalidPort {
        /// What stands where a port should.
        port: String,
    },
    /// An address without its port.
    #[error("missing port in {}", quoted(.address))]
    MissingPort {
        /// The address.
        address: String,
        /// The address with a port.
        suggestion: String,
    },
    /// SRV records bring their own ports.
    #[error("SRV records bring their own ports")]
    PortOnService {
        /// The target without the port.
        suggestion: String,
    },
    /// No address of the scheme's family.
    #[error("{} is not an {family} address with a port", quoted(.address))]
    InvalidAddress {
        /// What stands in the list.
        address: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The form of such an address.
        form: &'static str,
    },
    /// Nothing before, between or after the commas.
    #[error("the list has an empty entry")]
    EmptyEntry,
    /// An address that stands in the list already.
    #[error("{address} stands in the list twice")]
    RepeatedAddress {
        /// The address.
        address: SocketAddr,
    },
    /// More than [`MAX_LISTED_ADDRESSES`].
    #[error("{count} addresses, at most {MAX_LISTED_ADDRESSES} can be listed")]
    TooManyAddresses {
        /// How many are listed.
        count: usize,
    },
    /// A scheme without the path it needs.
    #[error("the path is missing")]
    MissingPath {
        /// An example of the scheme with a path.
        example: &'static str,
    },
    /// Longer than the kernel allows.
    #[error("the socket's path has {bytes} bytes, at most {MAX_UNIX_PATH_BYTES} are possible")]
    PathTooLong {
        /// Its length.
        bytes: usize,
    },
}

impl TargetProblem {
    /// What to do about it: a clause that begins with a verb.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Empty => "write for example `dns:///orders:50051`".to_owned(),
            Self::Blank => "remove it".to_owned(),
            Self::UnknownScheme { suggestion: Some(suggestion), .. }
            | Self::UnexpectedAuthority { suggestion, .. }
            | Self::MissingPort { suggestion, .. }
            | Self::PortOnService { suggestion } => format!("write {}", quoted(suggestion)),
            Self::UnknownScheme { suggestion: None, .. } => {
                "use one of dns, dns+srv, ipv4, ipv6, unix, file".to_owned()
            }
            Self::InvalidAuthority { .. } => {
                "write its address, for example `dns://10.0.0.10/orders:50051`".to_owned()
            }
            Self::MissingHost => "write for example `dns:///orders:50051`".to_owned(),
            Self::InvalidHost { .. } => "correct the name".to_owned(),
            Self::Unbracketed { address } => format!("write `[{address}]:50051`"),
            Self::InvalidPort { .. } => "give a number from 1 to 65535".to_owned(),
            Self::InvalidAddress { form, .. } => format!("write it as `{form}`"),
            Self::EmptyEntry => "remove the comma".to_owned(),
            Self::RepeatedAddress { .. } => {
                "remove one of the two; to weigh it more, make it a target of its own with `weight`"
                    .to_owned()
            }
            Self::TooManyAddresses { .. } => "list them in a file and use `file:`".to_owned(),
            Self::MissingPath { example } => format!("write for example `{example}`"),
            Self::PathTooLong { .. } => "use a shorter path".to_owned(),
        }
    }
}
