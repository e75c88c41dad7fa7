//! Sets of gRPC status codes.

use evenkeel_grpc::Code;

/// A set of status codes; OK is never in one, since nothing has to be done about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CodeSet(u32);

impl CodeSet {
    /// No code.
    pub const EMPTY: Self = Self(0);

    /// The set of these codes; [`Code::Ok`] is left out.
    #[must_use]
    pub const fn of(codes: &[Code]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < codes.len() {
            bits |= 1 << codes[at] as u32;
            at += 1;
        }
        Self(bits & !(1 << Code::Ok as u32))
    }

    /// Whether the code is in the set.
    #[must_use]
    pub const fn contains(self, code: Code) -> bool {
        self.0 & (1 << code as u32) != 0
    }

    /// Whether no code is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_what_it_was_made_of_and_never_ok() {
        let set = CodeSet::of(&[Code::Ok, Code::Unavailable, Code::Aborted]);
        for code in Code::ALL {
            assert_eq!(set.contains(code), matches!(code, Code::Unavailable | Code::Aborted), "{code:?}");
            assert!(!CodeSet::EMPTY.contains(code));
        }
        assert!(!set.is_empty());
        assert_eq!(CodeSet::of(&[Code::Ok]), CodeSet::EMPTY);
    }
}
