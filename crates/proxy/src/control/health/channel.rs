//! The probe channel: one HTTP/2 connection of the control plane to one endpoint, for questions apart from all calls.
//!
//! Why not the workers' connections? A probe must find out what a new connection finds: a worker's may be up while the
//! endpoint takes no other, and it belongs to a thread that must not wait for an answer.
//!
//! Why not tonic's own channel? It connects again by itself, after delays of its own, and tells neither when a connection began
//! nor that it ended. A probe is the judgement of one attempt. So this is hyper's connection as it is: it is dialled once, is
//! [closed](ProbeChannel::closed) once, and goes with its last clone. Clients that tonic generates work on it.
//!
//! Invariant: no peer makes it hold more than its windows and one header list.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use evenkeel_balance::Address;
use evenkeel_config::Target;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::body::Body;

/// Bytes that an endpoint may send on one stream, or on all of them, before they are read: HTTP/2's initial window.
const WINDOW_BYTES: u32 = 65_535;

/// Bytes of a header list that an endpoint may answer with: what backends commonly take themselves (gRPC's C core: 16 KiB).
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// One connection to an endpoint. Clones share it; it is cut when the last one is dropped.
#[derive(Clone, Debug)]
pub(in crate::control) struct ProbeChannel {
    sender: SendRequest<Body>,
    /// Its other end goes when the connection does.
    alive: watch::Receiver<()>,
    _task: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum DialError {
    /// The transport.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The first frames.
    #[error("cannot speak HTTP/2: {}", causes(.0))]
    Handshake(#[from] hyper::Error),
}

impl ProbeChannel {
    /// Connects. It may take as long as the system lets it: whoever asks sets the limit.
    pub(in crate::control) async fn dial(address: &Address) -> Result<Self, DialError> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Self::over(stream).await
            }
            Address::Unix(path) => Self::over(UnixStream::connect(path).await?).await,
        }
    }

    async fn over(
        transport: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, DialError> {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .handshake(TokioIo::new(transport))
            .await?;
        let (end, alive) = watch::channel(());
        let task = tokio::spawn(async move {
            // Why it ended is told by the requests on it.
            let _ = connection.await;
            drop(end);
        });
        Ok(Self { sender, alive, _task: Arc::new(AbortOnDrop(task.abort_handle())) })
    }

    /// Whether the connection takes no more requests.
    pub(in crate::control) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the connection has ended.
    pub(in crate::control) async fn closed(&self) {
        let mut alive = self.alive.clone();
        // Nothing is ever sent: an error says that the other end has gone.
        while alive.changed().await.is_ok() {}
    }
}

/// What a client that tonic generates needs.
impl tower::Service<Request<Body>> for ProbeChannel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// The scheme and authority of what is asked of an endpoint: as gRPC has it the host of a `dns` target, else, and where there are
/// several targets, the endpoint's address without its zone (RFC 6874 section 4), and `localhost` for a Unix socket.
pub(in crate::control) fn origin(target: Option<&Target>, address: &Address) -> Uri {
    let authority = match (target, address) {
        (Some(Target::Dns { host, port, .. }), _) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(Target::Dns { host, port, .. }), _) => format!("{host}:{port}"),
        (_, Address::Tcp(address)) => SocketAddr::new(address.ip(), address.port()).to_string(),
        (_, Address::Unix(_)) => "localhost".to_owned(),
    };
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
    uri.unwrap_or_else(|_| Uri::from_static("http://localhost"))
}

/// An error's text with those of its causes, which hyper's own leave out.
pub(in crate::control) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_authority_is_the_name_that_was_dialled_or_else_the_address() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        let unix = Address::Unix(PathBuf::from("/run/x.sock"));
        for (target, address, expected) in [
            ("dns:///orders:50051", tcp("10.0.0.1:50051"), "http://orders:50051/"),
            ("dns:///[::1]:50051", tcp("[::1]:50051"), "http://[::1]:50051/"),
            ("ipv4:10.0.0.1:50051", tcp("10.0.0.1:50051"), "http://10.0.0.1:50051/"),
            ("ipv6:[::1]:50051", tcp("[::1]:50051"), "http://[::1]:50051/"),
            ("unix:/run/x.sock", unix, "http://localhost/"),
            ("file:/etc/orders.yaml", tcp("[fe80::1%3]:50051"), "http://[fe80::1]:50051/"),
        ] {
            assert_eq!(origin(Some(&Target::parse(target).unwrap()), &address).to_string(), expected);
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_closes_is_noticed_without_a_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let dialled = tokio::spawn(async move { ProbeChannel::dial(&address).await.unwrap() });
        let (accepted, _) = listener.accept().await.unwrap();
        let channel = dialled.await.unwrap();
        assert!(!channel.is_closed());
        drop(accepted);
        channel.closed().await;
        assert!(channel.is_closed());
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        drop(listener);
        let error = ProbeChannel::dial(&address).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot connect: ") && error.contains("refused"), "{error}");
    }
}
