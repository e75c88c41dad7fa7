//! What a key is worth when its endpoint cannot take the call.

/// What happens to a call whose key's endpoint cannot take it. Default: [`Affinity::Rehash`].
///
/// Whatever this says, a call waits for an endpoint that is connecting and has not failed. An endpoint that discovery
/// no longer lists is not missed: its keys have other endpoints from then on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Affinity {
    /// Another endpoint takes it, the same for all calls with this key as long as the first is out.
    #[default]
    Rehash,
    /// The call fails: what the endpoint holds for the key is nowhere else. A draining endpoint still gets its keys' calls.
    Fail,
    /// As with [`Affinity::Rehash`]; and so that a hot key does not drown its endpoint, also when the endpoint has a given
    /// multiple of its share of the calls in flight.
    Bounded(BoundedLoad),
}

/// How many of the calls in flight one endpoint may have: `ceil((1 + e) * calls * weight / weights)`, over the ready
/// endpoints, the new call counted. Written in percent of the mean, 100 * (1 + e). Default 125.
///
/// Lower is more even and moves more calls away from their key's endpoint: a jump finds room with a probability of at
/// least `e / (1 + e)`, so at 125 a call takes 5 jumps at most on average.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BoundedLoad(u32);

impl BoundedLoad {
    /// The lowest bound. At 100 there is room only where calls are spread evenly already.
    pub const MIN_PERCENT: u32 = 101;
    /// The highest bound; far above, a bound has no effect.
    pub const MAX_PERCENT: u32 = 100_000;

    /// The bound in percent of the mean load.
    #[must_use]
    pub fn percent(self) -> u32 {
        self.0
    }

    /// Whether an endpoint of this weight with so many calls in flight may get another, of `total` in all with it.
    pub(crate) fn has_room(self, in_flight: u32, total: u64, weight: u32, weights: u64) -> bool {
        // in_flight + 1 <= ceil(x) is in_flight < x for whole numbers, and x a fraction: compared without dividing.
        // At most 2^32 * 100 * 2^48 on the left and 2^17 * 2^48 * 2^32 on the right.
        let left = u128::from(in_flight) * 100 * u128::from(weights);
        left < u128::from(self.0) * u128::from(total) * u128::from(weight)
    }
}

impl Default for BoundedLoad {
    fn default() -> Self {
        Self(125)
    }
}

impl TryFrom<u32> for BoundedLoad {
    type Error = BoundedLoadError;

    fn try_from(percent: u32) -> Result<Self, BoundedLoadError> {
        if (Self::MIN_PERCENT..=Self::MAX_PERCENT).contains(&percent) {
            Ok(Self(percent))
        } else {
            Err(BoundedLoadError { percent })
        }
    }
}

/// A bound that binds nothing or everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a load bound of {percent} % of the mean cannot be kept or has no effect: take 101 to 100000, such as 125"
)]
pub struct BoundedLoadError {
    /// The bound asked for.
    pub percent: u32,
}
