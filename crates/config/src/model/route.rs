//! Routes: which calls go to which cluster.
//!
//! Rule: the first route whose conditions all hold takes the call, as in Envoy. gRPC's and the Gateway API's rule, that
//! the most specific one wins, needs an order of precedence between kinds of conditions that nobody remembers; in a file
//! the order is there to see. What the order makes unreachable is refused, see [`RouteMatch::covers`].

use core::time::Duration;

use evenkeel_balance::retry::{HedgingPolicy, RetryPolicy};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::metadata::{fits_every_path, whole_regex};
use super::{Destination, FaultInjection, MetadataChange, MetadataMatch, Mirror, RouteRateLimit};
use crate::units::format_duration;

/// Where calls go, and which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// What a call must be like.
    pub conditions: RouteMatch,
    /// Where it goes.
    pub destination: Destination,
    /// How it is tried again; `None`, the default: only when no backend has seen it.
    pub retry: Option<Retry>,
    /// When it is hedged, which needs that doing it twice does no harm; `None`, the default: never. Not beside `retry`.
    pub hedge: Option<HedgingPolicy>,
    /// The longest it may take; `None`, the default: as long as the client lets it.
    pub timeout: Option<Duration>,
    /// How long a stream may go on before it is ended with UNAVAILABLE; at most `timeout`. `None`, the default: no limit.
    pub max_stream_duration: Option<Duration>,
    /// How long it may go on without data in either direction; below `timeout`, and at most
    /// `max_stream_duration`. `None`, the default: no limit.
    pub stream_idle_timeout: Option<Duration>,
    /// Where copies of its calls go; `None`, the default: nowhere.
    pub mirror: Option<Mirror>,
    /// Faults that are injected into its calls; `None`, the default: none.
    pub fault: Option<FaultInjection>,
    /// How often its calls are let through; `None`, the default: as often as they come.
    pub rate_limit: Option<RouteRateLimit>,
    /// What is changed in the metadata of requests on their way to the backend.
    pub request_metadata: MetadataChange,
    /// What is changed in the metadata with which an answer begins, on its way to the client.
    pub response_metadata: MetadataChange,
    /// What is changed in the metadata with which an answer ends, on its way to the client.
    pub response_trailers: MetadataChange,
}

/// How calls are tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// When, how often, and after which ends.
    pub policy: RetryPolicy,
    /// Whether doing a call twice does no harm. Default false.
    pub is_idempotent: bool,
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.conditions.is_any() {
            map.serialize_entry("match", &self.conditions)?;
        }
        match self.destination.only() {
            Some(cluster) => map.serialize_entry("cluster", cluster)?,
            None => map.serialize_entry("split", &self.destination.shares)?,
        }
        if let Some(field) = &self.destination.sticky_by {
            map.serialize_entry("sticky_by", field)?;
        }
        if let Some(canary) = &self.destination.canary {
            map.serialize_entry("canary", canary)?;
        }
        if let Some(retry) = &self.retry {
            map.serialize_entry("retry", &crate::retry::written(&retry.policy))?;
            map.serialize_entry("idempotent", &retry.is_idempotent)?;
        }
        if let Some(hedge) = &self.hedge {
            map.serialize_entry("hedge", &crate::retry::written_hedge(hedge))?;
            map.serialize_entry("idempotent", &true)?;
        }
        for (key, limit) in [
            ("timeout", self.timeout),
            ("max_stream_duration", self.max_stream_duration),
            ("stream_idle_timeout", self.stream_idle_timeout),
        ] {
            if let Some(limit) = limit {
                map.serialize_entry(key, &format_duration(limit))?;
            }
        }
        if let Some(mirror) = &self.mirror {
            map.serialize_entry("mirror", mirror)?;
        }
        if let Some(fault) = &self.fault {
            map.serialize_entry("fault", fault)?;
        }
        if let Some(limit) = &self.rate_limit {
            map.serialize_entry("rate_limit", limit)?;
        }
        for (key, change) in [
            ("request_metadata", &self.request_metadata),
            ("response_metadata", &self.response_metadata),
            ("response_trailers", &self.response_trailers),
        ] {
            if !change.is_empty() {
                map.serialize_entry(key, change)?;
            }
        }
        map.end()
    }
}

/// A cluster of the same configuration, by name and position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterRef {
    /// Its name.
    pub name: String,
    /// Its position in [`Config::clusters`](super::Config::clusters).
    pub position: usize,
}

impl Serialize for ClusterRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

/// Conditions on a call; all must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct RouteMatch {
    /// One of these authorities, in lower case; one without a port fits any port. Empty: any authority. At most
    /// [`MAX_AUTHORITIES`](crate::bounds::MAX_AUTHORITIES).
    pub authorities: Vec<String>,
    /// The path.
    pub path: PathMatch,
    /// The metadata; all must hold. At most [`MAX_METADATA_MATCHES`](crate::bounds::MAX_METADATA_MATCHES).
    pub metadata: Vec<MetadataMatch>,
}

/// A condition on a call's path `/service/method`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum PathMatch {
    /// Any path.
    #[default]
    Any,
    /// All methods of this service.
    Service(String),
    /// All services whose full name begins so.
    ServicePrefix(String),
    /// One method of one service.
    Method {
        /// The service's full name.
        service: String,
        /// The method's name.
        method: String,
    },
    /// The methods of a service whose names begin so.
    MethodPrefix {
        /// The service's full name.
        service: String,
        /// How the method's name begins.
        prefix: String,
    },
    /// All paths `/service/method` that this regular expression describes, each as a whole.
    Regex(String),
}

impl RouteMatch {
    /// Whether every call fits.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.authorities.is_empty() && self.path == PathMatch::Any && self.metadata.is_empty()
    }

    /// Whether every call that fits `other` fits this as well.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.path.covers(&other.path) && self.covers_metadata(other) && self.covers_authorities(other)
    }

    /// Whether all metadata that the other asks for is such as this asks for, as far as one condition implies another.
    pub(crate) fn covers_metadata(&self, other: &Self) -> bool {
        let is_implied =
            |ours: &MetadataMatch| other.metadata.iter().any(|theirs| theirs.plainly_implies(ours));
        self.metadata.iter().all(is_implied)
    }

    /// Whether no call meets both, as far as that can be told.
    pub(crate) fn is_apart_from(&self, other: &Self) -> bool {
        let excludes = |ours: &MetadataMatch| other.metadata.iter().any(|theirs| ours.excludes(theirs));
        self.path.is_apart_from(&other.path)
            || self.metadata.iter().any(excludes)
            || !self.authorities.is_empty() && !other.authorities.is_empty() && !self.shares_authority(other)
    }

    fn shares_authority(&self, other: &Self) -> bool {
        let same = |one: &String, two: &String| {
            one == two || one == Self::without_port(two) || Self::without_port(one) == two
        };
        self.authorities.iter().any(|ours| other.authorities.iter().any(|theirs| same(ours, theirs)))
    }

    /// What is known of calls that meet both: the narrower path and authorities, and all of the metadata.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        if self.path.covers(&other.path) {
            both.path = other.path.clone();
        }
        if self.covers_authorities(other) {
            both.authorities.clone_from(&other.authorities);
        }
        let new = other.metadata.iter().filter(|condition| !self.metadata.contains(condition));
        both.metadata.extend(new.cloned());
        both
    }

    fn covers_authorities(&self, other: &Self) -> bool {
        if self.authorities.is_empty() {
            return true;
        }
        let covered = |wanted: &String| {
            self.authorities.iter().any(|ours| ours == wanted || *ours == Self::without_port(wanted))
        };
        !other.authorities.is_empty() && other.authorities.iter().all(covered)
    }

    /// `host` of `host:port`; an IPv6 address keeps its brackets.
    pub(crate) fn without_port(authority: &str) -> &str {
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        }
    }
}

impl PathMatch {
    /// The same condition, without an expression that each path fits.
    pub(crate) fn simplified(&self) -> Self {
        match self {
            Self::Regex(pattern) if fits_every_path(pattern) => Self::Any,
            other => other.clone(),
        }
    }

    /// Whether every path that fits `other` fits this as well.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            // What an expression describes is not compared with anything but itself.
            (Self::Regex(_), _) | (_, Self::Regex(_)) => self == other,
            (Self::ServicePrefix(prefix), other) => other.service_or_prefix().starts_with(prefix.as_str()),
            (_, Self::ServicePrefix(_)) => false,
            (Self::Service(service), other) => other.service_or_prefix() == service,
            (_, Self::Service(_)) => false,
            (Self::MethodPrefix { service, prefix }, Self::Method { service: s, method: name })
            | (Self::MethodPrefix { service, prefix }, Self::MethodPrefix { service: s, prefix: name }) => {
                service == s && name.starts_with(prefix.as_str())
            }
            (Self::Method { .. }, other) => self == other,
        }
    }

    /// Whether no path fits both; `false` of expressions beside others than whole paths.
    pub(crate) fn is_apart_from(&self, other: &Self) -> bool {
        if let (Self::Regex(pattern), Self::Method { service, method })
        | (Self::Method { service, method }, Self::Regex(pattern)) = (self, other)
        {
            let path = format!("/{service}/{method}");
            return whole_regex(pattern).is_ok_and(|regex| !regex.is_match(path.as_bytes()));
        }
        let ([service, method], [others_service, others_method]) = (self.parts(), other.parts());
        service.is_apart_from(others_service) || method.is_apart_from(others_method)
    }

    /// What it says of the service and of the method.
    fn parts(&self) -> [Part<'_>; 2] {
        match self {
            Self::Any | Self::Regex(_) => [Part::Any; 2],
            Self::Service(service) => [Part::Exact(service), Part::Any],
            Self::ServicePrefix(prefix) => [Part::Prefix(prefix), Part::Any],
            Self::Method { service, method } => [Part::Exact(service), Part::Exact(method)],
            Self::MethodPrefix { service, prefix } => [Part::Exact(service), Part::Prefix(prefix)],
        }
    }

    fn service_or_prefix(&self) -> &str {
        match self {
            Self::Any | Self::Regex(_) => "",
            Self::Service(service) | Self::ServicePrefix(service) => service,
            Self::Method { service, .. } | Self::MethodPrefix { service, .. } => service,
        }
    }
}

/// What a condition says of one part of a path.
#[derive(Clone, Copy)]
enum Part<'a> {
    Any,
    Exact(&'a str),
    Prefix(&'a str),
}

impl Part<'_> {
    fn is_apart_from(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => false,
            (Self::Exact(one), Self::Exact(two)) => one != two,
            (Self::Exact(text), Self::Prefix(prefix)) | (Self::Prefix(prefix), Self::Exact(text)) => {
                !text.starts_with(prefix)
            }
            (Self::Prefix(one), Self::Prefix(two)) => !one.starts_with(two) && !two.starts_with(one),
        }
    }
}

impl Serialize for RouteMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.authorities.is_empty() {
            map.serialize_entry("authority", &self.authorities)?;
        }
        match &self.path {
            PathMatch::Any => {}
            PathMatch::Service(service) => map.serialize_entry("service", service)?,
            PathMatch::ServicePrefix(prefix) => map.serialize_entry("service_prefix", prefix)?,
            PathMatch::Method { service, method } => {
                map.serialize_entry("service", service)?;
                map.serialize_entry("method", method)?;
            }
            PathMatch::MethodPrefix { service, prefix } => {
                map.serialize_entry("service", service)?;
                map.serialize_entry("method_prefix", prefix)?;
            }
            PathMatch::Regex(pattern) => map.serialize_entry("path_regex", pattern)?,
        }
        if !self.metadata.is_empty() {
            map.serialize_entry("metadata", &self.metadata)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> PathMatch {
        PathMatch::Service(name.into())
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::ServicePrefix(text.into())
    }

    fn method(method: &str) -> PathMatch {
        PathMatch::Method { service: "a.B".into(), method: method.into() }
    }

    fn methods(prefix: &str) -> PathMatch {
        PathMatch::MethodPrefix { service: "a.B".into(), prefix: prefix.into() }
    }

    #[test]
    fn a_path_is_covered_by_what_takes_all_of_it() {
        let covers = |a: &PathMatch, b: &PathMatch| a.covers(b);
        let rising = [method("Get"), methods("Ge"), service("a.B"), prefix("a."), PathMatch::Any];
        for (index, wide) in rising.iter().enumerate() {
            for (narrower, narrow) in rising.iter().enumerate() {
                assert_eq!(covers(wide, narrow), narrower <= index, "{wide:?} covers {narrow:?}");
            }
        }
        assert!(covers(&prefix("a."), &prefix("a.B")));
        assert!(covers(&methods("G"), &methods("Get")));
        assert!(!covers(&prefix("a.B"), &prefix("a.")));
        assert!(!covers(&service("a.B"), &service("a.BC")));
        assert!(!covers(&service("a.B"), &prefix("a.B")));
        assert!(!covers(&methods("Get"), &method("G")));
        assert!(!covers(&method("Get"), &method("Got")));
        let other = PathMatch::Method { service: "a.C".into(), method: "Get".into() };
        assert!(!covers(&methods("Get"), &other));
        assert!(!covers(&service("a.B"), &other));
    }

    #[test]
    fn authorities_are_covered_one_by_one() {
        let any_path = |authorities: &[&str]| RouteMatch {
            authorities: authorities.iter().map(|&authority| authority.into()).collect(),
            ..RouteMatch::default()
        };
        let covers = |a: &[&str], b: &[&str]| any_path(a).covers(&any_path(b));
        assert!(covers(&[], &["a"]));
        assert!(!covers(&["a"], &[]));
        assert!(covers(&["a", "b"], &["b"]));
        assert!(!covers(&["a"], &["a", "b"]));
        assert!(covers(&["a"], &["a:1"]), "without a port any port fits");
        assert!(!covers(&["a:1"], &["a"]));
        assert!(!covers(&["a:1"], &["a:2"]));
        assert!(covers(&["[::1]"], &["[::1]:1"]));
        assert!(!covers(&["[:"], &["[::1]"]));
    }
}
