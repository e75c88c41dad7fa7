//! The `:path` of a call: `/service/method`, in one canonical form only.
//!
//! Why so strict? The path decides route, authorisation, metrics and the method that runs. Whenever two
//! parties read the same bytes differently (`%2f` or `/`, `//` or `/`, `..` or its parent), one of them can
//! be led past the other's check: grpc-go CVE-2026-33186 (a missing first slash), Envoy CVE-2019-9901
//! (unnormalised paths). A proxy that repairs paths takes part in this; one that refuses them does not. What
//! is accepted here is forwarded byte by byte. A refused path is answered with UNIMPLEMENTED, which is what a
//! server says to a method it does not have.
//!
//! Rule: `^/[^/]+/[^/]+$` over the bytes 0x21 to 0x7E without `%`, `?`, `#` and `\`, and neither part is `.`
//! or `..` (RFC 3986 §5.2.4 lets an intermediary remove these). A service may hold dots (`package.Service`);
//! that is a convention, no rule. Length is bounded by the limit on the header list, not here.
//!
//! Source: [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), Path:
//! case-sensitive, "/" Service-Name "/" method name.

/// A valid path, taken apart. Borrows from the header value; nothing is decoded or normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path<'a> {
    service: &'a str,
    method: &'a str,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is empty.
    #[error("the path is empty; send /service/method")]
    Empty,
    /// The first byte is not a slash.
    #[error("the path does not start with a slash; send /service/method")]
    NoLeadingSlash,
    /// Nothing stands between the first slash and the second, or after the only one.
    #[error("the path names no service; send /service/method")]
    EmptyService,
    /// There is no second slash.
    #[error("the path has no second slash; send /service/method")]
    NoMethod,
    /// Nothing stands after the second slash.
    #[error("the path names no method; send /service/method")]
    EmptyMethod,
    /// There is a third slash.
    #[error("the path has a third slash at byte {position}; send /service/method")]
    ExtraSlash {
        /// Its offset in the path.
        position: usize,
    },
    /// A byte has no place in a service or method name, or would need decoding.
    #[error(
        "the path has '{}' at byte {position}; only printable ASCII without space, %, ?, # and \\ is allowed",
        .byte.escape_ascii()
    )]
    ForbiddenByte {
        /// The first such byte.
        byte: u8,
        /// Its offset in the path.
        position: usize,
    },
    /// Service or method is `.` or `..`.
    #[error("the path has a dot segment; send /service/method without . and ..")]
    DotSegment,
}

/// What each byte may do in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteClass {
    Name,
    Slash,
    Forbidden,
}

/// One load per byte instead of a chain of comparisons: every call passes here.
static CLASSES: [ByteClass; 256] = {
    let mut classes = [ByteClass::Forbidden; 256];
    let mut byte = 0x21;
    while byte <= 0x7e {
        classes[byte as usize] = match byte {
            b'/' => ByteClass::Slash,
            b'%' | b'?' | b'#' | b'\\' => ByteClass::Forbidden,
            _ => ByteClass::Name,
        };
        byte += 1_u8;
    }
    classes
};

impl<'a> Path<'a> {
    /// Reads the value of `:path`. Reports the leftmost violation of the byte rules and, among well-formed
    /// bytes, the first of the shape rules.
    ///
    /// # Errors
    ///
    /// [`PathError`] when the value is not `/service/method` in canonical form.
    ///
    /// # Panics
    ///
    /// Never: what passes is ASCII.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenkeel_grpc::{Path, PathError};
    ///
    /// let path = Path::parse(b"/shop.Orders/Get")?;
    /// assert_eq!((path.service(), path.method()), ("shop.Orders", "Get"));
    /// assert_eq!(Path::parse(b"shop.Orders/Get"), Err(PathError::NoLeadingSlash));
    /// # Ok::<(), PathError>(())
    /// ```
    pub fn parse(value: &'a [u8]) -> Result<Self, PathError> {
        let names = match value {
            [] => return Err(PathError::Empty),
            [b'/', names @ ..] => names,
            _ => return Err(PathError::NoLeadingSlash),
        };
        let mut second_slash = None;
        for (at, &byte) in names.iter().enumerate() {
            match CLASSES[usize::from(byte)] {
                ByteClass::Name => {}
                ByteClass::Slash if second_slash.is_none() => second_slash = Some(at),
                // Positions count from the first slash.
                ByteClass::Slash => return Err(PathError::ExtraSlash { position: at + 1 }),
                ByteClass::Forbidden => return Err(PathError::ForbiddenByte { byte, position: at + 1 }),
            }
        }
        let names = str::from_utf8(names).expect("every accepted byte is ASCII");
        let Some(second_slash) = second_slash else {
            return Err(if names.is_empty() { PathError::EmptyService } else { PathError::NoMethod });
        };
        let (service, method) = (&names[..second_slash], &names[second_slash + 1..]);
        match (service, method) {
            ("", _) => Err(PathError::EmptyService),
            (_, "") => Err(PathError::EmptyMethod),
            ("." | "..", _) | (_, "." | "..") => Err(PathError::DotSegment),
            _ => Ok(Self { service, method }),
        }
    }

    /// The full name of the service, by convention with its package: `shop.Orders`.
    #[must_use]
    pub const fn service(&self) -> &'a str {
        self.service
    }

    /// The name of the method: `Get`.
    #[must_use]
    pub const fn method(&self) -> &'a str {
        self.method
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_service_and_method_apart() {
        for (value, service, method) in [
            ("/s/m", "s", "m"),
            ("/grpc.health.v1.Health/Check", "grpc.health.v1.Health", "Check"),
            ("/.../...", "...", "..."),
            ("/a.b./.m", "a.b.", ".m"),
            ("/!~/:@", "!~", ":@"),
        ] {
            assert_eq!(Path::parse(value.as_bytes()), Ok(Path { service, method }));
        }
    }

    #[test]
    fn judges_every_byte_in_both_names() {
        for byte in 0..=u8::MAX {
            let in_service = [b"/s", &[byte][..], b"s/m"].concat();
            let in_method = [b"/s/m", &[byte][..], b"m"].concat();
            let forbidden = !(0x21..=0x7e).contains(&byte) || b"%?#\\".contains(&byte);
            let (service, method) = (Path::parse(&in_service), Path::parse(&in_method));
            if byte == b'/' {
                assert_eq!(service, Err(PathError::ExtraSlash { position: 4 }));
                assert_eq!(method, Err(PathError::ExtraSlash { position: 4 }));
            } else if forbidden {
                assert_eq!(service, Err(PathError::ForbiddenByte { byte, position: 2 }));
                assert_eq!(method, Err(PathError::ForbiddenByte { byte, position: 4 }));
            } else {
                assert!(service.is_ok() && method.is_ok(), "{}", byte.escape_ascii());
            }
        }
    }

    #[test]
    fn an_error_shows_control_bytes_escaped() {
        let message = Path::parse(b"/s/m\r\nx").unwrap_err().to_string();
        assert!(message.starts_with(r"the path has '\r' at byte 4;"), "{message}");
    }

    proptest! {
        #[test]
        fn an_accepted_path_is_its_two_names_and_nothing_else(value in "[/a-c.%]{0,12}") {
            match Path::parse(value.as_bytes()) {
                Ok(path) => prop_assert_eq!(format!("/{}/{}", path.service(), path.method()), value),
                Err(_) => {
                    let parts: Vec<_> = value.split('/').collect();
                    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('%');
                    let legal = matches!(parts[..], ["", service, method] if plain(service) && plain(method));
                    prop_assert!(!legal);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = Path::parse(&value) {
                prop_assert_eq!(path.service().len() + path.method().len() + 2, value.len());
            }
        }
    }
}
