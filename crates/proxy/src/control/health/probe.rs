//! What is asked of an endpoint: one Check, one connection, or a Watch that goes on.
//!
//! Nothing here judges: each function tells what it found. Nothing here ends by itself when an endpoint is slow, but the trials
//! of a Watch's connection: the [checker](super::checker) cuts off what has no answer in time.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Address;
use evenkeel_balance::health_check::CheckResult;
use evenkeel_grpc::Code;
use http::Uri;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::channel::{DialError, ProbeChannel, causes};

/// Bytes that an answer may have. `HealthCheckResponse` is one number of two bytes; the rest is room for fields to come.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Characters of an endpoint's or the system's own words that are kept with a result.
const DETAIL_CHARS_MAX: usize = 200;

/// Time between two messages of a Watch that are told: of those that come faster only the newest is, so that an endpoint that
/// sends without end occupies nobody.
const MESSAGE_SPACING: Duration = Duration::from_millis(10);

/// Whom to ask, and about what.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) address: Address,
    /// The scheme and authority of the requests.
    pub(super) origin: Uri,
    /// The service asked about; empty for the server as a whole.
    pub(super) service: Arc<str>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Finding {
    pub(super) result: CheckResult,
    /// Why, in the endpoint's, the system's or our own words; only of failures.
    pub(super) detail: Option<Box<str>>,
}

impl Finding {
    fn failed(detail: &str) -> Self {
        Self { result: CheckResult::Failed, detail: Some(legible(detail)) }
    }
}

/// Text of a peer, cut short and without what would disturb a log.
pub(in crate::control) fn legible(text: &str) -> Box<str> {
    let shown = |letter: char| if letter.is_control() { '.' } else { letter };
    text.chars().take(DETAIL_CHARS_MAX).map(shown).collect::<String>().into()
}

impl From<DialError> for Finding {
    fn from(error: DialError) -> Self {
        Self::failed(&error.to_string())
    }
}

impl From<Status> for Finding {
    fn from(status: Status) -> Self {
        let number = u8::try_from(i32::from(status.code())).unwrap_or_default();
        let code = Code::from_u8(number).unwrap_or(Code::Unknown);
        // The text that tonic makes of a transport's error has no cause; the error itself has.
        let detail = match std::error::Error::source(&status) {
            Some(error) => format!("{}: {}", code.name(), causes(error)),
            None => format!("{}: {}", code.name(), status.message()),
        };
        Self { result: CheckResult::from_code(code), detail: Some(legible(&detail)) }
    }
}

impl From<HealthCheckResponse> for Finding {
    fn from(answer: HealthCheckResponse) -> Self {
        let result = CheckResult::from_serving_status(answer.status);
        let detail = (result == CheckResult::Absurd).then(|| {
            format!("its serving status is {}, which the protocol does not have", answer.status).into()
        });
        Self { result, detail }
    }
}

impl Question {
    fn request(&self) -> HealthCheckRequest {
        HealthCheckRequest { service: (*self.service).to_owned() }
    }

    fn client(&self, channel: &ProbeChannel) -> HealthClient<ProbeChannel> {
        HealthClient::with_origin(channel.clone(), self.origin.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Asks once, on the connection that was kept if there is one. Returns it, or the one that took its place, unless it is of
    /// no more use.
    ///
    /// A server may close a connection at any time, so a failure on one that was kept says nothing yet: it is tried once more
    /// on a new one.
    pub(super) async fn check(&self, kept: Option<ProbeChannel>) -> (Finding, Option<ProbeChannel>) {
        if let Some(channel) = kept.filter(|channel| !channel.is_closed()) {
            let finding = self.check_on(&channel).await;
            if finding.result != CheckResult::Failed {
                return (finding, Some(channel));
            }
        }
        match ProbeChannel::dial(&self.address).await {
            Ok(channel) => {
                let finding = self.check_on(&channel).await;
                let is_of_use = finding.result != CheckResult::Failed;
                (finding, is_of_use.then_some(channel))
            }
            Err(error) => (error.into(), None),
        }
    }

    async fn check_on(&self, channel: &ProbeChannel) -> Finding {
        let answer = self.client(channel).check(self.request()).await;
        answer.map_or_else(Finding::from, |answer| answer.into_inner().into())
    }

    /// Opens a connection, and closes it.
    pub(super) async fn connect(&self) -> Finding {
        let connected = match &self.address {
            Address::Tcp(address) => TcpStream::connect(address).await.map(drop),
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
        };
        match connected {
            Ok(()) => Finding { result: CheckResult::Serving, detail: None },
            Err(error) => DialError::from(error).into(),
        }
    }

    /// Opens a Watch on a connection of its own and tells each message; returns what ended it, or the connection of a server
    /// that has no such stream.
    pub(super) async fn watch<Told>(&self, pulse: &mut Pulse, tell: impl Fn(Finding) -> Told) -> Finding
    where
        Told: Future<Output = ()>,
    {
        let channel = match ProbeChannel::dial(&self.address).await {
            Ok(channel) => channel,
            Err(error) => return error.into(),
        };
        let stream = match self.client(&channel).watch(self.request()).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return self.stay(&channel, pulse, status.into(), tell).await,
        };
        let ended = tokio::select! {
            ended = follow(stream, &tell) => ended,
            silent = self.beat(&channel, pulse) => return silent,
        };
        self.stay(&channel, pulse, ended, tell).await
    }

    /// Where the server has no health service, that is told and the connection kept: its end is the end of the watch. Any other
    /// end is one at once.
    async fn stay<Told>(
        &self,
        channel: &ProbeChannel,
        pulse: &mut Pulse,
        ended: Finding,
        tell: impl Fn(Finding) -> Told,
    ) -> Finding
    where
        Told: Future<Output = ()>,
    {
        if ended.result != CheckResult::Unimplemented {
            return ended;
        }
        tell(ended).await;
        tokio::select! {
            () = channel.closed() => Finding::failed("the connection ended"),
            silent = self.beat(channel, pulse) => silent,
        }
    }

    /// Tries the connection of a Watch now and then, and returns when it has fallen silent.
    ///
    /// A process that hangs tells no change, and its system goes on acknowledging. HTTP/2 has PING for this, but gRPC's servers
    /// take more than one in five minutes for abuse and close the connection (gRFC A8 and the keepalive guide). A Check is an
    /// ordinary call: any answer to it is a sign of life, whatever it says.
    async fn beat(&self, channel: &ProbeChannel, pulse: &mut Pulse) -> Finding {
        loop {
            sleep(pulse.next()).await;
            if timeout(pulse.timeout, self.check_on(channel)).await.is_err() {
                let waited = pulse.timeout;
                return Finding::failed(&format!(
                    "the watched connection gave no sign of life for {waited:?}"
                ));
            }
        }
    }
}

/// How often the connection of a Watch is tried.
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) interval: Duration,
    /// Share by which it is shorter or longer, 0 to 1.
    pub(super) jitter: f64,
    pub(super) timeout: Duration,
    pub(super) rng: SmallRng,
}

impl Pulse {
    fn next(&mut self) -> Duration {
        let factor = self.rng.random_range(1.0 - self.jitter..=1.0 + self.jitter);
        self.interval.mul_f64(factor).max(MESSAGE_SPACING)
    }
}

/// Tells the messages of a stream until it ends, and returns what ended it.
async fn follow<Told>(mut stream: Streaming<HealthCheckResponse>, tell: impl Fn(Finding) -> Told) -> Finding
where
    Told: Future<Output = ()>,
{
    let mut next_at = Instant::now();
    loop {
        let mut newest = stream.message().await;
        while Instant::now() < next_at && matches!(newest, Ok(Some(_))) {
            match timeout_at(next_at, stream.message()).await {
                Ok(message) => newest = message,
                Err(_) => break,
            }
        }
        match newest {
            Ok(Some(message)) => tell(message.into()).await,
            Ok(None) => return Finding::failed("the stream ended"),
            Err(status) => return status.into(),
        }
        next_at = Instant::now() + MESSAGE_SPACING;
    }
}
