//! The question: what a call is like that somebody asks about.

use core::net::IpAddr;

use axum::http::HeaderName;
use evenkeel_grpc::Path;

use crate::worker::Inquiry;

/// Metadata that one question may have: as many as a listener takes of a call by default.
pub const METADATA_MAX: usize = 100;

/// A question as it is asked: all of it text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InquiryFields {
    /// `/service/method`.
    pub method: String,
    /// Metadata, each as `name=value`.
    pub headers: Vec<String>,
    /// The authority; empty if the call has none.
    pub authority: String,
    /// The client's address.
    pub peer_ip: Option<String>,
    /// The listener's address as the configuration has it. Default: the first.
    pub listener: Option<String>,
}

/// What is wrong with a question.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// The path is none.
    #[error("method \"{path}\" is no path of a call: {problem}; write it as /package.Service/Method")]
    Method {
        /// What was given.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The metadata is none.
    #[error("header \"{header}\" {problem}; write it as name=value, for example x-user=anna")]
    Header {
        /// What was given.
        header: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// There is too much metadata.
    #[error("there are {count} headers; ask with at most {METADATA_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The address is none.
    #[error("peer-ip \"{0}\" is no IP address; write it without a port, for example 10.0.0.7")]
    PeerIp(String),
    /// What decides is the client's address.
    #[error(
        "{of} is the client's address here, and none is given; add it with --peer-ip (peer_ip), for example 10.0.0.7"
    )]
    NoPeer {
        /// What is made of it.
        of: String,
    },
    /// There is no such listener.
    #[error("there is no listener \"{name}\"; there are {}", known.join(", "))]
    NoListener {
        /// What was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
}

impl InquiryFields {
    /// The question, once all of it makes sense.
    ///
    /// # Errors
    /// [`InquiryError`]: the first thing that does not.
    pub(super) fn checked(&self) -> Result<Inquiry, InquiryError> {
        Path::parse(self.method.as_bytes()).map_err(|error| InquiryError::Method {
            path: self.method.clone(),
            problem: error.to_string(),
        })?;
        if self.headers.len() > METADATA_MAX {
            return Err(InquiryError::TooMany { count: self.headers.len() });
        }
        let metadata = self.headers.iter().map(|header| checked_header(header)).collect::<Result<_, _>>()?;
        let peer = self.peer_ip.as_ref().map(|text| text.parse::<IpAddr>().map_err(|_| text)).transpose();
        Ok(Inquiry {
            path: self.method.clone(),
            authority: self.authority.clone(),
            metadata,
            peer: peer.map_err(|text| InquiryError::PeerIp(text.clone()))?,
        })
    }
}

fn checked_header(header: &str) -> Result<(String, String), InquiryError> {
    let refused = |problem| InquiryError::Header { header: header.to_owned(), problem };
    let (name, value) = header.split_once('=').ok_or_else(|| refused("has no `=`"))?;
    if name.starts_with(':') {
        return Err(refused("is a pseudo-header: use --method and --authority"));
    }
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refused("has a name that no metadata can have"))?;
    if value.chars().any(char::is_control) {
        return Err(refused("has a control character in its value"));
    }
    Ok((name.as_str().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, headers: &[&str]) -> InquiryFields {
        let headers = headers.iter().map(|header| (*header).to_owned()).collect();
        InquiryFields { method: method.to_owned(), headers, ..InquiryFields::default() }
    }

    #[test]
    fn names_are_lower_case_and_values_may_have_anything_that_can_be_sent() {
        let found = asked("/a.B/C", &["X-User=a=b", "k="]).checked().unwrap();
        let expected = [("x-user".to_owned(), "a=b".to_owned()), ("k".to_owned(), String::new())];
        assert_eq!(found.metadata, expected);
        assert_eq!(found.peer, None);
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_write_instead() {
        let told = |fields: InquiryFields| fields.checked().unwrap_err().to_string();
        assert!(told(asked("a.B/C", &[])).ends_with("write it as /package.Service/Method"));
        assert!(told(asked("/a.B/C", &["x"])).contains("\"x\" has no `=`"));
        assert!(told(asked("/a.B/C", &["a b=c"])).contains("name that no metadata can have"));
        assert!(told(asked("/a.B/C", &[":path=c"])).contains("--method and --authority"));
        assert!(told(asked("/a.B/C", &["a=\n"])).contains("control character"));
        let peer = InquiryFields { peer_ip: Some("10.0.0.7:1".to_owned()), ..asked("/a.B/C", &[]) };
        assert!(told(peer).contains("without a port"));
        let most = vec!["a=b"; METADATA_MAX];
        assert!(asked("/a.B/C", &most).checked().is_ok());
        let more = vec!["a=b"; METADATA_MAX + 1];
        assert_eq!(asked("/a.B/C", &more).checked(), Err(InquiryError::TooMany { count: 101 }));
    }
}
