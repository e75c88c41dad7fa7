//! The encoder's choices, and encoder against decoder.

use proptest::prelude::*;

use super::*;

/// Encodes blocks with one store and decodes them with another, as two processes would.
struct Link {
    store: FieldStore,
    encoder: Encoder,
    peer: Peer,
}

impl Link {
    fn new(peer_table: u32) -> Self {
        let mut link = Self { store: FieldStore::new(5), encoder: Encoder::new(4096), peer: Peer::new(4096) };
        link.encoder.set_peer_limit(peer_table);
        link
    }

    /// Sends interned fields, as their sender used them, and returns the encoded bytes.
    fn send_as(&mut self, list: &[(&str, &str)], by_reference: bool) -> Vec<u8> {
        let mut block = FieldBlock::new();
        for (name, value) in list {
            let id = self.store.intern(name.as_bytes(), value.as_bytes());
            block.push_retained(&self.store, id, by_reference);
        }
        let mut out = Vec::new();
        self.encoder.encode_block(&mut self.store, &block, &mut out);
        block.clear(&mut self.store);
        assert_eq!(self.peer.decode(&out), Ok((ListVerdict::Accepted, expected(list))));
        assert_eq!(self.encoder.table_bytes(), self.peer.decoder.table_bytes());
        assert_eq!(self.encoder.table_len(), self.peer.decoder.table_len());
        out
    }

    fn send(&mut self, list: &[(&str, &str)]) -> Vec<u8> {
        self.send_as(list, true)
    }

    fn close(mut self) {
        self.encoder.clear(&mut self.store);
        assert_eq!((self.store.references(), self.store.len()), (0, 0));
        self.peer.close();
    }
}

#[test]
fn repeated_fields_become_one_byte_each() {
    let mut link = Link::new(4096);
    let list = [(":method", "POST"), (":path", "/pkg.Service/Method"), ("user-agent", "grpc-go/1.85")];
    assert!(link.send(&list).len() > 20);
    assert_eq!(link.send(&list), [0x83, 0xbf, 0xbe]);
    // Whoever sends it next, and however: the entry is there.
    assert_eq!(link.send_as(&list, false), [0x83, 0xbf, 0xbe]);
    link.close();
}

#[test]
fn entries_of_a_table_that_is_exactly_full_are_all_referred_to() {
    // Each is 2 bytes of text and 32 more; four fill the table.
    let mut link = Link::new(4 * 34);
    let names: Vec<String> = (b'a'..=b'z').map(|letter| char::from(letter).to_string()).collect();
    for window in names.windows(4).cycle().take(200) {
        let list: Vec<(&str, &str)> = window.iter().map(|name| (name.as_str(), "1")).collect();
        link.send(&list);
        assert_eq!(link.encoder.table_len(), 4);
        assert_eq!(link.send(&list), [0xc1, 0xc0, 0xbf, 0xbe], "the oldest first");
    }
    link.close();
}

#[test]
fn a_field_that_its_sender_does_not_use_again_stays_out_of_the_table() {
    let mut link = Link::new(4096);
    assert_eq!(link.send_as(&[("x-once", "1")], false), literal(PLAIN, b"x-once", b"1"));
    assert_eq!(link.send_as(&[(":path", "/a")], false), [0x04, 0x02, b'/', b'a']);
    assert_eq!(link.encoder.table_len(), 0);
    let mut block = FieldBlock::new();
    block.push_literal(b"x-once", b"1", false);
    let mut out = Vec::new();
    link.encoder.encode_block(&mut link.store, &block, &mut out);
    block.clear(&mut link.store);
    assert_eq!((out, link.encoder.table_len()), (literal(PLAIN, b"x-once", b"1"), 0));
    link.close();
}

#[test]
fn fields_that_differ_call_by_call_stay_out_of_the_table() {
    let mut link = Link::new(4096);
    let list = [("grpc-timeout", "99u"), ("traceparent", "00-1-2-01"), ("date", "x"), ("x-b3-spanid", "1")];
    link.send(&list);
    assert_eq!(link.encoder.table_len(), 0);
    link.close();
}

#[test]
fn secrets_are_marked_as_never_indexed() {
    let mut link = Link::new(4096);
    assert_eq!(link.send(&[("authorization", "Bearer x")])[..3], [0x1f, 23 - 15, 8]);
    assert_eq!(link.send(&[("cookie", "a=b")])[..3], [0x1f, 32 - 15, 3]);
    assert_eq!(link.send(&[("cookie", "")]), [0x1f, 32 - 15, 0]);
    assert_eq!(link.encoder.table_len(), 0);

    let mut out = Vec::new();
    link.encoder.literal(&mut link.store, b"proxy-authorization", b"x", &mut out);
    link.encoder.literal(&mut link.store, b"grpc-timeout", b"1S", &mut out);
    assert_eq!(out, [&[0x1f, 49 - 15, 1, b'x'][..], &literal(PLAIN, b"grpc-timeout", b"1S")].concat());

    let mut block = FieldBlock::new();
    block.push_literal(b"x-key", b"1", true);
    let mut out = Vec::new();
    link.encoder.field(&mut link.store, &block, 0, &mut out);
    block.clear(&mut link.store);
    assert_eq!(out, literal(0x10, b"x-key", b"1"));
    link.close();
}

#[test]
fn a_field_may_take_half_of_the_table_and_not_one_byte_more() {
    let mut link = Link::new(4096);
    link.send(&[("x-a", &"v".repeat(2048 - 35))]);
    assert_eq!((link.encoder.table_len(), link.encoder.table_bytes()), (1, 2048));
    link.send(&[("x-a", &"v".repeat(2048 - 34))]);
    assert_eq!((link.encoder.table_len(), link.encoder.table_bytes()), (1, 2048));
    link.close();
}

#[test]
fn strings_are_coded_only_if_they_enter_the_table_and_get_shorter() {
    let mut link = Link::new(4096);
    let coded_field = [&[INDEXED][..], &coded(b"x-name"), &coded(b"value")].concat();
    assert_eq!(link.send(&[("x-name", "value")]), coded_field);
    // Code of 13 bits and more for each byte of the value.
    assert_eq!(
        link.send(&[("x-other", "<<>>")]),
        [&[INDEXED][..], &coded(b"x-other"), &plain(b"<<>>")].concat()
    );
    assert_eq!(link.send_as(&[("x-plain", "value")], false), literal(PLAIN, b"x-plain", b"value"));
    link.close();
}

#[test]
fn evicted_fields_are_written_out_again() {
    let mut link = Link::new(4096);
    let values: Vec<String> = (0..300).map(|value| format!("{value:05}")).collect();
    for value in &values {
        link.send(&[("x-a", value)]);
    }
    // Entries of 40 bytes: 102 of them.
    assert_eq!(link.encoder.table_len(), 102);
    assert!(link.send(&[("x-a", &values[198])]).len() <= 2, "the oldest that is left");
    assert!(link.send(&[("x-a", &values[197])]).len() > 5, "the newest that is gone");
    link.close();
}

#[test]
fn a_peer_that_forbids_a_table_gets_none_and_one_that_offers_gigabytes_gets_4096_bytes() {
    let mut link = Link::new(0);
    assert_eq!(link.send(&[("x-a", "b")])[0], 0x20);
    assert_eq!(link.encoder.table_len(), 0);
    link.close();

    let mut link = Link::new(u32::MAX);
    let mut out = Vec::new();
    link.encoder.begin_block(&mut link.store, &mut out);
    assert_eq!(out, [], "the table keeps its size, so there is nothing to say");
    link.close();
}

#[test]
fn a_cap_below_the_initial_size_is_announced_once() {
    let mut link = Link { encoder: Encoder::new(100), ..Link::new(4096) };
    assert_eq!(link.send(&[(":method", "GET")]), [0x3f, 100 - 31, 0x82]);
    assert_eq!(link.send(&[(":method", "GET")]), [0x82]);
    for value in ["1", "2", "3", "4"] {
        link.send(&[("x-a", value)]);
    }
    assert_eq!(link.encoder.table_len(), 2);
    link.close();
}

#[test]
fn a_table_that_shrank_and_grew_between_blocks_says_both() {
    let mut link = Link::new(4096);
    link.send(&[("x-a", "b")]);
    link.encoder.set_peer_limit(0);
    link.encoder.set_peer_limit(4096);
    let out = link.send(&[("x-a", "b")]);
    assert_eq!(out[..4], [0x20, 0x3f, 0xe1, 0x1f]);
    // And a decoder that lowered its limit in between finds what it asked for.
    link.peer.decoder.set_table_limit(50);
    link.peer.decoder.set_table_limit(3000);
    link.encoder.set_peer_limit(50);
    link.encoder.set_peer_limit(3000);
    link.send(&[("x-a", "b")]);
    assert_eq!(link.send(&[("x-a", "b")]), [0xbe]);
    link.close();
}

#[test]
fn an_idle_connection_owns_no_memory_here() {
    // 10 000 idle connections have 20 000 of these.
    assert!(size_of::<Encoder>() + size_of::<Decoder>() <= 160);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_through_evictions_and_resizes(
        blocks in proptest::collection::vec(
            (
                proptest::collection::vec((0_u8..30, 0_u8..30, 0_usize..200, any::<bool>()), 0..12),
                proptest::collection::vec(0_u32..600, 0..3),
            ),
            1..60,
        ),
    ) {
        let mut link = Link::new(512);
        link.peer.decoder.set_table_limit(512);
        for (fields, resizes) in blocks {
            for bytes in resizes {
                link.encoder.set_peer_limit(bytes);
                link.peer.decoder.set_table_limit(bytes);
            }
            let by_reference = fields.iter().filter(|field| field.3).count() * 2 >= fields.len();
            let owned: Pairs = fields
                .iter()
                .map(|(name, value, length, _)| {
                    (format!("x-{name}"), format!("{value}-").repeat(1 + length / 3))
                })
                .collect();
            let list: Vec<(&str, &str)> = owned.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            link.send_as(&list, by_reference);
        }
        link.close();
    }

    #[test]
    fn forwarding_keeps_every_field_and_the_never_indexed_mark(
        calls in proptest::collection::vec(
            proptest::collection::vec((0_usize..4, 0_u8..20, 0_u8..20, any::<bool>()), 0..10),
            1..40,
        ),
    ) {
        // A client's blocks of every representation go through decoder and encoder of one store, as in the proxy.
        let mut link = Link::new(4096);
        let mut client = Decoder::new(4096);
        for fields in calls {
            let mut block = Vec::new();
            let (mut list, mut never) = (Vec::new(), Vec::new());
            for (kind, name, value, huffman) in fields {
                let first = [INDEXED, PLAIN, 0x10, 0x80][kind];
                if first == 0x80 {
                    block.push(0x80 | 4);
                    list.push((":path".to_owned(), "/".to_owned()));
                    never.push(false);
                    continue;
                }
                let write = if huffman { coded } else { plain };
                let (name, value) = (format!("x-{name}"), format!("{value}!").repeat(usize::from(value)));
                block.extend([&[first][..], &write(name.as_bytes()), &write(value.as_bytes())].concat());
                list.push((name, value));
                never.push(first == 0x10);
            }
            let mut out = FieldBlock::new();
            client.decode(&block, &link.peer.limits, &mut link.store, &mut out).unwrap();
            let mut bytes = Vec::new();
            link.encoder.encode_block(&mut link.store, &out, &mut bytes);
            out.clear(&mut link.store);
            let mut got = FieldBlock::new();
            link.peer.decoder.decode(&bytes, &link.peer.limits, &mut link.peer.store, &mut got).unwrap();
            prop_assert_eq!(pairs(&link.peer.store, &got), list);
            let marks: Vec<bool> = got.iter(&link.peer.store).map(|field| field.never_index).collect();
            got.clear(&mut link.peer.store);
            prop_assert_eq!(marks, never);
        }
        client.clear(&mut link.store);
        link.close();
    }
}
