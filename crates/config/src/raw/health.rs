//! Active health checks, as a cluster writes them.

use super::{Integer, Number, RawDuration, Text, raw_mapping};
use crate::bounds;
use crate::health::PROBE_NAMES;

raw_mapping! {
    /// Asks each endpoint whether it wants calls. An empty mapping turns it on with all defaults.
    RawHealthCheck as "HealthCheck", expected "a mapping";
    required {}
    optional {
        /// What is asked: `grpc`, the health service at intervals (Check); `grpc_watch`, one stream that tells each change
        /// (Watch); `tcp`, whether a connection opens.
        #[schemars(extend("default" = "grpc", "enum" = PROBE_NAMES))]
        kind: Text,

        /// The service that the health service is asked about; the empty text asks about the whole server. Not for `tcp`.
        #[schemars(length(max = bounds::MAX_HEALTH_SERVICE_BYTES), extend("default" = ""))]
        service: Text,

        /// From the start of one check to that of the next. For `grpc_watch`: the longest delay before a stream that ended is
        /// opened again, and how often its connection is tried. 10ms to 1h.
        #[schemars(extend("default" = "5s"))]
        interval: RawDuration,

        /// How long an answer may take, the connection included; at most `interval`. Without it 1s, or `interval` if that is
        /// shorter. 10ms to 1m.
        #[schemars(extend("default" = "1s"))]
        timeout: RawDuration,

        /// Share of the interval by which it is longer or shorter at random. 0 to 1.
        #[schemars(range(min = bounds::HEALTH_JITTER.min, max = bounds::HEALTH_JITTER.max))]
        #[schemars(extend("default" = bounds::HEALTH_JITTER.default))]
        jitter: Number,

        /// Failed checks in a row that make a healthy endpoint unhealthy. An endpoint that says NOT_SERVING is so at once.
        /// 1 to 100.
        #[schemars(range(min = bounds::HEALTH_UNHEALTHY_THRESHOLD.min, max = bounds::HEALTH_UNHEALTHY_THRESHOLD.max))]
        #[schemars(extend("default" = bounds::HEALTH_UNHEALTHY_THRESHOLD.default))]
        unhealthy_threshold: Integer,

        /// Good answers in a row that make an unhealthy endpoint healthy. Not for `grpc_watch`, which takes an endpoint at its
        /// word. 1 to 100.
        #[schemars(range(min = bounds::HEALTH_HEALTHY_THRESHOLD.min, max = bounds::HEALTH_HEALTHY_THRESHOLD.max))]
        #[schemars(extend("default" = bounds::HEALTH_HEALTHY_THRESHOLD.default))]
        healthy_threshold: Integer,
    }
}
