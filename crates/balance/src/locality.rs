//! Where an endpoint runs, and how it is listed: its address, weight, priority and locality.

use std::fmt;
use std::sync::Arc;

use crate::address::Address;

/// The lowest priority an endpoint may have: 0 is the highest, and 16 levels are more than regions to fail over to. A bound on
/// what a list can make us keep counts of.
pub const MAX_PRIORITY: u8 = 15;

/// A place in Envoy's and Kubernetes' words: a region, a zone of it, and a part of that. Each may be empty: not known.
///
/// Two places are the same if all three parts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Locality {
    /// As `topology.kubernetes.io/region` says.
    pub region: String,
    /// As `topology.kubernetes.io/zone` says.
    pub zone: String,
    /// A part of the zone, such as a rack.
    pub sub_zone: String,
}

impl fmt::Display for Locality {
    /// `region/zone/sub_zone`, without what is empty at the end; `-` where nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.region, &self.zone, &self.sub_zone];
        let Some(last) = parts.iter().rposition(|part| !part.is_empty()) else { return f.write_str("-") };
        for (place, part) in parts[..=last].iter().enumerate() {
            let slash = if place == 0 { "" } else { "/" };
            write!(f, "{slash}{part}")?;
        }
        Ok(())
    }
}

/// An endpoint as discovery lists it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EndpointSpec {
    /// Where it listens.
    pub address: Address,
    /// Its share of the calls among its like. A weight of 0 counts as 1.
    pub weight: u32,
    /// Which endpoints it stands in for: it gets calls as far as those of lower numbers are out. Default 0; one above
    /// [`MAX_PRIORITY`] counts as that.
    pub priority: u8,
    /// Where it runs. Default `None`: nobody said.
    pub locality: Option<Arc<Locality>>,
    /// Whether it asks for no new calls, as it terminates. Default false.
    pub draining: bool,
}

impl From<(Address, u32)> for EndpointSpec {
    fn from((address, weight): (Address, u32)) -> Self {
        Self { address, weight, priority: 0, locality: None, draining: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_is_known_of_a_place() {
        let shown = |region: &str, zone: &str, sub_zone: &str| {
            Locality { region: region.into(), zone: zone.into(), sub_zone: sub_zone.into() }.to_string()
        };
        assert_eq!(shown("eu", "eu-a", "r1"), "eu/eu-a/r1");
        assert_eq!(shown("eu", "eu-a", ""), "eu/eu-a");
        assert_eq!(shown("", "eu-a", ""), "/eu-a");
        assert_eq!(shown("", "", ""), "-");
    }
}
