//! What it costs a worker when one endpoint of 10,000 comes, goes, or changes its state.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use evenkeel_balance::{Balancer, Connectivity, Endpoint, Slot, Withheld};

use super::cases::{Case, connect};
use super::{MANY, median};

/// Sets that are taken, one with an endpoint more and one with an endpoint less in turn; and endpoints that are lost.
const CHANGES: usize = 40;

/// Microseconds, medians.
pub(super) struct ChangeCost {
    /// Until a worker has taken a set with one endpoint more.
    pub(super) more: f64,
    /// Likewise, with one less.
    pub(super) less: f64,
    /// Until a worker has taken note that the connection to an endpoint is lost, and that there is one again.
    pub(super) lost: f64,
    pub(super) back: f64,
    /// Until it has heeded that others found an endpoint unhealthy, and healthy again: a look at all.
    pub(super) unhealthy: f64,
    pub(super) healthy: f64,
    /// Until it has copied all that it knows, for somebody who asks what a call would get; no change, and nobody asks often.
    pub(super) copied: f64,
    /// Off the workers' threads, and once for all of them: until a set is made of the one before.
    pub(super) made: f64,
}

impl ChangeCost {
    /// What a worker needs, with words for it.
    pub(super) fn of_worker(&self) -> [(&'static str, f64); 6] {
        [
            ("one endpoint more than 10,000", self.more),
            ("one endpoint less than 10,001", self.less),
            ("one connection of 10,000 lost", self.lost),
            ("one connection of 10,000 made anew", self.back),
            ("one endpoint of 10,000 unhealthy", self.unhealthy),
            ("one endpoint of 10,000 healthy again", self.healthy),
        ]
    }
}

/// Measures a policy's changes.
pub(super) fn change_cost(case: &Case) -> ChangeCost {
    let many = case.listed(MANY + 1);
    let mut set = case.set(&many[..MANY as usize]);
    let mut balancer = case.connected(&set);
    let spread = case.spread();
    let [mut more, mut less, mut made] = [const { Vec::new() }; 3];
    for change in 0..CHANGES {
        let mut list = many.clone();
        let is_more = change % 2 == 0;
        if !is_more {
            // Anywhere among the others; it comes back with the next set.
            list.remove(change * 997 % many.len());
        }
        let (next, micros) = timed(|| Arc::new(set.followed_by(&list, &spread)));
        made.push(micros);
        set = next;
        let (changes, micros) = timed(|| balancer.update(&set));
        if is_more { &mut more } else { &mut less }.push(micros);
        changes.removed.into_iter().for_each(|slot| balancer.forget(slot));
        connect(&mut balancer, Duration::from_secs(1));
    }
    let (mut lost, mut back) = lost_and_back(&mut balancer);
    let (mut unhealthy, mut healthy) = unhealthy_and_healthy(&mut balancer);
    let mut copied: Vec<f64> = (0..CHANGES).map(|_| timed(|| balancer.preview(1)).1).collect();
    ChangeCost {
        more: median(&mut more),
        less: median(&mut less),
        lost: median(&mut lost),
        back: median(&mut back),
        unhealthy: median(&mut unhealthy),
        healthy: median(&mut healthy),
        copied: median(&mut copied),
        made: median(&mut made),
    }
}

fn lost_and_back(balancer: &mut Balancer) -> (Vec<f64>, Vec<f64>) {
    let slots: Vec<Slot> = balancer.slots().map(|status| status.slot).collect();
    let mut now = Duration::from_secs(2);
    let lose_one = |place: usize| {
        let slot = slots[place * 997 % slots.len()];
        now += Duration::from_secs(1);
        let ((), lost) = timed(|| balancer.set_connectivity(slot, Connectivity::Idle, now));
        let ((), back) = timed(|| connect(balancer, now));
        (lost, back)
    };
    (0..CHANGES).map(lose_one).unzip()
}

fn unhealthy_and_healthy(balancer: &mut Balancer) -> (Vec<f64>, Vec<f64>) {
    let endpoints: Vec<Arc<Endpoint>> = balancer.slots().map(|status| Arc::clone(status.endpoint)).collect();
    let mut now = Duration::from_secs(1_000);
    let mut change_one = |place: usize, is_unhealthy: bool| {
        endpoints[place * 997 % endpoints.len()].set_withheld(Withheld::Unhealthy, is_unhealthy);
        now += Duration::from_secs(1);
        timed(|| balancer.heed(now)).1
    };
    (0..CHANGES).map(|place| (change_one(place, true), change_one(place, false))).unzip()
}

/// What a function returns, and the microseconds that it took.
#[expect(clippy::disallowed_methods, reason = "measuring time is what this example is for")]
fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed().as_secs_f64() * 1e6)
}
