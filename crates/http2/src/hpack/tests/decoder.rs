//! Each violation at its edge, and the limits of header lists.

use proptest::prelude::*;

use super::*;

fn error(block: &[u8]) -> HpackError {
    let mut peer = Peer::new(4096);
    let error = peer.decode(block).unwrap_err();
    peer.close();
    error
}

#[test]
fn names_each_violation() {
    assert_eq!(error(&[0x80]), HpackError::IndexZero);
    assert_eq!(error(&[0xbe]), HpackError::IndexOutOfTable { index: 62 });
    assert_eq!(error(&[0x7e, 0x00]), HpackError::IndexOutOfTable { index: 62 });
    assert_eq!(error(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]), HpackError::IntegerOverflow);
    assert_eq!(error(&[0x00, 0x01, b'a', 0x81, 0x06]), HpackError::HuffmanPadding);
    assert_eq!(error(&[0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]), HpackError::BadHuffman);
    assert_eq!(error(&[0x82, 0x20]), HpackError::TableSizeUpdateLate);
    let too_large = HpackError::TableSizeUpdateTooLarge { bytes: 4097, limit: 4096 };
    assert_eq!(error(&[0x3f, 0xe2, 0x1f]), too_large);
    assert!(Peer::new(4096).decode(&[0x3f, 0xe1, 0x1f]).is_ok());
}

#[test]
fn a_block_cut_anywhere_within_a_field_is_truncated() {
    let value = [b'v'; 200];
    for field in [literal(INDEXED, b"name", &value), [&[PLAIN][..], &coded(b"name"), &coded(&value)].concat()]
    {
        for length in 1..field.len() {
            assert_eq!(error(&field[..length]), HpackError::Truncated, "after {length} bytes");
        }
        let mut peer = Peer::new(4096);
        assert!(peer.decode(&field).is_ok());
        peer.close();
    }
    assert!(Peer::new(4096).decode(&[]).is_ok());
}

#[test]
fn the_last_static_index_is_61() {
    let mut peer = Peer::new(4096);
    assert_eq!(peer.decode(&[0xbd]).unwrap().1, expected(&[("www-authenticate", "")]));
    peer.decode(&literal(INDEXED, b"a", b"b")).unwrap();
    assert_eq!(peer.decode(&[0xbe]).unwrap().1, expected(&[("a", "b")]));
    assert_eq!(peer.decode(&[0xbf]).unwrap_err(), HpackError::IndexOutOfTable { index: 63 });
    peer.close();
}

#[test]
fn a_string_of_four_gigabytes_is_refused_before_anything_is_kept() {
    // CVE-2023-33953: the length was believed and waited for.
    assert_eq!(error(&[0x00, 0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f]), HpackError::Truncated);
}

#[test]
fn a_lowered_limit_must_be_followed_at_once() {
    let lowered = |block: &[u8]| {
        let mut peer = Peer::new(4096);
        peer.decoder.set_table_limit(100);
        peer.decode(block).map(|_| ())
    };
    assert_eq!(lowered(&[0x82]), Err(HpackError::TableSizeUpdateMissing));
    assert_eq!(lowered(&[0x3f, 0x45, 0x82]), Ok(()));
    let too_large = HpackError::TableSizeUpdateTooLarge { bytes: 101, limit: 100 };
    assert_eq!(lowered(&[0x3f, 0x46, 0x82]), Err(too_large));
}

#[test]
fn a_limit_that_fell_and_rose_must_be_followed_down_first() {
    let moved = |block: &[u8]| {
        let mut peer = Peer::new(4096);
        peer.decode(&literal(INDEXED, b"a", b"b")).unwrap();
        peer.decoder.set_table_limit(0);
        peer.decoder.set_table_limit(4096);
        let done = peer.decode(block).map(|_| peer.decoder.table_len());
        peer.close();
        done
    };
    assert_eq!(moved(&[0x82]), Err(HpackError::TableSizeUpdateMissing));
    assert_eq!(moved(&[0x3f, 0xe1, 0x1f, 0x82]), Err(HpackError::TableSizeUpdateMissing));
    assert_eq!(moved(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), Ok(0));
}

#[test]
fn a_limit_above_the_size_in_use_asks_for_nothing() {
    let mut peer = Peer::new(4096);
    peer.decode(&[0x3f, 0x45]).unwrap();
    peer.decoder.set_table_limit(100);
    assert!(peer.decode(&[0x82]).is_ok());
}

#[test]
fn a_larger_table_is_used_when_the_peer_says_so() {
    // RFC 9113 section 6.5.2: until then both sides evict as a table of 4096 bytes does.
    let mut peer = Peer::new(8192);
    let value = [b'v'; 3000];
    peer.decode(&literal(INDEXED, b"a", &value)).unwrap();
    peer.decode(&literal(INDEXED, b"b", &value)).unwrap();
    assert_eq!(peer.decoder.table_len(), 1);
    peer.decode(&[&[0x3f, 0xe1, 0x3f][..], &literal(INDEXED, b"c", &value)].concat()).unwrap();
    assert_eq!(peer.decoder.table_len(), 2);
    peer.close();
}

#[test]
fn a_name_may_come_from_the_entry_that_makes_room() {
    let mut peer = Peer::new(64);
    peer.decode(&literal(INDEXED, b"name", b"value")).unwrap();
    let block = [&[0x40 | 62][..], &plain(b"other value")].concat();
    assert_eq!(peer.decode(&block).unwrap().1, expected(&[("name", "other value")]));
    assert_eq!(peer.table(), expected(&[("name", "other value")]));
    peer.close();
}

#[test]
fn an_entry_as_large_as_the_table_fits_and_a_larger_one_empties_it() {
    for (length, entries) in [(4096 - 33, 1), (4096 - 32, 0)] {
        let mut peer = Peer::new(4096);
        peer.decode(&literal(INDEXED, b"a", b"b")).unwrap();
        let (verdict, list) = peer.decode(&literal(INDEXED, b"n", &vec![b'v'; length])).unwrap();
        assert_eq!((verdict, list[0].1.len()), (ListVerdict::Accepted, length));
        assert_eq!(peer.decoder.table_len(), entries, "{length}");
        peer.close();
    }
}

#[test]
fn a_list_may_have_as_many_fields_as_allowed_and_not_one_more() {
    let mut peer = Peer::new(4096);
    let (verdict, list) = peer.decode(&[0x82; 100]).unwrap();
    assert_eq!((verdict, list.len()), (ListVerdict::Accepted, 100));
    let (verdict, list) = peer.decode(&[0x82; 101]).unwrap();
    assert_eq!((verdict, list.len()), (ListVerdict::TooLarge, 100));
    assert_eq!(peer.decode(&[0x82; 400]).unwrap().0, ListVerdict::TooLarge);
    assert_eq!(peer.decode(&[0x82; 401]).unwrap_err(), HpackError::ListFarTooLarge);
}

#[test]
fn a_list_may_be_as_large_as_allowed_and_not_one_byte_more() {
    for kind in [PLAIN, INDEXED] {
        let limits = HeaderListLimits { list_bytes: 1000, ..HeaderListLimits::default() };
        for (length, verdict, kept) in [(968, ListVerdict::Accepted, 1), (969, ListVerdict::TooLarge, 0)] {
            let mut peer = Peer { limits, ..Peer::new(4096) };
            let block = literal(kind, b"n", &vec![b'v'; length - 1]);
            let (got, list) = peer.decode(&block).unwrap();
            assert_eq!((got, list.len()), (verdict, kept), "{length}");
            assert_eq!(peer.decoder.table_len(), usize::from(kind == INDEXED));
            peer.close();
        }
        let mut peer = Peer { limits, ..Peer::new(4096) };
        let block = literal(kind, b"n", &[b'v'; 4000 - 33]);
        assert_eq!(peer.decode(&block).unwrap().0, ListVerdict::TooLarge);
        let block = literal(kind, b"n", &[b'v'; 4000 - 32]);
        assert_eq!(peer.decode(&block).unwrap_err(), HpackError::ListFarTooLarge);
        peer.close();
    }
}

#[test]
fn nothing_is_kept_behind_the_field_that_is_too_large() {
    let limits = HeaderListLimits { list_bytes: 200, ..HeaderListLimits::default() };
    let mut peer = Peer { limits, ..Peer::new(4096) };
    let block =
        [literal(PLAIN, b"a", b"1"), literal(PLAIN, b"b", &[b'v'; 200]), literal(PLAIN, b"c", b"3")].concat();
    assert_eq!(peer.decode(&block), Ok((ListVerdict::TooLarge, expected(&[("a", "1")]))));
}

#[test]
fn unlimited_lists_are_possible() {
    let limits = HeaderListLimits { list_bytes: usize::MAX, fields: usize::MAX, string_bytes: usize::MAX };
    let mut peer = Peer { limits, ..Peer::new(4096) };
    let (verdict, list) = peer.decode(&[0x82; 10_000]).unwrap();
    assert_eq!((verdict, list.len()), (ListVerdict::Accepted, 10_000));
}

#[test]
fn an_http2_bomb_is_charged_by_decoded_size() {
    // CVE-2026-49975: one table entry of 4 KB, then a reference of one byte each.
    let mut peer = Peer::new(4096);
    assert_eq!(peer.decode(&literal(INDEXED, b"a", &[b'b'; 4000])).unwrap().0, ListVerdict::Accepted);
    assert_eq!(peer.decode(&[0xbe; 4]).unwrap().0, ListVerdict::Accepted);
    let (verdict, list) = peer.decode(&[0xbe; 5]).unwrap();
    assert_eq!((verdict, list.len()), (ListVerdict::TooLarge, 4));
    assert_eq!(peer.decode(&[0xbe; 17]).unwrap_err(), HpackError::ListFarTooLarge);
    assert_eq!(peer.store.len(), 1, "references are not copies");
    peer.close();
}

#[test]
fn a_list_that_is_too_large_leaves_the_table_right() {
    let mut peer = Peer::new(4096);
    let mut block = vec![0x82; 150];
    block.extend(literal(INDEXED, b"a", b"b"));
    block.extend([&[INDEXED][..], &coded(b"custom-key"), &coded(b"custom-value")].concat());
    assert_eq!(peer.decode(&block).unwrap().0, ListVerdict::TooLarge);
    assert_eq!(peer.table(), expected(&[("custom-key", "custom-value"), ("a", "b")]));
    peer.close();
}

#[test]
fn a_table_that_is_exactly_full_has_every_entry_and_the_next_one_costs_the_oldest() {
    // Off by one in a ring: the entry too many overwrites one, or the last one cannot be referred to.
    const ENTRIES: u32 = 4;
    // Each is 2 bytes of text and 32 more.
    let mut peer = Peer::new(ENTRIES * 34);
    let entry = |number: u32| (char::from(b'a' + (number % 26) as u8).to_string(), (number % 10).to_string());
    // Often enough that a ring of any capacity up to 64 wraps.
    for number in 0..200 {
        let (name, value) = entry(number);
        peer.decode(&literal(INDEXED, name.as_bytes(), value.as_bytes())).unwrap();
        let newest_first: Vec<_> = (0..=number).rev().take(ENTRIES as usize).map(entry).collect();
        assert_eq!(peer.table(), newest_first);
        assert_eq!(peer.decoder.table_bytes(), newest_first.len() * 34);
    }
    assert_eq!(peer.decode(&[0x80 | (61 + ENTRIES) as u8]).unwrap().1, [entry(199 - 3)]);
    let error = peer.decode(&[0x80 | (62 + ENTRIES) as u8]).unwrap_err();
    assert!(matches!(error, HpackError::IndexOutOfTable { .. }), "{error}");
    peer.close();
}

#[test]
fn a_string_may_be_as_long_as_allowed_and_not_one_byte_more() {
    let limits = HeaderListLimits { string_bytes: 300, ..HeaderListLimits::default() };
    for (length, verdict) in [(300, ListVerdict::Accepted), (301, ListVerdict::TooLarge)] {
        let long = vec![b'v'; length];
        for (name, value) in
            [(plain(b"n"), plain(&long)), (plain(&long), coded(b"v")), (coded(b"n"), coded(&long))]
        {
            for kind in [PLAIN, INDEXED] {
                let mut peer = Peer { limits, ..Peer::new(4096) };
                let block = [&[kind][..], &name, &value].concat();
                let (got, list) = peer.decode(&block).unwrap();
                assert_eq!((got, list.len()), (verdict, usize::from(verdict == ListVerdict::Accepted)));
                assert_eq!(
                    peer.decoder.table_len(),
                    usize::from(kind == INDEXED),
                    "the table takes it in any case"
                );
                peer.close();
            }
        }
    }
    // The limit is for each string, not for the two of a field together.
    let mut peer = Peer { limits, ..Peer::new(4096) };
    let block = [&[PLAIN][..], &coded(&[b'n'; 300]), &plain(&[b'v'; 300])].concat();
    assert_eq!(peer.decode(&block).unwrap().1[0].1.len(), 300);
}

#[test]
fn a_string_over_every_limit_empties_the_table_and_is_not_kept() {
    for long in [plain(&[b'd'; 8193]), coded(&[b'd'; 8193])] {
        let mut peer = Peer::new(4096);
        peer.decode(&literal(INDEXED, b"a", b"b")).unwrap();
        let block = [&[INDEXED, 0x01, b'c'][..], &long].concat();
        assert_eq!(peer.decode(&block).unwrap(), (ListVerdict::TooLarge, vec![]));
        assert_eq!(peer.decoder.table_len(), 0);
        peer.close();
    }
}

#[test]
fn a_string_over_its_limit_still_enters_a_table_that_has_room_for_it() {
    // Dropping it would make the two tables differ, and the next index mean another field.
    let mut peer = Peer::new(65_536);
    peer.decode(&[0x3f, 0xe1, 0xff, 0x03]).unwrap();
    for long in [plain(&[b'd'; 20_000]), coded(&[b'e'; 20_000])] {
        let block = [&[INDEXED, 0x01, b'c'][..], &long].concat();
        assert_eq!(peer.decode(&block), Ok((ListVerdict::TooLarge, vec![])));
    }
    let table = peer.table();
    assert_eq!((table[0].1.clone(), table[1].1.clone()), ("e".repeat(20_000), "d".repeat(20_000)));
    peer.close();
}

#[test]
fn a_string_that_is_dropped_must_be_well_formed_all_the_same() {
    let mut long = coded(&[b'd'; 8193]);
    *long.last_mut().unwrap() = 0;
    assert_eq!(error(&[&[PLAIN, 0x01, b'c'][..], &long].concat()), HpackError::HuffmanPadding);
}

#[test]
fn fields_that_differ_call_by_call_do_not_grow_the_store() {
    // grpc-go indexes its timeout and trace identifier although both are new with each call.
    let mut peer = Peer::new(4096);
    let mut most = 0;
    for call in 0..20_000_u32 {
        let block = [
            literal(INDEXED, b"grpc-timeout", format!("{}u", 900_000 + call).as_bytes()),
            literal(INDEXED, b"traceparent", format!("00-{call:032x}-{call:016x}-01").as_bytes()),
        ];
        peer.decode(&block.concat()).unwrap();
        most = most.max(peer.store.len());
    }
    // 4096 bytes hold the entries of 27 calls, of 51 and 98 bytes.
    assert_eq!(most, 54);
    peer.close();
}

proptest! {
    #[test]
    fn any_block_is_decoded_or_refused_and_leaks_nothing(
        blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8),
        table_bytes in 0_u32..10_000,
        list_bytes in 0_usize..2000,
        string_bytes in 0_usize..200,
    ) {
        let limits = HeaderListLimits { list_bytes, string_bytes, ..HeaderListLimits::default() };
        let mut peer = Peer { limits, ..Peer::new(table_bytes) };
        for block in blocks {
            if peer.decode(&block).is_err() {
                break;
            }
            prop_assert!(peer.decoder.table_bytes() <= table_bytes as usize);
        }
        peer.close();
    }

    /// The table must not depend on what the list takes.
    #[test]
    fn limits_never_change_the_table(
        fields in proptest::collection::vec((any::<bool>(), any::<bool>(), 0_usize..300, 0_usize..3000), 1..20),
        table_bytes in 0_u32..10_000,
        list_bytes in 2000_usize..20_000,
        string_bytes in 0_usize..3000,
    ) {
        let large = usize::MAX;
        let unlimited = HeaderListLimits { list_bytes: large, fields: large, string_bytes: large };
        let mut free = Peer { limits: unlimited, ..Peer::new(table_bytes) };
        let limits = HeaderListLimits { list_bytes, fields: 10, string_bytes };
        let mut bound = Peer { limits, ..Peer::new(table_bytes) };
        let mut block = Vec::new();
        integer::encode(table_bytes, 5, 0x20, &mut block);
        for (at, (indexed, huffman, name_len, value_len)) in fields.into_iter().enumerate() {
            let write = if huffman { coded } else { plain };
            block.push(if indexed { INDEXED } else { PLAIN });
            block.extend(write(&vec![b'a' + at as u8; name_len]));
            block.extend(write(&vec![b'0' + at as u8; value_len]));
        }
        let (_, all) = free.decode(&block).unwrap();
        match bound.decode(&block) {
            Ok((verdict, list)) => {
                prop_assert_eq!(&list[..], &all[..list.len()]);
                prop_assert_eq!(verdict == ListVerdict::Accepted, list.len() == all.len());
                prop_assert_eq!(bound.decoder.table_bytes(), free.decoder.table_bytes());
                prop_assert_eq!(bound.table(), free.table());
            }
            Err(error) => prop_assert_eq!(error, HpackError::ListFarTooLarge),
        }
        bound.close();
        free.close();
    }
}
