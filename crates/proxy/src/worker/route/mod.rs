//! Routes: which cluster a call goes to, by authority, service, method and metadata.
//!
//! Rule: the first route whose conditions all hold takes the call, as Envoy does it, so that the order in the file is
//! the order of decision. The number of routes of one listener is bounded by [`ROUTES_MAX`], which makes a linear
//! look cheap; the decision for a path that a client repeats is cached with the interned path and costs nothing when no
//! route asks for anything but the path.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_grpc::Path;
use evenkeel_telemetry::RouteTelemetry;
use regex::bytes::Regex;

mod actions;
mod metadata;
mod mismatch;
mod split;

use super::snapshot::{HedgeSettings, RetrySettings};

pub use actions::RouteActions;
pub(crate) use metadata::joined;
pub use metadata::{MetadataMatch, ValueMatch};
pub use mismatch::Mismatch;
pub use split::{Split, Versions};

/// Routes that one listener may have: positions are cached in 16 bits, and more would want an index.
pub const ROUTES_MAX: usize = 4096;

/// The routes of one listener, in order of decision.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// Whether any route asks for more than the path, so that a path alone does not decide.
    needs_more: bool,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name in logs.
    pub name: Arc<str>,
    /// What a call must be like.
    pub conditions: RouteMatch,
    /// Where its calls go.
    pub destination: Split,
    /// The longest a call may take; a shorter grpc-timeout of the client counts. `None`: no limit of ours.
    pub timeout: Option<Duration>,
    /// How its calls are tried again; `None`: only when no backend has seen them.
    pub retry: Option<Arc<RetrySettings>>,
    /// When calls are hedged; `None`: never. Not beside `retry`.
    pub hedge: Option<Arc<HedgeSettings>>,
    /// What else it does to its calls; `None`: nothing.
    pub actions: Option<Arc<RouteActions>>,
    /// Where its calls are counted; `None`: nowhere.
    pub counts: Option<Arc<RouteTelemetry>>,
}

impl Route {
    /// A route of every call to this destination, which does nothing else.
    #[must_use]
    pub fn new(name: &str, destination: Split) -> Self {
        Self {
            name: name.into(),
            conditions: RouteMatch::default(),
            destination,
            timeout: None,
            retry: None,
            hedge: None,
            actions: None,
            counts: None,
        }
    }
}

/// Conditions of a route; all must hold.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    /// One of these authorities, lower case, with or without a port; empty means any.
    pub authorities: Vec<Box<str>>,
    /// The path.
    pub path: PathMatch,
    /// The metadata; all must hold.
    pub metadata: Vec<MetadataMatch>,
}

/// What routes look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The authority, or what stands for it; empty if there is none.
    pub authority: &'a [u8],
    /// The path as a whole: `/service/method`.
    pub whole_path: &'a [u8],
    /// The same in its parts.
    pub path: &'a Path<'a>,
    /// The fields of the header list, in order.
    pub fields: &'a dyn FieldSource,
}

/// The fields of a header list.
pub trait FieldSource: core::fmt::Debug {
    /// Calls `found` with each value of the fields of this name, in order.
    fn each(&self, name: &[u8], found: &mut dyn FnMut(&[u8]));
}

/// A condition on a call's path `/service/method`.
#[derive(Clone, Debug, Default)]
pub enum PathMatch {
    /// Any path.
    #[default]
    Any,
    /// All methods of this service.
    Service(Box<str>),
    /// All services whose full name begins so ("ecommerce.").
    ServicePrefix(Box<str>),
    /// One method of one service.
    Method {
        /// The service's full name.
        service: Box<str>,
        /// The method's name.
        method: Box<str>,
    },
    /// All methods of a service whose names begin so ("Get").
    MethodPrefix {
        /// The service's full name.
        service: Box<str>,
        /// How the method's name begins.
        prefix: Box<str>,
    },
    /// All paths that this expression describes.
    Regex(Regex),
}

impl PathMatch {
    fn accepts(&self, asked: &Asked<'_>) -> bool {
        let path = asked.path;
        match self {
            Self::Any => true,
            Self::Service(service) => path.service() == &**service,
            Self::ServicePrefix(prefix) => path.service().starts_with(&**prefix),
            Self::Method { service, method } => path.service() == &**service && path.method() == &**method,
            Self::MethodPrefix { service, prefix } => {
                path.service() == &**service && path.method().starts_with(&**prefix)
            }
            Self::Regex(regex) => regex.is_match(asked.whole_path),
        }
    }
}

impl RouteTable {
    /// A table of these routes. Those beyond [`ROUTES_MAX`] are dropped: the configuration refuses them.
    #[must_use]
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.truncate(ROUTES_MAX);
        let needs_more = routes
            .iter()
            .any(|route| !route.conditions.authorities.is_empty() || !route.conditions.metadata.is_empty());
        Self { routes, needs_more }
    }

    /// A table that sends every call to one cluster.
    #[must_use]
    pub fn to_cluster(cluster: usize) -> Self {
        Self::new(vec![Route::new("default", Split::to(cluster))])
    }

    /// The position of the route that takes a call.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Option<usize> {
        self.routes.iter().position(|route| route.conditions.mismatch(asked).is_none())
    }

    /// Whether the path alone decides.
    #[must_use]
    pub fn decides_by_path(&self) -> bool {
        !self.needs_more
    }

    /// The route at a position that [`RouteTable::find`] gave.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<&Route> {
        self.routes.get(position)
    }

    /// The routes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }
}

/// Whether an authority is the wanted one. Host names are compared without case (RFC 3986 section 3.2.2); a wanted
/// authority without a port accepts any.
fn same_authority(wanted: &str, authority: &[u8]) -> bool {
    let wanted = wanted.as_bytes();
    if authority.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let Some((host, port)) = authority.split_at_checked(wanted.len()) else { return false };
    host.eq_ignore_ascii_case(wanted)
        && port.strip_prefix(b":").is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(cluster: usize, authorities: &[&str], path: PathMatch) -> Route {
        let authorities = authorities.iter().map(|authority| Box::from(*authority)).collect();
        let conditions = RouteMatch { authorities, path, metadata: Vec::new() };
        Route { conditions, ..Route::new("r", Split::to(cluster)) }
    }

    fn found(table: &RouteTable, authority: &str, path: &str) -> Option<usize> {
        found_with(table, authority, path, &[])
    }

    /// The name and value of each field.
    type Metadata = [(&'static str, &'static str)];

    impl FieldSource for &Metadata {
        fn each(&self, name: &[u8], found: &mut dyn FnMut(&[u8])) {
            let same = self.iter().filter(|(field, _)| field.as_bytes() == name);
            same.for_each(|(_, value)| found(value.as_bytes()));
        }
    }

    fn found_with(table: &RouteTable, authority: &str, path: &str, fields: &Metadata) -> Option<usize> {
        let whole_path = path.as_bytes();
        let path = Path::parse(whole_path).unwrap();
        let asked = Asked { authority: authority.as_bytes(), whole_path, path: &path, fields: &fields };
        table.find(&asked).and_then(|at| table.get(at)).map(|route| route.destination.choose(0))
    }

    #[test]
    fn the_first_route_whose_conditions_hold_takes_the_call() {
        let table = RouteTable::new(vec![
            route(0, &[], PathMatch::Method { service: "a.B".into(), method: "Get".into() }),
            route(1, &[], PathMatch::MethodPrefix { service: "a.B".into(), prefix: "Li".into() }),
            route(2, &[], PathMatch::Service("a.B".into())),
            route(3, &[], PathMatch::ServicePrefix("a.".into())),
        ]);
        assert_eq!(found(&table, "x", "/a.B/Get"), Some(0));
        assert_eq!(found(&table, "x", "/a.B/GetAll"), Some(2));
        assert_eq!(found(&table, "x", "/a.B/List"), Some(1));
        assert_eq!(found(&table, "x", "/a.Bc/List"), Some(3));
        assert_eq!(found(&table, "x", "/b.B/List"), None);
        assert!(table.decides_by_path());
    }

    #[test]
    fn an_authority_is_compared_without_case_and_with_its_port_only_if_one_is_wanted() {
        let table = RouteTable::new(vec![
            route(0, &["orders.example"], PathMatch::Any),
            route(1, &["b:1"], PathMatch::Any),
        ]);
        assert_eq!(found(&table, "Orders.Example", "/a/b"), Some(0));
        assert_eq!(found(&table, "orders.example:50051", "/a/b"), Some(0));
        assert_eq!(found(&table, "orders.example:", "/a/b"), None);
        assert_eq!(found(&table, "orders.example.evil:1", "/a/b"), None);
        assert_eq!(found(&table, "b:1", "/a/b"), Some(1));
        assert_eq!(found(&table, "b:2", "/a/b"), None);
        assert_eq!(found(&table, "b", "/a/b"), None);
        assert!(!table.decides_by_path());
    }

    #[test]
    fn a_condition_on_metadata_is_one_on_all_values_of_a_field() {
        let with = |value, invert| {
            let conditions = RouteMatch {
                metadata: vec![MetadataMatch { name: b"x-user"[..].into(), value, invert }],
                ..RouteMatch::default()
            };
            RouteTable::new(vec![Route { conditions, ..route(0, &[], PathMatch::Any) }])
        };
        let fits = |table: &RouteTable, fields: &Metadata| found_with(table, "x", "/a/b", fields).is_some();
        let regex = || Regex::new("^(?:a|b)$").unwrap();
        let cases: [(ValueMatch, &[&Metadata], &[&Metadata]); 4] = [
            (ValueMatch::Present, &[&[("x-user", "")], &[("a", "b"), ("x-user", "c")]], &[&[], &[("x", "")]]),
            (
                ValueMatch::Exact(b"a,b"[..].into()),
                &[&[("x-user", "a,b")], &[("x-user", "a"), ("c", "d"), ("x-user", "b")]],
                &[&[], &[("x-user", "a")], &[("x-user", "b"), ("x-user", "a")]],
            ),
            (
                ValueMatch::Prefix(b"an"[..].into()),
                &[&[("x-user", "anna")], &[("x-user", "an")]],
                &[&[], &[("x-user", "a")], &[("x-user", "b"), ("x-user", "anna")]],
            ),
            (ValueMatch::Regex(regex()), &[&[("x-user", "a")]], &[&[], &[("x-user", "a"), ("x-user", "b")]]),
        ];
        for (value, fitting, unfitting) in cases {
            let (plain, inverted) = (with(value.clone(), false), with(value, true));
            for fields in fitting {
                assert!(fits(&plain, fields) && !fits(&inverted, fields), "{fields:?}");
            }
            for fields in unfitting {
                assert!(!fits(&plain, fields) && fits(&inverted, fields), "{fields:?}");
            }
            assert!(!plain.decides_by_path());
        }
    }

    #[test]
    fn an_expression_decides_by_the_whole_path_alone() {
        let gets = Regex::new("^(?:/a\\.(B|C)/Get.*)$").unwrap();
        let table = RouteTable::new(vec![route(0, &[], PathMatch::Regex(gets))]);
        assert_eq!(found(&table, "x", "/a.B/GetAll"), Some(0));
        assert_eq!(found(&table, "x", "/a.D/GetAll"), None);
        assert!(table.decides_by_path());
    }
}
