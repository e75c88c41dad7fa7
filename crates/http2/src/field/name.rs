//! Names that a gRPC proxy knows.

/// A field name that means something to the engine or to its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Name {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// `:protocol` (RFC 8441)
    Protocol,
    /// Any other name that begins with a colon.
    UnknownPseudo,
    /// `host`
    Host,
    /// `content-type`
    ContentType,
    /// `content-length`
    ContentLength,
    /// `te`
    Te,
    /// `connection`
    Connection,
    /// `proxy-connection`
    ProxyConnection,
    /// `keep-alive`
    KeepAlive,
    /// `upgrade`
    Upgrade,
    /// `transfer-encoding`
    TransferEncoding,
    /// `grpc-timeout`
    GrpcTimeout,
    /// `grpc-status`
    GrpcStatus,
    /// `grpc-message`
    GrpcMessage,
    /// `grpc-encoding`
    GrpcEncoding,
    /// `grpc-accept-encoding`
    GrpcAcceptEncoding,
    /// `grpc-status-details-bin`
    GrpcStatusDetailsBin,
    /// `grpc-previous-rpc-attempts`
    GrpcPreviousRpcAttempts,
    /// `grpc-retry-pushback-ms`
    GrpcRetryPushbackMs,
    /// `grpc-trace-bin`
    GrpcTraceBin,
    /// `grpc-tags-bin`
    GrpcTagsBin,
    /// `user-agent`
    UserAgent,
    /// `authorization`
    Authorization,
    /// `proxy-authorization`
    ProxyAuthorization,
    /// `cookie`
    Cookie,
    /// `set-cookie`
    SetCookie,
    /// `x-request-id`
    XRequestId,
    /// `traceparent`
    Traceparent,
    /// `tracestate`
    Tracestate,
    /// What other tracers than W3C's put into each call: `b3` and the `x-b3-` family (Zipkin), `uber-trace-id`
    /// (Jaeger), `x-datadog-`, `x-amzn-trace-id`, `x-cloud-trace-context`, `baggage`, `x-correlation-id`,
    /// `x-request-start`.
    TraceContext,
    /// `date`
    Date,
    /// Any other name.
    Other,
}

/// All known names, shorter ones first.
static KNOWN: [(&str, Name); 47] = [
    ("b3", Name::TraceContext),
    ("te", Name::Te),
    ("date", Name::Date),
    ("host", Name::Host),
    (":path", Name::Path),
    ("cookie", Name::Cookie),
    (":method", Name::Method),
    (":scheme", Name::Scheme),
    (":status", Name::Status),
    ("baggage", Name::TraceContext),
    ("upgrade", Name::Upgrade),
    (":protocol", Name::Protocol),
    (":authority", Name::Authority),
    ("connection", Name::Connection),
    ("keep-alive", Name::KeepAlive),
    ("set-cookie", Name::SetCookie),
    ("tracestate", Name::Tracestate),
    ("user-agent", Name::UserAgent),
    ("grpc-status", Name::GrpcStatus),
    ("traceparent", Name::Traceparent),
    ("x-b3-spanid", Name::TraceContext),
    ("content-type", Name::ContentType),
    ("grpc-message", Name::GrpcMessage),
    ("grpc-timeout", Name::GrpcTimeout),
    ("x-b3-sampled", Name::TraceContext),
    ("x-b3-traceid", Name::TraceContext),
    ("x-request-id", Name::XRequestId),
    ("authorization", Name::Authorization),
    ("grpc-encoding", Name::GrpcEncoding),
    ("grpc-tags-bin", Name::GrpcTagsBin),
    ("uber-trace-id", Name::TraceContext),
    ("content-length", Name::ContentLength),
    ("grpc-trace-bin", Name::GrpcTraceBin),
    ("x-amzn-trace-id", Name::TraceContext),
    ("x-request-start", Name::TraceContext),
    ("proxy-connection", Name::ProxyConnection),
    ("x-correlation-id", Name::TraceContext),
    ("transfer-encoding", Name::TransferEncoding),
    ("x-b3-parentspanid", Name::TraceContext),
    ("x-datadog-trace-id", Name::TraceContext),
    ("proxy-authorization", Name::ProxyAuthorization),
    ("x-datadog-parent-id", Name::TraceContext),
    ("grpc-accept-encoding", Name::GrpcAcceptEncoding),
    ("x-cloud-trace-context", Name::TraceContext),
    ("grpc-retry-pushback-ms", Name::GrpcRetryPushbackMs),
    ("grpc-status-details-bin", Name::GrpcStatusDetailsBin),
    ("grpc-previous-rpc-attempts", Name::GrpcPreviousRpcAttempts),
];

/// The longest known name.
const LONGEST: usize = KNOWN[KNOWN.len() - 1].0.len();

/// Where the names of each length begin in [`KNOWN`]; those of length `n` end where those of `n + 1` begin.
static BEGIN: [u8; LONGEST + 2] = {
    let mut begin = [0; LONGEST + 2];
    let mut length = 0;
    let mut at = 0;
    while length < begin.len() {
        while at < KNOWN.len() && KNOWN[at].0.len() < length {
            at += 1;
        }
        begin[length] = at as u8;
        length += 1;
    }
    begin
};

impl Name {
    /// What a name is. Only names of the same length are compared, which for most others are none or one.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let other = if name.first() == Some(&b':') { Self::UnknownPseudo } else { Self::Other };
        if name.len() > LONGEST {
            return other;
        }
        let same_length = usize::from(BEGIN[name.len()])..usize::from(BEGIN[name.len() + 1]);
        let found = KNOWN[same_length].iter().find(|(known, _)| known.as_bytes() == name);
        found.map_or(other, |(_, token)| *token)
    }

    /// Whether the name begins with a colon.
    #[inline]
    #[must_use]
    pub fn is_pseudo(self) -> bool {
        self as u8 <= Self::UnknownPseudo as u8
    }

    /// Whether the value differs call by call, so that a table entry for it would only push out useful ones.
    #[inline]
    #[must_use]
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::ContentLength
                | Self::GrpcTimeout
                | Self::GrpcMessage
                | Self::GrpcStatusDetailsBin
                | Self::GrpcPreviousRpcAttempts
                | Self::GrpcRetryPushbackMs
                | Self::GrpcTraceBin
                | Self::GrpcTagsBin
                | Self::XRequestId
                | Self::Traceparent
                | Self::Tracestate
                | Self::TraceContext
                | Self::Date
        )
    }

    /// Whether the value is a secret: connections to backends are shared by clients, and a table that held one client's
    /// secret could be probed by another (RFC 7541 section 7.1.3), so it is sent as never indexed.
    #[inline]
    #[must_use]
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Authorization | Self::ProxyAuthorization | Self::Cookie | Self::SetCookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_by_their_exact_bytes_only() {
        assert_eq!(Name::of(b"grpc-timeout"), Name::GrpcTimeout);
        assert_eq!(Name::of(b"grpc-timeous"), Name::Other);
        assert_eq!(Name::of(b"Te"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(b":pathx"), Name::UnknownPseudo);
        assert_eq!(Name::of(b"proxy-authorization"), Name::ProxyAuthorization);
    }

    #[test]
    fn finds_every_known_name_and_none_that_differs_by_one_byte() {
        for (name, token) in KNOWN {
            assert_eq!(Name::of(name.as_bytes()), token, "{name}");
            let (longer, shorter, changed) = (
                format!("{name}x"),
                &name[..name.len() - 1],
                format!("{shorter}x", shorter = &name[..name.len() - 1]),
            );
            for near in [&longer, shorter, &changed] {
                assert_ne!(Name::of(near.as_bytes()), token, "{near}");
            }
        }
        assert!(KNOWN.is_sorted_by_key(|(name, _)| name.len()), "names of one length stand together");
    }

    #[test]
    fn exactly_names_with_a_colon_are_pseudo() {
        assert!(Name::of(b":status").is_pseudo() && Name::of(b":x").is_pseudo());
        assert!(!Name::of(b"host").is_pseudo() && !Name::Other.is_pseudo());
    }

    #[test]
    fn a_name_is_never_both_secret_and_volatile() {
        for name in [&b"authorization"[..], b"proxy-authorization", b"cookie", b"set-cookie"] {
            assert!(Name::of(name).is_secret() && !Name::of(name).is_volatile());
        }
        for name in [&b":path"[..], b":authority", b"user-agent", b"grpc-status", b"x-user"] {
            assert!(!Name::of(name).is_secret() && !Name::of(name).is_volatile());
        }
    }
}
