//! How an attempt ended: the one input that outlier detection and retries judge by.
//!
//! Why not the status alone? A proxy knows more than a status can say: whether the request left at all, whether the
//! backend refused it unprocessed, and whether it was the backend or the caller that ended it. A trailer's `grpc-status`
//! counts exactly as one in the headers does.
//!
//! **Bounds on time.** A deadline, a route's timeout, the longest duration or silence of a stream, and the age of its connection
//! end streams that would go on. Rule: an attempt that such a bound ended after its endpoint had delivered at least one whole response
//! message did its work, and is a success ([`AttemptEnd::Served`]). Why? A watch has no other end: clients bound watches by a deadline
//! and open them again. Taken for failures these ends eject healthy endpoints, one after the other and their trials as
//! well, and a new version that breaks every stream is no worse than the one that keeps them all until their bound. The price:
//! streams that an endpoint had open when it froze count once more for it, each when its bound comes. What begins later tells.
//!
//! Without a response message a deadline stays a failure, which is all that a stopped process shows
//! ([`AttemptEnd::DeadlineExceeded`]). The proxy's own bounds ([`AttemptEnd::CutOff`]) say nothing then: a client cannot have
//! waited in vain for what it asked no time for.

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
    /// The same right after a stream of a full connection ended: the backend counts it still, as gRPC's core library does for a moment
    /// after the end has left. Not overload: there is a place as soon as it has counted.
    NoPlace,
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
    /// The proxy ended it, for a reason that is not the endpoint's: a bound on the stream's duration or silence, or on its
    /// connection's age, the end of a drain, a client that reads nothing. No response message had come.
    CutOff,
    /// A bound on time ended it, or the proxy as with [`AttemptEnd::CutOff`], after its endpoint had delivered at least one
    /// response message: it did its work.
    Served {
        /// What it counts as: DEADLINE_EXCEEDED, or CANCELLED where the proxy cut it off.
        code: Code,
    },
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

    /// The same end of an attempt whose endpoint had delivered at least one response message; see the module.
    #[must_use]
    pub fn after_a_message(self) -> Self {
        match self {
            Self::AttemptTimeout | Self::DeadlineExceeded => Self::Served { code: Code::DeadlineExceeded },
            Self::CutOff => Self::Served { code: Code::Cancelled },
            other => other,
        }
    }

    /// The status that a client is told: gRPC's reading of each end.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Status { code, .. } | Self::Served { code } => *code,
            Self::NotSent
            | Self::ConnectFailed
            | Self::RefusedStream
            | Self::NoPlace
            | Self::GoAway { .. }
            | Self::Reset => Code::Unavailable,
            Self::AttemptTimeout | Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled | Self::CutOff | Self::Overtaken { .. } => Code::Cancelled,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_bound_on_time_ended_has_served_after_a_message() {
        for (end, code) in [
            (AttemptEnd::DeadlineExceeded, Code::DeadlineExceeded),
            (AttemptEnd::AttemptTimeout, Code::DeadlineExceeded),
            (AttemptEnd::CutOff, Code::Cancelled),
        ] {
            assert_eq!(end.code(), code, "before a message as well");
            assert_eq!(end.after_a_message(), AttemptEnd::Served { code }, "{end:?}");
        }
        let others = [
            AttemptEnd::Reset,
            AttemptEnd::Cancelled,
            AttemptEnd::RefusedStream,
            AttemptEnd::NoPlace,
            AttemptEnd::GoAway { is_graceful: false },
            AttemptEnd::Overtaken { by_later: true },
        ];
        for end in others.into_iter().chain(Code::ALL.map(AttemptEnd::status)) {
            assert_eq!(end.after_a_message(), end);
        }
    }
}
