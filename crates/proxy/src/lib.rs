//! The proxy: a pure worker, its drivers, and the control plane around it.
