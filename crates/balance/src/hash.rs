//! The hash of a call's session-affinity key.
//!
//! Why: calls with the same key are to meet the same endpoint. What the key is, a list says: metadata, the client's
//! address, a cookie, in an order, each of them missing from some calls.
//!
//! Rule, that of Envoy's `hash_policy` and of gRFC A42:
//! - Each part is hashed alone, with XXH64 and the seed 0; a part that the call does not have is passed over.
//! - The parts' hashes are joined one after the other: the result so far, rotated left by one bit, exclusive or the part's.
//!   The rotation keeps two equal parts from cancelling each other out, and makes the order matter.
//! - After a *terminal* part the rest is passed over if there is a hash by then: "this header, or else the address".
//! - Without any part there is no hash: the call may go anywhere.
//!
//! Several values of one header are hashed joined by commas, in their order, as in gRPC: RFC 9110 (5.3) makes no
//! difference between that and one field with a list. Envoy sorts them, and joins them by nothing. One value alone, the
//! usual case, is the same everywhere.
//!
//! Not a defence: XXH64 has no secret, so who chooses keys can choose keys that meet. Where keys come from strangers, a
//! [bounded load](crate::Affinity::Bounded) caps what that can do.

use core::fmt::Write as _;
use core::hash::Hasher as _;
use core::net::IpAddr;

use twox_hash::XxHash64;

/// Hashes bytes as every part of a key is hashed: XXH64 with the seed 0.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// One part of a session-affinity key, as this call has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyPart {
    hash: Option<u64>,
    terminal: bool,
}

impl KeyPart {
    /// The values of a metadata key, in the order in which they came. Without a value, or with nothing but an empty one, the call
    /// lacks this part: "no value or an empty value" (gRFC A76), so that calls without an identity do not meet one endpoint.
    ///
    /// Binary metadata (`-bin`) must not be used: gRPC refuses it as it may come in two encodings (gRFC A42).
    #[must_use]
    pub fn metadata<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = XxHash64::with_seed(0);
        let mut len = 0;
        for (index, value) in values.into_iter().enumerate() {
            let separator: &[u8] = if index > 0 { b"," } else { b"" };
            hasher.write(separator);
            hasher.write(value);
            // What two empty values make is a comma, and that is a value.
            len += separator.len() + value.len();
        }
        Self::new((len > 0).then(|| hasher.finish()))
    }

    /// The value of a cookie, searched for in the values of the `cookie` field, of which HTTP/2 may have several
    /// (RFC 9113, 8.2.3). The first of that name counts, without quotes around it. An empty value counts as none.
    #[must_use]
    pub fn cookie<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Self {
        let value = fields.into_iter().find_map(|field| cookie_value(field, name));
        Self::new(value.filter(|value| !value.is_empty()).map(hash_bytes))
    }

    /// The client's IP address, without the port; `None` where it has none, as over a Unix domain socket.
    ///
    /// Hashed in its text form. An IPv4 address mapped into IPv6 is taken for what it is, so that one client is one
    /// client however the listener is bound.
    #[must_use]
    pub fn source_ip(address: Option<IpAddr>) -> Self {
        Self::new(address.map(|address| {
            let mut hasher = TextHasher(XxHash64::with_seed(0));
            write!(hasher, "{}", address.to_canonical()).expect("hashing takes any text");
            hasher.0.finish()
        }))
    }

    /// Anything else that was hashed already; `None` if the call lacks it.
    #[must_use]
    pub fn new(hash: Option<u64>) -> Self {
        Self { hash, terminal: false }
    }

    /// Makes the parts behind this one matter only for calls without any part so far.
    #[must_use]
    pub fn terminal(self) -> Self {
        Self { terminal: true, ..self }
    }
}

/// The hash of the key that these parts make; `None` if the call has none of them. Parts behind a terminal one are not
/// asked for once there is a hash.
#[must_use]
pub fn hash_of(parts: impl IntoIterator<Item = KeyPart>) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for part in parts {
        if let Some(new) = part.hash {
            hash = Some(hash.unwrap_or(0).rotate_left(1) ^ new);
        }
        if part.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

/// The value of a cookie in the value of one `cookie` field, without quotes around it; `None` if it is not there.
#[must_use]
pub fn cookie_value<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    field.split(|byte| *byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (found == name).then_some(unquoted.unwrap_or(value))
    })
}

/// Hashes text as it is written, without a buffer.
struct TextHasher(XxHash64);

impl core::fmt::Write for TextHasher {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Scrambles a hash: SplitMix64's output function (Steele, Lea and Flood 2014), a bijection.
pub(crate) fn mix(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<'a>(values: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
        values.iter().map(|value| value.as_bytes())
    }

    fn metadata(of: &[&str]) -> KeyPart {
        KeyPart::metadata(values(of))
    }

    fn cookie(fields: &[&str], name: &str) -> KeyPart {
        KeyPart::cookie(values(fields), name.as_bytes())
    }

    fn hash(text: &str) -> KeyPart {
        KeyPart::new(Some(hash_bytes(text.as_bytes())))
    }

    #[test]
    fn is_xxh64() {
        // The specification's sanity checks: nothing, one word, more than a lane of 32 bytes.
        assert_eq!(hash_bytes(b""), 0xef46_db37_51d8_e999);
        assert_eq!(hash_bytes(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(hash_bytes(b"as"), 0x1c33_0fb2_d66b_e179);
        assert_eq!(hash_bytes(b"asd"), 0x631c_37ce_72a9_7393);
        assert_eq!(hash_bytes(b"asdf"), 0x4158_72f5_99ce_a71e);
        let long = b"Call me Ishmael. Some years ago--never mind how long precisely-";
        assert_eq!(hash_bytes(long), 0x02a2_e854_70d6_fd96);
    }

    #[test]
    fn several_values_are_one_list() {
        assert_eq!(metadata(&["one"]), hash("one"));
        assert_eq!(metadata(&["one", "two"]), hash("one,two"));
        assert_ne!(metadata(&["one", "two"]), metadata(&["two", "one"]));
        assert_eq!(metadata(&["", ""]), hash(","));
        assert_eq!(metadata(&["", "one"]), hash(",one"));
    }

    #[test]
    fn an_empty_value_is_none() {
        for values in [&[][..], &[""]] {
            assert_eq!(metadata(values), KeyPart::new(None), "{values:?}");
        }
    }

    #[test]
    fn finds_a_cookie_among_others() {
        for fields in [
            &["sid=abc"][..],
            &["a=1; sid=abc; b=2"],
            &["a=1", "sid=\"abc\"; sid=second"],
            &["xsid=no;sid=abc"],
            &[" sid = abc "],
        ] {
            assert_eq!(cookie(fields, "sid"), hash("abc"), "{fields:?}");
        }
        assert_eq!(cookie(&["sid=a=b"], "sid"), hash("a=b"));
        for fields in [&[][..], &["a=1"], &["sid="], &["sid=\"\""], &["sid"], &["SID=abc"], &[";;="]] {
            assert_eq!(cookie(fields, "sid"), KeyPart::new(None), "{fields:?}");
        }
    }

    #[test]
    fn an_address_is_hashed_as_text_and_a_mapped_one_as_what_it_is() {
        let ip = |text: &str| KeyPart::source_ip(Some(text.parse().unwrap()));
        assert_eq!(ip("10.1.2.3"), hash("10.1.2.3"));
        assert_eq!(ip("::ffff:10.1.2.3"), hash("10.1.2.3"));
        assert_eq!(ip("2001:db8::1"), hash("2001:db8::1"));
        assert_eq!(KeyPart::source_ip(None), KeyPart::new(None));
    }

    #[test]
    fn parts_are_joined_in_their_order() {
        let part = |hash| KeyPart::new(Some(hash));
        assert_eq!(hash_of([]), None);
        assert_eq!(hash_of([KeyPart::new(None)]), None);
        assert_eq!(hash_of([part(5)]), Some(5));
        assert_eq!(hash_of([part(5), KeyPart::new(None)]), Some(5));
        assert_eq!(hash_of([part(5), part(3)]), Some(0b1010 ^ 3));
        assert_eq!(hash_of([part(3), part(5)]), Some(0b110 ^ 5));
        assert_eq!(hash_of([part(1 << 63), part(0)]), Some(1), "the rotation loses nothing");
        assert_ne!(hash_of([part(5), part(5)]), Some(0), "equal parts do not cancel each other out");
    }

    #[test]
    fn a_terminal_part_ends_the_list_once_there_is_a_hash() {
        let part = |hash| KeyPart::new(Some(hash));
        assert_eq!(hash_of([part(5).terminal(), part(3)]), Some(5));
        assert_eq!(hash_of([KeyPart::new(None).terminal(), part(3)]), Some(3));
        // As in Envoy: the terminal part need not be the one that made the hash.
        assert_eq!(hash_of([part(5), KeyPart::new(None).terminal(), part(3)]), Some(5));
        let mut asked = 0;
        let parts = [part(5).terminal(), part(3)].into_iter().inspect(|_| asked += 1);
        assert_eq!((hash_of(parts), asked), (Some(5), 1), "what is not needed is not looked for");
    }
}
