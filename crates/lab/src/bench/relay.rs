//! A relay of bytes between TCP connections, on one thread: the least that a proxy on this machine can cost.
//!
//! Each accepted connection is joined with a new one to the next peer in turn. One read, one write; a side whose output
//! is full is not read until it has drained.

use super::poll::{Events, Interest, Poll, Ready};
use crate::clock::Clock;
use slab::Slab;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes read at once: also what a pair may hold for a side that does not take them.
const CHUNK_BYTES: usize = 64 << 10;
/// Pairs at once; further connections are closed.
const PAIRS_MAX: usize = 20_000;
/// Longest wait, so that the end of the run is noticed in time.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// The listener's token; a pair has the tokens `2 * key` and `2 * key + 1`.
const LISTENER: u64 = u64::MAX;

/// A relay that listens but does not yet serve.
pub struct Relay {
    listener: TcpListener,
    peers: Vec<SocketAddr>,
    poll: Poll,
    turn: usize,
}

/// One side of a pair.
struct Side {
    socket: TcpStream,
    interest: Interest,
    /// Bytes for this side that its socket has not taken.
    pending: Vec<u8>,
    /// This side will send no more.
    ended: bool,
    /// The other side will send no more, and this side was told.
    told: bool,
}

/// Downstream and upstream.
type Pair = [Side; 2];

impl Relay {
    /// Listens on `address`; port 0 takes any free port.
    ///
    /// # Errors
    /// The system's answer if the address cannot be had; `InvalidInput` without a peer.
    pub fn bind(address: SocketAddr, peers: Vec<SocketAddr>) -> io::Result<Self> {
        if peers.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a relay needs at least one peer to connect to",
            ));
        }
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, Interest::Read)?;
        Ok(Self { listener, peers, poll, turn: 0 })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// The system's answer, which an open listener does not give.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Relays until `duration` has passed or `stop` is set.
    ///
    /// # Errors
    /// If the event loop breaks; faults of single connections end their pairs alone.
    pub fn run(mut self, duration: Duration, stop: &AtomicBool) -> io::Result<()> {
        let clock = Clock::start();
        let mut pairs: Slab<Pair> = Slab::new();
        let mut chunk = vec![0; CHUNK_BYTES].into_boxed_slice();
        let mut events = Events::new();
        while clock.now() < duration && !stop.load(Ordering::Relaxed) {
            self.poll.wait(WAIT_MAX, &mut events)?;
            for event in events.ready() {
                if event.token == LISTENER {
                    self.accept(&mut pairs);
                    continue;
                }
                let key = (event.token / 2) as usize;
                let Some(pair) = pairs.get_mut(key) else { continue };
                let served = serve(pair, key, *event, &mut chunk, &self.poll);
                if !matches!(served, Ok(true)) {
                    // Closing the sockets takes them out of the poll as well.
                    pairs.remove(key);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, pairs: &mut Slab<Pair>) {
        while let Ok((downstream, _)) = self.listener.accept() {
            let peer = self.peers[self.turn % self.peers.len()];
            self.turn += 1;
            if pairs.len() >= PAIRS_MAX {
                continue;
            }
            // Loopback connects at once or fails; a peer that is gone costs its own client the connection.
            let Ok(upstream) = TcpStream::connect(peer) else { continue };
            let entry = pairs.vacant_entry();
            let key = entry.key() as u64;
            if let (Ok(one), Ok(two)) =
                (Side::new(downstream, 2 * key, &self.poll), Side::new(upstream, 2 * key + 1, &self.poll))
            {
                entry.insert([one, two]);
            }
        }
    }
}

impl Side {
    fn new(socket: TcpStream, token: u64, poll: &Poll) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        poll.add(&socket, token, Interest::Read)?;
        Ok(Self { socket, interest: Interest::Read, pending: Vec::new(), ended: false, told: false })
    }

    /// Writes as much of `bytes` as the socket takes, and keeps the rest.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(wrote) => bytes = &bytes[wrote..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.write(&pending)
    }
}

/// Serves one event of a pair; returns whether the pair lives on.
fn serve(pair: &mut Pair, key: usize, event: Ready, chunk: &mut [u8], poll: &Poll) -> io::Result<bool> {
    let from = (event.token % 2) as usize;
    let [one, two] = pair;
    let (side, other) = if from == 0 { (one, two) } else { (two, one) };
    if event.writable && !side.pending.is_empty() {
        side.drain()?;
    }
    if event.readable && other.pending.is_empty() && !side.ended {
        match side.socket.read(chunk) {
            Ok(0) => side.ended = true,
            Ok(read) => other.write(&chunk[..read])?,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    tell(side, other)?;
    tell(other, side)?;
    if side.told && other.told {
        return Ok(false);
    }
    let tokens = [2 * key as u64, 2 * key as u64 + 1];
    watch(side, !other.pending.is_empty(), tokens[from], poll)?;
    watch(other, !side.pending.is_empty(), tokens[1 - from], poll)?;
    Ok(true)
}

/// Passes the end of `from` on to `to`, once `to` has all its bytes.
fn tell(from: &Side, to: &mut Side) -> io::Result<()> {
    if from.ended && !to.told && to.pending.is_empty() {
        to.told = true;
        to.socket.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

/// Asks for the events that a side can use now.
fn watch(side: &mut Side, other_full: bool, token: u64, poll: &Poll) -> io::Result<()> {
    let interest = match (side.ended || other_full, side.pending.is_empty()) {
        (false, true) => Interest::Read,
        (false, false) => Interest::ReadWrite,
        (true, false) => Interest::Write,
        (true, true) => Interest::None,
    };
    if interest != side.interest {
        poll.modify(&side.socket, token, interest)?;
        side.interest = interest;
    }
    Ok(())
}
