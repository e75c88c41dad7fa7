//! A deterministic world: clock, network, backends and faults around the real worker.
//!
//! Why: the worker of `evenkeel-proxy` is a state machine, so all that can happen to it, and in every order, can be made to
//! happen here, thousands of times a minute, and again from the same seed. Clients and backends are built on the project's
//! own engine; what they send is also judged frame by frame by an observer that knows nothing of it (`net::wire`).
//!
//! ```text
//!  clients ---- links ---- [ driver: the real worker ] ---- links ---- backends
//!     |                              |                                    |
//!     +-------- ledger: every call, as its client and its backends saw it +
//! ```
//!
//! Rule: everything random is drawn from one seed, time jumps from event to event, and nothing else enters. So
//! [`World::run`] gives the same [`Outcome::trace`] for the same [`Setup`], and a seed is all that is needed to repeat a failure.
//!
//! What [`Scenario::everything`] draws, each in a part of the worlds: every policy, affinity by field and cookie, subsets and slow
//! start, priorities and localities with panic, health checks, outlier detection, retries, hedges and their throttle, circuit breakers, rate
//! limits, adaptive concurrency, short queues, wait-for-ready; and all that clients, backends and the network do wrong.
//!
//! Invariants that every world is checked for, at each step or at its end:
//! - every call ends exactly once, no later than its deadline, and in bounded time once faults have stopped;
//! - OK at a client if and only if one execution completed with OK, with equal bytes in both directions; no call is
//!   executed twice; any other end is explained by the call's plan or by a fault;
//! - neither side sends more than the windows on the wire allow, and once all is quiet every window is open again;
//! - no call is sent to an endpoint that health checks found unhealthy, or that is ejected, while another is in service, but in
//!   panic, and no more endpoints are ejected than may be;
//! - no call is sent to a priority or locality that has no share of them by the documented rules, but where it avoids all that
//!   have, as it was tried there or runs there;
//! - the calls of a key meet one endpoint as long as it can take them, and no other where they are to fail without it;
//! - limits hold: no more is under way, or waits, than they allow; who is turned away is told so as documented, was counted, and met no
//!   backend; and once the calls have ended nothing of any limit is taken;
//! - nothing is left over: calls, connections, counts in flight, timers, held bytes, references to header fields;
//! - the worker comes to rest: no turn asks for actions without end, none wakes itself up for nothing.
//!
//! Source: FoundationDB's and TigerBeetle's simulation testing (`docs/internals/vopr.md` of the latter); the checker is that of
//! the reliability suite, rules I1 to I6.

mod affinity;
mod backend;
mod bounds;
mod check;
mod client;
mod driver;
mod event;
mod health;
mod ledger;
mod net;
mod payload;
mod peer;
mod plan;
mod scenario;
mod setup;
mod spread;
mod standings;
mod stats;
mod world;

pub use backend::BackendSetup;
pub use bounds::Bounds;
pub use client::ClientSetup;
pub use ledger::{CallEnd, CallRecord, Completed};
pub use net::LinkShape;
pub use payload::Summary;
pub use plan::{Behaviour, CallPlan, Down, Fault, GoAway};
pub use scenario::Scenario;
pub use setup::{Again, Setup};
pub use spread::Places;
pub use stats::{Happening, Stats};
pub use world::{Outcome, Violation, World};
