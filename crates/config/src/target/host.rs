//! Which text can be a host: domain names and IP literals, with or without a port.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::TargetProblem;

/// Bytes of a domain name in its text form, without the dot of the root (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Bytes of one label (RFC 1035 section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// Checks a domain name. Underscores are allowed: SRV names and many internal names have them.
pub(super) fn check_name(host: &str) -> Result<(), TargetProblem> {
    let refuse = |reason| Err(TargetProblem::InvalidHost { host: host.to_owned(), reason });
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Err(TargetProblem::MissingHost);
    }
    if name.len() > MAX_NAME_BYTES {
        return refuse("it has more than 253 characters");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return refuse("a label between two dots is empty");
        }
        if label.len() > MAX_LABEL_BYTES {
            return refuse("a label has more than 63 characters");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return refuse("only letters, digits, `-`, `_` and dots are allowed");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("a label begins or ends with `-`");
        }
    }
    // No top-level domain is a number (RFC 3696 section 2): `10.0.0.300`, or a port without its host.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("it ends in a number but is no IPv4 address");
    }
    Ok(())
}

/// Takes `host`, `host:port`, `[v6]` or `[v6]:port` apart. The host comes back without brackets.
pub(super) fn split_port(text: &str) -> Result<(&str, Option<u16>), TargetProblem> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let invalid = || TargetProblem::InvalidHost {
            host: text.to_owned(),
            reason: "brackets hold an IPv6 address and may be followed by `:` and a port",
        };
        let (host, rest) = bracketed.split_once(']').ok_or_else(invalid)?;
        host.parse::<Ipv6Addr>().map_err(|_| invalid())?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(parse_port(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(invalid()),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(TargetProblem::Unbracketed { address: text.to_owned() });
    }
    match text.split_once(':') {
        Some((host, port)) => Ok((host, Some(parse_port(port)?))),
        None => Ok((text, None)),
    }
}

/// A domain name, an IPv4 address, or an IPv6 address that [`split_port`] freed of its brackets.
pub(super) fn check_host(host: &str) -> Result<(), TargetProblem> {
    if host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    check_name(host)
}

fn parse_port(text: &str) -> Result<u16, TargetProblem> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or_else(|| TargetProblem::InvalidPort { port: text.to_owned() })
}
