//! Configuration: from text to values that are all legal, or to a report of everything that is wrong.
//!
//! ```text
//! text --tree--> nodes with places --raw--> typed values, as written --resolve--> Config
//!                  '------------------- errors: every fault with its place -------------'
//! ```
//!
//! - [`parse`] reads a configuration, [`Config::from_flags`] takes a command line for one, and [`parse_endpoints`] reads
//!   the list behind a `file:` target. All three report [`ConfigErrors`]: all errors at once, each with line, column,
//!   path, and what to do. [`parse_with_lists`] reads a configuration with the lists that it names.
//! - [`schema`] is the JSON Schema of the same types; `docs/configuration.md` is the reference, and a test holds it to the
//!   schema and the [`bounds`].
//! - [`Target`] and [`ListenAddress`] are the two kinds of addresses, in gRPC's naming.
//!
//! Why strict: an unknown key that is ignored is a setting that somebody believes in. So unknown, repeated, empty and
//! ill-typed keys are errors, and so is what has no effect.
//!
//! Nothing here reads a file, a clock or the environment. Any text gives a configuration or a report: the text, the tree
//! and the lists are bounded (see [`bounds`]), and nothing panics.

pub mod bounds;
mod errors;
mod flags;
mod health;
mod listen;
mod lists;
mod model;
mod outlier;
mod policy;
mod raw;
mod resolve;
mod retry;
mod schema;
mod target;
mod tree;
mod units;
mod zone;

use evenkeel_balance::{EndpointSpec, MAX_ENDPOINTS};

use crate::errors::Reports;
use crate::raw::{At, List, RawConfig, RawEndpoint, Read};
use crate::tree::{Budget, Node};

pub use errors::{ConfigError, ConfigErrors, Fault, MAX_ERRORS, Place};
pub use flags::Flags;
pub use listen::{ListenAddress, ListenAddressError, ListenAddressProblem};
pub use lists::parse_with_lists;
pub use model::{
    AccessLog, AdaptiveConcurrency, Admin, BinaryValues, CanarySettings, CircuitBreakers, ClientRate,
    Cluster, ClusterRef, Config, Cookie, DEFAULT_ADMIN_PORT, Destination, DnsRefresh, Drain, FaultInjection,
    Forwarded, HashBy, Limits, Listener, MAX_REGEX_BYTES, MemoryLimit, MetadataChange, MetadataField,
    MetadataMatch, MetadataRules, Mirror, NamesWithUnderscore, Overload, PathMatch, Percent, PlacedTarget,
    Profile, Rate, Replay, Retry, Route, RouteMatch, RouteRateLimit, Share, StateFile, Subset, SubsetKind,
    Targets, ValueMatch, whole_regex,
};
pub use policy::{UnknownPolicy, policy_from_str, policy_name};
pub use schema::{endpoints_schema, schema};
pub use target::{
    DEFAULT_DNS_PORT, DEFAULT_PORT, MAX_LISTED_ADDRESSES, MAX_UNIX_PATH_BYTES, Target, TargetError,
    TargetProblem,
};
pub use zone::{Zone, ZoneError};

/// What a configuration's document may consist of: about as many values as a mebibyte of text can hold.
const CONFIG_BUDGET: Budget = Budget { bytes: bounds::MAX_CONFIG_BYTES, nodes: 200_000 };

/// What an endpoint list's document may consist of: each entry is a mapping of five keys, one of them of a mapping of three, that
/// is 17 nodes; and some more, so that a list above the bound is refused for its length and not for its size.
const LIST_BUDGET: Budget = Budget { bytes: bounds::MAX_LIST_BYTES, nodes: 18 * MAX_ENDPOINTS };

/// Reads a configuration in YAML. `source_name` is what errors call the text: the file's path, mostly.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(source_name: &str, text: &str) -> Result<Config, ConfigErrors> {
    parse_in_zone(source_name, text, None)
}

/// As [`parse`], for a proxy of which the command line says where it runs, in place of the text's `node`.
///
/// # Errors
/// As [`parse`]'s.
pub fn parse_in_zone(source_name: &str, text: &str, zone: Option<&Zone>) -> Result<Config, ConfigErrors> {
    read_with(source_name, text, CONFIG_BUDGET, |root, reports| {
        let mut raw = RawConfig::read(root, reports)?;
        if let Some(zone) = zone {
            zone.place(&mut raw);
        }
        Some(resolve::resolve(&raw, &lists::Lists::default(), reports))
    })
}

/// Reads an endpoint list in YAML: entries are addresses (`10.0.0.1:50051`, `unix:/run/orders.sock`), or mappings with
/// `address` and `weight`.
///
/// Returns the addresses with their weights (default 1) in the list's order. An entry with weight 0 is left out: it gets
/// no calls. The list may be empty; it may have 65,536 entries ([`MAX_ENDPOINTS`]).
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_endpoints(source_name: &str, text: &str) -> Result<Vec<EndpointSpec>, ConfigErrors> {
    read_with(source_name, text, LIST_BUDGET, |root, reports| {
        At::<List<RawEndpoint>>::read(root, reports).map(|list| resolve::resolve_endpoints(&list, reports))
    })
}

/// Reads a text through all steps; the result counts only if none of them reported anything.
fn read_with<T>(
    source_name: &str,
    text: &str,
    budget: Budget,
    convert: impl FnOnce(&Node, &mut Reports) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let mut reports = Reports::default();
    let root = tree::read(text, budget, &mut reports);
    let converted = root.as_ref().and_then(|root| convert(root, &mut reports));
    reports.settle();
    match converted {
        Some(value) if reports.is_empty() => Ok(value),
        _ => {
            let paths = root.as_ref().map(|root| tree::paths(root, reports.spans())).unwrap_or_default();
            Err(reports.finish(source_name, text, &paths))
        }
    }
}
