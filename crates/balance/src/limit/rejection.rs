//! What a client is told when a limit turns its call away.
//!
//! Rule: RESOURCE_EXHAUSTED with `grpc-retry-pushback-ms` where waiting helps and we know how long; UNAVAILABLE where gRPC
//! says so (gRFC A32: a call above a circuit breaker's bound is dropped with it, and not retried).

use core::fmt;
use core::time::Duration;

use evenkeel_grpc::{Code, Pushback};

use super::breaker::{Overflow, Resource, Scope};
use super::pending::Refused;

/// Why a limit turned a call away. Its `Display` is the `grpc-message`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// A circuit breaker is open.
    Overflow(Overflow),
    /// The backends are as busy as their latency allows.
    ConcurrencyLimit {
        /// When it may be worth another try.
        retry_after: Duration,
    },
    /// The route or the client calls too often.
    RateLimited {
        /// When a call would be let through, if nobody else came.
        retry_after: Duration,
    },
    /// The call would have waited beyond its deadline.
    DeadlineUnreachable {
        /// How long the queue is now.
        retry_after: Duration,
    },
}

impl Rejection {
    /// The status.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Overflow(_) => Code::Unavailable,
            Self::ConcurrencyLimit { .. } | Self::RateLimited { .. } | Self::DeadlineUnreachable { .. } => {
                Code::ResourceExhausted
            }
        }
    }

    /// The `grpc-retry-pushback-ms`, if one is sent.
    #[must_use]
    pub fn pushback(&self) -> Option<Pushback> {
        match *self {
            Self::Overflow(_) => None,
            Self::ConcurrencyLimit { retry_after }
            | Self::RateLimited { retry_after }
            | Self::DeadlineUnreachable { retry_after } => Some(Pushback::RetryAfter(retry_after)),
        }
    }
}

impl From<Overflow> for Rejection {
    fn from(overflow: Overflow) -> Self {
        Self::Overflow(overflow)
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Overflow(Overflow { resource: Resource::Pending, scope: Scope::Cluster }),
            Refused::DeadlineUnreachable { retry_after } => Self::DeadlineUnreachable { retry_after },
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow(Overflow { resource, scope: Scope::Cluster }) => {
                write!(f, "upstream overflow: {}", resource.name())
            }
            Self::Overflow(Overflow { resource, scope: Scope::Endpoint }) => {
                write!(f, "upstream overflow: {} of the endpoint", resource.name())
            }
            Self::ConcurrencyLimit { .. } => f.write_str("reached concurrency limit"),
            Self::RateLimited { .. } => f.write_str("rate limited"),
            Self::DeadlineUnreachable { .. } => {
                f.write_str("deadline unreachable: too many calls wait for the upstream")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_resource_exhausted_and_when_to_return_but_unavailable_for_an_open_breaker() {
        let retry_after = Duration::from_millis(70);
        let pushback = Some(Pushback::RetryAfter(retry_after));
        let overflow = |scope| Rejection::Overflow(Overflow { resource: Resource::Pending, scope });
        for (rejection, code, pushback, message) in [
            (overflow(Scope::Cluster), Code::Unavailable, None, "upstream overflow: max_pending"),
            (
                overflow(Scope::Endpoint),
                Code::Unavailable,
                None,
                "upstream overflow: max_pending of the endpoint",
            ),
            (
                Rejection::ConcurrencyLimit { retry_after },
                Code::ResourceExhausted,
                pushback,
                "reached concurrency limit",
            ),
            (Rejection::RateLimited { retry_after }, Code::ResourceExhausted, pushback, "rate limited"),
            (
                Rejection::DeadlineUnreachable { retry_after },
                Code::ResourceExhausted,
                pushback,
                "deadline unreachable: too many calls wait for the upstream",
            ),
        ] {
            assert_eq!((rejection.code(), rejection.pushback()), (code, pushback));
            assert_eq!(rejection.to_string(), message);
        }
    }

    #[test]
    fn a_full_queue_overflows_like_its_breaker() {
        let overflow = Overflow { resource: Resource::Pending, scope: Scope::Cluster };
        assert_eq!(Rejection::from(Refused::Full), Rejection::from(overflow));
        let retry_after = Duration::from_millis(3);
        let late = Rejection::from(Refused::DeadlineUnreachable { retry_after });
        assert_eq!(late, Rejection::DeadlineUnreachable { retry_after });
    }
}
