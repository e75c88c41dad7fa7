//! Connectivity states, and how those of many endpoints add up to one.
//!
//! The five states and their meaning are gRPC's (`connectivity-semantics-and-api.md` in grpc/grpc). Two rules turn the
//! endpoints' states into the cluster's (gRFC A48, A58, A62):
//! 1. **Sticky failure.** An endpoint that failed counts as [`Connectivity::TransientFailure`] until it is ready again,
//!    whatever its next attempts do. Else a cluster of dead endpoints would flicker between "connecting" and "failing",
//!    and every flicker would hold calls back that had better fail at once.
//! 2. **Aggregation.** Any ready: ready; else any idle or connecting: connecting; else transient failure.

/// The state of a connection, or of all connections of one endpoint or cluster together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Connectivity {
    /// Not connected and not trying.
    Idle,
    /// A connection attempt is under way (TCP, TLS, and HTTP/2 SETTINGS).
    Connecting,
    /// Connected: calls can be sent.
    Ready,
    /// The last attempt failed, or the connection broke; the next attempt waits for its backoff.
    TransientFailure,
    /// Closed for good: no further attempt will be made.
    Shutdown,
}

impl Connectivity {
    /// Every state, in the order of [`Connectivity::index`].
    pub(crate) const ALL: [Self; 5] =
        [Self::Idle, Self::Connecting, Self::Ready, Self::TransientFailure, Self::Shutdown];

    /// The state's name as gRPC prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "IDLE",
            Self::Connecting => "CONNECTING",
            Self::Ready => "READY",
            Self::TransientFailure => "TRANSIENT_FAILURE",
            Self::Shutdown => "SHUTDOWN",
        }
    }

    /// The state's place in a table of five.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How an endpoint's state counts in the aggregate, sticky failure applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Calls can be sent.
    Ready,
    /// Idle or connecting, and not known to fail: a call may wait for it.
    Pending,
    /// Failed and not ready since.
    Failing,
}

impl Standing {
    /// Applies the sticky-failure rule; `failed` says that the endpoint failed and was not ready since.
    pub(crate) fn of(state: Connectivity, failed: bool) -> Self {
        match state {
            Connectivity::Ready => Self::Ready,
            Connectivity::Idle | Connectivity::Connecting if !failed => Self::Pending,
            _ => Self::Failing,
        }
    }
}

/// Counts of endpoints by [`Standing`], kept up to date with each change so that the aggregate costs O(1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ready: usize,
    pub(crate) pending: usize,
    pub(crate) failing: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, standing: Standing) {
        *self.count_mut(standing) += 1;
    }

    pub(crate) fn remove(&mut self, standing: Standing) {
        *self.count_mut(standing) -= 1;
    }

    /// The aggregate; no endpoint at all is a failure, as an empty address list is in gRPC.
    pub(crate) fn aggregate(self) -> Connectivity {
        match self {
            Self { ready: 1.., .. } => Connectivity::Ready,
            Self { pending: 1.., .. } => Connectivity::Connecting,
            _ => Connectivity::TransientFailure,
        }
    }

    fn count_mut(&mut self, standing: Standing) -> &mut usize {
        match standing {
            Standing::Ready => &mut self.ready,
            Standing::Pending => &mut self.pending,
            Standing::Failing => &mut self.failing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_endpoint_counts_as_failing_until_it_is_ready() {
        for state in [Connectivity::Idle, Connectivity::Connecting, Connectivity::TransientFailure] {
            assert_eq!(Standing::of(state, true), Standing::Failing);
        }
        assert_eq!(Standing::of(Connectivity::Ready, true), Standing::Ready);
        assert_eq!(Standing::of(Connectivity::Idle, false), Standing::Pending);
        assert_eq!(Standing::of(Connectivity::Connecting, false), Standing::Pending);
        assert_eq!(Standing::of(Connectivity::Shutdown, false), Standing::Failing);
    }

    #[test]
    fn one_ready_outweighs_all_and_one_pending_outweighs_failures() {
        let tally = |ready, pending, failing| Tally { ready, pending, failing }.aggregate();
        assert_eq!(tally(1, 5, 5), Connectivity::Ready);
        assert_eq!(tally(0, 1, 5), Connectivity::Connecting);
        assert_eq!(tally(0, 0, 5), Connectivity::TransientFailure);
        assert_eq!(tally(0, 0, 0), Connectivity::TransientFailure);
    }

    #[test]
    fn a_table_of_five_has_each_state_at_its_index() {
        for (index, state) in Connectivity::ALL.into_iter().enumerate() {
            assert_eq!(state.index(), index);
        }
    }
}
