//! Messages: which header lists make a valid request, response or trailer section (RFC 9113 sections 8.1 to 8.3).
//!
//! One pass over a decoded block checks it and notes where each known field stands ([`FieldIndex`]), so that whoever
//! routes the message does not search again. What a single field means and whether it is legal was worked out when
//! the field was interned ([`crate::field::Meaning`]); here only the rules between fields remain.

use crate::error::Violation;
use crate::field::{FieldBlock, FieldStore, Name};

/// Why every position has two bytes: a field takes one encoded byte at least, and a block has
/// [`HEADER_BLOCK_BYTES_MAX`](crate::limits::HEADER_BLOCK_BYTES_MAX) of them at most.
const FIELDS_FIT: &str = "a header block of 32 KiB has fewer than 65 535 fields";

/// Where each known field stands in a block: the first of each name.
#[derive(Clone, Debug)]
pub struct FieldIndex {
    at: [u16; Self::NAMES],
}

impl FieldIndex {
    const NAMES: usize = Name::Other as usize + 1;
    const ABSENT: u16 = u16::MAX;

    /// The position of the first field with this name.
    #[inline]
    #[must_use]
    pub fn position(&self, name: Name) -> Option<usize> {
        let at = self.at[name as usize];
        (at != Self::ABSENT).then_some(usize::from(at))
    }

    /// Whether a field with this name is there.
    #[inline]
    #[must_use]
    pub fn contains(&self, name: Name) -> bool {
        self.at[name as usize] != Self::ABSENT
    }

    /// Notes a position; the first one stays.
    #[inline]
    fn note(&mut self, name: Name, position: usize) {
        let at = &mut self.at[name as usize];
        if *at == Self::ABSENT {
            *at = u16::try_from(position).ok().filter(|at| *at != Self::ABSENT).expect(FIELDS_FIT);
        }
    }
}

impl Default for FieldIndex {
    fn default() -> Self {
        Self { at: [Self::ABSENT; Self::NAMES] }
    }
}

/// What kind of header section a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// A request's header section.
    Request,
    /// A response's header section, informational or final.
    Response,
    /// A trailer section.
    Trailers,
}

/// What the check of a header section found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// The value of content-length.
    pub content_length: Option<u64>,
    /// The value of :status in a response.
    pub status: u16,
}

/// Checks a header section and fills `index`.
///
/// # Panics
/// If `block` has more than 65 534 fields, which no block of a connection can have.
///
/// # Errors
/// [`Violation::MalformedMessage`] where RFC 9113 sections 8.2 and 8.3 call the message malformed. Both `:authority`
/// and a different `host` are malformed too, and so are two `host` fields: two components that each believe another one are
/// how requests are smuggled (RFC 9110 section 7.2; gRFC A41 only says that `host` is dropped beside `:authority`).
pub fn check(
    section: Section,
    store: &FieldStore,
    block: &FieldBlock,
    index: &mut FieldIndex,
) -> Result<Head, Violation> {
    *index = FieldIndex::default();
    let mut head = Head::default();
    let mut regular = false;
    for (position, (name, fault)) in block.names(store).enumerate() {
        if fault.is_some() {
            return Err(Violation::MalformedMessage);
        }
        if name.is_pseudo() {
            let allowed = match section {
                Section::Request => {
                    matches!(name, Name::Method | Name::Scheme | Name::Authority | Name::Path)
                }
                Section::Response => name == Name::Status,
                Section::Trailers => false,
            };
            if regular || !allowed || index.contains(name) {
                return Err(Violation::MalformedMessage);
            }
        } else {
            regular = true;
            if name == Name::Host && index.contains(name) {
                return Err(Violation::MalformedMessage);
            }
            if name == Name::ContentLength {
                let length = parse_content_length(block.get(store, position).value)?;
                if head.content_length.is_some_and(|other| other != length) {
                    return Err(Violation::MalformedMessage);
                }
                head.content_length = Some(length);
            }
        }
        index.note(name, position);
    }
    match section {
        Section::Request => check_request(store, block, index)?,
        Section::Response => {
            let status = index.position(Name::Status).ok_or(Violation::MalformedMessage)?;
            head.status = parse_status(block.get(store, status).value)?;
        }
        Section::Trailers => {}
    }
    Ok(head)
}

fn check_request(store: &FieldStore, block: &FieldBlock, index: &FieldIndex) -> Result<(), Violation> {
    let value = |name| index.position(name).map(|at| block.get(store, at).value);
    let method = value(Name::Method).ok_or(Violation::MalformedMessage)?;
    let complete = if method == b"CONNECT" {
        index.contains(Name::Authority) && !index.contains(Name::Scheme) && !index.contains(Name::Path)
    } else {
        index.contains(Name::Scheme) && value(Name::Path).is_some_and(|path| !path.is_empty())
    };
    if !complete {
        return Err(Violation::MalformedMessage);
    }
    match (value(Name::Authority), value(Name::Host)) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Violation::MalformedMessage)
        }
        _ => Ok(()),
    }
}

fn parse_content_length(value: &[u8]) -> Result<u64, Violation> {
    if value.is_empty() || value.len() > 19 {
        return Err(Violation::MalformedMessage);
    }
    value.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => Ok(sum * 10 + u64::from(byte - b'0')),
        _ => Err(Violation::MalformedMessage),
    })
}

fn parse_status(value: &[u8]) -> Result<u16, Violation> {
    match value {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => Err(Violation::MalformedMessage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[(&str, &str)] =
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

    fn checked(section: Section, fields: &[(&str, &str)]) -> Result<Head, Violation> {
        let mut store = FieldStore::new(1);
        let mut block = FieldBlock::new();
        for (name, value) in fields {
            block.push_literal(name.as_bytes(), value.as_bytes(), false);
        }
        let mut index = FieldIndex::default();
        let result = check(section, &store, &block, &mut index);
        block.clear(&mut store);
        result
    }

    fn with(extra: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        GET.iter().copied().chain(extra.iter().copied()).collect()
    }

    #[test]
    fn a_request_needs_method_scheme_and_path_once_each() {
        assert_eq!(checked(Section::Request, GET), Ok(Head::default()));
        for (missing, &field) in GET.iter().enumerate().take(3) {
            let mut fields = GET.to_vec();
            fields.remove(missing);
            assert_eq!(checked(Section::Request, &fields), Err(Violation::MalformedMessage), "{field:?}");
            let twice = with(&[field]);
            assert_eq!(checked(Section::Request, &twice), Err(Violation::MalformedMessage), "{field:?}");
        }
        let mut empty_path = GET.to_vec();
        empty_path[2].1 = "";
        assert_eq!(checked(Section::Request, &empty_path), Err(Violation::MalformedMessage));
    }

    #[test]
    fn pseudo_fields_come_first_and_only_where_they_belong() {
        let late = [GET[0], GET[1], ("te", "trailers"), GET[2]];
        assert_eq!(checked(Section::Request, &late), Err(Violation::MalformedMessage));
        assert_eq!(checked(Section::Request, &with(&[(":status", "200")])), Err(Violation::MalformedMessage));
        assert_eq!(checked(Section::Request, &with(&[(":unknown", "1")])), Err(Violation::MalformedMessage));
        assert_eq!(checked(Section::Trailers, &[(":status", "200")]), Err(Violation::MalformedMessage));
        assert_eq!(checked(Section::Trailers, &[("grpc-status", "0")]), Ok(Head::default()));
    }

    #[test]
    fn a_response_needs_a_status_of_three_digits() {
        let status = |value| checked(Section::Response, &[(":status", value)]).map(|head| head.status);
        assert_eq!(status("200"), Ok(200));
        assert_eq!(status("999"), Ok(999));
        for wrong in ["", "20", "2000", "099", "2x0", " 200"] {
            assert_eq!(status(wrong), Err(Violation::MalformedMessage), "{wrong:?}");
        }
        assert_eq!(checked(Section::Response, &[]), Err(Violation::MalformedMessage));
    }

    #[test]
    fn authority_and_host_must_agree() {
        assert!(checked(Section::Request, &with(&[("host", "A")])).is_ok());
        assert_eq!(checked(Section::Request, &with(&[("host", "b")])), Err(Violation::MalformedMessage));
        assert!(checked(Section::Request, &[GET[0], GET[1], GET[2], ("host", "b")]).is_ok());
    }

    #[test]
    fn a_second_host_is_malformed_whatever_it_says() {
        for second in ["b", "c"] {
            let alone = [GET[0], GET[1], GET[2], ("host", "b"), ("host", second)];
            assert_eq!(checked(Section::Request, &alone), Err(Violation::MalformedMessage), "{second}");
            let beside = with(&[("host", "a"), ("host", second)]);
            assert_eq!(checked(Section::Request, &beside), Err(Violation::MalformedMessage), "{second}");
        }
    }

    #[test]
    fn content_lengths_must_be_numbers_and_agree() {
        let length = |values: &[&'static str]| {
            let extra: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            checked(Section::Request, &with(&extra)).map(|head| head.content_length)
        };
        assert_eq!(length(&["0"]), Ok(Some(0)));
        assert_eq!(length(&["9999999999999999999"]), Ok(Some(9_999_999_999_999_999_999)));
        assert_eq!(length(&["7", "7"]), Ok(Some(7)));
        for wrong in [&["7", "8"][..], &[""], &["+7"], &["-1"], &["10000000000000000000"], &["7, 7"]] {
            assert_eq!(length(wrong), Err(Violation::MalformedMessage), "{wrong:?}");
        }
    }

    #[test]
    fn connection_specific_fields_and_uppercase_names_are_malformed() {
        for field in
            [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("X-Up", "1")]
        {
            assert_eq!(
                checked(Section::Request, &with(&[field])),
                Err(Violation::MalformedMessage),
                "{field:?}"
            );
        }
    }

    #[test]
    fn connect_has_only_an_authority() {
        assert!(checked(Section::Request, &[(":method", "CONNECT"), (":authority", "a:1")]).is_ok());
        let with_path = [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")];
        assert_eq!(checked(Section::Request, &with_path), Err(Violation::MalformedMessage));
    }
}
