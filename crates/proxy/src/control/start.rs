//! Starting a proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Instant, SystemTime};

use evenkeel_config::{AccessLog, Config, ListenAddress, MemoryLimit};
use evenkeel_http2::Violation;
use evenkeel_telemetry::access_log::{FileSink, StdoutSink, Writer};
use evenkeel_telemetry::{LogLimiter, Options, SharedLogLimiter, Telemetry};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::admin;
use super::drain::DrainReport;
use super::limits::RateLimits;
use super::reload::{ConfigSource, ReloadError};
use super::state::State;
use super::supervisor::{REQUESTS_MAX, Request, ResolveHandles, Supervisor};
use crate::driver::{BindError, BoundListener, ClientSeats, OpenFiles, Threads, ThreadsConfig, bind, remedy};
use crate::worker::Observer;
use crate::worker::overload::Accountant;
use crate::worker::snapshot::Snapshot;

/// How a proxy is started, besides its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Share the listeners' ports with another process that does the same (SO_REUSEPORT), so that two proxies can
    /// replace each other without a pause. Off by default: a port that is in use is an error then.
    pub reuse_port: bool,
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin interface's address cannot be used.
    #[error("cannot listen on {address} for the admin interface: {}: {setting}", remedy(address, source))]
    Admin {
        /// The address.
        address: ListenAddress,
        /// Where another one, or none, is set.
        setting: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log: {0}")]
    AccessLog(String),
    /// The system refuses threads or epoll instances.
    #[error("cannot start the workers: {0}")]
    Threads(#[source] std::io::Error),
}

/// A handle to command a running proxy.
#[derive(Clone)]
pub struct Handle {
    state: Arc<State>,
    requests: Sender<Request>,
}

impl Handle {
    /// Begins to drain. The second time it cuts the drain short.
    pub async fn drain(&self) {
        // A supervisor that has ended has drained.
        let _ = self.requests.send(Request::Drain).await;
    }

    /// Reads the configuration again; returns the number of the one that is in force then.
    ///
    /// # Errors
    /// [`ReloadError`]: why the old one stays.
    pub async fn reload(&self) -> Result<u64, ReloadError> {
        let (answer, result) = oneshot::channel();
        let sent = self.requests.send(Request::Reload(Some(answer))).await;
        match (sent, result.await) {
            (Ok(()), Ok(result)) => result,
            // The proxy drains: its configuration does not matter any more.
            _ => Ok(self.state.generation()),
        }
    }

    /// Opens the access log's file again, after it was rotated.
    pub async fn reopen_log(&self) {
        let _ = self.requests.send(Request::ReopenLog).await;
    }
}

/// A running proxy.
pub struct Proxy {
    state: Arc<State>,
    requests: Sender<Request>,
    supervisor: JoinHandle<DrainReport>,
    listeners: Vec<ListenAddress>,
    admin: Option<SocketAddr>,
}

impl Proxy {
    /// Starts a proxy: binds all addresses, starts discovery, the workers and the admin interface. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(
        config: Config,
        source: ConfigSource,
        options: StartOptions,
    ) -> Result<Self, StartError> {
        let workers =
            config.workers.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from);
        let mut bound = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            bound.push(bind(&listener.address, workers, options.reuse_port)?);
        }
        let admin_socket = match &config.admin {
            Some(admin) => Some(admin::bind(&admin.address).await.map_err(|error| {
                let setting = match &source {
                    ConfigSource::Flags => "--admin ADDR, or --admin off",
                    ConfigSource::File(_) => "`admin.address`, or `admin: off`",
                };
                StartError::Admin { address: admin.address.clone(), setting, source: error }
            })?),
            None => None,
        };
        let telemetry = Arc::new(Telemetry::new(Options {
            version: env!("CARGO_PKG_VERSION"),
            protocol_rules: Violation::RULES,
        }));
        let access_log = open_access_log(config.access_log.as_ref(), &telemetry)?;
        let listeners: Vec<ListenAddress> = bound.iter().map(|listener| listener.address.clone()).collect();
        let resolve_handles = ResolveHandles::default();
        let (requests, inbox) = channel(REQUESTS_MAX);
        // Told once nothing but threads can fail: what a failed start prints is why it failed.
        let bounds = Bounds::take(config.overload.memory);
        // The standard library's hash keys come from the system's random numbers.
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8);
        let threads =
            start_threads(bound, workers, seed, &bounds, &telemetry, access_log.as_ref(), &resolve_handles)?;
        let (threads, epoch) = threads;
        let state = Arc::new(State::new(epoch, telemetry, bounds.accountant, config, threads));
        state.telemetry.control().set_config_generation(1);
        if let ConfigSource::File(file) = &source {
            super::watch::start(file.path(), requests.clone());
        }
        let supervisor = Supervisor {
            state: Arc::clone(&state),
            source,
            inbox,
            outbox: requests.clone(),
            resolve_handles,
            access_log,
            rates: Mutex::new(RateLimits::new(seed)),
            log: LogLimiter::default(),
            unlogged: None,
            seed,
        };
        supervisor.place_clusters(&state.config.load());
        supervisor.place_canaries(&state.config.load(), true);
        supervisor.publish();
        let admin = admin_socket.map(|socket| admin::serve(socket, Arc::clone(&state), requests.clone()));
        let supervisor = tokio::spawn(supervisor.run());
        Ok(Self { state, requests, supervisor, listeners, admin: admin.flatten() })
    }

    /// Where the listeners listen, ports that the system chose included.
    #[must_use]
    pub fn listeners(&self) -> &[ListenAddress] {
        &self.listeners
    }

    /// Where the admin interface listens, if it does so on a TCP port.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What may be read of the running proxy.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// A handle to command the proxy, which may outlive it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { state: Arc::clone(&self.state), requests: self.requests.clone() }
    }

    /// Waits until a drain is complete. Cancel safe: a drain goes on if this is dropped.
    pub async fn finished(&mut self) -> DrainReport {
        (&mut self.supervisor)
            .await
            .unwrap_or(DrainReport { aborted_calls: 0, took: std::time::Duration::ZERO })
    }
}

/// What all workers share of what the process may have.
struct Bounds {
    seats: Arc<ClientSeats>,
    accountant: Arc<Accountant>,
}

impl Bounds {
    /// Takes as many open files as the process may have, gives clients their share of them, and peers theirs of the memory.
    fn take(memory: MemoryLimit) -> Self {
        let files = OpenFiles::raise();
        let seats = ClientSeats::new(files.client_connections_max());
        tracing::info!(
            limit = files.now,
            before = files.before,
            client_connections = seats.most(),
            "open files: the limit, and the connections that clients may have of it"
        );
        let limit = super::memory::buffer_limit(memory);
        match limit {
            Some(bytes) => tracing::info!(bytes, "memory: what may be buffered for peers"),
            None => tracing::warn!("memory: its size is unknown, so what is buffered for peers has no limit"),
        }
        Self { seats, accountant: Accountant::new(limit.unwrap_or(u64::MAX)) }
    }
}

fn open_access_log(config: Option<&AccessLog>, telemetry: &Telemetry) -> Result<Option<Writer>, StartError> {
    let stats = Arc::clone(telemetry.access_log());
    let (began, mut limiter) = (Instant::now(), LogLimiter::default());
    let on_error = move |error: &std::io::Error| {
        // A full disk fails each write.
        if let Some(suppressed) = limiter.allow("access log", began.elapsed()) {
            tracing::warn!(%error, suppressed, "the access log cannot be written");
        }
    };
    let writer = match config {
        None => return Ok(None),
        Some(AccessLog::Stdout) => Writer::spawn(StdoutSink, stats, on_error),
        Some(AccessLog::File(path)) => {
            let sink = FileSink::open(path).map_err(|error| StartError::AccessLog(error.to_string()))?;
            Writer::spawn(sink, stats, on_error)
        }
    };
    writer.map(Some).map_err(StartError::Threads)
}

fn start_threads(
    bound: Vec<BoundListener>,
    workers: usize,
    seed: u64,
    bounds: &Bounds,
    telemetry: &Arc<Telemetry>,
    access_log: Option<&Writer>,
    handles: &ResolveHandles,
) -> Result<(Threads, Instant), StartError> {
    let epoch = Instant::now();
    let epoch_unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let on_lost = {
        let handles = Arc::clone(handles);
        move |cluster: &str| {
            let handles = handles.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(handle) = handles.get(cluster) {
                handle.request();
            }
        }
    };
    let logs = Mutex::new((0..workers).map(|_| access_log.map(Writer::log)).collect::<Vec<_>>());
    let telemetry = Arc::clone(telemetry);
    let config = ThreadsConfig {
        seed,
        epoch,
        seats: Arc::clone(&bounds.seats),
        accountant: Arc::clone(&bounds.accountant),
        log: SharedLogLimiter::default(),
        observer: Box::new(move || {
            let log = logs.lock().unwrap_or_else(PoisonError::into_inner).pop().flatten();
            Observer::new(&telemetry, log, epoch_unix)
        }),
        on_lost: Arc::new(on_lost),
    };
    let threads = Threads::start(&config, bound, workers, &Arc::new(Snapshot::default()));
    threads.map(|threads| (threads, epoch)).map_err(StartError::Threads)
}
