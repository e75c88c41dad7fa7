//! Faults that are injected on purpose, and copies of calls.

use evenkeel_grpc::Code;

use super::cluster::ClusterNames;
use super::value;
use crate::bounds;
use crate::errors::{Fault, Reports, closest};
use crate::model::{Destination, FaultInjection, Mirror, Percent};
use crate::raw::{At, Field, Number, RawFault, RawMirror, StatusName};

/// Statuses that are errors, in the order of their numbers from 1.
pub(crate) const STATUS_NAMES: &[&str] = &[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) fn resolve_fault(raw: &Field<RawFault>, reports: &mut Reports) -> Option<FaultInjection> {
    let (key, At { value: raw, is_whole, .. }) = raw.with_key()?;
    let by_header = raw.by_header.given().is_some_and(|flag| flag.value.0);
    if *is_whole && raw.delay.is_absent() && raw.abort.is_absent() && !by_header {
        let reason = "without `delay`, `abort` or `by_header: true`";
        reports.add(key, Fault::NoEffect { key: "fault", reason });
        return None;
    }
    let delay = raw.delay.given().map(|At { value: delay, .. }| {
        (value::duration(&delay.fixed, bounds::FAULT_DELAY, reports), percent(&delay.percent, reports))
    });
    let abort = raw.abort.given().and_then(|At { value: abort, .. }| {
        let percent = percent(&abort.percent, reports);
        Some((code(abort.code.given()?, reports)?, percent))
    });
    Some(FaultInjection { delay, abort, by_header })
}

/// The cluster that gets copies. A copy that meets the call's own backends would do everything twice there.
pub(super) fn resolve_mirror(
    raw: &Field<RawMirror>,
    destination: Option<&Destination>,
    clusters: &ClusterNames,
    reports: &mut Reports,
) -> Option<Mirror> {
    let At { value: raw, .. } = raw.given()?;
    let percent = percent(&raw.percent, reports);
    let name = raw.cluster.given()?;
    let cluster = clusters.find(name, reports)?;
    if destination.is_some_and(|destination| destination.shares.iter().any(|share| share.cluster == cluster))
    {
        reports.add(name.span, Fault::MirrorToItself { name: cluster.name.clone() });
    }
    Some(Mirror { cluster, percent })
}

/// A part of the calls; all of them if it is not given. One that is too small to be told from none is refused.
fn percent(field: &Field<Number>, reports: &mut Reports) -> Percent {
    let percent = value::number(field, bounds::PERCENT, reports);
    if let Some(given) = field.given().filter(|_| percent > 0.0 && percent < bounds::PERCENT_STEP) {
        let (min, max) = (format!("{} (or 0)", bounds::PERCENT_STEP), bounds::PERCENT.max.to_string());
        reports.add(given.span, Fault::OutOfBounds { value: percent.to_string(), min, max });
    }
    Percent::new(percent)
}

fn code(given: &At<StatusName>, reports: &mut Reports) -> Option<Code> {
    let name = given.value.0.as_str();
    let found = (1..).zip(STATUS_NAMES).find(|(_, known)| **known == name);
    if found.is_none() {
        let suggestion = closest(&name.to_ascii_uppercase(), STATUS_NAMES.iter().copied());
        let fault =
            Fault::UnknownName { kind: "status", name: name.to_owned(), suggestion, known: STATUS_NAMES };
        reports.add(given.span, fault);
    }
    found.and_then(|(number, _)| Code::from_u8(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_grpc_in_its_order() {
        let names: Vec<&str> = Code::ALL.iter().skip(1).map(|code| code.name()).collect();
        assert_eq!(names, STATUS_NAMES);
    }
}
