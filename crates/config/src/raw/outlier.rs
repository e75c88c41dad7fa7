//! Outlier detection, as a cluster writes it.

use super::leaf::Flag;
use super::{Integer, Number, Off, RawDuration, raw_mapping};
use crate::bounds;

raw_mapping! {
    /// When an endpoint is taken out of rotation because its calls fail, and for how long. An empty mapping turns it on
    /// with all defaults.
    RawOutlierDetection as "OutlierDetection", expected "a mapping";
    required {}
    optional {
        /// Failed calls in a row that eject an endpoint at once, or `off`. 1 to 1000.
        #[schemars(extend("default" = bounds::OUTLIER_CONSECUTIVE_FAILURES.default))]
        consecutive_failures: Off<Integer>,

        /// Chance in percent that such a row really ejects; if it does not, another begins. 1 to 100.
        #[schemars(range(min = bounds::OUTLIER_ENFORCEMENT_PERCENT.min, max = bounds::OUTLIER_ENFORCEMENT_PERCENT.max))]
        #[schemars(extend("default" = bounds::OUTLIER_ENFORCEMENT_PERCENT.default))]
        consecutive_enforcement_percent: Integer,

        /// Time between two looks at the share of failed calls. 1s to 1h.
        #[schemars(extend("default" = "10s"))]
        interval: RawDuration,

        /// How long the first ejection lasts; each further one in a row that much longer. 1s to 1h.
        #[schemars(extend("default" = "30s"))]
        base_ejection_time: RawDuration,

        /// The longest ejection; at least `base_ejection_time`. 1s to 1d.
        #[schemars(extend("default" = "5m"))]
        max_ejection_time: RawDuration,

        /// Share by which an ejection is longer at random, so that proxies do not return at one moment. 0 to 1.
        #[schemars(range(min = bounds::OUTLIER_JITTER.min, max = bounds::OUTLIER_JITTER.max))]
        #[schemars(extend("default" = bounds::OUTLIER_JITTER.default))]
        jitter: Number,

        /// Share of the endpoints that may be out at once, in percent, rounded up; never all of them. 1 to 100.
        #[schemars(range(min = bounds::OUTLIER_MAX_EJECTION_PERCENT.min, max = bounds::OUTLIER_MAX_EJECTION_PERCENT.max))]
        #[schemars(extend("default" = bounds::OUTLIER_MAX_EJECTION_PERCENT.default))]
        max_ejection_percent: Integer,

        /// Ejects an endpoint whose success rate is far below the others', or `off`.
        #[schemars(extend("default" = {}))]
        success_rate: Off<RawSuccessRate>,

        /// Ejects an endpoint of whose calls a fixed share fails, or `off`.
        #[schemars(extend("default" = {}))]
        failure_percentage: Off<RawFailurePercentage>,

        /// Whether DEADLINE_EXCEEDED counts as a failure. Turn it off where callers set deadlines that cannot be met.
        #[schemars(extend("default" = true))]
        count_deadline_exceeded: Flag,

        /// Calls that must succeed one after the other before an ejected endpoint gets its full share again. 1 to 100.
        #[schemars(range(min = bounds::OUTLIER_TRIAL_SUCCESSES.min, max = bounds::OUTLIER_TRIAL_SUCCESSES.max))]
        #[schemars(extend("default" = bounds::OUTLIER_TRIAL_SUCCESSES.default))]
        trial_successes: Integer,

        /// How long such a call may go on, or have ended in nothing, before the next one is sent. 100ms to 1h.
        #[schemars(extend("default" = "10s"))]
        trial_timeout: RawDuration,
    }
}

raw_mapping! {
    /// Ejects below `mean - stdev_factor * standard deviation` of the endpoints' success rates, if chance cannot explain it.
    RawSuccessRate as "SuccessRate", expected "a mapping";
    required {}
    optional {
        /// Standard deviations below the mean. 0 to 100.
        #[schemars(range(min = bounds::OUTLIER_STDEV_FACTOR.min, max = bounds::OUTLIER_STDEV_FACTOR.max))]
        #[schemars(extend("default" = bounds::OUTLIER_STDEV_FACTOR.default))]
        stdev_factor: Number,

        /// Endpoints with enough calls below which nobody is judged. 2 to 65536.
        #[schemars(range(min = bounds::OUTLIER_RATE_MIN_ENDPOINTS.min, max = bounds::OUTLIER_RATE_MIN_ENDPOINTS.max))]
        #[schemars(extend("default" = bounds::OUTLIER_RATE_MIN_ENDPOINTS.default))]
        min_endpoints: Integer,

        /// Calls in an interval below which an endpoint is not judged. 1 to 1000000.
        #[schemars(range(min = bounds::OUTLIER_RATE_REQUEST_VOLUME.min, max = bounds::OUTLIER_RATE_REQUEST_VOLUME.max))]
        #[schemars(extend("default" = bounds::OUTLIER_RATE_REQUEST_VOLUME.default))]
        request_volume: Integer,

        /// The n of 10^-n, the greatest chance with which the others' failures may explain those of an ejected endpoint. 0:
        /// the standard deviation alone decides, as in gRPC and Envoy. 0 to 100.
        #[schemars(range(min = bounds::OUTLIER_CHANCE_EXPONENT.min, max = bounds::OUTLIER_CHANCE_EXPONENT.max))]
        #[schemars(extend("default" = bounds::OUTLIER_CHANCE_EXPONENT.default))]
        chance_exponent: Integer,

        /// Chance in percent that such an endpoint is really ejected. 1 to 100.
        #[schemars(range(min = bounds::OUTLIER_ENFORCEMENT_PERCENT.min, max = bounds::OUTLIER_ENFORCEMENT_PERCENT.max))]
        #[schemars(extend("default" = bounds::OUTLIER_ENFORCEMENT_PERCENT.default))]
        enforcement_percent: Integer,
    }
}

raw_mapping! {
    /// Ejects at or above a share of failed calls, whatever the others do.
    RawFailurePercentage as "FailurePercentage", expected "a mapping";
    required {}
    optional {
        /// Failed calls in percent. 1 to 100.
        #[schemars(range(min = bounds::OUTLIER_FAILURE_THRESHOLD.min, max = bounds::OUTLIER_FAILURE_THRESHOLD.max))]
        #[schemars(extend("default" = bounds::OUTLIER_FAILURE_THRESHOLD.default))]
        threshold: Integer,

        /// Endpoints with enough calls below which nobody is judged. 2 to 65536.
        #[schemars(range(min = bounds::OUTLIER_SHARE_MIN_ENDPOINTS.min, max = bounds::OUTLIER_SHARE_MIN_ENDPOINTS.max))]
        #[schemars(extend("default" = bounds::OUTLIER_SHARE_MIN_ENDPOINTS.default))]
        min_endpoints: Integer,

        /// Calls in an interval below which an endpoint is not judged. 1 to 1000000.
        #[schemars(range(min = bounds::OUTLIER_SHARE_REQUEST_VOLUME.min, max = bounds::OUTLIER_SHARE_REQUEST_VOLUME.max))]
        #[schemars(extend("default" = bounds::OUTLIER_SHARE_REQUEST_VOLUME.default))]
        request_volume: Integer,

        /// Chance in percent that such an endpoint is really ejected. 1 to 100.
        #[schemars(range(min = bounds::OUTLIER_ENFORCEMENT_PERCENT.min, max = bounds::OUTLIER_ENFORCEMENT_PERCENT.max))]
        #[schemars(extend("default" = bounds::OUTLIER_ENFORCEMENT_PERCENT.default))]
        enforcement_percent: Integer,
    }
}
