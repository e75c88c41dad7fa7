//! How many entries a table has.

/// The number of entries in a Maglev table: a prime.
///
/// Should be 100 times the number of endpoints or more: shares are then even to a percent, and few keys move needlessly
/// when an endpoint leaves. Costs 4 bytes an entry, once for all workers. Default 65,537, as in the paper and in Envoy.
/// With more endpoints than entries some get no calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TableSize(u32);

impl TableSize {
    /// The largest size that may be asked for, Envoy's bound.
    pub const MAX: u32 = 5_000_011;

    /// The number of entries.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for TableSize {
    fn default() -> Self {
        Self(65_537)
    }
}

impl TryFrom<u32> for TableSize {
    type Error = TableSizeError;

    fn try_from(size: u32) -> Result<Self, TableSizeError> {
        match size {
            0..=2 => Err(TableSizeError::TooSmall(size)),
            _ if size > Self::MAX => Err(TableSizeError::TooLarge(size)),
            _ if !is_prime(size) => {
                let next = (size..=Self::MAX).find(|size| is_prime(*size)).unwrap_or(Self::MAX);
                Err(TableSizeError::NotPrime { size, next })
            }
            _ => Ok(Self(size)),
        }
    }
}

/// The size makes no Maglev table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableSizeError {
    /// Below 3: the steps between the places that an endpoint prefers would all be the same.
    #[error(
        "table_size {0} is too small: take a prime, at least 3 and better 100 times the number of endpoints"
    )]
    TooSmall(u32),
    /// Above [`TableSize::MAX`].
    #[error("table_size {0} is too large: at most 5000011 entries can be had")]
    TooLarge(u32),
    /// Not a prime: an endpoint's preferences would not reach every entry.
    #[error("table_size {size} is not prime: take {next}, the next that is")]
    NotPrime {
        /// The size asked for.
        size: u32,
        /// The next larger prime.
        next: u32,
    },
}

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}
