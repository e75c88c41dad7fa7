//! Discovery: turns a target such as `dns:///orders:50051` into a list of endpoints, and keeps the list fresh.
//!
//! gRPC's own DNS resolver asks again only when a connection breaks, so it never notices a backend that was *added*.
//! The resolvers here ask on their own: [`watch()`] starts one per target and returns a [`Watch`], a channel that always
//! holds the newest [`ResolverState`].
//!
//! | target | source | asked again |
//! |---|---|---|
//! | `ipv4:`, `ipv6:`, `unix:` | the target itself | never |
//! | `dns:` | A and AAAA records | after the answer's TTL, at least 1 s, at most [`ResolveOptions::max_refresh`] |
//! | `dns+srv:` | SRV records, then A and AAAA of their targets | likewise |
//! | `file:` | a YAML list | when the file changes |
//!
//! [`watch_all()`] does so for several targets at once, and merges what they give.
//!
//! Invariants:
//! - A failure never takes the endpoints away: the last good list stays, with the failure beside it. The one exception
//!   is a name server that *says* the name is gone, for longer than [`ResolveOptions::keep_empty_for`].
//! - A list is published only if it differs as a *set* from the one before; name servers rotate their answers.
//! - A name is resolved at most once per [`ResolveOptions::min_refresh`], whatever its TTL and however often
//!   [`ResolveNow::request`] is called.
//! - A list holds at most [`ResolveOptions::max_addresses`] endpoints from name servers, at most
//!   [`MAX_ENDPOINTS`](evenkeel_balance::MAX_ENDPOINTS) from a file, which has at most [`MAX_FILE_BYTES`].
//! - A name or a file has at most one line a second in the log for each kind of line.
//! - Dropping the [`Watch`] ends everything it started.
//!
//! What depends on time or chance (the schedule, merging, the search list) is written as functions of both and tested
//! without a runtime; only the drivers around them read a clock.

mod dns;
mod endpoints;
mod error;
mod file;
mod merge;
mod options;
mod refresh;
mod schedule;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text_file;
mod watch;

pub use endpoints::Endpoints;
pub use error::ResolveError;
pub use file::MAX_FILE_BYTES;
pub use merge::{read_all_local, watch_all};
pub use options::{MAX_SEARCH_DOMAINS, ResolveOptions, SearchList};
pub use state::ResolverState;
pub use watch::{ResolveNow, Watch, watch};
