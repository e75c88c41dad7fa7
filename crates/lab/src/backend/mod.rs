//! An example gRPC backend: an order service, an echo service and `grpc.health.v1`, with faults on request.
//!
//! Why it exists: the demo and the tests need backends that are real servers, say who they are, and can be made slow or
//! killed while calls are in flight.
//!
//! - Every response carries its backend's name in the [`BACKEND_HEADER`] metadata, so that a client can count shares.
//! - [`Backend::kill`] closes the listener and all connections at once, as the death of a process does.
//! - [`Backend::stop`] reports NOT_SERVING, sends GOAWAY, and waits for the calls in flight.
//! - Health checks are neither delayed nor counted.

mod echo;
mod latency;
mod observe;
mod orders;
mod severable;
#[cfg(test)]
mod tests;

pub use latency::{LATENCY_MAX, Latency};
pub use orders::{ID_BYTES_MAX, ITEMS_MAX, ORDERS_MAX, OrderBook, WATCH_BACKLOG};

use crate::pb::echo::echo_service_server::EchoServiceServer;
use crate::pb::orders::order_service_server::OrderServiceServer;
use observe::Observe;
use severable::Severable;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

/// Response metadata with the name of the backend that answered.
pub const BACKEND_HEADER: &str = "x-backend";

/// Calls a connection may have in flight at a backend. tonic sets no limit of its own.
const CONCURRENT_STREAMS_MAX: u32 = 1000;

/// What a backend is to be.
#[derive(Debug, Clone)]
pub struct BackendConfig {
    /// Where to listen; port 0 takes any free port.
    pub address: SocketAddr,
    /// The name it gives in its responses. It must be a legal header value.
    pub name: String,
    /// How long each call takes before its handler runs.
    pub latency: Latency,
    /// Seed of the random numbers that `latency` draws.
    pub seed: u64,
    /// The orders that it serves; replicas of one service share one book.
    pub orders: OrderBook,
}

impl BackendConfig {
    /// A backend on any free port of 127.0.0.1, without latency, with a book of its own.
    #[must_use]
    pub fn local(name: &str) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            name: name.to_owned(),
            latency: Latency::None,
            seed: 0,
            orders: OrderBook::new(),
        }
    }
}

/// Why a backend did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The address is taken or not local.
    #[error("backend {name} cannot listen on {address}: {source}; choose another address or port 0")]
    Listen {
        /// Name of the backend.
        name: String,
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The name cannot be sent as a header value.
    #[error("backend name {0:?} is not a legal header value; use visible ASCII characters")]
    Name(String),
}

/// What a backend has done so far, health checks aside.
#[derive(Debug, Default)]
pub struct BackendStats {
    started: AtomicU64,
    finished: AtomicU64,
    abandoned: AtomicU64,
    /// Extra delay of each call in nanoseconds; see [`Backend::slow`].
    slow_nanos: AtomicU64,
}

impl BackendStats {
    /// Calls that arrived.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Calls whose response was handed over to its end, whatever its status.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Calls that ended before their response did: the client cancelled, or the connection broke.
    #[must_use]
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // The ends are read first: a call may end between the loads, never the other way round.
        let ended = self.finished() + self.abandoned();
        self.started().saturating_sub(ended)
    }

    fn slow(&self) -> Duration {
        Duration::from_nanos(self.slow_nanos.load(Ordering::Relaxed))
    }
}

/// A running backend. Dropping it kills it.
#[derive(Debug)]
pub struct Backend {
    name: String,
    local_addr: SocketAddr,
    stats: Arc<BackendStats>,
    health: HealthReporter,
    drain: CancellationToken,
    sever: CancellationToken,
    server: JoinHandle<()>,
}

impl Backend {
    /// Starts a backend on the current tokio runtime; when this returns, it accepts connections.
    ///
    /// # Errors
    /// [`BackendError::Listen`] if the address cannot be had, [`BackendError::Name`] if the name cannot be sent.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(config: BackendConfig) -> Result<Self, BackendError> {
        let BackendConfig { address, name, latency, seed, orders } = config;
        let header = name.parse().map_err(|_| BackendError::Name(name.clone()))?;
        let listen = |source| BackendError::Listen { name: name.clone(), address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;

        let (health, health_service) = tonic_health::server::health_reporter();
        let order_service = OrderServiceServer::new(orders);
        let echo_service = EchoServiceServer::new(echo::Echo::new(&name))
            .max_decoding_message_size(echo::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(echo::MESSAGE_BYTES_MAX);
        health.set_serving::<OrderServiceServer<OrderBook>>().await;
        health.set_serving::<EchoServiceServer<echo::Echo>>().await;

        let stats = Arc::new(BackendStats::default());
        let (drain, sever) = (CancellationToken::new(), CancellationToken::new());
        let connections = TcpListenerStream::new(listener).map({
            let sever = sever.clone();
            move |accepted| {
                let stream = accepted?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(Severable::new(stream, sever.clone()))
            }
        });
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
            .layer(Observe::new(header, Arc::clone(&stats), latency, seed))
            .add_service(health_service)
            .add_service(order_service)
            .add_service(echo_service)
            .serve_with_incoming_shutdown(connections, drain.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            // An error here is the listener's: the backend then accepts no more, which its callers see for themselves.
            let _ = serving.await;
        });
        Ok(Self { name, local_addr, stats, health, drain, sever, server })
    }

    /// The address it listens on, with the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The name it gives in its responses.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its counters; they outlive it.
    #[must_use]
    pub fn stats(&self) -> Arc<BackendStats> {
        Arc::clone(&self.stats)
    }

    /// Makes each call from now on take `extra` longer; zero ends that.
    pub fn slow(&self, extra: Duration) {
        let nanos = u64::try_from(extra.as_nanos()).unwrap_or(u64::MAX);
        self.stats.slow_nanos.store(nanos, Ordering::Relaxed);
    }

    /// Sets what `grpc.health.v1` answers, for the server as a whole and for both services.
    pub async fn set_serving(&self, serving: bool) {
        let status = match serving {
            true => tonic_health::ServingStatus::Serving,
            false => tonic_health::ServingStatus::NotServing,
        };
        for service in ["", "ecommerce.orders.OrderService", "evenkeel.echo.v1.EchoService"] {
            self.health.set_service_status(service, status).await;
        }
    }

    /// Ends it at once, as the death of a process does: no GOAWAY, connections cut in the middle of their calls.
    ///
    /// When this returns, the port is free.
    pub async fn kill(mut self) {
        self.sever.cancel();
        self.server.abort();
        // The outcome is the abortion just asked for.
        let _ = (&mut self.server).await;
    }

    /// Ends it gracefully: NOT_SERVING, GOAWAY on each connection, then waits for the calls in flight.
    ///
    /// What still runs after `grace` is cut off. Returns whether all calls could end by themselves.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.set_serving(false).await;
        self.drain.cancel();
        let ended = tokio::time::timeout(grace, &mut self.server).await.is_ok();
        if !ended {
            self.kill().await;
        }
        ended
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.sever.cancel();
        self.server.abort();
    }
}
