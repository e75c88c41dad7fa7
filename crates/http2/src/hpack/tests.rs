//! RFC 7541 Appendix C, each violation at its edge, and encoder against decoder.

use proptest::prelude::*;

use super::*;
use crate::field::{FieldBlock, FieldStore};

type Pairs = Vec<(String, String)>;

struct Peer {
    store: FieldStore,
    decoder: Decoder,
    limits: HeaderListLimits,
}

impl Peer {
    fn new(table_bytes: u32) -> Self {
        Self {
            store: FieldStore::new(1),
            decoder: Decoder::new(table_bytes),
            limits: HeaderListLimits::default(),
        }
    }

    fn decode(&mut self, block: &[u8]) -> Result<(ListVerdict, Pairs), HpackError> {
        let mut out = FieldBlock::new();
        let verdict = self.decoder.decode(block, &self.limits, &mut self.store, &mut out);
        let pairs = pairs(&self.store, &out);
        out.clear(&mut self.store);
        verdict.map(|verdict| (verdict, pairs))
    }
}

fn pairs(store: &FieldStore, block: &FieldBlock) -> Pairs {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    block.iter(store).map(|field| (text(field.name), text(field.value))).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn expected(list: &[(&str, &str)]) -> Pairs {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

fn response(status: &'static str, date: &'static str, more: &[(&'static str, &'static str)]) -> Pairs {
    let head = [
        (":status", status),
        ("cache-control", "private"),
        ("date", date),
        ("location", "https://www.example.com"),
    ];
    expected(&[&head[..], more].concat())
}

#[test]
fn reads_the_single_fields_of_appendix_c_2() {
    let one = |block: &str| Peer::new(4096).decode(&hex(block)).unwrap().1;
    assert_eq!(
        one("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"),
        expected(&[("custom-key", "custom-header")])
    );
    assert_eq!(one("040c 2f73 616d 706c 652f 7061 7468"), expected(&[(":path", "/sample/path")]));
    assert_eq!(one("1008 7061 7373 776f 7264 0673 6563 7265 74"), expected(&[("password", "secret")]));
    assert_eq!(one("82"), expected(&[(":method", "GET")]));
}

#[test]
fn reads_the_requests_of_appendix_c_3_and_c_4() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut peer = Peer::new(4096);
        for ((block, list), size) in blocks.iter().zip(REQUESTS).zip([57, 110, 164]) {
            assert_eq!(peer.decode(&hex(block)), Ok((ListVerdict::Accepted, expected(list))));
            assert_eq!(peer.decoder.table_bytes(), size);
        }
        peer.decoder.clear(&mut peer.store);
        assert_eq!(peer.store.references(), 0);
    }
}

#[test]
fn reads_the_responses_of_appendix_c_5_and_c_6_with_eviction() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33
         3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718
         63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
         b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let first = "Mon, 21 Oct 2013 20:13:21 GMT";
    let second = "Mon, 21 Oct 2013 20:13:22 GMT";
    let lists = [
        response("302", first, &[]),
        response("307", first, &[]),
        response("200", second, &[("content-encoding", "gzip"), ("set-cookie", COOKIE)]),
    ];
    for blocks in [plain, huffman] {
        let mut peer = Peer::new(256);
        for ((block, list), size) in blocks.iter().zip(&lists).zip([222, 222, 215]) {
            assert_eq!(peer.decode(&hex(block)), Ok((ListVerdict::Accepted, list.clone())));
            assert_eq!(peer.decoder.table_bytes(), size);
        }
        peer.decoder.clear(&mut peer.store);
        assert_eq!(peer.store.references(), 0);
    }
}

#[test]
fn names_each_violation() {
    let error = |block: &[u8]| Peer::new(4096).decode(block).unwrap_err();
    assert_eq!(error(&[0x80]), HpackError::IndexZero);
    assert_eq!(error(&[0xbe]), HpackError::IndexOutOfTable { index: 62 });
    assert_eq!(error(&[0x40, 0x01]), HpackError::Truncated);
    assert_eq!(error(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]), HpackError::IntegerOverflow);
    assert_eq!(error(&[0x00, 0x81, 0x06, 0x00]), HpackError::HuffmanPadding);
    assert_eq!(error(&[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]), HpackError::BadHuffman);
    assert_eq!(error(&[0x82, 0x20]), HpackError::TableSizeUpdateLate);
    let too_large = HpackError::TableSizeUpdateTooLarge { bytes: 4097, limit: 4096 };
    assert_eq!(error(&[0x3f, 0xe2, 0x1f]), too_large);
    assert!(Peer::new(4096).decode(&[0x3f, 0xe1, 0x1f]).is_ok());
}

#[test]
fn a_string_of_four_gigabytes_is_refused_before_anything_is_kept() {
    // CVE-2023-33953: the length was believed and waited for.
    assert_eq!(
        Peer::new(4096).decode(&[0x00, 0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f]).unwrap_err(),
        HpackError::Truncated
    );
}

#[test]
fn a_lowered_limit_must_be_followed_at_once() {
    let mut peer = Peer::new(4096);
    peer.decoder.set_table_limit(100);
    assert_eq!(peer.decode(&[0x82]).unwrap_err(), HpackError::TableSizeUpdateMissing);
    let mut peer = Peer::new(4096);
    peer.decoder.set_table_limit(100);
    assert!(peer.decode(&[0x3f, 0x45, 0x82]).is_ok());
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
fn an_http2_bomb_is_charged_by_decoded_size() {
    // CVE-2026-49975: one table entry of 4 KB, then a reference of one byte each.
    let mut peer = Peer::new(4096);
    let mut block = vec![0x40, 0x01, b'a'];
    integer::encode(4000, 7, 0, &mut block);
    block.extend_from_slice(&[b'b'; 4000]);
    assert_eq!(peer.decode(&block).unwrap().0, ListVerdict::Accepted);
    assert_eq!(peer.decode(&[0xbe; 4]).unwrap().0, ListVerdict::Accepted);
    let (verdict, list) = peer.decode(&[0xbe; 5]).unwrap();
    assert_eq!((verdict, list.len()), (ListVerdict::TooLarge, 4));
    assert_eq!(peer.decode(&[0xbe; 17]).unwrap_err(), HpackError::ListFarTooLarge);
    assert_eq!(peer.store.len(), 1, "references are not copies");
    peer.decoder.clear(&mut peer.store);
}

#[test]
fn a_list_that_is_too_large_leaves_the_table_right() {
    let mut peer = Peer::new(4096);
    let mut block = vec![0x82; 150];
    block.extend_from_slice(&[0x40, 0x01, b'a', 0x01, b'b']);
    assert_eq!(peer.decode(&block).unwrap().0, ListVerdict::TooLarge);
    assert_eq!(peer.decode(&[0xbe]).unwrap().1, expected(&[("a", "b")]));
    peer.decoder.clear(&mut peer.store);
}

#[test]
fn a_string_over_its_limit_makes_the_list_too_large_and_empties_the_table() {
    let mut peer = Peer::new(4096);
    peer.decode(&[0x40, 0x01, b'a', 0x01, b'b']).unwrap();
    let mut block = vec![0x40, 0x01, b'c'];
    integer::encode(8193, 7, 0, &mut block);
    block.extend_from_slice(&[b'd'; 8193]);
    assert_eq!(peer.decode(&block).unwrap(), (ListVerdict::TooLarge, vec![]));
    assert_eq!(peer.decoder.table_len(), 0);
    assert_eq!(peer.store.references(), 0);
}

/// Encodes blocks with one store and decodes them with another, as two processes would.
struct Link {
    store: FieldStore,
    encoder: Encoder,
    peer: Peer,
}

impl Link {
    fn new(peer_table: u32) -> Self {
        let mut link =
            Self { store: FieldStore::new(5), encoder: Encoder::new(4096), peer: Peer::new(peer_table) };
        link.encoder.set_peer_limit(peer_table);
        link
    }

    /// Sends interned fields as by-reference ones and returns the encoded bytes.
    fn send(&mut self, list: &[(&str, &str)]) -> Vec<u8> {
        let mut block = FieldBlock::new();
        for (name, value) in list {
            let id = self.store.intern(name.as_bytes(), value.as_bytes());
            block.push_retained(&self.store, id, true);
        }
        let mut out = Vec::new();
        self.encoder.encode_block(&mut self.store, &block, &mut out);
        block.clear(&mut self.store);
        assert_eq!(self.peer.decode(&out), Ok((ListVerdict::Accepted, expected(list))));
        assert_eq!(self.encoder.table_bytes(), self.peer.decoder.table_bytes());
        out
    }
}

#[test]
fn repeated_fields_become_one_byte_each() {
    let mut link = Link::new(4096);
    let list = [(":method", "POST"), (":path", "/pkg.Service/Method"), ("user-agent", "grpc-go/1.85")];
    assert!(link.send(&list).len() > 20);
    assert_eq!(link.send(&list), [0x83, 0xbf, 0xbe]);
}

#[test]
fn volatile_secret_and_one_off_fields_never_enter_the_table() {
    let mut link = Link::new(4096);
    let list = [
        ("grpc-timeout", "99u"),
        ("authorization", "Bearer x"),
        ("traceparent", "00-1-2-01"),
        ("cookie", "a=b"),
    ];
    let out = link.send(&list);
    assert_eq!(link.encoder.table_len(), 0);
    assert!(out.contains(&0x10), "secrets are marked as never indexed");
    let mut block = FieldBlock::new();
    block.push_literal(b"x-once", b"1", false);
    let mut out = Vec::new();
    link.encoder.encode_block(&mut link.store, &block, &mut out);
    block.clear(&mut link.store);
    assert_eq!(link.encoder.table_len(), 0);
}

#[test]
fn a_peer_that_forbids_a_table_gets_none_and_one_that_offers_gigabytes_gets_4096_bytes() {
    let mut link = Link::new(0);
    link.send(&[("x-a", "b")]);
    assert_eq!(link.encoder.table_len(), 0);
    let mut encoder = Encoder::new(4096);
    encoder.set_peer_limit(u32::MAX);
    let mut out = Vec::new();
    encoder.begin_block(&mut link.store, &mut out);
    assert_eq!(out, [], "the table keeps its size, so there is nothing to say");
}

#[test]
fn a_table_that_shrank_and_grew_between_blocks_says_both() {
    let mut link = Link::new(4096);
    link.send(&[("x-a", "b")]);
    link.encoder.set_peer_limit(0);
    link.encoder.set_peer_limit(4096);
    let out = link.send(&[("x-a", "b")]);
    assert_eq!(out[..4], [0x20, 0x3f, 0xe1, 0x1f]);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_through_evictions_and_resizes(
        blocks in proptest::collection::vec(
            (proptest::collection::vec((0_u8..30, 0_u8..30, 0_usize..200), 0..12), proptest::option::of(0_u32..600)),
            1..60,
        ),
    ) {
        let mut link = Link::new(512);
        link.peer.decoder = Decoder::new(4096);
        for (fields, resize) in blocks {
            if let Some(bytes) = resize {
                link.encoder.set_peer_limit(bytes);
            }
            let owned: Pairs = fields
                .iter()
                .map(|(name, value, length)| (format!("x-{name}"), format!("{value}-").repeat(1 + length / 3)))
                .collect();
            let list: Vec<(&str, &str)> = owned.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            link.send(&list);
        }
        link.encoder.clear(&mut link.store);
        link.peer.decoder.clear(&mut link.peer.store);
        prop_assert_eq!(link.store.references(), 0);
        prop_assert_eq!(link.peer.store.references(), 0);
    }

    #[test]
    fn any_block_is_decoded_or_refused_and_leaks_nothing(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let mut peer = Peer::new(4096);
        for block in blocks {
            if peer.decode(&block).is_err() {
                break;
            }
        }
        peer.decoder.clear(&mut peer.store);
        prop_assert_eq!(peer.store.references(), 0);
    }
}
