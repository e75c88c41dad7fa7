//! Changes of metadata: their names and values, and whether they contradict each other.

use std::collections::HashMap;

use super::listener::check_length;
use super::metadata::{name_fault, value_fault};
use super::route::report_text;
use crate::bounds::{MAX_CHANGED_FIELDS, MAX_CHANGED_VALUE_BYTES};
use crate::errors::{Fault, Reports, Span};
use crate::model::{MetadataChange, MetadataField};
use crate::raw::{At, Field, Fields, List, RawMetadataChange, Text};

/// Names that belong to HTTP/2, to gRPC or to this connection: to change one breaks calls, or says something false about
/// them (RFC 9113 section 8.2.2, and gRPC's PROTOCOL-HTTP2). Names that begin with `grpc-` are gRPC's own as well.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What is changed; `key` is the key under which it is written.
pub(super) fn resolve_change(
    key: &'static str,
    raw: &Field<RawMetadataChange>,
    reports: &mut Reports,
) -> MetadataChange {
    let Some((key_at, At { value: raw, is_whole, .. })) = raw.with_key() else {
        return MetadataChange::default();
    };
    if *is_whole && raw.add.is_absent() && raw.set.is_absent() && raw.remove.is_absent() {
        reports.add(key_at, Fault::NoEffect { key, reason: "without `add`, `set` or `remove`" });
    }
    let mut names = Names::default();
    MetadataChange {
        add: fields("add", &raw.add, &mut names, reports),
        set: fields("set", &raw.set, &mut names, reports),
        remove: removed(&raw.remove, &mut names, reports),
    }
}

/// The names so far, where each stands and in which list.
#[derive(Default)]
struct Names(HashMap<String, (Span, &'static str)>);

impl Names {
    /// A name that stands nowhere else, in lower case.
    fn take(&mut self, list: &'static str, name: &At<Text>, reports: &mut Reports) -> Option<String> {
        let text = name.value.0.to_ascii_lowercase();
        let fault = name_fault(&text).or_else(|| {
            let reserved = RESERVED.contains(&text.as_str()) || text.starts_with("grpc-");
            reserved.then_some(("it belongs to gRPC or HTTP/2", "change metadata of the application only"))
        });
        if let Some((reason, help)) = fault {
            report_text(name, "metadata to change", reason, help, reports);
            return None;
        }
        if let Some((earlier, other)) = self.0.insert(text.clone(), (name.span, list)) {
            reports.add_related(name.span, Fault::RepeatedField { name: text, other }, earlier);
            return None;
        }
        Some(text)
    }
}

fn fields(
    list: &'static str,
    raw: &Field<Fields>,
    names: &mut Names,
    reports: &mut Reports,
) -> Vec<MetadataField> {
    let Some(At { value: raw, span, .. }) = raw.given() else { return Vec::new() };
    if raw.written == 0 {
        reports.add(*span, Fault::EmptyList { help: "add a field: `x-tag: blue`" });
    }
    if raw.written > MAX_CHANGED_FIELDS {
        let fault = Fault::TooMany { what: "fields", count: raw.written, max: MAX_CHANGED_FIELDS };
        reports.add(*span, fault);
    }
    let mut found = Vec::new();
    for (name, value) in raw.entries.iter().take(MAX_CHANGED_FIELDS) {
        let Some(name) = names.take(list, name, reports) else { continue };
        if let Some((reason, help)) = changed_value_fault(&name, &value.value.0) {
            report_text(value, "value of a field", reason, help, reports);
            continue;
        }
        found.push(MetadataField { name, value: value.value.0.clone() });
    }
    found
}

fn changed_value_fault(name: &str, value: &str) -> Option<(&'static str, &'static str)> {
    const HELP: &str = "write the value as it is sent";
    if value.len() > MAX_CHANGED_VALUE_BYTES {
        return Some(("it is too long", HELP));
    }
    if name.ends_with("-bin") && evenkeel_grpc::check_binary_values(value.as_bytes()).is_err() {
        return Some(("values of `-bin` fields are base64", "encode the bytes as base64"));
    }
    value_fault(value).map(|reason| (reason, HELP))
}

fn removed(raw: &Field<List<Text>>, names: &mut Names, reports: &mut Reports) -> Vec<String> {
    let Some(list) = raw.given() else { return Vec::new() };
    check_length(list.as_ref(), "names", MAX_CHANGED_FIELDS, "add the name of a field: `- x-tag`", reports);
    let entries = list.value.entries.iter().take(MAX_CHANGED_FIELDS);
    entries.filter_map(|name| names.take("remove", name, reports)).collect()
}
