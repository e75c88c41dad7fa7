//! The layer around a backend's services: counts calls, takes its time, and signs the responses.
//!
//! A call is finished once its response body has been read to its end; dropped before that, it was abandoned. Both are
//! recorded by the drop of one guard, so that no path can forget or double it.

use super::{BACKEND_HEADER, BackendStats, Latency};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{Layer, Service};

/// Path prefix of the calls that are neither delayed nor counted.
const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";

#[derive(Clone)]
pub(super) struct Observe {
    name: HeaderValue,
    stats: Arc<BackendStats>,
    latency: Latency,
    rng: Arc<Mutex<SmallRng>>,
}

impl Observe {
    pub(super) fn new(name: HeaderValue, stats: Arc<BackendStats>, latency: Latency, seed: u64) -> Self {
        Self { name, stats, latency, rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    fn delay(&self) -> Duration {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        self.latency.sample(&mut *rng).saturating_add(self.stats.slow())
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { observe: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(super) struct Observed<S> {
    observe: Observe,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Observed<S>
where
    S: Service<Request<A>, Response = Response<B>, Future: Send> + Clone + Send + 'static,
    A: Send + 'static,
    B: Body,
{
    type Response = Response<ObservedBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        // The instance that was polled ready must serve this call; the clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let observe = self.observe.clone();
        let counted = !request.uri().path().starts_with(HEALTH_PREFIX);
        let guard = counted.then(|| CallGuard::start(Arc::clone(&observe.stats)));
        Box::pin(async move {
            let delay = if counted { observe.delay() } else { Duration::ZERO };
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let mut response = inner.call(request).await?;
            response.headers_mut().insert(BACKEND_HEADER, observe.name.clone());
            Ok(response.map(|body| ObservedBody::new(body, guard)))
        })
    }
}

/// Counts one call: started when made, ended when dropped.
struct CallGuard {
    stats: Arc<BackendStats>,
    finished: bool,
}

impl CallGuard {
    fn start(stats: Arc<BackendStats>) -> Self {
        stats.started.fetch_add(1, Ordering::Relaxed);
        Self { stats, finished: false }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let ended = if self.finished { &self.stats.finished } else { &self.stats.abandoned };
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A response body that ends its call's guard with itself.
pub(super) struct ObservedBody<B> {
    body: Pin<Box<B>>,
    guard: Option<CallGuard>,
}

impl<B: Body> ObservedBody<B> {
    fn new(body: B, guard: Option<CallGuard>) -> Self {
        let mut observed = Self { body: Box::pin(body), guard };
        if observed.body.is_end_stream() {
            observed.finish();
        }
        observed
    }

    fn finish(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.finished = true;
        }
    }
}

impl<B: Body> Body for ObservedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = self.body.as_mut().poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.finish(),
            // Nothing follows the trailers, and the server need not ask again.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => self.finish(),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
