//! What one field means by itself: the rules of RFC 9113 sections 8.2.1 and 8.2.2 that need no other field.
//!
//! Names and values are held to the whole grammar of RFC 9110 (sections 5.1 and 5.5), not only to the minimum of RFC
//! 9113: some receivers refuse a control character as an error of the *connection* (the h2 crate does, as a failure
//! of HPACK), so that one client's bad field would end the calls of all others on a shared connection to a backend.

use super::Name;

/// What a field means, worked out when it is interned or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meaning {
    /// Which of the known names it has.
    pub name: Name,
    /// Why a message that contains it is malformed.
    pub fault: Option<FieldFault>,
    /// Its size by RFC 7541 section 4.1: name, value and 32 bytes.
    pub size: u32,
    /// Whether the name ends in `-bin`, so that the value is base64 in gRPC.
    pub binary: bool,
}

/// Why a message that contains a field is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FieldFault {
    /// The name is empty: it would cost memory and say nothing (CVE-2019-9516).
    #[error("a field name is empty")]
    EmptyName,
    /// The name has an uppercase letter.
    #[error("a field name has an uppercase letter")]
    UppercaseName,
    /// The name has a byte that is not allowed in one.
    #[error("a field name has a byte that is not allowed")]
    BadNameByte,
    /// The value has a control character other than the tab (NUL, CR, LF and so on), or that of a pseudo-header field
    /// anything but visible ASCII.
    #[error("a field value has a byte that is not allowed")]
    BadValueByte,
    /// The value begins or ends with a space or tab.
    #[error("a field value begins or ends with white space")]
    ValueEdgeSpace,
    /// The field belongs to HTTP/1 connections.
    #[error("a field belongs to HTTP/1 connections")]
    ConnectionSpecific,
    /// `te` says something else than `trailers`.
    #[error("te may only say trailers")]
    BadTe,
}

/// What a field's size counts beyond its name and value (RFC 7541 section 4.1).
pub(crate) const FIELD_OVERHEAD: u32 = 32;

/// Bytes that may stand in a name: the token characters of RFC 9110 section 5.6.2 without capital letters.
const NAME_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let token = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut at = 0;
    while at < token.len() {
        allowed[token[at] as usize] = true;
        at += 1;
    }
    allowed
};

impl Meaning {
    /// Works out what a field means.
    #[must_use]
    pub fn of(name: &[u8], value: &[u8]) -> Self {
        let token = Name::of(name);
        let fault = name_fault(token, name).or_else(|| value_fault(token, value));
        Self { name: token, fault, size: size(name, value), binary: name.ends_with(b"-bin") }
    }

    /// As [`Meaning::of`], for a field whose name is that of a field with this meaning: a table entry's, as a rule, whose
    /// name need not be looked at again.
    pub(crate) fn of_value(self, name: &[u8], value: &[u8]) -> Self {
        let fault = match self.fault {
            Some(FieldFault::EmptyName | FieldFault::UppercaseName | FieldFault::BadNameByte) => self.fault,
            _ => value_fault(self.name, value),
        };
        Self { fault, size: size(name, value), ..self }
    }
}

fn size(name: &[u8], value: &[u8]) -> u32 {
    u32::try_from(name.len() + value.len()).unwrap_or(u32::MAX).saturating_add(FIELD_OVERHEAD)
}

fn name_fault(token: Name, name: &[u8]) -> Option<FieldFault> {
    // Every known name is a legal one.
    if !matches!(token, Name::Other | Name::UnknownPseudo) {
        return None;
    }
    let rest = if token.is_pseudo() { &name[1..] } else { name };
    if rest.is_empty() {
        return Some(FieldFault::EmptyName);
    }
    if let Some(byte) = rest.iter().find(|byte| !NAME_BYTES[usize::from(**byte)]) {
        let upper = byte.is_ascii_uppercase();
        return Some(if upper { FieldFault::UppercaseName } else { FieldFault::BadNameByte });
    }
    None
}

fn value_fault(token: Name, value: &[u8]) -> Option<FieldFault> {
    // No early exit: the loop is then done many bytes at a time.
    if value.iter().fold(false, |bad, &byte| bad | (byte < b' ' && byte != b'\t') | (byte == 0x7f)) {
        return Some(FieldFault::BadValueByte);
    }
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if space(value.first()) || space(value.last()) {
        return Some(FieldFault::ValueEdgeSpace);
    }
    // Methods, schemes, hosts, paths and statuses are ASCII without spaces (RFC 9110 section 9.1, RFC 3986 section 2).
    if token.is_pseudo() && !value.iter().all(u8::is_ascii_graphic) {
        return Some(FieldFault::BadValueByte);
    }
    match token {
        Name::Connection
        | Name::ProxyConnection
        | Name::KeepAlive
        | Name::Upgrade
        | Name::TransferEncoding => Some(FieldFault::ConnectionSpecific),
        Name::Te if value != b"trailers" => Some(FieldFault::BadTe),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_fault() {
        let fault = |name: &[u8], value: &[u8]| Meaning::of(name, value).fault;
        assert_eq!(fault(b"x-a", b"b"), None);
        assert_eq!(fault(b"x-a", b""), None);
        assert_eq!(fault(b"", b"b"), Some(FieldFault::EmptyName));
        assert_eq!(fault(b":", b"b"), Some(FieldFault::EmptyName));
        assert_eq!(fault(b"x-A", b"b"), Some(FieldFault::UppercaseName));
        assert_eq!(fault(b"x a", b"b"), Some(FieldFault::BadNameByte));
        assert_eq!(fault(b"x:a", b"b"), Some(FieldFault::BadNameByte));
        assert_eq!(fault(b"x\x80", b"b"), Some(FieldFault::BadNameByte));
        assert_eq!(fault(b"x", b"a\nb"), Some(FieldFault::BadValueByte));
        assert_eq!(fault(b"x", b"a\0b"), Some(FieldFault::BadValueByte));
        assert_eq!(fault(b"x", b"a\rb"), Some(FieldFault::BadValueByte));
        assert_eq!(fault(b"x", b"a\x1fb"), Some(FieldFault::BadValueByte));
        assert_eq!(fault(b"x", b"a\x7fb"), Some(FieldFault::BadValueByte));
        assert_eq!(fault(b"x", b"a\tb ~\x80\xff"), None);
        assert_eq!(fault(b":path", b"/a/b?c={~}"), None);
        assert_eq!(fault(b":path", b"/a b"), Some(FieldFault::BadValueByte));
        assert_eq!(fault(b":authority", b"\xc3\xa4.example"), Some(FieldFault::BadValueByte));
        assert_eq!(fault(b"x", b" a"), Some(FieldFault::ValueEdgeSpace));
        assert_eq!(fault(b"x", b"a\t"), Some(FieldFault::ValueEdgeSpace));
        assert_eq!(fault(b"upgrade", b"h2c"), Some(FieldFault::ConnectionSpecific));
        assert_eq!(fault(b"te", b"trailers"), None);
        assert_eq!(fault(b"te", b"gzip"), Some(FieldFault::BadTe));
    }

    #[test]
    fn sizes_follow_the_rfc() {
        assert_eq!(Meaning::of(b"custom-key", b"custom-header").size, 55);
        assert!(Meaning::of(b"x-bin", b"").binary && !Meaning::of(b"x-binx", b"").binary);
    }
}
