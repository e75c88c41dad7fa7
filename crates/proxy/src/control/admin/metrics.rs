//! GET /metrics.

use std::collections::BTreeMap;

use axum::extract::State as Shared;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use evenkeel_balance::Connectivity;
use evenkeel_telemetry::{BufferedSample, EndpointState, Format, Scrape, render};

use super::health::health_of;
use super::{Admin, process};

/// All metrics, in the format that the scraper prefers.
pub(super) async fn metrics(Shared(admin): Shared<Admin>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::negotiate(accept);
    let mut states: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let mut health = states.clone();
    for cluster in admin.state.clusters.load().iter() {
        let Some(set) = cluster.set() else { continue };
        for endpoint in set.endpoints() {
            let state = endpoint.connectivity().map_or(Connectivity::Idle.name(), Connectivity::name);
            *states.entry((cluster.config.name.clone(), state)).or_default() += 1;
            if cluster.health.is_some() {
                *health.entry((cluster.config.name.clone(), health_of(endpoint))).or_default() += 1;
            }
        }
    }
    let listed = |states: BTreeMap<(String, &'static str), u64>| {
        let entry = |((cluster, state), endpoints)| EndpointState { cluster, state, endpoints };
        states.into_iter().map(entry).collect()
    };
    let (endpoint_states, endpoint_health) = (listed(states), listed(health));
    // Reading /proc blocks; a task that was lost leaves its metrics out.
    let process = tokio::task::spawn_blocking(process::sample).await.ok().flatten();
    let accountant = &admin.state.accountant;
    let buffered = BufferedSample { bytes: accountant.total(), limit: accountant.limit() };
    let canaries = super::canary::samples(&admin.state);
    let scrape =
        Scrape { now: admin.state.now(), endpoint_states, endpoint_health, process, buffered, canaries };
    let text = render(admin.state.telemetry.snapshot(), scrape, format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}
