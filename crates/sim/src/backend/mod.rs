//! Backends: they do with each call what its plan says, say GOAWAY, die, and start again.

mod events;
mod run;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use evenkeel_http2::{ErrorCode, Fields, Half, Limits, Role};

use self::run::{Next, Run, Stage};
use crate::event::{BackendTimer, Event};
use crate::ledger::Ledger;
use crate::net::{Accept, LinkId, Net, Owner};
use crate::peer::Peer;
use crate::plan::{Down, GoAway};
use crate::stats::Happening;

/// How a backend is set up.
#[derive(Clone, Copy, Debug)]
pub struct BackendSetup {
    /// What its engine holds and allows.
    pub limits: Limits,
    /// How much longer than planned it takes to answer.
    pub delay: Duration,
    /// Says GOAWAY so with every n-th call; `None`: never on its own.
    pub goaway: Option<(u32, GoAway)>,
}

#[derive(Debug)]
struct BackendConn {
    peer: Peer,
    /// Executions by call.
    runs: BTreeMap<u32, Run>,
    /// The last stream that a single GOAWAY named.
    last_stream: Option<u32>,
}

/// A backend.
#[derive(Debug)]
pub(crate) struct Backend {
    index: usize,
    setup: BackendSetup,
    pub(crate) address: SocketAddr,
    fields: Fields,
    conns: Vec<BackendConn>,
    /// How often its address has changed its ways.
    life: u32,
    calls_seen: u32,
}

impl Backend {
    pub(crate) fn new(index: usize, setup: BackendSetup, address: SocketAddr) -> Self {
        Self {
            index,
            setup,
            address,
            fields: Fields::new(1000 + index as u64),
            conns: Vec::new(),
            life: 0,
            calls_seen: 0,
        }
    }

    fn by_link(&self, link: LinkId) -> Option<usize> {
        self.conns.iter().position(|conn| conn.peer.link == link && !conn.peer.is_gone)
    }

    /// Links of connections in use, each with the bytes that it holds.
    pub(crate) fn links(&self) -> impl Iterator<Item = (LinkId, u32)> + '_ {
        let live = self.conns.iter().filter(|conn| !conn.peer.is_gone);
        live.map(|conn| (conn.peer.link, conn.peer.http2.held_bytes()))
    }

    /// Executions whose last word was not sent.
    pub(crate) fn running(&self) -> impl Iterator<Item = u32> + '_ {
        let live = self.conns.iter().filter(|conn| !conn.peer.is_gone);
        live.flat_map(|conn| conn.runs.iter().filter(|(_, run)| !run.is_finished).map(|(call, _)| *call))
    }

    pub(crate) fn on_accepted(&mut self, net: &mut Net, link: LinkId) {
        let peer = Peer::new(net, Role::Server, self.setup.limits, link);
        self.conns.push(BackendConn { peer, runs: BTreeMap::new(), last_stream: None });
        self.flush(net, self.conns.len() - 1);
    }

    pub(crate) fn on_timer(&mut self, net: &mut Net, ledger: &mut Ledger, timer: BackendTimer) {
        match timer {
            BackendTimer::Step { conn, call } => {
                self.step(net, ledger, conn, call);
                self.flush(net, conn);
            }
            BackendTimer::Consume { conn: at, call } => {
                let conn = &mut self.conns[at];
                if let Some(run) = conn.runs.get_mut(&call) {
                    let held = core::mem::take(&mut run.held);
                    conn.peer.http2.consume(run.stream, held);
                    self.flush(net, at);
                }
            }
            BackendTimer::Engine(at) => {
                if self.conns[at].peer.on_timer(&mut self.fields, net) {
                    self.flush(net, at);
                } else {
                    self.lose(net, ledger, at);
                }
            }
            BackendTimer::Restarted { life } => {
                if life == self.life {
                    net.listen(self.address, Owner::Backend(self.index), Accept::Open);
                }
            }
        }
    }

    fn step(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize, call: u32) {
        let conn = &mut self.conns[at];
        if conn.peer.is_gone {
            return;
        }
        let Some(run) = conn.runs.get_mut(&call) else { return };
        let gap = ledger.plan(call).response_gap;
        let (backend, fields) = (self.index, &mut self.fields);
        let next = run.step(&mut Stage { backend, peer: &mut conn.peer, fields, net, ledger }, call);
        match next {
            Next::Later => {
                let timer = BackendTimer::Step { conn: at, call };
                net.after(gap, Event::Backend { backend, timer });
            }
            Next::Wait => {}
            Next::Gone => {
                conn.runs.remove(&call);
            }
        }
    }

    /// Writes what there is, lets go of finished streams, and sets the engine's timer.
    fn flush(&mut self, net: &mut Net, at: usize) {
        let conn = &mut self.conns[at];
        if conn.peer.is_gone {
            return;
        }
        // Twice, since letting go of a stream may write a reset.
        for _ in 0..2 {
            conn.peer.flush(&mut self.fields, net);
            let fields = &mut self.fields;
            let http2 = &mut conn.peer.http2;
            conn.runs.retain(|_, run| {
                let is_over = run.is_finished && http2.send_half(run.stream) == Half::Closed;
                if is_over {
                    if http2.receive_half(run.stream) != Half::Closed {
                        http2.reset(fields, run.stream, ErrorCode::NO_ERROR);
                    }
                    http2.release(fields, run.stream);
                }
                !is_over
            });
        }
        if conn.peer.http2.is_drained() && conn.peer.is_flushed() {
            // To close at once would answer what the worker still sends with a reset, which destroys the last words.
            conn.peer.shut_write(net);
        } else if let Some(deadline) = conn.peer.new_timer() {
            let timer = BackendTimer::Engine(at);
            net.queue.push(deadline.max(net.now), Event::Backend { backend: self.index, timer });
        }
    }

    /// A connection is over; what ran on it stops.
    fn lose(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize) {
        let conn = &mut self.conns[at];
        conn.peer.close(&mut self.fields, net);
        for (call, run) in core::mem::take(&mut conn.runs) {
            if !run.is_finished {
                ledger.aborted(net, call);
            }
        }
    }

    /// Says GOAWAY on all connections.
    pub(crate) fn go_away(&mut self, net: &mut Net, ledger: &mut Ledger, kind: GoAway) {
        for at in 0..self.conns.len() {
            if !self.conns[at].peer.is_gone {
                let last = self.conns[at].runs.values().map(|run| run.stream.id()).max().unwrap_or(0);
                self.go_away_on(net, ledger, at, kind, last);
                self.flush(net, at);
            }
        }
    }

    fn go_away_on(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize, kind: GoAway, last: u32) {
        let conn = &mut self.conns[at];
        match kind {
            GoAway::TwoPhase => {
                if !conn.peer.http2.is_draining() && conn.last_stream.is_none() {
                    net.stats.count(Happening::GoAwayTwoPhase);
                    conn.peer.http2.start_drain(net.now, b"age");
                }
            }
            GoAway::SinglePhase => {
                // One that announces a drain does not fall back to less.
                if conn.last_stream.is_none() && !conn.peer.http2.is_draining() {
                    net.stats.count(Happening::GoAwaySinglePhase);
                    conn.last_stream = Some(last);
                    conn.peer.write_single_goaway(last);
                }
            }
            GoAway::Abrupt => {
                net.stats.count(Happening::GoAwayAbrupt);
                // A GOAWAY that the engine does not know of must not be raised by one that it writes.
                if conn.last_stream.is_none() {
                    conn.peer.http2.shut(ErrorCode::ENHANCE_YOUR_CALM, b"test");
                }
                self.flush(net, at);
                self.lose(net, ledger, at);
            }
        }
    }

    /// The backend dies: its connections are gone, and its address behaves so until it starts again.
    pub(crate) fn die(&mut self, net: &mut Net, ledger: &mut Ledger, down_for: Duration, down: Down) {
        net.stats.count(Happening::BackendRestart);
        self.unlisten(net, down_for, down);
        for at in 0..self.conns.len() {
            if !self.conns[at].peer.is_gone {
                self.lose(net, ledger, at);
            }
        }
    }

    /// The backend's address behaves so for some time.
    pub(crate) fn unlisten(&mut self, net: &mut Net, down_for: Duration, down: Down) {
        self.life += 1;
        let accept = match down {
            Down::Refused => Accept::Refusing,
            Down::Unanswered => Accept::Silent,
            Down::Unreachable => Accept::Unreachable,
        };
        net.listen(self.address, Owner::Backend(self.index), accept);
        let timer = BackendTimer::Restarted { life: self.life };
        net.after(down_for, Event::Backend { backend: self.index, timer });
    }

    /// Closes one connection in order, whatever runs on it.
    pub(crate) fn close_link(&mut self, net: &mut Net, ledger: &mut Ledger, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.lose(net, ledger, at);
        }
    }

    /// Gives everything back that the backend's connections hold.
    pub(crate) fn dissolve(&mut self, net: &mut Net) {
        for conn in &mut self.conns {
            conn.peer.close(&mut self.fields, net);
        }
        self.fields.block.clear(&mut self.fields.store);
    }
}
