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
    /// `authorization` and `proxy-authorization`
    Authorization,
    /// `cookie`
    Cookie,
    /// `set-cookie`
    SetCookie,
    /// `x-request-id`
    XRequestId,
    /// `traceparent`
    Traceparent,
    /// `tracestate`, `baggage`, and the `x-b3-` family
    Tracestate,
    /// `date`
    Date,
    /// Any other name.
    Other,
}

impl Name {
    /// What a name is. The length decides first, so that an unknown name costs one comparison or none.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        if name.first() == Some(&b':') {
            return Self::pseudo(name);
        }
        match name.len() {
            2 => Self::one(name, &[(b"te", Self::Te)]),
            4 => Self::one(name, &[(b"host", Self::Host), (b"date", Self::Date)]),
            6 => Self::one(name, &[(b"cookie", Self::Cookie)]),
            7 => Self::one(name, &[(b"upgrade", Self::Upgrade), (b"baggage", Self::Tracestate)]),
            10 => Self::one(
                name,
                &[
                    (b"user-agent", Self::UserAgent),
                    (b"connection", Self::Connection),
                    (b"keep-alive", Self::KeepAlive),
                    (b"set-cookie", Self::SetCookie),
                    (b"tracestate", Self::Tracestate),
                ],
            ),
            11 => Self::one(
                name,
                &[
                    (b"grpc-status", Self::GrpcStatus),
                    (b"traceparent", Self::Traceparent),
                    (b"x-b3-spanid", Self::Tracestate),
                ],
            ),
            12 => Self::one(
                name,
                &[
                    (b"content-type", Self::ContentType),
                    (b"grpc-timeout", Self::GrpcTimeout),
                    (b"grpc-message", Self::GrpcMessage),
                    (b"x-request-id", Self::XRequestId),
                    (b"x-b3-traceid", Self::Tracestate),
                ],
            ),
            13 => Self::one(
                name,
                &[
                    (b"grpc-encoding", Self::GrpcEncoding),
                    (b"authorization", Self::Authorization),
                    (b"grpc-tags-bin", Self::GrpcTagsBin),
                ],
            ),
            14 => Self::one(
                name,
                &[(b"content-length", Self::ContentLength), (b"grpc-trace-bin", Self::GrpcTraceBin)],
            ),
            16 => Self::one(name, &[(b"proxy-connection", Self::ProxyConnection)]),
            17 => Self::one(
                name,
                &[(b"transfer-encoding", Self::TransferEncoding), (b"x-b3-parentspanid", Self::Tracestate)],
            ),
            19 => Self::one(name, &[(b"proxy-authorization", Self::Authorization)]),
            20 => Self::one(name, &[(b"grpc-accept-encoding", Self::GrpcAcceptEncoding)]),
            22 => Self::one(name, &[(b"grpc-retry-pushback-ms", Self::GrpcRetryPushbackMs)]),
            23 => Self::one(name, &[(b"grpc-status-details-bin", Self::GrpcStatusDetailsBin)]),
            26 => Self::one(name, &[(b"grpc-previous-rpc-attempts", Self::GrpcPreviousRpcAttempts)]),
            _ => Self::Other,
        }
    }

    fn pseudo(name: &[u8]) -> Self {
        match name {
            b":path" => Self::Path,
            b":method" => Self::Method,
            b":authority" => Self::Authority,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            b":protocol" => Self::Protocol,
            _ => Self::UnknownPseudo,
        }
    }

    fn one(name: &[u8], known: &[(&[u8], Self)]) -> Self {
        known.iter().find(|(known, _)| *known == name).map_or(Self::Other, |(_, token)| *token)
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
                | Self::Date
        )
    }

    /// Whether the value is a secret: connections to backends are shared by clients, and a table that held one client's
    /// secret could be probed by another (RFC 7541 section 7.1.3), so it is sent as never indexed.
    #[inline]
    #[must_use]
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Authorization | Self::Cookie | Self::SetCookie)
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
        assert_eq!(Name::of(b"proxy-authorization"), Name::Authorization);
    }

    #[test]
    fn exactly_names_with_a_colon_are_pseudo() {
        assert!(Name::of(b":status").is_pseudo() && Name::of(b":x").is_pseudo());
        assert!(!Name::of(b"host").is_pseudo() && !Name::Other.is_pseudo());
    }
}
