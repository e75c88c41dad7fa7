//! Listeners, their limits and their routes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::leaf::Flag;
use super::limits::RawRateLimit;
use super::retry::{RawHedge, RawRetry};
use super::{
    Integer, List, Off, OneOrMany, RawCanary, RawDuration, RawFault, RawMetadataChange, RawMirror, RawSize,
    Read, Text, raw_mapping,
};
use crate::bounds;
use crate::errors::Reports;
use crate::listen::ListenAddress;
use crate::model::{BinaryValues, Forwarded, NamesWithUnderscore};
use crate::tree::{Node, Value};

raw_mapping! {
    /// A socket on which calls come in, with the routes that say where they go.
    RawListener as "Listener", expected "a mapping with `address` and `routes`";
    required {
        /// Where it listens: an IP address and port, or `unix:` and a path. HTTP/2 without TLS (h2c), prior knowledge.
        address: ListenAddress,

        /// Tried in this order: the first whose conditions all hold takes the call. A call that none takes is answered
        /// with UNIMPLEMENTED.
        #[schemars(length(min = 1, max = bounds::MAX_ROUTES))]
        routes: List<RawRoute>,
    }
    optional {
        /// What one client may make the proxy hold or do: a profile (`edge` for clients that nobody vouches for, `mesh`
        /// for those of one's own network), or a mapping with a profile and values that differ from it.
        #[schemars(extend("default" = "edge"))]
        limits: RawLimits,

        /// Which metadata of its clients is passed on.
        #[schemars(extend("default" = {}))]
        metadata: RawMetadataRules,
    }
}

raw_mapping! {
    /// Which metadata of a listener's clients is passed on.
    RawMetadataRules as "MetadataRules", expected "a mapping such as `{forwarded: keep}`";
    required {}
    optional {
        /// What proxies say of a call's origin, and to each other: `forwarded`, `x-forwarded-...`, `x-real-ip`,
        /// `x-envoy-...` and `x-evenkeel-...`. `strip`: a client must not say such things, and what it says is left out;
        /// `keep`: a proxy in front of this one may. Edge strip, mesh keep.
        #[schemars(extend("default" = "strip", "enum" = Forwarded::NAMES))]
        forwarded: Text,

        /// Names with `_`, which some servers take for names with `-`: `allow`, `reject` the call, or `drop` the field.
        #[schemars(extend("default" = "allow", "enum" = NamesWithUnderscore::NAMES))]
        names_with_underscore: Text,

        /// Values of fields whose name ends in `-bin`: `check` that they are base64 and refuse the call if not, or `pass`
        /// them on unseen. Edge check, mesh pass.
        #[schemars(extend("default" = "check", "enum" = BinaryValues::NAMES))]
        binary_values: Text,
    }
}

raw_mapping! {
    /// Where calls go, and which.
    #[schemars(extend("oneOf" = [{ "required": ["cluster"] }, { "required": ["split"] }]))]
    RawRoute as "Route", expected "a mapping with `cluster` or `split`";
    required {}
    optional {
        /// The name of the cluster that answers the calls. Needed unless there is a `split`.
        cluster: Text,

        /// Several clusters instead of one, each with its part of the calls.
        #[schemars(extend("minItems" = 1, "maxItems" = bounds::MAX_SHARES))]
        split: List<RawShare>,

        /// The field of the metadata that decides where in a split a call goes: the same value always meets the same
        /// cluster. Needs `split`. Without it, and for calls without the field, chance decides.
        #[schemars(extend("pattern" = "^[0-9a-z_.-]+$"))]
        sticky_by: Text,

        /// A canary among the clusters of the split: its share grows by itself, or goes back. Needs `split`.
        canary: RawCanary,

        /// Conditions, all of which must hold. Without any the route takes every call.
        r#match: RawMatch,

        /// When and how often a call is tried again. Without it: only when no backend has seen it.
        retry: RawRetry,

        /// When further attempts of a call are sent while the first ones still run. Needs `idempotent: true`, and is instead of
        /// `retry`.
        hedge: RawHedge,

        /// Whether doing a call twice does no harm, so that one may be tried again that may have been done. Needs `retry` or
        /// `hedge`.
        #[schemars(extend("default" = false))]
        idempotent: Flag,

        /// The longest a call may take, retries included; a shorter deadline of the client counts. 1ms to 365d. Without it
        /// only the client's deadline counts: there is no hidden timeout.
        timeout: RawDuration,

        /// How long a stream may go on before it is ended with UNAVAILABLE, so that its client opens it anew, maybe elsewhere;
        /// up to a tenth less, at random. 1s to 365d, at most `timeout`. Without it as long as the client likes.
        max_stream_duration: RawDuration,

        /// How long a call may go on without data in either direction before it is ended with UNAVAILABLE. 1s to 365d,
        /// below `timeout`, and at most `max_stream_duration`. Without it as long as the client likes.
        stream_idle_timeout: RawDuration,

        /// A cluster that gets copies of its calls; their answers are thrown away.
        mirror: RawMirror,

        /// Faults that are injected into its calls, to see how their clients bear them. Without it none is.
        fault: RawFault,

        /// How often its calls are let through; more are answered with RESOURCE_EXHAUSTED. Without it as often as they come.
        rate_limit: RawRateLimit,

        /// What is changed in the metadata of requests on their way to the backend.
        request_metadata: RawMetadataChange,

        /// What is changed in the metadata with which an answer begins, on its way to the client.
        response_metadata: RawMetadataChange,

        /// What is changed in the metadata with which an answer ends, on its way to the client.
        response_trailers: RawMetadataChange,
    }
}

raw_mapping! {
    /// A cluster's part of a split.
    RawShare as "Share", expected "a mapping with `cluster` and `weight`";
    required {
        /// The name of the cluster.
        cluster: Text,

        /// Its part of the sum of all weights of the split. 0 to 1000000.
        #[schemars(range(min = bounds::SHARE_WEIGHT.min, max = bounds::SHARE_WEIGHT.max))]
        weight: Integer,
    }
    optional {}
}

raw_mapping! {
    /// A condition on one field of a call's metadata: exactly one of `present`, `exact`, `prefix` and `regex`.
    RawMetadataMatch as "MetadataMatch", expected "a mapping with `name` and a condition";
    required {
        /// The field's name, in lower case. Values of a field that occurs more than once are joined with commas.
        #[schemars(extend("pattern" = "^[0-9a-z_.-]+$"))]
        name: Text,
    }
    optional {
        /// The field is there (`true`) or not (`false`).
        present: Flag,

        /// Its value, letter by letter.
        exact: Text,

        /// How its value begins.
        prefix: Text,

        /// A regular expression that describes all of its value; without look-around and back-references.
        regex: Text,

        /// Turns the condition round; it holds for calls without the field, then.
        #[schemars(extend("default" = false))]
        invert: Flag,
    }
}

raw_mapping! {
    /// Conditions on a call, all of which must hold.
    RawMatch as "Match", expected "a mapping with conditions, such as `service`";
    required {}
    optional {
        /// The authority (host) that the client asked for, or a list of them. Upper and lower case are the same; without a
        /// port any port fits.
        #[schemars(extend("maxItems" = bounds::MAX_AUTHORITIES))]
        authority: OneOrMany<Text>,

        /// The full name of the service, such as `ecommerce.orders.OrderService`.
        #[schemars(extend("pattern" = "^[^/%?#\\\\\\s]+$"))]
        service: Text,

        /// How the full name of the service begins, such as `ecommerce.`.
        #[schemars(extend("pattern" = "^[^/%?#\\\\\\s]+$"))]
        service_prefix: Text,

        /// The name of the method, such as `CreateOrder`. Needs `service`.
        #[schemars(extend("pattern" = "^[^/%?#\\\\\\s]+$"))]
        method: Text,

        /// How the name of the method begins, such as `Get`. Needs `service`.
        #[schemars(extend("pattern" = "^[^/%?#\\\\\\s]+$"))]
        method_prefix: Text,

        /// How the path `/service/method` begins, as other proxies write it. Excludes the four above.
        #[schemars(extend("pattern" = "^/[^%?#\\\\\\s]*$"))]
        path_prefix: Text,

        /// A regular expression that describes all of the path `/service/method`; without look-around and
        /// back-references. Excludes the five above.
        path_regex: Text,

        /// Conditions on the metadata, all of which must hold.
        #[schemars(extend("minItems" = 1, "maxItems" = bounds::MAX_METADATA_MATCHES))]
        metadata: List<RawMetadataMatch>,
    }
}

/// A profile's name, or a mapping.
#[derive(Debug)]
pub(crate) enum RawLimits {
    Profile(Text),
    Values(Box<RawLimitValues>),
}

impl Read for RawLimits {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match node.value {
            Value::Text(_) => Text::read(node, reports).map(Self::Profile),
            _ => RawLimitValues::read(node, reports).map(|values| Self::Values(Box::new(values))),
        }
    }
}

impl JsonSchema for RawLimits {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProfileOrLimits".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "enum": ["edge", "mesh"] }, generator.subschema_for::<RawLimitValues>()]
        })
    }
}

raw_mapping! {
    /// What one client may make the proxy hold or do.
    RawLimitValues as "Limits", expected "a profile (`edge` or `mesh`) or a mapping";
    required {}
    optional {
        /// Where the values come from that are not given here: `edge` for clients that nobody vouches for, `mesh` for
        /// clients of one's own network, which open more streams and cancel more often.
        #[schemars(extend("default" = "edge", "enum" = ["edge", "mesh"]))]
        profile: Text,

        /// Streams that one connection may have open, counted until their work is really over. Edge 100, mesh 1024;
        /// 1 to 65536.
        #[schemars(range(min = bounds::EDGE_MAX_CONCURRENT_STREAMS.min, max = bounds::EDGE_MAX_CONCURRENT_STREAMS.max))]
        #[schemars(extend("default" = bounds::EDGE_MAX_CONCURRENT_STREAMS.default))]
        max_concurrent_streams: Integer,

        /// Bytes of one stream that may be on their way. 16KiB to 16MiB.
        #[schemars(extend("default" = bounds::INITIAL_STREAM_WINDOW_SIZE.default))]
        initial_stream_window_size: RawSize,

        /// Bytes of one connection that may be on their way; at least as many as of one stream. 65535 to 256MiB.
        #[schemars(extend("default" = "1MiB"))]
        initial_connection_window_size: RawSize,

        /// Bytes of one call's header list, with 32 for each field. 4KiB to 64KiB.
        #[schemars(extend("default" = "16KiB"))]
        max_header_list_size: RawSize,

        /// Fields of one call's header list. 16 to 1000.
        #[schemars(range(min = bounds::MAX_HEADERS_COUNT.min, max = bounds::MAX_HEADERS_COUNT.max))]
        #[schemars(extend("default" = bounds::MAX_HEADERS_COUNT.default))]
        max_headers_count: Integer,

        /// Bytes of one header field's name or value. 1KiB to 64KiB.
        #[schemars(extend("default" = "8KiB"))]
        max_header_field_size: RawSize,

        /// How long a connection without streams stays open, or `off`. Edge 1h, mesh off; 1s to 30d.
        #[schemars(extend("default" = "1h"))]
        idle_timeout: Off<RawDuration>,

        /// How long a client may leave unread what waits for it, before its call or connection is ended. 1s to 1h.
        #[schemars(extend("default" = "1m"))]
        stall_timeout: RawDuration,

        /// How old a connection may get before its client is asked to go (GOAWAY), or `off`; up to a tenth more or less, at
        /// random. 1s to 30d.
        #[schemars(extend("default" = "off"))]
        max_connection_age: Off<RawDuration>,

        /// How long calls may go on after that before they are ended, or `off`. 1s to 30d; needs `max_connection_age`.
        #[schemars(extend("default" = "off"))]
        max_connection_age_grace: Off<RawDuration>,

        /// Connections that each worker accepts from this listener. 1 to 1000000.
        #[schemars(range(min = bounds::MAX_CONNECTIONS_PER_WORKER.min, max = bounds::MAX_CONNECTIONS_PER_WORKER.max))]
        #[schemars(extend("default" = bounds::MAX_CONNECTIONS_PER_WORKER.default))]
        max_connections_per_worker: Integer,
    }
}
