//! Canaries: which two clusters of a split, their steps and limits, and that no two have the same name.

use std::collections::HashMap;
use std::path::PathBuf;

use evenkeel_balance::Factor;
use evenkeel_balance::canary::{CanaryConfig, Step};

use super::cluster::{ClusterNames, check_name};
use super::listener::check_length;
use super::value;
use crate::bounds::{self, Bounds, MAX_CANARIES, MAX_CANARY_STEPS};
use crate::errors::{Fault, Reports, Span};
use crate::model::{CanarySettings, ClusterRef, Share, StateFile};
use crate::raw::{At, Field, List, Number, RawCanary, RawCanaryStep, RawListener, Text};

/// The canary of a split; `None` if it is at fault.
pub(super) fn resolve_canary(
    raw: &At<RawCanary>,
    shares: &[Share],
    clusters: &ClusterNames,
    reports: &mut Reports,
) -> Option<CanarySettings> {
    let canary = &raw.value;
    let config = CanaryConfig {
        steps: resolve_steps(&canary.steps, reports),
        max_error_increase: factor(&canary.max_error_increase, bounds::CANARY_ERROR_INCREASE, reports),
        latency_quantile: factor(&canary.latency_quantile, bounds::CANARY_LATENCY_QUANTILE, reports),
        max_latency_increase: factor(&canary.max_latency_increase, bounds::CANARY_LATENCY_INCREASE, reports),
        min_calls: value::count(&canary.min_calls, bounds::CANARY_MIN_CALLS, reports),
    };
    let mut find = |name: &Field<Text>| find_share(name.given()?, shares, clusters, reports);
    let (stable, of_canary) = (find(&canary.stable), find(&canary.canary));
    let name = match &canary.name {
        Field::Absent => of_canary.as_ref().map(|cluster| cluster.name.clone()),
        name => name.given().map(|name| {
            check_name(name, reports);
            name.value.0.clone()
        }),
    };
    let (stable, of_canary) = (stable?, of_canary?);
    if stable == of_canary {
        let at = canary.canary.given().map_or(raw.span, |name| name.span);
        reports.add(at, Fault::CanaryToItself { name: stable.name });
        return None;
    }
    let is_of_both = |share: &&Share| share.cluster == stable || share.cluster == of_canary;
    if shares.iter().filter(is_of_both).all(|share| share.weight == 0) {
        let at = canary.stable.given().map_or(raw.span, |name| name.span);
        reports.add(at, Fault::NothingToShare { stable: stable.name, canary: of_canary.name });
        return None;
    }
    let auto = canary.auto.given().is_some_and(|flag| flag.value.0);
    Some(CanarySettings { name: name?, stable, canary: of_canary, auto, config })
}

fn find_share(
    name: &At<Text>,
    shares: &[Share],
    clusters: &ClusterNames,
    reports: &mut Reports,
) -> Option<ClusterRef> {
    let cluster = clusters.find(name, reports)?;
    if !shares.iter().any(|share| share.cluster == cluster) {
        reports.add(name.span, Fault::NotInSplit { name: cluster.name });
        return None;
    }
    Some(cluster)
}

fn resolve_steps(raw: &Field<List<RawCanaryStep>>, reports: &mut Reports) -> Vec<Step> {
    let Some(list) = raw.given() else { return CanaryConfig::default_steps() };
    let help = "add a step: `- {weight: 10, duration: 5m}`";
    check_length(list.as_ref(), "steps", MAX_CANARY_STEPS, help, reports);
    let mut steps: Vec<Step> = Vec::new();
    for entry in list.value.entries.iter().take(MAX_CANARY_STEPS) {
        let RawCanaryStep { weight, duration } = &entry.value;
        // Within the bounds, 100 at most.
        let percent = value::count(weight, bounds::CANARY_WEIGHT, reports) as u8;
        let lasts = value::duration(duration, bounds::CANARY_STEP_DURATION, reports);
        // What took the place of a weight out of bounds stands nowhere, and says nothing about the next one.
        let Some(written) = weight.given().filter(|written| written.value.0 == percent.into()) else {
            continue;
        };
        if let (100, Some((key, _))) = (percent, duration.with_key()) {
            let reason = "at a weight of 100: nothing is left to compare with";
            reports.add(key, Fault::NoEffect { key: "duration", reason });
        }
        if let Some(before) = steps.last().filter(|before| percent <= before.weight) {
            reports.add(written.span, Fault::NotRising { weight: percent, before: before.weight });
        }
        steps.push(Step { weight: percent, duration: lasts });
    }
    steps
}

fn factor(field: &Field<Number>, bounds: Bounds<f64>, reports: &mut Reports) -> Factor {
    Factor::try_from(value::number(field, bounds, reports)).expect("the bounds are within a factor's")
}

/// Where the state of canaries is kept.
pub(super) fn resolve_state_file(raw: &Field<Text>, reports: &mut Reports) -> StateFile {
    let Some(given) = raw.given() else { return StateFile::Beside };
    match given.value.0.as_str() {
        "beside" => StateFile::Beside,
        "off" => StateFile::Off,
        path if path.contains('/') && !path.ends_with('/') && !path.chars().any(char::is_control) => {
            StateFile::At(PathBuf::from(path))
        }
        other => {
            let suggestion = crate::errors::closest(other, ["beside", "off"]);
            let known = &["beside", "off", "a path with a `/` in it"];
            let fault = Fault::UnknownName { kind: "state file", name: other.to_owned(), suggestion, known };
            reports.add(given.span, fault);
            StateFile::Off
        }
    }
}

/// Reports canaries of the same name, and more than there may be.
pub(super) fn check_names(raw: &Field<List<RawListener>>, reports: &mut Reports) {
    let mut known: HashMap<&str, Span> = HashMap::new();
    let listeners = raw.given().into_iter().flat_map(|list| &list.value.entries);
    let routes = listeners
        .filter_map(|listener| listener.value.routes.given())
        .flat_map(|routes| &routes.value.entries);
    let mut count = 0;
    for (key, canary) in routes.filter_map(|route| route.value.canary.with_key()) {
        count += 1;
        if count == MAX_CANARIES + 1 {
            reports.add(key, Fault::TooMany { what: "canaries", count, max: MAX_CANARIES });
        }
        let canary = &canary.value;
        let Some(name) = canary.name.given().or(canary.canary.given()) else { continue };
        match known.get(name.value.0.as_str()) {
            Some(earlier) => {
                let fault = Fault::DuplicateCanary { name: name.value.0.clone() };
                reports.add_related(name.span, fault, *earlier);
            }
            None => drop(known.insert(&name.value.0, name.span)),
        }
    }
}
