//! Corpora of malformed (and barely well-formed) header values, each with the exact verdict. New findings
//! go here.

use core::time::Duration;

use crate::path::PathError;
use crate::timeout::TimeoutError;
use crate::{ContentType, Path, TIMEOUT_MAX, parse_timeout};

/// Values of a header, each with what reading it gives.
type Corpus<T, E> = &'static [(&'static str, Result<T, E>)];

/// `grpc-timeout` values that have been seen to confuse a parser of numbers.
#[rustfmt::skip]
const TIMEOUTS: Corpus<Duration, TimeoutError> = &[
    // Shape.
    ("",            Err(TimeoutError::Empty)),
    ("S",           Err(TimeoutError::NoDigits)),
    ("5",           Err(TimeoutError::NoDigits)),
    (" ",           Err(TimeoutError::NoDigits)),
    ("10",          Err(TimeoutError::UnknownUnit { byte: b'0' })),
    ("12345678",    Err(TimeoutError::UnknownUnit { byte: b'8' })),
    ("123456789",   Err(TimeoutError::UnknownUnit { byte: b'9' })),
    ("1234567890",  Err(TimeoutError::TooManyDigits { count: 9 })),
    ("123456789S",  Err(TimeoutError::TooManyDigits { count: 9 })),
    ("000000001S",  Err(TimeoutError::TooManyDigits { count: 9 })),
    // A product that wraps to a small number in 64 bits if nobody counts the digits.
    ("18446744073709551616n", Err(TimeoutError::TooManyDigits { count: 20 })),
    // Units: case matters, words and other time notations are not units.
    ("1s",          Err(TimeoutError::UnknownUnit { byte: b's' })),
    ("1h",          Err(TimeoutError::UnknownUnit { byte: b'h' })),
    ("1N",          Err(TimeoutError::UnknownUnit { byte: b'N' })),
    ("1U",          Err(TimeoutError::UnknownUnit { byte: b'U' })),
    ("1D",          Err(TimeoutError::UnknownUnit { byte: b'D' })),
    ("1ms",         Err(TimeoutError::NotADigit { byte: b'm' })),
    ("1SS",         Err(TimeoutError::NotADigit { byte: b'S' })),
    ("1min",        Err(TimeoutError::NotADigit { byte: b'm' })),
    ("1\u{b5}",     Err(TimeoutError::NotADigit { byte: 0xc2 })),
    // Signs, fractions, exponents, other bases, separators.
    ("-1S",         Err(TimeoutError::NotADigit { byte: b'-' })),
    ("+1S",         Err(TimeoutError::NotADigit { byte: b'+' })),
    ("1.5S",        Err(TimeoutError::NotADigit { byte: b'.' })),
    ("1e3S",        Err(TimeoutError::NotADigit { byte: b'e' })),
    ("0x1S",        Err(TimeoutError::NotADigit { byte: b'x' })),
    ("1_000S",      Err(TimeoutError::NotADigit { byte: b'_' })),
    ("1,000S",      Err(TimeoutError::NotADigit { byte: b',' })),
    ("1S,2S",       Err(TimeoutError::NotADigit { byte: b'S' })),
    ("infS",        Err(TimeoutError::NotADigit { byte: b'i' })),
    // Whitespace and control bytes.
    (" 1S",         Err(TimeoutError::NotADigit { byte: b' ' })),
    ("1 S",         Err(TimeoutError::NotADigit { byte: b' ' })),
    ("1S ",         Err(TimeoutError::NotADigit { byte: b'S' })),
    ("1S\0",        Err(TimeoutError::NotADigit { byte: b'S' })),
    ("1\0",         Err(TimeoutError::UnknownUnit { byte: 0 })),
    ("1S\r\n",      Err(TimeoutError::NotADigit { byte: b'S' })),
    // Digits of another script: U+0661.
    ("\u{661}S",    Err(TimeoutError::NotADigit { byte: 0xd9 })),
    // Legal, at the edges.
    ("0n",          Ok(Duration::ZERO)),
    ("00000000H",   Ok(Duration::ZERO)),
    ("1n",          Ok(Duration::from_nanos(1))),
    ("00000010m",   Ok(Duration::from_millis(10))),
    ("99999999H",   Ok(TIMEOUT_MAX)),
];

/// Paths that two readers could take for different ones.
#[rustfmt::skip]
const PATHS: Corpus<(&str, &str), PathError> = &[
    // Shape.
    ("",                    Err(PathError::Empty)),
    ("s/m",                 Err(PathError::NoLeadingSlash)),
    ("Service/Method",      Err(PathError::NoLeadingSlash)),
    ("*",                   Err(PathError::NoLeadingSlash)),
    (" /s/m",               Err(PathError::NoLeadingSlash)),
    ("\\s\\m",              Err(PathError::NoLeadingSlash)),
    ("http://host/s/m",     Err(PathError::NoLeadingSlash)),
    ("/",                   Err(PathError::EmptyService)),
    ("//",                  Err(PathError::EmptyService)),
    ("//m",                 Err(PathError::EmptyService)),
    ("/s",                  Err(PathError::NoMethod)),
    ("/s/",                 Err(PathError::EmptyMethod)),
    ("///",                 Err(PathError::ExtraSlash { position: 2 })),
    ("//s/m",               Err(PathError::ExtraSlash { position: 3 })),
    ("/s//m",               Err(PathError::ExtraSlash { position: 3 })),
    ("/s/m/",               Err(PathError::ExtraSlash { position: 4 })),
    ("/s/m/x",              Err(PathError::ExtraSlash { position: 4 })),
    ("/prefix/pkg.S/M",     Err(PathError::ExtraSlash { position: 13 })),
    // Encodings of a slash, a dot, a letter.
    ("/s%2fm",              Err(PathError::ForbiddenByte { byte: b'%', position: 2 })),
    ("/s/%2Fm",             Err(PathError::ForbiddenByte { byte: b'%', position: 3 })),
    ("/%2e%2e/m",           Err(PathError::ForbiddenByte { byte: b'%', position: 1 })),
    ("/s/%4d",              Err(PathError::ForbiddenByte { byte: b'%', position: 3 })),
    ("/s\\m/x",             Err(PathError::ForbiddenByte { byte: b'\\', position: 2 })),
    ("/s/m\u{2215}x",       Err(PathError::ForbiddenByte { byte: 0xe2, position: 4 })),
    ("/s/m\u{e9}",          Err(PathError::ForbiddenByte { byte: 0xc3, position: 4 })),
    // Query and fragment.
    ("/s/m?x=1",            Err(PathError::ForbiddenByte { byte: b'?', position: 4 })),
    ("/s/m?",               Err(PathError::ForbiddenByte { byte: b'?', position: 4 })),
    ("/s/m#f",              Err(PathError::ForbiddenByte { byte: b'#', position: 4 })),
    ("/public/m#/../x",     Err(PathError::ForbiddenByte { byte: b'#', position: 9 })),
    // Whitespace and control bytes.
    ("/s/m ",               Err(PathError::ForbiddenByte { byte: b' ', position: 4 })),
    ("/s /m",               Err(PathError::ForbiddenByte { byte: b' ', position: 2 })),
    ("/s/m\t",              Err(PathError::ForbiddenByte { byte: b'\t', position: 4 })),
    ("/s/m\r\nx: y",        Err(PathError::ForbiddenByte { byte: b'\r', position: 4 })),
    ("/s/m\0",              Err(PathError::ForbiddenByte { byte: 0, position: 4 })),
    ("/s/m\x7f",            Err(PathError::ForbiddenByte { byte: 0x7f, position: 4 })),
    // Dot segments.
    ("/./m",                Err(PathError::DotSegment)),
    ("/../m",               Err(PathError::DotSegment)),
    ("/s/.",                Err(PathError::DotSegment)),
    ("/s/..",               Err(PathError::DotSegment)),
    ("/s/../m",             Err(PathError::ExtraSlash { position: 5 })),
    // Legal, if unusual.
    ("/s/m",                Ok(("s", "m"))),
    ("/S/M",                Ok(("S", "M"))),
    ("/s/...",              Ok(("s", "..."))),
    ("/s;v=1/m",            Ok(("s;v=1", "m"))),
    ("/s:443/m*",           Ok(("s:443", "m*"))),
];

/// `content-type` values near `application/grpc`.
#[rustfmt::skip]
const CONTENT_TYPES: &[(&str, ContentType)] = &[
    ("application/grpc",                        ContentType::Grpc),
    ("application/grpc+proto",                  ContentType::Grpc),
    ("application/grpc+json",                   ContentType::Grpc),
    ("application/grpc+",                       ContentType::Grpc),
    ("application/grpc+grpc-web",               ContentType::Grpc),
    ("application/grpc;charset=utf-8",          ContentType::Grpc),
    ("application/grpc; charset=utf-8",         ContentType::Grpc),
    ("application/grpc;",                       ContentType::Grpc),
    ("Application/GRPC",                        ContentType::Grpc),
    ("APPLICATION/GRPC+PROTO",                  ContentType::Grpc),
    ("application/grpc-web",                    ContentType::NotGrpc),
    ("application/grpc-web+proto",              ContentType::NotGrpc),
    ("application/grpc-web-text",               ContentType::NotGrpc),
    ("Application/Grpc-Web",                    ContentType::NotGrpc),
    ("application/grpcweb",                     ContentType::NotGrpc),
    ("application/grpc2",                       ContentType::NotGrpc),
    ("application/grpc/",                       ContentType::NotGrpc),
    ("application/grpc,application/json",       ContentType::NotGrpc),
    ("application/grpc\0",                      ContentType::NotGrpc),
    ("application/grpc ",                       ContentType::NotGrpc),
    ("application/grpc ;charset=utf-8",         ContentType::NotGrpc),
    (" application/grpc",                       ContentType::NotGrpc),
    ("application/grp",                         ContentType::NotGrpc),
    ("application/",                            ContentType::NotGrpc),
    ("application",                             ContentType::NotGrpc),
    ("",                                        ContentType::NotGrpc),
    ("application/json",                        ContentType::NotGrpc),
    ("application/proto",                       ContentType::NotGrpc),
    ("application/connect+proto",               ContentType::NotGrpc),
    ("text/plain;application/grpc",             ContentType::NotGrpc),
    ("application/g\u{280}pc",                  ContentType::NotGrpc),
];

#[test]
fn judges_the_corpus_of_timeouts() {
    for (value, verdict) in TIMEOUTS {
        assert_eq!(parse_timeout(value.as_bytes()), *verdict, "{value:?}");
    }
}

#[test]
fn judges_the_corpus_of_paths() {
    for (value, verdict) in PATHS {
        let parsed = Path::parse(value.as_bytes()).map(|path| (path.service(), path.method()));
        assert_eq!(parsed, *verdict, "{value:?}");
    }
}

#[test]
fn judges_the_corpus_of_content_types() {
    for (value, verdict) in CONTENT_TYPES {
        assert_eq!(ContentType::detect(value.as_bytes()), *verdict, "{value:?}");
    }
}
