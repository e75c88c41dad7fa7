//! How many entries a ring has.

/// How many entries a ring has. Default: 128 for each endpoint, and 32,768 in all, with which a pick among 10,000 endpoints
/// still takes less than 100 ns (`examples/pick_cost`). Maglev is more even with so many.
///
/// More entries make the endpoints' shares more even (with e entries each, a share varies by about 1/sqrt(e) of itself)
/// and cost 16 bytes each, once for all workers, and time to build: about 0.2 microseconds each.
///
/// Why two ways? gRPC and Envoy keep the *sum* about the same: so when an endpoint leaves, all others get more entries, and
/// about as many keys move needlessly as must move. With a fixed number for each endpoint only the keys of the one that
/// leaves move. The price is that the ring is then not the one of a gRPC client with the same endpoints: where both must
/// send a key to the same endpoint, take [`RingSize::in_all`] with the client's sizes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RingSize {
    rule: Rule,
    max: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Rule {
    /// At least so many in all.
    InAll { min: u32 },
    /// So many for the lightest endpoint.
    Each { entries: u32 },
}

impl RingSize {
    /// The most entries that may be asked for: 8 Mi, the bound of Envoy and of gRPC's service config.
    pub const LIMIT: u32 = 8 * 1024 * 1024;

    /// gRPC's default and its clients' cap: 1,024 to 4,096 in all. Beyond 4,096 endpoints some have no entry and get no
    /// calls; see [`EndpointSet::without_share`](crate::EndpointSet::without_share).
    pub const GRPC: Self = Self { rule: Rule::InAll { min: 1_024 }, max: 4_096 };

    /// As in gRPC and Envoy: at least `min` entries in all, rounded up so that the lightest endpoint has a whole number of
    /// them, and at most `max`.
    ///
    /// # Errors
    /// If `min` is 0 or above `max`, or `max` above [`RingSize::LIMIT`].
    pub fn in_all(min: u32, max: u32) -> Result<Self, RingSizeError> {
        Self { rule: Rule::InAll { min }, max }.checked(min)
    }

    /// So many entries for the lightest endpoint, and for the others in proportion to their weights; fewer for all
    /// alike where that would be more than `max` in all.
    ///
    /// # Errors
    /// If `entries` is 0 or above `max`, or `max` above [`RingSize::LIMIT`].
    pub fn each(entries: u32, max: u32) -> Result<Self, RingSizeError> {
        Self { rule: Rule::Each { entries }, max }.checked(entries)
    }

    fn checked(self, least: u32) -> Result<Self, RingSizeError> {
        match () {
            () if least == 0 => Err(RingSizeError::Zero),
            () if least > self.max => Err(RingSizeError::AboveMax { least, max: self.max }),
            () if self.max > Self::LIMIT => Err(RingSizeError::TooLarge(self.max)),
            () => Ok(self),
        }
    }

    /// The fewest entries in all, if that is what was set.
    #[must_use]
    pub fn min_in_all(self) -> Option<u32> {
        match self.rule {
            Rule::InAll { min } => Some(min),
            Rule::Each { .. } => None,
        }
    }

    /// The entries of the lightest endpoint, if that is what was set.
    #[must_use]
    pub fn entries_each(self) -> Option<u32> {
        match self.rule {
            Rule::InAll { .. } => None,
            Rule::Each { entries } => Some(entries),
        }
    }

    /// The most entries in all, whatever the weights. Rounding may add one, as it does in gRPC.
    #[must_use]
    pub fn max(self) -> u32 {
        self.max
    }

    /// The number of entries in all, before rounding up, when the lightest endpoint has this part of all weights.
    pub(super) fn scale(self, least: f64) -> f64 {
        let each = match self.rule {
            Rule::InAll { min } => (least * f64::from(min)).ceil(),
            Rule::Each { entries } => f64::from(entries),
        };
        (each / least).min(f64::from(self.max))
    }
}

impl Default for RingSize {
    fn default() -> Self {
        Self { rule: Rule::Each { entries: 128 }, max: 32_768 }
    }
}

/// The sizes make no ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingSizeError {
    /// No entries.
    #[error("a ring of 0 entries leads nowhere: ask for 1 or more")]
    Zero,
    /// More entries asked for than allowed.
    #[error(
        "{least} ring entries are more than the largest size, {max}: raise the latter or lower the former"
    )]
    AboveMax {
        /// The entries asked for.
        least: u32,
        /// The largest size.
        max: u32,
    },
    /// The largest size is above [`RingSize::LIMIT`].
    #[error("a largest ring size of {0} is too large: at most 8388608 entries can be had")]
    TooLarge(u32),
}
