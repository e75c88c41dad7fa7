//! A deterministic world: clock, network, backends and faults around the real worker.
