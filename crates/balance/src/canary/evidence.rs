//! How surely one share is larger than another by more than a margin: a generalised likelihood ratio that may be looked at
//! at any time.
//!
//! Of the stable version `k_s` of `n_s` calls were hit (failed, or were slow), of the canary `k_c` of `n_c`. The claim to be
//! refuted is "the canary's probability is at most the stable version's plus `margin`". With the log likelihood
//! `l(p; k, n) = k ln p + (n - k) ln(1 - p)`, the evidence against the claim is
//!
//! ```text
//! G = max over p, q        of  l(p; k_s, n_s) + l(q; k_c, n_c)
//!   - max over q <= p + m  of  l(p; k_s, n_s) + l(q; k_c, n_c)
//! ```
//!
//! in nats; 0 where the claim fits best. The claim is refuted when `G >= ln(4 sqrt(n_s n_c) / alpha)`.
//!
//! Why not a z test of two proportions? A canary is looked at every second, and a test made for one look at 5 % would
//! reject a good version sooner or later; and at 1 % of errors and some hundred calls the normal approximation promises
//! tails that are a hundred times too thin. Here the bound holds for *any number of looks* and *any number of calls*: the
//! largest likelihood of `n` calls is at most `2 sqrt(n)` times that of the Krichevsky-Trofimov mixture, so that
//! `exp(G) / (4 sqrt(n_s n_c))` is at most a non-negative martingale under the claim, and by Ville's inequality it reaches
//! `1 / alpha` at all with a probability of at most `alpha`.
//!
//! Sources: Wilks 1938 (likelihood ratios); Krichevsky and Trofimov, "The performance of universal encoding", 1981 (the
//! factor); Ville 1939; Garivier and Kaufmann, "Optimal best arm identification with fixed confidence", 2016, theorem 10,
//! which has the same threshold for the same comparison of two Bernoulli variables.

use serde::{Deserialize, Serialize};

/// Halvings in the search for the likeliest `p`: more than a double has digits.
const HALVINGS: u32 = 64;

/// How many of some calls were hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    /// Calls that were hit; at most `of`.
    pub hits: u64,
    /// Calls in all.
    pub of: u64,
}

impl Share {
    /// The share; 0 of no calls.
    #[must_use]
    pub fn rate(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.hits as f64 / self.of as f64 }
    }

    /// The log likelihood of this share if each call is hit with probability `p`.
    fn log_likelihood(self, p: f64) -> f64 {
        // 0 ln 0 is 0.
        let term = |count: u64, p: f64| if count == 0 { 0.0 } else { count as f64 * p.ln() };
        term(self.hits, p) + term(self.of.saturating_sub(self.hits), 1.0 - p)
    }

    /// Its derivative.
    fn slope(self, p: f64) -> f64 {
        let term = |count: u64, p: f64| if count == 0 { 0.0 } else { count as f64 / p };
        term(self.hits, p) - term(self.of.saturating_sub(self.hits), 1.0 - p)
    }
}

/// The evidence, in nats, that calls of `canary` are hit more often than those of `stable` by more than `margin` (from 0
/// to below 1). 0 if it does not look like it, or if there are no calls of one of them.
#[must_use]
pub fn evidence(stable: Share, canary: Share, margin: f64) -> f64 {
    if stable.of == 0 || canary.of == 0 || canary.rate() <= stable.rate() + margin {
        return 0.0;
    }
    // Concave in p, so the slope falls, and the claim's best is at its border q = p + margin. A probability of exactly 1
    // would make a single miss impossible, and the evidence infinite.
    let (mut low, mut high) = (0.0, 1.0 - margin - f64::EPSILON);
    for _ in 0..HALVINGS {
        let p = (low + high) / 2.0;
        if stable.slope(p) + canary.slope(p + margin) > 0.0 { low = p } else { high = p }
    }
    let p = (low + high) / 2.0;
    let free = stable.log_likelihood(stable.rate()) + canary.log_likelihood(canary.rate());
    let claimed = stable.log_likelihood(p) + canary.log_likelihood(p + margin);
    (free - claimed).max(0.0)
}

/// The evidence that refutes the claim, so that it is refuted falsely with a probability of at most `alpha`, however often
/// one looks.
#[must_use]
pub fn needed(stable: Share, canary: Share, alpha: f64) -> f64 {
    let (stable, canary) = (stable.of.max(1) as f64, canary.of.max(1) as f64);
    (4.0 * (stable * canary).sqrt() / alpha).ln()
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn share(hits: u64, of: u64) -> Share {
        Share { hits, of }
    }

    #[test]
    fn what_is_not_above_the_margin_is_no_evidence() {
        for (stable, canary, margin) in [
            (share(10, 1000), share(1, 100), 0.0),
            (share(10, 1000), share(0, 100), 0.0),
            (share(0, 1000), share(1, 100), 0.01),
            (share(0, 0), share(100, 100), 0.0),
            (share(0, 100), share(0, 0), 0.0),
        ] {
            assert!(evidence(stable, canary, margin) <= 0.0, "{stable:?} {canary:?} {margin}");
        }
        assert!(evidence(share(0, 1000), share(2, 100), 0.01) > 0.0);
    }

    #[test]
    fn without_a_margin_it_is_the_likelihood_ratio_of_a_two_by_two_table() {
        // G = sum of observed ln(observed / expected), by hand: 10 of 100 against 30 of 100, expected 20 of each.
        let by_hand: f64 = [(10.0_f64, 20.0_f64), (90.0, 80.0), (30.0, 20.0), (70.0, 80.0)]
            .iter()
            .map(|(observed, expected)| observed * (observed / expected).ln())
            .sum();
        let found = evidence(share(10, 100), share(30, 100), 0.0);
        assert!((found - by_hand).abs() < 1e-6, "{found} {by_hand}");
        // All against none: 200 ln 2.
        let found = evidence(share(0, 100), share(100, 100), 0.0);
        assert!((found - 200.0 * 2.0_f64.ln()).abs() < 1e-6, "{found}");
    }

    #[test]
    fn evidence_grows_with_the_calls_and_falls_with_the_margin() {
        let mut before = 0.0;
        for factor in [1, 10, 100] {
            let found = evidence(share(10 * factor, 1000 * factor), share(3 * factor, 100 * factor), 0.005);
            assert!(found > before);
            before = found;
        }
        let at = |margin| evidence(share(10, 1000), share(10, 100), margin);
        assert!(at(0.0) > at(0.01) && at(0.01) > at(0.05) && at(0.05) > at(0.09));
    }

    #[test]
    fn extremes_are_finite() {
        for (stable, canary) in [
            (share(0, 1), share(1, 1)),
            (share(0, u64::MAX), share(1, 1)),
            (share(0, 1), share(u64::MAX, u64::MAX)),
            (share(1, 3), share(u64::MAX, u64::MAX)),
        ] {
            for margin in [0.0, 0.005, 0.5, 0.999] {
                let found = evidence(stable, canary, margin);
                assert!(found.is_finite(), "{stable:?} {canary:?} {margin}: {found}");
            }
            assert!(needed(stable, canary, 0.001).is_finite());
        }
    }

    /// A thousand sequences under the claim's border, looked at after every call: the bound must hold for all looks together.
    #[test]
    fn looking_after_every_call_refutes_a_true_claim_no_more_often_than_promised() {
        const ALPHA: f64 = 0.05;
        let mut refuted = 0;
        for seed in 0..1_000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut stable, mut canary) = (Share::default(), Share::default());
            refuted += u32::from((0..1_000).any(|_| {
                let is_canary = rng.random_bool(0.5);
                let side = if is_canary { &mut canary } else { &mut stable };
                side.of += 1;
                side.hits += u64::from(rng.random_bool(if is_canary { 0.06 } else { 0.05 }));
                evidence(stable, canary, 0.01) >= needed(stable, canary, ALPHA)
            }));
        }
        assert!(refuted <= 50, "{refuted} of 1000");
    }
}
