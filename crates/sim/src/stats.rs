//! What happened in a world: counters that show whether a scenario exercised what it is for, and a hash of everything.

use core::time::Duration;

/// Defines [`Happening`] as one table: variant, what it counts.
macro_rules! happenings {
    ($( $(#[doc = $doc:literal])* $variant:ident, )*) => {
        /// Something worth counting. A suite over many seeds must see each of them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Happening {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl Happening {
            /// All of them.
            pub const ALL: &[Self] = &[ $( Self::$variant, )* ];
        }
    };
}

happenings! {
    /// A call ended with OK at its client.
    CallOk,
    /// A call ended with another status.
    CallFailed,
    /// A call ended by a reset of its stream.
    CallReset,
    /// A client gave a call up.
    CallCancelled,
    /// A client lost its connection with a call in progress.
    CallDisconnected,
    /// A call ended with DEADLINE_EXCEEDED.
    DeadlineExceeded,
    /// A call was told that its turn would not come before its deadline.
    ShedByDeadline,
    /// A client gave a call up behind its deadline, because its connection was disturbed.
    OverdueBehindFault,
    /// A response ended within a message.
    TruncatedSeen,
    /// A backend refused a call with REFUSED_STREAM.
    Refused,
    /// A backend's GOAWAY left a call that it had received unprocessed.
    CutByGoAway,
    /// A call that one attempt did not process was executed by another.
    TransparentRetry,
    /// A further attempt, by a retry policy or of a hedged call, was executed.
    FurtherAttempt,
    /// A backend sent GOAWAY twice with a round trip in between.
    GoAwayTwoPhase,
    /// A backend sent one GOAWAY and finished its calls.
    GoAwaySinglePhase,
    /// A backend sent GOAWAY and closed at once.
    GoAwayAbrupt,
    /// A client got a GOAWAY.
    ClientGoAway,
    /// A backend reset a stream.
    BackendReset,
    /// A backend saw its client's reset.
    CancelReachedBackend,
    /// A backend lost all its connections and started again.
    BackendRestart,
    /// The worker began a connection.
    Dialled,
    /// A connection was refused.
    ConnectRefused,
    /// A connection failed before anything was sent.
    ConnectUnreachable,
    /// A connection attempt was never answered.
    ConnectUnanswered,
    /// A connection was reset by the network.
    LinkReset,
    /// One end of a connection went away in order.
    LinkClosed,
    /// A connection stood still for a while.
    LinkStalled,
    /// A transport took a part of a write only.
    PartialWrite,
    /// The worker wrote less than it had, and was told later that there is room.
    WorkerBlocked,
    /// A client held received bytes back.
    SlowClient,
    /// A backend held received bytes back.
    SlowBackend,
    /// A client had to wait for its stream's window.
    RequestWaitedForWindow,
    /// A backend had to wait for its stream's window.
    ResponseWaitedForWindow,
    /// More calls were wanted on a connection than the peer allowed.
    StreamLimit,
    /// Calls waited in the worker for a connection.
    WorkerQueued,
    /// The worker held more than one connection to a backend.
    SecondConnection,
    /// The worker took a new snapshot.
    SnapshotApplied,
    /// The worker began to drain.
    DrainStarted,
    /// Discovery was asked to look again.
    ReResolutionAsked,
    /// A backend changed what it says to health checks.
    HealthReported,
    /// Health checks found an endpoint healthy.
    CheckFoundHealthy,
    /// Health checks found an endpoint unhealthy.
    CheckFoundUnhealthy,
    /// A health check had no answer in time.
    CheckTimedOut,
    /// A call was sent to an unhealthy endpoint, as no other was in service.
    CalledUnhealthy,
    /// An endpoint was ejected.
    Ejected,
    /// A call tried an ejected endpoint.
    EjectedTried,
    /// An ejected endpoint came back.
    EjectedReturned,
    /// A call was sent to an ejected endpoint, as no other was in service.
    CalledEjected,
    /// A call was sent to an endpoint that is not of the first priority.
    FailedOver,
    /// Calls of one session met another endpoint than before.
    SessionMoved,
    /// A call failed as the endpoint of its session could not take it.
    SessionRefused,
    /// A rate limit turned a call away.
    RateLimited,
    /// The cluster's circuit breaker turned a call away, as too many attempts were under way.
    RequestsOverflowed,
    /// The circuit breakers of the endpoints did.
    EndpointOverflowed,
    /// A call was turned away, as too many were waiting.
    PendingOverflowed,
    /// Adaptive concurrency turned a call away.
    ConcurrencyLimited,
    /// The cluster's circuit breaker did not allow a retry.
    RetryOverflowed,
    /// A priority was in panic.
    Panicked,
    /// A call failed because of a panic.
    FailedInPanic,
}

/// How often each [`Happening`] was seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Stats([u64; Happening::ALL.len()]);

impl Default for Stats {
    fn default() -> Self {
        Self([0; Happening::ALL.len()])
    }
}

impl core::fmt::Debug for Stats {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map()
            .entries(Happening::ALL.iter().map(|happening| (happening, self.of(*happening))))
            .finish()
    }
}

impl Stats {
    pub(crate) fn count(&mut self, happening: Happening) {
        self.0[happening as usize] += 1;
    }

    /// How often this was seen.
    #[must_use]
    pub fn of(&self, happening: Happening) -> u64 {
        self.0[happening as usize]
    }

    /// Adds another world's counts.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// What was never seen.
    pub fn unseen(&self) -> impl Iterator<Item = Happening> + '_ {
        Happening::ALL.iter().copied().filter(|happening| self.of(*happening) == 0)
    }
}

/// A hash of everything that happened, in order: equal for equal seeds, and as good as never for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trace(u64);

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn note(&mut self, now: Duration, what: &[u64]) {
        for word in core::iter::once(&(now.as_nanos() as u64)).chain(what) {
            self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_show_what_is_missing() {
        let mut one = Stats::default();
        one.count(Happening::CallOk);
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!(sum.of(Happening::CallOk), 2);
        assert_eq!(sum.unseen().count(), Happening::ALL.len() - 1);
        assert!(sum.unseen().all(|happening| happening != Happening::CallOk));
    }

    #[test]
    fn the_order_of_events_is_part_of_the_trace() {
        let traced = |words: &[u64]| {
            let mut trace = Trace::new(1);
            for word in words {
                trace.note(Duration::ZERO, &[*word]);
            }
            trace
        };
        assert_eq!(traced(&[1, 2]), traced(&[1, 2]));
        assert_ne!(traced(&[1, 2]), traced(&[2, 1]));
    }
}
