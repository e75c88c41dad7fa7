//! The static table of RFC 7541 Appendix A.

use crate::field::Name;

/// Entry `i` here has index `i + 1` on the wire.
pub static STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The index of the first static entry with a name, for literals that refer to it. `token` is [`Name::of`] the name.
#[inline]
#[must_use]
pub(super) fn static_name_index(token: Name, name: &[u8]) -> Option<u32> {
    Some(match token {
        Name::Authority => 1,
        Name::Method => 2,
        Name::Path => 4,
        Name::Scheme => 6,
        Name::Status => 8,
        Name::Authorization => 23,
        Name::ContentLength => 28,
        Name::ContentType => 31,
        Name::Cookie => 32,
        Name::Date => 33,
        Name::Host => 38,
        Name::ProxyAuthorization => 49,
        Name::SetCookie => 55,
        Name::TransferEncoding => 57,
        Name::UserAgent => 58,
        Name::Other => return other_name_index(name),
        _ => return None,
    })
}

/// The index of a name that has no token of its own; the length decides for nearly every name of gRPC metadata.
fn other_name_index(name: &[u8]) -> Option<u32> {
    let at = match name {
        b"age" => 21,
        b"via" => 60,
        b"etag" => 34,
        b"from" => 37,
        b"link" => 45,
        b"vary" => 59,
        b"allow" => 22,
        b"range" => 50,
        b"accept" => 19,
        b"expect" => 35,
        b"server" => 54,
        b"expires" => 36,
        b"referer" => 51,
        b"refresh" => 52,
        b"if-match" => 39,
        b"if-range" => 42,
        b"location" => 46,
        b"retry-after" => 53,
        b"max-forwards" => 47,
        b"accept-ranges" => 18,
        b"cache-control" => 24,
        b"content-range" => 30,
        b"if-none-match" => 41,
        b"last-modified" => 44,
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-location" => 29,
        b"www-authenticate" => 61,
        b"if-modified-since" => 40,
        b"proxy-authenticate" => 48,
        b"content-disposition" => 25,
        b"if-unmodified-since" => 43,
        b"strict-transport-security" => 56,
        b"access-control-allow-origin" => 20,
        _ => return None,
    };
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_at_the_first_entry_that_has_it() {
        for (name, _) in &STATIC_TABLE {
            let first = STATIC_TABLE.iter().position(|(other, _)| other == name).unwrap() as u32 + 1;
            let name = name.as_bytes();
            assert_eq!(static_name_index(Name::of(name), name), Some(first), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn other_names_are_not_found() {
        for name in [&b"grpc-timeout"[..], b"te", b"x-b3-traceid", b"x-api-key", b"Age", b"", b":x"] {
            assert_eq!(static_name_index(Name::of(name), name), None, "{}", name.escape_ascii());
        }
    }
}
