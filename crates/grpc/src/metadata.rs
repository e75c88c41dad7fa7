//! Custom metadata: which keys and values may travel, and the base64 of `-bin` values.
//!
//! Rules (PROTOCOL-HTTP2, Custom-Metadata):
//! - A key is one or more of `0-9 a-z _ - .`; keys that start with `grpc-` belong to gRPC.
//! - A key that ends with `-bin` holds binary values: base64 (RFC 4648 §4), with or without padding on
//!   receipt, without it when sent. Repeated headers may arrive joined by commas and are split before
//!   decoding.
//! - Any other value is 0x20 to 0x7E. Leading and trailing whitespace carries no meaning and is stripped.
//!
//! A proxy forwards metadata as it came; these functions are for the parts that read or write it. Nothing
//! here allocates but [`decode_binary_values`] and [`encode_binary_value`].
//!
//! Source: [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), Requests.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The start of the keys that are reserved for gRPC itself.
pub const RESERVED_PREFIX: &[u8] = b"grpc-";

/// The end of the keys whose values are binary.
pub const BINARY_SUFFIX: &[u8] = b"-bin";

/// Bits that the last symbol carries beyond the last byte are ignored, as grpc-go does: some encoders leave
/// garbage there. Padding is checked and removed before this engine sees the value.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Whether a key is one by which proxies speak of a call's origin, or to each other: `forwarded` (RFC 7239),
/// `x-forwarded-...`, `x-real-ip`, `x-envoy-...` and `x-evenkeel-...`; `_` is taken for `-`, as some servers take it.
///
/// The key is expected in lower case, as HTTP/2 has it.
///
/// # Examples
/// ```
/// use evenkeel_grpc::is_forwarding_key;
///
/// assert!(is_forwarding_key(b"x_forwarded-for"));
/// assert!(!is_forwarding_key(b"forwarded-by"));
/// ```
#[must_use]
pub fn is_forwarding_key(key: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 3] = [b"x-forwarded-", b"x-envoy-", b"x-evenkeel-"];
    const KEYS: [&[u8]; 2] = [b"forwarded", b"x-real-ip"];
    let same = |text: &[u8], known: &[u8]| {
        let dashed = text.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte });
        dashed.eq(known.iter().copied())
    };
    KEYS.iter().any(|known| same(key, known))
        || PREFIXES.iter().any(|known| key.get(..known.len()).is_some_and(|begin| same(begin, known)))
}

/// How the values of a key are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Values are printable ASCII.
    Ascii,
    /// The key ends with `-bin`: values are base64.
    Binary,
}

/// Why a metadata key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is empty.
    #[error("the metadata key is empty; name it with 0-9, a-z, _, - and .")]
    Empty,
    /// A byte is not allowed in keys.
    #[error(
        "the metadata key has '{}' at byte {position}; only 0-9, a-z, _, - and . are allowed",
        .byte.escape_ascii()
    )]
    ForbiddenByte {
        /// The first such byte.
        byte: u8,
        /// Its offset in the key.
        position: usize,
    },
}

/// Why an ASCII value is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the metadata value has '{}' at byte {position}; send printable ASCII, or use a key that ends with -bin",
    .byte.escape_ascii()
)]
pub struct AsciiValueError {
    /// The first byte outside 0x20 to 0x7E.
    pub byte: u8,
    /// Its offset in the value.
    pub position: usize,
}

/// Why a value of a `-bin` key is refused. Offsets count from the start of the comma-joined list's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BinaryValueError {
    /// A byte is not in the base64 alphabet.
    #[error(
        "the binary metadata value has '{}' at byte {position}; send base64 of RFC 4648, section 4",
        .byte.escape_ascii()
    )]
    ForbiddenByte {
        /// The first such byte.
        byte: u8,
        /// Its offset in the element.
        position: usize,
    },
    /// The number of symbols leaves a remainder of one when divided by four, which no byte string encodes to.
    #[error(
        "the binary metadata value has {symbols} base64 symbols, which encode no whole bytes; send all of them"
    )]
    Length {
        /// Symbols without padding.
        symbols: usize,
    },
    /// There is padding, but not the one that RFC 4648 asks for.
    #[error("the binary metadata value has wrong base64 padding; leave the padding out")]
    Padding,
}

/// Judges a metadata key and tells how its values are written.
///
/// # Errors
///
/// [`KeyError`] when the key is empty or has a byte other than `0-9 a-z _ - .`.
pub fn classify_key(key: &[u8]) -> Result<KeyKind, KeyError> {
    let forbidden = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'_' | b'-' | b'.');
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    match key.iter().position(forbidden) {
        Some(position) => Err(KeyError::ForbiddenByte { byte: key[position], position }),
        None if key.ends_with(BINARY_SUFFIX) => Ok(KeyKind::Binary),
        None => Ok(KeyKind::Ascii),
    }
}

/// Whether a key belongs to gRPC, so that applications (and operators' header rules) must not set it.
#[must_use]
pub fn is_reserved_key(key: &[u8]) -> bool {
    key.starts_with(RESERVED_PREFIX)
}

/// Strips the whitespace (space and tab, RFC 9110 §5.6.3) that a value may carry at its ends without meaning.
#[must_use]
pub fn trim_value(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(|byte| !blank(byte)) else { return &[] };
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// Judges a value to be sent under a key without `-bin`. The empty value passes, as in every gRPC library.
///
/// For sending only: a received value that is legal in HTTP must not fail the call (PROTOCOL-HTTP2).
///
/// # Errors
///
/// [`AsciiValueError`] at the first byte outside 0x20 to 0x7E.
pub fn check_ascii_value(value: &[u8]) -> Result<(), AsciiValueError> {
    match value.iter().position(|byte| !matches!(byte, b' '..=b'~')) {
        Some(position) => Err(AsciiValueError { byte: value[position], position }),
        None => Ok(()),
    }
}

/// Judges the value of a `-bin` header, a single one or a comma-joined list, without decoding it.
///
/// # Errors
///
/// [`BinaryValueError`] for the first element that does not decode.
pub fn check_binary_values(value: &[u8]) -> Result<(), BinaryValueError> {
    elements(value).try_for_each(|element| symbols(element).map(drop))
}

/// Decodes the value of a `-bin` header: yields the bytes of each element of the comma-joined list, in order.
///
/// An empty element is an empty binary value, not nothing: that is how gRPC sends one. Each item allocates at
/// most three quarters of its element's length.
///
/// # Errors
///
/// Each item is a [`BinaryValueError`] if that element does not decode; the others still do.
///
/// # Panics
///
/// Never: every element is checked before it is decoded.
pub fn decode_binary_values(value: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, BinaryValueError>> {
    elements(value).map(|element| {
        let symbols = symbols(element)?;
        Ok(BASE64.decode(symbols).expect("alphabet and length are checked, trailing bits are ignored"))
    })
}

/// Decodes a single value into `buffer`; does not allocate.
///
/// # Panics
///
/// If the buffer has less than three quarters of the value's length.
pub(crate) fn decode_into<'a>(value: &[u8], buffer: &'a mut [u8]) -> Result<&'a [u8], BinaryValueError> {
    let symbols = symbols(value)?;
    let length = BASE64.decode_slice(symbols, buffer).expect("alphabet, length and room are checked");
    Ok(&buffer[..length])
}

/// Encodes one binary value for a `-bin` header: base64 without padding. Allocates the result.
#[must_use]
pub fn encode_binary_value(value: &[u8]) -> String {
    BASE64.encode(value)
}

/// The elements of a comma-joined list, without the whitespace around them. Never empty.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_value)
}

/// The base64 symbols of an element, its padding checked and removed.
fn symbols(element: &[u8]) -> Result<&[u8], BinaryValueError> {
    let len = element.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let (symbols, padding) = element.split_at(len);
    let forbidden = |byte: &u8| !matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/');
    if let Some(position) = symbols.iter().position(forbidden) {
        return Err(BinaryValueError::ForbiddenByte { byte: symbols[position], position });
    }
    if len % 4 == 1 {
        return Err(BinaryValueError::Length { symbols: len });
    }
    // Padding fills up the last group of four; a full group takes none.
    if !padding.is_empty() && padding.len() != (4 - len % 4) % 4 {
        return Err(BinaryValueError::Padding);
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(value: &[u8]) -> Result<Vec<Vec<u8>>, BinaryValueError> {
        decode_binary_values(value).collect()
    }

    #[test]
    fn judges_every_byte_of_a_key() {
        for byte in 0..=u8::MAX {
            let allowed = b"0123456789abcdefghijklmnopqrstuvwxyz_-.".contains(&byte);
            let expected =
                if allowed { Ok(KeyKind::Ascii) } else { Err(KeyError::ForbiddenByte { byte, position: 1 }) };
            assert_eq!(classify_key(&[b'x', byte, b'y']), expected);
        }
        assert_eq!(classify_key(b""), Err(KeyError::Empty));
    }

    #[test]
    fn the_suffix_makes_a_key_binary() {
        for key in ["trace-bin", "-bin", "grpc-trace-bin", "a.b-bin"] {
            assert_eq!(classify_key(key.as_bytes()), Ok(KeyKind::Binary), "{key}");
        }
        for key in ["bin", "tracebin", "trace-bins", "-bin-", "trace-bi"] {
            assert_eq!(classify_key(key.as_bytes()), Ok(KeyKind::Ascii), "{key}");
        }
    }

    #[test]
    fn the_prefix_reserves_a_key() {
        for key in ["grpc-timeout", "grpc-", "grpc-trace-bin"] {
            assert!(is_reserved_key(key.as_bytes()), "{key}");
        }
        for key in ["grpc", "grpcx-a", "x-grpc-a", ""] {
            assert!(!is_reserved_key(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn judges_every_byte_of_an_ascii_value() {
        for byte in 0..=u8::MAX {
            let expected = if (0x20..=0x7e).contains(&byte) {
                Ok(())
            } else {
                Err(AsciiValueError { byte, position: 2 })
            };
            assert_eq!(check_ascii_value(&[b'a', b' ', byte]), expected);
        }
        assert_eq!(check_ascii_value(b""), Ok(()));
    }

    #[test]
    fn trims_blanks_at_the_ends_only() {
        for (value, trimmed) in [
            ("", ""),
            (" ", ""),
            (" \t ", ""),
            ("a", "a"),
            (" a", "a"),
            ("a\t", "a"),
            (" \ta b\t ", "a b"),
            ("\na", "\na"),
        ] {
            assert_eq!(trim_value(value.as_bytes()), trimmed.as_bytes());
        }
    }

    #[test]
    fn decodes_the_vectors_of_rfc_4648_with_and_without_padding() {
        for (padded, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            let bare = padded.trim_end_matches('=');
            assert_eq!(decode(padded.as_bytes()), Ok(vec![bytes.into()]));
            assert_eq!(decode(bare.as_bytes()), Ok(vec![bytes.into()]));
            assert_eq!(encode_binary_value(bytes.as_bytes()), bare);
        }
    }

    #[test]
    fn splits_lists_at_commas() {
        assert_eq!(decode(b"Zg==,Zm8"), Ok(vec![b"f".to_vec(), b"fo".to_vec()]));
        assert_eq!(decode(b" Zg , Zm8=\t"), Ok(vec![b"f".to_vec(), b"fo".to_vec()]));
        assert_eq!(decode(b",Zg"), Ok(vec![b"".to_vec(), b"f".to_vec()]));
        assert_eq!(decode(b","), Ok(vec![b"".to_vec(), b"".to_vec()]));
    }

    #[test]
    fn a_broken_element_leaves_the_others() {
        let items: Vec<_> = decode_binary_values(b"Zg,!,Zm8").collect();
        let error = BinaryValueError::ForbiddenByte { byte: b'!', position: 0 };
        assert_eq!(items, [Ok(b"f".to_vec()), Err(error), Ok(b"fo".to_vec())]);
        assert_eq!(check_binary_values(b"Zg,!,Zm8"), Err(error));
    }

    #[test]
    fn ignores_the_bits_beyond_the_last_byte() {
        // 'Zh' is 'f' and four bits 0001; grpc-go reads it as 'f'.
        assert_eq!(decode(b"Zh"), Ok(vec![b"f".to_vec()]));
        assert_eq!(decode(b"Zh=="), Ok(vec![b"f".to_vec()]));
    }

    #[test]
    fn refuses_what_is_not_base64() {
        let forbidden = |byte, position| BinaryValueError::ForbiddenByte { byte, position };
        for (value, error) in [
            ("Z", BinaryValueError::Length { symbols: 1 }),
            ("Zm9vY", BinaryValueError::Length { symbols: 5 }),
            ("Z===", BinaryValueError::Length { symbols: 1 }),
            ("Zg=", BinaryValueError::Padding),
            ("Zg===", BinaryValueError::Padding),
            ("Zm8==", BinaryValueError::Padding),
            ("Zm9v=", BinaryValueError::Padding),
            ("Zm9v====", BinaryValueError::Padding),
            ("=", BinaryValueError::Padding),
            ("====", BinaryValueError::Padding),
            ("Zg==Zg==", forbidden(b'=', 2)),
            ("Zm-v", forbidden(b'-', 2)),
            ("Zm_v", forbidden(b'_', 2)),
            ("Z g=", forbidden(b' ', 1)),
        ] {
            assert_eq!(check_binary_values(value.as_bytes()), Err(error), "{value}");
            assert_eq!(decode(value.as_bytes()), Err(error), "{value}");
        }
    }

    proptest! {
        #[test]
        fn checking_and_decoding_agree(value in "[A-Za-z0-9+/=, !-]{0,24}") {
            prop_assert_eq!(check_binary_values(value.as_bytes()).err(), decode(value.as_bytes()).err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(check_binary_values(&value).is_ok(), decode(&value).is_ok());
        }

        #[test]
        fn decoding_gives_back_what_was_encoded(values in proptest::collection::vec(any::<Vec<u8>>(), 1..6)) {
            let wire: Vec<_> = values.iter().map(|value| encode_binary_value(value)).collect();
            prop_assert_eq!(decode(wire.join(",").as_bytes()), Ok(values));
        }
    }
}
