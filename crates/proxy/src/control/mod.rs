//! The control plane: ordinary async Rust around the workers, off the data path.
//!
//! ```text
//! configuration --+                        +--> workers (one immutable snapshot, swapped as a whole)
//! discovery ------+--> Supervisor task ----+
//! signals, admin -+    (one, owns changes) +--> telemetry
//! ```
//!
//! One task makes all changes, in order: a reload, a new list of endpoints and a drain can never be half done side by
//! side. What others want of it are `Request`s; what they may read is in [`State`].

pub mod admin;
mod canary;
mod clock;
mod clusters;
mod drain;
mod explain;
mod health;
mod limits;
mod load;
mod memory;
mod reload;
mod snapshot;
mod start;
mod state;
mod supervisor;
mod watch;

pub use drain::DrainReport;
pub use explain::{Explanation, InquiryError, InquiryFields, METADATA_MAX, explain_file};
pub use reload::{ConfigFile, ConfigSource, ReloadError, read_config, read_config_from, read_list};
pub use start::{Handle, Proxy, StartError, StartOptions};
pub use state::{Lifecycle, State};
