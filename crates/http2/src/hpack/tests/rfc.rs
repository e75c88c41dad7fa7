//! RFC 7541 Appendix C, with the table after each block.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
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
    let one = |block: &str| {
        let mut peer = Peer::new(4096);
        let (_, list) = peer.decode(&hex(block)).unwrap();
        let (bytes, table) = (peer.decoder.table_bytes(), peer.table());
        peer.close();
        (list, bytes, table)
    };
    let custom = expected(&[("custom-key", "custom-header")]);
    assert_eq!(
        one("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"),
        (custom.clone(), 55, custom)
    );
    assert_eq!(
        one("040c 2f73 616d 706c 652f 7061 7468"),
        (expected(&[(":path", "/sample/path")]), 0, vec![])
    );
    assert_eq!(
        one("1008 7061 7373 776f 7264 0673 6563 7265 74"),
        (expected(&[("password", "secret")]), 0, vec![])
    );
    assert_eq!(one("82"), (expected(&[(":method", "GET")]), 0, vec![]));
}

#[test]
fn keeps_the_never_indexed_mark_of_appendix_c_2_3() {
    let mut peer = Peer::new(4096);
    let mut out = FieldBlock::new();
    let block = hex("1008 7061 7373 776f 7264 0673 6563 7265 74");
    peer.decoder.decode(&block, &peer.limits, &mut peer.store, &mut out).unwrap();
    let field = out.get(&peer.store, 0);
    assert!(field.never_index && !field.by_reference && field.id.is_none());
    let mut encoder = Encoder::new(4096);
    let mut again = Vec::new();
    encoder.encode_block(&mut peer.store, &out, &mut again);
    assert_eq!(again, block);
    out.clear(&mut peer.store);
    peer.close();
}

/// Decodes blocks one after the other: lists, sizes and contents of the table.
fn check(table_bytes: u32, blocks: [&str; 3], lists: &[Pairs; 3], sizes: [usize; 3], tables: &[Pairs; 3]) {
    let mut peer = Peer::new(table_bytes);
    for at in 0..3 {
        assert_eq!(
            peer.decode(&hex(blocks[at])),
            Ok((ListVerdict::Accepted, lists[at].clone())),
            "block {at}"
        );
        assert_eq!(peer.decoder.table_bytes(), sizes[at], "block {at}");
        assert_eq!(peer.table(), tables[at], "block {at}");
    }
    peer.close();
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
    let entries = expected(&[
        ("custom-key", "custom-value"),
        ("cache-control", "no-cache"),
        (":authority", "www.example.com"),
    ]);
    let tables = [entries[2..].to_vec(), entries[1..].to_vec(), entries.clone()];
    for blocks in [plain, huffman] {
        check(4096, blocks, &REQUESTS.map(expected), [57, 110, 164], &tables);
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
    let location = ("location", "https://www.example.com");
    let tables = [
        expected(&[location, ("date", first), ("cache-control", "private"), (":status", "302")]),
        expected(&[(":status", "307"), location, ("date", first), ("cache-control", "private")]),
        expected(&[("set-cookie", COOKIE), ("content-encoding", "gzip"), ("date", second)]),
    ];
    for blocks in [plain, huffman] {
        check(256, blocks, &lists, [222, 222, 215], &tables);
    }
}

#[test]
fn codes_the_strings_of_appendix_c_4_and_c_6() {
    let strings = [
        ("www.example.com", "f1e3 c2e5 f23a 6ba0 ab90 f4ff"),
        ("no-cache", "a8eb 1064 9cbf"),
        ("custom-key", "25a8 49e9 5ba9 7d7f"),
        ("custom-value", "25a8 49e9 5bb8 e8b4 bf"),
        ("302", "6402"),
        ("private", "aec3 771a 4b"),
        ("Mon, 21 Oct 2013 20:13:21 GMT", "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"),
        ("https://www.example.com", "9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"),
        ("307", "640e ff"),
        ("gzip", "9bd9 ab"),
        (
            COOKIE,
            "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106
             3d50 07",
        ),
    ];
    for (text, code) in strings {
        let mut out = Vec::new();
        huffman::encode(text.as_bytes(), &mut out);
        assert_eq!(out, hex(code), "{text}");
        assert_eq!(huffman::encoded_len(text.as_bytes()), out.len(), "{text}");
    }
}
