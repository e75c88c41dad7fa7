//! Files that the proxy writes, which must be nothing else: the one would overwrite the other.

use std::path::Path;

use crate::errors::{Fault, Reports, Span};
use crate::listen::ListenAddress;
use crate::model::{AccessLog, Listener, StateFile};
use crate::raw::{At, Off, RawConfig};
use crate::target::Target;

/// A path of the configuration: where it stands, and what it is.
type Known<'a> = (Span, &'a Path, &'static str);

/// Reports a state file or an access log that is another file or socket of the configuration, too. Beside the configuration file
/// nothing is known of the state's path.
pub(super) fn check(
    raw: &RawConfig,
    listeners: &[(Span, Listener)],
    state_file: &StateFile,
    access_log: Option<&AccessLog>,
    reports: &mut Reports,
) {
    let mut known = others(raw, listeners);
    if let (Some(given), Some(AccessLog::File(path))) = (raw.access_log.given(), access_log) {
        let log: Known<'_> = (given.span, path, "the access log");
        check_one(log, &known, reports);
        known.push(log);
    }
    if let (Some(given), StateFile::At(path)) = (raw.state_file.given(), state_file) {
        check_one((given.span, path, "the state file"), &known, reports);
    }
}

fn check_one((at, path, what): Known<'_>, known: &[Known<'_>], reports: &mut Reports) {
    if let Some((related, _, other)) = known.iter().find(|(_, known, _)| *known == path) {
        let fault = Fault::SamePath { path: path.display().to_string(), what, other };
        reports.add_related(at, fault, *related);
    }
}

/// The paths that are read from or listened on.
fn others<'a>(raw: &'a RawConfig, listeners: &'a [(Span, Listener)]) -> Vec<Known<'a>> {
    let mut known: Vec<Known<'a>> = Vec::new();
    let mut socket = |at: Span, address: &'a ListenAddress, what| {
        if let ListenAddress::Unix(path) = address {
            known.push((at, path, what));
        }
    };
    for (at, listener) in listeners {
        socket(*at, &listener.address, "a listener's socket");
    }
    if let Some(At { value: Off::On(admin), .. }) = raw.admin.given()
        && let Some(address) = admin.address.given()
    {
        socket(address.span, &address.value, "the admin interface's socket");
    }
    for cluster in raw.clusters.given().into_iter().flat_map(|list| &list.value.entries) {
        for (at, target, _) in super::target::written_targets(&cluster.value) {
            match target {
                Target::File(path) => known.push((at, path, "an endpoint list")),
                Target::Unix(path) => known.push((at, path, "an endpoint's socket")),
                Target::Dns { .. } | Target::Srv { .. } | Target::Ip(_) => {}
            }
        }
    }
    known
}
