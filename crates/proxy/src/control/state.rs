//! What the control plane's parts share, for reading.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use evenkeel_config::Config;
use evenkeel_telemetry::Telemetry;

use super::canary::Canaries;
use super::clusters::ClusterRuntime;
use crate::driver::Threads;
use crate::worker::overload::Accountant;
use crate::worker::snapshot::Snapshot;

/// How far the process has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Lifecycle {
    /// Serving.
    Live = 0,
    /// Still serving, but telling everyone to go elsewhere.
    Draining = 1,
    /// Over.
    Stopped = 2,
}

impl Lifecycle {
    /// The name on /ready.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// What the control plane's parts share, for reading; only the supervisor writes.
pub struct State {
    /// The moment from which all times are counted.
    pub epoch: Instant,
    /// What is counted.
    pub telemetry: Arc<Telemetry>,
    /// What is buffered for peers.
    pub accountant: Arc<Accountant>,
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// The clusters in force, with what discovery knows of them.
    pub(super) clusters: ArcSwap<Vec<Arc<ClusterRuntime>>>,
    /// What the workers were told last.
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) canaries: Mutex<Canaries>,
    pub(super) threads: Threads,
    pub(super) generation: AtomicU64,
    lifecycle: AtomicU8,
    last_reload_error: Mutex<Option<String>>,
}

impl State {
    pub(super) fn new(
        epoch: Instant,
        telemetry: Arc<Telemetry>,
        accountant: Arc<Accountant>,
        config: Config,
        threads: Threads,
    ) -> Self {
        Self {
            epoch,
            telemetry,
            accountant,
            config: ArcSwap::from_pointee(config),
            clusters: ArcSwap::from_pointee(Vec::new()),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            canaries: Mutex::default(),
            threads,
            generation: AtomicU64::new(1),
            lifecycle: AtomicU8::new(Lifecycle::Live as u8),
            last_reload_error: Mutex::new(None),
        }
    }

    /// The time since the epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// How far the process has come.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        match self.lifecycle.load(Ordering::Relaxed) {
            0 => Lifecycle::Live,
            1 => Lifecycle::Draining,
            _ => Lifecycle::Stopped,
        }
    }

    pub(super) fn set_lifecycle(&self, lifecycle: Lifecycle) {
        self.lifecycle.store(lifecycle as u8, Ordering::Relaxed);
    }

    /// Number of the configuration in force: 1 for the one at the start.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Why the newest reload was refused, if it was.
    #[must_use]
    pub fn last_reload_error(&self) -> Option<String> {
        self.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_reload_error(&self, error: Option<String>) {
        *self.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Whether all workers still run.
    #[must_use]
    pub fn workers_are_running(&self) -> bool {
        self.threads.are_running()
    }

    /// What each worker says of itself. Blocks for a second at most.
    #[must_use]
    pub fn view(&self) -> Vec<crate::driver::WorkerView> {
        self.threads.view()
    }
}
