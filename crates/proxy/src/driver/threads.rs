//! The workers' threads: started together, commanded together.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use evenkeel_telemetry::{LogLimiter, SharedLogLimiter};
use mio::Waker;

use super::accept::Acceptor;
use super::command::{Command, WorkerView};
use super::epoll::EventLoop;
use super::files::ClientSeats;
use super::listen::{BoundListener, ListenSocket};
use crate::worker::overload::Accountant;
use crate::worker::snapshot::Snapshot;
use crate::worker::{ClusterPreview, Observer, Worker, WorkerConfig};

/// How long a worker may take to describe itself before the answer goes on without it.
const VIEW_TIMEOUT: Duration = Duration::from_secs(1);

/// Commands that may wait for one worker. A worker takes all of them each turn, so one that is this far behind hangs.
const COMMANDS_MAX: usize = 1024;

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
    /// What of the log the workers may write together.
    pub log: SharedLogLimiter,
    /// Makes the observer of each worker.
    pub observer: Box<dyn Fn() -> Observer>,
    /// Called on a worker's thread with a cluster's name when endpoints of it were lost, so that discovery looks again.
    pub on_lost: Arc<dyn Fn(&str) + Send + Sync>,
}

struct Thread {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    /// A command found no place: the worker hangs.
    hangs: AtomicBool,
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
    /// If the system refuses a thread or an epoll instance; those that were started have ended then.
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
        let mut started = Self { threads: Vec::with_capacity(workers), handles: Mutex::default() };
        for (index, sockets) in sockets.into_iter().enumerate() {
            if let Err(error) = started.add(config, index, workers, sockets, snapshot) {
                // Nobody can give them their first command any more, which ends them.
                started.threads.clear();
                started.join();
                return Err(error);
            }
        }
        Ok(started)
    }

    /// Starts one thread. It waits for its first command.
    fn add(
        &mut self,
        config: &ThreadsConfig,
        index: usize,
        workers: usize,
        sockets: Vec<ListenSocket>,
        snapshot: &Arc<Snapshot>,
    ) -> io::Result<()> {
        let worker_config =
            WorkerConfig { index, count: workers, seed: config.seed.wrapping_add(index as u64) };
        let mut worker = Worker::new(worker_config, snapshot, config.epoch.elapsed());
        worker.observe((config.observer)());
        worker.account(&config.accountant);
        let (commands, inbox) = sync_channel(COMMANDS_MAX);
        let seats = Arc::clone(&config.seats);
        let event_loop = EventLoop::new(
            worker,
            |registry, token| {
                Acceptor::new(sockets, seats, LogLimiter::sharing(&config.log), registry, token)
            },
            inbox,
            config.epoch,
            Arc::clone(&config.on_lost),
            LogLimiter::sharing(&config.log),
        )?;
        let waker = event_loop.waker();
        let handle =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || event_loop.run())?;
        self.threads.push(Thread { commands, waker, hangs: AtomicBool::new(false) });
        self.handles.get_mut().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(())
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

    /// Whether all threads still run: one that has ended otherwise than by [`Threads::drain`] or [`Threads::stop`] has
    /// failed, and so has one that takes no commands.
    #[must_use]
    pub fn are_running(&self) -> bool {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.iter().all(|handle| !handle.is_finished())
            && self.threads.iter().all(|thread| !thread.hangs.load(Ordering::Relaxed))
    }

    /// What each worker says of itself; one that does not answer in time is left out. Blocks for as long.
    #[must_use]
    pub fn view(&self) -> Vec<WorkerView> {
        self.ask_all(Command::View)
    }

    /// What each worker's balancer of a cluster would pick; those that do not answer in time, or have no such cluster, are left
    /// out. Blocks for as long.
    #[must_use]
    pub fn preview(&self, cluster: &Arc<str>) -> Vec<ClusterPreview> {
        self.ask_all(|answer| Command::Preview(Arc::clone(cluster), answer))
    }

    fn ask_all<T>(&self, question: impl Fn(SyncSender<T>) -> Command) -> Vec<T> {
        let asked: Vec<Receiver<T>> = self
            .threads
            .iter()
            .map(|thread| {
                let (answer, receiver) = sync_channel(1);
                // Without a place for the question there is no answer.
                let _ = thread.send(question(answer));
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
    /// Gives the worker a command; `Threads::are_running` tells of one that takes none.
    fn tell(&self, command: Command) {
        if let Err(TrySendError::Full(_)) = self.send(command)
            && !self.hangs.swap(true, Ordering::Relaxed)
        {
            tracing::error!("a worker takes no commands; restart the process");
        }
    }

    fn send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        self.commands.try_send(command)?;
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker could not be woken");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    use evenkeel_config::ListenAddress;
    use evenkeel_http2::Limits;
    use evenkeel_http2::frame::PREFACE;
    use evenkeel_telemetry::{Options, Telemetry};
    use mio::Poll;

    use super::*;
    use crate::driver::bind;
    use crate::worker::route::RouteTable;
    use crate::worker::snapshot::Listener;

    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    fn listen(workers: usize) -> (BoundListener, SocketAddr) {
        let bound = bind(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()), workers, false).unwrap();
        let ListenAddress::Tcp(address) = bound.address else { panic!("it is a TCP address") };
        (bound, address)
    }

    fn start(listener: BoundListener, workers: usize) -> io::Result<Threads> {
        let telemetry = Arc::new(Telemetry::new(Options { version: "1", protocol_rules: &[] }));
        let config = ThreadsConfig {
            seed: 1,
            epoch: Instant::now(),
            seats: ClientSeats::new(10),
            accountant: Accountant::new(u64::MAX),
            log: SharedLogLimiter::default(),
            observer: Box::new(move || Observer::new(&telemetry, None, Duration::ZERO)),
            on_lost: Arc::new(|_| {}),
        };
        Threads::start(&config, vec![listener], workers, &Arc::default())
    }

    fn snapshot() -> Arc<Snapshot> {
        let listener = Listener::new("a", Limits::mesh(), RouteTable::new(Vec::new()));
        Arc::new(Snapshot { generation: 1, listeners: vec![Arc::new(listener)], ..Snapshot::default() })
    }

    #[test]
    fn clients_that_come_before_the_configuration_wait_for_it() {
        let (listener, address) = listen(2);
        let early = TcpStream::connect(address).unwrap();
        let threads = start(listener, 2).unwrap();
        let mut clients = vec![early];
        clients.extend((0..8).map(|_| TcpStream::connect(address).unwrap()));
        for client in &mut clients {
            client.write_all(PREFACE).unwrap();
            client.write_all(&EMPTY_SETTINGS).unwrap();
        }
        threads.apply(&snapshot());
        for client in &mut clients {
            let mut head = [0; 9];
            client.read_exact(&mut head).unwrap();
            assert_eq!(head[3], 4, "the first frame is SETTINGS");
        }
        drop(clients);
        threads.stop(Duration::ZERO);
        assert_eq!(threads.join(), StopReport::default());
    }

    #[test]
    fn a_start_that_fails_leaves_no_thread() {
        let (mut listener, address) = listen(1);
        // epoll refuses files: EPERM, epoll_ctl(2).
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        listener.sockets.push(ListenSocket::Unix(UnixListener::from(file)));
        let error = start(listener, 2).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        // The first worker's thread had the only socket.
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_worker_that_takes_no_commands_does_not_run() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (commands, _inbox) = sync_channel(COMMANDS_MAX);
        let thread = Thread { commands, waker, hangs: AtomicBool::new(false) };
        let threads = Threads { threads: vec![thread], handles: Mutex::default() };
        for _ in 0..COMMANDS_MAX {
            threads.drain(Duration::ZERO);
        }
        assert!(threads.are_running());
        assert!(threads.threads[0].send(Command::View(sync_channel(1).0)).is_err());
        assert!(threads.are_running(), "a question may be dropped");
        threads.drain(Duration::ZERO);
        assert!(!threads.are_running());
    }
}
