//! `--zone`: where a proxy runs, as the command line says it, in place of the file's `node`.
//!
//! Why: one file serves all proxies, and only the machine that one runs on knows its zone. A deployment hands it over as an
//! argument, as from `topology.kubernetes.io/zone`.

use core::fmt::{self, Display, Formatter};
use core::str::FromStr;

use crate::bounds::MAX_NAME_CHARS;
use crate::errors::{Span, quoted};
use crate::raw::{At, Field, Off, RawConfig, RawLocality, Text};

/// A zone, with its region or without it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    /// `None`: the one of the file's `node`, if it has one.
    region: Option<String>,
    zone: String,
    /// Empty: not known.
    sub_zone: String,
}

/// Text that names no zone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{} names no zone; write ZONE, REGION/ZONE or REGION/ZONE/SUB_ZONE, each of 1 to 128 letters, digits, `-`, `_` and dots",
    quoted(.text)
)]
pub struct ZoneError {
    text: String,
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_name = |part: &&str| (1..=MAX_NAME_CHARS).contains(&part.len()) && part.bytes().all(is_letter);
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_name) {
            return Err(ZoneError { text: text.to_owned() });
        }
        let (region, zone, sub_zone) = match parts[..] {
            [zone] => (None, zone, ""),
            [region, zone] => (Some(region), zone, ""),
            [region, zone, sub_zone] => (Some(region), zone, sub_zone),
            _ => return Err(ZoneError { text: text.to_owned() }),
        };
        Ok(Self { region: region.map(str::to_owned), zone: zone.to_owned(), sub_zone: sub_zone.to_owned() })
    }
}

/// The text that it is read from.
impl Display for Zone {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if let Some(region) = &self.region {
            write!(formatter, "{region}/")?;
        }
        formatter.write_str(&self.zone)?;
        if self.sub_zone.is_empty() { Ok(()) } else { write!(formatter, "/{}", self.sub_zone) }
    }
}

impl Zone {
    /// Lets a configuration be that of a proxy in this zone.
    pub(crate) fn place(&self, config: &mut RawConfig) {
        let written = match config.node.given() {
            Some(At { value: Off::On(written), .. }) => written.region.given(),
            _ => None,
        };
        let region = match (&self.region, written) {
            (Some(region), _) => text(region),
            (None, Some(written)) => given(written.value.clone(), written.span),
            (None, None) => Field::Absent,
        };
        let place = RawLocality { region, zone: text(&self.zone), sub_zone: text(&self.sub_zone) };
        config.node = given(Off::On(place), Span::default());
    }
}

fn text(text: &str) -> Field<Text> {
    given(Text(text.to_owned()), Span::default())
}

fn given<T>(value: T, span: Span) -> Field<T> {
    Field::Given { key: span, value: At { value, span, is_whole: true } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_written_as_it_is_read() {
        for text in ["eu-a", "eu/eu-a", "eu/eu-a/rack_1.b", &"z".repeat(128)] {
            assert_eq!(text.parse::<Zone>().unwrap().to_string(), text);
        }
        for text in ["", "/", "eu/", "/eu-a", "a/b/c/d", "eu a", "eu,a", &"z".repeat(129)] {
            let error = text.parse::<Zone>().unwrap_err().to_string();
            assert!(error.contains("REGION/ZONE"), "{text}: {error}");
        }
    }
}
