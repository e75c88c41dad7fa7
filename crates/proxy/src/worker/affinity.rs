//! Session affinity: the key that a call shares with the calls that are to meet the same endpoint.
//!
//! Rule: a cluster whose policy hashes has a [`HashPlan`], a list of sources in order. The first that the call has is its key;
//! a call that has none gets a random endpoint. So the list is Envoy's `hash_policy` with every entry `terminal`: "this field,
//! or else the address".
//!
//! The key is hashed once for each call, from what the client sent and the listener lets pass, and kept for all its attempts: a
//! route may change the request behind it. Nothing is allocated for it, and without a plan nothing is looked at. Only a call that
//! waits while a reload gives its cluster another plan is hashed again, from the request as it is by then.
//!
//! A cookie may be given: a client without it gets one in the headers of its answer, `name="value"; Max-Age=..; Path=..;
//! HttpOnly` as Envoy writes it, and the same value decides where this call goes. The value is a random number, not a secret:
//! who knows it can do no more than be sent to the same endpoint.

use core::fmt::Write as _;
use core::net::IpAddr;
use core::time::Duration;

use evenkeel_balance::{KeyPart, Slot, hash_bytes, hash_of};
use evenkeel_http2::field::{FieldBlock, FieldStore};
use evenkeel_telemetry::{ClusterEvent, KeyMet};
use rand::Rng;

use super::Worker;
use super::conn::{Downstream, PeerName, Side};

/// The name of the field that gives a client a cookie.
pub(super) const SET_COOKIE: &[u8] = b"set-cookie";

/// Numbers drawn for one cookie: with nine of ten endpoints down, one client in thirty is given one in vain.
const DRAWS_MAX: u32 = 32;

/// What calls must have in common to meet the same endpoint. Default: nothing is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HashPlan {
    sources: Box<[KeySource]>,
}

/// A source of a call's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// The value of this field, whose name is in lower case.
    Metadata(Box<[u8]>),
    /// The client's IP address.
    SourceIp,
    /// The value of a cookie.
    Cookie(CookieSource),
}

/// A cookie, and what a client is told of it that is given one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CookieSource {
    name: Box<str>,
    /// What follows the value in `set-cookie`; `None` if clients are given none.
    attributes: Option<Box<str>>,
}

impl HashPlan {
    /// A plan of these sources, in this order.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = KeySource>) -> Self {
        Self { sources: sources.into_iter().collect() }
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The sources, in their order.
    pub fn sources(&self) -> impl Iterator<Item = &KeySource> {
        self.sources.iter()
    }

    /// The key's hash, and the number of a cookie that the client must be given for it. `draw` makes such a number.
    fn key(
        &self,
        request: &FieldBlock,
        store: &FieldStore,
        address: Option<IpAddr>,
        mut draw: impl FnMut() -> u64,
    ) -> CallKey {
        let found = self.sources.iter().find_map(|source| source.key(request, store, address, &mut draw));
        found.unwrap_or_default()
    }
}

impl KeySource {
    /// The key that this source makes of a request; `None` if it has none.
    pub(super) fn key(
        &self,
        request: &FieldBlock,
        store: &FieldStore,
        address: Option<IpAddr>,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<CallKey> {
        let part = match self {
            Self::Metadata(name) => KeyPart::metadata(each(request, store, name)),
            Self::SourceIp => KeyPart::source_ip(address),
            Self::Cookie(cookie) => KeyPart::cookie(each(request, store, b"cookie"), cookie.name.as_bytes()),
        };
        if let Some(hash) = hash_of([part]) {
            return Some(CallKey { hash: Some(hash), cookie: None });
        }
        if !matches!(self, Self::Cookie(CookieSource { attributes: Some(_), .. })) {
            return None;
        }
        Some(CallKey::of_cookie(draw()))
    }
}

/// As the configuration has it, for people.
impl core::fmt::Display for KeySource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Metadata(name) => write!(f, "metadata {}", String::from_utf8_lossy(name)),
            Self::SourceIp => f.write_str("the client's address"),
            Self::Cookie(cookie) => write!(f, "cookie {}", cookie.name),
        }
    }
}

/// The values of a field, in their order.
pub(super) fn each<'a>(
    request: &'a FieldBlock,
    store: &'a FieldStore,
    name: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    request.iter(store).filter(move |field| field.name == name).map(|field| field.value)
}

impl CookieSource {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The cookie of this name, which clients are not given.
    #[must_use]
    pub fn of_client(name: &str) -> Self {
        Self { name: name.into(), attributes: None }
    }

    /// The cookie of this name. A client without it is given one that lasts for `ttl`, or if that is zero as long as the client
    /// runs, and that it sends for paths that begin with `path`.
    #[must_use]
    pub fn given(name: &str, ttl: Duration, path: Option<&str>) -> Self {
        let mut attributes = String::new();
        if !ttl.is_zero() {
            // A lifetime is in whole seconds; one below would end at once.
            attributes = format!("; Max-Age={}", ttl.as_secs().max(1));
        }
        if let Some(path) = path {
            attributes.push_str("; Path=");
            attributes.push_str(path);
        }
        attributes.push_str("; HttpOnly");
        Self { name: name.into(), attributes: Some(attributes.into()) }
    }
}

/// What a call's key is, once it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct CallKey {
    /// Its hash; `None` where no key is asked for, or the call has none.
    pub(super) hash: Option<u64>,
    /// The number of the cookie that the client is to be given.
    pub(super) cookie: Option<u64>,
}

impl CallKey {
    /// That of a client which is given this number.
    fn of_cookie(number: u64) -> Self {
        let hash = hash_bytes(CookieValue::new(number).as_bytes());
        Self { hash: Some(hash), cookie: Some(number) }
    }
}

/// A cookie's value: a number in hexadecimal digits.
struct CookieValue([u8; 16]);

impl CookieValue {
    fn new(number: u64) -> Self {
        let digit = |place: usize| b"0123456789abcdef"[(number >> (60 - 4 * place) & 15) as usize];
        Self(core::array::from_fn(digit))
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl core::fmt::Display for CookieValue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|digit| f.write_char(char::from(*digit)))
    }
}

impl Worker {
    /// Hashes a call's key, if its cluster asks for one. A cookie that it was given before, for another record of its cluster,
    /// stays the same.
    #[inline]
    pub(super) fn hash_call(&mut self, id: u32) {
        let cluster = self.calls[id as usize].cluster;
        if !self.clusters[cluster as usize].settings.hash_plan.is_empty() {
            self.hash_key(id, cluster);
        }
    }

    fn hash_key(&mut self, id: u32, cluster: u32) {
        let mut key = self.key_at(id, cluster);
        if key.cookie.is_some() && key.cookie != self.calls[id as usize].extra(|extras| extras.cookie) {
            key = self.draw_cookie(key, cluster);
        }
        let call = &mut self.calls[id as usize];
        call.hash = key.hash;
        if key.cookie != call.extra(|extras| extras.cookie) {
            self.extras(id).cookie = key.cookie;
        }
    }

    /// Draws the number of a new cookie until it leads to an endpoint that is available: a client that has met none has nothing to
    /// lose, and must not be refused, or moved later, for one that is down. After [`DRAWS_MAX`] the last stays.
    fn draw_cookie(&mut self, mut key: CallKey, cluster: u32) -> CallKey {
        let balancer = &mut self.clusters[cluster as usize].balancer;
        for _ in 0..DRAWS_MAX {
            if key.hash.is_none_or(|hash| balancer.is_home_available(hash)) {
                break;
            }
            key = CallKey::of_cookie(self.rng.next_u64());
        }
        key
    }

    /// What a call's key is at a cluster that asks for one: its own, or the one that gets a copy of it.
    pub(super) fn key_at(&mut self, id: u32, cluster: u32) -> CallKey {
        let address = self.client_address(id);
        let call = &self.calls[id as usize];
        let plan = &self.clusters[cluster as usize].settings.hash_plan;
        let given = call.extra(|extras| extras.cookie);
        let draw = || given.unwrap_or_else(|| self.rng.next_u64());
        plan.key(&call.request, &self.fields.store, address, draw)
    }

    /// The address of a call's client; a client on a Unix socket has none.
    pub(super) fn client_address(&self, id: u32) -> Option<IpAddr> {
        match &self.conns.get(self.calls[id as usize].down.conn.index())?.side {
            Side::Downstream(Downstream { peer: PeerName::Ip(address), .. }) => Some(address.ip()),
            _ => None,
        }
    }

    /// Counts where the first attempt of a call went, if its cluster asks for a key.
    #[inline]
    pub(super) fn note_key_met(&mut self, id: u32, slot: Slot) {
        let call = &self.calls[id as usize];
        let (cluster, hash) = (call.cluster, call.hash);
        let owner = &mut self.clusters[cluster as usize];
        if call.attempts != 1 || owner.settings.hash_plan.is_empty() {
            return;
        }
        let met = match hash {
            None => KeyMet::NoKey,
            Some(hash) if owner.balancer.is_home(hash, slot) => KeyMet::Home,
            Some(_) => KeyMet::Elsewhere,
        };
        self.count_in(cluster, ClusterEvent::KeyMet(met));
    }

    /// Writes the cookie that a call's client is to be given, in the form of `set-cookie`. Whether there is one.
    pub(super) fn write_cookie(&mut self, id: u32) -> bool {
        let call = &self.calls[id as usize];
        let Some(number) = call.extra(|extras| extras.cookie) else { return false };
        let sources = &self.clusters[call.cluster as usize].settings.hash_plan.sources;
        let given = sources.iter().find_map(|source| match source {
            KeySource::Cookie(CookieSource { name, attributes: Some(attributes) }) => {
                Some((name, attributes))
            }
            _ => None,
        });
        // A reload may have taken the cookie out of the plan.
        let Some((name, attributes)) = given else { return false };
        self.cookie.clear();
        write!(self.cookie, "{name}=\"{}\"{attributes}", CookieValue::new(number))
            .expect("a string takes any text");
        true
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_http2::Fields;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 2, 3));

    fn metadata(name: &str) -> KeySource {
        KeySource::Metadata(name.as_bytes().into())
    }

    fn hour() -> CookieSource {
        CookieSource::given("sid", Duration::from_secs(3_600), Some("/"))
    }

    /// The key of a call with these fields, and 7 for a cookie.
    fn key(plan: &HashPlan, request: &[(&str, &str)]) -> CallKey {
        let mut fields = Fields::new(1);
        let mut block = FieldBlock::new();
        for (name, value) in request {
            let field = fields.store.intern(name.as_bytes(), value.as_bytes());
            block.push_id(&mut fields.store, field, true);
        }
        let key = plan.key(&block, &fields.store, Some(ADDRESS), || 7);
        block.clear(&mut fields.store);
        key
    }

    fn of(text: &str) -> CallKey {
        CallKey { hash: Some(hash_bytes(text.as_bytes())), cookie: None }
    }

    #[test]
    fn the_first_source_that_the_call_has_decides() {
        let client = KeySource::Cookie(CookieSource::of_client("sid"));
        let plan = HashPlan::new([metadata("x-user"), client, KeySource::SourceIp]);
        assert_eq!(key(&plan, &[("x-user", "anna"), ("cookie", "sid=abc")]), of("anna"));
        assert_eq!(key(&plan, &[("cookie", "a=b; sid=abc")]), of("abc"));
        assert_eq!(key(&plan, &[("cookie", "a=b"), ("cookie", "sid=abc")]), of("abc"));
        assert_eq!(key(&plan, &[("cookie", "sid=")]), of("10.1.2.3"));
        assert_eq!(key(&plan, &[("x-user", ""), ("cookie", "sid=abc")]), of("abc"), "an empty value is none");
        assert_eq!(key(&plan, &[("x-user", "a"), ("x-user", "b")]), of("a,b"));
        let plan = HashPlan::new([metadata("x-user")]);
        assert_eq!(key(&plan, &[]), CallKey::default());
        assert_eq!(key(&plan, &[("x-user", "")]), CallKey::default());
        assert!(!plan.is_empty() && HashPlan::default().is_empty());
    }

    #[test]
    fn a_cookie_that_is_given_hashes_like_the_one_that_comes_back() {
        let plan = HashPlan::new([metadata("x-user"), KeySource::Cookie(hour())]);
        let given = key(&plan, &[]);
        assert_eq!(given.cookie, Some(7));
        assert_eq!(given.hash, key(&plan, &[("cookie", "sid=\"0000000000000007\"")]).hash);
        assert_eq!(given.hash, key(&plan, &[("cookie", "sid=0000000000000007")]).hash);
        assert_eq!(key(&plan, &[("x-user", "anna")]), of("anna"));
        assert_eq!(CookieValue::new(0xfedc_ba98_7654_3210).to_string(), "fedcba9876543210");
    }

    #[test]
    fn a_cookie_says_how_long_it_lasts_and_where_it_counts() {
        let attributes = |source: CookieSource| source.attributes.map(String::from);
        assert_eq!(attributes(hour()).unwrap(), "; Max-Age=3600; Path=/; HttpOnly");
        assert_eq!(attributes(CookieSource::given("sid", Duration::ZERO, None)).unwrap(), "; HttpOnly");
        let short = CookieSource::given("sid", Duration::from_millis(10), None);
        assert_eq!(attributes(short).unwrap(), "; Max-Age=1; HttpOnly");
        assert_eq!(attributes(CookieSource::of_client("sid")), None);
    }
}
