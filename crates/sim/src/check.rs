//! What must hold at the end of each part of a world.

use evenkeel_http2::Limits;

use crate::net::{LinkId, Side};
use crate::world::World;

/// The connection window that every engine announces at least (RFC 9113 section 6.9.2).
const INITIAL_WINDOW: i64 = 65_535;

/// Liveness: no call is left.
pub(crate) fn all_calls_ended(world: &mut World) {
    let open: Vec<u32> = world.ledger.open_calls().collect();
    if let Some(first) = open.first() {
        let record = &world.ledger.calls[*first as usize];
        let usage = world.driver.worker.usage();
        let views = world.driver.worker.cluster_views(world.net.now);
        world.net.violate(|| {
            format!("calls {open:?} have not ended; the first: {record:?}; the worker: {usage:?}; {views:?}")
        });
    }
}

/// Once every call has ended and everything had time to come to rest, nothing of any call is left, and every window is open.
pub(crate) fn quiet(world: &mut World) {
    let usage = world.driver.worker.usage();
    if usage.calls > 0 || usage.held_bytes > 0 || usage.pending > 0 {
        world.net.violate(|| format!("calls have ended, but the worker holds {usage:?}"));
    }
    for endpoint in &world.endpoints {
        let in_flight = endpoint.in_flight();
        if in_flight > 0 {
            let address = endpoint.address();
            world.net.violate(|| format!("{in_flight} calls are in flight at {address}, but none exists"));
        }
    }
    for (index, backend) in world.backends.iter().enumerate() {
        if let Some(call) = backend.running().next() {
            world.net.violate(|| format!("backend {index} still works on call {call}, which has ended"));
        }
        if backend.waits_for_close() {
            world.net.violate(|| format!("backend {index} said GOAWAY and its connection is still open"));
        }
    }
    if let Some(checks) = &world.checks {
        checks.settled(&mut world.net);
    }
    counts(world);
    world.judge_bounds_at_end();
    windows(world);
}

/// What the worker counts agrees with what happened: every call that began has ended, once, everywhere.
fn counts(world: &mut World) {
    let counted = world.driver.telemetry.snapshot();
    let calls = counted.calls();
    if calls.started != calls.ended() {
        let (started, ended) = (calls.started, calls.ended());
        world.net.violate(|| format!("{started} calls are counted as started, {ended} as ended"));
    }
    for endpoint in counted.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
        let totals = &endpoint.totals;
        if totals.calls.started != totals.calls.ended() {
            let address = &endpoint.address;
            world.net.violate(|| format!("attempts at {address} do not add up: {totals:?}"));
        }
    }
    let (open, clients) = (counted.connections_active(), world.driver.worker.client_count() as u64);
    if open != clients {
        world.net.violate(|| format!("{open} client connections are counted, {clients} exist"));
    }
}

/// Flow-control credit is conserved: on a quiet connection all but what is not worth announcing is available again.
fn windows(world: &mut World) {
    let peers = world.clients.iter().flat_map(|client| client.links().collect::<Vec<_>>());
    let peers = peers.chain(world.backends.iter().flat_map(|backend| backend.links().collect::<Vec<_>>()));
    let peers: Vec<(LinkId, u32)> = peers.collect();
    for (link, held) in peers {
        if held > 0 {
            world.net.violate(|| format!("a peer of the worker holds {held} bytes of connection {link}"));
        }
    }
    let links: Vec<LinkId> = world.driver.links().map(|(link, _)| link).collect();
    for link in links {
        if !world.net.live().contains(&link) {
            continue;
        }
        for side in [Side::Initiator, Side::Acceptor] {
            let (window, sent) = world.net.window(link, side);
            let most = i64::from(Limits::mesh().connection_window_bytes);
            let least = INITIAL_WINDOW / 2;
            if window > most || window <= least {
                let owner = world.net.owner(link, side);
                world.net.violate(|| {
                    format!("{owner:?} may send {window} bytes on quiet connection {link} after {sent}")
                });
            }
        }
    }
}

/// A drained worker has let every client go.
pub(crate) fn drained(world: &mut World) {
    let clients = world.driver.worker.client_count();
    if clients > 0 {
        world.net.violate(|| format!("the worker has drained, but {clients} clients are connected"));
    }
}

/// All clients have left.
pub(crate) fn nobody_left(world: &mut World) {
    let clients = world.driver.worker.client_count();
    let usage = world.driver.worker.usage();
    if clients > 0 || usage.calls > 0 {
        world.net.violate(|| format!("clients have left, but the worker has {clients} of them: {usage:?}"));
    }
}

/// Nothing is configured any more, and nothing is left.
pub(crate) fn nothing_left(world: &mut World) {
    let usage = world.driver.worker.usage();
    let references = usage.field_references.saturating_sub(world.own_references);
    let leftover = usage.calls > 0
        || usage.connections > 0
        || usage.timers > 0
        || usage.held_bytes > 0
        || usage.memory_bytes > 0
        || usage.pending > 0
        || references > usage.newest_fields as u64;
    if leftover {
        world.net.violate(|| {
            format!("the worker has nothing to do, but holds {usage:?}, {references} references not its own")
        });
    }
    world.judge_connections_at_end();
}
