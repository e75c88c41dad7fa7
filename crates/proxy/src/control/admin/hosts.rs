//! The names under which the admin interface may be asked.
//!
//! Why: a page in an operator's browser may ask its own site only, but whose name leads where is for its owner to say. A name that
//! leads to the page's server first and to 127.0.0.1 a moment later makes this interface the page's own site, whose answers it may
//! read (DNS rebinding). The browser then still sends that name as `Host`.
//!
//! Rule: an IP address, `localhost` and names below it (RFC 6761 section 6.3), and the names of `admin.hosts`; as Caddy's admin
//! interface has it. A request without `Host` is from no browser: HTTP/1.1 requires it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Which names may be used.
#[derive(Clone, Debug)]
pub(super) struct Allowed(Option<Arc<[String]>>);

impl Allowed {
    /// Any name.
    pub(super) fn any() -> Self {
        Self(None)
    }

    /// Addresses, `localhost` and these names, which are in lower case.
    pub(super) fn names(names: &[String]) -> Self {
        Self(Some(names.into()))
    }

    /// Whether a `Host` is allowed, with or without a port.
    fn allows(&self, host: &str) -> bool {
        let Some(names) = &self.0 else { return true };
        if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = host.split_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        name.parse::<Ipv4Addr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || names.iter().any(|known| known == name)
    }
}

/// Refuses requests under another name.
pub(super) async fn refuse_other_names(
    State(allowed): State<Allowed>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get("host").map(|host| host.to_str().unwrap_or_default());
    if host.is_none_or(|host| allowed.allows(host)) {
        return next.run(request).await;
    }
    let text = "this name is not one of the admin interface's: ask by its IP address or as localhost, or add the name to \
        `admin.hosts` in the configuration\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_allowed_and_no_others() {
        let allowed = Allowed::names(&["admin.example".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:9901",
            "10.0.0.7:9901",
            "[::1]:9901",
            "[::1]",
            "localhost",
            "LOCALHOST:9901",
            "localhost.",
            "a.localhost:1",
            "admin.example",
            "Admin.Example:9901",
        ] {
            assert!(allowed.allows(host), "{host}");
        }
        for host in [
            "",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "admin.example.evil",
            "[evil]:1",
            "evenkeel",
        ] {
            assert!(!allowed.allows(host), "{host}");
            assert!(Allowed::any().allows(host), "{host}");
        }
    }
}
