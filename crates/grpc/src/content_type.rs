//! Detection: whether a request or response is gRPC, by its `content-type`.
//!
//! Rule: `application/grpc`, alone or followed by `+` (a codec: `+proto`) or `;` (a parameter), in any case,
//! since media types are case-insensitive
//! ([RFC 9110 §8.3.1](https://www.rfc-editor.org/rfc/rfc9110#section-8.3.1)).
//!
//! PROTOCOL-HTTP2 only says "begins with", which would take in `application/grpc-web`, another protocol whose
//! trailers travel in the body. The rule here is the one grpc-go applies (`grpcutil.ContentSubtype`).
//!
//! Source: [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), Content-Type.

/// The media type of gRPC, and the value to send in local answers.
pub const APPLICATION_GRPC: &[u8] = b"application/grpc";

/// What a `content-type` says about the protocol of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// gRPC over HTTP/2, in whatever codec.
    Grpc,
    /// Anything else. gRPC servers answer such a request with HTTP 415.
    NotGrpc,
}

impl ContentType {
    /// Reads the value of `content-type`.
    #[must_use]
    pub fn detect(value: &[u8]) -> Self {
        match value.split_at_checked(APPLICATION_GRPC.len()) {
            Some((media_type, [] | [b'+' | b';', ..]))
                if media_type.eq_ignore_ascii_case(APPLICATION_GRPC) =>
            {
                Self::Grpc
            }
            _ => Self::NotGrpc,
        }
    }

    /// Whether this is [`ContentType::Grpc`].
    #[must_use]
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_bytes_may_follow_the_media_type() {
        for byte in 0..=u8::MAX {
            let value = [APPLICATION_GRPC, &[byte], b"proto"].concat();
            let expected = matches!(byte, b'+' | b';');
            assert_eq!(ContentType::detect(&value).is_grpc(), expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn every_letter_may_be_in_either_case() {
        for at in 0..APPLICATION_GRPC.len() {
            let mut value = APPLICATION_GRPC.to_vec();
            value[at] = value[at].to_ascii_uppercase();
            assert_eq!(ContentType::detect(&value), ContentType::Grpc);
        }
    }

    #[test]
    fn a_part_of_the_media_type_is_not_enough() {
        for len in 0..APPLICATION_GRPC.len() {
            assert_eq!(ContentType::detect(&APPLICATION_GRPC[..len]), ContentType::NotGrpc);
        }
    }
}
