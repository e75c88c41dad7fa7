//! What a worker holds at this moment, for those who check that nothing is left over.

use core::time::Duration;

use evenkeel_balance::{Address, Slot};

use super::Worker;

/// What a worker holds. All of it is 0 once every connection and call is gone, the field references of its own answers and
/// of the newest header list aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Calls in progress.
    pub calls: usize,
    /// Connections of both sides.
    pub connections: usize,
    /// Timers that are armed.
    pub timers: usize,
    /// Entries of the queues of calls that wait for a connection.
    pub pending: usize,
    /// Attempts under way that no answer has come to, beyond the first of each call: retries and hedges.
    pub further_attempts: usize,
    /// Bytes of DATA that arrived and whose credit was not given back.
    pub held_bytes: u64,
    /// Bytes on the account of connections and calls.
    pub memory_bytes: u64,
    /// Bytes of requests that are kept for further attempts.
    pub kept_bytes: u64,
    /// References to interned header fields.
    pub field_references: u64,
    /// Fields in the newest header list, which may be interned.
    pub newest_fields: usize,
}

/// An attempt under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningAttempt {
    /// Its endpoint.
    pub address: Address,
    /// The hash of its call's key, where the cluster asks for one and the call has one.
    pub key: Option<u64>,
    /// When it was sent.
    pub sent_at: Duration,
    /// Endpoints that it was to avoid: those that the call was tried on, and those where its other attempts run.
    pub avoided: Vec<Address>,
}

impl Worker {
    /// The attempts under way. Costs O(attempts * endpoints).
    #[must_use]
    pub fn running_attempts(&self) -> Vec<RunningAttempt> {
        let attempts = self.calls.iter().flat_map(|(_, call)| {
            let balancer = &self.clusters[call.cluster as usize].balancer;
            let address = |slot: Slot| {
                balancer
                    .slots()
                    .find(|status| status.slot == slot)
                    .map(|status| status.endpoint.address().clone())
            };
            let view = move |(slot, sent_at): (Slot, Duration)| {
                let others = call.runs_at().map(|(other, _)| other).filter(|other| *other != slot);
                let avoided = call.tried().chain(others).filter_map(address).collect();
                Some(RunningAttempt { address: address(slot)?, key: call.hash, sent_at, avoided })
            };
            call.runs_at().filter_map(view)
        });
        attempts.collect()
    }

    /// Calls that wait for an endpoint, a connection or a place.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.clusters.iter().map(|cluster| cluster.pending.len()).sum()
    }

    /// What the worker holds now. Costs O(connections).
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            calls: self.calls.len(),
            connections: self.conns.len(),
            timers: self.wheel.len(),
            pending: self.pending_count(),
            further_attempts: self.calls.iter().map(|(_, call)| call.further_attempts()).sum(),
            held_bytes: self.conns.iter().map(|(_, conn)| u64::from(conn.http2.held_bytes())).sum(),
            memory_bytes: self.held_memory(),
            kept_bytes: self.memory.kept(),
            field_references: self.fields.store.references(),
            newest_fields: self.fields.block.len(),
        }
    }
}
