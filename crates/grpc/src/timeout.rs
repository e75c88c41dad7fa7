//! `grpc-timeout`: how long the caller is willing to wait, as up to eight digits and a unit.
//!
//! The header carries a duration, not a point in time: each hop reads it, starts its own clock, and forwards
//! what is left. Forwarding the received value instead would give every hop and every retry a fresh budget.
//!
//! Rules:
//! - Reading: `^[0-9]{1,8}[HMSmun]$`, clamped to [`TIMEOUT_MAX`]. Anything else is a [`TimeoutError`]; gRPC
//!   servers answer it with HTTP 400 and INTERNAL. Zero is legal here, as in grpc-go: the deadline has passed
//!   on arrival.
//! - Printing: the finest unit in which eight digits suffice, rounded down: an endpoint is never granted more
//!   than is left, and a positive budget never prints as zero, since nanoseconds are printed exactly below
//!   0.1 s.
//!
//! Source: [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), Timeout.

use core::time::Duration;

use crate::inline::InlineText;

/// Digits of a timeout at most (PROTOCOL-HTTP2, TimeoutValue).
pub const TIMEOUT_DIGITS_MAX: usize = 8;

/// The longest timeout that is kept apart from longer ones: 365 days. Longer ones read and print as this.
///
/// `99999999H` is 11,408 years: deadlines computed from it overflow clocks and timer wheels that hold
/// nanoseconds in 64 bits (584 years), and no call lasts that long.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// One more than the largest number of eight digits.
const VALUES: u64 = 100_000_000;

const _: () =
    assert!(VALUES == 10_u64.pow(TIMEOUT_DIGITS_MAX as u32), "as many values as the digits can write");
const _: () = assert!(TIMEOUT_MAX.as_secs() < VALUES, "seconds are the coarsest unit that printing needs");

/// A printed timeout: eight digits and the unit.
pub type TimeoutText = InlineText<{ TIMEOUT_DIGITS_MAX + 1 }>;

/// Why a value of `grpc-timeout` is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeoutError {
    /// The value is empty.
    #[error("grpc-timeout is empty; send 1 to 8 digits and one of the units H, M, S, m, u, n")]
    Empty,
    /// Nothing stands before the last byte.
    #[error("grpc-timeout has no digits; send 1 to 8 of them before the unit")]
    NoDigits,
    /// More than [`TIMEOUT_DIGITS_MAX`] bytes stand before the last one.
    #[error("grpc-timeout has {count} digits, at most 8 are allowed; use a coarser unit")]
    TooManyDigits {
        /// How many bytes stand before the last one.
        count: usize,
    },
    /// A byte before the last one is not a digit.
    #[error(
        "grpc-timeout has '{}' among its digits; only 0 to 9 may stand before the unit",
        .byte.escape_ascii()
    )]
    NotADigit {
        /// The first such byte.
        byte: u8,
    },
    /// The last byte is not a unit.
    #[error(
        "grpc-timeout ends with '{}', which is not one of the units H, M, S, m, u, n",
        .byte.escape_ascii()
    )]
    UnknownUnit {
        /// The last byte.
        byte: u8,
    },
}

/// Reads the value of `grpc-timeout`. Costs at most nine bytes' work, however long the value.
///
/// # Errors
///
/// [`TimeoutError`] when the value is not one to eight digits followed by a unit.
pub fn parse_timeout(value: &[u8]) -> Result<Duration, TimeoutError> {
    let (&unit, digits) = value.split_last().ok_or(TimeoutError::Empty)?;
    if digits.is_empty() {
        return Err(TimeoutError::NoDigits);
    }
    if digits.len() > TIMEOUT_DIGITS_MAX {
        return Err(TimeoutError::TooManyDigits { count: digits.len() });
    }
    let mut number = 0_u64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err(TimeoutError::NotADigit { byte });
        }
        number = number * 10 + u64::from(byte - b'0');
    }
    let timeout = match unit {
        // Eight digits of hours are below 2^39 seconds: no product here overflows.
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        byte => return Err(TimeoutError::UnknownUnit { byte }),
    };
    Ok(timeout.min(TIMEOUT_MAX))
}

/// Prints what is left of a deadline as a value of `grpc-timeout`, rounded down by less than one printed
/// unit.
///
/// Zero prints as `0n`; a proxy answers DEADLINE_EXCEEDED itself before it comes to that.
///
/// # Panics
///
/// Never: the unit is chosen so that the number has at most eight digits.
#[must_use]
pub fn print_timeout(budget: Duration) -> TimeoutText {
    let budget = budget.min(TIMEOUT_MAX);
    // At most 365 days: below 2^55 nanoseconds.
    let nanos = budget.as_secs() * 1_000_000_000 + u64::from(budget.subsec_nanos());
    let (number, unit) = if nanos < VALUES {
        (nanos, b'n')
    } else if nanos < VALUES * 1_000 {
        (nanos / 1_000, b'u')
    } else if nanos < VALUES * 1_000_000 {
        (nanos / 1_000_000, b'm')
    } else {
        (budget.as_secs(), b'S')
    };
    let mut text = TimeoutText::new();
    text.push_decimal(u32::try_from(number).expect("the unit is chosen so that eight digits suffice"));
    text.push(unit);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("1M", Duration::from_secs(60)),
            ("1S", Duration::from_secs(1)),
            ("1m", Duration::from_millis(1)),
            ("1u", Duration::from_micros(1)),
            ("1n", Duration::from_nanos(1)),
            ("0S", Duration::ZERO),
            ("00000001S", Duration::from_secs(1)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("99999999m", Duration::from_millis(99_999_999)),
        ];
        for (value, timeout) in cases {
            assert_eq!(parse_timeout(value.as_bytes()), Ok(timeout), "{value}");
        }
    }

    #[test]
    fn clamps_to_a_year() {
        assert_eq!(parse_timeout(b"8759H"), Ok(TIMEOUT_MAX - Duration::from_secs(3600)));
        for value in
            ["8760H", "8761H", "99999999H", "99999999M", "525600M", "525601M", "31536000S", "99999999S"]
        {
            assert_eq!(parse_timeout(value.as_bytes()), Ok(TIMEOUT_MAX), "{value}");
        }
        assert_eq!(parse_timeout(b"31535999S"), Ok(TIMEOUT_MAX - Duration::from_secs(1)));
    }

    #[test]
    fn every_byte_but_six_is_refused_as_unit() {
        for byte in 0..=u8::MAX {
            let parsed = parse_timeout(&[b'7', byte]);
            if b"HMSmun".contains(&byte) {
                assert!(parsed.is_ok());
            } else {
                assert_eq!(parsed, Err(TimeoutError::UnknownUnit { byte }));
            }
        }
    }

    #[test]
    fn every_byte_but_ten_is_refused_as_digit() {
        for byte in 0..=u8::MAX {
            let parsed = parse_timeout(&[b'0', byte, b'n']);
            if byte.is_ascii_digit() {
                assert_eq!(parsed, Ok(Duration::from_nanos(u64::from(byte - b'0'))));
            } else {
                assert_eq!(parsed, Err(TimeoutError::NotADigit { byte }));
            }
        }
    }

    #[test]
    fn prints_the_finest_unit_that_fits() {
        let cases = [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_000), "100000u"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_millis(250), "250000u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_micros(100_000_000) - Duration::from_nanos(1), "99999999u"),
            (Duration::from_micros(100_000_000), "100000m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_millis(100_000_000) - Duration::from_nanos(1), "99999999m"),
            (Duration::from_millis(100_000_000), "100000S"),
            (TIMEOUT_MAX - Duration::from_nanos(1), "31535999S"),
            (TIMEOUT_MAX, "31536000S"),
            (TIMEOUT_MAX + Duration::from_nanos(1), "31536000S"),
            (Duration::MAX, "31536000S"),
        ];
        for (budget, text) in cases {
            assert_eq!(print_timeout(budget).as_str(), text, "{budget:?}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_what_to_do() {
        let message = parse_timeout(b"1\n").unwrap_err().to_string();
        assert_eq!(message, r"grpc-timeout ends with '\n', which is not one of the units H, M, S, m, u, n");
        let message = parse_timeout(b"123456789S").unwrap_err().to_string();
        assert_eq!(message, "grpc-timeout has 9 digits, at most 8 are allowed; use a coarser unit");
    }

    /// One unit of a printed timeout.
    fn unit(text: TimeoutText) -> Duration {
        let unit = [b'1', *text.last().unwrap()];
        parse_timeout(&unit).unwrap()
    }

    /// Spread evenly over the powers of two, so that every unit is met.
    fn budgets() -> impl Strategy<Value = Duration> {
        (0_u32..63, any::<u64>()).prop_map(|(shift, random)| Duration::from_nanos(random >> shift))
    }

    proptest! {
        #[test]
        fn a_printed_budget_is_never_larger_and_less_than_a_unit_smaller(budget in budgets()) {
            let text = print_timeout(budget);
            let read = parse_timeout(&text).unwrap();
            let clamped = budget.min(TIMEOUT_MAX);
            prop_assert!(read <= budget);
            prop_assert!(clamped - read < unit(text));
            prop_assert!(budget.is_zero() || !read.is_zero());
        }

        #[test]
        fn a_finer_unit_would_not_fit(budget in budgets()) {
            let text = print_timeout(budget);
            if text.last() != Some(&b'n') {
                let finer = budget.min(TIMEOUT_MAX).as_nanos() / (unit(text) / 1000).as_nanos();
                prop_assert!(finer >= u128::from(VALUES));
            }
        }

        #[test]
        fn printing_what_was_read_and_reading_it_again_changes_nothing(value in "[0-9]{1,8}[HMSmun]") {
            let timeout = parse_timeout(value.as_bytes()).unwrap();
            prop_assert!(timeout <= TIMEOUT_MAX);
            let once = parse_timeout(&print_timeout(timeout)).unwrap();
            prop_assert_eq!(parse_timeout(&print_timeout(once)).unwrap(), once);
        }

        #[test]
        fn any_bytes_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..12)) {
            let shape = value.split_last().is_some_and(|(unit, digits)| {
                b"HMSmun".contains(unit)
                    && (1..=8).contains(&digits.len())
                    && digits.iter().all(u8::is_ascii_digit)
            });
            prop_assert_eq!(parse_timeout(&value).is_ok(), shape);
        }
    }
}
