//! gRPC's framing and values, configurations, targets.

use std::io;
use std::path::Path;

use evenkeel_grpc::{encode_binary_value, encode_prefix};

use crate::Seed;

/// Input of `grpc_framing`: a limit, then the bytes of a stream.
pub(crate) fn framing() -> Vec<Seed> {
    const NO_LIMIT: u8 = 255;
    let message =
        |payload: &[u8], compressed| [&encode_prefix(payload.len() as u32, compressed)[..], payload].concat();
    let stream = |limit: u8, parts: &[&[u8]]| [&[limit][..], &parts.concat()].concat();
    let hi = message(b"hi", false);
    vec![
        ("empty", stream(NO_LIMIT, &[])),
        ("message", stream(NO_LIMIT, &[&hi])),
        ("messages", stream(NO_LIMIT, &[&hi, &message(b"", false), &message(b"gzip", true), &hi])),
        ("at-the-limit", stream(2, &[&hi, &hi])),
        ("above-the-limit", stream(1, &[&hi])),
        ("flag", stream(NO_LIMIT, &[&hi, &[2, 0, 0, 0, 0]])),
        ("flag-and-length", stream(1, &[&[3, 0xff, 0, 0, 0]])),
        ("cut-in-the-prefix", stream(NO_LIMIT, &[&hi, &[0, 0, 0]])),
        ("cut-in-the-payload", stream(NO_LIMIT, &[&hi, &hi[..6]])),
        ("longest", stream(NO_LIMIT, &[&[0, 0xff, 0xff, 0xff, 0xff, 1]])),
    ]
}

/// Input of `grpc_values`.
pub(crate) fn values() -> Vec<Seed> {
    let seed = |name, value: &str| (name, value.as_bytes().to_vec());
    vec![
        seed("timeout", "100m"),
        seed("timeout-longest", "99999999H"),
        seed("timeout-nine-digits", "100000000n"),
        seed("timeout-zero", "0n"),
        seed("path", "/grpc.health.v1.Health/Check"),
        seed("path-dots", "/../Check"),
        seed("path-query", "/a.B/C?d"),
        seed("key-binary", "trace-proto-bin"),
        seed("key-upper", "X-Trace"),
        ("binary", encode_binary_value(b"\0\x01\xfe\xff").into_bytes()),
        seed("binary-list", "AA==, ,AQI,AQID"),
        seed("binary-trailing-bits", "AB"),
        seed("message", "not found: 100%25 %E2%98%BA"),
        seed("message-broken-escape", "50% off %zz %f"),
        ("message-not-utf8", b"\xff%ff%C3".to_vec()),
        seed("message-spaces", "%20inner space %20"),
        ("message-too-long", " ü".repeat(400).into_bytes()),
        seed("pushback", "2147483647"),
        seed("pushback-negative", "-1"),
        seed("status", "14"),
        seed("status-leading-zero", "014"),
    ]
}

/// Input of `config_parse`: the documented examples, and faults of each kind.
pub(crate) fn configurations(root: &Path) -> io::Result<Vec<Seed>> {
    const GOOD: &str =
        "listeners: [{address: '0.0.0.0:1', routes: [{cluster: a}]}]\nclusters: [{name: a, target: b}]\n";
    let mut seeds = Vec::new();
    for name in ["full.yaml", "minimal.yaml", "routes.yaml", "shop.yaml", "sidecar.yaml"] {
        seeds.push((name, std::fs::read(root.join("docs/examples").join(name))?));
    }
    seeds.push(("endpoints.yaml", std::fs::read(root.join("docs/examples/endpoints/catalog.yaml"))?));
    let texts = [
        ("good", GOOD.to_owned()),
        ("empty", String::new()),
        ("no-yaml", "listeners: [}".to_owned()),
        ("unknown-key", GOOD.replace("target:", "tarqet: c, target:")),
        ("repeated-key", GOOD.replace("target:", "name: b, target:")),
        ("wrong-types", GOOD.replace("[{cluster: a}]", "7").replace("name: a", "name: [a]")),
        ("unknown-cluster", GOOD.replace("cluster: a", "cluster: b")),
        (
            "bad-values",
            format!("{}workers: 0\nadmin: nowhere\ndrain: {{grace: 5}}\n", GOOD.replace("0.0.0.0:1", "x")),
        ),
        ("shadowed-routes", GOOD.replace("{cluster: a}", "{cluster: a}, {match: {service: s}, cluster: a}")),
        ("anchors", GOOD.replace("[{name: a", "[&x {name: a").replace("b}]", "b}, *x]")),
        ("merge-key", format!("<<: {{workers: 1}}\n{GOOD}")),
        ("two-documents", format!("{GOOD}---\n{GOOD}")),
        (
            "not-ascii",
            GOOD.replace("name: a", "name: ä\u{1F600}").replace("target: b", "target: \"\\u0007\""),
        ),
        ("deep", "[".repeat(200)),
        ("carriage-returns", GOOD.replace('\n', "\r\n").replace("cluster: a", "cluster: zz")),
        (
            "weights",
            "- {address: '10.0.0.1:1', weight: 0}\n- {address: '[::1]:2', weight: -1}\n- unix:/a\n"
                .to_owned(),
        ),
    ];
    seeds.extend(texts.map(|(name, text)| (name, text.into_bytes())));
    Ok(seeds)
}

/// Input of `target_parse`.
pub(crate) fn targets() -> Vec<Seed> {
    let seed = |(name, value): (&'static str, &str)| (name, value.as_bytes().to_vec());
    let texts = [
        ("dns", "dns:///orders:50051"),
        ("dns-short", "orders"),
        ("dns-server", "dns://10.0.0.10:53/orders:50051"),
        ("dns-v6", "dns://[2001:db8::1]/[::1]:1"),
        ("dns-two-slashes", "dns://orders:50051"),
        ("srv", "dns+srv:///_grpc._tcp.orders.svc"),
        ("ipv4", "ipv4:10.0.0.1:50051,10.0.0.2:50051"),
        ("ipv6", "ipv6:[::1]:50051,[fe80::1%3]:2"),
        ("unix", "unix:/run/orders.sock"),
        ("unix-relative", "unix:orders.sock"),
        ("unix-two-slashes", "unix:////run/orders.sock"),
        ("file", "file:/etc/evenkeel/orders.yaml"),
        ("scheme", "http://orders/"),
        ("port", "orders:65536"),
        ("label", "-orders.-"),
        ("blank", " orders\u{7}"),
        ("listen", "[::]:50051"),
        ("listen-any-port", "127.0.0.1:0"),
        ("listen-name", "localhost:50051"),
        ("listen-port", ":50051"),
    ];
    texts.map(seed).to_vec()
}
