//! The names a relative name may stand for, in the order they are asked for: `resolv.conf(5)`, `search` and `ndots`.
//!
//! The list is walked here, not in the resolver library, because both address families must be asked for the *same*
//! name before the next one is tried. Walked per family, a name with only A records in the first domain would get its
//! AAAA records from a stranger in a later one.

use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::rr::Name;

use crate::options::{MAX_SEARCH_DOMAINS, SearchList};

/// A [`SearchList`] whose domains are parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    pub(super) domains: Vec<Name>,
    pub(super) ndots: usize,
}

impl Search {
    /// Parses `list`, leaving out what is no domain name as well as domains beyond [`MAX_SEARCH_DOMAINS`].
    pub(super) fn new(list: &SearchList) -> Self {
        let domains =
            list.domains.iter().filter_map(|domain| Name::from_utf8(domain).ok()).take(MAX_SEARCH_DOMAINS);
        Self { domains: domains.collect(), ndots: list.ndots }
    }

    /// The absolute names `host` may stand for, likeliest first. A name that ends in a dot stands for itself only.
    pub(super) fn candidates(&self, host: &str) -> Result<Vec<Name>, ProtoError> {
        let name = Name::from_utf8(host)?;
        if name.is_fqdn() {
            return Ok(vec![name]);
        }
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        let dots = host.matches('.').count();
        // A completion that would be longer than 255 octets (RFC 1035 section 2.3.4) cannot exist.
        let completed = self.domains.iter().filter_map(|domain| {
            let mut completed = name.clone().append_domain(domain).ok()?;
            completed.set_fqdn(true);
            Some(completed)
        });
        // RFC 6761 section 6.3: localhost is never searched for.
        let as_is_first = dots >= self.ndots || name.is_localhost();
        let mut candidates: Vec<Name> = Vec::with_capacity(self.domains.len() + 1);
        let (before, after) = if as_is_first { (Some(absolute), None) } else { (None, Some(absolute)) };
        for candidate in before.into_iter().chain(completed).chain(after) {
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        Ok(candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(host: &str, domains: &[&str], ndots: usize) -> Vec<String> {
        let list = SearchList { domains: domains.iter().map(|domain| (*domain).to_owned()).collect(), ndots };
        Search::new(&list).candidates(host).unwrap().iter().map(Name::to_ascii).collect()
    }

    const KUBERNETES: [&str; 3] = ["shop.svc.cluster.local", "svc.cluster.local.", "cluster.local"];

    #[test]
    fn a_short_name_is_completed_before_it_is_tried_as_it_is() {
        assert_eq!(
            candidates("orders", &KUBERNETES, 5),
            [
                "orders.shop.svc.cluster.local.",
                "orders.svc.cluster.local.",
                "orders.cluster.local.",
                "orders."
            ]
        );
    }

    #[test]
    fn ndots_decides_what_comes_first() {
        assert_eq!(candidates("a.b.c", &["x"], 2), ["a.b.c.", "a.b.c.x."]);
        assert_eq!(candidates("a.b.c", &["x"], 3), ["a.b.c.x.", "a.b.c."]);
        assert_eq!(candidates("a", &["x"], 0), ["a.", "a.x."]);
    }

    #[test]
    fn a_final_dot_means_no_search() {
        assert_eq!(candidates("orders.", &KUBERNETES, 5), ["orders."]);
    }

    #[test]
    fn localhost_is_tried_as_it_is_first() {
        assert_eq!(candidates("localhost", &["x"], 5)[0], "localhost.");
    }

    #[test]
    fn a_domain_given_twice_is_tried_once() {
        assert_eq!(candidates("a", &["x", "X.", "."], 1), ["a.x.", "a."]);
    }

    #[test]
    fn the_number_of_domains_is_bounded() {
        let domains: Vec<String> = (0..MAX_SEARCH_DOMAINS + 1).map(|n| format!("d{n}")).collect();
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        assert_eq!(candidates("a", &domains, 1).len(), MAX_SEARCH_DOMAINS + 1);
    }

    #[test]
    fn completions_beyond_the_longest_name_are_left_out() {
        let host = vec!["a".repeat(60); 4].join(".");
        assert_eq!(candidates(&host, &["svc.cluster.local"], 5), [format!("{host}.")]);
    }

    #[test]
    fn what_cannot_be_a_name_is_an_error() {
        assert!(Search::default().candidates("a..b").is_err());
        assert!(Search::default().candidates(&"a".repeat(64)).is_err());
        assert!(Search::default().candidates(&"a".repeat(63)).is_ok());
    }
}
