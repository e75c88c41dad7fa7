//! What a worker holds at this moment, for those who check that nothing is left over.

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
    /// Bytes of DATA that arrived and whose credit was not given back.
    pub held_bytes: u64,
    /// Bytes on the account of connections and calls.
    pub memory_bytes: u64,
    /// References to interned header fields.
    pub field_references: u64,
    /// Fields in the newest header list, which may be interned.
    pub newest_fields: usize,
}

impl Worker {
    /// What the worker holds now. Costs O(connections).
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            calls: self.calls.len(),
            connections: self.conns.len(),
            timers: self.wheel.len(),
            pending: self.clusters.iter().map(|cluster| cluster.pending.len()).sum(),
            held_bytes: self.conns.iter().map(|(_, conn)| u64::from(conn.http2.held_bytes())).sum(),
            memory_bytes: self.held_memory(),
            field_references: self.fields.store.references(),
            newest_fields: self.fields.block.len(),
        }
    }
}
