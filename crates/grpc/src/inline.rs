//! A short ASCII text held by value, for header values printed on the data path without an allocation.
//!
//! A header value such as `grpc-timeout` is at most nine bytes; a `String` would cost the call an allocation.
//! Invariants: `len <= N`, every byte is ASCII, bytes past `len` are zero (so that `Eq` may compare whole
//! arrays).

use core::fmt;
use core::ops::Deref;

/// An ASCII text of at most `N` bytes (`N <= 255`). Dereferences to the bytes to send.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InlineText<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> InlineText<N> {
    pub(crate) const fn new() -> Self {
        const { assert!(N <= u8::MAX as usize, "the length is kept in one byte") };
        Self { bytes: [0; N], len: 0 }
    }

    /// Appends one byte. The caller's type is wide enough for all it prints: see each alias of this type.
    pub(crate) fn push(&mut self, byte: u8) {
        debug_assert!(byte.is_ascii());
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }

    /// Appends `number` in decimal, without leading zeros.
    pub(crate) fn push_decimal(&mut self, number: u32) {
        let digits = number.checked_ilog10().unwrap_or(0) + 1;
        let mut divisor = 10_u32.pow(digits - 1);
        while divisor > 0 {
            let digit = u8::try_from(number / divisor % 10).expect("a digit is below ten");
            self.push(b'0' + digit);
            divisor /= 10;
        }
    }

    /// The bytes to put on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The same as text.
    ///
    /// # Panics
    ///
    /// Never: only ASCII is ever appended.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("only ASCII is appended")
    }
}

impl<const N: usize> Deref for InlineText<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const N: usize> AsRef<[u8]> for InlineText<N> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const N: usize> fmt::Display for InlineText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for InlineText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(number: u32) -> InlineText<10> {
        let mut text = InlineText::new();
        text.push_decimal(number);
        text
    }

    #[test]
    fn prints_decimals_without_leading_zeros() {
        for number in [0, 1, 9, 10, 11, 99, 100, 101, 99_999_999, 100_000_000, u32::MAX - 1, u32::MAX] {
            assert_eq!(decimal(number).as_str(), number.to_string());
        }
    }

    #[test]
    fn shows_itself_as_text() {
        assert_eq!(format!("{:>4}", decimal(42)), "  42");
        assert_eq!(format!("{:?}", decimal(42)), "\"42\"");
        assert_eq!(&decimal(42)[..], b"42");
        assert_eq!(decimal(42).as_ref(), b"42");
    }

    #[test]
    fn equal_texts_are_equal_values() {
        assert_eq!(decimal(7), decimal(7));
        assert_ne!(decimal(7), decimal(70));
    }
}
