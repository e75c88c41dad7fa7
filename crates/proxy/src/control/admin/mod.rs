//! The admin interface: what operators and their tools ask a running proxy.
//!
//! Rules: loopback by default; asked by address or by a name that is known, so that no name of somebody else's leads here;
//! only POST changes anything, so that no link and no prefetch can (Envoy answers GET on such paths with 400 for the same
//! reason); connections are few and none lasts for ever, so that whoever scrapes too much, or holds them open, harms the
//! admin interface only.

mod canary;
mod clusters;
mod connections;
mod eligibility;
mod explain;
mod gauges;
mod groups;
mod health;
mod hosts;
mod limits;
mod load;
mod metrics;
mod process;
mod removed;
mod retries;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use evenkeel_config::ListenAddress;
use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::Sender;

use self::connections::Bounds;
pub(super) use self::eligibility::{EligibilityBody, WorkersSay};
pub(super) use self::groups::{GroupBody, groups};
use self::hosts::Allowed;
pub(super) use self::limits::{BreakerBody, breakers};
use super::state::{Lifecycle, State};
use super::supervisor::Request;

const HELP: &str = "\
Evenkeel admin interface

GET  /ready     200 while calls should come here, 503 while draining
GET  /live      200 while all workers run
GET  /metrics   Prometheus metrics
GET  /clusters  clusters and endpoints: state, in flight, outcomes, latency (JSON)
GET  /config    the configuration in force (JSON)
GET  /explain   what a call would get, and why: ?method=/pkg.Service/Method&header=name%3Dvalue (JSON)
GET  /canary    canaries: state, weight, what both versions did (JSON)
POST /drain     go away without losing a call, then exit; a second POST cuts calls off
POST /reload    read the configuration file again
POST /canary/NAME/start, set?weight=PERCENT, pause, resume, promote, abort
";

/// What the handlers need.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) state: Arc<State>,
    requests: Sender<Request>,
}

/// A bound admin socket.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds the admin interface's address.
pub(super) async fn bind(address: &ListenAddress) -> io::Result<Socket> {
    match address {
        ListenAddress::Tcp(address) => Ok(Socket::Tcp(TcpListener::bind(address).await?)),
        ListenAddress::Unix(path) => {
            crate::driver::remove_stale_socket(path)?;
            Ok(Socket::Unix(UnixListener::bind(path)?))
        }
    }
}

/// Serves the admin interface until the runtime ends; returns its TCP address.
pub(super) fn serve(socket: Socket, state: Arc<State>, requests: Sender<Request>) -> Option<SocketAddr> {
    let allowed = match &socket {
        Socket::Tcp(_) => {
            let config = state.config.load();
            Allowed::names(config.admin.as_ref().map_or(&[], |admin| &admin.hosts))
        }
        // No browser reaches it.
        Socket::Unix(_) => Allowed::any(),
    };
    let router = router(Admin { state, requests }, allowed);
    match socket {
        Socket::Tcp(listener) => {
            let address = listener.local_addr().ok();
            tokio::spawn(connections::serve(listener, router, Bounds::CONNECTIONS_MAX));
            address
        }
        Socket::Unix(listener) => {
            tokio::spawn(connections::serve(listener, router, Bounds::CONNECTIONS_MAX));
            None
        }
    }
}

fn router(admin: Admin, allowed: Allowed) -> Router {
    Router::new()
        .route("/", get(|| async { HELP }))
        .route("/ready", get(ready))
        .route("/live", get(live))
        .route("/metrics", get(metrics::metrics))
        .route("/clusters", get(clusters::clusters))
        .route("/config", get(config))
        .route("/explain", get(explain::explain))
        .route("/canary", get(canary::status))
        .route("/canary/{name}/{command}", post(canary::command))
        .route("/drain", post(drain))
        .route("/reload", post(reload))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such path; GET / lists them\n") })
        .layer(axum::middleware::from_fn(refuse_other_sites))
        .layer(axum::middleware::from_fn_with_state(allowed, hosts::refuse_other_names))
        .with_state(admin)
}

/// Refuses changes that a page of another site asks a browser for: an operator's browser reaches the loopback address, and
/// sends a POST without a body there without asking first (fetch standard, "no-cors"). It says so, in `Origin` or
/// `Sec-Fetch-Site`; programs send neither.
async fn refuse_other_sites(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let headers = request.headers();
    let is_by_page = headers.contains_key("origin")
        || headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() != b"none");
    if is_by_page && request.method() != http::Method::GET {
        let text = "changes are for programs, not for pages in a browser: use curl or the command line\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

async fn ready(Shared(admin): Shared<Admin>) -> (StatusCode, String) {
    let lifecycle = admin.state.lifecycle();
    let status = if lifecycle == Lifecycle::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", lifecycle.name()))
}

async fn live(Shared(admin): Shared<Admin>) -> (StatusCode, &'static str) {
    if admin.state.workers_are_running() || admin.state.lifecycle() != Lifecycle::Live {
        (StatusCode::OK, "LIVE\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a worker has ended; restart the process\n")
    }
}

async fn config(Shared(admin): Shared<Admin>) -> Response {
    #[derive(Serialize)]
    struct Answer<'a> {
        generation: u64,
        last_reload_error: Option<String>,
        config: &'a evenkeel_config::Config,
    }
    let config = admin.state.config.load();
    let answer = Answer {
        generation: admin.state.generation(),
        last_reload_error: admin.state.last_reload_error(),
        config: &config,
    };
    pretty(&answer)
}

async fn drain(Shared(admin): Shared<Admin>) -> (StatusCode, &'static str) {
    match admin.requests.send(Request::Drain).await {
        Ok(()) => (StatusCode::ACCEPTED, "draining\n"),
        Err(_) => (StatusCode::CONFLICT, "drained already\n"),
    }
}

async fn reload(Shared(admin): Shared<Admin>) -> Response {
    let (answer, result) = tokio::sync::oneshot::channel();
    if admin.requests.send(Request::Reload(Some(answer))).await.is_err() {
        return (StatusCode::CONFLICT, "draining: the configuration stays as it is\n").into_response();
    }
    match result.await {
        Ok(Ok(generation)) => Json(serde_json::json!({ "generation": generation })).into_response(),
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::CONFLICT, "draining: the configuration stays as it is\n").into_response(),
    }
}

/// JSON for machines that a human can read too.
fn pretty(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
