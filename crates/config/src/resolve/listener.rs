//! Listeners: their addresses, limits and tables of routes.

use super::cluster::ClusterNames;
use super::leads::Clients;
use super::{route, taken, value};
use crate::bounds::{self, MAX_LISTENERS};
use crate::errors::{Fault, Reports, Span, closest};
use crate::model::{BinaryValues, Forwarded, Limits, Listener, MetadataRules, NamesWithUnderscore, Profile};
use crate::raw::{
    At, Field, List, Off, RawDuration, RawLimitValues, RawLimits, RawListener, RawMetadataRules, Text,
};
use crate::units::format_size;

/// The listeners, each with the place of its address.
pub(super) fn resolve_listeners(
    raw: &Field<List<RawListener>>,
    clusters: &ClusterNames,
    reports: &mut Reports,
) -> Vec<(Span, Listener)> {
    let mut listeners: Vec<(Span, Listener)> = Vec::new();
    let Some(list) = raw.given() else { return listeners };
    let help = "add a listener: `- {address: \"0.0.0.0:50051\", routes: [{cluster: orders}]}`";
    check_length(list.as_ref(), "listeners", MAX_LISTENERS, help, reports);
    for listener in list.value.entries.iter().take(MAX_LISTENERS).map(|entry| &entry.value) {
        let routes = route::resolve_routes(&listener.routes, clusters, Clients::of(listener), reports);
        let limits = resolve_limits(&listener.limits, reports);
        let metadata = resolve_metadata(&listener.metadata, limits.profile, reports);
        let Some(address) = listener.address.given() else { continue };
        let earlier = listeners.iter().find(|(_, other)| other.address.conflicts_with(&address.value));
        if let Some((at, other)) = earlier {
            let fault = taken(&address.value, "another listener", &other.address);
            reports.add_related(address.span, fault, *at);
        }
        listeners.push((address.span, Listener { address: address.value.clone(), limits, metadata, routes }));
    }
    listeners
}

/// What a listener does about its clients' metadata; `None` if that is not known, as a key is at fault.
pub(super) fn metadata_rules(raw: &RawListener) -> Option<MetadataRules> {
    // What is at fault is reported with the listener itself.
    let mut reports = Reports::default();
    let profile = resolve_limits(&raw.limits, &mut reports).profile;
    let rules = resolve_metadata(&raw.metadata, profile, &mut reports);
    let is_known = reports.is_empty() && !raw.limits.is_refused() && !raw.metadata.is_refused();
    is_known.then_some(rules)
}

/// Reports a list that is empty or too long.
pub(super) fn check_length<T>(
    At { value: list, span, .. }: At<&List<T>>,
    what: &'static str,
    max: usize,
    help: &'static str,
    reports: &mut Reports,
) {
    let count = list.written;
    if count == 0 {
        reports.add(span, Fault::EmptyList { help });
    }
    if count > max {
        reports.add(span, Fault::TooMany { what, count, max });
    }
}

fn resolve_limits(raw: &Field<RawLimits>, reports: &mut Reports) -> Limits {
    match raw.given() {
        None => Limits::of(Profile::default()),
        Some(At { value: RawLimits::Profile(name), span, .. }) => {
            Limits::of(resolve_profile(&name.0, *span, reports))
        }
        Some(At { value: RawLimits::Values(values), .. }) => resolve_values(values, reports),
    }
}

fn resolve_profile(name: &str, at: Span, reports: &mut Reports) -> Profile {
    Profile::from_name(name).unwrap_or_else(|| {
        report_unknown("profile", name, &Profile::NAMES, at, reports);
        Profile::default()
    })
}

fn report_unknown(
    kind: &'static str,
    name: &str,
    known: &'static [&'static str],
    at: Span,
    reports: &mut Reports,
) {
    let suggestion = closest(name, known.iter().copied());
    reports.add(at, Fault::UnknownName { kind, name: name.to_owned(), suggestion, known });
}

fn resolve_metadata(raw: &Field<RawMetadataRules>, profile: Profile, reports: &mut Reports) -> MetadataRules {
    let default = MetadataRules::of(profile);
    let Some(At { value: raw, .. }) = raw.given() else { return default };
    let forwarded = word(&raw.forwarded, Forwarded::from_name, Forwarded::NAMES, reports);
    let underscore =
        word(&raw.names_with_underscore, NamesWithUnderscore::from_name, NamesWithUnderscore::NAMES, reports);
    let binary = word(&raw.binary_values, BinaryValues::from_name, BinaryValues::NAMES, reports);
    MetadataRules {
        forwarded: forwarded.unwrap_or(default.forwarded),
        names_with_underscore: underscore.unwrap_or(default.names_with_underscore),
        binary_values: binary.unwrap_or(default.binary_values),
    }
}

/// The choice that a word names; `None` if there is none, or if it is unknown, which is reported.
fn word<T>(
    field: &Field<Text>,
    from_name: impl Fn(&str) -> Option<T>,
    known: &'static [&'static str],
    reports: &mut Reports,
) -> Option<T> {
    let given = field.given()?;
    let found = from_name(&given.value.0);
    if found.is_none() {
        report_unknown("choice", &given.value.0, known, given.span, reports);
    }
    found
}

fn resolve_values(raw: &RawLimitValues, reports: &mut Reports) -> Limits {
    let name: Option<&At<Text>> = raw.profile.given();
    let profile = name.map_or(Profile::default(), |name| resolve_profile(&name.value.0, name.span, reports));
    let stream_window =
        value::size(&raw.initial_stream_window_size, bounds::INITIAL_STREAM_WINDOW_SIZE, reports);
    let connection_window =
        value::size(&raw.initial_connection_window_size, bounds::INITIAL_CONNECTION_WINDOW_SIZE, reports);
    check_windows(raw, stream_window, connection_window, reports);
    let max_header_list_size = value::size(&raw.max_header_list_size, bounds::MAX_HEADER_LIST_SIZE, reports);
    let field_size = bounds::MAX_HEADER_FIELD_SIZE;
    let max_header_field_size = match raw.max_header_field_size {
        Field::Absent => field_size.default.min(max_header_list_size),
        _ => value::size(&raw.max_header_field_size, field_size, reports),
    };
    if let Some(given) =
        raw.max_header_field_size.given().filter(|_| max_header_field_size > max_header_list_size)
    {
        // No field could be so large.
        let (field, list) =
            (format_size(max_header_field_size.into()), format_size(max_header_list_size.into()));
        reports.add(given.span, value::disordered(field, "above", "max_header_list_size", list));
    }
    let or_off = |field: &Field<Off<RawDuration>>, bounds, default, reports: &mut Reports| match field.given()
    {
        None => default,
        Some(At { value: Off::Off, .. }) => None,
        Some(At { value: Off::On(duration), span, .. }) => {
            Some(value::bounded_duration(duration, *span, bounds, reports))
        }
    };
    let age = or_off(&raw.max_connection_age, bounds::MAX_CONNECTION_AGE, None, reports);
    let grace = or_off(&raw.max_connection_age_grace, bounds::MAX_CONNECTION_AGE_GRACE, None, reports);
    if let (Some((key, _)), Some(_), None) = (raw.max_connection_age_grace.with_key(), grace, age)
        && !raw.max_connection_age.is_refused()
    {
        reports.add(key, Fault::Needs { key: "max_connection_age_grace", needed: "max_connection_age" });
    }
    Limits {
        profile,
        max_concurrent_streams: value::count(
            &raw.max_concurrent_streams,
            profile.max_concurrent_streams(),
            reports,
        ),
        initial_stream_window_size: stream_window,
        initial_connection_window_size: connection_window,
        max_header_list_size,
        max_headers_count: value::count(&raw.max_headers_count, bounds::MAX_HEADERS_COUNT, reports),
        max_header_field_size,
        idle_timeout: or_off(&raw.idle_timeout, bounds::IDLE_TIMEOUT, profile.idle_timeout(), reports),
        max_connection_age: age,
        max_connection_age_grace: grace,
        stall_timeout: value::duration(&raw.stall_timeout, bounds::STALL_TIMEOUT, reports),
        max_connections_per_worker: value::count(
            &raw.max_connections_per_worker,
            bounds::MAX_CONNECTIONS_PER_WORKER,
            reports,
        ),
    }
}

/// One stream must be able to use its whole window: reports a stream's window above the connection's.
fn check_windows(raw: &RawLimitValues, stream: u32, connection: u32, reports: &mut Reports) {
    if stream <= connection || raw.initial_connection_window_size.is_refused() {
        return;
    }
    let (stream, connection) = (format_size(stream.into()), format_size(connection.into()));
    if let Some(given) = raw.initial_stream_window_size.given() {
        let other = "initial_connection_window_size";
        reports.add(given.span, value::disordered(stream, "above", other, connection));
    }
}
