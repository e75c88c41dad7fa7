//! The admin interface's connections: few, and none for ever.
//!
//! Whoever holds all of them, by saying nothing, by speaking slowly or by reading nothing, locks others out for
//! [`Bounds::AGE_MAX`] and [`Bounds::FAREWELL_MAX`] at most, and the data path not at all.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// What all connections together, and each of them, may take.
pub(super) struct Bounds;

impl Bounds {
    /// Connections at once; more wait in the kernel's queue, where they cost this process nothing. Prometheus, a probe and
    /// a few people need one each.
    pub(super) const CONNECTIONS_MAX: usize = 64;
    /// From the accept, or from the end of an answer, to the end of the next request's head.
    pub(super) const HEAD_MAX: Duration = Duration::from_secs(10);
    /// From the accept to the last answer.
    pub(super) const AGE_MAX: Duration = Duration::from_secs(60);
    /// What the last answer may take from then on.
    pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(10);
}

/// Serves connections for ever, `most` at a time.
pub(super) async fn serve(mut listener: impl Listener, router: Router, most: usize) {
    let seats = Arc::new(Semaphore::new(most));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await.expect("nobody closes it");
        let (io, _) = listener.accept().await;
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Bounds::HEAD_MAX)
            .serve_connection(TokioIo::new(io), service);
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            // How a connection ended concerns the one who made it.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = sleep(Bounds::AGE_MAX) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(Bounds::FAREWELL_MAX, connection).await;
                }
            }
            drop(seat);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    /// Bytes that the kernel would hold for each direction.
    const BUFFER_BYTES: usize = 1024;

    const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n";

    struct InMemory(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for InMemory {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(stream) => (stream, ()),
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Interface(mpsc::UnboundedSender<DuplexStream>);

    impl Interface {
        fn start(most: usize) -> Self {
            let (sender, receiver) = mpsc::unbounded_channel();
            let router = Router::new()
                .route("/small", get(|| async { "small" }))
                .route("/large", get(|| async { "x".repeat(100 * BUFFER_BYTES) }));
            tokio::spawn(serve(InMemory(receiver), router, most));
            Self(sender)
        }

        async fn connect(&self, say: &[u8]) -> DuplexStream {
            let (mut ours, theirs) = duplex(BUFFER_BYTES);
            ours.write_all(say).await.unwrap();
            self.0.send(theirs).unwrap();
            ours
        }
    }

    async fn answer(stream: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"small") {
            let count = stream.read_buf(&mut text).await.unwrap();
            assert!(count > 0, "closed after {:?}", str::from_utf8(&text));
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_waits_until_one_who_does_not_speak_is_closed() {
        let interface = Interface::start(2);
        let began = Instant::now();
        let (mut silent, mut slow) = (interface.connect(b"").await, interface.connect(b"GET /sm").await);
        let mut third = interface.connect(REQUEST).await;
        assert!(answer(&mut third).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(began.elapsed(), Bounds::HEAD_MAX);
        for stream in [&mut silent, &mut slow] {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_may_be_are_served_at_once() {
        let interface = Interface::start(2);
        let began = Instant::now();
        let _silent = interface.connect(b"").await;
        answer(&mut interface.connect(REQUEST).await).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_reads_nothing_does_not_keep_his_place() {
        let interface = Interface::start(1);
        let began = Instant::now();
        let _deaf = interface.connect(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
        answer(&mut interface.connect(REQUEST).await).await;
        assert_eq!(began.elapsed(), Bounds::AGE_MAX + Bounds::FAREWELL_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_asks_again_and_again_is_asked_to_connect_anew() {
        let interface = Interface::start(1);
        let began = Instant::now();
        let mut busy = interface.connect(b"").await;
        let pause = Bounds::HEAD_MAX - Duration::from_secs(1);
        for _ in 0..Bounds::AGE_MAX.as_secs() / pause.as_secs() {
            busy.write_all(REQUEST).await.unwrap();
            answer(&mut busy).await;
            sleep(pause).await;
        }
        busy.write_all(REQUEST).await.unwrap();
        answer(&mut busy).await;
        assert_eq!(busy.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(began.elapsed(), Bounds::AGE_MAX);
    }
}
