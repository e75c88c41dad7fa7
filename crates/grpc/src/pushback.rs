//! `grpc-retry-pushback-ms`: the server's word on when, or whether, to try again.
//!
//! Rule: a 32-bit signed decimal number of milliseconds in the trailers. Zero or more: wait exactly that long
//! and then retry (backoff starts anew). Negative, unparseable or given more than once: do not retry at all.
//! In doubt the answer is "no", since pushback comes from servers in trouble.
//!
//! Source: [gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback). The
//! repeated header is not in A6; grpc-go reads it as "do not retry".

use core::time::Duration;

use crate::inline::InlineText;

/// The name of the trailer.
pub const RETRY_PUSHBACK_MS: &str = "grpc-retry-pushback-ms";

/// A printed pushback: at most the ten digits of `i32::MAX`.
pub type PushbackText = InlineText<10>;

/// What the server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushback {
    /// Retry after exactly this long: 0 to 2,147,483,647 ms (24.8 days) when read from the wire.
    RetryAfter(Duration),
    /// Do not retry, and send no further hedged attempt.
    Never,
}

impl Pushback {
    /// Reads one value of the trailer.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let millis = str::from_utf8(value).ok().and_then(|text| text.parse::<i32>().ok());
        match millis.and_then(|millis| u64::try_from(millis).ok()) {
            Some(millis) => Self::RetryAfter(Duration::from_millis(millis)),
            None => Self::Never,
        }
    }

    /// Whether the values are one number, be it one that means "never".
    pub fn is_well_formed<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut values = values.into_iter();
        let is_number = |value: &[u8]| str::from_utf8(value).is_ok_and(|text| text.parse::<i32>().is_ok());
        values.next().is_some_and(is_number) && values.next().is_none()
    }

    /// Reads all values of the trailer: `None` when there is none, [`Pushback::Never`] when there is more
    /// than one.
    pub fn from_values<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut values = values.into_iter();
        let first = values.next()?;
        Some(if values.next().is_none() { Self::parse(first) } else { Self::Never })
    }

    /// Prints the value to send. Rounds up to whole milliseconds, so that nobody returns early, and saturates
    /// at `i32::MAX` of them, the longest that A6 can say.
    #[must_use]
    pub fn print(self) -> PushbackText {
        let mut text = PushbackText::new();
        match self {
            Self::RetryAfter(delay) => {
                let millis = delay.as_nanos().div_ceil(1_000_000);
                let bounded = u32::try_from(millis).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs());
                text.push_decimal(bounded);
            }
            Self::Never => {
                text.push(b'-');
                text.push(b'1');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retry_after(millis: u64) -> Pushback {
        Pushback::RetryAfter(Duration::from_millis(millis))
    }

    #[test]
    fn numbers_from_zero_on_are_a_delay() {
        for (value, millis) in [("0", 0), ("1", 1), ("25", 25), ("2147483647", 2_147_483_647), ("007", 7)] {
            assert_eq!(Pushback::parse(value.as_bytes()), retry_after(millis), "{value}");
        }
    }

    #[test]
    fn everything_else_means_never() {
        for value in [
            "-1",
            "-2147483648",
            "2147483648",
            "99999999999999999999",
            "",
            " ",
            "1 ",
            " 1",
            "1.5",
            "1e3",
            "ms",
            "0x1",
            "1,2",
        ] {
            assert_eq!(Pushback::parse(value.as_bytes()), Pushback::Never, "{value:?}");
        }
        assert_eq!(Pushback::parse(b"\xff"), Pushback::Never);
    }

    #[test]
    fn a_repeated_trailer_means_never() {
        assert_eq!(Pushback::from_values([]), None);
        assert_eq!(Pushback::from_values([&b"5"[..]]), Some(retry_after(5)));
        assert_eq!(Pushback::from_values([&b"5"[..], b"5"]), Some(Pushback::Never));
        let well_formed: [&[&[u8]]; 3] = [&[b"5"], &[b"-1"], &[b"2147483647"]];
        assert!(well_formed.into_iter().all(|values| Pushback::is_well_formed(values.iter().copied())));
        let absurd: [&[&[u8]]; 5] = [&[], &[b"5", b"5"], &[b"soon"], &[b"2147483648"], &[b"\xff"]];
        assert!(!absurd.into_iter().any(|values| Pushback::is_well_formed(values.iter().copied())));
    }

    #[test]
    fn prints_whole_milliseconds_rounded_up() {
        for (pushback, text) in [
            (retry_after(0), "0"),
            (Pushback::RetryAfter(Duration::from_nanos(1)), "1"),
            (retry_after(1), "1"),
            (Pushback::RetryAfter(Duration::from_nanos(1_000_001)), "2"),
            (retry_after(2_147_483_646), "2147483646"),
            (retry_after(2_147_483_647), "2147483647"),
            (retry_after(2_147_483_648), "2147483647"),
            (retry_after(u64::from(u32::MAX) + 1), "2147483647"),
            (Pushback::RetryAfter(Duration::MAX), "2147483647"),
            (Pushback::Never, "-1"),
        ] {
            assert_eq!(pushback.print().as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn reading_gives_back_what_was_printed(millis in 0..=i32::MAX.unsigned_abs()) {
            let pushback = retry_after(u64::from(millis));
            prop_assert_eq!(Pushback::parse(&pushback.print()), pushback);
            prop_assert_eq!(Pushback::parse(&Pushback::Never.print()), Pushback::Never);
        }

        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..14)) {
            if let Pushback::RetryAfter(delay) = Pushback::parse(&value) {
                prop_assert!(delay <= Duration::from_millis(i32::MAX.unsigned_abs().into()));
            }
        }
    }
}
