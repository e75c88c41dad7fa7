//! Conditions on metadata, and names of its fields.

use evenkeel_grpc::ContentType;

use super::leads::Clients;
use super::listener::check_length;
use super::route::report_text;
use crate::bounds::MAX_METADATA_MATCHES;
use crate::errors::{Fault, Reports, Span};
use crate::model::{MAX_REGEX_BYTES, MetadataMatch, ValueMatch, whole_regex};
use crate::raw::{At, Field, List, RawMatch, RawMetadataMatch, Text};
use crate::units::format_size;

/// Bytes of a field's name or of text that is compared with its value.
const MAX_TEXT_BYTES: usize = 4096;

/// Fields that no call has: they belong to HTTP/1 connections (RFC 9113 section 8.2.2).
const FORBIDDEN: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// The conditions; `None` if one is at fault, so that nothing is concluded from the others.
pub(super) fn resolve_metadata(
    raw: &Field<List<RawMetadataMatch>>,
    reports: &mut Reports,
) -> Option<Vec<MetadataMatch>> {
    let given = match raw {
        Field::Absent => return Some(Vec::new()),
        Field::Refused => return None,
        Field::Given { value, .. } => value,
    };
    let help = "add a condition: `- {name: x-user, exact: anna}`";
    check_length(given.as_ref(), "conditions on metadata", MAX_METADATA_MATCHES, help, reports);
    let entries = given.value.entries.iter().take(MAX_METADATA_MATCHES);
    let mut conditions: Vec<(Span, MetadataMatch)> = Vec::new();
    for entry in entries {
        let Some(condition) = resolve_one(entry, reports) else { continue };
        if is_at_odds(&conditions, entry.span, &condition, reports) {
            continue;
        }
        conditions.push((entry.span, condition));
    }
    let is_whole = !conditions.is_empty() && conditions.len() == given.value.written;
    is_whole.then(|| conditions.into_iter().map(|(_, condition)| condition).collect())
}

/// The conditions, with their places, that no call of such clients meets, as its field is hidden. That a field is not there is met by all
/// of them, which does no harm.
pub(super) fn hidden_conditions(raw: &Field<RawMatch>, clients: Clients) -> Vec<(Span, Fault)> {
    let entries = raw.given().and_then(|given| given.value.metadata.given());
    let entries = entries.into_iter().flat_map(|list| &list.value.entries);
    let unmet = |raw: &At<RawMetadataMatch>| {
        let RawMetadataMatch { name, present, invert, .. } = &raw.value;
        let is_inverted = invert.given().is_some_and(|flag| flag.value.0);
        let is_for_absence = is_inverted != present.given().is_some_and(|flag| !flag.value.0);
        let name = name.given().filter(|_| !is_for_absence)?;
        let fault = hidden(&name.value.0.to_ascii_lowercase(), "condition", clients)?;
        Some((name.span, fault))
    };
    entries.filter_map(unmet).collect()
}

/// Whether no call meets a condition together with one before it, or each call that meets the others meets it; that is reported.
fn is_at_odds(
    before: &[(Span, MetadataMatch)],
    at: Span,
    condition: &MetadataMatch,
    reports: &mut Reports,
) -> bool {
    if let Some((earlier, _)) = before.iter().find(|(_, earlier)| earlier.excludes(condition)) {
        reports.add_related(at, Fault::Contradiction { name: condition.name.clone() }, *earlier);
        return true;
    }
    let Some((earlier, _)) = before.iter().find(|(_, earlier)| earlier == condition) else { return false };
    let reason = "because the same stands before it";
    reports.add_related(at, Fault::NoEffect { key: "metadata", reason }, *earlier);
    true
}

fn resolve_one(raw: &At<RawMetadataMatch>, reports: &mut Reports) -> Option<MetadataMatch> {
    let RawMetadataMatch { name, present, exact, prefix, regex, invert } = &raw.value;
    let keys = [
        ("present", present.with_key().map(|(at, _)| at)),
        ("exact", exact.with_key().map(|(at, _)| at)),
        ("prefix", prefix.with_key().map(|(at, _)| at)),
        ("regex", regex.with_key().map(|(at, _)| at)),
    ];
    let mut given = keys.iter().filter_map(|(key, at)| at.map(|at| (*key, at)));
    match (given.next(), given.next()) {
        (Some((other, _)), Some((key, at))) => {
            reports.add(at, Fault::Exclusive { key, other });
            return None;
        }
        (None, _) => {
            if raw.is_whole {
                reports
                    .add(raw.span, Fault::MissingOneOf { keys: "`exact`, `prefix`, `regex` and `present`" });
            }
            return None;
        }
        _ => {}
    }
    let mut invert = invert.given().is_some_and(|invert| invert.value.0);
    let value = if let Some(present) = present.given() {
        invert ^= !present.value.0;
        ValueMatch::Present
    } else if let Some(exact) = exact.given() {
        ValueMatch::Exact(text(exact, reports)?)
    } else if let Some(prefix) = prefix.given() {
        ValueMatch::Prefix(text(prefix, reports)?)
    } else {
        ValueMatch::Regex(expression(regex.given()?, reports)?)
    };
    let given = name.given()?;
    let name = field_name(given, reports)?;
    if let Some((kind, reason)) = decided(&name, &value) {
        report_text(given, kind, reason, "remove the condition", reports);
        return None;
    }
    raw.is_whole.then_some(MetadataMatch { name, value, invert })
}

/// Why a condition on a field of HTTP/2 or gRPC holds for all calls that get as far as the routes, or for none.
fn decided(name: &str, value: &ValueMatch) -> Option<(&'static str, &'static str)> {
    match (name, value) {
        ("content-type", ValueMatch::Present) => Some(("condition", "every call of gRPC has it")),
        // Of several values, joined by commas, one is enough to be taken for gRPC.
        ("content-type", ValueMatch::Exact(text))
            if !text.contains(',') && !ContentType::detect(text.as_bytes()).is_grpc() =>
        {
            Some(("condition", "calls with another value than gRPC's are not routed"))
        }
        ("te", ValueMatch::Exact(text)) if text.split(',').any(|one| one != "trailers") => {
            Some(("condition", "HTTP/2 lets it say `trailers` only"))
        }
        _ => None,
    }
}

/// Why a field of this name, given in lower case, can be no such thing for calls of such clients; `None` if they may have it.
pub(super) fn hidden(name: &str, kind: &'static str, clients: Clients) -> Option<Fault> {
    let reason = clients.why_hidden(name)?;
    let help = "use another field, or change the listener's `metadata`".to_owned();
    Some(Fault::Unmatchable { text: name.to_owned(), kind, reason, help })
}

/// What a key by a field is called.
pub(super) const KEY: &str = "key of calls";

/// A name that a field of the metadata whose values are text can have, in lower case.
pub(super) fn field_name(name: &At<Text>, reports: &mut Reports) -> Option<String> {
    let text = name.value.0.to_ascii_lowercase();
    let binary = || {
        text.ends_with("-bin")
            .then_some(("values of `-bin` fields are bytes", "use a field whose values are text"))
    };
    let forbidden = || {
        FORBIDDEN
            .contains(&text.as_str())
            .then_some(("HTTP/2 forbids it, so no call has it", "use a field of the application's"))
    };
    let fault = name_fault(&text).or_else(binary).or_else(forbidden);
    let Some((reason, help)) = fault else { return Some(text) };
    report_text(name, "field of the metadata", reason, help, reports);
    None
}

/// Why no field of the metadata can have this name, given in lower case, and what to do about it.
pub(super) fn name_fault(text: &str) -> Option<(&'static str, &'static str)> {
    let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    if text.is_empty() || text.len() > MAX_TEXT_BYTES {
        Some(("it is empty or too long", "write the name of a field, such as `x-user-id`"))
    } else if text.starts_with(':') {
        Some(("it is a part of the request line", "use `authority`, `service` or `method` for these"))
    } else if !text.bytes().all(is_token) {
        Some(("gRPC lets it have letters, digits, `_`, `-` and dots only", "write it as the client sends it"))
    } else {
        None
    }
}

fn text(given: &At<Text>, reports: &mut Reports) -> Option<String> {
    let text = &given.value.0;
    let too_long = (text.len() > MAX_TEXT_BYTES).then_some("it is too long");
    let Some(reason) = too_long.or_else(|| value_fault(text)) else { return Some(text.clone()) };
    report_text(given, "value of a field", reason, "write the value as the client sends it", reports);
    None
}

/// Why no field of the metadata can have this value.
pub(super) fn value_fault(text: &str) -> Option<&'static str> {
    let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if !text.bytes().all(is_visible) {
        Some("gRPC lets it have visible ASCII characters and spaces only")
    } else if text.trim() != text {
        Some("blanks at the ends are cut off on the way")
    } else {
        None
    }
}

/// A regular expression that can be compiled within its bound.
pub(super) fn expression(given: &At<Text>, reports: &mut Reports) -> Option<String> {
    let pattern = &given.value.0;
    let Err(error) = whole_regex(pattern) else { return Some(pattern.clone()) };
    let (message, help) = match error {
        regex::Error::CompiledTooBig(_) => (
            format!("it takes more than {} when compiled", format_size(MAX_REGEX_BYTES as u64)),
            r"shorten it: `{100}` takes as much as a hundred copies, and `\w` and `\d` take more than `[0-9A-Za-z_]` and `[0-9]`",
        ),
        // The parser draws the place over several lines; the last one says what is wrong.
        other => (
            other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
            "write it in the syntax of the crate `regex`: no look-around, no back-references",
        ),
    };
    reports.add(given.span, Fault::InvalidRegex { pattern: pattern.clone(), message, help });
    None
}
