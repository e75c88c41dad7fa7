//! What the control plane tells a worker's thread, and what it gets back.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::worker::snapshot::Snapshot;
use crate::worker::{ClusterPreview, ClusterView};

/// A command for one worker's thread.
#[derive(Debug)]
pub enum Command {
    /// Take this configuration.
    Apply(Arc<Snapshot>),
    /// Stop listening, ask every client to go away, spread over this time, and end the thread once none is left.
    Drain {
        /// The time over which the connections' turns are spread.
        spread: Duration,
    },
    /// The same at once, and end the thread after the grace at the latest.
    Stop {
        /// How long calls in progress may take.
        grace: Duration,
    },
    /// Describe yourself; the answer may be dropped by the one who asked.
    View(SyncSender<WorkerView>),
    /// Tell what your balancer of this cluster would pick; no answer if there is no such cluster.
    Preview(Arc<str>, SyncSender<ClusterPreview>),
}

/// A worker's description of itself.
#[derive(Clone, Debug, Default)]
pub struct WorkerView {
    /// Clients' connections.
    pub clients: usize,
    /// Connections on both sides.
    pub connections: usize,
    /// Calls in progress.
    pub calls: usize,
    /// Each cluster, with the connections of each endpoint.
    pub clusters: Vec<ClusterView>,
}
