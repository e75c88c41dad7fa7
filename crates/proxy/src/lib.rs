//! The proxy: a pure worker, its drivers, and the control plane around it.

#[expect(clippy::disallowed_methods, reason = "the control plane is the edge: it owns clocks and threads")]
pub mod control;
#[expect(clippy::disallowed_methods, reason = "drivers are the edge: they own clocks and threads")]
pub mod driver;
pub mod worker;
