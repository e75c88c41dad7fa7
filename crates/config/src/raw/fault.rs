//! Faults that are injected on purpose.

use super::leaf::Flag;
use super::{Number, RawDuration, StatusName, Text, raw_mapping};
use crate::bounds;
use crate::resolve::STATUS_NAMES;

raw_mapping! {
    /// Faults that a route injects into its calls, to see how their clients bear them: at least one of its keys.
    RawFault as "Fault", expected "a mapping such as `{delay: {fixed: 2s, percent: 10}}`";
    required {}
    optional {
        /// Calls that are delayed before they go to a backend.
        delay: RawFaultDelay,

        /// Calls that are answered with an error instead of going to a backend; after the delay, if there is one.
        abort: RawFaultAbort,

        /// Whether a call may ask for a fault of its own with the fields `x-evenkeel-fault-delay-ms` (milliseconds) and
        /// `x-evenkeel-fault-abort` (the number of a gRPC status).
        by_header: Flag,
    }
}

raw_mapping! {
    /// A cluster that gets copies of a route's calls.
    RawMirror as "Mirror", expected "a mapping with `cluster`";
    required {
        /// The name of the cluster: none of those that answer the calls.
        cluster: Text,
    }
    optional {
        /// The share of the calls that is copied, in percent. 0 or 0.0001 to 100; 100 if it is not given.
        #[schemars(range(min = bounds::PERCENT.min, max = bounds::PERCENT.max))]
        percent: Number,
    }
}

raw_mapping! {
    /// Calls that are delayed.
    RawFaultDelay as "FaultDelay", expected "a mapping with `fixed`";
    required {
        /// How long. 1ms to 1h.
        fixed: RawDuration,
    }
    optional {
        /// The share of the calls, in percent. 0 or 0.0001 to 100; 100 if it is not given.
        #[schemars(range(min = bounds::PERCENT.min, max = bounds::PERCENT.max))]
        percent: Number,
    }
}

raw_mapping! {
    /// Calls that are answered with an error.
    RawFaultAbort as "FaultAbort", expected "a mapping with `code`";
    required {
        /// The name of the gRPC status, such as `UNAVAILABLE`.
        #[schemars(extend("enum" = STATUS_NAMES))]
        code: StatusName,
    }
    optional {
        /// The share of the calls, in percent. 0 or 0.0001 to 100; 100 if it is not given.
        #[schemars(range(min = bounds::PERCENT.min, max = bounds::PERCENT.max))]
        percent: Number,
    }
}
