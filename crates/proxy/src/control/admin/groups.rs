//! Priorities and localities in GET /clusters: what all workers together make of them.

use serde::Serialize;

use crate::worker::ClusterView;

/// One priority, or one locality of it.
#[derive(Serialize, PartialEq, Debug)]
pub(in crate::control) struct GroupBody {
    pub(in crate::control) priority: u8,
    /// Absent where localities are not looked at, or nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) locality: Option<String>,
    /// But for those that drain; as the worker sees it that has most of them.
    pub(in crate::control) endpoints: u32,
    /// Those that are ready or may soon be, and that nothing withholds.
    pub(in crate::control) available: u32,
    /// Its part of the calls in percent: the mean over the workers.
    pub(in crate::control) load_percent: f64,
    /// Workers that disregard health, as too few endpoints of the priority are available.
    pub(in crate::control) workers_in_panic: u32,
}

/// The groups as all workers see them, in the order of the first that has any.
pub(in crate::control) fn groups(of_workers: &[&ClusterView]) -> Vec<GroupBody> {
    let mut bodies: Vec<(GroupBody, u32)> = Vec::new();
    for group in of_workers.iter().flat_map(|view| &view.groups) {
        let locality = group.locality.as_ref().map(ToString::to_string);
        let is_same = |body: &GroupBody| body.priority == group.priority && body.locality == locality;
        let found = bodies.iter().position(|(body, _)| is_same(body));
        let place = found.unwrap_or_else(|| {
            let (priority, locality) = (group.priority, locality.clone());
            let body = GroupBody {
                priority,
                locality,
                endpoints: 0,
                available: 0,
                load_percent: 0.0,
                workers_in_panic: 0,
            };
            bodies.push((body, 0));
            bodies.len() - 1
        });
        let (body, workers) = &mut bodies[place];
        body.endpoints = body.endpoints.max(group.endpoints);
        body.available = body.available.max(group.available);
        body.load_percent += group.load * 100.0;
        body.workers_in_panic += u32::from(group.is_panic);
        *workers += 1;
    }
    let mean = |(body, workers): (GroupBody, u32)| {
        // A hundredth is more than anybody reads.
        let load_percent = (body.load_percent / f64::from(workers) * 100.0).round() / 100.0;
        GroupBody { load_percent, ..body }
    };
    bodies.into_iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::GroupLoad;

    use super::*;

    #[test]
    fn workers_loads_are_averaged_and_panics_counted() {
        let group = |priority, endpoints, available, load, is_panic| GroupLoad {
            priority,
            locality: None,
            endpoints,
            available,
            candidates: available,
            load,
            is_panic,
        };
        let view = |groups| ClusterView {
            name: "orders".into(),
            pending: 0,
            probes: None,
            groups,
            endpoints: Vec::new(),
        };
        let one = view(vec![group(0, 4, 2, 0.7, false), group(1, 2, 2, 0.3, false)]);
        let other = view(vec![group(0, 4, 1, 0.35, true), group(1, 2, 2, 0.65, false)]);
        let body = |priority, endpoints, available, load_percent, workers_in_panic| GroupBody {
            priority,
            locality: None,
            endpoints,
            available,
            load_percent,
            workers_in_panic,
        };
        assert_eq!(groups(&[&one, &other]), [body(0, 4, 2, 52.5, 1), body(1, 2, 2, 47.5, 0)]);
        assert_eq!(groups(&[]), []);
    }
}
