//! Durations, sizes and shares as text: `1m30s`, `64KiB`, `50%`.
//!
//! Why a unit is never left out of a duration: `timeout: 5` was seconds in one proxy and milliseconds in the next.
//! Sizes may be plain numbers, which are bytes everywhere. `64KB` is refused: it is 64,000 to some and 65,536 to others.

use core::time::Duration;

/// What to write for a duration.
pub(crate) const DURATION_HELP: &str = "write a number and a unit, for example `250ms`, `5s` or `1m30s`";

/// What to write for a size.
pub(crate) const SIZE_HELP: &str =
    "write bytes as a number, or a number and KiB, MiB or GiB, for example `64KiB`";

/// The regular expression of a duration, for the schema.
pub(crate) const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";

/// The regular expression of a size that is not a plain number, for the schema.
pub(crate) const SIZE_PATTERN: &str = "^[0-9]+(B|KiB|MiB|GiB)$";

/// What to write for a share in percent.
pub(crate) const PERCENT_HELP: &str = "write a whole number and `%`, for example `50%`";

/// The regular expression of a share in percent or a size with a unit, for the schema.
pub(crate) const SHARE_OR_SIZE_PATTERN: &str = "^[0-9]+(%|B|KiB|MiB|GiB)$";

/// Units of a duration. humantime knows more (`years`, `us`), which nothing here needs; and its `M` is a month.
const DURATION_UNITS: [&str; 5] = ["ms", "s", "m", "h", "d"];

const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a duration; the error says what to write.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte == b'0') {
        return Err(DURATION_HELP.to_owned());
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("add a unit: `{text}s` for seconds, `{text}ms` for milliseconds"));
    }
    if !is_duration(text) {
        return Err(DURATION_HELP.to_owned());
    }
    // Some days too many for 64 bits of seconds: as good as for ever, and refused by every bound.
    Ok(humantime::parse_duration(text).unwrap_or(Duration::MAX))
}

/// Whether the text matches [`DURATION_PATTERN`].
fn is_duration(mut text: &str) -> bool {
    if text.is_empty() {
        return false;
    }
    while !text.is_empty() {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let next = unit.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let has_number = unit.len() < text.len();
        if !has_number || !DURATION_UNITS.contains(&&unit[..unit.len() - next.len()]) {
            return false;
        }
        text = next;
    }
    true
}

/// The duration as [`parse_duration`] reads it, without anything below a millisecond.
pub(crate) fn format_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    let mut out = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= size {
            out.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Reads a size that is not a plain number; the error says what to write.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match factor {
        // Too many digits for 64 bits: refused by every bound.
        Some(factor) if !number.is_empty() => Ok(number.parse().unwrap_or(u64::MAX).saturating_mul(factor)),
        _ if number.is_empty() => Err(SIZE_HELP.to_owned()),
        _ => Err(match unit.bytes().next() {
            Some(b'k' | b'K') => format!("write `{number}KiB`, which is {number} times 1024 bytes"),
            Some(b'm' | b'M') => format!("write `{number}MiB`, which is {number} times 1048576 bytes"),
            _ => SIZE_HELP.to_owned(),
        }),
    }
}

/// Reads a share such as `50%`; more than any bound allows if the number is too large.
pub(crate) fn parse_percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u32::MAX))
}

/// The size as [`parse_size`] reads it, in the largest unit without a fraction.
pub(crate) fn format_size(bytes: u64) -> String {
    let largest = SIZE_UNITS.iter().rev().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    let (unit, factor) = largest.copied().unwrap_or(SIZE_UNITS[0]);
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_durations_with_units() {
        let cases = [("250ms", 250), ("1s", 1000), ("1m30s", 90_000), ("2h", 7_200_000), ("1d", 86_400_000)];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration(&format!("{}d", u64::MAX)), Ok(Duration::MAX));
        assert_eq!(parse_duration(&format!("{}9d", u64::MAX)), Ok(Duration::MAX));
    }

    #[test]
    fn refuses_durations_without_a_known_unit() {
        for text in ["", "s", "1", "1x", "-1s", "1.5s", "1 s", "1s ", "1M", "5us", "1s2", "1ß"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_duration("5"),
            Err("add a unit: `5s` for seconds, `5ms` for milliseconds".to_owned())
        );
    }

    #[test]
    fn reads_sizes_in_powers_of_1024() {
        for (text, bytes) in [("7B", 7), ("64KiB", 65_536), ("1MiB", 1_048_576), ("2GiB", 2_147_483_648)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size("99999999999999999999GiB"), Ok(u64::MAX));
        assert_eq!(format_size(65_535), "65535B");
        assert_eq!(format_size(0), "0B");
    }

    #[test]
    fn reads_whole_percents() {
        assert_eq!(parse_percent("50%"), Some(50));
        assert_eq!(parse_percent("99999999999%"), Some(u32::MAX));
        for text in ["", "%", "50", "-1%", "1.5%", "5 %", "5%%"] {
            assert_eq!(parse_percent(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_sizes_whose_unit_is_ambiguous() {
        assert_eq!(parse_size("64KB"), Err("write `64KiB`, which is 64 times 1024 bytes".to_owned()));
        assert_eq!(parse_size("1m"), Err("write `1MiB`, which is 1 times 1048576 bytes".to_owned()));
        for text in ["", "KiB", "1.5MiB", "1 KiB", "-1B", "1TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(millis in 0..u64::MAX, bytes: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}|[0-9]{0,30}(ms|s|KiB|d)?") {
            _ = parse_duration(&text);
            _ = parse_size(&text);
        }
    }
}
