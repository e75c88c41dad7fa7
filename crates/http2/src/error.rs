//! What can go wrong on a connection, whose fault it was, and which RFC 9113 code says so on the wire.
//!
//! Every rule a peer can break has its own [`Violation`], so that tests assert it exactly and metrics can be
//! labelled with [`Violation::rule`]. One function maps a violation to its wire code ([`Violation::code`]); where
//! the damage is limited to one stream, the engine resets that stream instead of ending the connection.

use crate::hpack::HpackError;

/// An RFC 9113 section 7 error code, kept as the number on the wire because peers may send unknown ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The end of a stream or connection that is not an error.
    pub const NO_ERROR: Self = Self(0x0);
    /// An unspecific breach of the protocol.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// The endpoint met an unexpected internal condition.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// The peer broke flow control.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// A SETTINGS frame was not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    /// A frame arrived for a stream that was half-closed or closed.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame had an invalid size.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The stream was refused before any work was done: safe to try again.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is no longer needed.
    pub const CANCEL: Self = Self(0x8);
    /// The header compression state cannot be kept.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// A CONNECT tunnel was reset.
    pub const CONNECT_ERROR: Self = Self(0xa);
    /// The peer causes excessive load.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    /// The transport's security is not sufficient.
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    /// The endpoint wants HTTP/1.1.
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The code's name in RFC 9113 section 7, or `UNKNOWN`.
    #[must_use]
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or("UNKNOWN")
    }
}

impl core::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// Defines [`Violation`] as one table: variant, wire code, metric rule, sentence.
macro_rules! violations {
    ($( $(#[$doc:meta])* $variant:ident $code:ident $rule:literal $text:literal; )*) => {
        /// One rule of RFC 9113, RFC 7541 or this engine's limits that a peer broke.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
        #[non_exhaustive]
        pub enum Violation {
            $( $(#[$doc])* #[error($text)] $variant, )*
            /// The header block could not be decoded.
            #[error("header block: {0}")]
            HeaderBlock(#[from] HpackError),
        }

        impl Violation {
            /// The code that goes on the wire for this violation.
            #[must_use]
            pub fn code(self) -> ErrorCode {
                match self {
                    $( Self::$variant => ErrorCode::$code, )*
                    Self::HeaderBlock(HpackError::ListFarTooLarge) => ErrorCode::ENHANCE_YOUR_CALM,
                    Self::HeaderBlock(_) => ErrorCode::COMPRESSION_ERROR,
                }
            }

            /// The rule's short name: a metric label from a fixed set ([`Violation::RULES`]).
            #[must_use]
            pub fn rule(self) -> &'static str {
                match self {
                    $( Self::$variant => $rule, )*
                    Self::HeaderBlock(HpackError::ListFarTooLarge) => "header_list",
                    Self::HeaderBlock(_) => "hpack",
                }
            }

            /// Every value that [`Violation::rule`] can have; some name several violations.
            pub const RULES: &[&str] = &[$( $rule, )* "header_list", "hpack"];
        }
    };
}

violations! {
    /// The connection did not begin with the client preface (RFC 9113 section 3.4).
    Preface PROTOCOL_ERROR "preface" "the connection preface is missing or wrong";
    /// The first frame was not SETTINGS (RFC 9113 section 3.4).
    FirstFrame PROTOCOL_ERROR "preface" "the first frame is not SETTINGS";
    /// The preface did not arrive within its deadline.
    PrefaceTimeout PROTOCOL_ERROR "preface_timeout" "the connection preface did not arrive in time";
    /// A frame is longer than the advertised SETTINGS_MAX_FRAME_SIZE (section 4.2).
    FrameTooLarge FRAME_SIZE_ERROR "frame_size" "a frame is longer than SETTINGS_MAX_FRAME_SIZE";
    /// A frame of fixed size has another size.
    FrameLength FRAME_SIZE_ERROR "frame_size" "a frame has the wrong length for its type";
    /// A frame that belongs to a stream came on stream 0, or the reverse.
    FrameStream PROTOCOL_ERROR "frame_stream" "a frame's stream identifier does not suit its type";
    /// A frame stayed incomplete for too long.
    FrameTimeout ENHANCE_YOUR_CALM "frame_timeout" "a frame stayed incomplete for too long";
    /// Padding is as long as the frame or longer (section 6.1).
    Padding PROTOCOL_ERROR "padding" "the padding is longer than the frame";
    /// The peer used a stream identifier of the wrong parity, or a lower one than before (section 5.1.1).
    StreamId PROTOCOL_ERROR "stream_id" "a stream identifier is out of order or of the wrong parity";
    /// A frame came for a stream that was never opened (section 5.1).
    IdleStream PROTOCOL_ERROR "idle_stream" "a frame came for a stream that was never opened";
    /// A frame came for a stream whose peer half was closed (section 5.1).
    ClosedStream STREAM_CLOSED "closed_stream" "a frame came for a closed stream";
    /// A CONTINUATION came without an open header block, or another frame came inside one (section 6.10).
    Continuation PROTOCOL_ERROR "continuation" "a header block was interrupted or continued out of place";
    /// A header block has more CONTINUATION frames or bytes than allowed (CVE-2024-27316 and kin).
    ContinuationFlood ENHANCE_YOUR_CALM "continuation_flood" "a header block has too many fragments";
    /// A header block stayed open for too long.
    HeaderTimeout ENHANCE_YOUR_CALM "header_timeout" "a header block stayed open for too long";
    /// PUSH_PROMISE to a server, or to a client that disabled push (section 8.4).
    PushPromise PROTOCOL_ERROR "push_promise" "PUSH_PROMISE is not allowed here";
    /// A setting has a value outside its range (section 6.5.2).
    SettingValue PROTOCOL_ERROR "settings" "a setting's value is out of range";
    /// SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1 (section 6.5.2).
    SettingWindow FLOW_CONTROL_ERROR "settings" "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1";
    /// A SETTINGS frame has more entries than allowed (CVE-2020-11080).
    SettingEntries ENHANCE_YOUR_CALM "settings_entries" "a SETTINGS frame has too many entries";
    /// More SETTINGS frames than allowed in their period (CVE-2019-9515).
    SettingsFlood ENHANCE_YOUR_CALM "settings_flood" "too many SETTINGS frames";
    /// A SETTINGS acknowledgement that nothing asked for.
    SettingsAck PROTOCOL_ERROR "settings_ack" "an acknowledgement came for no SETTINGS frame";
    /// Our SETTINGS were not acknowledged in time (section 6.5.3).
    SettingsTimeout SETTINGS_TIMEOUT "settings_timeout" "our SETTINGS were not acknowledged in time";
    /// A WINDOW_UPDATE has an increment of 0 (section 6.9).
    WindowIncrement PROTOCOL_ERROR "window_increment" "a WINDOW_UPDATE has an increment of 0";
    /// A flow-control window grew above 2^31-1 (section 6.9.1).
    WindowOverflow FLOW_CONTROL_ERROR "window_overflow" "a flow-control window exceeds 2^31-1";
    /// The peer sent more DATA than its window allows (section 6.9).
    WindowExceeded FLOW_CONTROL_ERROR "window_exceeded" "more DATA than the flow-control window allows";
    /// A stream depends on itself (RFC 9113 section 5.3.1 keeps the rule of RFC 7540).
    SelfDependency PROTOCOL_ERROR "priority" "a stream depends on itself";
    /// A message is malformed (section 8.1.1): its fields break section 8.2 or 8.3.
    MalformedMessage PROTOCOL_ERROR "malformed_message" "the message's fields are malformed";
    /// DATA does not add up to content-length (section 8.1.1).
    ContentLength PROTOCOL_ERROR "content_length" "the DATA does not add up to content-length";
    /// Trailers without END_STREAM, or a second header section (section 8.1).
    Trailers PROTOCOL_ERROR "trailers" "a second header section without END_STREAM";
    /// DATA before the header section (section 8.1).
    DataBeforeHeaders PROTOCOL_ERROR "data_before_headers" "DATA came before the header section";
    /// The header list is larger than the advertised limit.
    HeaderListTooLarge ENHANCE_YOUR_CALM "header_list" "the header list is larger than the limit";
    /// A stream above SETTINGS_MAX_CONCURRENT_STREAMS (section 5.1.2).
    StreamLimit REFUSED_STREAM "stream_limit" "more streams than SETTINGS_MAX_CONCURRENT_STREAMS allows";
    /// A stream opened after our final GOAWAY (section 6.8).
    AfterGoAway REFUSED_STREAM "after_goaway" "the stream was opened after GOAWAY";
    /// The abuse ledger ran out of points.
    Abuse ENHANCE_YOUR_CALM "abuse" "too many frames that cost work and bring nothing";
    /// Reset streams: the abuse ledger ran out of points on them (CVE-2023-44487, CVE-2025-8671).
    ResetFlood ENHANCE_YOUR_CALM "reset_flood" "too many stream resets";
    /// PINGs: more acknowledgements waiting than allowed (CVE-2019-9512).
    PingFlood ENHANCE_YOUR_CALM "ping_flood" "too many PINGs";
    /// Keepalive PINGs more often than allowed (gRFC A8); the debug data is the literal gRPC clients look for.
    TooManyPings ENHANCE_YOUR_CALM "too_many_pings" "too_many_pings";
    /// A GOAWAY raised its last stream identifier (section 6.8).
    GoAwayRaised PROTOCOL_ERROR "goaway" "a GOAWAY raised its last stream identifier";
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer broke a rule; a GOAWAY with [`Violation::code`] has been written to the output.
    #[error("peer broke HTTP/2: {0}")]
    PeerMisbehaved(#[source] Violation),
    /// The connection had ended before; input is swallowed.
    #[error("the connection has ended")]
    Ended,
}

/// Why a stream ended before its message was complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StreamFailure {
    /// The peer sent RST_STREAM with this code.
    PeerReset(ErrorCode),
    /// The peer broke a rule on this stream; RST_STREAM has been written to the output.
    Violation(Violation),
    /// The peer's GOAWAY says that it did not and will not process the stream: safe to try elsewhere.
    GoAway(ErrorCode),
}

impl StreamFailure {
    /// Whether the peer guarantees that it did no work, so that a retry is safe even for a call that is not
    /// idempotent (RFC 9113 section 8.7).
    #[must_use]
    pub fn not_processed(self) -> bool {
        matches!(self, Self::GoAway(_) | Self::PeerReset(ErrorCode::REFUSED_STREAM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_code_of_the_rfc_and_none_beyond() {
        assert_eq!(ErrorCode::HTTP_1_1_REQUIRED.name(), "HTTP_1_1_REQUIRED");
        assert_eq!(ErrorCode(0xe).name(), "UNKNOWN");
        assert_eq!(format!("{:?}", ErrorCode(0x100)), "UNKNOWN(256)");
    }

    #[test]
    fn only_refused_streams_and_goaway_are_safe_to_repeat() {
        assert!(StreamFailure::GoAway(ErrorCode::NO_ERROR).not_processed());
        assert!(StreamFailure::PeerReset(ErrorCode::REFUSED_STREAM).not_processed());
        assert!(!StreamFailure::PeerReset(ErrorCode::CANCEL).not_processed());
        assert!(!StreamFailure::Violation(Violation::ContentLength).not_processed());
    }

    #[test]
    fn a_rule_name_is_in_the_fixed_set() {
        for violation in
            [Violation::Preface, Violation::Abuse, Violation::HeaderBlock(HpackError::ListFarTooLarge)]
        {
            assert!(Violation::RULES.contains(&violation.rule()));
        }
    }
}
