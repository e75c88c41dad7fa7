//! The events: calls, probes and antagonists, in the order of their time.

use core::cmp::Ordering;
use core::time::Duration;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_balance::{
    Address, Ask, Balancer, CallReport, Connectivity, EndpointSet, LoadReport, Outcome, Pick, Policy,
    ProbeAnswer, Slot,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::server::{Entered, Server, exponential};
use super::{Figures, Testbed};

/// From a client to a server, or back.
const NETWORK: Duration = Duration::from_micros(100);

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A call begins.
    Begin,
    /// A call reaches its server.
    Enter(usize),
    /// The server's next call is done, unless its version changed.
    Done(usize, u64),
    /// The answer is at the client.
    Answered(usize, LoadReport),
    Deadline(usize),
    Antagonists(usize),
    Probe(usize, Slot),
    ProbeAnswered(usize, Slot, ProbeAnswer),
}

#[derive(Debug)]
struct Due {
    at: Duration,
    sequence: u64,
    event: Event,
}

impl Due {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.sequence)
    }
}

impl Ord for Due {
    /// The next is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Due {}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

#[derive(Debug)]
struct Call {
    client: usize,
    slot: Slot,
    work: Duration,
    begun: Duration,
    /// While it is at the server.
    entered: Option<Entered>,
    is_over: bool,
}

pub(super) struct World {
    testbed: Testbed,
    now: Duration,
    /// Of the calls, and of the antagonists: the same whatever the policy, as these do not share their random numbers.
    rng: SmallRng,
    antagonists: SmallRng,
    clients: Vec<Balancer>,
    servers: Vec<Server>,
    /// All that ever began.
    calls: Vec<Call>,
    events: BinaryHeap<Due>,
    sequence: u64,
    /// Between calls, on average.
    gap: Duration,
    figures: Figures,
}

impl World {
    pub(super) fn new(testbed: Testbed, policy: Policy, load: f64, seed: u64) -> Self {
        let [mut seeds, mut antagonists] = [seed, !seed].map(SmallRng::seed_from_u64);
        let servers: Vec<Server> = (0..testbed.servers)
            .map(|server| Server::new(&testbed, testbed.slowdown_of(server), &mut antagonists))
            .collect();
        let clients = (0..testbed.clients).map(|_| client(&testbed, policy, seeds.random())).collect();
        let mut world = Self {
            testbed,
            now: Duration::ZERO,
            rng: SmallRng::seed_from_u64(seeds.random()),
            antagonists,
            clients,
            servers,
            calls: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            gap: Duration::from_secs_f64((load * testbed.capacity()).recip()),
            figures: Figures { least_capacity: f64::INFINITY, ..Figures::default() },
        };
        for server in 0..testbed.servers {
            let until = world.servers[server].first_change(&testbed, &mut world.antagonists);
            world.schedule(until, Event::Antagonists(server));
        }
        world.schedule(Duration::ZERO, Event::Begin);
        world
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Due { at, sequence: self.sequence, event });
    }

    /// Runs until every call that began in the time measured is over.
    pub(super) fn run(mut self) -> Figures {
        let end = self.testbed.warm_up + self.testbed.time + self.testbed.deadline;
        while let Some(due) = self.events.pop().filter(|due| due.at <= end) {
            self.now = due.at;
            self.handle(due.event);
        }
        self.figures.latencies.sort_unstable();
        self.figures
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Begin => self.begin(),
            Event::Enter(call) => self.enter(call),
            Event::Done(server, version) if self.servers[server].version == version => self.done(server),
            Event::Done(..) => {}
            Event::Answered(call, load) => self.end(call, Some(load)),
            Event::Deadline(call) => self.end(call, None),
            Event::Antagonists(server) => {
                let until = self.servers[server].antagonise(&self.testbed, self.now, &mut self.antagonists);
                self.note_capacity();
                self.schedule(until, Event::Antagonists(server));
                self.plan(server);
            }
            Event::Probe(client, slot) => {
                let answer = self.servers[slot.index()].answer(self.now);
                self.schedule(self.now + NETWORK, Event::ProbeAnswered(client, slot, answer));
            }
            Event::ProbeAnswered(client, slot, answer) => {
                self.clients[client].probe_answered(slot, &answer, self.now);
            }
        }
    }

    /// Whether the call or the event at this time counts.
    fn is_measured(&self, at: Duration) -> bool {
        (self.testbed.warm_up..self.testbed.warm_up + self.testbed.time).contains(&at)
    }

    fn note_capacity(&mut self) {
        if self.is_measured(self.now) {
            let capacity: f64 = self.servers.iter().map(Server::capacity).sum();
            let least = &mut self.figures.least_capacity;
            *least = least.min(capacity / self.testbed.allocated());
        }
    }

    fn begin(&mut self) {
        let now = self.now;
        let gap = exponential(self.gap, &mut self.rng);
        self.schedule(now + gap, Event::Begin);
        let client = self.rng.random_range(0..self.clients.len());
        let work = self.testbed.work.mul_f64((1.0 + normal(&mut self.rng)).max(0.0));
        let balancer = &mut self.clients[client];
        let Pick::Endpoint(slot) = balancer.pick(&Ask { now, hash: None }) else {
            panic!("all servers are ready")
        };
        balancer.call_started(slot, now);
        while let Some(slot) = self.clients[client].wants_probe(now) {
            self.schedule(now + NETWORK, Event::Probe(client, slot));
        }
        let call = self.calls.len();
        self.calls.push(Call { client, slot, work, begun: now, entered: None, is_over: false });
        self.schedule(now + NETWORK, Event::Enter(call));
        self.schedule(now + self.testbed.deadline, Event::Deadline(call));
    }

    fn enter(&mut self, call: usize) {
        let Call { slot, work, .. } = self.calls[call];
        let server = slot.index();
        self.calls[call].entered = Some(self.servers[server].enter(call, work, self.now));
        self.plan(server);
    }

    fn plan(&mut self, server: usize) {
        if let Some((at, _)) = self.servers[server].next_done() {
            self.schedule(at, Event::Done(server, self.servers[server].version));
        }
    }

    fn done(&mut self, server: usize) {
        let (_, call) = self.servers[server].next_done().expect("the version is that of the plan");
        self.leave(call, true);
        let load = self.servers[server].report();
        self.schedule(self.now + NETWORK, Event::Answered(call, load));
    }

    /// The call leaves its server, if it is there.
    fn leave(&mut self, call: usize, is_served: bool) {
        let server = self.calls[call].slot.index();
        if let Some(entered) = self.calls[call].entered.take() {
            self.servers[server].leave(call, entered, is_served, self.now);
            self.plan(server);
        }
    }

    /// A call is over for its client: by an answer with a load report, or by its deadline.
    fn end(&mut self, call: usize, load: Option<LoadReport>) {
        if self.calls[call].is_over {
            return;
        }
        self.calls[call].is_over = true;
        self.leave(call, false);
        let Call { client, slot, begun, .. } = self.calls[call];
        let latency = self.now - begun;
        let outcome = if load.is_some() { Outcome::Success } else { Outcome::Failure };
        self.clients[client].call_finished(slot, &CallReport { now: self.now, outcome, latency, load });
        if self.is_measured(begun) {
            self.figures.latencies.push(latency);
            self.figures.errors += usize::from(load.is_none());
        }
    }
}

/// A client connected to all servers; their numbers are its slots'.
fn client(testbed: &Testbed, policy: Policy, seed: u64) -> Balancer {
    let mut balancer = Balancer::new(policy, SmallRng::seed_from_u64(seed));
    let address = |server| Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 1 + server)));
    let servers = u16::try_from(testbed.servers).expect("a port numbers each server");
    let addresses: Vec<(Address, u32)> = (0..servers).map(|server| (address(server), 1)).collect();
    let changes = balancer.update(&Arc::new(EndpointSet::new(&addresses).prepared_for(policy)));
    assert!(changes.added.iter().map(|slot| slot.index()).eq(0..testbed.servers), "{changes:?}");
    while let Some(slot) = balancer.wants_connection(Duration::ZERO) {
        balancer.set_connectivity(slot, Connectivity::Ready, Duration::ZERO);
    }
    balancer
}

/// A normally distributed number, by Box and Muller.
fn normal(rng: &mut SmallRng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (core::f64::consts::TAU * rng.random::<f64>()).cos()
}
