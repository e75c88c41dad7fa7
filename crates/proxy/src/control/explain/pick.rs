//! The choice of an endpoint: what the balancers of all workers would pick, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_balance::{Address, Affinity, Ask, Policy, RefusedBy, Shares};

use super::answer::{ClusterBody, EndpointBody};
use super::groups::explain_groups;
use super::limits;
use crate::control::admin::{WorkersSay, breakers};
use crate::worker::snapshot::Cluster;
use crate::worker::{ClusterPreview, Decision, refused_by};

/// Picks of which shares are made: one part in a thousand shows.
const PICKS: usize = 10_000;

/// Looks at endpoints that all picks together may take: where all of thousands are withheld, a pick asks each.
const LOOKS_MAX: usize = 10_000_000;

/// Picks that were made by all workers, by endpoint.
#[derive(Default)]
struct Tally {
    by_address: BTreeMap<Address, f64>,
    queued: f64,
    failed: f64,
    /// By the circuit breakers of all endpoints that were looked at.
    refused: f64,
    workers: usize,
    /// No pick left anything to chance.
    is_certain: bool,
    /// The endpoints that the workers take for the key's.
    owners: BTreeSet<Address>,
    /// The rule of the cluster by which calls of a worker fail although endpoints are ready.
    refused_by: Option<RefusedBy>,
    /// Calls that no endpoint can take wait, rather than fail.
    waits_for_ready: bool,
}

pub(super) fn explain_cluster(
    settings: &Cluster,
    percent: f64,
    decision: &Decision<'_>,
    mut previews: Vec<ClusterPreview>,
    note: Option<String>,
    now: Duration,
) -> ClusterBody {
    let key = decision.key(settings);
    let ask = Ask { now, hash: key.and_then(|key| key.hash) };
    let tally = Tally { waits_for_ready: settings.wait_for_ready, ..Tally::of(&mut previews, &ask) };
    let key_endpoint = tally.owner();
    let views: Vec<_> = previews.iter().map(|one| &one.view).collect();
    let say = WorkersSay::new(&views, previews.len());
    let set = settings.endpoints.as_deref();
    let listed =
        set.into_iter().flat_map(|set| set.endpoints().iter().enumerate().map(move |one| (set, one)));
    let endpoints = listed.map(|(set, (place, endpoint))| EndpointBody {
        address: endpoint.address().to_string(),
        priority: set.priority(place),
        locality: set.locality(place).map(ToString::to_string),
        percent: 100.0 * tally.share(endpoint.address()),
        in_flight: endpoint.in_flight(),
        weight: endpoint.weight(),
        circuit_breakers: breakers(endpoint.breaker()),
        eligibility: say.eligibility(endpoint.address()),
    });
    let why_failing = tally.refused_by.map(|rule| {
        let own = key_endpoint.filter(|_| rule == RefusedBy::Affinity);
        let own = own.map(|address| (address.to_string(), say.eligibility(address).reasons()));
        explain_refusal(rule, &settings.name, own)
    });
    let insists = ask.hash.is_some() && when_unavailable(settings.policy) == Some("fail");
    let why_refused = insists.then(|| explain_open(key_endpoint));
    let policy = evenkeel_config::policy_name(settings.policy).to_owned();
    let is_pick_first = matches!(settings.policy, Policy::PickFirst { .. });
    // A limit has the last word on a call that has an endpoint.
    let refusal =
        settings.limits.as_deref().filter(|_| !tally.by_address.is_empty()).and_then(limits::refusal);
    let has_plan = !settings.hash_plan.is_empty();
    ClusterBody {
        name: settings.name.to_string(),
        percent,
        key: has_plan.then(|| match key {
            Some(found) if found.hash.is_some() => found.source.to_string(),
            Some(found) => format!("{}: the client gets a new one", found.source),
            None => "none: the call has nothing that `hash_by` names".to_owned(),
        }),
        key_hash: ask.hash.map(|hash| format!("{hash:016x}")),
        key_endpoint: key_endpoint.map(ToString::to_string),
        when_unavailable: when_unavailable(settings.policy),
        endpoint: tally.only().map(ToString::to_string),
        outcome: refusal
            .unwrap_or_else(|| tally.outcome(&policy, why_failing.as_deref(), why_refused.as_deref())),
        policy,
        note,
        limits: limits::of_cluster(settings, views.iter().map(|view| view.pending).sum()),
        groups: explain_groups(&views, set, is_pick_first),
        endpoints: endpoints.collect(),
    }
}

fn when_unavailable(policy: Policy) -> Option<&'static str> {
    let (Policy::RingHash { affinity, .. } | Policy::Maglev { affinity, .. }) = policy else { return None };
    Some(match affinity {
        Affinity::Rehash | Affinity::Bounded(_) => "rehash",
        Affinity::Fail => "fail",
    })
}

/// What the call's answer would say, and of the key's own endpoint, which it is and what keeps calls from it.
fn explain_refusal(rule: RefusedBy, cluster: &str, own: Option<(String, String)>) -> String {
    let text = refused_by(rule, cluster);
    match own {
        Some((address, reasons)) if reasons.is_empty() => format!("{text}; it is {address}"),
        Some((address, reasons)) => format!("{text}; it is {address}: {reasons}"),
        None => text,
    }
}

/// Why calls are refused that no other endpoint than that of their key may take.
fn explain_open(own: Option<&Address>) -> String {
    let of = own.map_or("the endpoint of the call's key".to_owned(), |own| {
        format!("{own}, the endpoint of the call's key,")
    });
    format!("the circuit breaker of {of} is open, and with `when_unavailable: fail` no other may take it")
}

impl Tally {
    fn of(previews: &mut [ClusterPreview], ask: &Ask) -> Self {
        let mut tally = Self { workers: previews.len(), is_certain: true, ..Self::default() };
        for one in previews {
            tally.is_certain &= one.preview.leaves_nothing_to_chance(ask);
            let picks = PICKS.min(LOOKS_MAX / one.view.endpoints.len().max(1)).max(1);
            let shares = one.shares(ask, picks);
            tally.add(&shares, |slot| one.preview.endpoint(slot).address().clone());
            if let Some(slot) = one.preview.owner(ask) {
                tally.owners.insert(one.preview.endpoint(slot).address().clone());
            }
            if shares.failed > 0 {
                tally.refused_by = tally.refused_by.or(one.preview.refusal());
            }
        }
        tally
    }

    fn add(&mut self, shares: &Shares, address: impl Fn(evenkeel_balance::Slot) -> Address) {
        let part = |count: usize| count as f64 / shares.picks().max(1) as f64;
        for (slot, count) in &shares.endpoints {
            *self.by_address.entry(address(*slot)).or_default() += part(*count);
        }
        self.queued += part(shares.queued);
        self.failed += part(shares.failed);
        self.refused += part(shares.refused);
    }

    /// The part of the calls that an endpoint gets, if all workers get as many.
    fn share(&self, address: &Address) -> f64 {
        self.by_address.get(address).map_or(0.0, |sum| sum / self.workers.max(1) as f64)
    }

    /// The key's endpoint, if all workers take the same one for it.
    fn owner(&self) -> Option<&Address> {
        self.owners.first().filter(|_| self.owners.len() == 1)
    }

    /// The endpoint that gets every such call.
    fn only(&self) -> Option<&Address> {
        let mut addresses = self.by_address.keys();
        let first = addresses.next().filter(|_| self.queued + self.failed + self.refused == 0.0)?;
        addresses.next().is_none().then_some(first)
    }

    /// The outcome in a sentence. `why_failing` is why calls fail although endpoints are ready, `why_refused` why the circuit
    /// breakers of some are enough to refuse them.
    fn outcome(&self, policy: &str, why_failing: Option<&str>, why_refused: Option<&str>) -> String {
        if self.workers == 0 {
            return "no worker answered in time; ask again".to_owned();
        }
        if let Some(only) = self.only() {
            return if self.is_certain {
                format!("{policy} sends it to {only}")
            } else {
                format!("{only} gets it: no other endpoint can take it")
            };
        }
        let all = self.workers as f64;
        let fails = if self.waits_for_ready {
            "it waits until its deadline, as `wait_for_ready` says"
        } else {
            "it fails with UNAVAILABLE"
        };
        for (part, what, why) in [
            (self.queued, "it waits", "no endpoint is ready yet"),
            (self.failed, fails, why_failing.unwrap_or("no endpoint can take it")),
            (
                self.refused,
                "it fails with UNAVAILABLE",
                why_refused.unwrap_or("the circuit breaker of each endpoint is open"),
            ),
        ] {
            if self.by_address.is_empty() && part == all {
                return format!("{what}: {why}");
            }
        }
        let mut text = match self.by_address.len() {
            0 => "no endpoint gets it".to_owned(),
            count if self.is_certain => format!("one of {count}: the workers differ in what they can reach"),
            count => format!("{policy}: any of {count}, with these shares"),
        };
        let fails = if self.waits_for_ready { "waits for one that can take it" } else { "fails" };
        for (part, what) in [(self.queued, "waits"), (self.failed, fails), (self.refused, "is refused")] {
            if part > 0.0 {
                text += &format!("; it {what} in {:.0} %", 100.0 * part / all);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(parts: &[(u16, f64)], queued: f64, failed: f64, workers: usize, is_certain: bool) -> Tally {
        let address = |port: u16| Address::Tcp(([127, 0, 0, 1], port).into());
        let by_address = parts.iter().map(|(port, part)| (address(*port), *part)).collect();
        Tally { by_address, queued, failed, workers, is_certain, ..Tally::default() }
    }

    #[test]
    fn every_outcome_has_its_sentence() {
        let told = |parts: &[_], queued, failed, workers, is_certain| {
            tally(parts, queued, failed, workers, is_certain).outcome("maglev", None, None)
        };
        assert_eq!(told(&[(1, 2.0)], 0.0, 0.0, 2, true), "maglev sends it to 127.0.0.1:1");
        let alone = "127.0.0.1:1 gets it: no other endpoint can take it";
        assert_eq!(told(&[(1, 2.0)], 0.0, 0.0, 2, false), alone);
        assert_eq!(told(&[(1, 1.5), (2, 0.5)], 0.0, 0.0, 2, false), "maglev: any of 2, with these shares");
        assert_eq!(told(&[], 2.0, 0.0, 2, true), "it waits: no endpoint is ready yet");
        assert_eq!(told(&[], 0.0, 2.0, 2, true), "it fails with UNAVAILABLE: no endpoint can take it");
        let patient = Tally { waits_for_ready: true, ..tally(&[], 0.0, 2.0, 2, true) };
        let waits = "it waits until its deadline, as `wait_for_ready` says: no endpoint can take it";
        assert_eq!(patient.outcome("maglev", None, None), waits);
        let patient = Tally { waits_for_ready: true, ..tally(&[(1, 1.0)], 0.0, 1.0, 2, false) };
        let half = "maglev: any of 1, with these shares; it waits for one that can take it in 50 %";
        assert_eq!(patient.outcome("maglev", None, None), half);
        let refused = Tally { refused: 2.0, workers: 2, ..Tally::default() };
        let open = "it fails with UNAVAILABLE: the circuit breaker of each endpoint is open";
        assert_eq!(refused.outcome("maglev", None, None), open);
        let address = Address::Tcp(([127, 0, 0, 1], 5).into());
        let alone = "it fails with UNAVAILABLE: the circuit breaker of 127.0.0.1:5, the endpoint of the call's key, is open, and \
                     with `when_unavailable: fail` no other may take it";
        assert_eq!(refused.outcome("maglev", None, Some(&explain_open(Some(&address)))), alone);
        let unknown = "the circuit breaker of the endpoint of the call's key is open, and with `when_unavailable: fail` no other \
                       may take it";
        assert_eq!(explain_open(None), unknown);
        let half = "maglev: any of 1, with these shares; it waits in 50 %";
        assert_eq!(told(&[(1, 1.0)], 1.0, 0.0, 2, false), half);
        assert_eq!(told(&[], 0.0, 0.0, 0, true), "no worker answered in time; ask again");
        let shares = tally(&[(1, 1.5), (2, 0.5)], 0.0, 0.0, 2, false);
        assert_eq!(shares.share(&Address::Tcp(([127, 0, 0, 1], 1).into())), 0.75);
    }

    #[test]
    fn a_key_that_insists_is_told_its_endpoint_and_what_is_wrong_with_that() {
        let own = |reasons: &str| Some(("127.0.0.1:5".to_owned(), reasons.to_owned()));
        let answer = "the endpoint of the call's key in cluster m cannot take it, and with `when_unavailable: fail` no other may";
        let told = |own| explain_refusal(RefusedBy::Affinity, "m", own);
        assert_eq!(
            told(own("it is ill; it was closed")),
            format!("{answer}; it is 127.0.0.1:5: it is ill; it was closed")
        );
        assert_eq!(told(own("")), format!("{answer}; it is 127.0.0.1:5"));
        assert_eq!(told(None), answer);
        let failed = tally(&[], 0.0, 1.0, 1, true);
        assert_eq!(failed.outcome("maglev", Some("x"), None), "it fails with UNAVAILABLE: x");
        let panic = explain_refusal(RefusedBy::Panic { priority: 0, available: 1, total: 3 }, "m", None);
        let text = "only 1 of 3 endpoints of cluster m in priority 0 are available, and `fail_traffic_on_panic` is set";
        assert_eq!(panic, text);
    }

    #[test]
    fn workers_that_differ_name_no_endpoint_of_the_key() {
        let address = |port: u16| Address::Tcp(([127, 0, 0, 1], port).into());
        let of = |ports: &[u16]| Tally {
            owners: ports.iter().map(|port| address(*port)).collect(),
            ..Tally::default()
        };
        assert_eq!(of(&[]).owner(), None);
        assert_eq!(of(&[5]).owner(), Some(&address(5)));
        assert_eq!(of(&[5, 6]).owner(), None);
    }
}
