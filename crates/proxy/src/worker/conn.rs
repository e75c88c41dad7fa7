//! One connection of a worker: the protocol engine, what is left of its input, and which side it is on.

use core::time::Duration;

use evenkeel_balance::Slot;
use evenkeel_http2::Connection;

use super::age::Age;
use super::limit::CountedConn;
use super::overload::Account;
use super::room::Room;
use super::timer::TimerId;

/// Names a connection of one worker until it is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId(pub(super) u32);

impl ConnId {
    /// A small number, unique among the worker's live connections: an index for the driver's own table.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a connection ended, as the transport saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportEnd {
    /// The peer closed its side in order.
    Eof,
    /// The peer reset the connection, or it timed out.
    Reset,
}

/// How long an ended connection is still read from, so that the kernel does not answer late bytes with a reset that
/// destroys our last words on their way.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(1);

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) http2: Connection,
    pub(super) side: Side,
    /// Bytes of an incomplete frame, at most a frame and its header; or the rest of a wake-up that was cut short, at
    /// most one read.
    pub(super) leftover: Vec<u8>,
    /// Whether the connection stands in the worker's list of connections with something to settle or write.
    pub(super) dirty: bool,
    /// Whether the rest of its input waits in `leftover` for the sake of other connections; it is not read meanwhile.
    pub(super) put_off: bool,
    /// The batch in which its peer's share of a wake-up began.
    pub(super) batch: u64,
    /// Since when the transport has not taken what was offered.
    pub(super) blocked_since: Option<Duration>,
    pub(super) timer: Option<(TimerId, Duration)>,
    pub(super) phase: ConnPhase,
    /// The highest stream of which bytes may have been given to the transport; none of those above it has left.
    pub(super) flushed_stream: u32,
    /// An answer that is not HTTP/2, in place of the engine's output.
    pub(super) plain_answer: Option<Vec<u8>>,
    /// Bytes that the worker's account holds for this connection.
    pub(super) charged: usize,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConnPhase {
    /// A server connection whose first bytes have not arrived; nothing is written before.
    Silent,
    /// In use, or becoming usable.
    Live,
    /// Only output is left; then this side is shut.
    Flushing,
    /// This side is shut; what the peer still sends is thrown away until this time.
    Lingering(Duration),
    /// The driver is to close it.
    Dead,
}

/// Which side of the proxy a connection is on.
#[derive(Debug)]
pub(super) enum Side {
    Downstream(Downstream),
    Upstream(Upstream),
}

impl Side {
    /// The side's name in statistics.
    pub(super) fn label(&self) -> evenkeel_telemetry::Side {
        match self {
            Self::Downstream(_) => evenkeel_telemetry::Side::Downstream,
            Self::Upstream(_) => evenkeel_telemetry::Side::Upstream,
        }
    }

    /// How long the peer may leave unread what waits for it, before its call or connection is given up (CVE-2019-9517).
    pub(super) fn stall_timeout(&self) -> Duration {
        match self {
            Self::Downstream(down) => down.stall_timeout,
            Self::Upstream(up) => up.stall_timeout,
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) listener: u32,
    pub(super) peer: PeerName,
    pub(super) accepted_at: Duration,
    pub(super) stall_timeout: Duration,
    /// How far it is on its way to being too old; `None` if it may get as old as it likes.
    pub(super) age: Option<Age>,
}

/// Who a client is, for the access log: its address, without the cost of text before it is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerName {
    /// An address and port.
    Ip(core::net::SocketAddr),
    /// A peer on a Unix socket.
    Unix,
}

/// A connection to a backend.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) cluster: u32,
    pub(super) slot: Slot,
    pub(super) progress: UpstreamProgress,
    /// Where it counts under limits, if it does.
    pub(super) counted: Option<CountedConn>,
    pub(super) stall_timeout: Duration,
    pub(super) room: Room,
}

/// How far a connection to a backend has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UpstreamProgress {
    /// TCP connect, then the wait for SETTINGS; to be given up at this time.
    Connecting(Duration),
    /// Takes calls.
    Ready,
    /// Finishes its calls.
    Leaving,
}

impl Conn {
    pub(super) fn new(http2: Connection, side: Side, phase: ConnPhase) -> Self {
        Self {
            http2,
            side,
            leftover: Vec::new(),
            dirty: false,
            put_off: false,
            batch: 0,
            blocked_since: None,
            timer: None,
            phase,
            flushed_stream: 0,
            plain_answer: None,
            charged: 0,
        }
    }

    /// What is to be written now.
    pub(super) fn output(&self) -> &[u8] {
        match (&self.plain_answer, self.phase) {
            (_, ConnPhase::Silent | ConnPhase::Dead | ConnPhase::Lingering(_)) => &[],
            (Some(answer), _) => answer,
            (None, _) => self.http2.output(),
        }
    }

    /// When the connection itself needs attention.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let engine = match self.phase {
            ConnPhase::Silent | ConnPhase::Live => self.http2.deadline(),
            ConnPhase::Flushing | ConnPhase::Dead => None,
            ConnPhase::Lingering(until) => Some(until),
        };
        let stall = self.stalled_at();
        let connect = match &self.side {
            Side::Upstream(Upstream { progress: UpstreamProgress::Connecting(until), .. }) => Some(*until),
            _ => None,
        };
        engine.into_iter().chain(stall).chain(connect).chain(self.age().and_then(Age::due)).min()
    }

    /// How far a client's connection is on its way to being too old, while that matters.
    pub(super) fn age(&self) -> Option<&Age> {
        match (&self.side, self.phase) {
            (Side::Downstream(down), ConnPhase::Silent | ConnPhase::Live) => down.age.as_ref(),
            _ => None,
        }
    }

    /// When the connection is given up if its peer takes nothing until then.
    pub(super) fn stalled_at(&self) -> Option<Duration> {
        self.blocked_since.map(|at| at + self.side.stall_timeout())
    }

    /// Notes in the worker's account what the connection holds now. To be called when it comes to rest.
    #[inline]
    pub(super) fn charge(&mut self, account: &mut Account) {
        let own = size_of::<Self>() - size_of::<Connection>();
        let answer = self.plain_answer.as_ref().map_or(0, Vec::capacity);
        let bytes = own + self.http2.memory_bytes() + self.leftover.capacity() + answer;
        account.charge(self.charged, bytes);
        self.charged = bytes;
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, ConnPhase::Live)
    }
}
