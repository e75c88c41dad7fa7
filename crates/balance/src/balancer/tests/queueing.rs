//! A small queueing simulation around a real balancer: Poisson arrivals, servers with one queue each, simulated time.
//! Servers answer probes as a server kit does.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::fixture::Fixture;
use crate::{Ask, CallReport, LoadTracker, Outcome, Pick, Policy, ProbeAnswer, Slot};

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

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrival,
    /// The call at the head of a server's queue is done.
    Served(usize),
    /// A call that was failed at once is back.
    Failed(usize, Duration),
    Probed(Slot),
    ProbeAnswered(Slot, ProbeAnswer),
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
    /// Whether the driver sends probes.
    pub(crate) sends_probes: bool,
    /// Whether servers answer them.
    pub(crate) answers_probes: bool,
    rate: f64,
    rng: SmallRng,
    /// What is due, by time and sequence number: the key of `pending`.
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    pending: BTreeMap<u64, Event>,
    sequence: u64,
    /// Of each call at a server, oldest first: when it arrived, and how many calls it met.
    queues: Vec<VecDeque<(Duration, u32)>>,
    trackers: Vec<LoadTracker>,
}

impl Queueing {
    /// `rate` is the number of calls a second.
    pub(crate) fn new(policy: Policy, servers: &[Server], rate: f64, seed: u64) -> Self {
        Self::weighted(policy, servers, &vec![1; servers.len()], rate, seed)
    }

    /// The same with these weights of the servers.
    pub(crate) fn weighted(
        policy: Policy,
        servers: &[Server],
        weights: &[u32],
        rate: f64,
        seed: u64,
    ) -> Self {
        let fixture = Fixture::ready(policy, weights, seed);
        let now = fixture.now;
        let mut queueing = Self {
            fixture,
            servers: servers.to_vec(),
            now,
            sends_probes: true,
            answers_probes: true,
            rate,
            rng: SmallRng::seed_from_u64(seed ^ 0x5eed),
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            trackers: servers.iter().map(|_| LoadTracker::default()).collect(),
            sequence: 0,
            queues: vec![VecDeque::new(); servers.len()],
        };
        queueing.schedule(Duration::ZERO, Event::Arrival);
        queueing
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + after, self.sequence)));
        self.pending.insert(self.sequence, event);
    }

    fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.rng.random::<f64>()).ln())
    }

    /// Runs for this long, and tells of the calls that began in that time.
    pub(crate) fn run_for(&mut self, time: Duration) -> Outcomes {
        let end = self.now + time;
        let mut outcomes = Outcomes { counts: vec![0; self.servers.len()], latencies: Vec::new() };
        while self.events.peek().is_some_and(|Reverse((at, _))| *at <= end) {
            let Reverse((at, sequence)) = self.events.pop().expect("an event was just seen");
            let event = self.pending.remove(&sequence).expect("each event is due once");
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
                let (arrived, met) = self.queues[server].pop_front().expect("a served call was in the queue");
                let latency = self.now - arrived;
                outcomes.latencies.push(latency);
                self.trackers[server].finished(met, Some(latency), self.now);
                self.report(server, latency, Outcome::Success);
                self.serve(server);
            }
            Event::Failed(server, arrived) => self.report(server, self.now - arrived, Outcome::Failure),
            Event::Probed(slot) => {
                let answer = self.trackers[self.fixture.number(slot) as usize].answer(self.now);
                self.schedule(NETWORK, Event::ProbeAnswered(slot, answer));
            }
            Event::ProbeAnswered(slot, answer) => {
                self.fixture.balancer.probe_answered(slot, &answer, self.now);
            }
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
            let met = self.trackers[server].started();
            self.queues[server].push_back((self.now, met));
            if self.queues[server].len() == 1 {
                self.serve(server);
            }
        }
        self.probe();
    }

    fn probe(&mut self) {
        if !self.sends_probes {
            return;
        }
        while let Some(slot) = self.fixture.balancer.wants_probe(self.now) {
            if self.answers_probes {
                self.schedule(NETWORK, Event::Probed(slot));
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
