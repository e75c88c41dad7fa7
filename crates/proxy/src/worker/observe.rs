//! What a worker tells its statistics and its access log. Nothing else in the worker knows how things are counted.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::Slot;
use evenkeel_balance::retry::Replay;
use evenkeel_grpc::{Code, Path};
use evenkeel_http2::field::Name;
use evenkeel_http2::{ConnectionError, Violation};
use evenkeel_telemetry::access_log::{AccessLog, Entry};
use evenkeel_telemetry::{
    CallEnd, ClusterEvent, EndpointStats, Event, MethodId, ResponseFlag, ResponseFlags, RouteEvent,
    RouteTelemetry, Telemetry, WorkerStats,
};
use hashbrown::HashMap;

use super::call::Call;
use super::conn::{Downstream, PeerName, Side};
use super::{ConnId, Worker};

/// Methods that a worker remembers the rows of; beyond the registry's own bound there are no further rows.
const METHODS_MAX: usize = evenkeel_telemetry::MAX_METHODS;

/// Where a worker's calls are counted and logged.
#[derive(Debug)]
pub struct Observer {
    telemetry: Arc<Telemetry>,
    stats: WorkerStats,
    access_log: Option<AccessLog>,
    /// The Unix time at the epoch from which the worker counts its time.
    epoch_unix: Duration,
    /// Rows by position; a path's cached decision holds the position.
    methods: Vec<MethodId>,
    positions: HashMap<Box<[u8]>, u16, foldhash::fast::FixedState>,
}

/// Violations that wait for the log; more in one wake-up are only counted.
const VIOLATIONS_MAX: usize = 16;

/// Positions of the rows that every registry has.
const OTHER: u16 = 0;
pub(super) const UNKNOWN: u16 = 1;

impl Observer {
    /// An observer that counts in `telemetry`, and logs if there is a log.
    #[must_use]
    pub fn new(telemetry: &Arc<Telemetry>, access_log: Option<AccessLog>, epoch_unix: Duration) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            stats: telemetry.add_worker(),
            access_log,
            epoch_unix,
            methods: vec![MethodId::OTHER, MethodId::UNKNOWN],
            positions: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(0)),
        }
    }

    /// A route took a call.
    #[inline]
    pub(super) fn route_took(&self, route: &RouteTelemetry) {
        self.stats.route_took(route);
    }

    /// One write to a connection of this side took `bytes`.
    pub(super) fn wrote(&self, side: evenkeel_telemetry::Side, bytes: usize) {
        self.stats.count(Event::Flush(side));
        self.stats.add(Event::BytesWritten(side), bytes as u64);
    }

    /// The position of a method's row. The registry is asked once for each path.
    pub(super) fn position(&mut self, whole: &[u8], path: &Path<'_>) -> u16 {
        if let Some(position) = self.positions.get(whole) {
            return *position;
        }
        let id = self.telemetry.methods().register(path.service(), path.method());
        if id == MethodId::OTHER || self.methods.len() >= METHODS_MAX {
            return OTHER;
        }
        let position = self.methods.len() as u16;
        self.methods.push(id);
        self.positions.insert(whole.into(), position);
        position
    }
}

/// What the access log says of a request, kept while the call lives and only if there is a log.
#[derive(Debug)]
pub(super) struct LogFields {
    path: Vec<u8>,
    authority: Vec<u8>,
    user_agent: Vec<u8>,
    timeout: Option<Duration>,
    /// The endpoint of the newest attempt: the slot may be another's when the call ends.
    endpoint: Option<String>,
}

impl Worker {
    /// Lets `observer` count what happens from now on. Without one nothing is counted.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
        for id in 0..self.clusters.len() {
            let slots: Vec<Slot> = self.clusters[id].balancer.slots().map(|status| status.slot).collect();
            self.attach_cluster(id as u32);
            self.attach_endpoints(id as u32, &slots);
        }
    }

    /// Looks up the statistics of a cluster, as long as it is configured.
    pub(super) fn attach_cluster(&mut self, id: u32) {
        let cluster = &mut self.clusters[id as usize];
        if let Some(observer) =
            self.observer.as_ref().filter(|_| cluster.is_configured && cluster.stats.is_none())
        {
            cluster.stats = Some(observer.telemetry.cluster(&cluster.settings.name).attach());
        }
        cluster.tell_pending();
    }

    /// Looks up the statistics of these endpoints of a cluster, so that no call has to.
    pub(super) fn attach_endpoints(&mut self, id: u32, slots: &[Slot]) {
        let Some(observer) = self.observer.as_ref().filter(|_| !slots.is_empty()) else { return };
        let cluster = &mut self.clusters[id as usize];
        let telemetry = observer.telemetry.cluster(&cluster.settings.name);
        for slot in slots {
            let address = cluster.balancer.endpoint(*slot).address().to_string();
            cluster.endpoint_conns(*slot).stats = Some(telemetry.endpoint(&address).attach());
        }
    }

    pub(super) fn endpoint_stats(&mut self, cluster: u32, slot: Slot) -> Option<&EndpointStats> {
        self.clusters[cluster as usize].endpoint_conns(slot).stats.as_ref()
    }

    pub(super) fn count(&self, event: Event) {
        if let Some(observer) = &self.observer {
            observer.stats.count(event);
        }
    }

    /// Counts what happened in a cluster, named by its place among the worker's.
    pub(super) fn count_in(&self, cluster: u32, event: ClusterEvent) {
        self.count_many_in(cluster, event, 1);
    }

    /// Counts so many at once.
    pub(super) fn count_many_in(&self, cluster: u32, event: ClusterEvent, count: u64) {
        if let Some(stats) = &self.clusters[cluster as usize].stats {
            stats.add(event, count);
        }
    }

    /// Counts what happened to a call in the cluster that it goes to.
    pub(super) fn count_of_call(&self, id: u32, event: ClusterEvent) {
        self.count_in(self.calls[id as usize].cluster, event);
    }

    /// Counts what a call's route did to it.
    pub(super) fn count_of_route(&self, id: u32, event: RouteEvent) {
        let actions = self.calls[id as usize].actions.as_ref();
        if let Some(counts) = actions.and_then(|actions| actions.counts.as_ref()) {
            counts.count(event);
        }
    }

    /// The driver woke the worker up.
    pub fn woke(&self) {
        self.count(Event::Wakeup);
    }

    /// The driver read `bytes` from a connection.
    pub(super) fn count_read(&self, side: evenkeel_telemetry::Side, bytes: usize) {
        if let Some(observer) = &self.observer {
            observer.stats.add(Event::BytesRead(side), bytes as u64);
        }
    }

    /// A request was recognised as a call. `timeout` is the client's.
    pub(super) fn on_call_started(&mut self, id: u32, routed: bool, timeout: Option<Duration>) {
        let call = &mut self.calls[id as usize];
        if !routed {
            call.method = UNKNOWN;
        }
        call.counted = true;
        let Some(observer) = &self.observer else { return };
        observer.stats.call_started(observer.methods[usize::from(call.method)]);
        self.keep_log_fields(id, timeout);
    }

    /// A request was recognised as one that is no call: it is logged, and not counted among the calls.
    pub(super) fn on_plain_request(&mut self, id: u32) {
        self.calls[id as usize].method = UNKNOWN;
        self.keep_log_fields(id, None);
    }

    /// Keeps what the access log says of a request, if there is a log.
    fn keep_log_fields(&mut self, id: u32, timeout: Option<Duration>) {
        if self.observer.as_ref().is_none_or(|observer| observer.access_log.is_none()) {
            return;
        }
        let fields = &self.fields;
        let value = |name: Name| {
            let position = fields.index.position(name);
            position.map_or_else(Vec::new, |at| fields.block.get(&fields.store, at).value.to_vec())
        };
        let log = LogFields {
            path: value(Name::Path),
            authority: value(Name::Authority),
            user_agent: value(Name::UserAgent),
            timeout,
            endpoint: None,
        };
        self.calls[id as usize].log = Some(Box::new(log));
    }

    /// Notes the endpoint of a call's main attempt for the access log, if there is one.
    pub(super) fn log_endpoint(&mut self, id: u32) {
        let call = &mut self.calls[id as usize];
        if let (Some(log), Some(slot)) = (&mut call.log, call.slot) {
            let endpoint = self.clusters[call.cluster as usize].balancer.endpoint(slot);
            log.endpoint = Some(endpoint.address().to_string());
        }
    }

    pub(super) fn on_attempt_started(&mut self, id: u32) {
        self.log_endpoint(id);
        let call = &self.calls[id as usize];
        if let (cluster, Some(slot)) = (call.cluster, call.slot)
            && let Some(stats) = self.endpoint_stats(cluster, slot)
        {
            stats.call_started();
        }
    }

    /// Messages passed. Those of a call that streams are counted as they pass, so that a stream of hours shows; the one
    /// message each way of a unary call is counted at its end. A call that may still be tried again waits, since its
    /// attempts are counted apart.
    pub(super) fn on_messages(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        let seen = call.messages();
        let may_be_again = call.replay == Replay::Possible;
        if seen == call.reported || may_be_again || seen.request.max(seen.response) < 2 {
            return;
        }
        let fresh = seen.since(call.reported);
        call.reported = seen;
        let is_limited = call.extras.is_some();
        let (cluster, slot, method) = (call.cluster, call.slot, call.method);
        if let Some(observer) = &self.observer {
            observer.stats.call_progressed(observer.methods[usize::from(method)], fresh);
        }
        if let Some(slot) = slot
            && let Some(stats) = self.endpoint_stats(cluster, slot)
        {
            stats.call_progressed(fresh);
        }
        if is_limited {
            self.leave_adaptive(now, id);
        }
    }

    /// An attempt ended, with this code: the call may go on, and end with another.
    pub(super) fn on_attempt_finished(&mut self, now: Duration, id: u32, code: Code) {
        let call = &self.calls[id as usize];
        let Some(slot) = call.slot else { return };
        let latency = now.saturating_sub(call.attempt_at);
        let end = CallEnd::new(code, latency, call.messages()).after(call.reported);
        if let Some(stats) = self.endpoint_stats(call.cluster, slot) {
            stats.call_finished(&end);
        }
    }

    pub(super) fn on_call_finished(&mut self, now: Duration, id: u32) {
        self.count_version(now, id);
        let call = &self.calls[id as usize];
        if !call.counted {
            self.log_call(now, id, None);
            return;
        }
        let Some(observer) = &self.observer else { return };
        let code = call.code.unwrap_or(Code::Unknown);
        let end =
            CallEnd::new(code, now.saturating_sub(call.started_at), call.messages()).after(call.reported);
        observer.stats.call_finished(observer.methods[usize::from(call.method)], &end);
        match call.flag {
            Some(flag) if call.method == UNKNOWN => observer.stats.count(Event::LocalReply(flag)),
            Some(flag) => self.count_in(call.cluster, ClusterEvent::LocalReply(flag)),
            None => {}
        }
        self.log_call(now, id, Some(code));
    }

    /// Writes a line about a call, or, without a code, about a request that is none.
    fn log_call(&mut self, now: Duration, id: u32, code: Option<Code>) {
        let call = &self.calls[id as usize];
        if call.log.is_none() {
            return;
        }
        let peer = self.conns.get(call.down.conn.index()).and_then(|conn| match &conn.side {
            Side::Downstream(down) => match down.peer {
                PeerName::Ip(address) => Some(address),
                PeerName::Unix => None,
            },
            Side::Upstream(_) => None,
        });
        let Some(log) = &call.log else { return };
        let cluster = self.clusters.get(call.cluster as usize);
        let Some(observer) = &mut self.observer else { return };
        let Some(access_log) = &mut observer.access_log else { return };
        let path = log.path.strip_prefix(b"/").unwrap_or(&log.path);
        let (service, method) = split_path(path);
        let is_routed = call.method != UNKNOWN;
        access_log.record(
            now,
            &Entry {
                start_time: observer.epoch_unix + call.started_at,
                authority: &log.authority,
                grpc_service: service,
                grpc_method: method,
                response_code: call.extra(|extras| extras.http_status).or(call.headers_at.map(|_| 200)),
                grpc_status: code,
                response_flags: flags_of(call),
                details: call
                    .extras
                    .as_deref()
                    .and_then(|extras| extras.details.as_ref())
                    .map(|text| text.as_bytes()),
                downstream_remote_address: peer,
                route: is_routed.then_some(call.route),
                upstream_cluster: cluster
                    .filter(|_| is_routed)
                    .map(|cluster| cluster.settings.name.as_bytes()),
                upstream_host: log.endpoint.as_ref().map(|text| text.as_bytes()),
                attempts: u32::from(call.attempts),
                duration: now.saturating_sub(call.started_at),
                time_to_first_byte: call.headers_at.map(|at| at.saturating_sub(call.started_at)),
                timeout: log.timeout,
                request_messages: call.sent.messages,
                response_messages: call.received.messages,
                request_bytes: call.sent.bytes,
                response_bytes: call.received.bytes,
                user_agent: (!log.user_agent.is_empty()).then_some(&log.user_agent),
            },
        );
    }

    /// Writes a line about a client's first request in HTTP/1, which was answered here. `input` may be a part of it.
    pub(super) fn log_http1(&mut self, now: Duration, id: ConnId, input: &[u8]) {
        let peer = match self.conns.get(id.index()).map(|conn| &conn.side) {
            Some(Side::Downstream(Downstream { peer: PeerName::Ip(address), .. })) => Some(*address),
            _ => None,
        };
        let Some(observer) = &mut self.observer else { return };
        let Some(access_log) = &mut observer.access_log else { return };
        // The request line ends at the first CR or LF; its second word is the target (RFC 9112 section 3).
        let line = input.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let (service, method) = split_path(target.strip_prefix(b"/").unwrap_or(target));
        access_log.record(
            now,
            &Entry {
                start_time: observer.epoch_unix + now,
                authority: b"",
                grpc_service: service,
                grpc_method: method,
                response_code: Some(505),
                grpc_status: None,
                response_flags: ResponseFlags::NONE,
                details: Some(b"the client speaks HTTP/1, and this port HTTP/2"),
                downstream_remote_address: peer,
                route: None,
                upstream_cluster: None,
                upstream_host: None,
                attempts: 0,
                duration: Duration::ZERO,
                time_to_first_byte: None,
                timeout: None,
                request_messages: 0,
                response_messages: 0,
                request_bytes: 0,
                response_bytes: 0,
                user_agent: None,
            },
        );
    }

    /// Hands log lines over that have waited long enough.
    pub(super) fn flush_log(&mut self, now: Duration) {
        if let Some(log) = self.observer.as_mut().and_then(|observer| observer.access_log.as_mut()) {
            log.poll_flush(now);
        }
    }

    /// When log lines must be handed over.
    pub(super) fn log_deadline(&self) -> Option<Duration> {
        self.observer.as_ref()?.access_log.as_ref()?.flush_at()
    }

    pub(super) fn on_connect_result(&mut self, cluster: u32, slot: Slot, ready: bool) {
        if let Some(stats) = self.endpoint_stats(cluster, slot) {
            if ready {
                stats.connect_succeeded();
            } else {
                stats.connect_failed();
            }
        }
    }

    pub(super) fn on_upstream_lost(&mut self, cluster: u32, slot: Slot) {
        if let Some(stats) = self.endpoint_stats(cluster, slot) {
            stats.disconnected();
        }
    }

    pub(super) fn on_upstream_reset(&mut self, id: u32) {
        let call = &self.calls[id as usize];
        if let (cluster, Some(slot)) = (call.cluster, call.slot)
            && let Some(stats) = self.endpoint_stats(cluster, slot)
        {
            stats.reset();
        }
    }

    pub(super) fn note_violation(&mut self, conn: ConnId, error: ConnectionError) {
        let ConnectionError::PeerMisbehaved(violation) = error else { return };
        if let Some(observer) = &self.observer {
            observer.stats.protocol_error(violation.rule());
        }
        let Some(conn) = self.conns.get(conn.index()) else { return };
        if self.violations.len() < VIOLATIONS_MAX {
            let peer = match &conn.side {
                Side::Downstream(down) => match down.peer {
                    PeerName::Ip(address) => format!("client {address}"),
                    PeerName::Unix => "client on a Unix socket".to_owned(),
                },
                Side::Upstream(up) => {
                    let cluster = &self.clusters[up.cluster as usize];
                    format!("backend {}", cluster.balancer.endpoint(up.slot).address())
                }
            };
            self.violations.push((peer, violation));
        }
    }

    /// A peer that broke the protocol since the last time, and how; for the log. To be asked until `None`.
    pub fn poll_violation(&mut self) -> Option<(String, Violation)> {
        self.violations.pop()
    }
}

fn flags_of(call: &Call) -> ResponseFlags {
    let mut flags = call.flag.map_or(ResponseFlags::NONE, ResponseFlags::from);
    if call.extras.as_deref().is_some_and(|extras| extras.is_delayed) {
        flags.insert(ResponseFlag::DelayInjected);
    }
    flags
}

/// The service and method of a path without its leading slash; the path of a refused call may be anything.
fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
