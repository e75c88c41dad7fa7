//! From the health of the groups to their shares, and from a share to a choice.

use std::sync::Arc;

use super::config::{Localities, SpreadConfig, ZoneAware};
use crate::hash::mix;
use crate::locality::Locality;

/// What sets a group apart. Groups of a set are in this order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct GroupKey {
    pub(crate) priority: u8,
    /// `None` where localities are alike, or where nobody said.
    pub(crate) locality: Option<Arc<Locality>>,
}

impl GroupKey {
    fn is_at(&self, place: &Locality) -> bool {
        self.locality.as_deref() == Some(place)
    }

    /// The number listed for the group's locality.
    fn number_in(&self, list: &[(Locality, u32)]) -> Option<u32> {
        list.iter().find(|(place, _)| self.is_at(place)).map(|(_, number)| *number)
    }
}

/// What there is of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupHealth {
    /// Endpoints, but for those that drain.
    pub(crate) total: u32,
    /// Those that are ready or may soon be, and that nothing withholds.
    pub(crate) available: u32,
    /// Those that can be picked now.
    pub(crate) candidates: u32,
    /// The sum of their weights.
    pub(crate) weight: u64,
}

/// Health and loads of priorities are whole billionths, so that what is exact on paper is exact here. Their products fit: health
/// times this is 10^18 at most.
const WHOLE: u64 = 1_000_000_000;

/// The end of the last group's stretch of points.
const END: u64 = 1 << 32;

/// 2^32 divided by the golden ratio: of all steps the one whose multiples lie most evenly (Knuth 6.4, theorem S).
const STEP: u32 = 0x9e37_79b9;

/// The groups' shares, and who gets the next call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads {
    /// By group, in the set's order; they sum up to 1, or are all 0 while nothing is available.
    shares: Vec<f64>,
    /// Where each group's stretch of the points from 0 to [`END`] ends.
    ends: Vec<u64>,
    /// Priorities in panic, as bits.
    panics: u16,
    point: u32,
}

impl Loads {
    /// Begins the sequence elsewhere, so that workers do not go in step.
    pub(crate) fn starting_at(point: u32) -> Self {
        Self { point, ..Self::default() }
    }

    pub(crate) fn shares(&self) -> &[f64] {
        &self.shares
    }

    pub(crate) fn panics(&self) -> u16 {
        self.panics
    }

    /// Forgets about panics, until the next update.
    pub(crate) fn calm(&mut self) {
        self.panics = 0;
    }

    pub(crate) fn is_panicking(&self, priority: u8) -> bool {
        self.panics & (1 << priority) != 0
    }

    /// The group of the next call: by its key, or the next in turn. O(log g) for g groups, 64 at most.
    pub(crate) fn choose(&mut self, hash: Option<u64>) -> usize {
        let point = match hash {
            // Scrambled, as the hash itself places the key within the group.
            Some(hash) => (mix(hash) >> 32) as u32,
            None => {
                self.point = self.point.wrapping_add(STEP);
                self.point
            }
        };
        let place = self.ends.partition_point(|end| *end <= u64::from(point));
        // All shares are 0 while nothing is available: any group is as good then.
        if place < self.ends.len() { place } else { 0 }
    }

    /// Works the shares out anew. O(g); allocates when there are more groups than ever before.
    pub(crate) fn update(&mut self, config: &SpreadConfig, keys: &[GroupKey], health: &[GroupHealth]) {
        debug_assert_eq!(keys.len(), health.len(), "each group has a health");
        self.shares.clear();
        self.shares.resize(keys.len(), 0.0);
        self.panics = 0;
        let factor = u64::from(config.overprovisioning.percent());
        let sum: u64 = levels(keys).map(|level| score(&health[level], factor)).sum();
        let total = sum.min(WHOLE);
        let mut left = WHOLE;
        for level in levels(keys) {
            let of_level = &health[level.clone()];
            if sum < WHOLE && is_panic(of_level, config.panic.threshold) {
                self.panics |= 1 << keys[level.start].priority;
            }
            let load = (score(of_level, factor) * WHOLE).checked_div(total).unwrap_or(0).min(left);
            left -= load;
            let shares = &mut self.shares[level.clone()];
            let is_panic = self.panics & (1 << keys[level.start].priority) != 0;
            share_out(load as f64 / WHOLE as f64, shares, config, &keys[level], of_level, is_panic);
        }
        if total == 0 {
            self.share_by_candidates(health);
        } else if left > 0 {
            // Rounding left a few billionths over.
            let sum: f64 = self.shares.iter().sum();
            self.shares.iter_mut().for_each(|share| *share /= sum);
        }
        self.set_ends();
    }

    /// Nothing is available anywhere: by what can be picked all the same.
    fn share_by_candidates(&mut self, health: &[GroupHealth]) {
        let total: u64 = health.iter().map(|group| u64::from(group.candidates)).sum();
        for (share, group) in self.shares.iter_mut().zip(health) {
            *share = if total == 0 { 0.0 } else { f64::from(group.candidates) / total as f64 };
        }
    }

    fn set_ends(&mut self) {
        self.ends.clear();
        let mut sum = 0.0;
        for share in &self.shares {
            sum += share;
            self.ends.push((sum * END as f64) as u64);
        }
        // What rounding left over belongs to the last group that gets anything.
        if let Some(last) = self.shares.iter().rposition(|share| *share > 0.0) {
            self.ends[last..].fill(END);
        }
    }
}

/// The groups of each priority, which stand together.
fn levels(keys: &[GroupKey]) -> impl Iterator<Item = core::ops::Range<usize>> {
    let mut start = 0;
    keys.chunk_by(|a, b| a.priority == b.priority).map(move |level| {
        let range = start..start + level.len();
        start = range.end;
        range
    })
}

fn count(level: &[GroupHealth], of: impl Fn(&GroupHealth) -> u32) -> u64 {
    level.iter().map(|group| u64::from(of(group))).sum()
}

/// A priority's health in billionths: rounded down, so that no rounding makes it suffice.
fn score(level: &[GroupHealth], factor: u64) -> u64 {
    let available = count(level, |group| group.available);
    let scaled = available * factor * (WHOLE / 100);
    scaled.checked_div(count(level, |group| group.total)).unwrap_or(0).min(WHOLE)
}

fn is_panic(level: &[GroupHealth], threshold: u8) -> bool {
    let total = count(level, |group| group.total);
    let available = count(level, |group| group.available);
    total > 0 && available * 100 < total * u64::from(threshold.min(100))
}

/// Shares a priority's load out to its localities.
fn share_out(
    load: f64,
    shares: &mut [f64],
    config: &SpreadConfig,
    keys: &[GroupKey],
    health: &[GroupHealth],
    is_panic: bool,
) {
    match &config.localities {
        Localities::Weighted(weights) if keys.len() > 1 => {
            let factor = f64::from(config.overprovisioning.percent()) / 100.0;
            for ((share, key), group) in shares.iter_mut().zip(keys).zip(health) {
                let weight = key.number_in(weights).unwrap_or(1);
                let part = factor * f64::from(group.available) / f64::from(group.total.max(1));
                let part = if is_panic { 1.0 } else { part.min(1.0) };
                *share = if group.candidates > 0 { f64::from(weight) * part } else { 0.0 };
            }
        }
        Localities::ZoneAware(zones) if keys.len() > 1 && !is_panic => {
            zone_aware(shares, zones, keys, health);
        }
        _ => by_weight(shares, health),
    }
    if shares.iter().sum::<f64>() <= 0.0 {
        by_weight(shares, health);
    }
    if shares.iter().sum::<f64>() <= 0.0 {
        // None is ready: the calls wait for those that may be.
        for (share, group) in shares.iter_mut().zip(health) {
            *share = f64::from(group.available);
        }
    }
    let sum: f64 = shares.iter().sum();
    for share in shares {
        *share = if sum > 0.0 { *share / sum * load } else { 0.0 };
    }
}

/// In proportion to what can be picked: as a policy that knew no groups would.
fn by_weight(shares: &mut [f64], health: &[GroupHealth]) {
    for (share, group) in shares.iter_mut().zip(health) {
        *share = group.weight as f64;
    }
}

/// Envoy's zone-aware rule.
fn zone_aware(shares: &mut [f64], zones: &ZoneAware, keys: &[GroupKey], health: &[GroupHealth]) {
    by_weight(shares, health);
    let total: f64 = shares.iter().sum();
    let Some(own) = keys.iter().position(|key| key.is_at(&zones.own)) else { return };
    let ready = count(health, |group| group.candidates);
    if total <= 0.0 || ready < u64::from(zones.min_cluster_size) {
        return;
    }
    let proxies = |key: &GroupKey| {
        let is_own = key.is_at(&zones.own);
        let listed = if zones.proxies.is_empty() { Some(1) } else { key.number_in(&zones.proxies) };
        f64::from(listed.unwrap_or(0).max(u32::from(is_own)))
    };
    // Proxies of zones without endpoints count too: their calls take room in the others.
    let elsewhere = zones.proxies.iter().filter(|(place, _)| !keys.iter().any(|key| key.is_at(place)));
    let everywhere =
        keys.iter().map(proxies).sum::<f64>() + elsewhere.map(|(_, number)| f64::from(*number)).sum::<f64>();
    // The shares of a group: of the endpoints, and of the proxies.
    let kept = (shares[own] / total / (proxies(&keys[own]) / everywhere)).min(1.0);
    let left_over = |weight: f64, key: &GroupKey| (weight / total - proxies(key) / everywhere).max(0.0);
    let of_others = |of: &dyn Fn(f64, &GroupKey) -> f64| -> f64 {
        let groups = shares.iter().zip(keys).enumerate().filter(|(group, _)| *group != own);
        groups.map(|(_, (weight, key))| of(*weight, key)).sum()
    };
    let (room, others) = (of_others(&left_over), of_others(&|weight, _| weight));
    let enabled = f64::from(zones.routing_enabled.min(100)) / 100.0;
    for (group, (share, key)) in shares.iter_mut().zip(keys).enumerate() {
        let aware = if group == own {
            kept
        } else if room > 0.0 {
            (1.0 - kept) * left_over(*share, key) / room
        } else if others > 0.0 {
            (1.0 - kept) * *share / others
        } else {
            0.0
        };
        *share = enabled * aware + (1.0 - enabled) * *share / total;
    }
}
