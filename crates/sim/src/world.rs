//! The world: events in order of time, given to whom they concern, and the rules checked as they go by.
//!
//! A world has four parts, each in bounded time: calls and faults, until every call has ended; quiet, in which everything
//! that was begun comes to its end; leaving, the clients by themselves or because the worker drains; and the end of the
//! configuration, after which the worker must hold nothing.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::{Endpoint, EndpointSet};
use evenkeel_telemetry::{ClusterEvent, RetryDenied};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::affinity::{self, Homes};
use crate::backend::Backend;
use crate::bounds::{Shared, UnderWay, judge_counts};
use crate::check;
use crate::client::Client;
use crate::driver::Driver;
use crate::event::{ClientTimer, Event};
use crate::health::Checks;
use crate::ledger::{CallRecord, Ledger};
use crate::net::{Accept, LinkId, Net, Owner, Side};
use crate::plan::Fault;
use crate::setup::Setup;
use crate::spread::{self, Account, Panics};
use crate::standings::Standings;
use crate::stats::{Happening, Stats};

/// How long a world is left alone before it is looked at: longer than the longest stall, a backoff and a connection attempt.
const QUIET: Duration = Duration::from_secs(8);

/// How long clients have to leave: longer than the longest gap between two GOAWAYs and the time in which a connection lingers.
const LEAVING: Duration = Duration::from_secs(10);

/// Over which time a drain spreads the clients' turns.
const DRAIN_SPREAD: Duration = Duration::from_millis(200);

/// A rule that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The seed of the world.
    pub seed: u64,
    /// The world's time.
    pub at: Duration,
    /// What was broken, by whom.
    pub text: String,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "seed {} at {:?}: {}", self.seed, self.at, self.text)
    }
}

impl core::error::Error for Violation {}

/// What a world came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A hash of everything that happened, in order.
    pub trace: u64,
    /// What happened, and how often.
    pub stats: Stats,
    /// Every call, in the order of the setup.
    pub calls: Vec<CallRecord>,
    /// Events that were handled.
    pub events: u64,
    /// When the last call had ended.
    pub calls_ended_at: Duration,
    /// DATA bytes that backends have sent.
    pub backend_bytes: u64,
}

/// A world.
#[derive(Debug)]
pub struct World {
    pub(crate) net: Net,
    pub(crate) driver: Driver,
    pub(crate) clients: Vec<Client>,
    pub(crate) backends: Vec<Backend>,
    pub(crate) ledger: Ledger,
    setup: Arc<Setup>,
    set: Arc<EndpointSet>,
    /// Every endpoint that there ever was.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) checks: Option<Checks>,
    shared: Shared,
    /// After the newest step of the worker, in a world with bounds.
    under_way: UnderWay,
    homes: Homes,
    judges_homes: bool,
    panics: Panics,
    /// After the newest step of the worker.
    newest_account: Account,
    generation: u32,
    /// References to header fields that the worker holds from its start.
    pub(crate) own_references: u64,
    events: u64,
}

impl World {
    /// A world before its first event.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut net = Net::new(setup.seed, SmallRng::seed_from_u64(setup.seed));
        let all: Vec<usize> = (0..setup.backends.len()).collect();
        let set = setup.endpoint_set(&all, None);
        let shared = Shared::new(&setup, set.endpoints().len() as u32);
        shared.bound(&set);
        let snapshot = setup.snapshot(1, Some(&set), &shared);
        let seed = net.rng.random();
        let mut checks = setup.checks.clone().map(|config| Checks::new(config, all.len()));
        if let Some(checks) = &mut checks {
            checks.follow(&mut net, &set, Setup::backend_at);
        }
        let driver = Driver::new(&net, seed, &setup, &snapshot);
        let proxy = Setup::proxy_address();
        net.listen(proxy, Owner::Worker, Accept::Open);
        let backends: Vec<Backend> = all
            .iter()
            .map(|index| Backend::new(*index, setup.backends[*index], Setup::backend_address(*index)))
            .collect();
        for (index, backend) in backends.iter().enumerate() {
            net.listen(backend.address, Owner::Backend(index), Accept::Open);
        }
        let clients = setup.clients.iter().enumerate();
        let clients = clients.map(|(index, client)| Client::new(index, *client, proxy)).collect();
        for (call, plan) in setup.calls.iter().enumerate() {
            let timer = ClientTimer::Start(call as u32);
            net.queue.push(plan.start_at, Event::Client { client: plan.client, timer });
        }
        for (index, (at, _)) in setup.faults.iter().enumerate() {
            net.queue.push(*at, Event::Fault(index));
        }
        let ledger = Ledger::new(&setup);
        let own_references = driver.worker.usage().field_references;
        let endpoints = set.endpoints().to_vec();
        let judges_homes = affinity::is_judged(&setup);
        let setup = Arc::new(setup);
        Self {
            net,
            driver,
            clients,
            backends,
            ledger,
            setup,
            set,
            endpoints,
            checks,
            shared,
            under_way: UnderWay::default(),
            homes: Homes::default(),
            judges_homes,
            panics: Panics::default(),
            newest_account: Account::default(),
            generation: 1,
            own_references,
            events: 0,
        }
    }

    /// Runs the world to its end.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn run(mut self) -> Result<Outcome, Violation> {
        let result = self.live();
        // A header block that is dropped with references in it panics; in a world that failed that would hide the failure.
        for client in &mut self.clients {
            client.dissolve(&mut self.net);
        }
        for backend in &mut self.backends {
            backend.dissolve(&mut self.net);
        }
        let calls_ended_at = match result {
            Ok(at) => at,
            Err(violation) => {
                core::mem::forget(self.driver);
                return Err(violation);
            }
        };
        let backend_bytes = self.net.sent_by_backends();
        Ok(Outcome {
            trace: self.net.trace.value(),
            stats: self.net.stats,
            calls: self.ledger.calls,
            events: self.events,
            calls_ended_at,
            backend_bytes,
        })
    }

    /// The four parts; returns when the last call had ended.
    fn live(&mut self) -> Result<Duration, Violation> {
        // What strikes at time zero is how the worker finds the world.
        self.run_until(Duration::ZERO, |_| false)?;
        self.driver.start(&mut self.net);
        let last_start = self.setup.calls.iter().map(|plan| plan.start_at).max().unwrap_or_default();
        let last_fault = self.setup.faults.last().map_or(Duration::ZERO, |(at, _)| *at);
        let until = last_start.max(last_fault) + self.setup.patience;
        self.run_until(until, |world| world.ledger.open_count() == 0 && world.net.now >= last_fault)?;
        check::all_calls_ended(self);
        self.verdict()?;
        if let Some(checks) = &mut self.checks {
            checks.calm();
        }
        let calls_ended_at = self.net.now;
        self.run_until(calls_ended_at + QUIET, |_| false)?;
        check::quiet(self);
        self.verdict()?;
        self.leave()?;
        check::nobody_left(self);
        self.verdict()?;
        let empty = self.setup.snapshot(self.generation + 1, None, &self.shared);
        self.driver.command(&mut self.net, |worker, now| worker.apply(&empty, now));
        self.run_until(self.net.now + QUIET, |_| false)?;
        check::nothing_left(self);
        self.verdict()?;
        Ok(calls_ended_at)
    }

    fn leave(&mut self) -> Result<(), Violation> {
        if self.setup.drains_at_end {
            self.drain(DRAIN_SPREAD);
            // A client that is asked to go has nothing left to do here.
            self.run_until(self.net.now + LEAVING, |_| false)?;
            check::drained(self);
            self.verdict()?;
        }
        for client in &mut self.clients {
            client.leave(&mut self.net, &mut self.ledger);
        }
        self.run_until(self.net.now + LEAVING, |_| false)
    }

    fn drain(&mut self, spread: Duration) {
        self.net.stats.count(Happening::DrainStarted);
        self.driver.command(&mut self.net, |worker, now| worker.start_drain(now, spread));
    }

    fn verdict(&mut self) -> Result<(), Violation> {
        match self.net.violation.take() {
            None => Ok(()),
            Some(text) => Err(Violation { seed: self.setup.seed, at: self.net.now, text }),
        }
    }

    /// Handles events up to a point in time, or until `done`.
    fn run_until(&mut self, until: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        while !done(self) {
            let Some((at, event)) = self.net.queue.pop(until) else {
                self.net.now = until;
                return Ok(());
            };
            self.net.now = at;
            self.events += 1;
            self.handle(event);
            self.verdict()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        // Only these can make the worker send a call.
        let may_send = match event {
            Event::WorkerTurn => self.driver.has_turn(self.net.now),
            Event::Fault(_) => true,
            _ => false,
        };
        if !may_send || (!self.setup.withholds() && self.setup.places.is_none()) {
            self.dispatch(event);
            if may_send {
                self.judge_step();
            }
            return;
        }
        let account = core::mem::take(&mut self.newest_account).refreshed();
        let standings = self.setup.withholds().then(|| self.standings());
        self.panics.note(&account);
        self.dispatch(event);
        let after = self.account();
        self.panics.note(&after);
        if let Some(standings) = standings {
            if let Some(config) = &self.setup.outliers {
                standings.judge_ejections(&mut self.net, &self.set, config);
            }
            // Where health is disregarded, it is.
            let is_panic =
                |endpoint: &Arc<Endpoint>| account.is_panic_for(endpoint) || self.panics.lingers(&after);
            standings.after(&mut self.net, &self.driver.worker, &self.set, is_panic);
        }
        self.judge_spread(&account, &after);
        self.newest_account = after;
        self.judge_step();
    }

    /// Judges what holds after each step of the worker, whatever health and places say.
    fn judge_step(&mut self) {
        if self.judges_homes {
            let now = self.net.now;
            match self.homes.judge(&self.setup, &self.driver.worker, &self.set, |run| run.sent_at == now) {
                Ok(true) => self.net.stats.count(Happening::SessionMoved),
                Ok(false) => {}
                Err(text) => self.net.violate(|| text),
            }
        }
        self.judge_bounds();
    }

    /// Judges the limits after a step of the worker.
    fn judge_bounds(&mut self) {
        if self.setup.bounds.is_none() {
            return;
        }
        let Self { driver, shared, endpoints, .. } = self;
        let now = UnderWay::now(shared, &driver.worker, &driver.telemetry, endpoints);
        let judged = now.judge(&self.under_way, shared, &driver.worker, self.setup.max_pending, endpoints);
        self.under_way = now;
        self.ledger.note_attempt_time(self.shared.attempt_time());
        if let Err(text) = judged {
            self.net.violate(|| text);
        }
    }

    /// What is left of the limits once all calls have ended, and what became of their calls in all.
    pub(crate) fn judge_bounds_at_end(&mut self) {
        let judged = self.shared.judge_end(&self.endpoints);
        let rates =
            self.setup.bounds.as_ref().map_or(Ok(()), |bounds| bounds.judge_rates(&self.ledger.calls));
        let counts = judge_counts(&self.ledger.calls, &self.driver.telemetry);
        if let Err(text) = judged.and(rates).and(counts) {
            self.net.violate(|| text);
        }
        let denied = ClusterEvent::RetryDenied(RetryDenied::BreakerOpen);
        if self.driver.telemetry.snapshot().cluster_event(denied) > 0 {
            self.net.stats.count(Happening::RetryOverflowed);
        }
    }

    pub(crate) fn judge_connections_at_end(&mut self) {
        if let Err(text) = self.shared.judge_connections(&self.endpoints) {
            self.net.violate(|| text);
        }
    }

    fn standings(&self) -> Standings {
        Standings::before(&self.driver.worker, &self.set, self.net.now)
    }

    fn account(&self) -> Account {
        Account::of(&self.setup, &self.driver.worker, &self.set, self.net.now)
    }

    fn judge_spread(&mut self, before: &Account, after: &Account) {
        if self.setup.places.is_none() {
            return;
        }
        if after.has_panic() {
            self.net.stats.count(Happening::Panicked);
            if self.setup.fails_in_panic() {
                self.ledger.panicked(self.net.now);
            }
        }
        let driver = &self.driver;
        match spread::judge(&self.setup, self.net.now, before, after, || driver.worker.running_attempts()) {
            Ok(true) => self.net.stats.count(Happening::FailedOver),
            Ok(false) => {}
            Err(_) if self.panics.linger_in_worker(before, after) => {}
            Err(text) => self.net.violate(|| text),
        }
    }

    fn dispatch(&mut self, event: Event) {
        let Self { net, driver, clients, backends, ledger, .. } = self;
        match event {
            Event::Arrive { link, from } => {
                if net.arrive(link, from) {
                    self.on_readable(link, from.other());
                }
            }
            Event::Reset { link, to } => {
                if net.reset_arrives(link, to) {
                    self.on_reset(link, to);
                }
            }
            Event::Accepted { link } => match net.owner(link, Side::Acceptor) {
                Owner::Worker => driver.on_accepted(net, link, 0),
                Owner::Backend(backend) => backends[backend].on_accepted(net, link),
                Owner::Client(_) => {}
            },
            Event::Connected { link } => {
                if net.establish(link) {
                    match net.owner(link, Side::Initiator) {
                        Owner::Worker => driver.on_connected(net, link),
                        Owner::Client(client) => clients[client].on_connected(net, link),
                        Owner::Backend(_) => {}
                    }
                }
            }
            Event::Refused { link } => match net.owner(link, Side::Initiator) {
                Owner::Worker => driver.on_refused(net, link),
                Owner::Client(client) => clients[client].on_refused(net, ledger, link),
                Owner::Backend(_) => {}
            },
            Event::Writable { link, side } => match net.owner(link, side) {
                Owner::Worker => driver.on_writable(net, link),
                Owner::Client(client) => clients[client].on_writable(net, link),
                Owner::Backend(backend) => backends[backend].on_writable(net, link),
            },
            Event::WorkerTurn => driver.turn(net),
            Event::Client { client, timer } => clients[client].on_timer(net, ledger, timer),
            Event::Backend { backend, timer } => backends[backend].on_timer(net, ledger, timer),
            Event::Check(event) => {
                if let Some(checks) = &mut self.checks {
                    checks.on_event(net, event);
                }
            }
            Event::Fault(index) => self.strike(index),
        }
    }

    fn on_readable(&mut self, link: LinkId, side: Side) {
        let Self { net, driver, clients, backends, ledger, .. } = self;
        match net.owner(link, side) {
            Owner::Worker => driver.on_readable(net, link, side),
            Owner::Client(client) => clients[client].on_readable(net, ledger, link),
            Owner::Backend(backend) => backends[backend].on_readable(net, ledger, link),
        }
    }

    fn on_reset(&mut self, link: LinkId, side: Side) {
        let Self { net, driver, clients, backends, ledger, .. } = self;
        match net.owner(link, side) {
            // epoll reports a reset as readable and writable.
            Owner::Worker => {
                driver.on_readable(net, link, side);
                driver.on_writable(net, link);
            }
            Owner::Client(client) => clients[client].on_reset(net, ledger, link),
            Owner::Backend(backend) => backends[backend].on_reset(net, ledger, link),
        }
    }

    fn strike(&mut self, index: usize) {
        let setup = Arc::clone(&self.setup);
        let Self { net, driver, clients, backends, ledger, .. } = self;
        match &setup.faults[index].1 {
            Fault::ResetLink => {
                if let Some(link) = draw_link(net) {
                    net.reset(link);
                }
            }
            Fault::CloseLink => {
                if let Some(link) = draw_link(net) {
                    net.stats.count(Happening::LinkClosed);
                    clients.iter_mut().for_each(|client| client.close_link(net, ledger, link));
                    backends.iter_mut().for_each(|backend| backend.close_link(net, ledger, link));
                }
            }
            Fault::StallLink(time) => {
                if let Some(link) = draw_link(net) {
                    net.stall(link, *time);
                }
            }
            Fault::Restart(backend, down_for, down) => {
                backends[*backend].die(net, ledger, *down_for, *down);
            }
            Fault::Unlisten(backend, down_for, down) => backends[*backend].unlisten(net, *down_for, *down),
            Fault::GoAway(backend, kind) => backends[*backend].go_away(net, ledger, *kind),
            Fault::Endpoints(found) => {
                let next = setup.endpoint_set(found, Some(&self.set));
                let before = core::mem::replace(&mut self.set, next);
                if let Some(outliers) = &self.shared.outliers {
                    let stays =
                        |old: &&Arc<Endpoint>| self.set.endpoints().iter().any(|new| Arc::ptr_eq(old, new));
                    let gone = before.endpoints().iter().filter(|old| !stays(old));
                    gone.for_each(|endpoint| outliers.remove(endpoint.outlier()));
                    outliers.set_endpoints(self.set.endpoints().len() as u32);
                }
                self.shared.bound(&self.set);
                for endpoint in self.set.endpoints() {
                    if !self.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
                        self.endpoints.push(Arc::clone(endpoint));
                    }
                }
                if let Some(checks) = &mut self.checks {
                    checks.follow(net, &self.set, Setup::backend_at);
                }
                self.generation += 1;
                let snapshot = setup.snapshot(self.generation, Some(&self.set), &self.shared);
                net.stats.count(Happening::SnapshotApplied);
                driver.forget_dials();
                driver.command(net, |worker, now| worker.apply(&snapshot, now));
            }
            Fault::Report(backend, serving) => {
                if let Some(checks) = &mut self.checks {
                    checks.report(net, *backend, *serving);
                }
            }
            Fault::Drain(spread) => {
                net.listen(Setup::proxy_address(), Owner::Worker, Accept::Refusing);
                clients.iter_mut().for_each(|client| client.stop_connecting(net, ledger));
                self.drain(*spread);
            }
            Fault::Abort => driver.command(net, |worker, now| {
                worker.abort(now);
            }),
        }
    }
}

fn draw_link(net: &mut Net) -> Option<LinkId> {
    let live = net.live();
    (!live.is_empty()).then(|| live[net.rng.random_range(0..live.len())])
}
