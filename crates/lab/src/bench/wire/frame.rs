//! Frame headers, and the frames that need no state (RFC 9113 §4.1, §6).

use super::Fault;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame header.
pub(crate) const HEAD_BYTES: usize = 9;
/// Largest payload that every peer takes, and that these tools take (SETTINGS_MAX_FRAME_SIZE's initial value).
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16_384;
/// Largest window (RFC 9113 §6.9.1).
pub(crate) const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Windows before any SETTINGS or WINDOW_UPDATE (RFC 9113 §6.9.2).
pub(crate) const WINDOW_INITIAL: u32 = 65_535;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITY: u8 = 0x20;

/// Error code CANCEL (RFC 9113 §7).
pub(crate) const CANCEL: u32 = 8;

pub(crate) const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const SETTINGS_MAX_FRAME_SIZE: u16 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The first frame in `bytes` and its payload, or `None` if it is not complete.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, Fault> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *head;
    let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(Fault::Protocol("frame larger than 16 KiB"));
    }
    let stream = u32::from_be_bytes([s0, s1, s2, s3]) & WINDOW_MAX;
    Ok(rest.get(..length).map(|payload| (Head { length, kind, flags, stream }, payload)))
}

/// The payload of DATA or HEADERS without padding and priority fields (RFC 9113 §6.1, §6.2).
pub(crate) fn content(head: Head, payload: &[u8]) -> Result<&[u8], Fault> {
    const SHORT: Fault = Fault::Protocol("padding larger than its frame");
    let mut content = payload;
    let mut padding = 0;
    if head.has(PADDED) {
        let (length, rest) = content.split_first().ok_or(SHORT)?;
        (padding, content) = (usize::from(*length), rest);
    }
    if head.kind == HEADERS && head.has(PRIORITY) {
        content = content.get(5..).ok_or(SHORT)?;
    }
    let end = content.len().checked_sub(padding).ok_or(SHORT)?;
    Ok(&content[..end])
}

/// A payload that is one 32-bit number, its reserved bit cleared.
pub(crate) fn number(payload: &[u8]) -> Result<u32, Fault> {
    let number = payload.first_chunk().ok_or(Fault::Protocol("frame too short"))?;
    Ok(u32::from_be_bytes(*number) & WINDOW_MAX)
}

pub(crate) fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    debug_assert!(length <= PAYLOAD_BYTES_MAX, "no peer needs to take larger frames");
    let [_, l0, l1, l2] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[l0, l1, l2, kind, flags, s0, s1, s2, s3]);
}

/// Appends WINDOW_UPDATE or RST_STREAM, whose payload is one number.
pub(crate) fn put_number(out: &mut Vec<u8>, kind: u8, stream: u32, number: u32) {
    put_head(out, 4, kind, 0, stream);
    out.extend_from_slice(&number.to_be_bytes());
}

pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, 6 * settings.len(), SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The settings of a SETTINGS frame.
pub(crate) fn settings(payload: &[u8]) -> Result<impl Iterator<Item = (u16, u32)>, Fault> {
    let (settings, []) = payload.as_chunks::<6>() else {
        return Err(Fault::Protocol("SETTINGS not a multiple of six bytes"));
    };
    Ok(settings.iter().map(|[i0, i1, v0, v1, v2, v3]| {
        (u16::from_be_bytes([*i0, *i1]), u32::from_be_bytes([*v0, *v1, *v2, *v3]))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back_once_complete() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, WINDOW_UPDATE, 7, 1000);
        for cut in 0..bytes.len() {
            assert_eq!(next(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
        let (head, payload) = next(&bytes).unwrap().unwrap();
        assert_eq!(head, Head { length: 4, kind: WINDOW_UPDATE, flags: 0, stream: 7 });
        assert_eq!(number(payload).unwrap(), 1000);
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused() {
        let mut bytes = Vec::new();
        put_head(&mut bytes, PAYLOAD_BYTES_MAX, DATA, 0, 1);
        assert_eq!(next(&bytes).unwrap(), None);
        bytes[2] += 1;
        assert!(matches!(next(&bytes), Err(Fault::Protocol(_))));
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let headers = |flags| Head { length: 0, kind: HEADERS, flags, stream: 1 };
        let padded = [2, b'a', b'b', 0, 0];
        assert_eq!(content(headers(PADDED), &padded).unwrap(), b"ab");
        let both = [1, 0, 0, 0, 3, 200, b'x', 0];
        assert_eq!(content(headers(PADDED | PRIORITY), &both).unwrap(), b"x");
        assert!(content(headers(PADDED), &[5, 0, 0]).is_err());
        assert!(content(headers(PADDED), &[]).is_err());
    }

    #[test]
    fn settings_are_read_back() {
        let mut bytes = Vec::new();
        put_settings(&mut bytes, &[(SETTINGS_INITIAL_WINDOW_SIZE, 77), (SETTINGS_MAX_CONCURRENT_STREAMS, 9)]);
        let (_, payload) = next(&bytes).unwrap().unwrap();
        let all: Vec<_> = settings(payload).unwrap().collect();
        assert_eq!(all, [(SETTINGS_INITIAL_WINDOW_SIZE, 77), (SETTINGS_MAX_CONCURRENT_STREAMS, 9)]);
        assert!(settings(&payload[1..]).is_err());
    }
}
