//! Numbers with three decimals in configurations.
//!
//! Why not `f64`? A configuration must be comparable: whether a reload changes a cluster is asked with `==`, and a NaN is
//! unequal to itself. Three decimals are what a person writes.

/// A number from 0 to 1,000,000 in steps of 0.001.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Factor(u32);

impl Factor {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// One.
    pub const ONE: Self = Self(1_000);
    /// The largest: a million.
    pub const MAX: Self = Self(1_000_000_000);

    /// The number that is this many thousandths; those above [`Factor::MAX`] count as it.
    #[must_use]
    pub const fn from_thousandths(thousandths: u32) -> Self {
        if thousandths > Self::MAX.0 { Self::MAX } else { Self(thousandths) }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

impl TryFrom<f64> for Factor {
    type Error = FactorError;

    /// Rounds to the nearest thousandth.
    fn try_from(number: f64) -> Result<Self, FactorError> {
        let is_within = (0.0..=Self::MAX.get()).contains(&number);
        // Within the range the thousandths fit: at most 10^9.
        if is_within { Ok(Self((number * 1_000.0).round() as u32)) } else { Err(FactorError { number }) }
    }
}

/// A number that is no [`Factor`].
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error("{number} is out of range: give a number from 0 to 1000000")]
pub struct FactorError {
    /// The number given.
    pub number: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_zero_to_a_million_and_refuses_what_is_beyond_or_no_number() {
        for (number, thousandths) in
            [(0.0, 0), (0.000_4, 0), (0.000_6, 1), (1.0, 1_000), (1e6, 1_000_000_000)]
        {
            assert_eq!(Factor::try_from(number), Ok(Factor::from_thousandths(thousandths)), "{number}");
        }
        for number in [-0.001, 1_000_000.001, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Factor::try_from(number), Err(FactorError { number }));
        }
        assert!(Factor::try_from(f64::NAN).is_err());
        assert_eq!(Factor::from_thousandths(u32::MAX), Factor::MAX);
    }
}
