//! Which metadata of a client is passed on.
//!
//! Why: what `x-forwarded-for` says is believed by backends, so a client must not say it; some servers take `x_real_ip` for
//! `x-real-ip`; and some end a connection, which many clients share, over one value that is no base64 (CVE-2023-32732).
//! Each listener says what it lets pass (`metadata` in the configuration).
//!
//! Cost: nothing for calls that have none but well-known fields, and for listeners that let everything pass. What a field
//! is, is worked out once and noted with the interned field; a call then costs a look at each note.

use core::ops::BitOr;

use evenkeel_grpc::{check_binary_values, is_forwarding_key};
use evenkeel_http2::Fields;
use evenkeel_http2::field::{Field, Name};

use super::Worker;
use super::reply::Refusal;

/// What a listener may object to in a field, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traits(u8);

impl Traits {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A proxy speaks of a call's origin, or to another proxy ([`is_forwarding_key`]).
    pub const FORWARDED: Self = Self(1);
    /// The name has a `_`.
    pub const UNDERSCORE: Self = Self(2);
    /// The name ends in `-bin`, but the value is no base64.
    pub const NOT_BASE64: Self = Self(4);

    /// In a note: the field was looked at.
    const LOOKED_AT: u64 = 1 << 8;

    /// Whether both sets have something in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What the name says.
    pub(super) fn of_name(name: &[u8]) -> Self {
        let mut traits = Self::NONE;
        if is_forwarding_key(name) {
            traits = traits | Self::FORWARDED;
        }
        if name.contains(&b'_') {
            traits = traits | Self::UNDERSCORE;
        }
        traits
    }

    fn of(field: &Field<'_>) -> Self {
        let name = Self::of_name(field.name);
        if field.binary && check_binary_values(field.value).is_err() { name | Self::NOT_BASE64 } else { name }
    }

    fn to_note(self) -> u64 {
        Self::LOOKED_AT | u64::from(self.0)
    }

    fn from_note(note: u64) -> Option<Self> {
        (note & Self::LOOKED_AT != 0).then_some(Self(note as u8))
    }
}

impl BitOr for Traits {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a listener does about such fields. Default: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MetadataRules {
    /// Fields with one of these are left out.
    pub dropped: Traits,
    /// Calls with a field that has one of these are refused.
    pub refused: Traits,
}

impl MetadataRules {
    /// What a listener does whose clients nobody vouches for, if its configuration says nothing.
    #[must_use]
    pub const fn edge() -> Self {
        Self { dropped: Traits::FORWARDED, refused: Traits::NOT_BASE64 }
    }
}

/// Names that a field can have of which one of the traits is true. All others are known, and mean no harm.
const MAY_MATTER: [Name; 4] =
    [Name::Other, Name::GrpcTraceBin, Name::GrpcTagsBin, Name::GrpcStatusDetailsBin];

impl Worker {
    /// Looks at a request's metadata with a listener's eyes; returns what is to be left out of it.
    pub(super) fn judge_metadata(&mut self, listener: u32) -> Result<Traits, Refusal> {
        let rules = self.snapshot.listeners[listener as usize].metadata;
        let concern = rules.dropped | rules.refused;
        if concern.is_empty() || !MAY_MATTER.iter().any(|name| self.fields.index.contains(*name)) {
            return Ok(Traits::NONE);
        }
        judge(rules, &mut self.fields)
    }
}

/// What these rules leave out of a header list, or why they refuse it.
pub(super) fn judge(rules: MetadataRules, fields: &mut Fields) -> Result<Traits, Refusal> {
    let found = traits(fields);
    let refused = found.both(rules.refused);
    if refused.is_empty() {
        return Ok(found.both(rules.dropped));
    }
    // INTERNAL with HTTP 400, as grpc-go's server answers metadata that it cannot decode.
    Err(Refusal::malformed(if refused.overlaps(Traits::NOT_BASE64) {
        "malformed binary metadata: the value of a field whose name ends in -bin is no base64"
    } else {
        "metadata with `_` in a name is refused here: the listener's metadata.names_with_underscore"
    }))
}

/// What all fields of the header list together are.
fn traits(fields: &mut Fields) -> Traits {
    let Fields { block, store, .. } = fields;
    let mut found = Traits::NONE;
    for at in 0..block.len() {
        let field = block.get(store, at);
        if field.name_token != Name::Other && !field.binary {
            continue;
        }
        let id = field.id;
        let noted = id.and_then(|id| Traits::from_note(store.note(id)));
        let traits = noted.unwrap_or_else(|| Traits::of(&field));
        if let (Some(id), None) = (id, noted) {
            store.set_note(id, traits.to_note());
        }
        found = found | traits;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_proxies_say_also_with_underscores() {
        let both = Traits::FORWARDED | Traits::UNDERSCORE;
        for (name, traits) in [
            ("x-forwarded-for", Traits::FORWARDED),
            ("x-envoy-attempt-count", Traits::FORWARDED),
            ("x-evenkeel-x", Traits::FORWARDED),
            ("forwarded", Traits::FORWARDED),
            ("x-real-ip", Traits::FORWARDED),
            ("x_real_ip", both),
            ("x-forwarded_for", both),
            ("x_forwarded_for", both),
            ("user_id", Traits::UNDERSCORE),
            ("x-forwarded", Traits::NONE),
            ("x-forward-for", Traits::NONE),
            ("forwarded-by", Traits::NONE),
            ("x-real-ipx", Traits::NONE),
            ("user-id", Traits::NONE),
            ("x", Traits::NONE),
        ] {
            assert_eq!(Traits::of_name(name.as_bytes()), traits, "{name}");
        }
    }

    #[test]
    fn an_interned_field_is_looked_at_once() {
        let mut fields = Fields::new(1);
        let bad = fields.store.intern(b"token-bin", b"!");
        fields.block.push_id(&mut fields.store, bad, true);
        fields.block.push_literal(b"x_y", b"1", false);
        assert_eq!(traits(&mut fields), Traits::NOT_BASE64 | Traits::UNDERSCORE);
        // Another note than the field deserves: it is believed.
        fields.store.set_note(bad, Traits::FORWARDED.to_note());
        assert_eq!(traits(&mut fields), Traits::FORWARDED | Traits::UNDERSCORE);
        fields.block.clear(&mut fields.store);
        fields.store.release(bad);
    }

    #[test]
    fn binary_values_of_known_names_are_looked_at_too() {
        for (name, value, traits_of_it) in [
            ("grpc-trace-bin", "AAAA", Traits::NONE),
            ("grpc-trace-bin", "AA=A", Traits::NOT_BASE64),
            ("k-bin", "Zg,Zm8=", Traits::NONE),
            ("k-bin", "", Traits::NONE),
            ("k-bin", "Z", Traits::NOT_BASE64),
            ("k", "Z", Traits::NONE),
        ] {
            let mut fields = Fields::new(1);
            fields.block.push_literal(name.as_bytes(), value.as_bytes(), false);
            assert_eq!(traits(&mut fields), traits_of_it, "{name}: {value}");
        }
    }
}
