//! Frame headers: reading and writing are each other's inverse, and the table of lengths lets nothing through.

use evenkeel_http2::Violation;
use evenkeel_http2::frame::{
    FRAME_HEADER_LEN, Fault, FrameHeader, MAX_FRAME_SIZE, flag, frame_header, kind, strip_padding,
};

/// Walks frames: headers are written as they were read, only PRIORITY has a fault that spares the connection, and payload
/// and padding together are the frame.
///
/// # Panics
/// If that does not hold.
pub fn frame_headers(data: &[u8]) {
    let mut rest = data;
    while let Some(header) = FrameHeader::parse(rest) {
        let mut written = rest[..FRAME_HEADER_LEN].to_vec();
        written[5] &= 0x7f;
        let again = frame_header(header.length as usize, header.kind, header.flags, header.stream);
        assert_eq!(again[..], written, "a header is written as it was read, the reserved bit aside");
        match header.check(MAX_FRAME_SIZE) {
            Ok(()) => assert!(header.length <= MAX_FRAME_SIZE),
            Err(Fault::Stream(violation)) => {
                assert_eq!((header.kind, violation), (kind::PRIORITY, Violation::FrameLength));
            }
            Err(Fault::Connection(Violation::FrameTooLarge)) => assert!(header.length > MAX_FRAME_SIZE),
            Err(Fault::Connection(_)) => assert!(header.kind <= kind::CONTINUATION, "unknown types pass"),
        }
        let body = &rest[FRAME_HEADER_LEN..];
        let (payload, behind) = body.split_at(body.len().min(header.length as usize));
        check_padding(header.flags, payload);
        rest = behind;
    }
    assert!(rest.len() < FRAME_HEADER_LEN);
}

fn check_padding(flags: u8, payload: &[u8]) {
    let announced = payload.first().map(|padding| usize::from(*padding));
    match (strip_padding(flags, payload), flags & flag::PADDED != 0) {
        (Ok(content), false) => assert_eq!(content, payload),
        (Ok(content), true) => {
            assert_eq!(Some(payload.len() - 1 - content.len()), announced);
            assert_eq!(content, &payload[1..=content.len()]);
        }
        (Err(violation), padded) => {
            assert_eq!((violation, padded), (Violation::Padding, true));
            assert!(announced.is_none_or(|padding| padding >= payload.len()));
        }
    }
}
