//! Single values: defaults, bounds, and the order of two of them.

use core::fmt::Display;
use core::time::Duration;

use crate::bounds::{self, Bounds};
use crate::errors::{Fault, Reports, Span, quoted};
use crate::model::MemoryLimit;
use crate::raw::{Field, Integer, Number, RawDuration, RawShareOrSize, RawSize, TooMuch};
use crate::units::{format_duration, format_size};

/// The value, if it is within its bounds; if not, that is reported and the default returned.
///
/// `value` is `None` if it is beyond all that the bounds could be; `written` is how it was written.
fn check<T: PartialOrd + Copy>(
    value: Option<T>,
    written: impl FnOnce() -> String,
    at: Span,
    bounds: Bounds<T>,
    format_bound: impl Fn(T) -> String,
    reports: &mut Reports,
) -> T {
    // NaN is within no bounds, so the comparisons must not be turned round.
    if let Some(value) = value.filter(|value| *value >= bounds.min && *value <= bounds.max) {
        return value;
    }
    let (min, max) = (format_bound(bounds.min), format_bound(bounds.max));
    reports.add(at, Fault::OutOfBounds { value: written(), min, max });
    bounds.default
}

/// A value as it is told: as it was written if it could not be held.
fn told(too_much: &TooMuch, format: impl FnOnce() -> String) -> String {
    too_much.as_deref().map_or_else(format, |text| quoted(text).to_string())
}

pub(super) fn count(field: &Field<Integer>, bounds: Bounds<u32>, reports: &mut Reports) -> u32 {
    let Some(given) = field.given() else { return bounds.default };
    bounded_count(given.value, given.span, bounds, reports)
}

pub(super) fn bounded_count(
    Integer(written): Integer,
    at: Span,
    bounds: Bounds<u32>,
    reports: &mut Reports,
) -> u32 {
    let value = u32::try_from(written).ok();
    check(value, || written.to_string(), at, bounds, |bound| bound.to_string(), reports)
}

pub(super) fn number(field: &Field<Number>, bounds: Bounds<f64>, reports: &mut Reports) -> f64 {
    let Some(given) = field.given() else { return bounds.default };
    let Number(value) = given.value;
    check(Some(value), || value.to_string(), given.span, bounds, |bound| bound.to_string(), reports)
}

pub(super) fn size(field: &Field<RawSize>, bounds: Bounds<u32>, reports: &mut Reports) -> u32 {
    let Some(given) = field.given() else { return bounds.default };
    let RawSize(written, too_much) = &given.value;
    let value = u32::try_from(*written).ok();
    check(
        value,
        || told(too_much, || format_size(*written)),
        given.span,
        bounds,
        |bound| format_size(bound.into()),
        reports,
    )
}

pub(super) fn memory(field: &Field<RawShareOrSize>, reports: &mut Reports) -> MemoryLimit {
    let Some(given) = field.given() else { return MemoryLimit::default() };
    match &given.value {
        RawShareOrSize::Percent(percent, too_much) => {
            let (bounds, format) = (bounds::OVERLOAD_MEMORY_PERCENT, |percent| format!("{percent}%"));
            let written = || told(too_much, || format(*percent));
            MemoryLimit::Percent(check(Some(*percent), written, given.span, bounds, format, reports))
        }
        RawShareOrSize::Size(RawSize(bytes, too_much)) => {
            let bounds = bounds::OVERLOAD_MEMORY_BYTES;
            let written = || told(too_much, || format_size(*bytes));
            MemoryLimit::Bytes(check(Some(*bytes), written, given.span, bounds, format_size, reports))
        }
    }
}

pub(super) fn duration(
    field: &Field<RawDuration>,
    bounds: Bounds<Duration>,
    reports: &mut Reports,
) -> Duration {
    let Some(given) = field.given() else { return bounds.default };
    bounded_duration(&given.value, given.span, bounds, reports)
}

pub(super) fn bounded_duration(
    RawDuration(value, too_much): &RawDuration,
    at: Span,
    bounds: Bounds<Duration>,
    reports: &mut Reports,
) -> Duration {
    let written = || told(too_much, || format_duration(*value));
    check(Some(*value), written, at, bounds, format_duration, reports)
}

/// Reports a duration above that of another key. Only a value that was written can be at fault.
pub(super) fn not_above(
    (field, value): (&Field<RawDuration>, Duration),
    (other, limit): (&'static str, Duration),
    reports: &mut Reports,
) {
    if let Some(at) = written(field, value).filter(|_| value > limit) {
        reports.add(at, disordered(format_duration(value), "above", other, format_duration(limit)));
    }
}

/// Reports a duration that is not below that of another key, which is over first. Only a value that was written can be at fault.
pub(super) fn is_below(
    (field, value): (&Field<RawDuration>, Duration),
    (other, limit): (&'static str, Duration),
    reports: &mut Reports,
) {
    if let Some(at) = written(field, value).filter(|_| value >= limit) {
        reports.add(at, not_below_limit(format_duration(value), value > limit, (other, limit)));
    }
}

/// A time, as it is told, that is not over before another one.
pub(super) fn not_below_limit(
    told: String,
    is_above: bool,
    (other, limit): (&'static str, Duration),
) -> Fault {
    let relation = if is_above { "above" } else { "as long as" };
    disordered(told, relation, other, format_duration(limit))
}

/// Reports a duration below that of another key. Only a value that was written can be at fault.
pub(super) fn not_below(
    (field, value): (&Field<RawDuration>, Duration),
    (other, limit): (&'static str, Duration),
    reports: &mut Reports,
) {
    if let Some(at) = written(field, value).filter(|_| value < limit) {
        reports.add(at, disordered(format_duration(value), "below", other, format_duration(limit)));
    }
}

/// Where the value was written; `None` if it is a default, also one that took the place of a value out of bounds.
fn written(field: &Field<RawDuration>, value: Duration) -> Option<Span> {
    field.given().filter(|given| given.value.0 == value).map(|given| given.span)
}

pub(super) fn disordered(
    value: impl Display,
    relation: &'static str,
    other: &'static str,
    other_value: impl Display,
) -> Fault {
    Fault::Disordered { value: value.to_string(), relation, other, other_value: other_value.to_string() }
}
