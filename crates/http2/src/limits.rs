//! Limits: what one peer may make this side hold or do, with two profiles.
//!
//! Every number is a decision of `reliability and security` research: the classes of attack of RFC 9113 section 10.5
//! and of the advisories named at each field. [`Limits::edge`] is for peers that nobody vouches for,
//! [`Limits::mesh`] for peers inside one's own network, which open more streams and cancel more often.

use core::time::Duration;

use crate::hpack::HeaderListLimits;

/// Bytes of output that may wait for the transport before DATA is queued at its stream instead.
///
/// 256 KiB keep a fast transport busy for one wake-up; more would only grow memory (CVE-2019-9517).
pub const OUTPUT_HIGH_BYTES: usize = 256 * 1024;

/// Bytes of output at which input from this peer is no longer read: control frames that it makes us answer
/// (PING, SETTINGS, resets) go to the output directly, so a peer that does not read must not be read from.
pub const OUTPUT_STOP_BYTES: usize = 1024 * 1024;

/// Acknowledgements of PING and SETTINGS waiting in the output at which reading stops (CVE-2019-9512; grpc-go's 100).
pub const ACKS_QUEUED_STOP: u32 = 100;

/// Acknowledgements waiting in the output at which the connection ends (nghttp2's and Envoy's 1000).
pub const ACKS_QUEUED_MAX: u32 = 1000;

/// CONTINUATION frames in one header block (nghttp2's 8; CVE-2024-27316, CVE-2026-33871).
pub const CONTINUATION_FRAMES_MAX: u32 = 8;

/// Encoded bytes of one header block over all its frames.
pub const HEADER_BLOCK_BYTES_MAX: usize = 32 * 1024;

/// Entries in one SETTINGS frame (CVE-2020-11080; nghttp2's and Envoy's 32).
pub const SETTINGS_ENTRIES_MAX: usize = 32;

/// SETTINGS frames in one [`SETTINGS_PERIOD`] (CVE-2019-9515).
pub const SETTINGS_FRAMES_MAX: u32 = 10;

/// The period of [`SETTINGS_FRAMES_MAX`].
pub const SETTINGS_PERIOD: Duration = Duration::from_secs(10);

/// Stream errors of the six kinds in CVE-2025-8671 ("MadeYouReset") that a peer may make in one [`STREAM_TRICKS_PERIOD`];
/// the next ends the connection. None happens by accident but a rare race in a peer that keeps its connection for weeks.
pub const STREAM_TRICKS_MAX: u32 = 3;

/// The period of [`STREAM_TRICKS_MAX`]: three forced resets in a minute make nobody work.
pub const STREAM_TRICKS_PERIOD: Duration = Duration::from_secs(60);

/// Streams that a peer may open in one wake-up before other connections get their turn.
///
/// Above the edge profile's 100 streams, so that a full connection is still one batch; it bounds the mesh profile.
pub const STREAMS_PER_WAKE_MAX: u32 = 128;

/// Streams that a peer may reset in one wake-up before other connections get their turn. HAProxy measured a fall
/// from 95 ms to 1.6 ms of response time under a reset flood from limiting resets in a loop (commit 5d0f5f816).
pub const RESETS_PER_WAKE_MAX: u32 = 32;

/// Streams refused for free in a connection's life because the peer had not acknowledged our SETTINGS yet and so could not
/// know [`Limits::max_concurrent_streams`]. More than any client opens in its first round trips; a peer that never acknowledges
/// them, and opens streams for nothing until [`Limits::settings_timeout`], pays from here on.
pub const EARLY_REFUSALS_FREE: u32 = 1000;

/// Resets for streams that have ended which a client may save up, one for each stream that this side ended: they crossed our
/// answer (RFC 9113 section 5.1), as when a deadline passes on both sides at once.
pub const LATE_RESETS_FREE_MAX: u32 = 1024;

/// DATA smaller than this is not sent for a window that is too small for more, unless it is the rest of what is
/// queued or [`DRIBBLE_WAIT`] has passed (CVE-2019-9511, "data dribble").
pub const DATA_USEFUL_BYTES: usize = 1024;

/// How long a stream waits for a window of [`DATA_USEFUL_BYTES`] before it sends less.
pub const DRIBBLE_WAIT: Duration = Duration::from_millis(50);

/// The largest table that this side's HPACK encoder keeps, whatever the peer allows (h2 0.4.17; CVE-2026-97032).
pub const ENCODER_TABLE_BYTES: u32 = 4096;

/// The table that this side's HPACK decoder offers: the initial value of RFC 9113 section 6.5.2.
pub const DECODER_TABLE_BYTES: u32 = 4096;

/// What one peer may make this side hold or do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams open at once, counted until their work is really over (CVE-2023-44487). Edge 100, mesh 1024.
    pub max_concurrent_streams: u32,
    /// Bytes of DATA of one stream that this side holds at most. Default 64 KiB less one, RFC 9113's initial value.
    pub stream_window_bytes: u32,
    /// Bytes of DATA of one connection that may be on their way. Default 1 MiB.
    pub connection_window_bytes: u32,
    /// Bytes that slow readers elsewhere may hold of this connection's DATA before it is slowed down for all its
    /// streams. 0 for a connection that serves one peer; 16 MiB for one shared by many peers, where sixteen
    /// stalled readers must not stop everyone else (64 KiB each fill a window of 1 MiB).
    pub held_allowance_bytes: u32,
    /// Limits of a decoded header list: 16 KiB, 100 fields, 8 KiB a string.
    pub header_list: HeaderListLimits,
    /// Points of the abuse ledger that a connection may spend at once. Edge 200, mesh 1000.
    pub ledger_burst: u32,
    /// Points of the abuse ledger that come back each second. Edge 20, mesh 33 (nghttp2's reset rate).
    pub ledger_per_second: u32,
    /// From the start to the complete preface and first SETTINGS. Default 10 s (CVE-2026-56853).
    pub preface_timeout: Duration,
    /// From our SETTINGS to their acknowledgement. Default 10 s.
    pub settings_timeout: Duration,
    /// From HEADERS to END_HEADERS. Default 10 s.
    pub header_timeout: Duration,
    /// From a frame's first byte to its last. Default 30 s.
    pub frame_timeout: Duration,
    /// From the last stream's end until the connection is closed as idle. Edge 1 h (Envoy), mesh none.
    pub idle_timeout: Option<Duration>,
    /// The shortest time between keepalive PINGs without any DATA or HEADERS in between; each that comes sooner is
    /// a strike. 10 s: gRPC's own 5 min (gRFC A8) would break clients tuned for Envoy.
    pub ping_interval_min: Duration,
    /// Strikes a peer has before GOAWAY `too_many_pings` (gRFC A8: 2).
    pub ping_strikes: u32,
    /// From the first GOAWAY of a drain to the second, if the PING between them stays unanswered (grpc-go's 5 s).
    pub goaway_gap_max: Duration,
}

impl Limits {
    /// Limits for peers that nobody vouches for.
    #[must_use]
    pub const fn edge() -> Self {
        Self {
            max_concurrent_streams: 100,
            stream_window_bytes: 65_535,
            connection_window_bytes: 1024 * 1024,
            held_allowance_bytes: 0,
            header_list: HeaderListLimits { list_bytes: 16 * 1024, fields: 100, string_bytes: 8 * 1024 },
            ledger_burst: 200,
            ledger_per_second: 20,
            preface_timeout: Duration::from_secs(10),
            settings_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(30),
            idle_timeout: Some(Duration::from_secs(3600)),
            ping_interval_min: Duration::from_secs(10),
            ping_strikes: 2,
            goaway_gap_max: Duration::from_secs(5),
        }
    }

    /// Limits for peers inside one's own network.
    #[must_use]
    pub const fn mesh() -> Self {
        Self {
            max_concurrent_streams: 1024,
            ledger_burst: 1000,
            ledger_per_second: 33,
            idle_timeout: None,
            ..Self::edge()
        }
    }

    /// Limits for a connection to a backend that many clients share.
    #[must_use]
    pub const fn upstream() -> Self {
        Self { held_allowance_bytes: 16 * 1024 * 1024, ..Self::mesh() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::edge()
    }
}

const _: () = {
    let edge = Limits::edge();
    let mesh = Limits::mesh();
    assert!(edge.ledger_burst >= edge.ledger_per_second, "a burst must hold one second of the rate");
    assert!(mesh.ledger_burst >= mesh.ledger_per_second, "a burst must hold one second of the rate");
    assert!(
        edge.connection_window_bytes >= edge.stream_window_bytes,
        "one stream must be able to use its window"
    );
    assert!(OUTPUT_STOP_BYTES > OUTPUT_HIGH_BYTES, "DATA is held back before reading stops");
    assert!(ACKS_QUEUED_STOP < ACKS_QUEUED_MAX, "reading stops before the connection ends");
    assert!(STREAMS_PER_WAKE_MAX >= edge.max_concurrent_streams, "a full edge connection is one batch");
};
