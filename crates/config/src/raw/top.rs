//! The top of a configuration.

use super::{
    Integer, List, Off, RawCluster, RawDuration, RawListener, RawLocality, RawShareOrSize, RawSize, Text,
    raw_mapping,
};
use crate::bounds;
use crate::listen::ListenAddress;

raw_mapping! {
    /// The configuration of an Evenkeel proxy: where calls come in, which of them go where, and how they are balanced.
    RawConfig as "Configuration", expected "a mapping with `listeners` and `clusters`";
    required {
        /// Where calls come in, and which cluster gets which of them.
        #[schemars(length(min = 1, max = bounds::MAX_LISTENERS))]
        listeners: List<RawListener>,

        /// Groups of endpoints that answer the same calls, and how one of them is chosen for each call.
        #[schemars(length(min = 1, max = bounds::MAX_CLUSTERS))]
        clusters: List<RawCluster>,
    }
    optional {
        /// The admin interface (health, metrics, state, drain), or `off`. Whoever reaches it can drain the proxy: keep it
        /// on an address that only operators reach.
        #[schemars(extend("default" = { "address": "127.0.0.1:9901" }))]
        admin: Off<RawAdmin>,

        /// Where this proxy runs, for clusters that are zone-aware, or `off`: nobody knows.
        #[schemars(extend("default" = "off"))]
        node: Off<RawLocality>,

        /// Worker threads, each with its own connections. Default: one per core that the process may use. 1 to 1024.
        #[schemars(range(min = bounds::WORKERS.min, max = bounds::WORKERS.max))]
        workers: Integer,

        /// One JSON line per call: `off`, `stdout`, or the path of a file (with a `/` in it).
        #[schemars(extend("default" = "off", "pattern" = "^(off|stdout|.*/.*[^/])$"))]
        access_log: Text,

        /// Where the state of canaries is kept over a restart: the path of a file (with a `/` in it), `beside` the
        /// configuration file with `.state.json` behind its name, or `off`.
        #[schemars(extend("default" = "beside", "pattern" = "^(beside|off|.*/.*[^/])$"))]
        state_file: Text,

        /// What happens between SIGTERM (or POST /drain) and the end.
        #[schemars(extend("default" = {}))]
        drain: RawDrain,

        /// When the proxy begins to give up what it holds for peers.
        #[schemars(extend("default" = {}))]
        overload: RawOverload,

        /// How much of requests is kept until the response begins, so that their calls can be sent again.
        #[schemars(extend("default" = {}))]
        replay: RawReplay,
    }
}

raw_mapping! {
    /// The admin interface.
    RawAdmin as "Admin", expected "a mapping with `address`, or `off`";
    required {
        /// Where it listens: an IP address and port, or `unix:` and a path.
        address: ListenAddress,
    }
    optional {
        /// Names under which it may be asked, besides IP addresses and `localhost`: requests with another `Host` are refused, so
        /// that no page in an operator's browser reaches it through a name of its own.
        #[schemars(extend("default" = [], "maxItems" = bounds::MAX_ADMIN_HOSTS))]
        hosts: List<Text>,
    }
}

raw_mapping! {
    /// What happens between SIGTERM (or POST /drain) and the end. No call is lost as long as calls end within the grace
    /// period.
    RawDrain as "Drain", expected "a mapping";
    required {}
    optional {
        /// How long the proxy goes on as before, with `/ready` answering 503, so that those who choose it hear of it
        /// first. 0s to 1h.
        #[schemars(extend("default" = "5s"))]
        pre_drain: RawDuration,

        /// Time over which clients are asked to reconnect elsewhere, so that they do not all do it at once. 0s to 1h, and
        /// at most `grace`. Default: 5s, or a quarter of `grace` if that is less.
        #[schemars(extend("default" = "5s"))]
        spread: RawDuration,

        /// How long calls in flight may go on; then they are cut off with UNAVAILABLE. 1s to 1d.
        #[schemars(extend("default" = "30s"))]
        grace: RawDuration,
    }
}

raw_mapping! {
    /// When the proxy begins to give up what it holds for peers.
    RawOverload as "Overload", expected "a mapping with `memory`";
    required {}
    optional {
        /// Memory that may be buffered for peers: a share of what the machine, or the container, has (1% to 90%), or a
        /// size (16MiB to 4096GiB).
        #[schemars(extend("default" = "50%"))]
        memory: RawShareOrSize,
    }
}

raw_mapping! {
    /// How much of requests is kept until the response begins, so that their calls can be sent again.
    RawReplay as "Replay", expected "a mapping with `per_call` and `per_process`";
    required {}
    optional {
        /// Bytes of one call's request. A call that was sent and has more is not tried again. 0B to 16MiB, and at most
        /// `per_process`.
        #[schemars(extend("default" = "64KiB"))]
        per_call: RawSize,

        /// Bytes of all calls' requests. Beyond it a call that was sent is not tried again. 1MiB to 2GiB.
        #[schemars(extend("default" = "16MiB"))]
        per_process: RawSize,
    }
}
