//! How an attempt ended: the one input that outlier detection and retries judge by.
//!
//! Why not the status alone? A proxy knows more than a status can say: whether the request left at all, whether the
//! backend refused it unprocessed, and whether it was the backend or the caller that ended it. A trailer's `grpc-status`
//! counts exactly as one in the headers does.

use evenkeel_grpc::{Code, Pushback};

/// How one attempt at one endpoint ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttemptEnd {
    /// The backend answered with this status, in trailers or in a trailers-only answer.
    Status {
        /// The `grpc-status`.
        code: Code,
        /// The `grpc-retry-pushback-ms` beside it; a malformed one is [`Pushback::Never`].
        pushback: Option<Pushback>,
    },
    /// No byte of the request left: the connection was gone, or could not be had.
    NotSent,
    /// The connection to the endpoint could not be opened.
    ConnectFailed,
    /// RST_STREAM(REFUSED_STREAM): the backend did not process the request (RFC 9113, section 8.7).
    RefusedStream,
    /// GOAWAY with a last stream below this one: the backend did not process the request (RFC 9113, section 6.8).
    GoAway {
        /// Whether its error code was NO_ERROR: a backend that leaves in good order.
        is_graceful: bool,
    },
    /// Another reset, a broken connection or a malformed answer: the request may have been processed.
    Reset,
    /// The attempt's own timeout ran out.
    AttemptTimeout,
    /// The call's deadline ran out: there is no time left for anything.
    DeadlineExceeded,
    /// The downstream cancelled the call or left.
    Cancelled,
    /// Another attempt of the call decided it, and this one was cancelled: it had no answer until then.
    Overtaken {
        /// Whether the other one was sent later, and answered: in less time than this one had.
        by_later: bool,
    },
}

impl AttemptEnd {
    /// The end of an attempt that the backend answered without pushback.
    #[must_use]
    pub fn status(code: Code) -> Self {
        Self::Status { code, pushback: None }
    }

    /// The status that a client is told: gRPC's reading of each end.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Status { code, .. } => *code,
            Self::NotSent | Self::ConnectFailed | Self::RefusedStream | Self::GoAway { .. } | Self::Reset => {
                Code::Unavailable
            }
            Self::AttemptTimeout | Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled | Self::Overtaken { .. } => Code::Cancelled,
        }
    }

    /// The backend's word on when to try again.
    #[must_use]
    pub fn pushback(&self) -> Option<Pushback> {
        match self {
            Self::Status { pushback, .. } => *pushback,
            _ => None,
        }
    }
}
