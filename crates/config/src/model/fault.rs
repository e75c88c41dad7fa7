//! Faults that are injected on purpose.

use core::time::Duration;

use evenkeel_grpc::Code;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::ClusterRef;
use crate::units::format_duration;

/// A part of the calls, in millionths: 0 to 1,000,000, written in percent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Percent(u32);

impl Percent {
    pub(crate) fn new(percent: f64) -> Self {
        // Its bounds have been checked: 0 to 100.
        Self((percent * 10_000.0).round() as u32)
    }

    /// The part in millionths.
    #[must_use]
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 10_000.0)
    }
}

/// A cluster that gets copies of a route's calls.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mirror {
    /// The cluster: none of the route's own.
    pub cluster: ClusterRef,
    /// The part of the calls that is copied. Default all.
    pub percent: Percent,
}

/// Faults that a route injects; at least one of the three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultInjection {
    /// How long calls are delayed before they go to a backend, and which part of them. 1 ms to 1 h.
    pub delay: Option<(Duration, Percent)>,
    /// The status with which calls are answered instead, and which part of them. Not OK.
    pub abort: Option<(Code, Percent)>,
    /// Whether a call may ask for a fault of its own. Default false.
    pub by_header: bool,
}

impl Serialize for FaultInjection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Delay {
            fixed: String,
            percent: Percent,
        }
        #[derive(Serialize)]
        struct Abort {
            code: &'static str,
            percent: Percent,
        }
        let mut map = serializer.serialize_map(None)?;
        if let Some((delay, percent)) = self.delay {
            map.serialize_entry("delay", &Delay { fixed: format_duration(delay), percent })?;
        }
        if let Some((code, percent)) = self.abort {
            map.serialize_entry("abort", &Abort { code: code.name(), percent })?;
        }
        if self.by_header {
            map.serialize_entry("by_header", &true)?;
        }
        map.end()
    }
}
