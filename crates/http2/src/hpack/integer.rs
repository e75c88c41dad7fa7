//! Integers with a prefix of some bits (RFC 7541 section 5.1).

use super::HpackError;

/// Bytes that may follow the prefix: five hold any 32-bit number.
const CONTINUATION_MAX: u32 = 5;

/// Reads an integer whose first byte has `prefix_bits` bits for it, from `*at` on.
#[inline]
pub(super) fn decode(block: &[u8], at: &mut usize, prefix_bits: u32) -> Result<u32, HpackError> {
    let mask = (1_u32 << prefix_bits) - 1;
    let first = u32::from(*block.get(*at).ok_or(HpackError::Truncated)?) & mask;
    *at += 1;
    if first < mask { Ok(first) } else { decode_rest(block, at, mask) }
}

#[cold]
fn decode_rest(block: &[u8], at: &mut usize, mask: u32) -> Result<u32, HpackError> {
    let mut value = u64::from(mask);
    for turn in 0..CONTINUATION_MAX {
        let byte = *block.get(*at).ok_or(HpackError::Truncated)?;
        *at += 1;
        value += u64::from(byte & 0x7f) << (7 * turn);
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| HpackError::IntegerOverflow);
        }
    }
    Err(HpackError::IntegerOverflow)
}

/// Writes an integer; `first` holds the bits of the first byte above the prefix.
#[inline]
pub(super) fn encode(value: u32, prefix_bits: u32, first: u8, out: &mut Vec<u8>) {
    let mask = (1_u32 << prefix_bits) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], prefix: u32) -> Result<(u32, usize), HpackError> {
        let mut at = 0;
        decode(bytes, &mut at, prefix).map(|value| (value, at))
    }

    #[test]
    fn reads_the_examples_of_the_rfc() {
        assert_eq!(decoded(&[0b0110_1010], 5), Ok((10, 1)));
        assert_eq!(decoded(&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5), Ok((1337, 3)));
        assert_eq!(decoded(&[42], 8), Ok((42, 1)));
    }

    #[test]
    fn reads_back_every_value_around_the_edges_for_every_prefix() {
        for prefix in 1..=8 {
            let edge = (1_u32 << prefix) - 1;
            let values = (0..5000).chain(edge.saturating_sub(2)..edge + 300).chain(u32::MAX - 3..=u32::MAX);
            for value in values {
                let mut out = Vec::new();
                encode(value, prefix, 0, &mut out);
                assert_eq!(decoded(&out, prefix), Ok((value, out.len())), "{value} in {prefix} bits");
            }
        }
    }

    #[test]
    fn refuses_more_than_32_bits_and_endless_zeros() {
        // 255 + 0xffff_ff00 is 2^32 - 1; one more does not fit.
        assert_eq!(decoded(&[0xff, 0x80, 0xfe, 0xff, 0xff, 0x0f], 8), Ok((u32::MAX, 6)));
        assert_eq!(decoded(&[0xff, 0x81, 0xfe, 0xff, 0xff, 0x0f], 8), Err(HpackError::IntegerOverflow));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], 8), Err(HpackError::IntegerOverflow));
        assert_eq!(decoded(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 7), Err(HpackError::IntegerOverflow));
        assert_eq!(decoded(&[0x7f, 0x80, 0x80], 7), Err(HpackError::Truncated));
        assert_eq!(decoded(&[], 7), Err(HpackError::Truncated));
    }
}
