//! The choice where endpoints answer no probes: by what the proxy knows itself.

use core::time::Duration;

use crate::balancer::tests::fixture::Fixture;
use crate::{
    Ask, CallReport, Outcome, Pick, Policy, PrequalConfig, ProbeAnswer, ProbeCounts, ProbeSource, Slot,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn fixture(config: PrequalConfig, endpoints: usize) -> Fixture {
    Fixture::ready(Policy::Prequal(config), &vec![1; endpoints], 1)
}

fn pick(fixture: &mut Fixture, now: Duration) -> Slot {
    match fixture.balancer.pick(&Ask { now, hash: None }) {
        Pick::Endpoint(slot) => slot,
        other => panic!("all are ready, but the pick is {other:?}"),
    }
}

/// A call of this latency to an endpoint.
fn call(fixture: &mut Fixture, slot: Slot, latency: Duration, now: Duration) {
    fixture.balancer.call_started(slot, now);
    let report = CallReport { now, outcome: Outcome::Success, latency, load: None };
    fixture.balancer.call_finished(slot, &report);
}

/// How many of a hundred calls at about this time go to a slot.
fn share(fixture: &mut Fixture, slot: Slot, now: Duration) -> usize {
    (0..100).filter(|_| pick(fixture, now) == slot).count()
}

/// Three endpoints, of which the proxy measured the middle one to be quickest.
fn measured(config: PrequalConfig) -> (Fixture, [Slot; 3]) {
    let mut fixture = fixture(config, 3);
    let slots = [0, 1, 2].map(|number| fixture.slot(number));
    for (slot, latency) in slots.into_iter().zip([30, 10, 20]) {
        call(&mut fixture, slot, latency * MS, SECOND);
    }
    (fixture, slots)
}

#[test]
fn without_answers_the_proxys_own_latencies_decide() {
    for source in [ProbeSource::Endpoints, ProbeSource::Own] {
        let (mut fixture, slots) = measured(PrequalConfig { source, ..PrequalConfig::default() });
        // The quickest is drawn by two calls of three, and remembered from then on.
        assert!(share(&mut fixture, slots[1], SECOND) >= 95, "{source:?}");
    }
}

#[test]
fn without_answers_the_proxys_own_calls_in_flight_decide() {
    let (mut fixture, slots) =
        measured(PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() });
    (0..50).for_each(|_| fixture.balancer.call_started(slots[1], SECOND));
    assert_eq!(share(&mut fixture, slots[1], SECOND), 0, "50 calls in flight of 10 ms each");
    assert!(share(&mut fixture, slots[2], SECOND) >= 95);
}

#[test]
fn with_own_knowledge_no_probe_is_wanted() {
    let (mut fixture, _) = measured(PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() });
    for call in 0..100 {
        pick(&mut fixture, SECOND + call * MS);
        assert_eq!(fixture.balancer.wants_probe(SECOND + call * MS), None);
    }
    assert_eq!(fixture.balancer.next_probe_deadline(), None);
    assert_eq!(fixture.balancer.probe_counts(), ProbeCounts::default());
}

#[test]
fn answers_are_believed_for_as_long_as_they_last_and_own_knowledge_after_that() {
    let (mut fixture, slots) = measured(PrequalConfig::default());
    pick(&mut fixture, SECOND);
    let probed: Vec<Slot> = core::iter::from_fn(|| fixture.balancer.wants_probe(SECOND)).collect();
    assert_eq!(probed.len(), 3);
    // The answers say that another is quickest. It is not the first to answer, which is removed first.
    let quickest = probed[if probed[2] == slots[1] { 1 } else { 2 }];
    for slot in probed {
        let latency = if slot == quickest { MS } else { 100 * MS };
        let answer = ProbeAnswer { requests_in_flight: 0, latency: Some(latency) };
        fixture.balancer.probe_answered(slot, &answer, SECOND);
    }
    assert_eq!(pick(&mut fixture, 2 * SECOND), quickest, "a second old is not too old");
    let later = 2 * SECOND + MS;
    assert!(share(&mut fixture, slots[1], later) >= 95, "the pool is empty");
    assert!(share(&mut fixture, slots[1], later + SECOND) >= 95, "for a second no wish for a probe was met");
}

#[test]
fn an_answer_without_a_latency_counts_with_the_proxys_own() {
    let (mut fixture, slots) = measured(PrequalConfig::default());
    pick(&mut fixture, SECOND);
    while let Some(slot) = fixture.balancer.wants_probe(SECOND) {
        let answer = ProbeAnswer { requests_in_flight: 0, latency: None };
        fixture.balancer.probe_answered(slot, &answer, SECOND);
    }
    assert_eq!(pick(&mut fixture, SECOND), slots[1]);
}
