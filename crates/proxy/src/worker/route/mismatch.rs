//! Why a route does not take a call: the first of its conditions that does not hold.

use core::fmt;

use super::metadata::{MetadataMatch, ValueMatch};
use super::{Asked, PathMatch, RouteMatch, same_authority};

/// The first condition of a route that does not hold for a call, as a sentence.
#[derive(Clone, Copy, Debug)]
pub enum Mismatch<'a> {
    /// The path is another.
    Path(&'a PathMatch),
    /// The authority is none of these.
    Authority(&'a [Box<str>]),
    /// The metadata is not like this.
    Metadata(&'a MetadataMatch),
}

impl RouteMatch {
    /// The first condition that does not hold; `None` if the route takes the call.
    #[inline]
    #[must_use]
    pub fn mismatch(&self, asked: &Asked<'_>) -> Option<Mismatch<'_>> {
        if !self.path.accepts(asked) {
            return Some(Mismatch::Path(&self.path));
        }
        let mut authorities = self.authorities.iter();
        let accepts = authorities.any(|wanted| same_authority(wanted, asked.authority));
        if !self.authorities.is_empty() && !accepts {
            return Some(Mismatch::Authority(&self.authorities));
        }
        self.metadata.iter().find(|condition| !condition.holds(asked.fields)).map(Mismatch::Metadata)
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{path}"),
            Self::Authority([only]) => write!(f, "the authority is not {only}"),
            Self::Authority(wanted) => {
                write!(f, "the authority is none of {}", wanted.join(", "))
            }
            Self::Metadata(condition) => write!(f, "{condition}"),
        }
    }
}

/// What it says where the condition does not hold.
impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any path fits"),
            Self::Service(service) => write!(f, "the service is not {service}"),
            Self::ServicePrefix(prefix) => write!(f, "the service does not begin with {prefix}"),
            Self::Method { service, method } => write!(f, "the method is not /{service}/{method}"),
            Self::MethodPrefix { service, prefix } => {
                write!(f, "the method does not begin with /{service}/{prefix}")
            }
            Self::Regex(regex) => write!(f, "the path does not fit {regex}"),
        }
    }
}

/// What it says where the condition does not hold.
impl fmt::Display for MetadataMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = text(&self.name);
        let (is, has) = if self.invert { ("is", "is there") } else { ("is not", "is missing") };
        match &self.value {
            ValueMatch::Present => write!(f, "metadata {name} {has}"),
            ValueMatch::Exact(value) => write!(f, "metadata {name} {is} {:?}", text(value)),
            ValueMatch::Prefix(value) => {
                let begins = if self.invert { "begins" } else { "does not begin" };
                write!(f, "metadata {name} {begins} with {:?}", text(value))
            }
            ValueMatch::Regex(regex) => {
                let fits = if self.invert { "fits" } else { "does not fit" };
                write!(f, "metadata {name} {fits} {regex}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;

    #[test]
    fn every_condition_says_what_it_wanted() {
        let condition = |value, invert| MetadataMatch { name: b"x-user"[..].into(), value, invert };
        let told = |value: ValueMatch, invert| Mismatch::Metadata(&condition(value, invert)).to_string();
        let bytes = |text: &str| text.as_bytes().into();
        assert_eq!(told(ValueMatch::Present, false), "metadata x-user is missing");
        assert_eq!(told(ValueMatch::Present, true), "metadata x-user is there");
        assert_eq!(told(ValueMatch::Exact(bytes("a")), false), "metadata x-user is not \"a\"");
        assert_eq!(told(ValueMatch::Prefix(bytes("a")), true), "metadata x-user begins with \"a\"");
        let regex = ValueMatch::Regex(Regex::new("^(?:a+)$").unwrap());
        assert_eq!(told(regex, false), "metadata x-user does not fit ^(?:a+)$");
        let path = PathMatch::Method { service: "a.B".into(), method: "Get".into() };
        assert_eq!(Mismatch::Path(&path).to_string(), "the method is not /a.B/Get");
        let hosts = ["a".into(), "b:1".into()];
        assert_eq!(Mismatch::Authority(&hosts).to_string(), "the authority is none of a, b:1");
        assert_eq!(Mismatch::Authority(&hosts[..1]).to_string(), "the authority is not a");
    }
}
