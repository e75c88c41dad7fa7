//! gRPC's wire rules: message framing in any split, and header values that are read, printed and read again.

use evenkeel_grpc::message::fitting;
use evenkeel_grpc::{
    Code, FramingFault, MessageScanner, PREFIX_LEN, Path, Pushback, check_binary_values, classify_key,
    decode_binary_values, decode_message, encode_binary_value, encode_message, parse_timeout, print_timeout,
};

/// The first byte chooses the limit (255: none; else as many bytes), the others are the stream. Fed whole, byte by byte, and
/// in pieces of changing size, the scanner counts what a plain reading of the rules counts, and ends in the same state.
///
/// # Panics
/// If that does not hold.
pub fn grpc_framing(data: &[u8]) {
    let Some((&limit, stream)) = data.split_first() else { return };
    let max = (limit != u8::MAX).then_some(u32::from(limit));
    let expected = plain_reading(stream, max);
    let mut ends = Vec::new();
    for most in [usize::MAX, 1, 7] {
        let mut scanner = MessageScanner::new(max);
        let mut rest = stream;
        let mut completed = 0;
        let mut fault = None;
        while fault.is_none() && !rest.is_empty() {
            // Pieces follow the content, so that another input is split elsewhere.
            let length = rest.len().min(most).min(1 + usize::from(rest[0]) % most.min(256));
            let length = if most == usize::MAX { rest.len() } else { length };
            let (piece, behind) = rest.split_at(length);
            rest = behind;
            match scanner.scan(piece) {
                Ok(count) => completed += count,
                Err(error) => {
                    completed += error.completed;
                    fault = Some(error.fault);
                }
            }
        }
        let end = fault.map_or_else(|| scanner.finish(), Err);
        assert_eq!((completed, end), expected, "in pieces of at most {most} bytes");
        assert_eq!(scanner.finish(), end, "a fault is final");
        assert_eq!(scanner.at_boundary(), end.is_ok());
        ends.push(scanner);
    }
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "the state does not depend on the split");
}

/// The rules, read off the specification: messages that are complete, and what is wrong at the end.
fn plain_reading(stream: &[u8], max: Option<u32>) -> (usize, Result<(), FramingFault>) {
    let mut rest = stream;
    let mut completed = 0;
    loop {
        let Some(&flag) = rest.first() else { return (completed, Ok(())) };
        if flag > 1 {
            return (completed, Err(FramingFault::CompressedFlag { flag }));
        }
        let Some(prefix) = rest.first_chunk::<PREFIX_LEN>() else {
            let missing = (PREFIX_LEN - rest.len()) as u32;
            return (completed, Err(FramingFault::Truncated { missing }));
        };
        let [_, a, b, c, d] = *prefix;
        let length = u32::from_be_bytes([a, b, c, d]);
        if let Some(max) = max.filter(|max| length > *max) {
            return (completed, Err(FramingFault::TooLarge { length, max }));
        }
        let payload = &rest[PREFIX_LEN..];
        match payload.get(length as usize..) {
            Some(behind) => rest = behind,
            None => {
                let missing = length - payload.len() as u32;
                return (completed, Err(FramingFault::Truncated { missing }));
            }
        }
        completed += 1;
    }
}

/// The value of any header that gRPC gives a meaning, read as each of them: what is understood is printed and read as the
/// same again.
///
/// # Panics
/// If that does not hold.
pub fn grpc_values(data: &[u8]) {
    if let Ok(timeout) = parse_timeout(data) {
        let printed = print_timeout(timeout);
        let again = parse_timeout(printed.as_bytes()).expect("what is printed can be read");
        // Rounded down by less than one unit. A coarser unit is taken from 10^8 of the finer one on, which is 10^5 of it.
        assert!(again <= timeout && timeout - again <= timeout / 100_000);
        assert_eq!(print_timeout(again), printed);
    }
    if let Ok(path) = Path::parse(data) {
        assert_eq!(format!("/{}/{}", path.service(), path.method()).as_bytes(), data);
    }
    if let Ok(_kind) = classify_key(data) {
        assert!(data.iter().all(u8::is_ascii_graphic) && !data.iter().any(u8::is_ascii_uppercase));
    }
    check_binary(data);
    check_message(data);
    let pushback = Pushback::parse(data);
    assert_eq!(Pushback::parse(pushback.print().as_bytes()), pushback);
    let code = Code::from_wire(data);
    assert!(code.wire() == data || code == Code::Unknown);
    assert_eq!(Code::from_wire(code.wire()), code);
}

fn check_binary(data: &[u8]) {
    let decoded: Result<Vec<Vec<u8>>, _> = decode_binary_values(data).collect();
    assert_eq!(check_binary_values(data), decoded.as_ref().map(drop).map_err(|error| *error));
    for value in decoded.into_iter().flatten() {
        let again: Vec<_> = decode_binary_values(encode_binary_value(&value).as_bytes()).collect();
        assert_eq!(again, [Ok(value)]);
    }
    let sent: Vec<_> = decode_binary_values(encode_binary_value(data).as_bytes()).collect();
    assert_eq!(sent, [Ok(data.to_vec())]);
}

fn check_message(data: &[u8]) {
    let message = decode_message(data);
    let mut encoded = Vec::new();
    encode_message(&message, &mut encoded);
    assert!(encoded.len() <= evenkeel_grpc::message::MESSAGE_LEN_MAX);
    assert!(encoded.iter().all(|byte| (b' '..=b'~').contains(byte)), "a header value is printable ASCII");
    assert!(encoded.first() != Some(&b' ') && encoded.last() != Some(&b' '), "its ends would be stripped");
    assert_eq!(decode_message(&encoded), fitting(&message));
}
