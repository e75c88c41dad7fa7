//! Header blocks: the examples of RFC 7541 Appendix C, each error once, and operations on an encoder.

use crate::Seed;

/// Blocks of one connection, each behind its length.
fn chain(blocks: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in blocks {
        let digits: Vec<u8> = block.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pairs = digits.chunks(2).map(|pair| {
            let pair = str::from_utf8(pair).expect("the blocks are ASCII");
            u8::from_str_radix(pair, 16).expect("the blocks are hexadecimal")
        });
        let bytes: Vec<u8> = pairs.collect();
        out.push(u8::try_from(bytes.len()).expect("the blocks are short"));
        out.extend(bytes);
    }
    out
}

/// Input of `hpack_decode`.
pub(crate) fn blocks() -> Vec<Seed> {
    let seed = |name, blocks: &[&str]| (name, chain(blocks));
    vec![
        seed("rfc7541-c2-1", &["400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"]),
        seed("rfc7541-c2-2", &["040c 2f73 616d 706c 652f 7061 7468"]),
        seed("rfc7541-c2-3", &["1008 7061 7373 776f 7264 0673 6563 7265 74"]),
        seed("rfc7541-c2-4", &["82"]),
        seed(
            "rfc7541-c3",
            &[
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
        ),
        seed(
            "rfc7541-c4",
            &[
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ),
        // Appendix C.5 and C.6 have a table of 256 bytes: 3fe1 01 says so.
        seed(
            "rfc7541-c5",
            &[
                "3fe1 0148 0333 3032 5807 7072 6976 6174 6561 1d4d 6f6e 2c20 3231 204f 6374 2032 3031 3320 3230 3a31
                 333a 3231 2047 4d54 6e17 6874 7470 733a 2f2f 7777 772e 6578 616d 706c 652e 636f 6d",
                "4803 3330 37c1 c0bf",
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
                 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
                 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            ],
        ),
        seed(
            "rfc7541-c6",
            &[
                "3fe1 0148 8264 0258 85ae c377 1a4b 6196 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff 6e91
                 9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3",
                "4883 640e ffc1 c0bf",
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
                 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            ],
        ),
        seed("integer-too-long", &["ff ff ff ff ff ff 0f"]),
        seed("truncated", &["40 0a 63 75"]),
        seed("index-zero", &["80"]),
        seed("index-beyond-the-table", &["be"]),
        seed("huffman-eos", &["00 84 ff ff ff ff 00"]),
        seed("huffman-padding", &["00 81 00 00", "00 82 1f ff 00"]),
        seed("size-update", &["20 82", "3f e1 1f 82"]),
        seed("size-update-too-large", &["3f e2 1f 82"]),
        seed("size-update-late", &["82 20"]),
        seed("list-over-its-limit", &["82 86 84 40 01 61 01 62", "be be 82 82"]),
        seed("list-far-too-large", &["82 82 82 82 82 82 82 82 82 82 82 82 82"]),
    ]
}

/// Input of `hpack_round_trip`.
pub(crate) fn operations() -> Vec<Seed> {
    const BY_REFERENCE: u8 = 0x10;
    const FIELD: u8 = 8;
    const LONG: u8 = 10;
    const RESIZE: u8 = 11;
    const RESIZE_LARGE: u8 = 12;
    const SEND: u8 = 13;
    let field = |kind: u8, name: &[u8], value: &[u8]| {
        [&[kind, name.len() as u8][..], name, &[value.len() as u8], value].concat()
    };
    let known = |at: u8, value: &[u8]| [&[at | BY_REFERENCE, value.len() as u8][..], value].concat();
    let custom = field(FIELD | BY_REFERENCE, b"x-user", b"an even keel");
    let call = [known(0, b"/shop.Orders/Get"), known(3, b"grpc-go/1.85"), known(4, b"99u")].concat();
    let secret = [known(5, b"Bearer x"), field(FIELD, b"cookie", b"a=b")].concat();
    let long = vec![LONG | BY_REFERENCE, 100, SEND, LONG | BY_REFERENCE, 119, SEND, LONG | BY_REFERENCE, 255];
    vec![
        ("call-twice", [&call[..], &[SEND], &call, &[SEND]].concat()),
        ("secrets", [&secret[..], &[SEND], &secret].concat()),
        ("entry-used-again", [&custom[..], &[SEND], &custom, &custom, &[SEND]].concat()),
        ("table-closed-and-opened", {
            [&custom[..], &[SEND, RESIZE, 0, SEND], &custom, &[RESIZE_LARGE, 124, SEND], &custom].concat()
        }),
        ("table-shrunk-twice", [&custom[..], &call, &[SEND, RESIZE, 60, RESIZE, 200], &custom].concat()),
        ("table-above-its-cap", [&[RESIZE_LARGE, 255][..], &custom, &[SEND], &custom].concat()),
        ("eviction", [&long[..], &[SEND], &call, &[SEND], &long].concat()),
        ("empty-strings", [field(FIELD | BY_REFERENCE, b"", b""), field(FIELD, b"", b"x")].concat()),
    ]
}
