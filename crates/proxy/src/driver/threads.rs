//! The workers' threads: started together, commanded together.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use super::accept::Acceptor;
use super::command::{Command, WorkerView};
use super::epoll::EventLoop;
use super::files::ClientSeats;
use super::listen::BoundListener;
use crate::worker::overload::Accountant;
use crate::worker::snapshot::Snapshot;
use crate::worker::{Observer, Worker, WorkerConfig};

/// How long a worker may take to describe itself before the answer goes on without it.
const VIEW_TIMEOUT: Duration = Duration::from_secs(1);

/// What threads are started with.
pub struct ThreadsConfig {
    /// Seed of all random choices of all workers.
    pub seed: u64,
    /// The moment from which all workers count time.
    pub epoch: Instant,
    /// Connections that clients may have, over all workers.
    pub seats: Arc<ClientSeats>,
    /// What all workers hold in memory.
    pub accountant: Arc<Accountant>,
    /// Makes the observer of each worker.
    pub observer: Box<dyn Fn() -> Observer>,
    /// Called on a worker's thread with a cluster's name when endpoints of it were lost, so that discovery looks again.
    pub on_lost: Arc<dyn Fn(&str) + Send + Sync>,
}

struct Thread {
    commands: Sender<Command>,
    waker: Arc<Waker>,
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
    handles: Mutex<Vec<JoinHandle<io::Result<StopReport>>>>,
}

impl Threads {
    /// Starts one thread for each socket of the listeners; `listeners` are in the order of the snapshot's.
    ///
    /// # Errors
    /// If the system refuses a thread or an epoll instance.
    pub fn start(
        config: &ThreadsConfig,
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
        let mut handles = Vec::with_capacity(workers);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let worker_config =
                WorkerConfig { index, count: workers, seed: config.seed.wrapping_add(index as u64) };
            let mut worker = Worker::new(worker_config, snapshot, config.epoch.elapsed());
            worker.observe((config.observer)());
            worker.account(&config.accountant);
            let (commands, inbox): (Sender<Command>, Receiver<Command>) = mpsc::channel();
            let seats = Arc::clone(&config.seats);
            let event_loop = EventLoop::new(
                worker,
                |registry, token| Acceptor::new(sockets, seats, registry, token),
                inbox,
                config.epoch,
                Arc::clone(&config.on_lost),
            )?;
            let waker = event_loop.waker();
            let handle = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || event_loop.run())?;
            threads.push(Thread { commands, waker });
            handles.push(handle);
        }
        Ok(Self { threads, handles: Mutex::new(handles) })
    }

    /// Gives all workers a new configuration.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) {
        self.tell_all(|| Command::Apply(Arc::clone(snapshot)));
    }

    /// Stops listening and begins to drain all clients; the threads end once none is left.
    pub fn drain(&self, spread: Duration) {
        self.tell_all(|| Command::Drain { spread });
    }

    /// Drains all clients that are left at once; the threads end once their calls have ended, or after `grace`.
    pub fn stop(&self, grace: Duration) {
        self.tell_all(|| Command::Stop { grace });
    }

    /// Waits for the threads to end; blocks. Of several that wait, one gets the report.
    pub fn join(&self) -> StopReport {
        let handles = core::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        let mut report = StopReport::default();
        for handle in handles {
            match handle.join() {
                Ok(Ok(ended)) => report.aborted_calls += ended.aborted_calls,
                Ok(Err(error)) => tracing::error!(%error, "a worker ended with an error"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        report
    }

    /// Whether all threads still run: one that has ended otherwise than by [`Threads::drain`] or [`Threads::stop`] has failed.
    #[must_use]
    pub fn are_running(&self) -> bool {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.iter().all(|handle| !handle.is_finished())
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
        // A thread that has ended takes no commands; `Threads::are_running` tells.
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a worker could not be woken");
        }
    }
}
