//! What calls must have in common to meet the same endpoint, and which endpoints this proxy uses.

use evenkeel_balance::{Policy, SubsetSize};

use super::leads::{Addresses, Clients};
use super::metadata::{KEY, field_name, hidden};
use super::route::report_text;
use super::value;
use crate::bounds::{self, MAX_HASH_BY};
use crate::errors::{Fault, Reports, Span, closest};
use crate::model::{Cookie, HashBy, Subset, SubsetKind};
use crate::policy::policy_name;
use crate::raw::{At, Field, List, Off, RawCluster, RawCookie, RawHashBy, RawSubset, Text};

/// Letters of a cookie's name at most: more than any has.
const MAX_COOKIE_NAME: usize = 128;

/// Letters of a cookie's path at most.
const MAX_COOKIE_PATH: usize = 256;

pub(super) fn resolve_hash_by(
    raw: &RawCluster,
    policy: Policy,
    clients: Clients,
    reports: &mut Reports,
) -> Vec<HashBy> {
    let hashes = matches!(policy, Policy::RingHash { .. } | Policy::Maglev { .. });
    let sources = raw
        .hash_by
        .given()
        .map_or_else(Vec::new, |list| resolve_sources("hash_by", list, (list.span, clients), reports));
    // An empty list is the default written out.
    let written = raw.hash_by.with_key().filter(|(_, list)| list.value.written > 0);
    match (written, raw.policy.given()) {
        (Some((key, _)), _) if !hashes && !raw.policy.is_refused() => {
            let reason = "because the policy does not hash; `ring_hash` and `maglev` do";
            reports.add(key, Fault::NoEffect { key: "hash_by", reason });
        }
        (None, Some(given)) if hashes && !raw.hash_by.is_refused() => {
            reports.add(given.span, Fault::NoHashKey { policy: policy_name(policy) });
        }
        _ => {}
    }
    sources
}

/// The sources of a list, whose key is this, for calls of such clients: what no call gets to has no effect. `owner` is the whole that
/// aliases may share.
pub(super) fn resolve_sources(
    key: &'static str,
    list: &At<List<RawHashBy>>,
    (owner, clients): (Span, Clients),
    reports: &mut Reports,
) -> Vec<HashBy> {
    let count = list.value.written;
    if count > MAX_HASH_BY {
        let what = "sources of a key";
        reports.add(list.span, Fault::TooMany { what, count, max: MAX_HASH_BY });
    }
    let mut sources: Vec<HashBy> = Vec::new();
    let mut useless = Vec::new();
    for raw in list.value.entries.iter().take(MAX_HASH_BY) {
        let source = match &raw.value {
            RawHashBy::SourceIp => Some(HashBy::SourceIp),
            RawHashBy::Metadata(name) => field_name(name, reports).map(HashBy::Metadata),
            RawHashBy::Cookie(cookie) => resolve_cookie(cookie, reports).map(HashBy::Cookie),
        };
        let Some(source) = source else { continue };
        if let Some(reason) = dead_source(&sources, &source) {
            reports.add(raw.span, Fault::NoEffect { key, reason });
        } else if let Some(fault) = useless_source(key, &sources, &source, clients) {
            useless.push((raw, fault));
        } else {
            reports.note_useful((owner, raw.span));
            sources.push(source);
        }
    }
    for (raw, fault) in useless {
        let at = match (&raw.value, &fault) {
            (RawHashBy::Metadata(name), Fault::Unmatchable { .. }) => name.span,
            _ => raw.span,
        };
        // Without any, calls would not be told apart, wherever else the list is of use.
        if sources.is_empty() {
            reports.add(at, fault);
        } else {
            reports.add_useless((owner, raw.span), at, fault);
        }
    }
    sources
}

/// Why a source behind these never decides.
fn dead_source(before: &[HashBy], source: &HashBy) -> Option<&'static str> {
    if before.last().is_some_and(HashBy::is_always_there) {
        Some("because a cookie with `ttl` stands before it, which every call has or is given")
    } else if before.contains(source) {
        Some("because the same stands before it")
    } else {
        None
    }
}

/// Why a source of this list behind these never decides for calls of such clients.
fn useless_source(key: &'static str, before: &[HashBy], source: &HashBy, clients: Clients) -> Option<Fault> {
    let no_effect = |reason| Some(Fault::NoEffect { key, reason });
    match source {
        HashBy::Metadata(name) if clients.why_hidden(name).is_some() => hidden(name, KEY, clients),
        _ if clients.addresses == Addresses::All && before.contains(&HashBy::SourceIp) => {
            no_effect("because `source_ip` stands before it, which every call over TCP has, and all come so")
        }
        HashBy::SourceIp if clients.addresses == Addresses::None => {
            no_effect("because all calls come over Unix domain sockets, where clients have no address")
        }
        _ => None,
    }
}

fn resolve_cookie(raw: &RawCookie, reports: &mut Reports) -> Option<Cookie> {
    let name = cookie_name(raw.name.given()?, reports)?;
    let ttl = raw.ttl.given().map(|_| value::duration(&raw.ttl, bounds::COOKIE_TTL, reports));
    if let (Some((key, _)), true) = (raw.path.with_key(), raw.ttl.is_absent()) {
        reports.add(key, Fault::Needs { key: "path", needed: "ttl" });
    }
    let path = match raw.path.given() {
        Some(path) => Some(cookie_path(path, reports)?),
        None => None,
    };
    Some(Cookie { name, ttl, path })
}

/// A token (RFC 6265 section 4.1.1, RFC 9110 section 5.6.2).
fn cookie_name(given: &At<Text>, reports: &mut Reports) -> Option<String> {
    let name = &given.value.0;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_COOKIE_NAME || !name.bytes().all(is_token) {
        let reason = "it has 1 to 128 letters, digits and no blanks, commas or `=`";
        report_text(given, "name of a cookie", reason, "write a name such as `session`", reports);
        return None;
    }
    Some(name.clone())
}

/// What may stand in `Path` of a cookie (RFC 6265 section 4.1.1): visible characters but `;`.
fn cookie_path(given: &At<Text>, reports: &mut Reports) -> Option<String> {
    let path = &given.value.0;
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    if !path.starts_with('/') || path.len() > MAX_COOKIE_PATH || !path.bytes().all(is_allowed) {
        let reason = "it begins with `/`, is at most 256 long, and has no blanks and no `;`";
        report_text(given, "path of a cookie", reason, "write a path such as `/`", reports);
        return None;
    }
    Some(path.clone())
}

pub(super) fn resolve_subset(raw: &Field<Off<RawSubset>>, reports: &mut Reports) -> Option<Subset> {
    let Off::On(raw) = &raw.given()?.value else { return None };
    let size = value::count(&raw.size, bounds::SUBSET_SIZE, reports);
    let client_index = value::count(&raw.client_index, bounds::SUBSET_CLIENT_INDEX, reports);
    let kind = match raw.kind.given() {
        None => SubsetKind::Random,
        Some(given) => match given.value.0.as_str() {
            "random" => SubsetKind::Random,
            "deterministic" => {
                if raw.client_index.is_absent() {
                    reports.add(given.span, Fault::Needs { key: "deterministic", needed: "client_index" });
                }
                SubsetKind::Deterministic { client_index }
            }
            name => {
                let suggestion = closest(name, SubsetKind::NAMES);
                let (kind, known) = ("kind of subset", &SubsetKind::NAMES);
                let fault = Fault::UnknownName { kind, name: name.to_owned(), suggestion, known };
                reports.add(given.span, fault);
                return None;
            }
        },
    };
    if let (SubsetKind::Random, Some((key, _))) = (kind, raw.client_index.with_key()) {
        let reason = "because a random subset does not depend on it; `kind: deterministic` does";
        reports.add(key, Fault::NoEffect { key: "client_index", reason });
    }
    Some(Subset { size: SubsetSize::try_from(size).ok()?, kind })
}
