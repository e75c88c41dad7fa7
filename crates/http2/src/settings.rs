//! SETTINGS: what each side tells the other it will accept (RFC 9113 section 6.5).

use crate::error::Violation;
use crate::frame::{MAX_FRAME_SIZE, MAX_FRAME_SIZE_LIMIT};
use crate::limits::SETTINGS_ENTRIES_MAX;

/// Setting identifiers of RFC 9113 section 6.5.2 and RFC 9218.
pub mod id {
    /// SETTINGS_HEADER_TABLE_SIZE.
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// SETTINGS_ENABLE_PUSH.
    pub const ENABLE_PUSH: u16 = 0x2;
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// SETTINGS_MAX_FRAME_SIZE.
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// SETTINGS_MAX_HEADER_LIST_SIZE.
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218 section 2.1).
    pub const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

/// The flow-control window with which streams and connections begin (RFC 9113 section 6.9.2).
pub const INITIAL_WINDOW: u32 = 65_535;

/// What the peer's SETTINGS say; initial values are those of RFC 9113 section 6.5.2.
///
/// SETTINGS_MAX_HEADER_LIST_SIZE is read and kept out: it is advisory, and a peer that sets it to 1 would make
/// every response fail after the work was done (CVE-2026-50560).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerSettings {
    /// The table that the peer's HPACK decoder offers, in bytes.
    pub header_table_bytes: u32,
    /// Streams that the peer allows this side to open. Unlimited until it says so.
    pub max_concurrent_streams: u32,
    /// The send window with which each stream starts.
    pub initial_window: u32,
    /// The largest frame payload that the peer accepts.
    pub max_frame_size: u32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            header_table_bytes: 4096,
            max_concurrent_streams: u32::MAX,
            initial_window: INITIAL_WINDOW,
            max_frame_size: MAX_FRAME_SIZE,
        }
    }
}

impl PeerSettings {
    /// Applies a SETTINGS payload, entry by entry and in order; `self` is unchanged if any entry is refused.
    ///
    /// `to_client` says that a server sent them, which may not enable push (RFC 9113 section 6.5.2). Returns the smallest
    /// SETTINGS_HEADER_TABLE_SIZE among them, if there is one: the encoder must tell it beside the last (RFC 7541 section 4.2).
    ///
    /// # Errors
    /// The violation of the first entry that is out of range, or [`Violation::SettingEntries`].
    pub fn apply(&mut self, payload: &[u8], to_client: bool) -> Result<Option<u32>, Violation> {
        if payload.len() / 6 > SETTINGS_ENTRIES_MAX {
            return Err(Violation::SettingEntries);
        }
        let mut next = *self;
        let mut smallest_table: Option<u32> = None;
        for entry in payload.chunks_exact(6) {
            let setting = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match setting {
                id::HEADER_TABLE_SIZE => {
                    next.header_table_bytes = value;
                    smallest_table = Some(smallest_table.map_or(value, |other| other.min(value)));
                }
                id::ENABLE_PUSH if value > 1 || (to_client && value == 1) => {
                    return Err(Violation::SettingValue);
                }
                id::MAX_CONCURRENT_STREAMS => next.max_concurrent_streams = value,
                id::INITIAL_WINDOW_SIZE if value > 0x7fff_ffff => return Err(Violation::SettingWindow),
                id::INITIAL_WINDOW_SIZE => next.initial_window = value,
                id::MAX_FRAME_SIZE if !(MAX_FRAME_SIZE..=MAX_FRAME_SIZE_LIMIT).contains(&value) => {
                    return Err(Violation::SettingValue);
                }
                id::MAX_FRAME_SIZE => next.max_frame_size = value,
                id::NO_RFC7540_PRIORITIES if value > 1 => return Err(Violation::SettingValue),
                _ => {}
            }
        }
        *self = next;
        Ok(smallest_table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(entries: &[(u16, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (id, value) in entries {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        out
    }

    #[test]
    fn takes_values_at_the_edge_of_their_range() {
        let mut settings = PeerSettings::default();
        let edge =
            [(id::INITIAL_WINDOW_SIZE, 0x7fff_ffff), (id::MAX_FRAME_SIZE, 16_384), (id::ENABLE_PUSH, 1)];
        assert_eq!(settings.apply(&payload(&edge), false).map(drop), Ok(()));
        assert_eq!(settings.initial_window, 0x7fff_ffff);
        assert_eq!(settings.apply(&payload(&[(id::MAX_FRAME_SIZE, (1 << 24) - 1)]), false).map(drop), Ok(()));
        assert_eq!(settings.max_frame_size, 16_777_215);
    }

    #[test]
    fn refuses_values_one_beyond_their_range_and_changes_nothing() {
        let beyond = [
            (id::INITIAL_WINDOW_SIZE, 0x8000_0000, Violation::SettingWindow),
            (id::MAX_FRAME_SIZE, 16_383, Violation::SettingValue),
            (id::MAX_FRAME_SIZE, 1 << 24, Violation::SettingValue),
            // CVE-2026-33814: a maximum frame size of 0 made the writer of Go's net/http2 loop for ever.
            (id::MAX_FRAME_SIZE, 0, Violation::SettingValue),
            (id::ENABLE_PUSH, 2, Violation::SettingValue),
            (id::NO_RFC7540_PRIORITIES, 2, Violation::SettingValue),
        ];
        for (setting, value, violation) in beyond {
            let mut settings = PeerSettings::default();
            let both = payload(&[(id::HEADER_TABLE_SIZE, 1), (setting, value)]);
            assert_eq!(settings.apply(&both, false), Err(violation), "setting {setting} = {value}");
            assert_eq!(settings, PeerSettings::default());
        }
    }

    #[test]
    fn a_server_may_not_enable_push() {
        let mut settings = PeerSettings::default();
        assert_eq!(settings.apply(&payload(&[(id::ENABLE_PUSH, 1)]), true), Err(Violation::SettingValue));
        assert_eq!(settings.apply(&payload(&[(id::ENABLE_PUSH, 0)]), true).map(drop), Ok(()));
    }

    #[test]
    fn refuses_a_frame_with_more_entries_than_allowed() {
        let mut settings = PeerSettings::default();
        assert_eq!(settings.apply(&payload(&[(0xff, 0); 32]), false).map(drop), Ok(()));
        assert_eq!(settings.apply(&payload(&[(0xff, 0); 33]), false), Err(Violation::SettingEntries));
    }

    #[test]
    fn the_last_of_two_entries_counts() {
        let mut settings = PeerSettings::default();
        let twice = payload(&[(id::INITIAL_WINDOW_SIZE, 1), (id::INITIAL_WINDOW_SIZE, 7)]);
        assert_eq!(settings.apply(&twice, false).map(drop), Ok(()));
        assert_eq!(settings.initial_window, 7);
    }

    #[test]
    fn the_smallest_table_size_of_a_frame_is_told_beside_the_last() {
        let mut settings = PeerSettings::default();
        let sizes = payload(&[4096, 100, 300].map(|bytes| (id::HEADER_TABLE_SIZE, bytes)));
        assert_eq!(settings.apply(&sizes, false), Ok(Some(100)));
        assert_eq!(settings.header_table_bytes, 300);
        assert_eq!(settings.apply(&payload(&[(id::ENABLE_PUSH, 0)]), false), Ok(None));
    }
}
