//! Which endpoints are connected to when all of them would be too many connections.
//!
//! Two questions, two answers:
//! - [`Subset`]: which endpoints of a cluster *this process* uses at all, one of many that balance for themselves. Taken
//!   from discovery's list, before an [`EndpointSet`](crate::EndpointSet) is made of it.
//! - [`WorkerShare`]: which of those each *worker* connects to.

mod of_list;
mod worker_share;

pub use of_list::{Subset, SubsetSize, SubsetSizeError};
pub use worker_share::{DEFAULT_MAX_CONNECTIONS, WorkerShare};
