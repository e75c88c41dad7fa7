//! Where a cluster's endpoints come from: one target, or several, each with a place among the others.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use evenkeel_balance::{EndpointSpec, Locality, MAX_PRIORITY};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::spread::written_locality;
use crate::target::Target;

/// The targets of a cluster: at least one, at most [`MAX_TARGETS`](crate::bounds::MAX_TARGETS).
///
/// Dereferences to a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Targets(Vec<PlacedTarget>);

/// A target, and where its endpoints stand among those of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedTarget {
    /// Where endpoints come from.
    pub target: Target,
    /// By how much each of its endpoints weighs more than discovery says. Default 1. 0: they get no calls.
    pub weight: u32,
    /// Which endpoints its own stand in for: it is added to a priority that they have by themselves. Default 0.
    pub priority: u8,
    /// Where those of its endpoints run of which discovery does not say it. Default `None`: nobody said.
    pub locality: Option<Arc<Locality>>,
}

impl PlacedTarget {
    /// Whether nothing is said of the target.
    fn is_plain(&self) -> bool {
        *self == Self::from(self.target.clone())
    }

    /// An endpoint of the target as it stands among those of the others.
    #[must_use]
    pub fn place(&self, endpoint: &EndpointSpec) -> EndpointSpec {
        EndpointSpec {
            address: endpoint.address.clone(),
            weight: endpoint.weight.saturating_mul(self.weight),
            priority: endpoint.priority.saturating_add(self.priority).min(MAX_PRIORITY),
            locality: endpoint.locality.as_ref().or(self.locality.as_ref()).map(Arc::clone),
            draining: endpoint.draining,
        }
    }
}

impl From<Target> for PlacedTarget {
    fn from(target: Target) -> Self {
        Self { target, weight: 1, priority: 0, locality: None }
    }
}

impl Targets {
    /// `None` without a target.
    pub(crate) fn new(targets: Vec<PlacedTarget>) -> Option<Self> {
        (!targets.is_empty()).then_some(Self(targets))
    }

    /// The target, where there is one only.
    #[must_use]
    pub fn only(&self) -> Option<&Target> {
        match self.0.as_slice() {
            [placed] => Some(&placed.target),
            _ => None,
        }
    }

    /// Whether a name server is asked for some of the endpoints.
    #[must_use]
    pub fn has_dns(&self) -> bool {
        self.0.iter().any(|placed| placed.target.is_dns())
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Self {
        Self(vec![target.into()])
    }
}

impl Deref for Targets {
    type Target = [PlacedTarget];

    fn deref(&self) -> &[PlacedTarget] {
        &self.0
    }
}

/// The targets, separated by commas and blanks.
impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, placed) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", placed.target)?;
        }
        Ok(())
    }
}

/// The form that is read: a text, or a list.
impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [placed] if placed.is_plain() => placed.target.serialize(serializer),
            list => list.iter().map(written).collect::<Vec<Value>>().serialize(serializer),
        }
    }
}

fn written(placed: &PlacedTarget) -> Value {
    if placed.is_plain() {
        return json!(placed.target);
    }
    let mut entry = json!({
        "target": placed.target,
        "weight": placed.weight,
        "priority": placed.priority,
    });
    if let Some(locality) = &placed.locality {
        entry["locality"] = Value::Object(written_locality(locality));
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn place(zone: &str) -> Option<Arc<Locality>> {
        Some(Arc::new(Locality { zone: zone.into(), ..Locality::default() }))
    }

    #[test]
    fn an_endpoint_keeps_what_discovery_says_of_it_and_gets_the_targets_place_besides() {
        let endpoint = |weight, priority, locality| {
            let address = SocketAddr::from(([127, 0, 0, 1], 1)).into();
            EndpointSpec { address, weight, priority, locality, draining: true }
        };
        let target: Target = "dns:///orders:50051".parse().unwrap();
        let placed = PlacedTarget { weight: 3, priority: 2, locality: place("b"), ..target.clone().into() };
        assert_eq!(placed.place(&endpoint(1, 0, None)), endpoint(3, 2, place("b")));
        assert_eq!(placed.place(&endpoint(5, 1, place("a"))), endpoint(15, 3, place("a")));
        assert_eq!(placed.place(&endpoint(u32::MAX, 14, None)), endpoint(u32::MAX, MAX_PRIORITY, place("b")));
        let plain = PlacedTarget::from(target);
        assert_eq!(plain.place(&endpoint(5, 1, place("a"))), endpoint(5, 1, place("a")));
    }
}
