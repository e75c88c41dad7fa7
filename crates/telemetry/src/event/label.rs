//! Label values from fixed sets.

/// A set of label values that the compiler knows.
pub(crate) trait Label: Copy + 'static {
    /// The label's values, each at the index of its variant.
    const VALUES: &'static [&'static str];

    /// The index of this value.
    fn index(self) -> usize;
}

/// Defines an enum whose variants are label values: variant, value.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $value:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $( $(#[$variant_doc])* $variant, )* }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The label's value.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                <Self as Label>::VALUES[self.index()]
            }
        }

        impl Label for $name {
            const VALUES: &'static [&'static str] = &[$( $value, )*];

            #[inline]
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// A side of the proxy.
    Side {
        /// The clients.
        Downstream = "downstream",
        /// The backends.
        Upstream = "upstream",
    }
}

labels! {
    /// Why a call was sent again although its client asked for no retry: no backend had seen it.
    TransparentRetry {
        /// The backend answered RST_STREAM(REFUSED_STREAM).
        RefusedStream = "refused_stream",
        /// The same right after a stream of the full connection had ended, which the backend counted still.
        NoPlace = "no_place",
        /// The backend's GOAWAY named a lower last stream.
        GoAway = "goaway",
        /// The connection could not be made.
        ConnectFailure = "connect_failure",
    }
}

labels! {
    /// How an attempt ended that another followed, by its route's policy.
    RetryReason {
        /// With a status that the policy retries.
        Status = "status",
        /// Its own timeout ran out.
        AttemptTimeout = "attempt_timeout",
        /// The backend did not process it.
        RefusedStream = "refused_stream",
        /// No byte of it left.
        ConnectFailure = "connect_failure",
        /// A reset, or a broken connection.
        Reset = "reset",
    }
}

labels! {
    /// Why a call was not tried again although its route's policy retries such an end.
    RetryDenied {
        /// The client has seen a part of the response.
        ResponseStarted = "response_started",
        /// The request is larger than what is kept of it.
        RequestTooLarge = "request_too_large",
        /// What is kept of other calls' requests leaves no room for this one's.
        BuffersFull = "buffers_full",
        /// The backend forbade it.
        Pushback = "pushback",
        /// It had all its attempts.
        AttemptsUsed = "attempts_used",
        /// Too many attempts fail (gRFC A6).
        Throttled = "throttled",
        /// The cluster's budget is used up.
        OverBudget = "over_budget",
        /// The deadline comes first.
        Deadline = "deadline",
        /// The cluster has as many retries under way as its circuit breaker allows, or another limit had no place for the attempt
        /// when its time had come: that of every endpoint, or of the queue.
        BreakerOpen = "breaker_open",
    }
}

labels! {
    /// The bound because of which a request is not kept for further attempts any more.
    ReplayDropped {
        /// What is kept of one call (`replay.per_call`).
        PerCall = "per_call",
        /// What is kept of all calls (`replay.per_process`).
        PerProcess = "per_process",
        /// All memory that peers make the process hold (`overload.memory`).
        Memory = "memory",
    }
}

labels! {
    /// What a backend said with a status about when to try again (`grpc-retry-pushback-ms`), and what it is taken for.
    PushedBack {
        /// After this time; obeyed.
        Delay = "delay",
        /// Not at all; obeyed.
        Never = "never",
        /// After a longer time than a call is held for: not at all.
        TooLong = "too_long",
        /// No number, or several: not at all (gRFC A6).
        Malformed = "malformed",
    }
}

labels! {
    /// The limit that turned a call away.
    Limited {
        /// The cluster's circuit breaker: calls that wait.
        MaxPending = "max_pending",
        /// The cluster's circuit breaker: attempts under way.
        MaxRequests = "max_requests",
        /// The circuit breakers of the endpoints: attempts under way, or retries.
        Endpoint = "endpoint",
        /// Adaptive concurrency.
        Concurrency = "concurrency",
        /// The call would have waited beyond its deadline.
        DeadlineUnreachable = "deadline_unreachable",
        /// The route's rate limit.
        RouteRate = "route_rate",
        /// The rate limit of one client.
        ClientRate = "client_rate",
    }
}

labels! {
    /// The rate limit of a route that turned a call away.
    RateLimited {
        /// That of all its calls together.
        Route = "route_rate",
        /// That of one client's calls.
        Client = "client_rate",
    }
}

labels! {
    /// What became of a further attempt of a hedged call.
    Hedged {
        /// It was sent while others ran.
        Sent = "sent",
        /// It was sent after all before it had failed.
        AfterFailure = "after_failure",
        /// It was not: no other endpoint had a connection with room, or a place under a limit.
        NoEndpoint = "no_endpoint",
        /// It decided the call.
        Won = "won",
    }
}

labels! {
    /// A fault that was injected on purpose.
    Injected {
        /// The call waited before it went to a backend.
        Delay = "delay",
        /// The call was answered with an error.
        Abort = "abort",
    }
}

labels! {
    /// What became of the copy of a call that was to be mirrored.
    Mirrored {
        /// It was begun.
        Sent = "sent",
        /// It was not begun: no endpoint had a connection with room.
        NoEndpoint = "no_endpoint",
        /// It was not begun: the worker has as many copies as it may.
        TooMany = "too_many",
        /// It was begun, and given up: its backend did not keep up.
        BufferFull = "buffer_full",
        /// It was begun, and given up: the call ended before its request did.
        CutOff = "cut_off",
    }
}

labels! {
    /// Why outlier detection took an endpoint out of rotation.
    Ejected {
        /// Too many failures in a row.
        ConsecutiveFailures = "consecutive_failures",
        /// A success rate far below the others'.
        SuccessRate = "success_rate",
        /// Too large a share of its calls failed.
        FailurePercentage = "failure_percentage",
        /// The call that tried it again failed.
        TrialFailed = "trial_failed",
    }
}

labels! {
    /// What became of a load report that a backend sent, with an answer or apart from any.
    LoadReported {
        /// It counts.
        Taken = "taken",
        /// It makes no sense, such as a negative utilization, or no requests per second.
        Ignored = "ignored",
        /// It cannot be read.
        Malformed = "malformed",
    }
}

labels! {
    /// Why a stream of load reports ended that was to go on.
    LoadStreamEnded {
        /// The endpoint has no such service; it is not asked again on this connection.
        Unimplemented = "unimplemented",
        /// There was no connection, or the stream or its connection ended.
        Failed = "failed",
        /// No report came for far longer than one should take; the proxy gave it up.
        Silent = "silent",
    }
}

labels! {
    /// What became of a question for an endpoint's load, which prequal asks.
    Probed {
        /// The endpoint had reported it not too long ago.
        Answered = "answered",
        /// It had not: what the proxy knows itself stands in.
        Unanswered = "unanswered",
    }
}

labels! {
    /// Where the first attempt of a call went whose cluster chooses by the call's key.
    KeyMet {
        /// To the endpoint that the key belongs to.
        Home = "home",
        /// To another, as that one could not take it.
        Elsewhere = "elsewhere",
        /// The call has no key: to a random one.
        NoKey = "no_key",
        /// To none, as that one could not take it and no other may.
        Refused = "refused",
    }
}

labels! {
    /// Why a client's connection was closed as soon as it was accepted.
    Refused {
        /// The listener has `max_connections_per_worker` on this worker.
        ListenerLimit = "listener_limit",
        /// Clients have the share of the open files that is theirs.
        ProcessLimit = "process_limit",
        /// The process, or the system, had no file descriptor left.
        OpenFiles = "open_files",
    }
}

labels! {
    /// What was given up because the process was short of memory.
    Shed {
        /// New connections were left in the kernel's queue for a moment.
        PauseAccept = "pause_accept",
        /// A client whose connection held much was asked to go.
        DrainConnection = "drain_connection",
        /// A call was refused.
        RefuseStream = "refuse_stream",
        /// A call that held much was ended.
        ResetStream = "reset_stream",
        /// The connection of a client that did not read was closed.
        CloseConnection = "close_connection",
    }
}

labels! {
    /// What became of a reload of the configuration.
    Reload {
        /// The new configuration is in force.
        Accepted = "accepted",
        /// The new configuration is invalid or unreadable; the old one stays.
        Rejected = "rejected",
    }
}

labels! {
    /// What the proxy did to a call, in the two or three letters that Envoy's access log made common.
    ///
    /// Source: Envoy, "Access logging", `%RESPONSE_FLAGS%`.
    ResponseFlag {
        /// No route matched.
        NoRoute = "NR",
        /// No cluster of the route's name.
        NoCluster = "NC",
        /// No healthy endpoint.
        NoHealthyUpstream = "UH",
        /// The connection to the endpoint failed.
        UpstreamConnectFailure = "UF",
        /// A circuit breaker or queue of the cluster was full.
        UpstreamOverflow = "UO",
        /// The deadline or the route's timeout passed.
        UpstreamTimeout = "UT",
        /// The endpoint reset the stream.
        UpstreamReset = "UR",
        /// The endpoint's connection ended.
        UpstreamConnectionTermination = "UC",
        /// The retry limit was reached.
        RetryLimit = "URX",
        /// The endpoint broke the protocol.
        UpstreamProtocolError = "UPE",
        /// A maximum stream duration was reached.
        MaxDuration = "UMSDR",
        /// The proxy reset the stream.
        LocalReset = "LR",
        /// The client's connection ended.
        DownstreamConnectionTermination = "DC",
        /// The client broke the protocol, or its metadata is too large.
        DownstreamProtocolError = "DPE",
        /// The client reset the stream.
        DownstreamReset = "DR",
        /// The stream was idle for too long.
        StreamIdle = "SI",
        /// A rate limit was hit.
        RateLimited = "RL",
        /// Authorisation denied the call.
        Unauthorized = "UAEX",
        /// The process was short of memory.
        OverloadManager = "OM",
        /// A fault was injected: an error.
        FaultInjected = "FI",
        /// A fault was injected: a delay.
        DelayInjected = "DI",
    }
}

/// A set of [`ResponseFlag`]s; a call may carry several (`UF,URX`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u32);

const _: () = assert!(ResponseFlag::ALL.len() <= 32, "the flags fit the set's bits");

impl ResponseFlags {
    /// No flag: the call passed as the backend answered it.
    pub const NONE: Self = Self(0);

    /// Adds `flag`.
    pub fn insert(&mut self, flag: ResponseFlag) {
        self.0 |= 1 << flag as u8;
    }

    /// Whether `flag` is in the set.
    #[must_use]
    pub fn contains(self, flag: ResponseFlag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        let mut flags = Self::NONE;
        flags.insert(flag);
        flags
    }
}

/// As in Envoy's access log: `UF,URX`, and `-` for none.
impl std::fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::NONE {
            return f.write_str("-");
        }
        let mut separator = "";
        for flag in ResponseFlag::ALL.iter().filter(|flag| self.contains(**flag)) {
            write!(f, "{separator}{}", flag.as_str())?;
            separator = ",";
        }
        Ok(())
    }
}

labels! {
    /// How an active check of an endpoint ended, or what a stream that watches it said.
    HealthCheckResult {
        /// It serves, or its connection opened.
        Serving = "serving",
        /// It says that it does not serve.
        NotServing = "not_serving",
        /// It says a serving status that the protocol does not have, which counts as not serving.
        Absurd = "absurd",
        /// It does not know the service.
        ServiceUnknown = "service_unknown",
        /// It has no health service, which counts as healthy.
        Unimplemented = "unimplemented",
        /// No connection, another status, or the end of a stream.
        Failed = "failed",
        /// No answer in time.
        TimedOut = "timed_out",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_value_is_spelled_once_and_found_under_its_own_index() {
        let values: BTreeSet<_> = ResponseFlag::VALUES.iter().collect();
        assert_eq!(values.len(), ResponseFlag::ALL.len());
        assert_eq!(ResponseFlag::NoRoute.as_str(), "NR");
        assert_eq!(ResponseFlag::DelayInjected.as_str(), "DI");
        assert_eq!(TransparentRetry::GoAway.as_str(), "goaway");
        assert_eq!(Side::Upstream.as_str(), "upstream");
        assert_eq!(Reload::Rejected.as_str(), "rejected");
    }

    #[test]
    fn flags_print_as_envoy_prints_them() {
        let mut flags = ResponseFlags::NONE;
        assert_eq!(flags.to_string(), "-");
        flags.insert(ResponseFlag::RetryLimit);
        flags.insert(ResponseFlag::UpstreamConnectFailure);
        flags.insert(ResponseFlag::UpstreamConnectFailure);
        assert_eq!(flags.to_string(), "UF,URX");
        assert_eq!(ResponseFlags::from(ResponseFlag::DelayInjected).to_string(), "DI");
    }

    #[test]
    fn every_flag_has_a_bit_of_its_own() {
        for flag in ResponseFlag::ALL {
            let set = ResponseFlags::from(*flag);
            let members: Vec<_> = ResponseFlag::ALL.iter().filter(|other| set.contains(**other)).collect();
            assert_eq!(members, [flag]);
        }
    }
}
