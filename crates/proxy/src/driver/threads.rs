//! The workers' threads: started together, commanded together.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use super::command::{Command, WorkerView};
use super::epoll::EventLoop;
use super::listen::BoundListener;
use crate::worker::snapshot::Snapshot;
use crate::worker::{Worker, WorkerConfig};

/// How long a worker may take to describe itself before the answer goes on without it.
const VIEW_TIMEOUT: Duration = Duration::from_secs(1);

/// What threads are started with.
#[derive(Clone, Copy, Debug)]
pub struct ThreadsConfig {
    /// Seed of all random choices of all workers.
    pub seed: u64,
    /// The moment from which all workers count time.
    pub epoch: Instant,
}

struct Thread {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    handle: JoinHandle<io::Result<StopReport>>,
}

/// How a worker's thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StopReport {
    /// Calls that were cut off when the grace was over.
    pub aborted_calls: usize,
}

/// The workers' threads.
pub struct Threads {
    threads: Vec<Thread>,
}

impl Threads {
    /// Starts one thread for each socket of the listeners; `listeners` are in the order of the snapshot's.
    ///
    /// # Errors
    /// If the system refuses a thread or an epoll instance.
    pub fn start(
        config: ThreadsConfig,
        listeners: Vec<BoundListener>,
        workers: usize,
        snapshot: &Arc<Snapshot>,
    ) -> io::Result<Self> {
        let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for listener in listeners {
            for (index, socket) in listener.sockets.into_iter().enumerate() {
                sockets[index % workers].push(socket);
            }
        }
        let mut threads = Vec::with_capacity(workers);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let worker_config =
                WorkerConfig { index, count: workers, seed: config.seed.wrapping_add(index as u64) };
            let worker = Worker::new(worker_config, snapshot, config.epoch.elapsed());
            let (commands, inbox): (Sender<Command>, Receiver<Command>) = mpsc::channel();
            let event_loop = EventLoop::new(worker, sockets, inbox, config.epoch)?;
            let waker = event_loop.waker();
            let handle = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || event_loop.run())?;
            threads.push(Thread { commands, waker, handle });
        }
        Ok(Self { threads })
    }

    /// Gives all workers a new configuration.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) {
        self.tell_all(|| Command::Apply(Arc::clone(snapshot)));
    }

    /// Begins to drain all clients.
    pub fn drain(&self, spread: Duration) {
        self.tell_all(|| Command::Drain { spread });
    }

    /// Stops listening and ends the threads once their calls have ended, or after `grace`. Returns when all have; blocks.
    pub fn stop(self, grace: Duration) -> StopReport {
        self.tell_all(|| Command::Stop { grace });
        let mut report = StopReport::default();
        for thread in self.threads {
            match thread.handle.join() {
                Ok(Ok(ended)) => report.aborted_calls += ended.aborted_calls,
                Ok(Err(error)) => tracing::error!(%error, "a worker ended with an error"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        report
    }

    /// Whether all threads still run: one that has ended otherwise than by [`Threads::stop`] has failed.
    #[must_use]
    pub fn are_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.handle.is_finished())
    }

    /// What each worker says of itself; one that does not answer in time is left out. Blocks for as long.
    #[must_use]
    pub fn view(&self) -> Vec<WorkerView> {
        let asked: Vec<Receiver<WorkerView>> = self
            .threads
            .iter()
            .map(|thread| {
                let (answer, receiver) = sync_channel(1);
                thread.tell(Command::View(answer));
                receiver
            })
            .collect();
        asked.into_iter().filter_map(|receiver| receiver.recv_timeout(VIEW_TIMEOUT).ok()).collect()
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for thread in &self.threads {
            thread.tell(command());
        }
    }
}

impl Thread {
    fn tell(&self, command: Command) {
        // A thread that has ended takes no commands; `are_running` tells.
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a worker could not be woken");
        }
    }
}
