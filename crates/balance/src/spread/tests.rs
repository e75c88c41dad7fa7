//! Envoy's documented tables, and rules that hold for all numbers.

use core::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;

use super::config::{Localities, Overprovisioning, PanicMode, SpreadConfig, ZoneAware};
use super::loads::{GroupHealth, GroupKey, Loads};
use crate::locality::Locality;

fn zone(name: &str) -> Locality {
    Locality { region: "eu".into(), zone: name.into(), sub_zone: String::new() }
}

fn key(priority: u8, place: Option<&str>) -> GroupKey {
    GroupKey { priority, locality: place.map(|name| Arc::new(zone(name))) }
}

/// A group of endpoints with weight 1, all of them ready that are available.
fn group(available: u32, total: u32) -> GroupHealth {
    GroupHealth { total, available, candidates: available, weight: u64::from(available) }
}

fn loads(config: &SpreadConfig, keys: &[GroupKey], health: &[GroupHealth]) -> Loads {
    let mut loads = Loads::default();
    loads.update(config, keys, health);
    loads
}

fn panic_below(threshold: u8) -> SpreadConfig {
    SpreadConfig { panic: PanicMode { threshold, fails: false }, ..SpreadConfig::default() }
}

/// Priorities with so many percent of their endpoints available: their loads in percent, and those in panic.
fn priorities(available: &[u32]) -> (Vec<f64>, Vec<bool>) {
    let keys: Vec<_> = (0..).zip(available).map(|(priority, _)| key(priority, None)).collect();
    let health: Vec<_> = available.iter().map(|available| group(*available, 100)).collect();
    let loads = loads(&panic_below(50), &keys, &health);
    let panics = keys.iter().map(|key| loads.is_panicking(key.priority)).collect();
    (loads.shares().iter().map(|share| share * 100.0).collect(), panics)
}

/// Envoy's tables have whole numbers, rounded up here and down there.
fn assert_near(shares: &[f64], documented: &[f64]) {
    assert_eq!(shares.len(), documented.len());
    let is_near = shares.iter().zip(documented).all(|(share, documented)| (share - documented).abs() < 1.0);
    assert!(is_near, "{shares:?} where {documented:?} is documented");
}

#[test]
fn loads_of_priorities_are_those_of_envoys_tables() {
    let table: [(&[u32], &[f64]); 19] = [
        (&[100, 100], &[100.0, 0.0]),
        (&[72, 100], &[100.0, 0.0]),
        (&[71, 100], &[99.0, 1.0]),
        (&[50, 100], &[70.0, 30.0]),
        (&[25, 100], &[35.0, 65.0]),
        (&[0, 100], &[0.0, 100.0]),
        (&[72, 72], &[100.0, 0.0]),
        (&[71, 71], &[99.0, 1.0]),
        (&[50, 50], &[70.0, 30.0]),
        (&[25, 25], &[50.0, 50.0]),
        (&[5, 65], &[7.0, 93.0]),
        (&[100, 100, 100], &[100.0, 0.0, 0.0]),
        (&[72, 72, 100], &[100.0, 0.0, 0.0]),
        (&[71, 71, 100], &[99.0, 1.0, 0.0]),
        (&[50, 50, 100], &[70.0, 30.0, 0.0]),
        (&[25, 100, 100], &[35.0, 65.0, 0.0]),
        (&[25, 25, 100], &[35.0, 35.0, 30.0]),
        (&[25, 25, 20], &[36.0, 36.0, 28.0]),
        (&[0, 0, 1], &[0.0, 0.0, 100.0]),
    ];
    for (available, documented) in table {
        assert_near(&priorities(available).0, documented);
    }
}

#[test]
fn loads_of_priorities_are_exact() {
    assert_eq!(priorities(&[71, 100]).0, [99.4, 0.6]);
    assert_eq!(priorities(&[50, 60]).0, [70.0, 30.0]);
    let fourteenths: Vec<f64> =
        priorities(&[5, 65]).0.iter().map(|share| (share * 14.0 * 1e4).round() / 1e4).collect();
    assert_eq!(fourteenths, [100.0, 1_300.0], "one fourteenth and thirteen");
    // Five of seven are exactly enough.
    let keys = [key(0, None), key(1, None)];
    let shares =
        |available| loads(&panic_below(50), &keys, &[group(available, 7), group(7, 7)]).shares().to_vec();
    assert_eq!(shares(5), [1.0, 0.0]);
    assert_eq!(shares(4), [0.8, 0.2]);
    assert_eq!(shares(7), [1.0, 0.0]);
}

#[test]
fn priorities_are_in_panic_as_in_envoys_tables() {
    let table: [(&[u32], &[bool]); 10] = [
        (&[72, 100], &[false, false]),
        (&[25, 100], &[false, false]),
        (&[0, 100], &[false, false]),
        (&[72, 72], &[false, false]),
        (&[50, 60], &[false, false]),
        (&[25, 25], &[true, true]),
        (&[5, 65], &[true, false]),
        (&[0, 0], &[true, true]),
        (&[50], &[false]),
        (&[49], &[true]),
    ];
    for (available, documented) in table {
        assert_eq!(priorities(available).1, documented, "{available:?}");
    }
}

#[test]
fn a_threshold_of_zero_means_no_panic_and_one_of_a_hundred_only_while_all_is_not_enough() {
    let is_panic = |threshold, available| {
        loads(&panic_below(threshold), &[key(0, None)], &[group(available, 100)]).is_panicking(0)
    };
    assert!(!is_panic(0, 0));
    assert!(is_panic(1, 0) && !is_panic(1, 1));
    assert!(is_panic(100, 71) && !is_panic(100, 72));
    assert!(is_panic(255, 71) && !is_panic(255, 100));
    assert!(
        !loads(&panic_below(50), &[key(0, None)], &[group(0, 0)]).is_panicking(0),
        "no endpoints, no panic"
    );
}

#[test]
fn loads_of_weighted_localities_are_those_of_envoys_table() {
    let weights = Arc::from([(zone("x"), 1), (zone("y"), 2)]);
    let config = SpreadConfig { localities: Localities::Weighted(weights), ..SpreadConfig::default() };
    let keys = [key(0, Some("x")), key(0, Some("y"))];
    for (available, documented) in [(100, 33), (70, 33), (69, 32), (50, 26), (25, 15), (0, 0)] {
        let loads = loads(&config, &keys, &[group(available, 100), group(100, 100)]);
        let percent: Vec<f64> = loads.shares().iter().map(|share| share * 100.0).collect();
        assert_near(&percent, &[f64::from(documented), f64::from(100 - documented)]);
    }
}

#[test]
fn a_locality_that_is_not_listed_has_weight_one_and_one_of_weight_zero_no_calls() {
    let weights = Arc::from([(zone("x"), 0), (zone("y"), 3)]);
    let config = SpreadConfig { localities: Localities::Weighted(weights), ..SpreadConfig::default() };
    let keys = [key(0, None), key(0, Some("x")), key(0, Some("y"))];
    let healthy = group(5, 5);
    assert_eq!(loads(&config, &keys, &[healthy; 3]).shares(), [0.25, 0.0, 0.75]);
    let out = group(0, 5);
    assert_eq!(
        loads(&config, &keys, &[out, healthy, out]).shares(),
        [0.0, 1.0, 0.0],
        "when there is no other"
    );
}

fn zones(own: &str, min_cluster_size: u32, routing_enabled: u8, proxies: &[(&str, u32)]) -> SpreadConfig {
    let proxies = proxies.iter().map(|(name, number)| (zone(name), *number)).collect();
    let aware = ZoneAware { own: zone(own), min_cluster_size, routing_enabled, proxies };
    SpreadConfig { localities: Localities::ZoneAware(aware), ..panic_below(50) }
}

/// Zones a, b, ... with so many endpoints, all ready: their shares of the calls.
fn zone_shares(config: &SpreadConfig, endpoints: &[u32]) -> Vec<f64> {
    let names = ["a", "b", "c", "d"];
    let keys: Vec<_> = names.iter().take(endpoints.len()).map(|name| key(0, Some(name))).collect();
    let health: Vec<_> = endpoints.iter().map(|count| group(*count, *count)).collect();
    loads(config, &keys, &health).shares().iter().map(|share| (share * 1e9).round() / 1e9).collect()
}

#[test]
fn the_own_zone_keeps_what_it_can_bear_and_the_rest_goes_where_there_is_room() {
    let from_a = zones("a", 6, 100, &[]);
    assert_eq!(zone_shares(&from_a, &[4, 4, 4]), [1.0, 0.0, 0.0]);
    assert_eq!(zone_shares(&from_a, &[5, 4, 3]), [1.0, 0.0, 0.0], "more than its part is room for others");
    // A quarter of the endpoints for a half of the proxies.
    assert_eq!(zone_shares(&from_a, &[2, 6]), [0.5, 0.5]);
    // 2 of 12 for a third: half stays; b has 1/12 more than its third, c 1/12 as well.
    assert_eq!(zone_shares(&from_a, &[2, 5, 5]), [0.5, 0.25, 0.25]);
    // c has no room, so all of the rest goes to b.
    assert_eq!(zone_shares(&from_a, &[2, 6, 4]), [0.5, 0.5, 0.0]);
    assert_eq!(zone_shares(&from_a, &[0, 6, 6]), [0.0, 0.5, 0.5], "nothing to keep");
}

#[test]
fn proxies_are_counted_where_they_are() {
    let from_a = |proxies| zones("a", 6, 100, proxies);
    assert_eq!(zone_shares(&from_a(&[("a", 3), ("b", 1)]), &[6, 6]), [0.666_666_667, 0.333_333_333]);
    assert_eq!(zone_shares(&from_a(&[("a", 1), ("b", 3)]), &[6, 6]), [1.0, 0.0]);
    // A third of the proxies are in a zone without endpoints: they use b's room, too.
    assert_eq!(zone_shares(&from_a(&[("a", 1), ("b", 1), ("z", 1)]), &[3, 6]), [1.0, 0.0]);
    assert_eq!(zone_shares(&from_a(&[("b", 1)]), &[6, 6]), [1.0, 0.0], "this proxy counts itself");
}

#[test]
fn small_clusters_and_unknown_zones_are_not_zone_aware() {
    assert_eq!(zone_shares(&zones("a", 6, 100, &[]), &[3, 2]), [0.6, 0.4]);
    assert_eq!(zone_shares(&zones("a", 6, 100, &[]), &[3, 3]), [1.0, 0.0]);
    assert_eq!(zone_shares(&zones("z", 6, 100, &[]), &[6, 2]), [0.75, 0.25]);
    assert_eq!(zone_shares(&zones("a", 6, 0, &[]), &[6, 6]), [0.5, 0.5]);
    assert_eq!(zone_shares(&zones("a", 6, 40, &[]), &[6, 6]), [0.7, 0.3]);
}

#[test]
fn a_zone_aware_cluster_in_panic_spreads_over_all() {
    let keys = [key(0, Some("a")), key(0, Some("b"))];
    let few = GroupHealth { total: 10, available: 2, candidates: 10, weight: 10 };
    let loads = loads(&zones("a", 6, 100, &[]), &keys, &[few, few]);
    assert!(loads.is_panicking(0));
    assert_eq!(loads.shares(), [0.5, 0.5]);
}

#[test]
fn calls_wait_for_a_priority_that_is_being_connected_to() {
    let pending = GroupHealth { total: 3, available: 3, candidates: 0, weight: 0 };
    let loads = loads(&panic_below(50), &[key(0, None), key(1, None)], &[pending, group(3, 3)]);
    assert_eq!(loads.shares(), [1.0, 0.0]);
}

#[test]
fn without_anything_available_what_can_be_picked_gets_the_calls() {
    let withheld =
        |candidates| GroupHealth { total: 4, available: 0, candidates, weight: u64::from(candidates) };
    let keys = [key(0, None), key(1, None)];
    assert_eq!(loads(&panic_below(50), &keys, &[withheld(0), withheld(4)]).shares(), [0.0, 1.0]);
    assert_eq!(loads(&panic_below(50), &keys, &[withheld(3), withheld(1)]).shares(), [0.75, 0.25]);
    assert_eq!(loads(&panic_below(50), &keys, &[withheld(0), withheld(0)]).shares(), [0.0, 0.0]);
}

#[test]
fn another_factor_begins_to_spill_elsewhere() {
    let share = |percent: u16, available| {
        let overprovisioning = Overprovisioning::try_from(percent).unwrap();
        let config = SpreadConfig { overprovisioning, ..SpreadConfig::default() };
        loads(&config, &[key(0, None), key(1, None)], &[group(available, 100), group(100, 100)]).shares()[0]
    };
    assert_eq!((share(100, 99), share(100, 100)), (0.99, 1.0));
    assert_eq!((share(1_000, 9), share(1_000, 10)), (0.9, 1.0));
    for percent in [0, 99, 1_001] {
        assert!(Overprovisioning::try_from(percent).is_err());
    }
}

#[test]
fn any_stretch_of_calls_is_within_a_few_calls_of_its_shares() {
    let keys = [key(0, None), key(1, None), key(2, None)];
    let mut loads = loads(&panic_below(50), &keys, &[group(25, 100), group(25, 100), group(100, 100)]);
    for calls in [10, 100, 1_000, 10_000] {
        let mut counts = [0.0; 3];
        (0..calls).for_each(|_| counts[loads.choose(None)] += 1.0);
        for (count, share) in counts.iter().zip([0.35, 0.35, 0.3]) {
            assert!((count - share * f64::from(calls)).abs() < 4.0, "{counts:?} of {calls}");
        }
    }
}

#[test]
fn a_key_stays_in_its_group_while_shares_stay_and_few_move_when_they_change() {
    let keys = [key(0, None), key(1, None)];
    let mut half = loads(&panic_below(50), &keys, &[group(50, 100), group(100, 100)]);
    let mut less = loads(&panic_below(50), &keys, &[group(40, 100), group(100, 100)]);
    let hashes = || (0..10_000_u64).map(crate::hash::mix);
    let first = |loads: &mut Loads| hashes().filter(|hash| loads.choose(Some(*hash)) == 0).count();
    assert!((6_800..7_200).contains(&first(&mut half)), "70 %");
    let moved = hashes().filter(|hash| half.choose(Some(*hash)) != less.choose(Some(*hash))).count();
    assert!((1_200..1_600).contains(&moved), "14 points of share are 14 % of the keys: {moved}");
    assert!(hashes().all(|hash| half.choose(Some(hash)) == half.choose(Some(hash))));
}

fn any_config() -> impl Strategy<Value = SpreadConfig> {
    let localities = prop_oneof![
        Just(Localities::Alike),
        proptest::collection::vec(0_u32..4, 4).prop_map(|weights| {
            let names = ["a", "b", "c", "d"].map(zone);
            Localities::Weighted(names.into_iter().zip(weights).collect())
        }),
        (0_u32..9, 0_u8..=100, proptest::collection::vec(0_u32..4, 0..5)).prop_map(
            |(min_cluster_size, routing_enabled, proxies)| {
                let proxies = ["a", "b", "c", "z"].map(zone).into_iter().zip(proxies).collect();
                Localities::ZoneAware(ZoneAware {
                    own: zone("a"),
                    min_cluster_size,
                    routing_enabled,
                    proxies,
                })
            }
        ),
    ];
    (localities, 0_u8..=100, 100_u16..=300).prop_map(|(localities, threshold, percent)| SpreadConfig {
        overprovisioning: Overprovisioning::try_from(percent).unwrap(),
        panic: PanicMode { threshold, fails: false },
        localities,
    })
}

fn any_groups() -> impl Strategy<Value = Vec<(GroupKey, GroupHealth)>> {
    let health =
        (0_u32..9, 0_u32..9, 0_u32..9, 1_u64..5).prop_map(|(out, pending, ready, weight)| GroupHealth {
            total: out + pending + ready,
            available: pending + ready,
            candidates: ready,
            weight: u64::from(ready) * weight,
        });
    let key = (0_u8..3, 0_usize..5).prop_map(|(priority, place)| {
        key(priority, [None, Some("a"), Some("b"), Some("c"), Some("d")][place])
    });
    proptest::collection::btree_map(key.prop_map(KeyOrd), health, 1..12)
        .prop_map(|groups| groups.into_iter().map(|(key, health)| (key.0, health)).collect())
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct KeyOrd(GroupKey);

fn levels(keys: &[GroupKey]) -> Vec<Range<usize>> {
    let mut levels = Vec::new();
    for level in keys.chunk_by(|a, b| a.priority == b.priority) {
        let start = levels.last().map_or(0, |range: &Range<usize>| range.end);
        levels.push(start..start + level.len());
    }
    levels
}

proptest! {
    #[test]
    fn shares_sum_up_to_one_and_go_where_there_is_something(config in any_config(), groups in any_groups()) {
        let (keys, health): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
        let mut loads = loads(&config, &keys, &health);
        let sum: f64 = loads.shares().iter().sum();
        let is_any_available = health.iter().any(|group| group.available > 0);
        prop_assert!(loads.shares().iter().all(|share| (0.0..=1.0 + 1e-9).contains(share)));
        prop_assert!((sum - f64::from(u8::from(is_any_available))).abs() < 1e-6, "{sum}");
        for level in levels(&keys) {
            let is_any_ready = health[level.clone()].iter().any(|group| group.candidates > 0);
            for place in level {
                let is_empty = if is_any_ready { health[place].candidates == 0 } else { health[place].available == 0 };
                prop_assert!(!is_empty || loads.shares()[place] == 0.0, "group {place} of {:?}", loads.shares());
            }
        }
        if is_any_available {
            for _ in 0..100 {
                let chosen = loads.choose(None);
                prop_assert!(loads.shares()[chosen] > 0.0, "{chosen} of {:?}", loads.shares());
            }
        }
    }

    /// What all zones' proxies send together loads all endpoints alike, as long as each zone with proxies has its rule.
    #[test]
    fn zones_together_load_all_endpoints_alike(
        endpoints in proptest::collection::vec(1_u32..20, 2..5),
        clients in proptest::collection::vec(1_u32..6, 4),
    ) {
        let names = ["a", "b", "c", "d"];
        let clients: Vec<(&str, u32)> = names.into_iter().zip(clients).take(endpoints.len()).collect();
        let mut received = vec![0.0; endpoints.len()];
        for (own, count) in &clients {
            let shares = zone_shares(&zones(own, 1, 100, &clients), &endpoints);
            received.iter_mut().zip(shares).for_each(|(sum, share)| *sum += f64::from(*count) * share);
        }
        let all: f64 = clients.iter().map(|(_, count)| f64::from(*count)).sum();
        let total: f64 = endpoints.iter().copied().map(f64::from).sum();
        for (received, endpoints) in received.iter().zip(&endpoints) {
            let fair = all * f64::from(*endpoints) / total;
            prop_assert!((received - fair).abs() < 1e-6, "{received} where {fair} is fair");
        }
    }
}
