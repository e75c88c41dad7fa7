//! A rate limit per client key, in bounded memory.
//!
//! The trick: a bucket that is full is the same as one that was never used. So a key whose bucket has filled up can be
//! forgotten without anybody noticing, and that is the only thing ever evicted: no list of recent uses, no sweep, no timer.
//!
//! Keys live in a table of sets of [`WAYS`], found by a keyed hash, so that clients who choose their keys cannot choose their
//! set. Where a set has no bucket to forget, all its further keys share one bucket of the same rate: somebody with a
//! million keys gets what [`WAYS`] + 1 clients of each set get, and the memory never grows. Each bucket is two atomics;
//! threads that meet the same new key at the same moment may for once give it two buckets.

use core::hash::Hasher;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::hash::DefaultHasher;

use rand::{Rng, RngExt};

use super::rate::{BucketLevel, RateLimit};
use super::rejection::Rejection;
use crate::time::nanos;

/// Keys that are told apart at once unless set otherwise: 16 bytes each, 272 KiB in all.
pub const DEFAULT_KEYS: u32 = 16_384;

/// The most keys that can be told apart at once: 17 MiB.
pub const MAX_KEYS: u32 = 1 << 20;

/// Keys of a set. With eight, a table that is half full has hardly a full set.
const WAYS: usize = 8;

/// A token bucket for each client key, shared by all workers.
#[derive(Debug)]
pub struct KeyedRateLimiter {
    limit: RateLimit,
    /// Fed to the hash before each key.
    secret: u128,
    sets: Box<[Set]>,
    rejected: AtomicU64,
    shared: AtomicU64,
}

/// The hash of the key, 0 for none, and its bucket.
#[derive(Debug, Default)]
struct Bucket {
    key: AtomicU64,
    full_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Set {
    buckets: [Bucket; WAYS],
    /// The bucket of all keys that have no place.
    common: AtomicU64,
}

impl KeyedRateLimiter {
    /// A limiter that tells this many keys apart at once: at least, and rounded up to 8 times a power of two, at most
    /// [`MAX_KEYS`].
    #[must_use]
    pub fn new(limit: RateLimit, keys: u32, rng: &mut impl Rng) -> Self {
        let keys = keys.clamp(1, MAX_KEYS) as usize;
        let sets = keys.div_ceil(WAYS).next_power_of_two();
        Self {
            limit,
            secret: rng.random(),
            sets: (0..sets).map(|_| Set::default()).collect(),
            rejected: AtomicU64::new(0),
            shared: AtomicU64::new(0),
        }
    }

    /// Lets a call of this client through, or says when to come again.
    ///
    /// # Errors
    /// [`Rejection::RateLimited`]: the client's bucket is empty.
    pub fn check(&self, key: &[u8], now: Duration) -> Result<(), Rejection> {
        self.check_telling(key, now).0
    }

    /// As [`KeyedRateLimiter::check`]; and whether the call met the bucket that keys without a place share.
    pub fn check_telling(&self, key: &[u8], now: Duration) -> (Result<(), Rejection>, bool) {
        let (hash, set) = self.find(key);
        let own = set.bucket(hash, nanos(now));
        if own.is_none() {
            self.shared.fetch_add(1, Relaxed);
        }
        let checked = self.limit.take(own.unwrap_or(&set.common), now).inspect_err(|_| {
            self.rejected.fetch_add(1, Relaxed);
        });
        (checked, own.is_none())
    }

    /// The key's hash, and the set of its bucket.
    fn find(&self, key: &[u8]) -> (u64, &Set) {
        let mut hasher = DefaultHasher::new();
        hasher.write_u128(self.secret);
        hasher.write(key);
        let hash = hasher.finish().max(1);
        // The number of sets is a power of two, and a set's place in the table must not say anything about its keys.
        (hash, &self.sets[(hash >> 32) as usize & (self.sets.len() - 1)])
    }

    /// Its rule.
    #[must_use]
    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    /// What there is in this client's bucket; takes nothing, and no place in the table.
    #[must_use]
    pub fn level(&self, key: &[u8], now: Duration) -> BucketLevel {
        let (hash, set) = self.find(key);
        self.limit.level(set.full_at(hash, nanos(now)), now)
    }

    /// Calls turned away so far.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Calls so far whose key had no bucket of its own: many of them mean that the table is too small.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.shared.load(Relaxed)
    }
}

impl Set {
    /// When the bucket is full that a call of this key would meet: a new one is full at once.
    fn full_at(&self, hash: u64, now_ns: u64) -> u64 {
        let own = self.buckets.iter().find(|bucket| bucket.key.load(Relaxed) == hash);
        let can_be_forgotten = |bucket: &Bucket| bucket.full_at.load(Relaxed) <= now_ns;
        match own {
            Some(bucket) => bucket.full_at.load(Relaxed),
            None if self.buckets.iter().any(can_be_forgotten) => now_ns,
            None => self.common.load(Relaxed),
        }
    }

    /// The key's bucket, an own or a forgotten one.
    fn bucket(&self, hash: u64, now_ns: u64) -> Option<&AtomicU64> {
        let own = self.buckets.iter().find(|bucket| bucket.key.load(Relaxed) == hash);
        let claim = |bucket: &&Bucket| {
            let key = bucket.key.load(Relaxed);
            let is_full = bucket.full_at.load(Relaxed) <= now_ns;
            is_full && bucket.key.compare_exchange(key, hash, Relaxed, Relaxed).is_ok()
        };
        own.or_else(|| self.buckets.iter().find(claim)).map(|bucket| &bucket.full_at)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn limiter(burst: u32, keys: u32) -> KeyedRateLimiter {
        let limit = RateLimit::new(1, Duration::from_secs(1), burst).unwrap();
        KeyedRateLimiter::new(limit, keys, &mut SmallRng::seed_from_u64(1))
    }

    fn passed(limiter: &KeyedRateLimiter, key: u32, now: Duration) -> usize {
        (0..100).take_while(|_| limiter.check(&key.to_be_bytes(), now).is_ok()).count()
    }

    #[test]
    fn each_key_has_its_own_bucket() {
        let limiter = limiter(5, DEFAULT_KEYS);
        for key in 0..1_000 {
            assert_eq!(passed(&limiter, key, START), 5, "key {key}");
        }
        for key in 0..1_000 {
            assert_eq!(passed(&limiter, key, START), 0, "key {key} is remembered");
            assert_eq!(passed(&limiter, key, START + Duration::from_secs(2)), 2);
        }
        assert_eq!((limiter.rejected(), limiter.shared()), (3_000, 0));
    }

    #[test]
    fn a_look_at_a_key_tells_what_its_next_call_meets_and_takes_nothing() {
        let limiter = limiter(5, 8);
        let tokens = |key: u32| limiter.level(&key.to_be_bytes(), START).tokens;
        for key in 0..8 {
            assert_eq!((tokens(key), tokens(key)), (5, 5), "a new client has all");
            assert_eq!(passed(&limiter, key, START), 5);
            assert_eq!(tokens(key), 0);
        }
        assert_eq!(tokens(8), 5, "the common bucket");
        assert_eq!(passed(&limiter, 8, START), 5);
        let second = Duration::from_secs(1);
        let level = limiter.level(&9_u32.to_be_bytes(), START);
        assert_eq!(level, BucketLevel { tokens: 0, next_in: second }, "it is empty now");
    }

    #[test]
    fn forgets_no_key_before_its_bucket_is_full_and_any_after() {
        let limiter = limiter(5, 8);
        for key in 0..8 {
            assert_eq!(passed(&limiter, key, START), 5);
        }
        let before = START + Duration::from_secs(5) - Duration::from_nanos(1);
        assert_eq!(passed(&limiter, 8, before), 5, "by the common bucket");
        assert_eq!(passed(&limiter, 9, before), 0, "which is empty now");
        for key in 0..8 {
            assert_eq!(passed(&limiter, key, before), 4);
        }
        // Five seconds later all eight may be forgotten: there is place for eight others.
        let after = before + Duration::from_secs(5);
        for key in 10..18 {
            assert_eq!(passed(&limiter, key, after), 5);
        }
    }

    #[test]
    fn a_client_with_a_million_keys_gets_what_the_table_holds_and_no_memory() {
        let limiter = limiter(1, 64);
        let through =
            (0..1_000_000_u32).filter(|key| limiter.check(&key.to_be_bytes(), START).is_ok()).count();
        assert_eq!(through, 64 + 8, "each of eight sets: eight keys, and all others together one");
        assert_eq!(limiter.sets.len() * WAYS, 64);
        assert_eq!(limiter.shared(), 1_000_000 - 64);
    }

    #[test]
    fn the_number_of_keys_is_rounded_up_and_bounded() {
        for (keys, places) in [(0, 8), (1, 8), (8, 8), (9, 16), (17, 32), (DEFAULT_KEYS, 16_384)] {
            assert_eq!(limiter(1, keys).sets.len() * WAYS, places, "{keys}");
        }
        assert_eq!(limiter(1, u32::MAX).sets.len() * WAYS, MAX_KEYS as usize);
        assert_eq!(size_of::<Set>() * DEFAULT_KEYS as usize / WAYS, 272 * 1_024);
    }

    #[test]
    fn half_full_hardly_any_key_shares_a_bucket() {
        let limiter = limiter(1, DEFAULT_KEYS);
        for key in 0..DEFAULT_KEYS / 2 {
            let _with_own_bucket = limiter.check(&key.to_be_bytes(), START);
        }
        println!("{} of {} keys share a bucket", limiter.shared(), DEFAULT_KEYS / 2);
        assert!(limiter.shared() < u64::from(DEFAULT_KEYS / 2) / 50);
    }
}
