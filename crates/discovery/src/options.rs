//! How a target is resolved: intervals, bounds, and which name servers are asked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Search domains that are tried per name; more are ignored. Kubernetes allows a pod as many (its `MaxDNSSearchPaths`).
pub const MAX_SEARCH_DOMAINS: usize = 32;

/// How a target is resolved. All fields have a default; see each.
#[derive(Clone, Debug)]
pub struct ResolveOptions {
    /// Longest wait between two resolutions, whatever the TTL, and the cap of the backoff after failures.
    /// Default 30 s: an endpoint that was added takes traffic within that time. Raised to `min_refresh` if shorter.
    pub max_refresh: Duration,
    /// Shortest time between two resolutions of the name. Default 1 s, so that a TTL of 0 means one query per second.
    pub min_refresh: Duration,
    /// Longest wait for the answer to one question. Default 5 s, as `resolv.conf(5)`.
    pub query_timeout: Duration,
    /// How long the last good list is kept while the name servers answer that the name is gone or has no addresses.
    /// Default 5 min. Other failures keep it for ever.
    pub keep_empty_for: Duration,
    /// Addresses that are taken from name servers; those beyond it are left out, counted and logged. Default 4096, about
    /// what the largest DNS message (64 KiB) can carry. Files may list more, see
    /// [`MAX_ENDPOINTS`](evenkeel_balance::MAX_ENDPOINTS).
    pub max_addresses: usize,
    /// Name servers to ask instead of the system's. A target's own authority (`dns://10.0.0.10/orders:50051`) comes
    /// before these. Default: the system's, from `/etc/resolv.conf`.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// Domains to complete relative names with instead of the system's. Default: the system's, from `/etc/resolv.conf`.
    pub search: Option<SearchList>,
    /// The hosts file, which is asked before any name server. Default `/etc/hosts`; `None` asks name servers only.
    pub hosts_file: Option<PathBuf>,
}

impl Default for ResolveOptions {
    fn default() -> Self {
        Self {
            max_refresh: Duration::from_secs(30),
            min_refresh: Duration::from_secs(1),
            query_timeout: Duration::from_secs(5),
            keep_empty_for: Duration::from_secs(300),
            max_addresses: 4096,
            nameservers: None,
            search: None,
            hosts_file: Some(PathBuf::from("/etc/hosts")),
        }
    }
}

/// How a relative name, one that does not end in a dot, is completed; see `resolv.conf(5)`, `search` and `ndots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchList {
    /// The domains, tried in this order. At most [`MAX_SEARCH_DOMAINS`] are; none by default.
    pub domains: Vec<String>,
    /// A name with at least this many dots is tried as it is before the domains are, else after them. Default 1.
    /// Kubernetes sets 5, so that `orders.shop.svc.cluster.local` costs five lookups and the same with a dot at its
    /// end one.
    pub ndots: usize,
}

impl Default for SearchList {
    fn default() -> Self {
        Self { domains: Vec::new(), ndots: 1 }
    }
}
