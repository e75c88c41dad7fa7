//! What each call does: decided before the world starts, known to both its client and its backend by the call's
//! identifier, and so the measure of how it must end.

use core::time::Duration;

use evenkeel_grpc::{Code, PREFIX_LEN};
use evenkeel_http2::ErrorCode;

/// One call.
#[derive(Clone, Debug)]
pub struct CallPlan {
    /// Which client makes it.
    pub client: usize,
    /// Which session it belongs to: the calls of one say so alike, and rate limits and affinity go by it.
    pub session: u32,
    /// When the client wants it.
    pub start_at: Duration,
    /// Bytes of each request message.
    pub requests: Vec<u32>,
    /// Bytes of each response message.
    pub responses: Vec<u32>,
    /// The time between two messages of the request.
    pub request_gap: Duration,
    /// The time between two messages of the response, and before the first.
    pub response_gap: Duration,
    /// Whether the backend answers each request message at once instead of waiting for the last.
    pub ping_pong: bool,
    /// Whether END_STREAM comes in a frame of its own behind the request's last byte.
    pub lone_end: bool,
    /// What the backend does.
    pub behaviour: Behaviour,
    /// The client's deadline.
    pub timeout: Option<Duration>,
    /// When the client gives up, counted from the start.
    pub cancel_after: Option<Duration>,
    /// How long the client holds received bytes back.
    pub client_holds: Duration,
    /// How long the backend holds received bytes back.
    pub backend_holds: Duration,
}

impl CallPlan {
    /// A unary call of small messages that is answered with OK at once.
    #[must_use]
    pub fn unary(client: usize, start_at: Duration) -> Self {
        Self {
            client,
            session: client as u32,
            start_at,
            requests: vec![100],
            responses: vec![100],
            request_gap: Duration::ZERO,
            response_gap: Duration::ZERO,
            ping_pong: false,
            lone_end: false,
            behaviour: Behaviour::Answer(Code::Ok),
            timeout: None,
            cancel_after: None,
            client_holds: Duration::ZERO,
            backend_holds: Duration::ZERO,
        }
    }

    /// Bytes of the request as they go over the wire, without frames.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        self.requests.iter().map(|length| u64::from(*length) + PREFIX_LEN as u64).sum()
    }

    /// The method's path, by the kind of call.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match (self.requests.len(), self.responses.len()) {
            (1, 1) => "/sim.Echo/Unary",
            (1, _) => "/sim.Echo/ServerStream",
            (_, 1) => "/sim.Echo/ClientStream",
            _ => "/sim.Echo/Bidi",
        }
    }
}

/// What a backend does with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// All responses, then this status in trailers.
    Answer(Code),
    /// This status in the only header section, once the request has ended.
    TrailersOnly(Code),
    /// This status in the only header section, before the request has ended; then RST_STREAM with NO_ERROR.
    Early(Code),
    /// This many responses and then nothing more, for ever; 0 sends no header section either.
    Silent(u32),
    /// RST_STREAM with this code: at once, or behind this many responses.
    Reset(Option<u32>, ErrorCode),
    /// RST_STREAM with REFUSED_STREAM for this many attempts, then OK.
    Refuse(u32),
    /// HTTP status 503 with a page.
    Html,
    /// HTTP status 200 with JSON.
    WrongType,
    /// All responses, then END_STREAM without a status.
    NoTrailers,
    /// Half a message, then OK.
    Truncated,
}

impl Behaviour {
    /// The status that the client gets if nothing else happens; `None` where it never gets one.
    #[must_use]
    pub fn status(self) -> Option<Code> {
        match self {
            Self::Answer(code) | Self::TrailersOnly(code) | Self::Early(code) => Some(code),
            Self::Refuse(times) => Some(if times <= 1 { Code::Ok } else { Code::Unavailable }),
            Self::Reset(..) | Self::Html => Some(Code::Unavailable),
            Self::WrongType | Self::NoTrailers => Some(Code::Unknown),
            Self::Silent(_) | Self::Truncated => None,
        }
    }

    /// Whether the backend itself sends a status that the client should get.
    #[must_use]
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Answer(_) | Self::TrailersOnly(_) | Self::Early(_) | Self::Refuse(_))
    }
}

/// Something that goes wrong, or that the operator does, at a point in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// One connection, drawn among those in use, is reset by the network.
    ResetLink,
    /// One peer of the worker, drawn among all connections, closes its end in order.
    CloseLink,
    /// One connection carries nothing for this time.
    StallLink(Duration),
    /// A backend dies; for this time its address behaves so, then it starts again.
    Restart(usize, Duration, Down),
    /// A backend's address behaves so for this time, while the backend lives on: an accept queue that is full.
    Unlisten(usize, Duration, Down),
    /// A backend says GOAWAY on all its connections.
    GoAway(usize, GoAway),
    /// Discovery finds these backends.
    Endpoints(Vec<usize>),
    /// A backend answers health checks from now on with SERVING, or with NOT_SERVING.
    Report(usize, bool),
    /// The worker begins to drain, its clients' turns spread over this time; its address accepts no more connections.
    Drain(Duration),
    /// The worker's grace is over.
    Abort,
}

impl Fault {
    /// Whether calls may fail because of it that would not have failed otherwise.
    #[must_use]
    pub fn is_harmful(&self) -> bool {
        match self {
            Self::ResetLink | Self::CloseLink | Self::Restart(..) | Self::Abort => true,
            Self::GoAway(_, kind) => *kind == GoAway::Abrupt,
            // A backend that never was connected cannot be, and calls that find no other fail.
            Self::Unlisten(..) => true,
            Self::StallLink(_) | Self::Endpoints(_) | Self::Report(..) | Self::Drain(_) => false,
        }
    }
}

/// How the address of a dead backend behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// Connections are refused.
    Refused,
    /// Connection attempts are never answered.
    Unanswered,
    /// Connection attempts fail at once, as those to a Unix socket without a file do.
    Unreachable,
}

/// How a backend says GOAWAY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GoAway {
    /// Twice with a round trip in between; no stream is lost.
    TwoPhase,
    /// Once, naming the last stream it will finish; those above are not processed.
    SinglePhase,
    /// With an error, and the connection closes at once.
    Abrupt,
}
