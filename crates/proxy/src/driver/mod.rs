//! Drivers: what gives a [`crate::worker::Worker`] a real world of sockets, time and threads.
//!
//! One thread for each worker; each has its own listening sockets (SO_REUSEPORT) and its own connections, so that a call
//! takes no step from one thread to another. What threads tell each other is rare: commands by a channel and a wake-up.

mod accept;
mod command;
mod epoll;
mod files;
mod listen;
mod socket;
mod threads;

pub use command::{Command, WorkerView};
pub use files::{CLIENT_SHARE_PERCENT, ClientSeats, OpenFiles};
pub use listen::{BindError, BoundListener, bind};
pub(crate) use listen::{remedy, remove_stale_socket};
pub use threads::{StopReport, Threads, ThreadsConfig};
