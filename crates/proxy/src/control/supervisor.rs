//! The supervisor: the one task that changes things.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_config::Config;
use evenkeel_discovery::ResolveNow;
use evenkeel_telemetry::access_log::Writer;
use evenkeel_telemetry::{LogLimiter, Reload};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;

use super::canary::CanaryRequest;
use super::clusters::ClusterRuntime;
use super::drain::{self, DrainReport};
use super::limits::RateLimits;
use super::reload::{self, ConfigSource, ReloadError};
use super::snapshot;
use super::state::{Lifecycle, State};

/// Requests that may wait for the supervisor. More senders wait; none is lost.
pub(super) const REQUESTS_MAX: usize = 64;

/// How long the access log may take to write its last lines.
const LOG_CLOSE_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// What others want of the supervisor.
pub(super) enum Request {
    /// Discovery has news.
    EndpointsChanged,
    /// Discovery looked again and found what it knew.
    Resolved,
    /// The configuration file may have another text.
    FileTouched,
    /// Read the configuration again.
    Reload(Option<oneshot::Sender<Result<u64, ReloadError>>>),
    /// Begin to drain; a second one cuts the drain short.
    Drain,
    /// Something about canaries.
    Canary(CanaryRequest),
    /// Open the access log's file again.
    ReopenLog,
}

/// How discovery is asked to look again, by cluster; used from the workers' threads.
pub(super) type ResolveHandles = Arc<Mutex<HashMap<Arc<str>, ResolveNow>>>;

pub(super) struct Supervisor {
    pub(super) state: Arc<State>,
    pub(super) source: ConfigSource,
    pub(super) inbox: Receiver<Request>,
    pub(super) outbox: Sender<Request>,
    pub(super) resolve_handles: ResolveHandles,
    pub(super) access_log: Option<Writer>,
    pub(super) rates: Mutex<RateLimits>,
    /// Whoever may reload may do so in a loop.
    pub(super) log: LogLimiter,
    /// Why a configuration was refused, if that waits to be logged.
    pub(super) unlogged: Option<String>,
    pub(super) seed: u64,
}

impl Supervisor {
    /// Serves requests until a drain is complete.
    pub(super) async fn run(mut self) -> DrainReport {
        loop {
            let request = tokio::select! {
                request = self.inbox.recv() => request,
                () = tokio::time::sleep(evenkeel_telemetry::PERIOD), if self.unlogged.is_some() => {
                    if let Some(reason) = self.unlogged.take() {
                        self.log_refusal(reason, true);
                    }
                    continue;
                }
            };
            let Some(request) = request else { break };
            match request {
                Request::EndpointsChanged => self.publish(),
                Request::Resolved => self.count_resolutions(),
                Request::FileTouched => {
                    if self.with_source(|source| source.has_changed()).await {
                        // What is wrong with it is in the log.
                        let _ = self.reload().await;
                    }
                }
                Request::Reload(answer) => {
                    let result = self.reload().await;
                    if let Some(answer) = answer {
                        // The one who asked may have gone.
                        let _ = answer.send(result);
                    }
                }
                Request::Canary(request) => self.serve_canary(request).await,
                Request::ReopenLog => self.reopen_log(),
                Request::Drain => break,
            }
        }
        self.drain().await
    }

    /// Makes a snapshot of what is in force and gives it to the workers.
    pub(super) fn publish(&self) {
        let config = self.state.config.load();
        let clusters = self.state.clusters.load();
        let clusters = snapshot::build_clusters(&clusters, self.state.now());
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.state.generation();
        let (canaries, telemetry) = (self.state.canaries(), Some(&*self.state.telemetry));
        let snapshot = snapshot::build(&config, clusters, &canaries, &mut rates, telemetry, generation);
        drop(canaries);
        self.state.snapshot.store(Arc::clone(&snapshot));
        self.state.threads.apply(&snapshot);
    }

    fn count_resolutions(&self) {
        for cluster in self.state.clusters.load().iter() {
            cluster.count_resolutions(self.state.now());
        }
    }

    /// Starts, keeps or drops the clusters' runtimes so that they are those of `config`.
    pub(super) fn place_clusters(&self, config: &Config) {
        let before = self.state.clusters.load();
        let next: Vec<Arc<ClusterRuntime>> = config
            .clusters
            .iter()
            .zip(1..)
            .map(|(cluster, number)| {
                let known = before.iter().find(|known| known.config.name == cluster.name);
                match known {
                    Some(known) if known.config == *cluster => Arc::clone(known),
                    known => {
                        let telemetry = self.state.telemetry.cluster(&cluster.name);
                        let seed = self.seed.wrapping_add(number);
                        let (now, changes) = (self.state.now(), self.outbox.clone());
                        let mut started =
                            ClusterRuntime::start(cluster.clone(), telemetry, seed, now, changes);
                        if let Some(known) = known {
                            started.inherit(known, now);
                        }
                        Arc::new(started)
                    }
                }
            })
            .collect();
        let handles = next.iter().map(|cluster| (cluster.config.name.as_str().into(), cluster.resolve_now()));
        *self.resolve_handles.lock().unwrap_or_else(PoisonError::into_inner) = handles.collect();
        self.state.clusters.store(Arc::new(next));
    }

    /// Reads the configuration's file on a thread of its own: it may be on a disk that hangs, and what else the control plane
    /// does goes on.
    async fn with_source<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut ConfigSource) -> T + Send + 'static,
    ) -> T {
        let mut source = std::mem::replace(&mut self.source, ConfigSource::Flags);
        let reading = spawn_blocking(move || {
            let result = read(&mut source);
            (source, result)
        });
        let (source, result) =
            reading.await.expect("reading does not panic, and the runtime outlives this task");
        self.source = source;
        result
    }

    async fn reload(&mut self) -> Result<u64, ReloadError> {
        let result = self.with_source(ConfigSource::load).await.and_then(|config| {
            reload::check(&self.state.config.load(), &config)?;
            Ok(config)
        });
        let control = self.state.telemetry.control();
        match result {
            Ok(config) => {
                self.place_clusters(&config);
                self.place_canaries(&config, false);
                self.state.config.store(Arc::new(config));
                let generation = self.state.generation.fetch_add(1, Ordering::Relaxed) + 1;
                self.publish();
                self.state.set_reload_error(None);
                self.unlogged = None;
                control.config_reloaded(Reload::Accepted);
                control.set_config_generation(generation);
                if let Some(suppressed) = self.log.allow("reloaded", self.state.now()) {
                    tracing::info!(generation, suppressed, "configuration reloaded");
                }
                Ok(generation)
            }
            Err(error) => {
                self.state.set_reload_error(Some(error.to_string()));
                control.config_reloaded(Reload::Rejected);
                self.log_refusal(error.to_string(), false);
                Err(error)
            }
        }
    }

    /// Logs why a configuration was refused, once a second at most: the newest reason is logged when the second is over. `waited`
    /// says that it waited for that, and so was counted among those left out.
    fn log_refusal(&mut self, reason: String, waited: bool) {
        match self.log.allow("reload", self.state.now()) {
            Some(left_out) => {
                self.unlogged = None;
                let suppressed = left_out.saturating_sub(u64::from(waited));
                tracing::error!(suppressed, "the old configuration stays in force: {reason}");
            }
            None => self.unlogged = Some(reason),
        }
    }

    fn reopen_log(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    async fn drain(mut self) -> DrainReport {
        let began = self.state.now();
        self.state.set_lifecycle(Lifecycle::Draining);
        let settings = self.state.config.load().drain;
        let hurry = Notify::new();
        let state = Arc::clone(&self.state);
        let draining = async {
            drain::run(&state, settings, &hurry).await;
            let joined = spawn_blocking({
                let state = Arc::clone(&state);
                move || state.threads.join()
            });
            joined.await.unwrap_or_default()
        };
        tokio::pin!(draining);
        let report = loop {
            tokio::select! {
                report = &mut draining => break report,
                request = self.inbox.recv() => match request {
                    Some(Request::Drain) => {
                        hurry.notify_one();
                        self.state.threads.stop(std::time::Duration::ZERO);
                    }
                    Some(Request::EndpointsChanged) => self.publish(),
                    Some(Request::Resolved) => self.count_resolutions(),
                    Some(Request::FileTouched) => {}
                    Some(Request::Reload(answer)) => drop(answer),
                    // For as long as there are calls a worse version is taken back. Nothing is saved: the file may be that of the
                    // process which takes over, and whoever gave a command is told that it is too late.
                    Some(Request::Canary(CanaryRequest::Tick)) => self.judge_canaries(),
                    Some(Request::Canary(request)) => drop(request),
                    Some(Request::ReopenLog) => self.reopen_log(),
                    None => {}
                },
            }
        };
        self.state.set_lifecycle(Lifecycle::Stopped);
        if let Some(log) = self.access_log.take()
            && let Err(error) = log.close(LOG_CLOSE_MAX)
        {
            tracing::warn!(%error, "the access log may be incomplete");
        }
        let report =
            DrainReport { aborted_calls: report.aborted_calls, took: self.state.now().saturating_sub(began) };
        tracing::info!(aborted_calls = report.aborted_calls, took = ?report.took, "drained");
        report
    }
}
