//! Huffman coding of strings (RFC 7541 section 5.2 and Appendix B).
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols. So codes of up to
//! eight bits, which are all that common text needs, are looked up by one byte, and longer ones by comparing against the
//! last code of each length.

use super::HpackError;
use super::huffman_code::CODE;

/// The symbol and length for every byte that begins with a code of at most eight bits; length 0 for others.
const SHORT: [(u8, u8); 256] = {
    let mut table = [(0, 0); 256];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, length) = CODE[symbol];
        if length <= 8 {
            let first = (code << (8 - length)) as usize;
            let mut offset = 0;
            while offset < 1 << (8 - length) {
                table[first + offset] = (symbol as u8, length);
                offset += 1;
            }
        }
        symbol += 1;
    }
    table
};

/// The longest code, in bits.
const LONGEST: usize = 30;

/// For each length: the first code, how many there are, and where their symbols begin in [`SYMBOLS`].
const LENGTHS: [(u32, u32, u16); LONGEST + 1] = {
    let mut lengths = [(u32::MAX, 0, 0); LONGEST + 1];
    let mut symbol = 0;
    while symbol < 257 {
        let (code, length) = CODE[symbol];
        let entry = &mut lengths[length as usize];
        if code < entry.0 {
            entry.0 = code;
        }
        entry.1 += 1;
        symbol += 1;
    }
    let mut length = 1;
    let mut before = 0;
    while length <= LONGEST {
        lengths[length].2 = before;
        before += lengths[length].1 as u16;
        length += 1;
    }
    lengths
};

/// All symbols in the order of their codes; 256 is EOS.
const SYMBOLS: [u16; 257] = {
    let mut symbols = [0; 257];
    let mut symbol = 0;
    while symbol < 257 {
        let (code, length) = CODE[symbol];
        let (first, _, before) = LENGTHS[length as usize];
        symbols[before as usize + (code - first) as usize] = symbol as u16;
        symbol += 1;
    }
    symbols
};

/// Decodes a string and appends it to `dst`.
///
/// # Errors
/// [`HpackError::BadHuffman`] for EOS or a code cut short, [`HpackError::HuffmanPadding`] for padding that is not up to
/// seven ones.
pub fn decode(src: &[u8], dst: &mut Vec<u8>) -> Result<(), HpackError> {
    // The shortest code has five bits.
    dst.reserve(src.len() * 8 / 5);
    let mut bits: u64 = 0;
    let mut count: u32 = 0;
    let mut rest = src.iter();
    loop {
        while count <= 56 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        if count < 8 {
            return last(bits, count, dst);
        }
        let (symbol, length) = SHORT[(bits >> 56) as usize];
        let length = if length > 0 {
            dst.push(symbol);
            u32::from(length)
        } else {
            let (symbol, length) = long(bits);
            if length > count {
                return Err(if is_ones(bits, count) {
                    HpackError::HuffmanPadding
                } else {
                    HpackError::BadHuffman
                });
            }
            dst.push(u8::try_from(symbol).map_err(|_| HpackError::BadHuffman)?);
            length
        };
        bits <<= length;
        count -= length;
    }
}

fn is_ones(bits: u64, count: u32) -> bool {
    count == 0 || bits >> (64 - count) == (1 << count) - 1
}

/// Fewer than eight bits are left: perhaps one symbol, then padding.
fn last(bits: u64, count: u32, dst: &mut Vec<u8>) -> Result<(), HpackError> {
    if is_ones(bits, count) {
        return Ok(());
    }
    let (symbol, length) = SHORT[(bits >> 56) as usize];
    let length = u32::from(length);
    if length == 0 || length > count || !is_ones(bits << length, count - length) {
        return Err(HpackError::HuffmanPadding);
    }
    dst.push(symbol);
    Ok(())
}

/// A code of more than eight bits at the front of `bits`.
fn long(bits: u64) -> (u16, u32) {
    for length in 9..=LONGEST {
        let (first, codes, before) = LENGTHS[length];
        let code = (bits >> (64 - length)) as u32;
        if codes > 0 && code < first + codes {
            return (SYMBOLS[usize::from(before) + (code - first) as usize], length as u32);
        }
    }
    unreachable!("the code is complete: every 30 bits begin with a code")
}

/// How many bytes [`encode`] would append.
#[must_use]
pub fn encoded_len(src: &[u8]) -> usize {
    let bits: usize = src.iter().map(|byte| usize::from(CODE[usize::from(*byte)].1)).sum();
    bits.div_ceil(8)
}

/// Encodes a string and appends it to `dst`.
pub fn encode(src: &[u8], dst: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut count: u32 = 0;
    for byte in src {
        let (code, length) = CODE[usize::from(*byte)];
        count += u32::from(length);
        bits |= u64::from(code) << (64 - count);
        while count >= 8 {
            dst.push((bits >> 56) as u8);
            bits <<= 8;
            count -= 8;
        }
    }
    if count > 0 {
        dst.push((bits >> 56) as u8 | (0xff >> count));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(text: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        encode(text, &mut coded);
        assert_eq!(coded.len(), encoded_len(text));
        let mut back = Vec::new();
        decode(&coded, &mut back).unwrap();
        back
    }

    #[test]
    fn every_symbol_alone_and_in_every_pair_comes_back() {
        for a in 0..=255 {
            assert_eq!(round_trip(&[a]), [a]);
            for b in 0..=255 {
                assert_eq!(round_trip(&[a, b]), [a, b]);
            }
        }
    }

    #[test]
    fn refuses_wrong_padding_and_eos() {
        let decoded = |bytes: &[u8]| decode(bytes, &mut Vec::new());
        assert_eq!(decoded(&[]), Ok(()));
        // '0' is 00000, then three bits of padding.
        assert_eq!(decoded(&[0b0000_0111]), Ok(()));
        assert_eq!(decoded(&[0b0000_0110]), Err(HpackError::HuffmanPadding));
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(HpackError::HuffmanPadding));
        assert_eq!(decoded(&[0xff]), Err(HpackError::HuffmanPadding));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(HpackError::BadHuffman));
        // A code of 13 bits, whole and cut short.
        assert_eq!(decoded(&[0b1111_1111, 0b1100_0111]), Ok(()));
        assert_eq!(decoded(&[0b1111_1110]), Err(HpackError::BadHuffman));
    }

    proptest! {
        #[test]
        fn any_string_comes_back(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(round_trip(&text), text);
        }

        #[test]
        fn any_input_decodes_or_is_refused_within_its_bound(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            if decode(&bytes, &mut out).is_ok() {
                let mut again = Vec::new();
                encode(&out, &mut again);
                prop_assert_eq!(again, bytes);
            }
            prop_assert!(out.len() <= 300 * 8 / 5);
        }
    }
}
