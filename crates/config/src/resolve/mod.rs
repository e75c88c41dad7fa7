//! From the configuration as written to the one that is used: defaults, bounds, and what depends on several values.
//!
//! Nothing here stops at a fault. Each function records what is wrong and returns a value that is legal but means nothing,
//! so that the rest can be checked as well; as soon as anything has been recorded, the result is thrown away.

mod affinity;
mod again;
mod canary;
mod cluster;
mod destination;
mod endpoints;
mod fault;
mod health;
mod leads;
mod limits;
mod listener;
mod loops;
mod metadata;
mod outlier;
mod paths;
mod policy;
mod reach;
mod retry;
mod rewrite;
mod route;
mod spread;
mod target;
mod value;

use core::num::NonZeroUsize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::bounds;
use crate::errors::{Fault, Reports, Span};
use crate::listen::ListenAddress;
use crate::lists::Lists;
use crate::model::{AccessLog, Admin, Config, DEFAULT_ADMIN_PORT, Drain, Listener, Overload, Replay};
use crate::raw::{Field, List, Off, RawAdmin, RawConfig, RawDrain, RawOverload, RawReplay, Text};
use crate::units::format_size;

pub(crate) use endpoints::resolve_endpoints;
pub(crate) use fault::STATUS_NAMES;
pub(crate) use target::written_targets;

/// Resolves a configuration, along with the endpoint lists that somebody read. The result counts only if nothing was reported.
pub(crate) fn resolve(raw: &RawConfig, lists: &Lists, reports: &mut Reports) -> Config {
    let node = spread::resolve_node(&raw.node, reports);
    let leads = leads::Leads::of(raw);
    let around = cluster::Around { node: &raw.node, leads: &leads, lists };
    let (clusters, names) = cluster::resolve_clusters(&raw.clusters, around, reports);
    let listeners = listener::resolve_listeners(&raw.listeners, &names, reports);
    canary::check_names(&raw.listeners, reports);
    loops::check(&raw.clusters, &listeners, lists, reports);
    target::check_priorities(&raw.clusters, lists, reports);
    let admin = resolve_admin(&raw.admin, &listeners, reports);
    let access_log = resolve_access_log(&raw.access_log, reports);
    let state_file = canary::resolve_state_file(&raw.state_file, reports);
    paths::check(raw, &listeners, &state_file, access_log.as_ref(), reports);
    let replay = resolve_replay(&raw.replay, reports);
    again::check(raw, &replay, reports);
    let workers = raw.workers.given().map(|_| value::count(&raw.workers, bounds::WORKERS, reports));
    Config {
        listeners: listeners.into_iter().map(|(_, listener)| listener).collect(),
        clusters,
        admin,
        node,
        workers: workers.and_then(|count| NonZeroUsize::new(count as usize)),
        access_log,
        state_file,
        drain: resolve_drain(&raw.drain, reports),
        overload: resolve_overload(&raw.overload, reports),
        replay,
    }
}

fn resolve_admin(
    raw: &Field<Off<RawAdmin>>,
    listeners: &[(Span, Listener)],
    reports: &mut Reports,
) -> Option<Admin> {
    let default = || ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_ADMIN_PORT)));
    let mut hosts = Vec::new();
    let (address, span) = match raw {
        Field::Refused => return None,
        Field::Absent => (default(), None),
        Field::Given { value, .. } => match &value.value {
            Off::Off => return None,
            Off::On(admin) => {
                hosts = resolve_hosts(&admin.hosts, reports);
                let given = admin.address.given()?;
                if let (Some((key, _)), ListenAddress::Unix(_), false) =
                    (admin.hosts.with_key(), &given.value, hosts.is_empty())
                {
                    let reason = "on a Unix domain socket, where any name will do";
                    reports.add(key, Fault::NoEffect { key: "hosts", reason });
                }
                (given.value.clone(), Some(given.span))
            }
        },
    };
    for (at, listener) in listeners.iter().filter(|(_, listener)| listener.address.conflicts_with(&address)) {
        match span {
            Some(span) => {
                let by = "a listener";
                let fault = taken(&address, by, &listener.address);
                reports.add_related(span, fault, *at);
            }
            // Nothing is written about the admin interface: the listener is all there is to point at.
            None => reports.add(*at, taken(&listener.address, "the admin interface, by default,", &address)),
        }
    }
    Some(Admin { address, hosts })
}

fn resolve_hosts(raw: &Field<List<Text>>, reports: &mut Reports) -> Vec<String> {
    let Some(list) = raw.given() else { return Vec::new() };
    if list.value.written > bounds::MAX_ADMIN_HOSTS {
        let (count, max) = (list.value.written, bounds::MAX_ADMIN_HOSTS);
        reports.add(list.span, Fault::TooMany { what: "names", count, max });
    }
    let is_host = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    for name in list.value.entries.iter().filter(|name| !is_host(&name.value.0)) {
        let help = "write a host name alone, without scheme, port and wildcard";
        route::report_text(name, "host", "it is no host name", help, reports);
    }
    list.value.entries.iter().map(|name| name.value.0.to_ascii_lowercase()).collect()
}

fn taken(address: &ListenAddress, by: &'static str, other: &ListenAddress) -> Fault {
    Fault::AddressTaken { address: address.to_string(), by, other: other.to_string() }
}

fn resolve_access_log(raw: &Field<Text>, reports: &mut Reports) -> Option<AccessLog> {
    const WORDS: [&str; 2] = ["off", "stdout"];
    let given = raw.given()?;
    match given.value.0.as_str() {
        "off" => None,
        "stdout" => Some(AccessLog::Stdout),
        path if path.contains('/') && !path.ends_with('/') && !path.chars().any(char::is_control) => {
            Some(AccessLog::File(PathBuf::from(path)))
        }
        other => {
            let suggestion = crate::errors::closest(other, WORDS);
            let known = &["off", "stdout", "a path with a `/` in it"];
            let fault = Fault::UnknownName { kind: "access log", name: other.to_owned(), suggestion, known };
            reports.add(given.span, fault);
            None
        }
    }
}

fn resolve_drain(raw: &Field<RawDrain>, reports: &mut Reports) -> Drain {
    let unset = RawDrain::default();
    let raw = raw.given().map_or(&unset, |drain| &drain.value);
    let grace = value::duration(&raw.grace, bounds::DRAIN_GRACE, reports);
    let spread = match raw.spread {
        Field::Absent => bounds::DRAIN_SPREAD.default.min(grace / 4),
        _ => value::duration(&raw.spread, bounds::DRAIN_SPREAD, reports),
    };
    if !raw.grace.is_refused() {
        value::not_above((&raw.spread, spread), ("grace", grace), reports);
    }
    Drain { pre_drain: value::duration(&raw.pre_drain, bounds::DRAIN_PRE_DRAIN, reports), spread, grace }
}

fn resolve_overload(raw: &Field<RawOverload>, reports: &mut Reports) -> Overload {
    let unset = RawOverload::default();
    let raw = raw.given().map_or(&unset, |overload| &overload.value);
    Overload { memory: value::memory(&raw.memory, reports) }
}

fn resolve_replay(raw: &Field<RawReplay>, reports: &mut Reports) -> Replay {
    let unset = RawReplay::default();
    let raw = raw.given().map_or(&unset, |replay| &replay.value);
    let per_call = value::size(&raw.per_call, bounds::REPLAY_PER_CALL, reports);
    let per_process = value::size(&raw.per_process, bounds::REPLAY_PER_PROCESS, reports);
    if let Some(given) = raw.per_call.given().filter(|_| per_call > per_process) {
        let (call, process) = (format_size(per_call.into()), format_size(per_process.into()));
        reports.add(given.span, value::disordered(call, "above", "per_process", process));
    }
    Replay { per_call, per_process }
}
