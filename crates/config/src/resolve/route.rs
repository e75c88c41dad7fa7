//! Routes: their conditions, their clusters, and whether a call can reach them.

use core::time::Duration;

use super::cluster::ClusterNames;
use super::leads::Clients;
use super::listener::check_length;
use super::reach::Reach;
use super::value;
use super::{destination, fault, limits, metadata, rewrite};
use crate::bounds::{self, MAX_AUTHORITIES, MAX_ROUTES};
use crate::errors::{Fault, Reports};
use crate::model::{PathMatch, Route, RouteMatch, may_begin_with, may_have_two_slashes};
use crate::raw::{At, Field, List, OneOrMany, RawDuration, RawMatch, RawRoute, Text};

pub(super) fn resolve_routes(
    raw: &Field<List<RawRoute>>,
    clusters: &ClusterNames,
    clients: Clients,
    reports: &mut Reports,
) -> Vec<Route> {
    let Some(list) = raw.given() else { return Vec::new() };
    let help = "add a route: `- cluster: orders` takes all calls";
    check_length(list.as_ref(), "routes", MAX_ROUTES, help, reports);
    let mut reach = Reach::default();
    let mut routes = Vec::new();
    let mut unmet = Vec::new();
    for route in list.value.entries.iter().take(MAX_ROUTES) {
        let hidden = metadata::hidden_conditions(&route.value.r#match, clients);
        // Of a route that takes no calls here, nothing else is concluded from the clients.
        let clients = if hidden.is_empty() { clients } else { Clients::ANY };
        let (timeout, max_stream_duration, stream_idle_timeout) = resolve_times(&route.value, reports);
        let destination = destination::resolve_destination(route, clusters, clients, reports);
        let retry = super::retry::resolve_retry(&route.value, timeout, reports);
        let hedge = super::retry::resolve_hedge(&route.value, timeout, reports);
        let mirror = fault::resolve_mirror(&route.value.mirror, destination.as_ref(), clusters, reports);
        let fault = fault::resolve_fault(&route.value.fault, reports);
        let rate_limit = limits::resolve_rate_limit(&route.value.rate_limit, (route.span, clients), reports);
        let mut change = |key, field| rewrite::resolve_change(key, field, reports);
        let request_metadata = change("request_metadata", &route.value.request_metadata);
        let response_metadata = change("response_metadata", &route.value.response_metadata);
        let response_trailers = change("response_trailers", &route.value.response_trailers);
        let matched = resolve_match(&route.value.r#match, reports);
        // A misspelt condition would make the route look as if it took every call.
        let Some(matched) = matched.filter(|_| route.is_whole) else { continue };
        if !hidden.is_empty() {
            unmet.extend(hidden.into_iter().map(|(at, fault)| (route.span, at, fault)));
            continue;
        }
        reports.note_useful((route.span, route.span));
        if let Some((earlier, is_mutual)) = reach.add(route.span, &matched) {
            reports.add_related(route.span, Fault::UnreachableRoute { is_mutual }, earlier);
        }
        routes.extend(destination.map(|destination| Route {
            conditions: matched,
            destination,
            retry,
            hedge,
            timeout,
            max_stream_duration,
            stream_idle_timeout,
            mirror,
            fault,
            rate_limit,
            request_metadata,
            response_metadata,
            response_trailers,
        }));
    }
    for (route, at, fault) in unmet {
        // A table may be shared with a listener that has use for the route; but each must have some of its own.
        if routes.is_empty() {
            reports.add(at, fault);
        } else {
            reports.add_useless((route, route), at, fault);
        }
    }
    routes
}

/// `timeout`, `max_stream_duration` and `stream_idle_timeout`: each ends a call by itself, so one that is longer than
/// another would never do so. A stream's duration is shortened at random, so it may be as long as `timeout`; its silence may not.
fn resolve_times(
    route: &RawRoute,
    reports: &mut Reports,
) -> (Option<Duration>, Option<Duration>, Option<Duration>) {
    let mut time =
        |field: &Field<RawDuration>, bounds| field.given().map(|_| value::duration(field, bounds, reports));
    let timeout = time(&route.timeout, bounds::ROUTE_TIMEOUT);
    let duration = time(&route.max_stream_duration, bounds::STREAM_DURATION);
    let idle = time(&route.stream_idle_timeout, bounds::STREAM_IDLE_TIMEOUT);
    if let (Some(idle), Some(timeout)) = (idle, timeout) {
        value::is_below((&route.stream_idle_timeout, idle), ("timeout", timeout), reports);
    }
    for (field, given, other, limit) in [
        (&route.max_stream_duration, duration, "timeout", timeout),
        (&route.stream_idle_timeout, idle, "max_stream_duration", duration),
    ] {
        if let (Some(given), Some(limit)) = (given, limit) {
            value::not_above((field, given), (other, limit), reports);
        }
    }
    (timeout, duration, idle)
}

/// The conditions; `None` if they are at fault, so that nothing is concluded from them.
fn resolve_match(raw: &Field<RawMatch>, reports: &mut Reports) -> Option<RouteMatch> {
    match raw {
        Field::Absent => Some(RouteMatch::default()),
        Field::Refused => None,
        Field::Given { value: At { value, .. }, .. } => {
            let authorities = resolve_authorities(&value.authority, reports);
            let path = resolve_path(value, reports);
            let metadata = metadata::resolve_metadata(&value.metadata, reports);
            Some(RouteMatch { authorities: authorities?, path: path?, metadata: metadata? })
        }
    }
}

fn resolve_authorities(raw: &Field<OneOrMany<Text>>, reports: &mut Reports) -> Option<Vec<String>> {
    let given = match raw {
        Field::Absent => return Some(Vec::new()),
        Field::Refused => return None,
        Field::Given { value, .. } => value,
    };
    let list = At { value: &given.value.0, span: given.span, is_whole: given.is_whole };
    let help = "add an authority, or remove the key to match any";
    check_length(list, "authorities", MAX_AUTHORITIES, help, reports);
    let mut authorities: Vec<String> = Vec::new();
    for authority in list.value.entries.iter().take(MAX_AUTHORITIES) {
        if let Err((reason, help)) = check_authority(&authority.value.0) {
            report_text(authority, "authority", reason, help, reports);
            continue;
        }
        let name = authority.value.0.to_ascii_lowercase();
        if authorities.iter().any(|known| *known == name || known == RouteMatch::without_port(&name)) {
            let reason = "because one before it takes all its calls";
            reports.add(authority.span, Fault::NoEffect { key: "authority", reason });
        }
        authorities.push(name);
    }
    (!authorities.is_empty() && authorities.len() == list.value.written).then_some(authorities)
}

pub(super) fn report_text(
    text: &At<Text>,
    kind: &'static str,
    reason: &'static str,
    help: impl Into<String>,
    reports: &mut Reports,
) {
    let fault = Fault::Unmatchable { text: text.value.0.clone(), kind, reason, help: help.into() };
    reports.add(text.span, fault);
}

fn check_authority(text: &str) -> Result<(), (&'static str, &'static str)> {
    if text.is_empty() {
        return Err(("it is empty", "write a host, or remove the key to match any"));
    }
    if text.contains('*') {
        return Err(("wildcards are not known", "list the authorities, or remove the key to match any"));
    }
    if text.contains('/') {
        return Err(("it has a `/` in it", "write the host alone, without scheme and path"));
    }
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'?' | b'#' | b'\\' | b',');
    if !text.bytes().all(allowed) {
        return Err(("it has a character that no authority can have", "write `host` or `host:port`"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
    if !is_host || !port.is_none_or(is_port) {
        return Err(("it is no host with a port", "write `host` or `host:port`, IPv6 addresses in brackets"));
    }
    Ok(())
}

fn resolve_path(raw: &RawMatch, reports: &mut Reports) -> Option<PathMatch> {
    let exclusive = [
        ("service", &raw.service, "service_prefix", &raw.service_prefix),
        ("service_prefix", &raw.service_prefix, "method", &raw.method),
        ("service_prefix", &raw.service_prefix, "method_prefix", &raw.method_prefix),
        ("method", &raw.method, "method_prefix", &raw.method_prefix),
        ("service", &raw.service, "path_prefix", &raw.path_prefix),
        ("service_prefix", &raw.service_prefix, "path_prefix", &raw.path_prefix),
        ("service", &raw.service, "path_regex", &raw.path_regex),
        ("service_prefix", &raw.service_prefix, "path_regex", &raw.path_regex),
        ("path_prefix", &raw.path_prefix, "path_regex", &raw.path_regex),
    ];
    let mut sound = true;
    for (other, first, key, second) in exclusive {
        if let (Some(_), Some((at, _))) = (first.with_key(), second.with_key()) {
            reports.add(at, Fault::Exclusive { key, other });
            sound = false;
        }
    }
    for (key, field) in [("method", &raw.method), ("method_prefix", &raw.method_prefix)] {
        if let (Some((at, _)), true) =
            (field.with_key(), raw.service.is_absent() && raw.service_prefix.is_absent())
        {
            reports.add(at, Fault::Needs { key, needed: "service" });
            sound = false;
        }
    }
    let service = part(&raw.service, "service", reports);
    let service_prefix = part(&raw.service_prefix, "service", reports);
    let method = part(&raw.method, "method", reports);
    let method_prefix = part(&raw.method_prefix, "method", reports);
    let path_prefix = resolve_path_prefix(&raw.path_prefix, reports);
    if !sound {
        return None;
    }
    match &raw.path_regex {
        Field::Absent => {}
        Field::Refused => return None,
        Field::Given { value, .. } => return path_regex(value, reports),
    }
    Some(match (service?, service_prefix?, method?, method_prefix?, path_prefix?) {
        (Some(service), _, Some(method), ..) => PathMatch::Method { service, method },
        (Some(service), _, _, Some(prefix), _) => PathMatch::MethodPrefix { service, prefix },
        (Some(service), ..) => PathMatch::Service(service),
        (None, Some(prefix), ..) => PathMatch::ServicePrefix(prefix),
        (.., Some(path)) => path,
        _ => PathMatch::Any,
    })
}

/// A part of a path, `Some(None)` if the key is not there; `None` if it is at fault.
#[expect(
    clippy::option_option,
    reason = "absent and at fault are two things, and the second has been reported"
)]
fn part(field: &Field<Text>, kind: &'static str, reports: &mut Reports) -> Option<Option<String>> {
    let given = match field {
        Field::Absent => return Some(None),
        Field::Refused => return None,
        Field::Given { value, .. } => value,
    };
    let text = &given.value.0;
    if let Some((service, method)) = text.trim_matches('/').split_once('/') {
        let help = format!("write `service: {service}` and `method: {method}`");
        report_text(given, kind, "it is a path", help, reports);
        return None;
    }
    match check_part(text) {
        Ok(()) => Some(Some(text.clone())),
        Err(reason) => {
            report_text(given, kind, reason, "write the name as in the .proto file", reports);
            None
        }
    }
}

/// What can stand between the slashes of a path that the proxy accepts.
fn check_part(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.contains('/') {
        return Err("it has a `/` in it");
    }
    if text == "." || text == ".." {
        return Err("paths with dot segments are refused");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'?' | b'#' | b'\\')) {
        return Err("it has a character that no path can have");
    }
    Ok(())
}

fn path_regex(given: &At<Text>, reports: &mut Reports) -> Option<PathMatch> {
    let pattern = metadata::expression(given, reports)?;
    if !may_begin_with(&pattern, b'/') {
        let help = r"write for example `/ecommerce\..*/Get.*`: it describes all of `/service/method`";
        report_text(given, "path", "no path begins so", help, reports);
        return None;
    }
    if !may_have_two_slashes(&pattern) {
        let help = "a path is `/package.Service/Method`; use `path_prefix` for how it begins";
        report_text(given, "path", "no path has as many slashes", help, reports);
        return None;
    }
    Some(PathMatch::Regex(pattern))
}

#[expect(
    clippy::option_option,
    reason = "absent and at fault are two things, and the second has been reported"
)]
fn resolve_path_prefix(field: &Field<Text>, reports: &mut Reports) -> Option<Option<PathMatch>> {
    let given = match field {
        Field::Absent => return Some(None),
        Field::Refused => return None,
        Field::Given { value, .. } => value,
    };
    match path_prefix(&given.value.0) {
        Ok(path) => Some(Some(path)),
        Err(reason) => {
            let help = "write for example `/ecommerce.` or `/ecommerce.orders.OrderService/Get`";
            report_text(given, "path", reason, help, reports);
            None
        }
    }
}

/// The condition on service and method that a prefix of their path amounts to.
fn path_prefix(text: &str) -> Result<PathMatch, &'static str> {
    let Some(path) = text.strip_prefix('/') else { return Err("it does not begin with `/`") };
    if path.is_empty() {
        return Ok(PathMatch::Any);
    }
    let Some((service, method)) = path.split_once('/') else {
        return check_part(path).map(|()| PathMatch::ServicePrefix(path.to_owned()));
    };
    if service.is_empty() {
        return Err("its service is empty");
    }
    check_part(service)?;
    if method.is_empty() {
        return Ok(PathMatch::Service(service.to_owned()));
    }
    check_part(method)?;
    Ok(PathMatch::MethodPrefix { service: service.to_owned(), prefix: method.to_owned() })
}
