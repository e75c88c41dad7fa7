//! Rate limits of routes: how often a route's calls are let through, and how often those of one client.
//!
//! Rule: the client's bucket is asked before the route's, so that a client who is turned away takes nothing from the others. A
//! client is told apart by the first source of a list that the call has, as with affinity, by its bytes and not their hash: who
//! chooses a key must not be able to meet another's bucket. Calls that have none of the sources share one bucket. It is read from
//! what the client sent, before the route changes the request: Envoy's filter comes before its router as well.
//!
//! An IPv6 client is its /64: that is the least that one customer has, and whoever limits single addresses limits nobody.
//!
//! The buckets are the process's, shared by all workers, and stay when a reload leaves the limit as it was. A call is asked for once,
//! whatever becomes of it later; its retries are not.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::cookie_value;
use evenkeel_balance::limit::{BucketLevel, KeyedRateLimiter, RateLimit, RateLimiter, Rejection};
use evenkeel_http2::field::{FieldBlock, FieldStore};
use evenkeel_telemetry::{Limited, RateLimited, RouteEvent};

use super::super::Worker;
use super::super::affinity::{KeySource, each};

/// The rate limits of a route. Equal is only the very same, as each has its own buckets.
#[derive(Debug, Default)]
pub struct RouteRateLimit {
    /// Of all its calls together; `None`: without.
    pub route: Option<RateLimiter>,
    /// Of the calls of each client; `None`: without.
    pub clients: Option<ClientRateLimit>,
}

/// A rate limit that each client has for itself.
#[derive(Debug)]
pub struct ClientRateLimit {
    /// What tells clients apart: the first that a call has.
    pub by: Box<[KeySource]>,
    /// Their buckets.
    pub limiter: KeyedRateLimiter,
}

/// What a rate limit says of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateSeen {
    /// Which one it is.
    pub limited: Limited,
    /// Its rule.
    pub limit: RateLimit,
    /// What there is in the bucket that the call meets.
    pub level: BucketLevel,
    /// The source that tells the call's client, under a limit of each client; `None` if the call has none of them.
    pub source: Option<String>,
}

impl PartialEq for RouteRateLimit {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl RouteRateLimit {
    /// Lets a call through, or says which limit turns it away; and whether its client had no bucket of its own. `key` is
    /// empty, and for passing use.
    fn check(
        &self,
        now: Duration,
        request: &FieldBlock,
        store: &FieldStore,
        address: Option<IpAddr>,
        key: &mut Vec<u8>,
    ) -> (Result<(), (Limited, Rejection)>, bool) {
        let mut is_shared = false;
        if let Some(clients) = &self.clients {
            clients.write_key(request, store, address, key);
            let (checked, shared) = clients.limiter.check_telling(key, now);
            is_shared = shared;
            if let Err(rejection) = checked {
                return (Err((Limited::ClientRate, rejection)), is_shared);
            }
        }
        let of_route = self.route.as_ref().map_or(Ok(()), |limiter| limiter.check(now));
        (of_route.map_err(|rejection| (Limited::RouteRate, rejection)), is_shared)
    }
}

impl RouteRateLimit {
    /// What the limits would say of a call, in the order in which they are asked; nothing is taken.
    pub(in super::super) fn look(
        &self,
        now: Duration,
        request: &FieldBlock,
        store: &FieldStore,
        address: Option<IpAddr>,
    ) -> Vec<RateSeen> {
        let of_client = self.clients.as_ref().map(|clients| {
            let mut key = Vec::new();
            clients.write_key(request, store, address, &mut key);
            let number = key.first().map(|number| usize::from(*number) - 1);
            RateSeen {
                limited: Limited::ClientRate,
                limit: clients.limiter.limit(),
                level: clients.limiter.level(&key, now),
                source: number.map(|number| clients.by[number].to_string()),
            }
        });
        let of_route = self.route.as_ref().map(|limiter| RateSeen {
            limited: Limited::RouteRate,
            limit: limiter.limit(),
            level: limiter.level(now),
            source: None,
        });
        of_client.into_iter().chain(of_route).collect()
    }
}

impl ClientRateLimit {
    /// Writes what tells the call's client from others: the number of the source, so that an address is never taken for a name
    /// that looks like one, and what the call has of it. Nothing for a call that has none.
    fn write_key(
        &self,
        request: &FieldBlock,
        store: &FieldStore,
        address: Option<IpAddr>,
        key: &mut Vec<u8>,
    ) {
        for (source, number) in self.by.iter().zip(1..) {
            key.push(number);
            match source {
                KeySource::Metadata(name) => {
                    for value in each(request, store, name) {
                        key.extend_from_slice(value);
                        key.push(b',');
                    }
                    // One empty value is none, as with affinity.
                    if key.get(1..) == Some(b",") {
                        key.truncate(1);
                    }
                }
                KeySource::SourceIp => match address.map(|address| address.to_canonical()) {
                    Some(IpAddr::V4(address)) => key.extend_from_slice(&address.octets()),
                    Some(IpAddr::V6(address)) => key.extend_from_slice(&address.octets()[..8]),
                    None => {}
                },
                KeySource::Cookie(cookie) => {
                    let name = cookie.name().as_bytes();
                    let value = each(request, store, b"cookie").find_map(|field| cookie_value(field, name));
                    key.extend_from_slice(value.unwrap_or_default());
                }
            }
            if key.len() > 1 {
                return;
            }
            key.clear();
        }
    }
}

impl Worker {
    /// Answers a call that comes too soon for its route's rate limit. Whether it was.
    #[inline]
    pub(in super::super) fn is_rate_limited(&mut self, now: Duration, id: u32) -> bool {
        let actions = self.calls[id as usize].actions.as_ref();
        match actions.and_then(|actions| actions.rate_limit.as_ref()) {
            None => false,
            Some(limit) => {
                let limit = Arc::clone(limit);
                self.check_rate(now, id, &limit)
            }
        }
    }

    fn check_rate(&mut self, now: Duration, id: u32, limit: &RouteRateLimit) -> bool {
        let mut key = self.take_buffer();
        let address = self.client_address(id);
        let request = &self.calls[id as usize].request;
        let (checked, is_shared) = limit.check(now, request, &self.fields.store, address, &mut key);
        self.give_buffer(key);
        if is_shared {
            self.count_of_route(id, RouteEvent::RateLimitShared);
        }
        match checked {
            Ok(()) => false,
            Err((limited, rejection)) => {
                let of_route =
                    if limited == Limited::ClientRate { RateLimited::Client } else { RateLimited::Route };
                self.count_of_route(id, RouteEvent::RateLimited(of_route));
                self.turn_away(now, id, limited, rejection);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::limit::RateLimit;
    use evenkeel_http2::Fields;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::super::super::affinity::CookieSource;
    use super::*;

    fn key(by: &[KeySource], request: &[(&str, &str)], address: Option<&str>) -> Vec<u8> {
        let rate = RateLimit::new(1, Duration::from_secs(1), 1).unwrap();
        let limiter = KeyedRateLimiter::new(rate, 8, &mut SmallRng::seed_from_u64(1));
        let clients = ClientRateLimit { by: by.into(), limiter };
        let mut block = FieldBlock::new();
        for (name, value) in request {
            block.push_literal(name.as_bytes(), value.as_bytes(), false);
        }
        let address = address.map(|text| text.parse().unwrap());
        let mut key = Vec::new();
        clients.write_key(&block, &Fields::new(1).store, address, &mut key);
        key
    }

    #[test]
    fn the_first_source_that_a_call_has_tells_its_client() {
        let by = [
            KeySource::Metadata(b"x-client-id"[..].into()),
            KeySource::Cookie(CookieSource::of_client("sid")),
            KeySource::SourceIp,
        ];
        let of = |request: &[(&str, &str)], address| key(&by, request, address);
        let all = [("x-client-id", "anna"), ("cookie", "a=b; sid=c")];
        assert_eq!(of(&all, Some("10.0.0.1")), b"\x01anna,");
        assert_eq!(of(&all[1..], Some("10.0.0.1")), b"\x02c");
        assert_eq!(of(&[], Some("10.0.0.1")), b"\x03\x0a\0\0\x01");
        assert_eq!(of(&[], None), b"", "all that have nothing are one");
        let empty = [("x-client-id", ""), ("cookie", "sid=")];
        assert_eq!(of(&empty, Some("10.0.0.1")), b"\x03\x0a\0\0\x01", "what is empty is not there");
        assert_eq!(of(&empty, None), b"");
        assert_eq!(of(&[("x-client-id", ""), ("x-client-id", "")], None), b"\x01,,");
        assert_ne!(
            of(&[("x-client-id", "a"), ("x-client-id", "b")], None),
            of(&[("x-client-id", "a")], None)
        );
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_one_its_ipv4_address() {
        let of = |address| key(&[KeySource::SourceIp], &[], Some(address));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
