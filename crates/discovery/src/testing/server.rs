//! The scripted name server's sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::RecordType;
use super::zone::{Failure, Query, Record, Transport, Zone, absolute};

/// Attempts to find a port that is free for both UDP and TCP.
const BIND_ATTEMPTS: usize = 32;

/// A name server on 127.0.0.1, on a port of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    received: watch::Receiver<u64>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    zone: Mutex<Zone>,
    received: watch::Sender<u64>,
}

impl Shared {
    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let answer = self.zone().answer(bytes, transport);
        self.received.send_modify(|count| *count += 1);
        answer
    }
}

impl DnsServer {
    /// Starts a server that knows no names: each question is answered with NXDOMAIN.
    ///
    /// # Errors
    /// If no port can be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub async fn start() -> io::Result<Self> {
        let (udp, tcp) = bind().await?;
        let address = udp.local_addr()?;
        let (sender, received) = watch::channel(0);
        let shared = Arc::new(Shared { zone: Mutex::default(), received: sender });
        let task = tokio::spawn(serve(udp, tcp, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, received, task })
    }

    /// Where it listens, for UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the records of a name and their TTL in seconds, instead of what was set before. Failures of the name end.
    ///
    /// # Panics
    /// If `name` is no domain name.
    pub fn set<R: Into<Record>>(&self, name: &str, records: impl IntoIterator<Item = R>, ttl: u32) {
        self.shared.zone().set(name, records.into_iter().map(Into::into).collect(), ttl);
    }

    /// Answers every question for a name with `failure`, until [`set`](Self::set) is called for it.
    ///
    /// # Panics
    /// If `name` is no domain name.
    pub fn fail(&self, name: &str, failure: Failure) {
        self.shared.zone().fail(name, None, failure);
    }

    /// Answers questions for one kind of a name's records with `failure`, until [`set`](Self::set) is called for it.
    ///
    /// # Panics
    /// If `name` is no domain name.
    pub fn fail_kind(&self, name: &str, kind: RecordType, failure: Failure) {
        self.shared.zone().fail(name, Some(kind), failure);
    }

    /// Whether to leave the targets' addresses out of SRV answers. Default: no.
    pub fn set_without_glue(&self, without: bool) {
        self.shared.zone().without_glue = without;
    }

    /// Whether to begin each answer with another record than the last. Default: no.
    pub fn set_rotate(&self, rotate: bool) {
        self.shared.zone().rotate = rotate;
    }

    /// The questions received so far, oldest first; the newest 65,536 are kept.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        self.shared.zone().log().cloned().collect()
    }

    /// How many questions for the `kind` records of `name` have been received.
    ///
    /// # Panics
    /// If `name` is no domain name.
    #[must_use]
    pub fn count(&self, name: &str, kind: RecordType) -> usize {
        let name = absolute(name).to_lowercase().to_ascii();
        self.shared.zone().log().filter(|query| query.name == name && query.kind == kind).count()
    }

    /// Waits until at least `count` questions for the `kind` records of `name` have been received. Bound it with a
    /// timeout.
    ///
    /// # Panics
    /// If `name` is no domain name.
    pub async fn received(&self, name: &str, kind: RecordType, count: usize) {
        let mut received = self.received.clone();
        let enough = received.wait_for(|_| self.count(name, kind) >= count).await;
        enough.expect("the sender lives as long as the server");
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 0;
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if attempt == BIND_ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

async fn serve(udp: UdpSocket, tcp: TcpListener, shared: Arc<Shared>) {
    // Dropped with this future, which ends the connections, too.
    let mut connections = JoinSet::new();
    let mut datagram = vec![0; usize::from(u16::MAX)];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut datagram) => {
                let Ok((length, client)) = received else { continue };
                if let Some(answer) = shared.answer(&datagram[..length], Transport::Udp) {
                    // A client that has gone is no fault of the server's.
                    _ = udp.send_to(&answer, client).await;
                }
            }
            accepted = tcp.accept() => {
                let Ok((connection, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                connections.spawn(async move { _ = converse(connection, &shared).await; });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers questions on one connection, each message behind its length (RFC 1035 section 4.2.2).
async fn converse(mut connection: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let mut question = vec![0; usize::from(connection.read_u16().await?)];
        connection.read_exact(&mut question).await?;
        if let Some(answer) = shared.answer(&question, Transport::Tcp) {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            connection.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat()).await?;
        }
    }
}
