use proptest::prelude::*;

use super::*;

fn message(payload_len: usize, compressed: bool) -> Vec<u8> {
    let mut bytes = encode_prefix(u32::try_from(payload_len).unwrap(), compressed).to_vec();
    // 0xff would be a fault wherever a payload byte were taken for a flag.
    bytes.resize(PREFIX_LEN + payload_len, 0xff);
    bytes
}

#[test]
fn the_prefix_is_flag_and_big_endian_length() {
    assert_eq!(encode_prefix(0, false), [0, 0, 0, 0, 0]);
    assert_eq!(encode_prefix(0x0102_0304, true), [1, 1, 2, 3, 4]);
    assert_eq!(encode_prefix(u32::MAX, false), [0, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn counts_empty_and_full_messages_in_one_slice() {
    let bytes = [message(0, false), message(3, true), message(0, true), message(1, false)].concat();
    let mut scanner = MessageScanner::default();
    assert_eq!(scanner.scan(&bytes), Ok(4));
    assert!(scanner.at_boundary());
    assert_eq!(scanner.finish(), Ok(()));
}

#[test]
fn an_empty_slice_changes_nothing() {
    let mut scanner = MessageScanner::default();
    assert_eq!(scanner.scan(&[]), Ok(0));
    assert_eq!(scanner, MessageScanner::default());
}

#[test]
fn tells_at_every_byte_where_it_stands() {
    let mut scanner = MessageScanner::default();
    let expected = [
        Some(InProgress::Prefix { missing: 4 }),
        Some(InProgress::Prefix { missing: 3 }),
        Some(InProgress::Prefix { missing: 2 }),
        Some(InProgress::Prefix { missing: 1 }),
        Some(InProgress::Payload { missing: 2, compressed: true }),
        Some(InProgress::Payload { missing: 1, compressed: true }),
        None,
    ];
    for (byte, expected) in message(2, true).into_iter().zip(expected) {
        assert_eq!(scanner.scan(&[byte]), Ok(usize::from(expected.is_none())));
        assert_eq!(scanner.in_progress(), expected);
        assert_eq!(scanner.at_boundary(), expected.is_none());
    }
}

#[test]
fn an_end_inside_a_message_is_a_truncation() {
    let mut scanner = MessageScanner::default();
    assert_eq!(scanner.scan(&[0, 0]), Ok(0));
    assert_eq!(scanner.finish(), Err(FramingFault::Truncated { missing: 3 }));
    assert_eq!(scanner.scan(&[0, 0, 7, 1, 1]), Ok(0));
    assert_eq!(scanner.finish(), Err(FramingFault::Truncated { missing: 5 }));
    assert_eq!(FramingFault::Truncated { missing: 5 }.code(), Code::Internal);
}

#[test]
fn every_flag_above_one_is_a_fault_that_stays() {
    for flag in 2..=u8::MAX {
        let fault = FramingFault::CompressedFlag { flag };
        // Whole prefix at once, and the flag alone.
        for bytes in [&[flag, 0, 0, 0, 0][..], &[flag][..]] {
            let mut scanner = MessageScanner::default();
            assert_eq!(scanner.scan(bytes), Err(FramingError { completed: 0, fault }));
            assert_eq!(scanner.scan(&message(0, false)), Err(FramingError { completed: 0, fault }));
            assert_eq!(scanner.finish(), Err(fault));
            assert!(!scanner.at_boundary());
            assert_eq!(scanner.in_progress(), None);
        }
    }
    assert_eq!(FramingFault::CompressedFlag { flag: 2 }.code(), Code::Internal);
}

#[test]
fn limits_the_length_of_a_message() {
    for (len, max, ok) in [(3, 4, true), (4, 4, true), (5, 4, false), (0, 0, true), (1, 0, false)] {
        let mut scanner = MessageScanner::new(Some(max));
        let scanned = scanner.scan(&message(len, false));
        if ok {
            assert_eq!(scanned, Ok(1));
        } else {
            let fault = FramingFault::TooLarge { length: u32::try_from(len).unwrap(), max };
            assert_eq!(scanned, Err(FramingError { completed: 0, fault }));
            assert_eq!(scanner.finish(), Err(fault));
        }
    }
    let fault = FramingFault::TooLarge { length: 5, max: 4 };
    assert_eq!(fault.code(), Code::ResourceExhausted);
    assert_eq!(fault.to_string(), "received message larger than max (5 vs. 4)");
}

#[test]
fn messages_before_a_fault_count() {
    let bytes = [message(1, false), message(0, false), vec![9]].concat();
    let fault = FramingFault::CompressedFlag { flag: 9 };
    assert_eq!(MessageScanner::default().scan(&bytes), Err(FramingError { completed: 2, fault }));
}

#[test]
fn the_largest_length_is_only_a_number() {
    let mut scanner = MessageScanner::default();
    assert_eq!(scanner.scan(&encode_prefix(u32::MAX, false)), Ok(0));
    assert_eq!(scanner.scan(&[0; 1000]), Ok(0));
    let missing = u32::MAX - 1000;
    assert_eq!(scanner.in_progress(), Some(InProgress::Payload { missing, compressed: false }));
}

/// What a scanner says after a stream: messages, verdict on the end, and its state.
type Outcome = (usize, Result<(), FramingFault>, MessageScanner);

fn scan_in_pieces(bytes: &[u8], piece_lens: &[usize], max: Option<u32>) -> Outcome {
    let mut scanner = MessageScanner::new(max);
    let (mut rest, mut completed) = (bytes, 0);
    let mut lens = piece_lens.iter().copied();
    while !rest.is_empty() {
        let len = lens.next().unwrap_or(rest.len()).min(rest.len());
        let (piece, later) = rest.split_at(len);
        rest = later;
        completed += scanner.scan(piece).unwrap_or_else(|error| error.completed);
    }
    (completed, scanner.finish(), scanner)
}

/// The rules read byte by byte from the whole input: the oracle.
fn reference(mut bytes: &[u8], max: Option<u32>) -> (usize, Result<(), FramingFault>) {
    let mut completed = 0;
    while let Some(&flag) = bytes.first() {
        if flag > 1 {
            return (completed, Err(FramingFault::CompressedFlag { flag }));
        }
        if bytes.len() < 5 {
            let missing = u32::try_from(5 - bytes.len()).unwrap();
            return (completed, Err(FramingFault::Truncated { missing }));
        }
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
        if let Some(max) = max.filter(|&max| length > max) {
            return (completed, Err(FramingFault::TooLarge { length, max }));
        }
        let have = bytes.len() - 5;
        if have < length as usize {
            let missing = length - u32::try_from(have).unwrap();
            return (completed, Err(FramingFault::Truncated { missing }));
        }
        bytes = &bytes[5 + length as usize..];
        completed += 1;
    }
    (completed, Ok(()))
}

/// Messages, then perhaps a piece of garbage or of another message.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let messages = proptest::collection::vec((0_usize..40, any::<bool>()), 0..12);
    let tail = prop_oneof![
        Just(Vec::new()),
        proptest::collection::vec(0_u8..4, 1..12),
        proptest::collection::vec(any::<u8>(), 1..12),
    ];
    (messages, tail).prop_map(|(messages, tail)| {
        let mut bytes: Vec<u8> = messages.into_iter().flat_map(|(len, flag)| message(len, flag)).collect();
        bytes.extend(tail);
        bytes
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_same_outcome(
        bytes in streams(),
        piece_lens in proptest::collection::vec(0_usize..9, 0..80),
        max in proptest::option::of(20_u32..60),
    ) {
        let whole = scan_in_pieces(&bytes, &[], max);
        prop_assert_eq!(&scan_in_pieces(&bytes, &piece_lens, max), &whole);
        prop_assert_eq!(&scan_in_pieces(&bytes, &vec![1; bytes.len()], max), &whole);
        prop_assert_eq!((whole.0, whole.1), reference(&bytes, max));
    }

    #[test]
    fn counts_what_was_framed(
        lens in proptest::collection::vec(0_usize..300, 0..20),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes: Vec<u8> = lens.iter().flat_map(|&len| message(len, false)).collect();
        let cut = if bytes.is_empty() { 0 } else { at.index(bytes.len()) };
        let (completed, verdict, _) = scan_in_pieces(&bytes, &[cut], None);
        prop_assert_eq!(completed, lens.len());
        prop_assert_eq!(verdict, Ok(()));
    }
}
