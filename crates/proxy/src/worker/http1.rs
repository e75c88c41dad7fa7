//! Clients that do not speak HTTP/2: a clear answer, not a hang.
//!
//! HTTP/2 without TLS is spoken with prior knowledge only; the Upgrade of RFC 7540 was removed by RFC 9113 and is a way
//! to smuggle requests (h2csmuggler), so it is never honoured.

use core::time::Duration;

use evenkeel_http2::frame::PREFACE;
use evenkeel_telemetry::Event;

use super::Worker;
use super::conn::{ConnId, ConnPhase};

/// What an HTTP/1 client gets.
const HTTP1_ANSWER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n\
content-length: 86\r\nconnection: close\r\n\r\nThis port speaks gRPC over HTTP/2 with prior knowledge (h2c). Use a gRPC client here.\n";

/// What the first bytes of a connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FirstBytes {
    Http2,
    Http1,
    Unknown,
    /// Too few to tell: they may be cut anywhere.
    Undecided,
}

/// A method is a token of capital letters in practice (RFC 9110 section 9.1), at most this many of them, then a space.
const METHOD_LETTERS_MAX: usize = 7;

fn classify(input: &[u8]) -> FirstBytes {
    let letters =
        input.iter().take(METHOD_LETTERS_MAX + 1).take_while(|byte| byte.is_ascii_uppercase()).count();
    if letters <= METHOD_LETTERS_MAX && letters == input.len() {
        return FirstBytes::Undecided;
    }
    let length = input.len().min(PREFACE.len());
    if input[..length] == PREFACE[..length] {
        FirstBytes::Http2
    } else if (3..=METHOD_LETTERS_MAX).contains(&letters) && input[letters] == b' ' {
        FirstBytes::Http1
    } else {
        FirstBytes::Unknown
    }
}

/// The answer to a request that begins like this: the one to HEAD has no body (RFC 9110 section 9.3.2).
fn answer(input: &[u8]) -> &'static [u8] {
    if input.starts_with(b"HEAD ") {
        let end = HTTP1_ANSWER.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        &HTTP1_ANSWER[..end.map_or(HTTP1_ANSWER.len(), |end| end + 4)]
    } else {
        HTTP1_ANSWER
    }
}

impl Worker {
    /// Looks at the first bytes of a client. Whether it speaks HTTP/2. Bytes that do not tell yet are kept for the next read;
    /// the wait for more ends with that for the preface.
    pub(super) fn begin_downstream(&mut self, now: Duration, id: ConnId, input: &[u8]) -> bool {
        let Some(conn) = self.conns.get_mut(id.index()) else { return false };
        match classify(input) {
            FirstBytes::Http2 => {
                conn.phase = ConnPhase::Live;
                return true;
            }
            FirstBytes::Http1 => {
                self.count(Event::Http1Request);
                self.log_http1(now, id, input);
                let Some(conn) = self.conns.get_mut(id.index()) else { return false };
                conn.plain_answer = Some(answer(input).to_vec());
                conn.phase = ConnPhase::Flushing;
            }
            FirstBytes::Unknown => conn.phase = ConnPhase::Dead,
            FirstBytes::Undecided => self.keep_leftover(id, input),
        }
        self.touch(id);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_http2_from_http1_and_from_anything_else() {
        assert_eq!(classify(b"PRI "), FirstBytes::Http2);
        assert_eq!(classify(PREFACE), FirstBytes::Http2);
        assert_eq!(classify(b"POST /a HTTP/1.1\r\n"), FirstBytes::Http1);
        assert_eq!(classify(b"GET / HTTP/1.1\r\n"), FirstBytes::Http1);
        assert_eq!(classify(b"OPTIONS * HTTP/1.1"), FirstBytes::Http1);
        assert_eq!(classify(&[0x16, 0x03, 0x01]), FirstBytes::Unknown, "a TLS handshake");
        assert_eq!(classify(b"PRI * HTTP/1.0"), FirstBytes::Http1);
        assert_eq!(classify(b"get / HTTP/1.1"), FirstBytes::Unknown);
    }

    #[test]
    fn a_beginning_of_letters_alone_waits_for_more() {
        for part in [&b""[..], b"P", b"PR", b"PRI", b"GE", b"OPTIONS"] {
            assert_eq!(classify(part), FirstBytes::Undecided, "{part:?}");
        }
        assert_eq!(classify(b"OPTIONSX"), FirstBytes::Unknown, "no method is as long");
        assert_eq!(classify(b"AB "), FirstBytes::Unknown);
        assert_eq!(classify(b"h"), FirstBytes::Unknown);
    }

    #[test]
    fn the_answer_says_its_own_length() {
        let text = str::from_utf8(answer(b"GET / HTTP/1.1\r\n")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }

    #[test]
    fn the_answer_to_head_is_a_head() {
        let text = str::from_utf8(answer(b"HEAD / HTTP/1.1\r\n")).unwrap();
        assert!(text.starts_with("HTTP/1.1 505 ") && text.ends_with("connection: close\r\n\r\n"), "{text}");
    }
}
