//! What can be wrong with a configuration: one variant per rule, so that tests and tools can tell them apart.

use super::text::quoted;
use crate::listen::ListenAddressError;
use crate::target::TargetError;

/// What is wrong at one place of a configuration.
///
/// Its `Display` form says what is wrong, in one clause; [`Fault::help`] says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The text is no YAML.
    #[error("not valid YAML: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// The text is longer than it may be.
    #[error("the text has {bytes} bytes, at most {max} are read")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The document is too deep, or its aliases repeat too much: what a "YAML bomb" does.
    #[error("the document expands to too much: {message}")]
    TooComplex {
        /// The bound that was broken.
        message: String,
    },
    /// A key stands twice in one mapping.
    #[error("the key {} stands here twice", quoted(.key))]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key that does not exist here.
    #[error("unknown key {}", quoted(.key))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<&'static str>,
        /// The keys that exist here.
        known: Vec<&'static str>,
    },
    /// A key that must be given.
    #[error("the key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// Of several keys none is given, and one must be.
    #[error("one of the keys {keys} is missing")]
    MissingOneOf {
        /// The keys, as they are told.
        keys: &'static str,
    },
    /// A key without a value.
    #[error("the key {} has no value", quoted(.key))]
    NoValue {
        /// The key.
        key: String,
        /// Whether the key must be given.
        is_required: bool,
    },
    /// A value of another kind than the key needs.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What is needed.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// What to write, where that is not plain from `expected`.
        help: Option<&'static str>,
    },
    /// A word that is none of those that can stand here.
    #[error("unknown {kind} {}", quoted(.name))]
    UnknownName {
        /// What the word names: a policy, a profile.
        kind: &'static str,
        /// The word as written.
        name: String,
        /// The word that was probably meant.
        suggestion: Option<&'static str>,
        /// The words that can stand here.
        known: &'static [&'static str],
    },
    /// Text that is no duration.
    #[error("{} is not a duration", quoted(.text))]
    InvalidDuration {
        /// The text.
        text: String,
        /// What to write.
        help: String,
    },
    /// Text that is no size.
    #[error("{} is not a size", quoted(.text))]
    InvalidSize {
        /// The text.
        text: String,
        /// What to write.
        help: String,
    },
    /// A value below its minimum or above its maximum.
    #[error("{value} is out of bounds: at least {min}, at most {max}")]
    OutOfBounds {
        /// The value, with its unit.
        value: String,
        /// The minimum, with its unit.
        min: String,
        /// The maximum, with its unit.
        max: String,
    },
    /// A value that must not be above (or below, or as large as) that of another key.
    #[error("{value} is {relation} `{other}`, which is {other_value}")]
    Disordered {
        /// The value, with its unit.
        value: String,
        /// `above`, `below` or `as long as`.
        relation: &'static str,
        /// The other key.
        other: &'static str,
        /// The other key's value, with its unit.
        other_value: String,
    },
    /// A target that cannot be understood.
    #[error("target {}: {}", quoted(.0.target()), .0.problem())]
    Target(#[source] TargetError),
    /// An address that cannot be listened on.
    #[error("address {}: {}", quoted(.0.address()), .0.problem())]
    ListenAddress(#[source] ListenAddressError),
    /// A list of endpoints that a target names, and that cannot be read.
    #[error("the endpoint list {} cannot be read: {problem}", quoted(.path))]
    UnreadableList {
        /// Its path.
        path: String,
        /// Why, and what to do.
        problem: String,
    },
    /// An endpoint's address that is none.
    #[error("{} is not the address of an endpoint", quoted(.text))]
    InvalidEndpoint {
        /// The text.
        text: String,
    },
    /// An endpoint that stands in its list already, with other settings.
    #[error("the endpoint {} stands in the list already, with other settings", quoted(.address))]
    RepeatedEndpoint {
        /// Its address.
        address: String,
    },
    /// An address that an earlier target of the cluster lists.
    #[error("the address {} stands in an earlier target, whose place counts", quoted(.address))]
    RepeatedAddress {
        /// The address.
        address: String,
    },
    /// A target's priority that leads beyond the last one, together with one of its list.
    #[error("{priority}, with the {of_list} of an endpoint in its list, is above {max}")]
    PriorityTooLow {
        /// The target's.
        priority: u8,
        /// The endpoint's.
        of_list: u8,
        /// The last priority.
        max: u8,
    },
    /// A name with letters that cannot be in it, an empty or a too long one.
    #[error("{} cannot be a name", quoted(.name))]
    InvalidName {
        /// The name as written.
        name: String,
    },
    /// Text that no call's authority, service or method can be.
    #[error("{} can be no {kind}: {reason}", quoted(.text))]
    Unmatchable {
        /// The text.
        text: String,
        /// `authority`, `service`, `method` or `path`.
        kind: &'static str,
        /// Why not.
        reason: &'static str,
        /// What to do about it.
        help: String,
    },
    /// Two keys that exclude each other.
    #[error("`{key}` and `{other}` exclude each other")]
    Exclusive {
        /// The key that stands here.
        key: &'static str,
        /// The other key.
        other: &'static str,
    },
    /// A key that says nothing without another.
    #[error("`{key}` needs `{needed}`")]
    Needs {
        /// The key that stands here.
        key: &'static str,
        /// The key that is missing.
        needed: &'static str,
    },
    /// A key that changes nothing because of another one's value.
    #[error("`{key}` has no effect {reason}")]
    NoEffect {
        /// The key.
        key: &'static str,
        /// Under which condition.
        reason: &'static str,
    },
    /// A key that needs to know where the proxy runs.
    #[error("`zone_aware` needs `node`: where this proxy runs")]
    NeedsNode,
    /// A locality that stands twice in one list.
    #[error("the locality {} stands in the list already", quoted(.locality))]
    RepeatedLocality {
        /// The locality.
        locality: String,
    },
    /// A field of the metadata that is changed twice.
    #[error("the field {} stands in `{other}` already", quoted(.name))]
    RepeatedField {
        /// The field's name.
        name: String,
        /// The list that has it: `add`, `set` or `remove`.
        other: &'static str,
    },
    /// Copies of calls that would go to the cluster that gets the calls.
    #[error("the cluster {} gets the calls themselves", quoted(.name))]
    MirrorToItself {
        /// The cluster's name.
        name: String,
    },
    /// A list that must have an entry.
    #[error("the list is empty")]
    EmptyList {
        /// What to add.
        help: &'static str,
    },
    /// A list longer than it may be.
    #[error("{count} {what}, at most {max} are possible")]
    TooMany {
        /// What is listed, in the plural.
        what: &'static str,
        /// How many are listed.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// A route to a cluster that does not exist.
    #[error("there is no cluster {}", quoted(.name))]
    UnknownCluster {
        /// The name as written.
        name: String,
        /// The cluster that was probably meant.
        suggestion: Option<String>,
        /// The first of the clusters that exist.
        known: Vec<String>,
    },
    /// A name that a cluster before this one has.
    #[error("another cluster is called {}", quoted(.name))]
    DuplicateCluster {
        /// The name.
        name: String,
    },
    /// An address that something else listens on.
    #[error("`{address}` is taken: {by} listens on `{other}`")]
    AddressTaken {
        /// The address.
        address: String,
        /// `another listener` or `the admin interface`.
        by: &'static str,
        /// The other's address.
        other: String,
    },
    /// A file that is written, and is something else as well.
    #[error("{} would be both {what} and {other}", quoted(.path))]
    SamePath {
        /// The path.
        path: String,
        /// `the state file` or `the access log`.
        what: &'static str,
        /// What else has the path.
        other: &'static str,
    },
    /// A target that is a listener of the same process, by which calls come back to the cluster.
    #[error("{} is a listener of this proxy that leads to {} again: calls would go round", quoted(.target), quoted(.cluster))]
    Loop {
        /// The target.
        target: String,
        /// The cluster's name.
        cluster: String,
    },
    /// A condition of a route that no call meets together with an earlier one of the same route.
    #[error("no call meets this condition on {} and the other one of this route", quoted(.name))]
    Contradiction {
        /// The name of the field that both are on.
        name: String,
    },
    /// A route that no call can reach, because an earlier one takes all it could match.
    #[error("no call reaches this route: an earlier one takes them all")]
    UnreachableRoute {
        /// Whether this one would take all that the earlier one could match as well.
        is_mutual: bool,
    },
    /// A list of endpoints, or of clusters, none of which would get a call.
    #[error("all weights are 0: no {of} would get a call")]
    AllWeightsZero {
        /// `endpoint` or `cluster`.
        of: &'static str,
    },
    /// Weights of localities of which no target's has one.
    #[error("no locality that an endpoint is in has a weight above 0")]
    NoLocalityWeight,
    /// Numbers of proxies in each locality that leave none anywhere.
    #[error("all weights are 0: no locality would have a proxy, though this one runs in one")]
    NoProxies,
    /// A number of proxies that leaves none where the file says that this one runs.
    #[error("this proxy runs in {}, which has no proxies by this weight", quoted(.locality))]
    NoProxyHere {
        /// The locality of both.
        locality: String,
    },
    /// A cluster that stands twice in one split.
    #[error("the cluster {} stands in this split twice", quoted(.name))]
    DuplicateShare {
        /// The cluster's name.
        name: String,
    },
    /// A canary whose stable cluster is its own.
    #[error("the canary is the stable cluster itself, {}", quoted(.name))]
    CanaryToItself {
        /// The cluster's name.
        name: String,
    },
    /// A cluster that has no share of the split.
    #[error("the cluster {} has no share of this split", quoted(.name))]
    NotInSplit {
        /// The cluster's name.
        name: String,
    },
    /// A canary of two clusters that together get no call of their split.
    #[error(
        "{} and {} both have weight 0 in this split: the canary has no calls to share",
        quoted(.stable),
        quoted(.canary)
    )]
    NothingToShare {
        /// The stable cluster's name.
        stable: String,
        /// The name of the cluster with the new version.
        canary: String,
    },
    /// A step of a canary that gives it no more than the step before.
    #[error("a weight of {weight} is not above that of the step before, {before}")]
    NotRising {
        /// The weight in percent.
        weight: u8,
        /// That of the step before.
        before: u8,
    },
    /// A name that another canary has.
    #[error("another canary is called {}", quoted(.name))]
    DuplicateCanary {
        /// The name.
        name: String,
    },
    /// A policy that hashes, without anything to hash.
    #[error("`{policy}` needs `hash_by`: what calls have in common that are to meet the same endpoint")]
    NoHashKey {
        /// The policy's name.
        policy: &'static str,
    },
    /// A size that no Maglev table has.
    #[error("{size} is not prime, and a table of that size would leave endpoints out")]
    NotPrime {
        /// The size.
        size: u32,
        /// The next prime.
        next: u32,
    },
    /// A ring or table with fewer entries than there are endpoints.
    #[error("{endpoints} endpoints share {entries} entries: some would have none, and get no calls")]
    TooFewEntries {
        /// The entries.
        entries: usize,
        /// The endpoints that the target lists, at least.
        endpoints: usize,
    },
    /// Text that is no regular expression, or one that is too large.
    #[error("{} is no regular expression that can be used: {message}", quoted(.pattern))]
    InvalidRegex {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        help: &'static str,
    },
}

impl Fault {
    /// The fault's name in JSON reports: stable, in snake case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::TooLong { .. } => "too_long",
            Self::TooComplex { .. } => "too_complex",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::UnknownKey { .. } => "unknown_key",
            Self::MissingKey { .. } | Self::MissingOneOf { .. } => "missing_key",
            Self::NoValue { .. } => "no_value",
            Self::WrongType { .. } => "wrong_type",
            Self::UnknownName { .. } => "unknown_name",
            Self::InvalidDuration { .. } => "invalid_duration",
            Self::InvalidSize { .. } => "invalid_size",
            Self::OutOfBounds { .. } => "out_of_bounds",
            Self::Disordered { .. } => "disordered",
            Self::Target(_) => "invalid_target",
            Self::ListenAddress(_) => "invalid_address",
            Self::UnreadableList { .. } => "unreadable_list",
            Self::InvalidEndpoint { .. } => "invalid_endpoint",
            Self::RepeatedEndpoint { .. } => "repeated_endpoint",
            Self::RepeatedAddress { .. } => "repeated_address",
            Self::PriorityTooLow { .. } => "priority_too_low",
            Self::InvalidName { .. } => "invalid_name",
            Self::Unmatchable { .. } => "unmatchable",
            Self::Exclusive { .. } => "exclusive",
            Self::Needs { .. } => "needs",
            Self::NoEffect { .. } => "no_effect",
            Self::NeedsNode => "needs_node",
            Self::RepeatedLocality { .. } => "repeated_locality",
            Self::RepeatedField { .. } => "repeated_field",
            Self::MirrorToItself { .. } => "mirror_to_itself",
            Self::EmptyList { .. } => "empty_list",
            Self::TooMany { .. } => "too_many",
            Self::UnknownCluster { .. } => "unknown_cluster",
            Self::DuplicateCluster { .. } => "duplicate_cluster",
            Self::AddressTaken { .. } => "address_taken",
            Self::SamePath { .. } => "same_path",
            Self::Loop { .. } => "loop",
            Self::Contradiction { .. } => "contradiction",
            Self::UnreachableRoute { .. } => "unreachable_route",
            Self::AllWeightsZero { .. } | Self::NoLocalityWeight => "all_weights_zero",
            Self::NoProxies => "no_proxies",
            Self::NoProxyHere { .. } => "no_proxy_here",
            Self::DuplicateShare { .. } => "duplicate_share",
            Self::CanaryToItself { .. } => "canary_to_itself",
            Self::NotInSplit { .. } => "not_in_split",
            Self::NothingToShare { .. } => "nothing_to_share",
            Self::NotRising { .. } => "not_rising",
            Self::DuplicateCanary { .. } => "duplicate_canary",
            Self::NoHashKey { .. } => "no_hash_key",
            Self::NotPrime { .. } => "not_prime",
            Self::TooFewEntries { .. } => "too_few_entries",
            Self::InvalidRegex { .. } => "invalid_regex",
        }
    }
}
