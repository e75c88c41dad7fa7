//! What calls must have in common to meet the same endpoint, which endpoints there are to meet, and how fast new ones get
//! their share.

use core::time::Duration;

use evenkeel_balance::{SlowStart, SubsetSize};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::units::format_duration;

/// A source of the key that calls to the same endpoint have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashBy {
    /// The value of this field of the metadata; the name is in lower case.
    Metadata(String),
    /// The client's IP address. A client on a Unix socket has none.
    SourceIp,
    /// A cookie.
    Cookie(Cookie),
}

/// A cookie that clients send with each call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cookie {
    /// Its name: a token of RFC 9110, at most 128 letters.
    pub name: String,
    /// How long a cookie lasts that a client without it is given; zero: as long as the client runs. Default `None`: it is
    /// given none.
    pub ttl: Option<Duration>,
    /// The `Path` of a cookie that a client is given. Default `None`.
    pub path: Option<String>,
}

impl HashBy {
    /// Whether every call has this: sources behind it would never be asked.
    #[must_use]
    pub fn is_always_there(&self) -> bool {
        matches!(self, Self::Cookie(Cookie { ttl: Some(_), .. }))
    }
}

impl Serialize for HashBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = match self {
            Self::SourceIp => return serializer.serialize_str("source_ip"),
            Self::Metadata(_) | Self::Cookie(_) => serializer.serialize_map(Some(1))?,
        };
        match self {
            Self::Metadata(name) => map.serialize_entry("metadata", name)?,
            Self::Cookie(cookie) => map.serialize_entry("cookie", cookie)?,
            Self::SourceIp => {}
        }
        map.end()
    }
}

impl Serialize for Cookie {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        if let Some(ttl) = self.ttl {
            map.serialize_entry("ttl", &format_duration(ttl))?;
        }
        if let Some(path) = &self.path {
            map.serialize_entry("path", path)?;
        }
        map.end()
    }
}

/// Which of many endpoints a proxy uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subset {
    /// How many.
    pub size: SubsetSize,
    /// By which rule.
    pub kind: SubsetKind,
}

/// How a subset is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubsetKind {
    /// Each proxy draws its own when it starts (gRFC A68).
    Random,
    /// The proxies are numbered, and share the endpoints out evenly (Beyer et al., "Site Reliability Engineering",
    /// chapter 20).
    Deterministic {
        /// This proxy's number, from 0.
        client_index: u32,
    },
}

impl SubsetKind {
    /// The names of all kinds.
    pub const NAMES: [&'static str; 2] = ["random", "deterministic"];
}

pub(super) fn serialize_subset<S: Serializer>(
    subset: &Option<Subset>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(Subset { size, kind }) = subset else { return serializer.serialize_str("off") };
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("size", &size.get())?;
    match kind {
        SubsetKind::Random => map.serialize_entry("kind", "random")?,
        SubsetKind::Deterministic { client_index } => {
            map.serialize_entry("kind", "deterministic")?;
            map.serialize_entry("client_index", client_index)?;
        }
    }
    map.end()
}

pub(super) fn serialize_slow_start<S: Serializer>(
    slow_start: &Option<SlowStart>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(slow_start) = slow_start else { return serializer.serialize_str("off") };
    let mut object = serializer.serialize_struct("SlowStart", 3)?;
    object.serialize_field("window", &format_duration(slow_start.window))?;
    object.serialize_field("aggression", &slow_start.aggression.get())?;
    object.serialize_field("min_weight", &slow_start.min_weight.get())?;
    object.end()
}
