//! The status message: the value of `grpc-message`, percent-encoded UTF-8.
//!
//! Rule (PROTOCOL-HTTP2, Percent-Encoded): bytes 0x20 to 0x7E stand for themselves, `%` and everything else
//! becomes `%XX`. Decoding never fails: broken escapes stay as they are, invalid UTF-8 becomes U+FFFD.
//!
//! One addition: a space at either end is escaped too. The gRPC grammar lets it stand, but
//! [RFC 9113 §8.2.1](https://www.rfc-editor.org/rfc/rfc9113#section-8.2.1) makes a field value that starts or
//! ends with a space malformed, so that a peer may reset the stream instead of showing the message.
//!
//! Source: [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), Responses.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// Length of an encoded message at most, in bytes.
///
/// gRPC suggests 8 KiB for all trailers (PROTOCOL-HTTP2); an eighth of that leaves room for
/// `grpc-status-details-bin` and metadata, and is many times what a proxy has to say.
pub const MESSAGE_LEN_MAX: usize = 1024;

/// What is escaped: control bytes and `%`. Non-ASCII is always escaped by the library.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// An escaped space.
const SPACE: &[u8] = b"%20";

/// Appends the percent-encoded form of `message` to `out`: at most [`MESSAGE_LEN_MAX`] bytes.
///
/// A longer message is cut after the last character that fits; an escape or a character is never cut in two.
/// Allocates only if `out` has to grow.
pub fn encode_message(message: &str, out: &mut Vec<u8>) {
    let mut kept = fitting(message);
    let leading = kept.strip_prefix(' ');
    kept = leading.unwrap_or(kept);
    let trailing = kept.strip_suffix(' ');
    kept = trailing.unwrap_or(kept);

    if leading.is_some() {
        out.extend_from_slice(SPACE);
    }
    for piece in utf8_percent_encode(kept, ESCAPED) {
        out.extend_from_slice(piece.as_bytes());
    }
    if trailing.is_some() {
        out.extend_from_slice(SPACE);
    }
}

/// The part of `message` that [`encode_message`] sends: all of it, or the longest prefix whose encoded form
/// fits into [`MESSAGE_LEN_MAX`], without the spaces the cut would leave at its end.
///
/// `grpc-status-details-bin` repeats the message and has to agree with `grpc-message`, so it is cut here as
/// well.
#[must_use]
pub fn fitting(message: &str) -> &str {
    let mut encoded_len = 0;
    for (at, character) in message.char_indices() {
        let at_edge = at == 0 || at + 1 == message.len();
        encoded_len += match character {
            ' ' if at_edge => SPACE.len(),
            ' '..='~' if character != '%' => 1,
            _ => 3 * character.len_utf8(),
        };
        if encoded_len > MESSAGE_LEN_MAX {
            return message[..at].trim_end_matches(' ');
        }
    }
    message
}

/// Decodes the value of `grpc-message`. Never fails; borrows when there is nothing to decode, else allocates
/// at most three times the length of `value` (each invalid byte becomes the three bytes of U+FFFD).
#[must_use]
pub fn decode_message(value: &[u8]) -> Cow<'_, str> {
    percent_decode(value).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(message: &str) -> String {
        let mut out = Vec::new();
        encode_message(message, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn printable_ascii_except_percent_stands_for_itself() {
        for byte in 0..=u8::MAX {
            // Between two letters, so that the byte is at no edge.
            let message = format!("a{}b", char::from(byte));
            let expected = match byte {
                b'%' => "a%25b".to_owned(),
                b' '..=b'~' => message.clone(),
                0..=0x7f => format!("a%{byte:02X}b"),
                0x80..=0xbf => format!("a%C2%{byte:02X}b"),
                0xc0..=0xff => format!("a%C3%{:02X}b", byte - 0x40),
            };
            assert_eq!(encoded(&message), expected);
        }
    }

    #[test]
    fn encodes_the_interop_message() {
        // special_status_message of gRPC's interop test descriptions.
        let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
        let wire = "%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A";
        assert_eq!(encoded(message), wire);
        assert_eq!(decode_message(wire.as_bytes()), message);
    }

    #[test]
    fn escapes_spaces_at_the_edges_only() {
        assert_eq!(encoded(""), "");
        assert_eq!(encoded(" "), "%20");
        assert_eq!(encoded("  "), "%20%20");
        assert_eq!(encoded("   "), "%20 %20");
        assert_eq!(encoded(" a b "), "%20a b%20");
    }

    #[test]
    fn appends_to_what_is_there() {
        let mut out = b"x".to_vec();
        encode_message("y", &mut out);
        assert_eq!(out, b"xy");
    }

    #[test]
    fn cuts_at_the_limit_but_not_below_it() {
        assert_eq!(encoded(&"a".repeat(1023)).len(), 1023);
        assert_eq!(encoded(&"a".repeat(1024)).len(), 1024);
        assert_eq!(encoded(&"a".repeat(1025)), "a".repeat(1024));
    }

    #[test]
    fn never_cuts_inside_a_character() {
        // Each character costs nine bytes: 113 fit (1017), a 114th would end at 1026.
        assert_eq!(encoded(&"☺".repeat(114)), "%E2%98%BA".repeat(113));
        // Seven more bytes are free.
        let mixed = format!("{}{}", "a".repeat(7), "☺".repeat(113));
        assert_eq!(encoded(&mixed).len(), 1024);
        let mixed = format!("{}{}", "a".repeat(8), "☺".repeat(113));
        assert_eq!(encoded(&mixed).len(), 8 + 112 * 9);
    }

    #[test]
    fn a_cut_leaves_no_space_at_the_end() {
        let message = format!("{}{}b", "a".repeat(1000), " ".repeat(100));
        assert_eq!(encoded(&message), "a".repeat(1000));
        // The last space alone would not fit once escaped.
        let message = format!("{} ", "a".repeat(1023));
        assert_eq!(encoded(&message), "a".repeat(1023));
        let message = format!("{} ", "a".repeat(1021));
        assert_eq!(encoded(&message), format!("{}%20", "a".repeat(1021)));
    }

    #[test]
    fn decodes_what_it_can_and_keeps_the_rest() {
        let cases: [(&[u8], &str); 12] = [
            (b"", ""),
            (b"plain", "plain"),
            (b"%", "%"),
            (b"%4", "%4"),
            (b"%zz", "%zz"),
            (b"%%41", "%A"),
            (b"%41%4", "A%4"),
            (b"%e2%98%ba", "☺"),
            (b"100%", "100%"),
            (b"%ff", "\u{fffd}"),
            (b"a%E2%98", "a\u{fffd}"),
            (b"\xe2\x98\xba", "☺"),
        ];
        for (value, message) in cases {
            assert_eq!(decode_message(value), message, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn decoding_borrows_when_nothing_is_escaped() {
        assert!(matches!(decode_message(b"upstream overflow"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_sent(message in "(?s).{0,400}") {
            let wire = encoded(&message);
            prop_assert_eq!(decode_message(wire.as_bytes()), fitting(&message));
        }

        #[test]
        fn the_encoded_form_is_a_legal_field_value(message in "(?s)[ %a☺\u{0}]{0,1200}") {
            let wire = encoded(&message);
            prop_assert!(wire.len() <= MESSAGE_LEN_MAX);
            prop_assert!(wire.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert!(!wire.starts_with(' ') && !wire.ends_with(' '));
            prop_assert!(message.starts_with(fitting(&message)));
        }

        #[test]
        fn decoding_takes_any_bytes(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_message(&value).len() <= 3 * value.len());
        }
    }
}
