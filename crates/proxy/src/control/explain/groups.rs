//! In which group a call lands: the priorities and localities of a cluster, what each gets now, and why.

use evenkeel_balance::{EndpointSet, Localities, SpreadConfig};
use serde::Serialize;

use crate::control::admin::GroupBody;
use crate::control::admin::groups;
use crate::worker::ClusterView;

/// A group of a cluster.
#[derive(Debug, Serialize)]
pub(super) struct ExplainedGroup {
    #[serde(flatten)]
    group: GroupBody,
    /// Why it gets what it gets.
    why: String,
}

/// The groups of a cluster as its workers see them. None where there is but one and nothing to say of it, and under pick_first,
/// whose one connection gets all calls.
pub(super) fn explain_groups(
    views: &[&ClusterView],
    set: Option<&EndpointSet>,
    is_pick_first: bool,
) -> Vec<ExplainedGroup> {
    let (bodies, Some(set)) = (groups(views), set) else { return Vec::new() };
    if is_pick_first || (bodies.len() < 2 && bodies.iter().all(|body| body.workers_in_panic == 0)) {
        return Vec::new();
    }
    let why: Vec<String> = bodies.iter().map(|body| why(body, &bodies, set.spread())).collect();
    bodies.into_iter().zip(why).map(|(group, why)| ExplainedGroup { group, why }).collect()
}

/// The sum of something over the groups of one priority.
fn of_priority<T: core::iter::Sum>(all: &[GroupBody], priority: u8, of: impl Fn(&GroupBody) -> T) -> T {
    all.iter().filter(|body| body.priority == priority).map(of).sum()
}

fn why(body: &GroupBody, all: &[GroupBody], spread: &SpreadConfig) -> String {
    let priority = body.priority;
    let available = of_priority(all, priority, |one| u64::from(one.available));
    let endpoints = of_priority(all, priority, |one| u64::from(one.endpoints));
    let before: f64 = all.iter().filter(|one| one.priority < priority).map(|one| one.load_percent).sum();
    let factor = u64::from(spread.overprovisioning.percent());
    let mut text = if body.workers_in_panic > 0 {
        let then = if spread.panic.fails { "its calls fail" } else { "its health is disregarded" };
        format!(
            "panic, {then}: {available} of {endpoints} endpoints are available, below {} %",
            spread.panic.threshold
        )
    } else if before >= 99.995 {
        "stands by: the priorities before it bear all calls".to_owned()
    } else if let Some(bears) = (available * factor).checked_div(endpoints) {
        let first = if before > 0.0 { ", of which it gets what those before it leave" } else { "" };
        let (whole, tenths, bears) = (factor / 100, factor % 100 / 10, bears.min(100));
        format!(
            "{available} of {endpoints} endpoints are available and bear {whole}.{tenths} times their part: {bears} % of all calls{first}"
        )
    } else {
        "has no endpoint but such as drain or are not checked yet".to_owned()
    };
    if all.iter().filter(|one| one.priority == priority).count() > 1 && before < 99.995 {
        text += match &spread.localities {
            Localities::Alike => "",
            Localities::Weighted(_) => "; shared out by `locality_weights`",
            Localities::ZoneAware(zones) if body.locality == Some(zones.own.to_string()) => {
                "; this proxy's own locality, which comes first (`zone_aware`)"
            }
            Localities::ZoneAware(_) => {
                "; another locality, which gets what the proxy's own leaves (`zone_aware`)"
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::{Locality, PanicMode, ZoneAware};

    use super::*;

    fn body(priority: u8, zone: Option<&str>, counts: (u32, u32), load_percent: f64) -> GroupBody {
        GroupBody {
            priority,
            locality: zone.map(ToOwned::to_owned),
            endpoints: counts.1,
            available: counts.0,
            load_percent,
            workers_in_panic: 0,
        }
    }

    fn told(bodies: &[GroupBody], spread: &SpreadConfig) -> Vec<String> {
        bodies.iter().map(|body| why(body, bodies, spread)).collect()
    }

    #[test]
    fn a_priority_says_what_it_bears_or_that_it_stands_by() {
        let spread = SpreadConfig::default();
        let all = [body(0, None, (4, 4), 100.0), body(1, None, (2, 2), 0.0)];
        let expected = [
            "4 of 4 endpoints are available and bear 1.4 times their part: 100 % of all calls",
            "stands by: the priorities before it bear all calls",
        ];
        assert_eq!(told(&all, &spread), expected);
        let part = [body(0, None, (2, 4), 70.0), body(1, None, (2, 2), 30.0)];
        let expected = [
            "2 of 4 endpoints are available and bear 1.4 times their part: 70 % of all calls",
            "2 of 2 endpoints are available and bear 1.4 times their part: 100 % of all calls, of which it gets what those before it leave",
        ];
        assert_eq!(told(&part, &spread), expected);
        assert_eq!(
            told(&[body(0, None, (0, 0), 0.0)], &spread),
            ["has no endpoint but such as drain or are not checked yet"]
        );
    }

    #[test]
    fn panic_says_what_it_does_and_from_where_on() {
        let one = GroupBody { workers_in_panic: 2, ..body(0, None, (1, 4), 100.0) };
        for (fails, expected) in [
            (false, "panic, its health is disregarded: 1 of 4 endpoints are available, below 50 %"),
            (true, "panic, its calls fail: 1 of 4 endpoints are available, below 50 %"),
        ] {
            let spread =
                SpreadConfig { panic: PanicMode { threshold: 50, fails }, ..SpreadConfig::default() };
            assert_eq!(why(&one, core::slice::from_ref(&one), &spread), expected);
        }
    }

    #[test]
    fn localities_say_by_which_rule_they_share() {
        let all = [body(0, Some("eu/a"), (2, 2), 100.0), body(0, Some("eu/b"), (2, 2), 0.0)];
        let own = Locality { region: "eu".into(), zone: "a".into(), sub_zone: String::new() };
        let aware = ZoneAware { own, min_cluster_size: 2, routing_enabled: 100, proxies: [].into() };
        for (localities, expected) in [
            (Localities::Alike, ["", ""]),
            (Localities::Weighted([].into()), ["; shared out by `locality_weights`"; 2]),
            (
                Localities::ZoneAware(aware),
                [
                    "; this proxy's own locality, which comes first (`zone_aware`)",
                    "; another locality, which gets what the proxy's own leaves (`zone_aware`)",
                ],
            ),
        ] {
            let told = told(&all, &SpreadConfig { localities, ..SpreadConfig::default() });
            let common = "4 of 4 endpoints are available and bear 1.4 times their part: 100 % of all calls";
            assert_eq!(told, expected.map(|rest| format!("{common}{rest}")));
        }
    }
}
