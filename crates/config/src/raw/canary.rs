//! A route's canary, as it is written.

use super::leaf::Flag;
use super::{Integer, List, Number, RawDuration, Text, raw_mapping};
use crate::bounds;

raw_mapping! {
    /// A new version that gets a growing share of what two clusters of the split get, for as long as it is no worse than the
    /// old one. The other clusters of the split keep their shares.
    RawCanary as "Canary", expected "a mapping with `stable` and `canary`";
    required {
        /// The cluster of the split that answers without a canary.
        stable: Text,

        /// The cluster of the split with the new version.
        canary: Text,
    }
    optional {
        /// What commands, metrics and the log call it. Default: the name of the canary's cluster.
        #[schemars(extend("pattern" = "^[0-9A-Za-z_.-]{1,128}$"))]
        name: Text,

        /// Whether it starts by itself. Otherwise `evenkeel canary start` starts it; until then the weights of the split
        /// hold.
        #[schemars(extend("default" = false))]
        auto: Flag,

        /// The canary's shares, and how long each lasts at least. After the last one it gets all calls.
        #[schemars(extend("minItems" = 1, "maxItems" = bounds::MAX_CANARY_STEPS))]
        steps: List<RawCanaryStep>,

        /// How much larger its share of failed calls may be than the stable cluster's, as a number: 0.005 is half a percent
        /// of all calls. 0 to 1.
        #[schemars(range(min = bounds::CANARY_ERROR_INCREASE.min, max = bounds::CANARY_ERROR_INCREASE.max))]
        #[schemars(extend("default" = bounds::CANARY_ERROR_INCREASE.default))]
        max_error_increase: Number,

        /// Which quantile of latency is compared. 0.5 to 0.999.
        #[schemars(range(min = bounds::CANARY_LATENCY_QUANTILE.min, max = bounds::CANARY_LATENCY_QUANTILE.max))]
        #[schemars(extend("default" = bounds::CANARY_LATENCY_QUANTILE.default))]
        latency_quantile: Number,

        /// How much larger that quantile may be, as a share of the stable cluster's: 0.2 is a fifth more. 0 to 100.
        #[schemars(range(min = bounds::CANARY_LATENCY_INCREASE.min, max = bounds::CANARY_LATENCY_INCREASE.max))]
        #[schemars(extend("default" = bounds::CANARY_LATENCY_INCREASE.default))]
        max_latency_increase: Number,

        /// Calls of each of the two clusters in a step before the next one may begin. 1 to 1000000000.
        #[schemars(range(min = bounds::CANARY_MIN_CALLS.min, max = bounds::CANARY_MIN_CALLS.max))]
        #[schemars(extend("default" = bounds::CANARY_MIN_CALLS.default))]
        min_calls: Integer,
    }
}

raw_mapping! {
    /// One step of a canary.
    RawCanaryStep as "CanaryStep", expected "a mapping with `weight`";
    required {
        /// The canary's share in percent; more than in the step before. 1 to 100.
        #[schemars(range(min = bounds::CANARY_WEIGHT.min, max = bounds::CANARY_WEIGHT.max))]
        weight: Integer,
    }
    optional {
        /// How long the step lasts at least. 1s to 30d. A step with weight 100 has none.
        #[schemars(extend("default" = "5m"))]
        duration: RawDuration,
    }
}
