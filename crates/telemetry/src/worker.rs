//! The counts of one worker.
//!
//! Everything a worker writes is its own: a table that no other thread writes, so that counting is a load, an add and a
//! store (see [`crate::counter`]). Rows of methods live in chunks that are allocated on first use and never move, hence
//! no lock, and no allocation per call.

use std::sync::{Arc, OnceLock};

use crate::call::{CallEnd, CallRow, CallTotals, Messages};
use crate::counter::Counter;
use crate::event::Event;
use crate::event::process::SLOTS;
use crate::method::{CHUNK, MAX_METHODS, MethodId};
use crate::route::{ROUTE_ROWS, RouteTelemetry};
use crate::shards::Attached;

/// Rules of the protocol with a series of their own; others share "other". The HTTP/2 engine has about 40.
pub const MAX_PROTOCOL_RULES: usize = 64;

/// Everything one worker counts. Aligned so that no other allocation shares its cache lines (128 bytes: adjacent lines
/// are fetched in pairs).
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct WorkerTable {
    events: [Counter; SLOTS],
    /// In the order of `rules`, then "other".
    protocol_errors: [Counter; MAX_PROTOCOL_RULES + 1],
    rules: Arc<[&'static str]>,
    methods: [OnceLock<Box<[CallRow; CHUNK]>>; MAX_METHODS / CHUNK],
    /// Calls of each route.
    routes: [Counter; ROUTE_ROWS],
}

impl WorkerTable {
    /// A table whose counters are 0. `rules` has at most [`MAX_PROTOCOL_RULES`] names.
    pub(crate) fn new(rules: Arc<[&'static str]>) -> Self {
        debug_assert!(rules.len() <= MAX_PROTOCOL_RULES);
        Self {
            events: std::array::from_fn(|_| Counter::default()),
            protocol_errors: std::array::from_fn(|_| Counter::default()),
            rules,
            methods: std::array::from_fn(|_| OnceLock::new()),
            routes: std::array::from_fn(|_| Counter::default()),
        }
    }

    #[inline]
    fn method(&self, method: MethodId) -> &CallRow {
        let chunk = self.methods[method.index() / CHUNK]
            .get_or_init(|| Box::new(std::array::from_fn(|_| CallRow::default())));
        &chunk[method.index() % CHUNK]
    }

    /// Adds this worker's row to `totals`.
    pub(crate) fn add_method_to(&self, index: usize, totals: &mut CallTotals) {
        if let Some(chunk) = self.methods[index / CHUNK].get() {
            totals.add(&chunk[index % CHUNK]);
        }
    }

    /// Adds this worker's events to `totals`, slot by slot.
    pub(crate) fn add_events_to(&self, totals: &mut [u64; SLOTS]) {
        add_all(&self.events, totals);
    }

    /// Adds this worker's protocol errors to `totals`: one for each rule, then those of other rules.
    pub(crate) fn add_protocol_errors_to(&self, totals: &mut [u64; MAX_PROTOCOL_RULES + 1]) {
        add_all(&self.protocol_errors, totals);
    }

    /// Adds this worker's calls of each route to `totals`, row by row.
    pub(crate) fn add_routes_to(&self, totals: &mut [u64; ROUTE_ROWS]) {
        add_all(&self.routes, totals);
    }

    /// This worker's calls of the routes that had one row.
    pub(crate) fn route_row(&self, row: usize) -> u64 {
        self.routes[row].get()
    }
}

fn add_all(counters: &[Counter], totals: &mut [u64]) {
    for (total, counter) in totals.iter_mut().zip(counters) {
        *total = total.wrapping_add(counter.get());
    }
}

/// A worker's handle to its counts; from [`crate::Telemetry::add_worker`].
///
/// It may move to the worker's thread but not be shared: it is neither `Clone` nor `Sync`.
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<evenkeel_telemetry::WorkerStats>();
/// ```
#[derive(Debug)]
pub struct WorkerStats {
    table: Attached<WorkerTable>,
}

impl WorkerStats {
    pub(crate) fn new(table: Attached<WorkerTable>) -> Self {
        Self { table }
    }

    /// Counts a call that begins. The first call of each 64 methods allocates their rows.
    #[inline]
    pub fn call_started(&self, method: MethodId) {
        self.table.method(method).call_started();
    }

    /// Counts messages of a call that goes on, since the last such report: for long streams, whose messages would
    /// otherwise show up only at their end. [`CallEnd::reported`] must repeat them.
    #[inline]
    pub fn call_progressed(&self, method: MethodId, messages: Messages) {
        self.table.method(method).call_progressed(messages);
    }

    /// Counts a call that ends. Exactly one for each [`WorkerStats::call_started`].
    #[inline]
    pub fn call_finished(&self, method: MethodId, end: &CallEnd) {
        self.table.method(method).call_finished(end);
    }

    /// Counts a call that a route took.
    #[inline]
    pub fn route_took(&self, route: &RouteTelemetry) {
        self.table.routes[route.row].add(1);
    }

    /// Counts one event.
    #[inline]
    pub fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts `n` events, or bytes.
    #[inline]
    pub fn add(&self, event: Event, n: u64) {
        self.table.events[event.slot()].add(n);
    }

    /// Counts a broken rule of the protocol by its name; a name that is not in
    /// [`crate::Options::protocol_rules`] counts as "other".
    pub fn protocol_error(&self, rule: &str) {
        let rules = &self.table.rules;
        let index = rules.iter().position(|known| *known == rule).unwrap_or(MAX_PROTOCOL_RULES);
        self.table.protocol_errors[index].add(1);
    }
}
