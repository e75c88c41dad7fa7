//! The checker: the one task that asks the endpoints of a cluster, each in its time.
//!
//! It owns a machine of `balance::health_check` for each endpoint and does what they say: begins a probe, cuts one off that had
//! no answer in time, and hands them what the probes found. Probes are tasks of their own, so that none waits for another.
//!
//! Invariants: the schedule has exactly the machines' next times, those of probes that wait for an answer in `ends` and all others
//! in `starts`; `in_flight` is the number of the former and at most `in_flight_max`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::health_check::{
    CheckId, CheckResult, Due, HealthCheck, HealthCheckConfig, HealthStatus, HealthWatch, Probe, Transition,
};
use evenkeel_balance::{Address, Endpoint, EndpointSet};
use evenkeel_config::Target;
use evenkeel_telemetry::{ClusterTelemetry, HealthCheckResult, LogLimiter};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::channel::{ProbeChannel, origin};
use super::probe::{Finding, Pulse, Question};
use super::{LastResult, Ledger, Setup};
use crate::control::clock::Clock;

/// What probes found and the checker has not read yet; probes wait when it is full.
const NEWS_MAX: usize = 256;

/// Names an endpoint for as long as it is in the set; never given again, so that late news are told from its successor's.
type Key = u64;

/// What a probe found.
struct News {
    key: Key,
    check: CheckId,
    event: Event,
}

enum Event {
    /// A check's answer, and the connection it came on if that is of more use.
    Answered(Finding, Option<ProbeChannel>),
    /// A message of a stream.
    Message(Finding),
    /// The end of a stream, or of the connection of a server that has none.
    Ended(Finding),
}

/// The machine of an endpoint.
enum Machine {
    Check(HealthCheck),
    Watch(HealthWatch),
}

impl Machine {
    fn new(config: &HealthCheckConfig, endpoints: usize, now: Duration, rng: &mut impl Rng) -> Self {
        // Its first check is due at the endpoint's place in the spread, and so is the first stream.
        let check = HealthCheck::new(config, endpoints, now, rng);
        if !matches!(config.probe, Probe::Watch { .. }) {
            return Self::Check(check);
        }
        let mut watch = HealthWatch::new();
        watch.connected(check.next_due());
        Self::Watch(watch)
    }

    fn status(&self) -> HealthStatus {
        match self {
            Self::Check(check) => check.status(),
            Self::Watch(watch) => watch.status(),
        }
    }

    fn next_due(&self) -> Option<Duration> {
        match self {
            Self::Check(check) => Some(check.next_due()),
            Self::Watch(watch) => watch.next_due(),
        }
    }

    fn handle_timeout(&mut self, config: &HealthCheckConfig, now: Duration, rng: &mut impl Rng) -> Due {
        match self {
            Self::Check(check) => check.handle_timeout(config, now, rng),
            Self::Watch(watch) => watch.handle_timeout(config, now, rng),
        }
    }
}

/// An endpoint that is checked.
struct Checked {
    endpoint: Arc<Endpoint>,
    question: Question,
    machine: Machine,
    /// The connection of the last check, for the next one.
    channel: Option<ProbeChannel>,
    probe: Option<RunningProbe>,
    /// When the machine is to be called, as the schedule has it.
    scheduled_at: Option<Duration>,
}

/// A probe's task; it is cut off when this is dropped.
struct RunningProbe {
    check: CheckId,
    task: AbortHandle,
    /// Whether it waits for an answer; a stream that had its first message does not.
    is_awaited: bool,
}

impl Drop for RunningProbe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checked {
    fn is_awaited(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.is_awaited)
    }
}

/// The checks of one cluster.
pub(super) struct Checker {
    config: HealthCheckConfig,
    cluster: Arc<str>,
    target: Option<Target>,
    service: Arc<str>,
    telemetry: Arc<ClusterTelemetry>,
    clock: Clock,
    ledger: Arc<Ledger>,
    rng: SmallRng,
    log: LogLimiter,
    checked: HashMap<Key, Checked>,
    keys: HashMap<Address, Key>,
    next_key: Key,
    starts: BTreeSet<(Duration, Key)>,
    ends: BTreeSet<(Duration, Key)>,
    in_flight: usize,
    in_flight_max: usize,
    outbox: mpsc::Sender<News>,
    inbox: mpsc::Receiver<News>,
}

impl Checker {
    pub(super) fn new(setup: &Setup<'_>, clock: Clock, ledger: Arc<Ledger>, rng: SmallRng) -> Self {
        let service = match &setup.config.probe {
            Probe::Check { service } | Probe::Watch { service } => service.as_str(),
            Probe::Tcp => "",
        };
        let (outbox, inbox) = mpsc::channel(NEWS_MAX);
        Self {
            config: setup.config.clone(),
            cluster: setup.cluster.into(),
            target: setup.target.cloned(),
            service: service.into(),
            telemetry: Arc::clone(&setup.telemetry),
            clock,
            ledger,
            rng,
            log: LogLimiter::default(),
            checked: HashMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            starts: BTreeSet::new(),
            ends: BTreeSet::new(),
            in_flight: 0,
            in_flight_max: setup.in_flight_max,
            outbox,
            inbox,
        }
    }

    /// Checks until nobody can change the set any more.
    pub(super) async fn run(mut self, mut sets: watch::Receiver<Option<Arc<EndpointSet>>>) {
        loop {
            let wake_at = self.next_due().map(|due| self.clock.instant(due));
            tokio::select! {
                changed = sets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let set = sets.borrow_and_update().clone();
                    if let Some(set) = set {
                        self.take(&set);
                    }
                }
                Some(news) = self.inbox.recv() => self.hear(news),
                () = sleep_until(wake_at.unwrap_or(self.clock.began)), if wake_at.is_some() => self.tick(),
            }
        }
    }

    /// When something is to be done. What cannot begin yet waits for an answer to others, which is news or a timeout.
    fn next_due(&self) -> Option<Duration> {
        let starts = self.starts.first().filter(|_| self.in_flight < self.in_flight_max);
        starts.into_iter().chain(self.ends.first()).map(|(at, _)| *at).min()
    }

    /// Takes a set over: begins to check what is new in it, and ends with what is not in it any more.
    fn take(&mut self, set: &EndpointSet) {
        let now = self.clock.now();
        let is_same = |checked: &Checked, endpoint: &Arc<Endpoint>| Arc::ptr_eq(&checked.endpoint, endpoint);
        let mut gone = std::mem::take(&mut self.keys);
        let mut fresh = Vec::new();
        for endpoint in set.endpoints() {
            let address = endpoint.address();
            let known = gone.get(address).filter(|key| is_same(&self.checked[*key], endpoint));
            match known.copied() {
                Some(key) => {
                    gone.remove(address);
                    self.keys.insert(address.clone(), key);
                }
                None => fresh.push(endpoint),
            }
        }
        for (address, key) in gone {
            self.ledger.strike(&address);
            self.drop_endpoint(key);
        }
        let count = fresh.len();
        for endpoint in fresh {
            self.add_endpoint(endpoint, count, now);
        }
    }

    fn add_endpoint(&mut self, endpoint: &Arc<Endpoint>, new_in_all: usize, now: Duration) {
        let address = endpoint.address().clone();
        self.ledger.enter(&address, now);
        let question = Question {
            origin: origin(self.target.as_ref(), &address),
            address: address.clone(),
            service: Arc::clone(&self.service),
        };
        let machine = Machine::new(&self.config, new_in_all, now, &mut self.rng);
        let endpoint = Arc::clone(endpoint);
        let checked = Checked { endpoint, question, machine, channel: None, probe: None, scheduled_at: None };
        let key = self.next_key;
        self.next_key += 1;
        self.keys.insert(address, key);
        self.checked.insert(key, checked);
        self.schedule(key);
    }

    fn drop_endpoint(&mut self, key: Key) {
        self.unschedule(key);
        if self.checked.remove(&key).is_some_and(|checked| checked.is_awaited()) {
            self.in_flight -= 1;
        }
    }

    /// Puts an endpoint into the schedule as its machine says.
    fn schedule(&mut self, key: Key) {
        self.unschedule(key);
        let Some(checked) = self.checked.get_mut(&key) else { return };
        checked.scheduled_at = checked.machine.next_due();
        let Some(at) = checked.scheduled_at else { return };
        let list = if checked.is_awaited() { &mut self.ends } else { &mut self.starts };
        list.insert((at, key));
    }

    fn unschedule(&mut self, key: Key) {
        let Some(checked) = self.checked.get_mut(&key) else { return };
        if let Some(at) = checked.scheduled_at.take() {
            self.starts.remove(&(at, key));
            self.ends.remove(&(at, key));
        }
    }

    /// Does all that is due: first what must end, which makes room.
    fn tick(&mut self) {
        let now = self.clock.now();
        while let Some((_, key)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.handle_timeout(key, now);
        }
        while self.in_flight < self.in_flight_max
            && let Some((_, key)) = self.starts.first().copied().filter(|(at, _)| *at <= now)
        {
            self.handle_timeout(key, now);
        }
    }

    fn handle_timeout(&mut self, key: Key, now: Duration) {
        self.unschedule(key);
        let Some(checked) = self.checked.get_mut(&key) else { return };
        match checked.machine.handle_timeout(&self.config, now, &mut self.rng) {
            Due::Start(check) => {
                self.settle(key, false);
                self.begin(key, check);
            }
            Due::Cancel { transition, .. } => {
                checked.probe = None;
                self.in_flight -= 1;
                // What had no answer in time may have none to the next question either.
                checked.channel = None;
                let waited = self.config.timeout;
                let detail = Some(format!("no answer within {waited:?}").into());
                self.note(key, HealthCheckResult::TimedOut, detail, transition);
            }
            Due::Nothing => {}
        }
        self.schedule(key);
    }

    fn begin(&mut self, key: Key, check: CheckId) {
        let Some(checked) = self.checked.get_mut(&key) else { return };
        let question = checked.question.clone();
        let outbox = self.outbox.clone();
        let task = match &self.config.probe {
            Probe::Watch { .. } => {
                let pulse = Pulse {
                    interval: self.config.interval,
                    jitter: self.config.jitter.get().min(1.0),
                    timeout: self.config.timeout,
                    rng: SmallRng::seed_from_u64(self.rng.random()),
                };
                tokio::spawn(watch_one(question, pulse, key, check, outbox))
            }
            Probe::Check { .. } => {
                let kept = checked.channel.take();
                tokio::spawn(async move {
                    let (finding, channel) = question.check(kept).await;
                    // Without a checker nobody wants to know.
                    let _ = outbox.send(News { key, check, event: Event::Answered(finding, channel) }).await;
                })
            }
            Probe::Tcp => tokio::spawn(async move {
                let event = Event::Answered(question.connect().await, None);
                let _ = outbox.send(News { key, check, event }).await;
            }),
        };
        checked.probe = Some(RunningProbe { check, task: task.abort_handle(), is_awaited: true });
        self.in_flight += 1;
    }

    /// Takes note of what a probe found; what was cut off has nothing to say any more.
    fn hear(&mut self, News { key, check, event }: News) {
        let now = self.clock.now();
        let is_current = |probe: &RunningProbe| probe.check == check;
        let Some(checked) = self.checked.get_mut(&key) else { return };
        if !checked.probe.as_ref().is_some_and(is_current) {
            return;
        }
        let (config, rng) = (&self.config, &mut self.rng);
        let (finding, is_over, transition) = match (event, &mut checked.machine) {
            (Event::Answered(finding, channel), Machine::Check(machine)) => {
                checked.channel = channel;
                let transition = machine.answered(config, check, finding.result);
                (finding, true, transition)
            }
            (Event::Message(finding), Machine::Watch(machine)) => {
                let transition = machine.message(check, finding.result);
                (finding, false, transition)
            }
            (Event::Ended(finding), Machine::Watch(machine)) => {
                let transition = machine.ended(config, check, finding.result, now, rng);
                let is_over = finding.result != CheckResult::Unimplemented;
                (finding, is_over, transition)
            }
            // A cluster's machines are all of one kind, and so are its probes.
            _ => return,
        };
        self.unschedule(key);
        self.settle(key, !is_over);
        self.note(key, label(finding.result), finding.detail, transition);
        self.schedule(key);
    }

    /// Takes note that an endpoint's probe does not wait for an answer any more; if it does not even go on, that it is over.
    fn settle(&mut self, key: Key, goes_on: bool) {
        let Some(checked) = self.checked.get_mut(&key) else { return };
        if checked.is_awaited() {
            self.in_flight -= 1;
        }
        checked.probe = checked.probe.take().filter(|_| goes_on);
        if let Some(probe) = &mut checked.probe {
            probe.is_awaited = false;
        }
    }

    /// Counts a result and tells it to those who read reports; where it changed the status, to all workers and the log.
    fn note(
        &mut self,
        key: Key,
        result: HealthCheckResult,
        detail: Option<Box<str>>,
        transition: Option<Transition>,
    ) {
        let Some(checked) = self.checked.get(&key) else { return };
        self.telemetry.health_checked(result);
        let at = self.clock.now();
        let status = checked.machine.status();
        if transition.is_some() {
            let (cluster, endpoint) = (&self.cluster, &checked.endpoint);
            log(&mut self.log, cluster, endpoint.address(), status, result, detail.as_deref(), at);
        }
        self.ledger.note(&checked.endpoint, status, transition.is_some(), LastResult { result, at, detail });
    }
}

/// Watches one endpoint and tells the checker all of it.
async fn watch_one(
    question: Question,
    mut pulse: Pulse,
    key: Key,
    check: CheckId,
    outbox: mpsc::Sender<News>,
) {
    let send = |event: Event| {
        let outbox = outbox.clone();
        async move {
            // Without a checker nobody wants to know.
            let _ = outbox.send(News { key, check, event }).await;
        }
    };
    let tell = |finding: Finding| match finding.result {
        CheckResult::Unimplemented => send(Event::Ended(finding)),
        _ => send(Event::Message(finding)),
    };
    let ended = question.watch(&mut pulse, tell).await;
    send(Event::Ended(ended)).await;
}

fn label(result: CheckResult) -> HealthCheckResult {
    match result {
        CheckResult::Serving => HealthCheckResult::Serving,
        CheckResult::NotServing => HealthCheckResult::NotServing,
        CheckResult::Absurd => HealthCheckResult::Absurd,
        CheckResult::ServiceUnknown => HealthCheckResult::ServiceUnknown,
        CheckResult::Unimplemented => HealthCheckResult::Unimplemented,
        CheckResult::Failed => HealthCheckResult::Failed,
    }
}

/// The line of a change; of the same kind of change at most one a second.
fn log(
    limiter: &mut LogLimiter,
    cluster: &str,
    endpoint: &Address,
    status: HealthStatus,
    result: HealthCheckResult,
    detail: Option<&str>,
    now: Duration,
) {
    let Some(suppressed) = limiter.allow(result.as_str(), now) else { return };
    let (result, detail) = (result.as_str(), detail.unwrap_or_default());
    match status {
        HealthStatus::Unhealthy(_) => {
            tracing::warn!(%cluster, %endpoint, result, detail, suppressed, "endpoint unhealthy");
        }
        HealthStatus::Healthy if result == HealthCheckResult::Unimplemented.as_str() => {
            // gRFC A17 asks for an error here, as it is mostly a slip.
            tracing::warn!(%cluster, %endpoint, suppressed, "endpoint healthy: it has no health service to ask");
        }
        HealthStatus::Healthy | HealthStatus::Unknown => {
            tracing::info!(%cluster, %endpoint, result, suppressed, "endpoint healthy");
        }
    }
}
