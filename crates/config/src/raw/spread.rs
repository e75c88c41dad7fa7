//! Where endpoints and proxies run, and how calls are spread over places.

use super::{Integer, List, Text, raw_mapping};
use crate::bounds;

raw_mapping! {
    /// Where something runs.
    RawLocality as "Locality", expected "a mapping with `zone`";
    required {
        /// The zone, as `topology.kubernetes.io/zone` has it: letters, digits, `-`, `_` and dots.
        #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,128}$"))]
        zone: Text,
    }
    optional {
        /// The region it is in.
        #[schemars(extend("default" = "", "pattern" = "^[A-Za-z0-9._-]{0,128}$"))]
        region: Text,

        /// A part of the zone, such as a rack.
        #[schemars(extend("default" = "", "pattern" = "^[A-Za-z0-9._-]{0,128}$"))]
        sub_zone: Text,
    }
}

raw_mapping! {
    /// A locality and its weight.
    RawLocalityWeight as "LocalityWeight", expected "a mapping with `zone`";
    required {
        /// The zone: letters, digits, `-`, `_` and dots.
        #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,128}$"))]
        zone: Text,
    }
    optional {
        /// The region it is in.
        #[schemars(extend("default" = "", "pattern" = "^[A-Za-z0-9._-]{0,128}$"))]
        region: Text,

        /// A part of the zone, such as a rack.
        #[schemars(extend("default" = "", "pattern" = "^[A-Za-z0-9._-]{0,128}$"))]
        sub_zone: Text,

        /// Its part, in relation to the others. 0 to 65535.
        #[schemars(range(min = bounds::WEIGHT.min, max = bounds::WEIGHT.max))]
        #[schemars(extend("default" = bounds::WEIGHT.default))]
        weight: Integer,
    }
}

raw_mapping! {
    /// Keeps calls in this proxy's own locality, as far as its endpoints can bear them. Needs `node`.
    RawZoneAware as "ZoneAware", expected "a mapping, or `off`";
    required {}
    optional {
        /// With fewer endpoints in a priority, calls go to all localities in proportion. 1 to 65536.
        #[schemars(range(min = bounds::ZONE_MIN_CLUSTER_SIZE.min, max = bounds::ZONE_MIN_CLUSTER_SIZE.max))]
        #[schemars(extend("default" = bounds::ZONE_MIN_CLUSTER_SIZE.default))]
        min_cluster_size: Integer,

        /// Percentage of the calls that this is for; the others go to all localities in proportion. 1 to 100.
        #[schemars(range(min = bounds::ZONE_ROUTING_ENABLED.min, max = bounds::ZONE_ROUTING_ENABLED.max))]
        #[schemars(extend("default" = bounds::ZONE_ROUTING_ENABLED.default))]
        routing_enabled: Integer,

        /// How many proxies there are in each locality. Default: as many in each.
        #[schemars(extend("default" = [], "maxItems" = bounds::MAX_LOCALITIES))]
        proxies: List<RawLocalityWeight>,
    }
}
