//! Reading a target: the scheme first, then what that scheme holds.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use evenkeel_balance::Address;

use super::error::TargetProblem;
use super::host::{check_host, check_name, split_port};
use super::{DEFAULT_DNS_PORT, DEFAULT_PORT, MAX_LISTED_ADDRESSES, MAX_UNIX_PATH_BYTES, Target};
use crate::errors::closest;

const SCHEMES: [&str; 6] = ["dns", "dns+srv", "ipv4", "ipv6", "unix", "file"];

pub(super) fn parse(text: &str) -> Result<Target, TargetProblem> {
    if text.is_empty() {
        return Err(TargetProblem::Empty);
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(TargetProblem::Blank);
    }
    match text.split_once(':') {
        Some(("dns", rest)) => parse_dns(rest),
        Some(("dns+srv", rest)) => parse_service(rest),
        Some(("ipv4", rest)) => parse_addresses(rest, Family::V4),
        Some(("ipv6", rest)) => parse_addresses(rest, Family::V6),
        Some(("unix", rest)) => path_after_scheme("unix", rest).map(Target::Unix),
        Some(("file", rest)) => path_after_scheme("file", rest).map(Target::File),
        Some((scheme, rest)) if rest.starts_with("//") => Err(unknown_scheme(scheme, rest)),
        // gRPC too takes what has no known scheme for a host: `orders:50051` looks like a scheme and a path.
        _ => parse_host(text, None),
    }
}

fn unknown_scheme(scheme: &str, rest: &str) -> TargetProblem {
    let suggestion = if matches!(scheme, "http" | "https" | "grpc" | "grpcs" | "tcp" | "passthrough") {
        let host = rest.trim_matches('/');
        Some(format!("dns:///{host}"))
    } else {
        closest(scheme, SCHEMES).map(|known| format!("{known}:{rest}"))
    };
    TargetProblem::UnknownScheme { scheme: scheme.to_owned(), suggestion }
}

fn parse_dns(rest: &str) -> Result<Target, TargetProblem> {
    match split_authority(rest) {
        None => parse_host(rest, None),
        Some((authority, "")) if !authority.is_empty() => {
            // `dns://orders:50051`, the commonest slip of all: two slashes name a name server.
            let suggestion = format!("dns:///{authority}");
            Err(TargetProblem::UnexpectedAuthority { authority: authority.to_owned(), suggestion })
        }
        Some((authority, name)) => parse_host(name, parse_authority(authority)?),
    }
}

fn parse_service(rest: &str) -> Result<Target, TargetProblem> {
    let (authority, name) = match split_authority(rest) {
        None => ("", rest),
        Some((authority, "")) if !authority.is_empty() => {
            let suggestion = format!("dns+srv:///{authority}");
            return Err(TargetProblem::UnexpectedAuthority { authority: authority.to_owned(), suggestion });
        }
        Some(parts) => parts,
    };
    let server = parse_authority(authority)?;
    if let Some((host, _)) = name.split_once(':') {
        return Err(TargetProblem::PortOnService { suggestion: format!("dns+srv://{authority}/{host}") });
    }
    check_name(name)?;
    Ok(Target::Srv { authority: server, name: name.to_owned() })
}

/// The text between `//` and the next slash, and what follows that slash; `None` without `//`.
fn split_authority(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix("//")?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

fn parse_authority(authority: &str) -> Result<Option<SocketAddr>, TargetProblem> {
    if authority.is_empty() {
        return Ok(None);
    }
    let (host, port) = split_port(authority)?;
    let ip: IpAddr =
        host.parse().map_err(|_| TargetProblem::InvalidAuthority { authority: authority.to_owned() })?;
    Ok(Some(SocketAddr::new(ip, port.unwrap_or(DEFAULT_DNS_PORT))))
}

fn parse_host(text: &str, authority: Option<SocketAddr>) -> Result<Target, TargetProblem> {
    let (host, port) = split_port(text)?;
    check_host(host)?;
    Ok(Target::Dns { authority, host: host.to_owned(), port: port.unwrap_or(DEFAULT_PORT) })
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::V4 => ("ipv4", "IPv4", "10.0.0.1:50051"),
            Self::V6 => ("ipv6", "IPv6", "[2001:db8::1]:50051"),
        }
    }
}

fn parse_addresses(rest: &str, family: Family) -> Result<Target, TargetProblem> {
    // `ipv4:///10.0.0.1:50051` is how a URI with an empty authority looks; gRPC takes it as well.
    let list = rest.strip_prefix("///").unwrap_or(rest);
    let count = list.split(',').count();
    if count > MAX_LISTED_ADDRESSES {
        return Err(TargetProblem::TooManyAddresses { count });
    }
    let mut addresses = Vec::new();
    let mut known = HashSet::new();
    for entry in list.split(',') {
        let address = parse_address(entry, family)?;
        if !known.insert(Address::from(address)) {
            return Err(TargetProblem::RepeatedAddress { address });
        }
        addresses.push(address);
    }
    Ok(Target::Ip(addresses))
}

fn parse_address(entry: &str, family: Family) -> Result<SocketAddr, TargetProblem> {
    let (scheme, name, form) = family.describe();
    if entry.is_empty() {
        return Err(TargetProblem::EmptyEntry);
    }
    if let Some(address) = missing_port(entry) {
        let suggestion = format!("{scheme}:{address}");
        return Err(TargetProblem::MissingPort { address: entry.to_owned(), suggestion });
    }
    let of_family = |address: &SocketAddr| address.is_ipv4() == (family == Family::V4);
    match entry.parse::<SocketAddr>().ok().filter(of_family) {
        Some(address) if address.port() == 0 => Err(TargetProblem::InvalidPort { port: "0".to_owned() }),
        Some(address) => Ok(address),
        None => Err(TargetProblem::InvalidAddress { address: entry.to_owned(), family: name, form }),
    }
}

/// The address with the port 50051, if it is an IP address without a port.
pub(crate) fn missing_port(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 50051))
}

/// The path of `unix:` and `file:`, which may have an empty authority but no other.
pub(crate) fn path_after_scheme(scheme: &'static str, rest: &str) -> Result<PathBuf, TargetProblem> {
    let example = if scheme == "unix" { "unix:/run/orders.sock" } else { "file:/etc/evenkeel/orders.yaml" };
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some("") => return Err(TargetProblem::MissingPath { example }),
        Some(other) => {
            let authority = other.split('/').next().unwrap_or(other).to_owned();
            let suggestion = format!("{scheme}:/{other}");
            return Err(TargetProblem::UnexpectedAuthority { authority, suggestion });
        }
        None => rest,
    };
    if path.is_empty() || path.ends_with('/') {
        return Err(TargetProblem::MissingPath { example });
    }
    if scheme == "unix" && path.len() > MAX_UNIX_PATH_BYTES {
        return Err(TargetProblem::PathTooLong { bytes: path.len() });
    }
    Ok(PathBuf::from(path))
}
