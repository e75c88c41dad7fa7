//! Why a target could not be resolved.

use std::path::PathBuf;
use std::time::Duration;

use evenkeel_config::ConfigErrors;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::ProtoError;

use crate::text_file::ReadError;

/// Why a target could not be resolved: one sentence that names the target and the answer, fit for a status message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The target's host cannot be a domain name.
    #[error("cannot resolve {name:?}: not a domain name ({source}); correct the target")]
    InvalidName {
        /// The host as written in the target.
        name: String,
        /// What is wrong with it.
        source: ProtoError,
    },
    /// The name server answered NXDOMAIN for the name and all its completions.
    #[error("cannot resolve {name:?}: no such name (NXDOMAIN); check its spelling and the search domains")]
    NoSuchName {
        /// The host as written in the target.
        name: String,
    },
    /// The name exists, but without records of the kind asked for.
    #[error("cannot resolve {name:?}: the name exists but has no {records} records")]
    NoRecords {
        /// The host as written in the target.
        name: String,
        /// The kinds asked for.
        records: &'static str,
    },
    /// The name server answered with an error such as SERVFAIL or REFUSED.
    #[error("cannot resolve {name:?}: the name server answered {answer} for {question:?}")]
    Answer {
        /// The host as written in the target.
        name: String,
        /// The name that was asked for, completed by a search domain where one applied.
        question: String,
        /// The response code, in upper case as in RFC 1035 and its successors.
        answer: String,
    },
    /// No name server answered in time.
    #[error(
        "cannot resolve {name:?}: no name server answered within {after:?}; check that they can be reached"
    )]
    Timeout {
        /// The host as written in the target.
        name: String,
        /// [`ResolveOptions::query_timeout`](crate::ResolveOptions::query_timeout).
        after: Duration,
    },
    /// The name server could not be reached, or its answer could not be understood.
    #[error("cannot resolve {name:?}: asking the name server failed: {source}")]
    Exchange {
        /// The host as written in the target.
        name: String,
        /// What went wrong.
        source: NetError,
    },
    /// The system's list of name servers cannot be had.
    #[error(
        "cannot resolve {name:?}: no name servers: /etc/resolv.conf: {source}; or name one in the target"
    )]
    SystemConfiguration {
        /// The host as written in the target.
        name: String,
        /// What went wrong.
        source: NetError,
    },
    /// The endpoint file cannot be read.
    #[error("cannot read the endpoint file {path:?}: {source}")]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: ReadError,
    },
    /// The endpoint file is a directory, pipe or device.
    #[error("the endpoint file {path:?} is not a regular file")]
    FileKind {
        /// The file.
        path: PathBuf,
    },
    /// The endpoint file is larger than [`MAX_FILE_BYTES`](crate::MAX_FILE_BYTES).
    #[error("the endpoint file {path:?} is larger than {limit} bytes; split it or use dns:")]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// The endpoint file's contents are no endpoint list.
    #[error(transparent)]
    FileInvalid {
        /// All faults, each with its line and column.
        source: ConfigErrors,
    },
}

impl ResolveError {
    /// Whether the answer was that there are no addresses, as opposed to no answer.
    pub(crate) fn is_empty_answer(&self) -> bool {
        matches!(self, Self::NoSuchName { .. } | Self::NoRecords { .. })
    }
}
