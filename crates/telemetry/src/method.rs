//! The methods that have series of their own.
//!
//! A label value per method is only safe while somebody bounds the methods: whoever may call any path can otherwise fill
//! the memory of the proxy and of its Prometheus (linkerd/linkerd2#12916). Bounds here: [`MAX_METHODS`] rows and
//! [`MAX_NAME_BYTES`] per name; what is beyond shares the row [`MethodId::OTHER`] and is counted. Calls that no route
//! takes are not to be registered at all: they count under [`MethodId::UNKNOWN`].
//!
//! Workers register a path when they first see it and keep the [`MethodId`] with their routing decision; the mutex is
//! not on the path of a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::counter::SharedCounter;
use crate::shards::lock;

/// Rows for methods, the two reserved ones included. A row takes 320 bytes per worker that uses it (64 rows
/// are allocated together) and up to 34 lines of metrics.
pub const MAX_METHODS: usize = 1024;

/// Longest service or method name with a row of its own, in bytes; a longer one shares [`MethodId::OTHER`]. Fully
/// qualified protobuf names of real services stay below 100.
pub const MAX_NAME_BYTES: usize = 256;

/// Rows that are allocated together.
pub(crate) const CHUNK: usize = 64;

const _: () = assert!(MAX_METHODS.is_multiple_of(CHUNK), "the last chunk is as long as the others");
const _: () = assert!(MAX_METHODS <= u16::MAX as usize, "a method's number fits its type");

/// The row of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(u16);

impl MethodId {
    /// Methods beyond the bounds: `grpc_service="other"`, `grpc_method="other"`.
    pub const OTHER: Self = Self(0);
    /// Calls that no route takes, whose path is whatever the client wrote: both labels are "unknown".
    pub const UNKNOWN: Self = Self(1);

    /// The first row that [`MethodRegistry::register`] gives away.
    pub(crate) const FIRST_REGISTERED: Self = Self(2);

    #[inline]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A method's two labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodName {
    /// `grpc_service`, for example `ecommerce.orders.OrderService`.
    pub service: Arc<str>,
    /// `grpc_method`, for example `GetOrder`.
    pub method: Arc<str>,
}

/// The methods known to all workers.
#[derive(Debug)]
pub struct MethodRegistry {
    names: Mutex<Names>,
    overflow: SharedCounter,
}

#[derive(Debug)]
struct Names {
    by_service: BTreeMap<Arc<str>, BTreeMap<Arc<str>, MethodId>>,
    by_id: Vec<MethodName>,
}

impl Names {
    fn push(&mut self, service: &str, method: &str, id: MethodId) {
        let name = MethodName { service: service.into(), method: method.into() };
        self.by_service.entry(Arc::clone(&name.service)).or_default().insert(Arc::clone(&name.method), id);
        self.by_id.push(name);
    }
}

impl Default for MethodRegistry {
    fn default() -> Self {
        let mut names = Names { by_service: BTreeMap::new(), by_id: Vec::new() };
        // The reserved rows are registered like others: a client that calls `/other/other` must not make a second
        // series with the same labels, for which Prometheus would refuse the whole scrape.
        for (label, id) in [("other", MethodId::OTHER), ("unknown", MethodId::UNKNOWN)] {
            debug_assert_eq!(id.index(), names.by_id.len());
            names.push(label, label, id);
        }
        Self { names: Mutex::new(names), overflow: SharedCounter::default() }
    }
}

impl MethodRegistry {
    /// The row of `service` and `method`, new if there is none; [`MethodId::OTHER`] beyond the bounds.
    pub fn register(&self, service: &str, method: &str) -> MethodId {
        let mut names = lock(&self.names);
        if let Some(id) = names.by_service.get(service).and_then(|methods| methods.get(method)) {
            return *id;
        }
        let row = names.by_id.len();
        let fits = row < MAX_METHODS && service.len().max(method.len()) <= MAX_NAME_BYTES;
        let Some(id) = u16::try_from(row).ok().filter(|_| fits).map(MethodId) else {
            self.overflow.add(1);
            return MethodId::OTHER;
        };
        names.push(service, method, id);
        id
    }

    /// Registrations that were refused a row of their own.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.overflow.get()
    }

    /// All names, each at the index of its row.
    pub(crate) fn names(&self) -> Vec<MethodName> {
        lock(&self.names).by_id.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_keeps_its_row() {
        let registry = MethodRegistry::default();
        let get = registry.register("orders.OrderService", "GetOrder");
        let create = registry.register("orders.OrderService", "CreateOrder");
        assert_ne!(get, create);
        assert_eq!(registry.register("orders.OrderService", "GetOrder"), get);
        assert_eq!(&*registry.names()[get.index()].method, "GetOrder");
    }

    #[test]
    fn service_and_method_are_not_mixed_up() {
        let registry = MethodRegistry::default();
        assert_ne!(registry.register("a", "bc"), registry.register("ab", "c"));
    }

    #[test]
    fn the_reserved_rows_have_their_labels_and_are_never_given_away() {
        let registry = MethodRegistry::default();
        let names = registry.names();
        assert_eq!(&*names[MethodId::OTHER.index()].service, "other");
        assert_eq!(&*names[MethodId::UNKNOWN.index()].method, "unknown");
        assert_eq!(registry.register("orders.OrderService", "GetOrder"), MethodId::FIRST_REGISTERED);
    }

    #[test]
    fn a_method_called_like_a_reserved_row_shares_it() {
        let registry = MethodRegistry::default();
        assert_eq!(registry.register("other", "other"), MethodId::OTHER);
        assert_eq!(registry.register("unknown", "unknown"), MethodId::UNKNOWN);
        assert_eq!(registry.register("unknown", "Get").index(), 2);
        assert_eq!(registry.overflow(), 0);
    }

    #[test]
    fn the_last_row_is_given_and_everything_after_it_shares_other() {
        let registry = MethodRegistry::default();
        for number in 2..MAX_METHODS {
            assert_eq!(registry.register("s", &number.to_string()).index(), number);
        }
        assert_eq!(registry.overflow(), 0);
        assert_eq!(registry.register("s", "one more"), MethodId::OTHER);
        assert_eq!(registry.register("s", "one more"), MethodId::OTHER);
        assert_eq!(registry.overflow(), 2);
        assert_eq!(registry.register("s", "2").index(), 2);
        assert_eq!(registry.names().len(), MAX_METHODS);
    }

    #[test]
    fn a_name_of_the_longest_length_has_a_row_and_a_longer_one_has_not() {
        let registry = MethodRegistry::default();
        let longest = "m".repeat(MAX_NAME_BYTES);
        assert_ne!(registry.register("s", &longest), MethodId::OTHER);
        assert_ne!(registry.register(&longest, "m"), MethodId::OTHER);
        assert_eq!(registry.register("s", &format!("{longest}m")), MethodId::OTHER);
        assert_eq!(registry.register(&format!("{longest}m"), "m"), MethodId::OTHER);
        assert_eq!(registry.overflow(), 2);
    }
}
