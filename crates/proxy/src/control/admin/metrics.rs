//! GET /metrics.

use axum::extract::State as Shared;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use evenkeel_telemetry::{BufferedSample, Format, Scrape, render};

use super::gauges::{gauges, placements};
use super::retries::Uses;
use super::{Admin, process};

/// All metrics, in the format that the scraper prefers.
pub(super) async fn metrics(Shared(admin): Shared<Admin>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::negotiate(accept);
    let (now, in_force) = (admin.state.now(), admin.state.clusters.load_full());
    let config = admin.state.config.load_full();
    let of_cluster = |cluster| gauges(cluster, Uses::of(&config, &cluster.config.name), now);
    let clusters = in_force.iter().map(|cluster| &**cluster).flat_map(of_cluster).collect();
    let placements = in_force.iter().flat_map(|cluster| placements(cluster)).collect();
    // Reading /proc blocks; a task that was lost leaves its metrics out.
    let process = tokio::task::spawn_blocking(process::sample).await.ok().flatten();
    let accountant = &admin.state.accountant;
    let buffered =
        BufferedSample { bytes: accountant.total(), limit: accountant.limit(), replay: accountant.kept() };
    let canaries = super::canary::samples(&admin.state);
    let scrape = Scrape { now, clusters, process, buffered, canaries, placements };
    let text = render(admin.state.telemetry.snapshot(), scrape, format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}
