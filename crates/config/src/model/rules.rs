//! Which metadata of a listener's clients is passed on.

use evenkeel_grpc::is_forwarding_key;
use serde::Serialize;

use super::Profile;

/// Which metadata of a listener's clients is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct MetadataRules {
    /// What proxies say of a call's origin, and to each other. Edge strip, mesh keep.
    pub forwarded: Forwarded,
    /// Names with `_`. Default allow.
    pub names_with_underscore: NamesWithUnderscore,
    /// Values of fields whose name ends in `-bin`. Edge check, mesh pass.
    pub binary_values: BinaryValues,
}

impl MetadataRules {
    /// Everything is passed on.
    pub(crate) const NONE: Self = Self {
        forwarded: Forwarded::Keep,
        names_with_underscore: NamesWithUnderscore::Allow,
        binary_values: BinaryValues::Pass,
    };

    /// What both listeners do about the names of fields.
    pub(crate) fn both(self, other: Self) -> Self {
        let forwarded = if self.forwarded == other.forwarded { self.forwarded } else { Forwarded::Keep };
        let is_allowed =
            [self, other].iter().any(|rules| rules.names_with_underscore == NamesWithUnderscore::Allow);
        let names_with_underscore =
            if is_allowed { NamesWithUnderscore::Allow } else { self.names_with_underscore };
        Self { forwarded, names_with_underscore, ..self }
    }

    /// Why no call has a field of this name, given in lower case, once it has passed a listener with these rules; `None` if calls
    /// may have it.
    pub(crate) fn why_hidden(self, name: &str) -> Option<&'static str> {
        match self.names_with_underscore {
            _ if self.forwarded == Forwarded::Strip && is_forwarding_key(name.as_bytes()) => {
                Some("`metadata.forwarded: strip`, which `edge` has by default, leaves it out")
            }
            NamesWithUnderscore::Reject if name.contains('_') => {
                Some("`metadata.names_with_underscore: reject` refuses the calls that have it")
            }
            NamesWithUnderscore::Drop if name.contains('_') => {
                Some("`metadata.names_with_underscore: drop` leaves it out")
            }
            _ => None,
        }
    }

    /// The defaults of a profile.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        let (forwarded, binary_values) = match profile {
            Profile::Edge => (Forwarded::Strip, BinaryValues::Check),
            Profile::Mesh => (Forwarded::Keep, BinaryValues::Pass),
        };
        Self { forwarded, names_with_underscore: NamesWithUnderscore::Allow, binary_values }
    }
}

/// Declares a choice between words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$word_meta])* $word,)*
        }

        impl $name {
            pub(crate) const NAMES: &'static [&'static str] = &[$($text),*];

            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$word),)*
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// What becomes of fields in which proxies speak of a call's origin: `forwarded` (RFC 7239), `x-forwarded-...`,
    /// `x-real-ip`, `x-envoy-...` and `x-evenkeel-...`. Backends believe them, so only proxies may say them.
    Forwarded {
        /// They are left out: the clients are no proxies.
        Strip = "strip",
        /// They are passed on: a proxy in front of this one says them.
        Keep = "keep",
    }
}

words! {
    /// What becomes of names with `_`: servers that hand metadata on as CGI variables take `x_real_ip` for `x-real-ip`.
    NamesWithUnderscore {
        /// They are passed on.
        Allow = "allow",
        /// The call is refused.
        Reject = "reject",
        /// The fields are left out.
        Drop = "drop",
    }
}

words! {
    /// What becomes of fields whose name ends in `-bin`: some servers end the whole connection, which many clients share,
    /// over a value that is no base64 (CVE-2023-32732).
    BinaryValues {
        /// A call with a value that is no base64 is refused.
        Check = "check",
        /// They are passed on unseen.
        Pass = "pass",
    }
}
