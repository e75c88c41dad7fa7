//! Clients that do not speak HTTP/2: a clear answer, not a hang.
//!
//! HTTP/2 without TLS is spoken with prior knowledge only; the Upgrade of RFC 7540 was removed by RFC 9113 and is a way
//! to smuggle requests (h2csmuggler), so it is never honoured.

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
}

fn classify(input: &[u8]) -> FirstBytes {
    let length = input.len().min(PREFACE.len());
    if input[..length] == PREFACE[..length] {
        return FirstBytes::Http2;
    }
    // A method is a token of capital letters in practice (RFC 9110 section 9.1), at most seven of them, then a space.
    let method = input.iter().take(8).take_while(|byte| byte.is_ascii_uppercase()).count();
    if (3..8).contains(&method) && input.get(method) == Some(&b' ') {
        FirstBytes::Http1
    } else {
        FirstBytes::Unknown
    }
}

impl Worker {
    /// Looks at the first bytes of a client. Whether it speaks HTTP/2.
    pub(super) fn begin_downstream(&mut self, id: ConnId, input: &[u8]) -> bool {
        let Some(conn) = self.conns.get_mut(id.index()) else { return false };
        match classify(input) {
            FirstBytes::Http2 => {
                conn.phase = ConnPhase::Live;
                return true;
            }
            FirstBytes::Http1 => {
                self.count(Event::Http1Request);
                let Some(conn) = self.conns.get_mut(id.index()) else { return false };
                conn.plain_answer = Some(HTTP1_ANSWER.to_vec());
                conn.phase = ConnPhase::Flushing;
            }
            FirstBytes::Unknown => conn.phase = ConnPhase::Dead,
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
        assert_eq!(classify(b"P"), FirstBytes::Http2);
        assert_eq!(classify(PREFACE), FirstBytes::Http2);
        assert_eq!(classify(b"POST /a HTTP/1.1\r\n"), FirstBytes::Http1);
        assert_eq!(classify(b"GET / HTTP/1.1\r\n"), FirstBytes::Http1);
        assert_eq!(classify(b"OPTIONS * HTTP/1.1"), FirstBytes::Http1);
        assert_eq!(classify(&[0x16, 0x03, 0x01]), FirstBytes::Unknown, "a TLS handshake");
        assert_eq!(classify(b"PRI * HTTP/1.0"), FirstBytes::Http1);
        assert_eq!(classify(b"get / HTTP/1.1"), FirstBytes::Unknown);
    }

    #[test]
    fn the_answer_says_its_own_length() {
        let text = str::from_utf8(HTTP1_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
