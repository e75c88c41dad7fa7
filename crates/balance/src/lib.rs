//! The brain: endpoints, connectivity, and the policies that pick one for each call.
//!
//! Every worker thread owns one [`Balancer`] per cluster, because every worker has its own connections and so its own
//! view of which endpoints can be reached. What all workers must agree on, the calls in flight above all, lives in the
//! shared [`Endpoint`] as atomics: least-request is exact across cores without a lock.
//!
//! ```text
//! discovery -> EndpointSet -> subset -> health (connectivity, withheld) -> priority, locality -> policy -> Pick
//!              (shared)       '--------------- Balancer: one per worker and cluster ---------------'
//! ```
//!
//! Each arrow is one module, and a function of (state, now, random numbers): nothing here reads a clock, opens a socket,
//! takes a lock or draws random numbers of its own.
//!
//! Invariants:
//! - While a ready endpoint that nothing withholds exists, nothing else is picked, but in panic ([`PanicMode`]); nor with
//!   [`Affinity::Fail`], where a key's calls go to its endpoint or nowhere.
//! - A pick costs O(1) and allocates nothing.
//! - A change of one endpoint's state costs O(log n) at most; a new [`EndpointSet`] costs O(n).

mod address;
mod attempt;
mod backoff;
mod balancer;
mod call;
pub mod canary;
mod candidates;
mod connectivity;
mod endpoint;
mod factor;
mod hash;
mod health;
pub mod health_check;
pub mod limit;
mod locality;
pub mod outlier;
mod policy;
pub mod retry;
mod slow_start;
mod spread;
mod subset;
mod time;

pub use address::Address;
pub use attempt::AttemptEnd;
pub use backoff::{Backoff, BackoffConfig};
pub use balancer::{
    Balancer, BalancerConfig, Changes, GroupLoad, Pick, Preview, RefusedBy, Shares, Slot, SlotStatus, Warming,
};
pub use call::{Ask, CallReport, LoadReport};
pub use connectivity::Connectivity;
pub use endpoint::{Endpoint, EndpointSet, MAX_ENDPOINTS, MAX_GROUPS, Outcome, Withheld};
pub use factor::{Factor, FactorError};
pub use hash::{KeyPart, cookie_value, hash_bytes, hash_of};
pub use health::{Despite, Ineligible};
pub use locality::{EndpointSpec, Locality, MAX_PRIORITY};
pub use policy::{
    Affinity, BoundedLoad, BoundedLoadError, Choice, Learned, LeastRequestConfig, LoadReportCounts,
    LoadSource, LoadTracker, LoadWeightConfig, PeakEwmaConfig, Policy, PrequalConfig, ProbeAnswer,
    ProbeCounts, ProbeSource, ReportedWeight, RingSize, RingSizeError, SampleSize, SampleSizeError,
    TableSize, TableSizeError,
};
pub use slow_start::SlowStart;
pub use spread::{
    Localities, Overprovisioning, OverprovisioningError, PanicChange, PanicMode, SpreadConfig, ZoneAware,
};
pub use subset::{DEFAULT_MAX_CONNECTIONS, Subset, SubsetSize, SubsetSizeError, WorkerShare};
