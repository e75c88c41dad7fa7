//! Writing frames: each function appends one frame to an output buffer.

use super::{FRAME_HEADER_LEN, flag, kind};
use crate::error::ErrorCode;

/// Appends a frame header.
#[inline]
pub fn write_frame_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&frame_header(length, kind, flags, stream));
}

/// The nine bytes of a frame header.
///
/// `length` must be at most 2^24-1: callers cut payloads at the peer's SETTINGS_MAX_FRAME_SIZE.
#[inline]
#[must_use]
pub fn frame_header(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; FRAME_HEADER_LEN] {
    debug_assert!(length < 1 << 24, "frames are cut at the peer's maximum size");
    let l = (length as u32).to_be_bytes();
    let s = stream.to_be_bytes();
    [l[1], l[2], l[3], kind, flags, s[0], s[1], s[2], s[3]]
}

/// Appends a DATA frame.
#[inline]
pub fn write_data(out: &mut Vec<u8>, stream: u32, bytes: &[u8], end_stream: bool) {
    out.reserve(FRAME_HEADER_LEN + bytes.len());
    write_frame_header(out, bytes.len(), kind::DATA, if end_stream { flag::END_STREAM } else { 0 }, stream);
    out.extend_from_slice(bytes);
}

/// Appends a RST_STREAM frame.
pub fn write_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    write_frame_header(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends a SETTINGS frame with these identifiers and values.
pub fn write_settings(out: &mut Vec<u8>, entries: &[(u16, u32)]) {
    write_frame_header(out, entries.len() * 6, kind::SETTINGS, 0, 0);
    for (id, value) in entries {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends the acknowledgement of a SETTINGS frame.
pub fn write_settings_ack(out: &mut Vec<u8>) {
    write_frame_header(out, 0, kind::SETTINGS, flag::ACK, 0);
}

/// Appends a PING, or its acknowledgement.
pub fn write_ping(out: &mut Vec<u8>, payload: [u8; 8], ack: bool) {
    write_frame_header(out, 8, kind::PING, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&payload);
}

/// Appends a GOAWAY.
pub fn write_goaway(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode, debug: &[u8]) {
    write_frame_header(out, 8 + debug.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug);
}

/// Appends a WINDOW_UPDATE; stream 0 is the connection.
#[inline]
pub fn write_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    debug_assert!((1..=0x7fff_ffff).contains(&increment), "RFC 9113 section 6.9 allows 1..=2^31-1");
    write_frame_header(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}
