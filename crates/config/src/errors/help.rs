//! What to do about each fault.

use super::Fault;
use super::text::quoted;

/// Names listed in a help text at most; a longer list helps nobody.
const MAX_LISTED: usize = 20;

impl Fault {
    /// What to do about it: a clause that begins with a verb, or a question.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let text = match self {
            // Their texts say it all.
            Self::Syntax { .. } | Self::OutOfBounds { .. } => return None,
            Self::TooLong { .. } | Self::TooMany { .. } => "split it",
            Self::TooComplex { .. } => "write it out with fewer aliases and levels",
            Self::NoEffect { key: "retry" | "hedge", .. } => "remove it, or raise what forbids it",
            Self::DuplicateKey { .. } | Self::NoEffect { .. } => "remove it",
            Self::UnknownKey { key, suggestion, known } => {
                return Some(no_such_key(key).map_or_else(|| suggest(*suggestion, known), str::to_owned));
            }
            Self::UnknownName { suggestion, known, .. } => return Some(suggest(*suggestion, known)),
            Self::UnknownCluster { suggestion, known, .. } => {
                return Some(suggest(suggestion.as_deref(), known));
            }
            Self::MissingOneOf { .. } => "add one of them here",
            Self::MissingKey { key } => return Some(format!("add `{key}: ...` here")),
            Self::NoValue { is_required: true, .. } => "give it a value",
            Self::NoValue { is_required: false, .. } => "give it a value, or remove it to get the default",
            Self::WrongType { help, .. } => return help.map(str::to_owned),
            Self::InvalidDuration { help, .. }
            | Self::InvalidSize { help, .. }
            | Self::Unmatchable { help, .. } => help,
            Self::Disordered { .. } => "change one of the two",
            Self::Target(error) => return Some(error.problem().remedy()),
            Self::ListenAddress(error) => return Some(error.problem().remedy()),
            Self::UnreadableList { .. } => {
                "write the list first; where the proxy's files are not, check without lists: `--no-lists`"
            }
            Self::InvalidEndpoint { .. } => "write an IP address with a port, or `unix:` and a path",
            Self::PriorityTooLow { .. } => "give one of the two a lower number",
            Self::InvalidName { .. } => "use 1 to 128 letters, digits, `-`, `_` and dots",
            Self::Exclusive { .. } => "keep one of them",
            Self::Needs { key, needed } => return Some(add_needed(key, needed)),
            Self::NeedsNode => "add `node: {region: ..., zone: ...}` at the top of the file",
            Self::RepeatedLocality { .. }
            | Self::RepeatedEndpoint { .. }
            | Self::RepeatedAddress { .. }
            | Self::UnreachableRoute { is_mutual: true } => "keep one of the two",
            Self::RepeatedField { .. } => "keep one of the two; `set` replaces what is there",
            Self::MirrorToItself { .. } => "mirror to another cluster: this one would do everything twice",
            Self::EmptyList { help } | Self::InvalidRegex { help, .. } => help,
            Self::DuplicateCluster { .. } => "give each cluster a name of its own",
            Self::AddressTaken { address, .. } if !address.starts_with("unix:") => "give each its own port",
            Self::AddressTaken { .. } | Self::SamePath { .. } => "give each its own path",
            Self::Loop { .. } => "name the endpoints that are to answer the calls",
            Self::Contradiction { .. } => "remove one of the two, or make two routes of them",
            Self::UnreachableRoute { is_mutual: false } => "move it before the other one, or remove it",
            Self::AllWeightsZero { of } => return Some(format!("give at least one {of} a weight above 0")),
            Self::NoLocalityWeight => "give at least one of the endpoints' localities a weight above 0",
            Self::NoProxyHere { .. } => "give it as `weight` how many proxies run there, or correct `node`",
            Self::NoProxies => "give each locality as `weight` how many proxies run there",
            Self::CanaryToItself { .. } => "name the cluster with the new version",
            Self::NotInSplit { .. } => {
                "add it to `split`, with the weight that it has before the canary starts"
            }
            Self::NothingToShare { .. } => {
                "give the stable cluster in `split` the weight that both are to have together"
            }
            Self::NotRising { .. } => "let the weights rise from step to step",
            Self::DuplicateCanary { .. } => "give each canary a `name` of its own",
            Self::NoHashKey { .. } => {
                "add to the cluster for example `hash_by: [{metadata: x-client-id}]`, in a configuration file"
            }
            Self::NotPrime { next, .. } => return Some(format!("use {next}, the next prime")),
            Self::TooFewEntries { .. } => {
                "give 100 times as many entries as endpoints, or more; a table a prime"
            }
            Self::DuplicateShare { .. } => "add the weights up, and keep one of the two",
        };
        Some(text.to_owned())
    }
}

/// What to do instead of a key that others would have.
fn no_such_key(key: &str) -> Option<&'static str> {
    match key {
        "tls" => Some("this version speaks HTTP/2 without TLS (h2c) on both sides; end TLS in front of it"),
        "<<" => Some("merge keys are no part of YAML 1.2; repeat the keys, or alias whole values"),
        _ => None,
    }
}

/// What to add, and where: in words that can be followed as they stand.
fn add_needed(key: &str, needed: &str) -> String {
    match (key, needed) {
        ("deadline_exceeded", needed) => format!("write `{needed}` at the route, if a call may be done twice"),
        ("idempotent", _) => {
            "add `hedge: {}` or `retry: {retry_on: [deadline_exceeded]}` beside it, or remove it: only these may do a call twice"
                .to_owned()
        }
        ("hedge", needed) => format!("write `{needed}` beside it, if a call may be done twice"),
        ("per_try_timeout", _) => {
            "add `deadline_exceeded` to `retry_on`, and `idempotent: true` to the route, if a call may be done twice"
                .to_owned()
        }
        (_, "locality") => {
            "write `target: [{target: ..., locality: {zone: ...}}]`, or list the endpoints with theirs in a `file:`"
                .to_owned()
        }
        (_, "split") => {
            "write `split: [{cluster: ..., weight: 1}, {cluster: ..., weight: 1}]` in place of `cluster`".to_owned()
        }
        (_, needed) => format!("add `{needed}: ...` beside it"),
    }
}

fn suggest(suggestion: Option<&str>, known: &[impl AsRef<str>]) -> String {
    if let Some(suggestion) = suggestion {
        return format!("did you mean {}?", quoted(suggestion));
    }
    let names: Vec<&str> = known.iter().take(MAX_LISTED).map(AsRef::as_ref).collect();
    match names[..] {
        [] => "remove it: there is none here".to_owned(),
        [name] => format!("use {}", quoted(name)),
        _ if known.len() > names.len() => format!("use one of {}, ...", names.join(", ")),
        _ => format!("use one of {}", names.join(", ")),
    }
}
