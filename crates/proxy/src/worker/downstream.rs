//! Events from clients.

use core::time::Duration;

use evenkeel_grpc::{Code, ContentType, Path, parse_timeout};
use evenkeel_http2::field::{FieldBlock, FieldStore, Name};
use evenkeel_http2::{ErrorCode, Event, Fields, ListSize, StreamFailure, StreamKey};
use evenkeel_telemetry::ResponseFlag;
use rand::Rng;
use rand::rngs::SmallRng;

use super::Worker;
use super::call::{Call, CallPhase, Leg};
use super::call_timer::Staller;
use super::canary::VersionMark;
use super::conn::{ConnId, Side};
use super::hedge::Hedging;
use super::metadata::Traits;
use super::reply::Refusal;
use super::retry::Retrying;
use super::route::{Asked, FieldSource, Split, joined};

/// Set in a note that holds a decision.
const NOTE_KNOWN: u64 = 1;

/// What a path decides, as it is cached with the interned path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PathDecision {
    pub(super) route: Option<u16>,
    pub(super) method: u16,
}

impl PathDecision {
    /// Packs the decision with the generation and listener it was made for: 1 bit known, 1 bit has a route, 14 bits
    /// listener, 16 bits route, 16 bits method, 16 bits generation.
    fn to_note(self, generation: u32, listener: u32) -> u64 {
        NOTE_KNOWN
            | u64::from(self.route.is_some()) << 1
            | u64::from(listener & 0x3fff) << 2
            | u64::from(self.route.unwrap_or(0)) << 16
            | u64::from(self.method) << 32
            | u64::from(generation as u16) << 48
    }

    fn from_note(note: u64, generation: u32, listener: u32) -> Option<Self> {
        let fits = note & NOTE_KNOWN != 0
            && note >> 48 == u64::from(generation as u16)
            && (note >> 2) & 0x3fff == u64::from(listener & 0x3fff);
        fits.then_some(Self {
            route: (note & 2 != 0).then_some((note >> 16) as u16),
            method: (note >> 32) as u16,
        })
    }
}

/// The request's header list, as routes look at it.
#[derive(Debug)]
pub(super) struct HeaderFields<'a> {
    pub(super) fields: &'a Fields,
    /// Fields with one of these are not there.
    pub(super) dropped: Traits,
}

impl FieldSource for HeaderFields<'_> {
    fn each(&self, name: &[u8], found: &mut dyn FnMut(&[u8])) {
        if !self.dropped.is_empty() && Traits::of_name(name).overlaps(self.dropped) {
            return;
        }
        let Fields { block, store, .. } = self.fields;
        block.iter(store).filter(|field| field.name == name).for_each(|field| found(field.value));
    }
}

/// The cluster that a call of a split goes to: by its key if there is one, else by chance.
fn share(split: &Split, fields: &HeaderFields<'_>, rng: &mut SmallRng) -> usize {
    split.choose(sticky_point(split, fields).unwrap_or_else(|| rng.next_u64()))
}

/// The point of a call's key in a sticky split; `None` where chance decides: without the field, or with an empty value.
pub(super) fn sticky_point(split: &Split, fields: &HeaderFields<'_>) -> Option<u64> {
    let point = |value: &[u8]| (!value.is_empty()).then(|| Split::point(value));
    split.sticky_by().and_then(|name| joined(fields, name, point))
}

/// Leaves out of a request what its backend is not to see: the client's timeout, which is replaced by what is left of it at
/// each attempt, `host` if asked for, and what the listener drops.
pub(super) fn leave_out(block: &mut FieldBlock, store: &mut FieldStore, host: bool, dropped: Traits) {
    block.retain_fields(store, |field| match field.name_token {
        Name::GrpcTimeout => false,
        Name::Host => !host,
        Name::Other if !dropped.is_empty() => !Traits::of_name(field.name).overlaps(dropped),
        _ => true,
    });
}

impl Worker {
    pub(super) fn on_downstream_event(&mut self, now: Duration, id: ConnId, event: Event<'_>) {
        match event {
            Event::Request { stream, end, size } => self.on_request(now, Leg { conn: id, stream }, end, size),
            Event::Data { stream, token, bytes, end } => {
                self.on_request_data(now, Leg { conn: id, stream }, token, bytes, end);
            }
            Event::Trailers { stream, token, .. } => {
                // gRPC requests have no trailers; they end the request all the same.
                self.on_request_data(now, Leg { conn: id, stream }, token, &[], true);
            }
            Event::Failed { token, stream, failure } => {
                if self.is_call(token, Leg { conn: id, stream }) {
                    let flag = match failure {
                        StreamFailure::PeerReset(ErrorCode::CANCEL) => {
                            return self.on_client_cancelled(now, token);
                        }
                        StreamFailure::Violation(_) => ResponseFlag::DownstreamProtocolError,
                        _ => ResponseFlag::DownstreamReset,
                    };
                    self.on_client_gone(now, token, flag);
                }
            }
            Event::Ready
            | Event::GoAway { .. }
            | Event::PingAcknowledged { .. }
            | Event::Response { .. }
            | Event::Informational { .. } => {}
        }
    }

    /// Whether a token names the call whose client side is this stream.
    fn is_call(&self, token: u32, leg: Leg) -> bool {
        self.calls.get(token as usize).is_some_and(|call| call.down == leg)
    }

    fn on_request(&mut self, now: Duration, leg: Leg, end: bool, size: ListSize) {
        let Side::Downstream(down) = &self.conns[leg.conn.index()].side else { return };
        let listener = down.listener;
        let mut call = Call::new(leg, listener, now);
        call.request_ended = end;
        let entry = self.calls.vacant_entry();
        let id = entry.key() as u32;
        entry.insert(call);
        self.conns[leg.conn.index()].http2.set_token(leg.stream, id);
        match self.admit(now, id, size) {
            Ok(dropped) => self.begin_call(now, id, dropped),
            Err(refusal) => {
                match &refusal {
                    Refusal::Grpc { .. } | Refusal::Malformed(_) => self.on_call_started(id, false, None),
                    Refusal::NotGrpc | Refusal::NotPost => self.on_plain_request(id),
                }
                self.refuse(now, id, refusal);
            }
        }
    }

    /// Checks a request and takes what the proxy needs from its header list. Returns what is to be left out of it.
    fn admit(&mut self, now: Duration, id: u32, size: ListSize) -> Result<Traits, Refusal> {
        let fields = &self.fields;
        let value = |name| fields.index.position(name).map(|at| fields.block.get(&fields.store, at));
        let grpc = value(Name::ContentType).map(|field| ContentType::detect(field.value).is_grpc());
        // Nothing is kept behind the field that is too large, and grpc-js sends metadata before its content-type. So a list
        // that is too large is gRPC's unless it says otherwise.
        if size == ListSize::OverLimit && grpc != Some(false) {
            return Err(Refusal::grpc(
                Code::ResourceExhausted,
                ResponseFlag::DownstreamProtocolError,
                "metadata larger than max: the listener's limits.max_header_list_size or limits.max_headers_count",
            ));
        }
        if grpc != Some(true) {
            return Err(Refusal::NotGrpc);
        }
        if let Some(refusal) = self.refuses_stream(self.calls[id as usize].down.conn) {
            return Err(refusal);
        }
        if value(Name::Method).is_some_and(|field| field.value != b"POST") {
            return Err(Refusal::NotPost);
        }
        let timeout = match value(Name::GrpcTimeout) {
            None => None,
            Some(field) => {
                Some(parse_timeout(field.value).map_err(|error| Refusal::malformed(&error.to_string()))?)
            }
        };
        let dropped = self.judge_metadata(self.calls[id as usize].listener)?;
        let decision = self.decide(id, dropped)?;
        let call = &mut self.calls[id as usize];
        call.method = decision.method;
        let listener = &self.snapshot.listeners[call.listener as usize];
        let route =
            decision.route.and_then(|at| listener.routes.get(usize::from(at)).map(|route| (at, route)));
        let Some((at, route)) = route else {
            return Err(Refusal::grpc(Code::Unimplemented, ResponseFlag::NoRoute, "no route matched"));
        };
        call.route = at;
        call.actions.clone_from(&route.actions);
        if let (Some(observer), Some(counts)) = (&self.observer, &route.counts) {
            observer.route_took(counts);
        }
        let cluster = match route.destination.only() {
            Some(cluster) => cluster,
            None => {
                let fields = HeaderFields { fields: &self.fields, dropped };
                share(&route.destination, &fields, &mut self.rng)
            }
        };
        call.cluster = self.cluster_of[cluster];
        let longest = match (timeout, route.timeout) {
            (Some(timeout), Some(cap)) => Some(timeout.min(cap)),
            (timeout, cap) => timeout.or(cap),
        };
        call.deadline = longest.map(|longest| now + longest);
        call.own_deadline = timeout == longest;
        let generation = self.snapshot.generation;
        let version =
            route.destination.version_of(cluster).map(|version| VersionMark::new(generation, version));
        if version.is_some() {
            self.extras(id).version = version;
        }
        self.on_call_started(id, true, timeout);
        Ok(dropped)
    }

    /// Which route and method a request's path means; cached with the path when it is interned.
    fn decide(&mut self, id: u32, dropped: Traits) -> Result<PathDecision, Refusal> {
        let fields = &mut self.fields;
        let listener_id = self.calls[id as usize].listener;
        let listener = &self.snapshot.listeners[listener_id as usize];
        let generation = self.snapshot.generation;
        let position = fields.index.position(Name::Path).ok_or(Refusal::NotPost)?;
        let field = fields.block.get(&fields.store, position);
        let by_path = listener.routes.decides_by_path();
        if by_path
            && let Some(interned) = field.id
            && let Some(known) = PathDecision::from_note(fields.store.note(interned), generation, listener_id)
        {
            return Ok(known);
        }
        let path = Path::parse(field.value).map_err(|error| {
            Refusal::grpc(
                Code::Unimplemented,
                ResponseFlag::DownstreamProtocolError,
                &format!("malformed method name: {error}"),
            )
        })?;
        let authority = fields
            .index
            .position(Name::Authority)
            .or_else(|| fields.index.position(Name::Host))
            .map_or(&[][..], |at| fields.block.get(&fields.store, at).value);
        let source = HeaderFields { fields, dropped };
        let asked = Asked { authority, whole_path: field.value, path: &path, fields: &source };
        let route = listener.routes.find(&asked).map(|at| at as u16);
        // Only a path that is routed gets a row of its own: others are whatever a client wrote.
        let method = match (&mut self.observer, route) {
            (Some(observer), Some(_)) => observer.position(field.value, &path),
            _ => 0,
        };
        let decision = PathDecision { route, method };
        let interned = field.id;
        if by_path && let Some(interned) = interned {
            fields.store.set_note(interned, decision.to_note(generation, listener_id));
        }
        Ok(decision)
    }

    /// Keeps the request's fields and makes the first attempt.
    fn begin_call(&mut self, now: Duration, id: u32, dropped: Traits) {
        let block = self.take_block();
        let mut block = core::mem::replace(&mut self.fields.block, block);
        let delay = self.choose_fault(id, &mut block);
        let index = &self.fields.index;
        // `:authority` says what `host` would, and no backend is to choose between two of them (gRFC A41).
        let host = index.contains(Name::Host) && index.contains(Name::Authority);
        if host || !dropped.is_empty() || index.contains(Name::GrpcTimeout) {
            leave_out(&mut block, &mut self.fields.store, host, dropped);
        }
        self.calls[id as usize].request = block;
        // What tells clients and sessions apart is what the client sent, as for routes: a backend need not see it.
        if self.is_rate_limited(now, id) {
            return;
        }
        self.begin_policies(now, id);
        self.hash_call(id);
        let shadow_hash = self.shadow_hash(id);
        self.rewrite_request(id);
        self.charge_call(id);
        self.begin_shadow(now, id, shadow_hash);
        self.limit_duration(now, id);
        let call = &self.calls[id as usize];
        if call.deadline.is_some() || call.actions.is_some() {
            self.arm_call(id);
        }
        match delay {
            Some(delay) => self.delay_call(now, id, delay),
            None => self.attempt(now, id),
        }
    }

    /// Gives a call what its route says about further attempts. The budget counts it from here on: not a call that a rate limit or
    /// a fault keeps from every backend, or a flood of such calls would allow the others any number of retries.
    fn begin_policies(&mut self, now: Duration, id: u32) {
        let call = &self.calls[id as usize];
        let routes = &self.snapshot.listeners[call.listener as usize].routes;
        let Some(route) = routes.get(usize::from(call.route)) else { return };
        if (route.retry.is_none() && route.hedge.is_none()) || call.extra(|extras| extras.abort).is_some() {
            return;
        }
        let gates = &self.clusters[call.cluster as usize].settings.gates;
        let retrying = route.retry.as_ref().map(|settings| Retrying::begin(settings, gates, now));
        let hedging = route.hedge.as_ref().map(|settings| Box::new(Hedging::begin(settings, gates, now)));
        let extras = self.extras(id);
        (extras.retrying, extras.hedging) = (retrying, hedging);
    }

    fn on_request_data(&mut self, now: Duration, leg: Leg, id: u32, bytes: &[u8], end: bool) {
        if !self.is_call(id, leg) {
            // The call ended before its request did: the client's credit goes back, the bytes nowhere.
            self.consume(leg.conn, leg.stream, bytes.len() as u32);
            return;
        }
        let call = &mut self.calls[id as usize];
        call.request_ended |= end;
        call.note_active(now);
        if end || call.sent.bytes == 0 {
            call.note_asked(now);
        }
        call.sent.scan(bytes);
        self.on_messages(now, id);
        self.take_request_data(now, leg, id, bytes, end);
        if end && self.calls[id as usize].extras.is_some() {
            self.time_attempt(now, id);
        }
        // Last: a copy that is given up here changes other calls' room, and the call itself is done with these bytes.
        self.copy_to_shadow(now, id, bytes, end);
    }

    /// Keeps a part of a request, or sends it on.
    fn take_request_data(&mut self, now: Duration, leg: Leg, id: u32, bytes: &[u8], end: bool) {
        match self.calls[id as usize].phase {
            CallPhase::Draining => {
                self.calls[id as usize].credit_for(bytes.len() as u64);
                self.consume(leg.conn, leg.stream, bytes.len() as u32);
                return;
            }
            CallPhase::Waiting | CallPhase::Sent => self.keep_for_replay(id, bytes),
            CallPhase::Answering => {}
        }
        let call = &mut self.calls[id as usize];
        if call.phase == CallPhase::Waiting {
            return;
        }
        let Some(up) = call.up else { return };
        self.touch(up.conn);
        let sent =
            self.conns[up.conn.index()].http2.send_data(now, up.stream, bytes, end).unwrap_or(bytes.len());
        self.note_stall(now, id, Staller::Backend, sent < bytes.len());
        let credit = self.calls[id as usize].credit_for(sent as u64);
        self.consume(leg.conn, leg.stream, credit);
    }

    /// Gives receive credit back to a peer.
    pub(super) fn consume(&mut self, conn: ConnId, stream: StreamKey, bytes: u32) {
        if bytes > 0
            && let Some(conn) = self.conns.get_mut(conn.index())
        {
            conn.http2.consume(stream, bytes);
        }
    }
}
