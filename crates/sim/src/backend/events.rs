//! What a backend hears: from the network, and from its engine.

use evenkeel_grpc::parse_timeout;
use evenkeel_http2::field::Name;
use evenkeel_http2::{ErrorCode, Event, Fields, StreamFailure, StreamKey};

use super::{Backend, BackendConn, Run};
use crate::client::CALL_FIELD;
use crate::event::{BackendTimer, Event as WorldEvent};
use crate::ledger::Ledger;
use crate::net::{LinkId, Net};
use crate::plan::{Behaviour, CallPlan};
use crate::stats::Happening;

/// What an event asks the backend to do once the engine is free again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Todo {
    /// A request was received, on this stream.
    Begin(u32, StreamKey),
    /// The answer to this call may go on.
    Step(u32),
}

impl Backend {
    pub(crate) fn on_writable(&mut self, net: &mut Net, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.flush(net, at);
        }
    }

    pub(crate) fn on_reset(&mut self, net: &mut Net, ledger: &mut Ledger, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.lose(net, ledger, at);
        }
    }

    pub(crate) fn on_readable(&mut self, net: &mut Net, ledger: &mut Ledger, link: LinkId) {
        let Some(at) = self.by_link(link) else { return };
        let ended = self.conns[at].peer.read(net);
        let mut todo = Vec::new();
        let backend = self.index;
        let Self { conns, fields, .. } = self;
        let BackendConn { peer, runs, .. } = &mut conns[at];
        peer.process(fields, net, |peer, fields, net, event| match event {
            Event::Request { stream, end, .. } => {
                if let Some(call) = identify(fields, net, ledger) {
                    peer.http2.set_token(stream, call);
                    // A call begins before anything else of it is looked at.
                    runs.insert(call, Run::new(stream, end));
                    todo.push(Todo::Begin(call, stream));
                }
            }
            Event::Data { stream, token, bytes, end } => {
                let mine = runs.get_mut(&token).filter(|run| run.stream == stream);
                let Some(run) = mine else {
                    peer.http2.consume(stream, bytes.len() as u32);
                    return;
                };
                run.request.add(bytes);
                run.request_ended |= end;
                let hold = ledger.plan(token).backend_holds;
                if hold.is_zero() {
                    peer.http2.consume(stream, bytes.len() as u32);
                } else {
                    if run.held == 0 && !bytes.is_empty() {
                        net.stats.count(Happening::SlowBackend);
                        let timer = BackendTimer::Consume { conn: at, call: token };
                        net.after(hold, WorldEvent::Backend { backend, timer });
                    }
                    run.held += bytes.len() as u32;
                }
                todo.push(Todo::Step(token));
            }
            Event::Trailers { stream, token, .. } => {
                if let Some(run) = runs.get_mut(&token).filter(|run| run.stream == stream) {
                    run.request_ended = true;
                    todo.push(Todo::Step(token));
                }
            }
            Event::Failed { stream, token, failure } => {
                if let StreamFailure::Violation(violation) = failure {
                    net.violate(|| format!("the worker broke a rule towards a backend: {violation}"));
                }
                peer.http2.release(fields, stream);
                if runs.get(&token).is_some_and(|run| run.stream == stream)
                    && let Some(run) = runs.remove(&token)
                    && !run.is_finished
                {
                    ledger.aborted(net, token);
                }
            }
            _ => {}
        });
        for todo in todo {
            self.act(net, ledger, at, todo);
        }
        if ended.is_some() {
            self.lose(net, ledger, at);
        } else {
            self.flush(net, at);
        }
    }

    fn act(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize, todo: Todo) {
        match todo {
            Todo::Begin(call, stream) => {
                ledger.attempted(call, self.index, net.now);
                if self.begin(net, ledger, at, call, stream) {
                    self.go_on(net, ledger, at, call);
                }
            }
            Todo::Step(call) => self.go_on(net, ledger, at, call),
        }
    }

    /// More of a request has arrived. Once it is complete the answer begins, after a while.
    fn go_on(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize, call: u32) {
        let Some(run) = self.conns[at].runs.get_mut(&call) else { return };
        if !run.request_ended {
            self.step(net, ledger, at, call);
            return;
        }
        if core::mem::replace(&mut run.answer_begun, true) {
            return;
        }
        let gap = ledger.plan(call).response_gap + self.setup.delay;
        if gap.is_zero() {
            self.step(net, ledger, at, call);
        } else {
            let timer = BackendTimer::Step { conn: at, call };
            net.after(gap, WorldEvent::Backend { backend: self.index, timer });
        }
    }

    /// Decides whether to work on a call that was received.
    fn begin(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize, call: u32, stream: StreamKey) -> bool {
        self.calls_seen += 1;
        let id = stream.id();
        match self.setup.goaway {
            Some((every, kind)) if self.calls_seen.is_multiple_of(every) => {
                // In every other case the call that brings it is itself the first to be left out.
                let last = if self.calls_seen.is_multiple_of(2 * every) { id } else { id.saturating_sub(2) };
                self.go_away_on(net, ledger, at, kind, last);
            }
            _ => {}
        }
        let conn = &mut self.conns[at];
        if conn.peer.is_gone {
            return false;
        }
        let is_cut = conn.last_stream.is_some_and(|last| id > last);
        let refusals = match ledger.plan(call).behaviour {
            Behaviour::Refuse(times) => times,
            _ => 0,
        };
        let is_refused = ledger.calls[call as usize].attempts <= refusals;
        // It may have been reset within the same batch.
        let is_here = conn.runs.get(&call).is_some_and(|run| run.stream == stream);
        if !is_cut && !is_refused {
            ledger.executed(net, call);
            return is_here;
        }
        ledger.not_processed(call);
        if is_cut {
            net.stats.count(Happening::CutByGoAway);
        } else {
            net.stats.count(Happening::Refused);
            conn.peer.http2.reset(&mut self.fields, stream, ErrorCode::REFUSED_STREAM);
        }
        if is_here {
            conn.runs.remove(&call);
        }
        conn.peer.http2.release(&mut self.fields, stream);
        false
    }

    /// Whether a connection should be gone because its backend said GOAWAY and nothing runs on it.
    pub(crate) fn waits_for_close(&self) -> bool {
        self.conns.iter().any(|conn| {
            let said = conn.last_stream.is_some() || conn.peer.http2.is_draining();
            !conn.peer.is_gone && said && conn.runs.is_empty()
        })
    }
}

/// The call that a request belongs to, if its fields are those that its client sent.
fn identify(fields: &Fields, net: &mut Net, ledger: &Ledger) -> Option<u32> {
    let field = fields.block.find_bytes(&fields.store, CALL_FIELD);
    let number = field.and_then(|field| str::from_utf8(field.value).ok()?.parse::<u32>().ok());
    let Some(call) = number.filter(|call| (*call as usize) < ledger.calls.len()) else {
        net.violate(|| "a request arrived without the field that names its call".to_owned());
        return None;
    };
    if let Err(text) = check_fields(fields, ledger.plan(call)) {
        net.violate(|| format!("the request of call {call} was changed on its way: {text}"));
    }
    Some(call)
}

fn check_fields(fields: &Fields, plan: &CallPlan) -> Result<(), String> {
    let value = |name| fields.index.position(name).map(|at| fields.block.get(&fields.store, at).value);
    if value(Name::Path) != Some(plan.path().as_bytes()) || value(Name::Authority) != Some(b"sim.test") {
        return Err("its path or authority".to_owned());
    }
    match (plan.timeout, value(Name::GrpcTimeout)) {
        (None, None) => Ok(()),
        (Some(most), Some(text)) => match parse_timeout(text) {
            Ok(left) if left <= most => Ok(()),
            other => Err(format!("its grpc-timeout: {other:?}")),
        },
        (planned, found) => Err(format!("its grpc-timeout: {planned:?} became {found:?}")),
    }
}
