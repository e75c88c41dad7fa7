//! Experiments with real calls: example backends, load generators, relays and reports.
