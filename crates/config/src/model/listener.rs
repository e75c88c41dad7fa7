//! Listeners and what one client may make the proxy hold or do.

use core::time::Duration;

use serde::{Serialize, Serializer};

use super::{MetadataRules, Route};
use crate::bounds::{self, Bounds};
use crate::listen::ListenAddress;
use crate::units::format_duration;

/// A socket on which calls come in.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Listener {
    /// Where it listens. No other listener, and not the admin interface, has an address in conflict with it.
    pub address: ListenAddress,
    /// What one client may make the proxy hold or do.
    pub limits: Limits,
    /// Which metadata of its clients is passed on.
    pub metadata: MetadataRules,
    /// Tried in this order; the first that fits takes the call. At least one, at most
    /// [`MAX_ROUTES`](crate::bounds::MAX_ROUTES), and each can be reached.
    pub routes: Vec<Route>,
}

/// Whom a listener serves. It decides the values that are not given, and the budget of the engine's abuse ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Clients that nobody vouches for.
    #[default]
    Edge,
    /// Clients of one's own network, which open more streams and cancel more often.
    Mesh,
}

impl Profile {
    pub(crate) const NAMES: [&'static str; 2] = ["edge", "mesh"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "edge" => Some(Self::Edge),
            "mesh" => Some(Self::Mesh),
            _ => None,
        }
    }

    pub(crate) fn max_concurrent_streams(self) -> Bounds<u32> {
        match self {
            Self::Edge => bounds::EDGE_MAX_CONCURRENT_STREAMS,
            Self::Mesh => bounds::MESH_MAX_CONCURRENT_STREAMS,
        }
    }

    pub(crate) fn idle_timeout(self) -> Option<Duration> {
        match self {
            Self::Edge => Some(bounds::IDLE_TIMEOUT.default),
            Self::Mesh => None,
        }
    }
}

/// What one client may make the proxy hold or do. Bounds and reasons of each value: [`bounds`](crate::bounds).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Limits {
    /// Whom the listener serves.
    pub profile: Profile,
    /// Streams that one connection may have open. Edge 100, mesh 1024.
    pub max_concurrent_streams: u32,
    /// Bytes of one stream that may be on their way. Default 65,535.
    pub initial_stream_window_size: u32,
    /// Bytes of one connection that may be on their way, at least as many as of one stream. Default 1 MiB.
    pub initial_connection_window_size: u32,
    /// Bytes of one decoded header list. Default 16 KiB.
    pub max_header_list_size: u32,
    /// Fields of one header list. Default 100.
    pub max_headers_count: u32,
    /// Bytes of one header field's name or value. Default 8 KiB.
    pub max_header_field_size: u32,
    /// How long a connection without streams stays open; `None`: for ever. Edge 1 h, mesh for ever.
    #[serde(serialize_with = "serialize_or_off")]
    pub idle_timeout: Option<Duration>,
    /// How long a client may leave unread what waits for it, before its call or connection is ended. Default 1 min.
    #[serde(serialize_with = "super::serialize_duration")]
    pub stall_timeout: Duration,
    /// How old a connection may get before its client is asked to go, more or less; `None`, the default: as old as it likes.
    #[serde(serialize_with = "serialize_or_off")]
    pub max_connection_age: Option<Duration>,
    /// How long calls may go on after that; `None`, the default: as long as they like. `None` without `max_connection_age`.
    #[serde(serialize_with = "serialize_or_off")]
    pub max_connection_age_grace: Option<Duration>,
    /// Connections that each worker accepts from this listener. Default 10,000.
    pub max_connections_per_worker: u32,
}

impl Limits {
    /// The defaults of a profile.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        Self {
            profile,
            max_concurrent_streams: profile.max_concurrent_streams().default,
            initial_stream_window_size: bounds::INITIAL_STREAM_WINDOW_SIZE.default,
            initial_connection_window_size: bounds::INITIAL_CONNECTION_WINDOW_SIZE.default,
            max_header_list_size: bounds::MAX_HEADER_LIST_SIZE.default,
            max_headers_count: bounds::MAX_HEADERS_COUNT.default,
            max_header_field_size: bounds::MAX_HEADER_FIELD_SIZE.default,
            idle_timeout: profile.idle_timeout(),
            stall_timeout: bounds::STALL_TIMEOUT.default,
            max_connection_age: None,
            max_connection_age_grace: None,
            max_connections_per_worker: bounds::MAX_CONNECTIONS_PER_WORKER.default,
        }
    }
}

fn serialize_or_off<S: Serializer>(timeout: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match timeout {
        Some(timeout) => serializer.serialize_str(&format_duration(*timeout)),
        None => serializer.serialize_str("off"),
    }
}
