//! An observer on the wire that knows RFC 9113's frames and nothing of the engine that wrote them.
//!
//! It counts, from the bytes alone, what each side has been allowed to send and what it has sent, so that flow control is
//! judged by an oracle of its own. It sees a window update when it is written, before the sender can know of it; so a
//! sender that exceeds what it sees here broke the rule, whatever the network did (RFC 9113 section 6.9.1).

use std::collections::BTreeMap;

use super::Side;

const FRAME_HEADER: usize = 9;
const PREFACE_BYTES: usize = 24;
const INITIAL_WINDOW: i64 = 65_535;
const FRAME_BYTES_MAX: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const SETTING_INITIAL_WINDOW: u16 = 4;

/// One side's writing, cut into frames.
#[derive(Debug)]
struct Scanner {
    preface_left: usize,
    head: Vec<u8>,
    payload: Vec<u8>,
    /// Payload bytes still to come of the frame whose header is complete.
    left: Option<usize>,
}

/// One side of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    /// Credit beyond the initial window.
    credit: i64,
    has_ended: bool,
    was_reset: bool,
}

/// Both sides of one connection.
#[derive(Debug)]
pub(super) struct Conversation {
    scanners: [Scanner; 2],
    /// What each side may still send on the connection.
    windows: [i64; 2],
    /// The initial window of streams, as the *other* side announced it.
    initial: [i64; 2],
    streams: BTreeMap<u32, [Half; 2]>,
    last_opened: u32,
    /// DATA bytes that each side has sent.
    pub(super) sent: [u64; 2],
    /// The lowest last stream that each side's GOAWAYs named.
    goaway: [Option<u32>; 2],
}

impl Conversation {
    pub(super) fn new() -> Self {
        let scanner =
            |preface_left| Scanner { preface_left, head: Vec::new(), payload: Vec::new(), left: None };
        Self {
            scanners: [scanner(PREFACE_BYTES), scanner(0)],
            windows: [INITIAL_WINDOW; 2],
            initial: [INITIAL_WINDOW; 2],
            streams: BTreeMap::new(),
            last_opened: 0,
            sent: [0; 2],
            goaway: [None; 2],
        }
    }

    /// What a side may still send on the connection.
    pub(super) fn window(&self, side: Side) -> i64 {
        self.windows[side.index()]
    }

    /// Looks at bytes that `side` wrote.
    ///
    /// # Errors
    /// The rule that they break.
    pub(super) fn observe(&mut self, side: Side, mut bytes: &[u8]) -> Result<(), String> {
        loop {
            let scanner = &mut self.scanners[side.index()];
            let skipped = scanner.preface_left.min(bytes.len());
            scanner.preface_left -= skipped;
            bytes = &bytes[skipped..];
            if scanner.left.is_none() {
                let missing = (FRAME_HEADER - scanner.head.len()).min(bytes.len());
                scanner.head.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                if scanner.head.len() < FRAME_HEADER {
                    return Ok(());
                }
                let length = be32(&[0, scanner.head[0], scanner.head[1], scanner.head[2]]) as usize;
                if length > FRAME_BYTES_MAX {
                    return Err(format!("a frame of {length} bytes"));
                }
                scanner.left = Some(length);
            }
            let Some(left) = &mut scanner.left else { return Ok(()) };
            let count = bytes.len().min(*left);
            *left -= count;
            if matches!(scanner.head[3], SETTINGS | WINDOW_UPDATE | GOAWAY) {
                scanner.payload.extend_from_slice(&bytes[..count]);
            }
            bytes = &bytes[count..];
            if *left > 0 {
                return Ok(());
            }
            let head = core::mem::take(&mut scanner.head);
            let payload = core::mem::take(&mut scanner.payload);
            scanner.left = None;
            self.on_frame(side, &head, &payload)?;
        }
    }

    fn on_frame(&mut self, side: Side, head: &[u8], payload: &[u8]) -> Result<(), String> {
        let length = i64::from(be32(&[0, head[0], head[1], head[2]]));
        let (kind, flags, stream) = (head[3], head[4], be32(&head[5..9]) & 0x7fff_ffff);
        match kind {
            DATA => self.on_data(side, stream, length, flags & END_STREAM != 0),
            HEADERS => self.on_headers(side, stream, flags & END_STREAM != 0),
            CONTINUATION => Ok(()),
            RESET => self.on_reset(side, stream),
            WINDOW_UPDATE => {
                let increment = i64::from(be32(payload) & 0x7fff_ffff);
                let to = side.other().index();
                if stream == 0 {
                    self.windows[to] += increment;
                } else {
                    self.streams.entry(stream).or_default()[to].credit += increment;
                }
                Ok(())
            }
            SETTINGS if flags & ACK == 0 => {
                for entry in payload.chunks_exact(6) {
                    if u16::from_be_bytes([entry[0], entry[1]]) == SETTING_INITIAL_WINDOW {
                        self.initial[side.other().index()] = i64::from(be32(&entry[2..]));
                    }
                }
                Ok(())
            }
            GOAWAY => {
                let last = be32(payload) & 0x7fff_ffff;
                let before = self.goaway[side.index()].replace(last);
                if before.is_some_and(|before| last > before) {
                    return Err(format!("GOAWAY raised its last stream to {last}"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_data(&mut self, side: Side, stream: u32, length: i64, end: bool) -> Result<(), String> {
        let at = side.index();
        let initial = self.initial[at];
        let Some(halves) = self.streams.get_mut(&stream) else {
            return Err(format!("DATA on idle stream {stream}"));
        };
        let half = &mut halves[at];
        if half.has_ended || half.was_reset {
            return Err(format!("DATA on stream {stream} behind its end"));
        }
        half.credit -= length;
        half.has_ended |= end;
        let left = initial + half.credit;
        self.windows[at] -= length;
        self.sent[at] += length as u64;
        if length > 0 && (left < 0 || self.windows[at] < 0) {
            let connection = self.windows[at];
            return Err(format!(
                "DATA beyond the window: stream {stream} has {left}, the connection {connection}"
            ));
        }
        Ok(())
    }

    fn on_headers(&mut self, side: Side, stream: u32, end: bool) -> Result<(), String> {
        if !self.streams.contains_key(&stream) {
            if side != Side::Initiator || stream.is_multiple_of(2) || stream <= self.last_opened {
                return Err(format!("HEADERS on stream {stream}, which cannot be opened"));
            }
            self.last_opened = stream;
        }
        let half = &mut self.streams.entry(stream).or_default()[side.index()];
        if half.has_ended || half.was_reset {
            return Err(format!("HEADERS on stream {stream} behind its end"));
        }
        half.has_ended = end;
        Ok(())
    }

    fn on_reset(&mut self, side: Side, stream: u32) -> Result<(), String> {
        let Some(halves) = self.streams.get_mut(&stream) else {
            return Err(format!("RST_STREAM on idle stream {stream}"));
        };
        if halves[side.index()].was_reset {
            return Err(format!("RST_STREAM on stream {stream} twice"));
        }
        halves[side.index()].was_reset = true;
        Ok(())
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, (payload.len() >> 8) as u8, payload.len() as u8, kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn opened() -> Conversation {
        let mut wire = Conversation::new();
        wire.observe(Side::Initiator, &[b'P'; PREFACE_BYTES]).unwrap();
        wire.observe(Side::Initiator, &frame(HEADERS, 4, 1, b"")).unwrap();
        wire
    }

    #[test]
    fn a_sender_may_use_its_window_but_not_exceed_it() {
        let mut wire = opened();
        for _ in 0..4 {
            wire.observe(Side::Initiator, &frame(DATA, 0, 1, &[0; 16_000])).unwrap();
        }
        wire.observe(Side::Initiator, &frame(DATA, 0, 1, &[0; 1_535])).unwrap();
        assert_eq!(wire.window(Side::Initiator), 0);
        let more = wire.observe(Side::Initiator, &frame(DATA, 0, 1, &[0]));
        assert_eq!(more, Err("DATA beyond the window: stream 1 has -1, the connection -1".to_owned()));
    }

    #[test]
    fn updates_and_settings_count_for_the_other_side() {
        let mut wire = opened();
        let settings = [0, 4, 0, 0, 0, 10];
        wire.observe(Side::Acceptor, &frame(SETTINGS, 0, 0, &settings)).unwrap();
        wire.observe(Side::Initiator, &frame(DATA, 0, 1, &[0; 10])).unwrap();
        wire.observe(Side::Acceptor, &frame(WINDOW_UPDATE, 0, 1, &5_u32.to_be_bytes())).unwrap();
        wire.observe(Side::Initiator, &frame(DATA, 0, 1, &[0; 5])).unwrap();
        assert!(wire.observe(Side::Initiator, &frame(DATA, 0, 1, &[0])).is_err());
    }

    #[test]
    fn nothing_follows_the_end_of_a_stream_and_any_cut_of_the_bytes_shows_it() {
        let mut wire = opened();
        let mut bytes = frame(DATA, END_STREAM, 1, b"abc");
        bytes.extend(frame(DATA, 0, 1, b"d"));
        let mut result = Ok(());
        for byte in &bytes {
            result = result.and(wire.observe(Side::Initiator, core::slice::from_ref(byte)));
        }
        assert_eq!(result, Err("DATA on stream 1 behind its end".to_owned()));
    }

    #[test]
    fn a_server_opens_no_stream_and_goaway_is_never_raised() {
        let mut wire = opened();
        assert!(wire.observe(Side::Acceptor, &frame(HEADERS, 4, 2, b"")).is_err());
        wire.observe(Side::Acceptor, &frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).unwrap();
        assert!(wire.observe(Side::Acceptor, &frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])).is_err());
    }
}
