//! Which endpoints are probed, and what becomes of the answers.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::balancer::tests::fixture::Fixture;
use crate::{Ask, Connectivity, Factor, Pick, Policy, PrequalConfig, ProbeAnswer, ProbeCounts, Slot};

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

fn wanted(fixture: &mut Fixture, now: Duration) -> Vec<Slot> {
    core::iter::from_fn(|| fixture.balancer.wants_probe(now)).collect()
}

fn answer(requests_in_flight: u32, latency_ms: u64) -> ProbeAnswer {
    ProbeAnswer { requests_in_flight, latency: Some(Duration::from_millis(latency_ms)) }
}

#[test]
fn each_call_asks_for_probes_of_different_endpoints() {
    let mut fixture = fixture(PrequalConfig::default(), 100);
    assert_eq!(wanted(&mut fixture, SECOND), [], "no call, no probe");
    for _ in 0..5 {
        pick(&mut fixture, SECOND);
        let probed = wanted(&mut fixture, SECOND);
        assert_eq!(probed.iter().collect::<BTreeSet<_>>().len(), 3, "{probed:?}");
        probed.iter().for_each(|slot| fixture.balancer.probe_answered(*slot, &answer(1, 10), SECOND));
    }
    assert_eq!(
        fixture.balancer.probe_counts(),
        ProbeCounts { sent: 15, answered: 15, ..ProbeCounts::default() }
    );
}

#[test]
fn a_fraction_of_a_probe_per_call_adds_up() {
    let probes_per_call = Factor::from_thousandths(400);
    let mut fixture = fixture(PrequalConfig { probes_per_call, ..PrequalConfig::default() }, 100);
    let mut probed = 0;
    for _ in 0..100 {
        pick(&mut fixture, SECOND);
        for slot in wanted(&mut fixture, SECOND) {
            fixture.balancer.probe_failed(slot);
            probed += 1;
        }
    }
    // A sum of hundred times 0.4 in binary may fall short of 40 by a hair.
    assert!((39..=40).contains(&probed), "{probed}");
}

#[test]
fn no_more_are_under_way_than_the_pool_holds() {
    let mut fixture = fixture(PrequalConfig::default(), 100);
    let mut sent = Vec::new();
    for _ in 0..20 {
        pick(&mut fixture, SECOND);
        sent.extend(wanted(&mut fixture, SECOND));
    }
    assert_eq!(sent.len(), 16);
    fixture.balancer.probe_answered(sent[0], &answer(1, 10), SECOND);
    pick(&mut fixture, SECOND);
    assert_eq!(wanted(&mut fixture, SECOND).len(), 1);
}

#[test]
fn the_answer_decides_the_next_call() {
    let mut fixture = fixture(PrequalConfig::default(), 3);
    pick(&mut fixture, SECOND);
    let probed = wanted(&mut fixture, SECOND);
    assert_eq!(probed.len(), 3);
    for (slot, latency) in probed.iter().zip([30, 10, 20]) {
        fixture.balancer.probe_answered(*slot, &answer(0, latency), SECOND);
    }
    assert_eq!(pick(&mut fixture, SECOND), probed[1]);
}

#[test]
fn an_endpoint_is_not_believed_to_have_fewer_requests_than_were_sent_to_it() {
    let rif_quantile = Factor::from_thousandths(500);
    let mut fixture = fixture(PrequalConfig { rif_quantile, ..PrequalConfig::default() }, 3);
    pick(&mut fixture, SECOND);
    let probed = wanted(&mut fixture, SECOND);
    (0..50).for_each(|_| fixture.balancer.call_started(probed[1], SECOND));
    for (slot, latency) in probed.iter().zip([30, 10, 20]) {
        fixture.balancer.probe_answered(*slot, &answer(0, latency), SECOND);
    }
    assert_eq!(pick(&mut fixture, SECOND), probed[2]);
}

#[test]
fn late_and_unasked_answers_are_ignored_and_counted() {
    let mut fixture = fixture(PrequalConfig::default(), 3);
    let slot = fixture.slot(0);
    fixture.balancer.probe_answered(slot, &answer(0, 1), SECOND);
    pick(&mut fixture, SECOND);
    let probed = wanted(&mut fixture, SECOND);
    assert_eq!(fixture.balancer.next_probe_deadline(), Some(SECOND + 3 * MS));
    fixture.balancer.probe_answered(probed[0], &answer(0, 1), SECOND + 3 * MS - MS / 2);
    fixture.balancer.probe_answered(probed[1], &answer(0, 1), SECOND + 3 * MS);
    fixture.balancer.probe_answered(probed[0], &answer(0, 1), SECOND + 3 * MS);
    let counts = ProbeCounts { sent: 3, answered: 1, unanswered: 2, ignored: 3 };
    assert_eq!(fixture.balancer.probe_counts(), counts);
}

#[test]
fn a_lost_endpoint_is_neither_probed_nor_chosen_by_an_old_answer() {
    let mut fixture = fixture(PrequalConfig::default(), 3);
    pick(&mut fixture, SECOND);
    let probed = wanted(&mut fixture, SECOND);
    for (slot, latency) in probed.iter().zip([30, 10, 20]) {
        fixture.balancer.probe_answered(*slot, &answer(0, latency), SECOND);
    }
    pick(&mut fixture, SECOND);
    let again = wanted(&mut fixture, SECOND);
    let lost = probed[1];
    fixture.balancer.set_connectivity(lost, Connectivity::Idle, SECOND);
    assert!(again.contains(&lost));
    fixture.balancer.probe_answered(lost, &answer(0, 1), SECOND);
    for _ in 0..50 {
        assert_ne!(pick(&mut fixture, SECOND), lost);
        assert!(!wanted(&mut fixture, SECOND).contains(&lost));
    }
}

#[test]
fn a_silent_endpoint_is_asked_now_and_then() {
    let mut fixture = fixture(PrequalConfig::default(), 2);
    let silent = fixture.slot(0);
    let mut asked = 0;
    for call in 0..2_000 {
        let now = SECOND + call * MS;
        pick(&mut fixture, now);
        for slot in wanted(&mut fixture, now) {
            if slot == silent {
                asked += 1;
                fixture.balancer.probe_failed(slot);
            } else {
                fixture.balancer.probe_answered(slot, &answer(1, 10), now);
            }
        }
    }
    // With each of 2,000 calls both are wanted; one wish in 16 is 125, give or take 11.
    assert!((80..180).contains(&asked), "{asked}");
}

#[test]
fn a_pause_is_probed_only_if_so_configured() {
    let quiet = fixture(PrequalConfig::default(), 5);
    assert_eq!(quiet.balancer.next_probe_deadline(), None);
    let config = PrequalConfig { idle_interval: Some(SECOND / 2), ..PrequalConfig::default() };
    let mut fixture = fixture(config, 5);
    pick(&mut fixture, SECOND);
    for slot in wanted(&mut fixture, SECOND) {
        fixture.balancer.probe_answered(slot, &answer(1, 10), SECOND);
    }
    let due = SECOND + SECOND / 2;
    assert_eq!(fixture.balancer.next_probe_deadline(), Some(due));
    assert_eq!(wanted(&mut fixture, due - MS).len(), 0);
    assert_eq!(wanted(&mut fixture, due).len(), 1);
    assert_eq!(wanted(&mut fixture, due + SECOND / 2 - MS).len(), 0);
    assert_eq!(wanted(&mut fixture, due + SECOND / 2).len(), 1);
}

#[test]
fn the_largest_answers_do_not_overflow() {
    let config =
        PrequalConfig { pool_size: usize::MAX, probes_per_call: Factor::MAX, ..PrequalConfig::default() };
    let mut fixture = fixture(config, 100);
    for _ in 0..100 {
        pick(&mut fixture, SECOND);
        for slot in wanted(&mut fixture, SECOND) {
            let absurd = ProbeAnswer { requests_in_flight: u32::MAX, latency: Some(Duration::MAX) };
            fixture.balancer.probe_answered(slot, &absurd, SECOND);
        }
    }
    assert_eq!(fixture.balancer.probe_counts().sent, 6_400, "64 with each call");
}
