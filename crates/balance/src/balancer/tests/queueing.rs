//! A small queueing simulation around a real balancer: Poisson arrivals, servers with one queue each, simulated time.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::fixture::Fixture;
use crate::{Ask, CallReport, Outcome, Pick, Policy};

/// How a server treats its calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// The mean of an exponentially distributed service time.
    pub(crate) mean: Duration,
    /// The share of calls that it fails, each at once.
    pub(crate) fails: f64,
}

impl Server {
    pub(crate) fn of_ms(mean_ms: u64) -> Self {
        Self { mean: Duration::from_millis(mean_ms), fails: 0.0 }
    }

    pub(crate) fn failing(self, fails: f64) -> Self {
        Self { fails, ..self }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Arrival,
    /// The call at the head of a server's queue is done.
    Served(usize),
    /// A call that was failed at once is back.
    Failed(usize, Duration),
}

/// What happened in one run.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Calls by server.
    pub(crate) counts: Vec<usize>,
    /// Of the calls that succeeded, ascending.
    pub(crate) latencies: Vec<Duration>,
}

impl Outcomes {
    /// The share of all calls that a server got, in units of its fair share.
    pub(crate) fn fair_shares(&self, server: usize) -> f64 {
        let all: usize = self.counts.iter().sum();
        self.counts[server] as f64 * self.counts.len() as f64 / all as f64
    }

    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * quantile) as usize]
    }
}

/// Time from a server to the balancer.
const NETWORK: Duration = Duration::from_micros(100);

pub(crate) struct Queueing {
    pub(crate) fixture: Fixture,
    pub(crate) servers: Vec<Server>,
    pub(crate) now: Duration,
    rate: f64,
    rng: SmallRng,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    /// When each call at a server arrived, oldest first.
    queues: Vec<VecDeque<Duration>>,
}

impl Queueing {
    /// `rate` is the number of calls a second.
    pub(crate) fn new(policy: Policy, servers: &[Server], rate: f64, seed: u64) -> Self {
        let fixture = Fixture::ready(policy, &vec![1; servers.len()], seed);
        let now = fixture.now;
        let mut queueing = Self {
            fixture,
            servers: servers.to_vec(),
            now,
            rate,
            rng: SmallRng::seed_from_u64(seed ^ 0x5eed),
            events: BinaryHeap::new(),
            sequence: 0,
            queues: vec![VecDeque::new(); servers.len()],
        };
        queueing.schedule(Duration::ZERO, Event::Arrival);
        queueing
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + after, self.sequence, event)));
    }

    fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.rng.random::<f64>()).ln())
    }

    /// Runs for this long, and tells of the calls that began in that time.
    pub(crate) fn run_for(&mut self, time: Duration) -> Outcomes {
        let end = self.now + time;
        let mut outcomes = Outcomes { counts: vec![0; self.servers.len()], latencies: Vec::new() };
        while self.events.peek().is_some_and(|Reverse((at, _, _))| *at <= end) {
            let Reverse((at, _, event)) = self.events.pop().expect("an event was just seen");
            self.now = at;
            self.handle(event, &mut outcomes);
        }
        self.now = end;
        outcomes.latencies.sort_unstable();
        outcomes
    }

    fn handle(&mut self, event: Event, outcomes: &mut Outcomes) {
        match event {
            Event::Arrival => {
                let gap = self.exponential(Duration::from_secs_f64(self.rate.recip()));
                self.schedule(gap, Event::Arrival);
                self.send(outcomes);
            }
            Event::Served(server) => {
                let arrived = self.queues[server].pop_front().expect("a served call was in the queue");
                let latency = self.now - arrived;
                outcomes.latencies.push(latency);
                self.report(server, latency, Outcome::Success);
                self.serve(server);
            }
            Event::Failed(server, arrived) => self.report(server, self.now - arrived, Outcome::Failure),
        }
    }

    fn send(&mut self, outcomes: &mut Outcomes) {
        let ask = Ask { now: self.now, hash: None };
        let Pick::Endpoint(slot) = self.fixture.balancer.pick(&ask) else { panic!("all servers are ready") };
        self.fixture.balancer.call_started(slot, self.now);
        let server = self.fixture.number(slot) as usize;
        outcomes.counts[server] += 1;
        if self.rng.random_bool(self.servers[server].fails) {
            self.schedule(NETWORK, Event::Failed(server, self.now));
        } else {
            self.queues[server].push_back(self.now);
            if self.queues[server].len() == 1 {
                self.serve(server);
            }
        }
    }

    fn serve(&mut self, server: usize) {
        if !self.queues[server].is_empty() {
            let time = self.exponential(self.servers[server].mean);
            self.schedule(time, Event::Served(server));
        }
    }

    fn report(&mut self, server: usize, latency: Duration, outcome: Outcome) {
        let slot = self.fixture.slot(u32::try_from(server).expect("servers are few"));
        let report = CallReport { now: self.now, outcome, latency, load: None };
        self.fixture.balancer.call_finished(slot, &report);
    }
}
