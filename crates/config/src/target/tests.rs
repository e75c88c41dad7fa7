use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn dns(authority: Option<&str>, host: &str, port: u16) -> Target {
    Target::Dns { authority: authority.map(|text| text.parse().unwrap()), host: host.into(), port }
}

fn problem(text: &str) -> TargetProblem {
    Target::parse(text).unwrap_err().problem().clone()
}

#[test]
fn dns_is_the_default_scheme_and_443_the_default_port() {
    for text in ["dns:///orders:50051", "dns:orders:50051", "orders:50051"] {
        assert_eq!(Target::parse(text), Ok(dns(None, "orders", 50051)), "{text}");
    }
    for text in ["dns:///orders", "dns:orders", "orders"] {
        assert_eq!(Target::parse(text), Ok(dns(None, "orders", 443)), "{text}");
    }
    assert_eq!(Target::parse("orders.shop.svc.:1"), Ok(dns(None, "orders.shop.svc.", 1)));
    assert_eq!(Target::parse("dns:1"), Err(TargetError::new("dns:1", problem("1"))), "a port is not a host");
}

#[test]
fn a_name_server_may_be_named() {
    assert_eq!(Target::parse("dns://10.0.0.10:5353/orders:1"), Ok(dns(Some("10.0.0.10:5353"), "orders", 1)));
    assert_eq!(Target::parse("dns://10.0.0.10/orders:1"), Ok(dns(Some("10.0.0.10:53"), "orders", 1)));
    assert_eq!(Target::parse("dns://[::1]:5353/orders:1"), Ok(dns(Some("[::1]:5353"), "orders", 1)));
    assert_eq!(problem("dns://ns/orders"), TargetProblem::InvalidAuthority { authority: "ns".into() });
}

#[test]
fn ip_addresses_may_stand_for_a_host() {
    assert_eq!(Target::parse("10.0.0.1:50051"), Ok(dns(None, "10.0.0.1", 50051)));
    assert_eq!(Target::parse("dns:///[::1]:50051"), Ok(dns(None, "::1", 50051)));
    assert_eq!(Target::parse("[::1]"), Ok(dns(None, "::1", 443)));
    assert_eq!(problem("dns:///::1"), TargetProblem::Unbracketed { address: "::1".into() });
    for text in
        ["10.0.0.300:1", "10.0.0:1", "50051", "dns:///[::1]x", "[::1", "[10.0.0.1]:1", "dns:///1.2.3.4."]
    {
        assert!(matches!(problem(text), TargetProblem::InvalidHost { .. }), "{text}: {:?}", problem(text));
    }
}

#[test]
fn lists_hold_addresses_of_one_family_with_their_ports() {
    let parsed = Target::parse("ipv4:10.0.0.1:1,10.0.0.2:2").unwrap();
    assert_eq!(parsed, Target::Ip(vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()]));
    assert_eq!(Target::parse("ipv4:///10.0.0.1:1").unwrap().to_string(), "ipv4:10.0.0.1:1");
    assert_eq!(Target::parse("ipv6:[::1]:1").unwrap(), Target::Ip(vec!["[::1]:1".parse().unwrap()]));
    assert!(matches!(problem("ipv4:[::1]:1"), TargetProblem::InvalidAddress { family: "IPv4", .. }));
    assert!(matches!(problem("ipv6:10.0.0.1:1"), TargetProblem::InvalidAddress { family: "IPv6", .. }));
    assert!(matches!(problem("ipv4:orders:1"), TargetProblem::InvalidAddress { .. }));
    assert_eq!(problem("ipv4:10.0.0.1:0"), TargetProblem::InvalidPort { port: "0".into() });
    for text in ["ipv4:", "ipv4:10.0.0.1:1,", "ipv4:,10.0.0.1:1"] {
        assert_eq!(problem(text), TargetProblem::EmptyEntry, "{text}");
    }
}

#[test]
fn a_list_is_bounded() {
    let list = |count: usize| {
        format!("ipv4:{}", (1..=count).map(|port| format!("10.0.0.1:{port}")).collect::<Vec<_>>().join(","))
    };
    assert!(Target::parse(&list(MAX_LISTED_ADDRESSES)).is_ok());
    let count = MAX_LISTED_ADDRESSES + 1;
    assert_eq!(problem(&list(count)), TargetProblem::TooManyAddresses { count });
}

#[test]
fn a_missing_port_is_answered_with_the_address_to_write() {
    let error = Target::parse("ipv4:10.0.0.1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "target `ipv4:10.0.0.1`: missing port in `10.0.0.1`; write `ipv4:10.0.0.1:50051`"
    );
    let remedy = |text: &str| problem(text).remedy();
    assert_eq!(remedy("ipv6:::1"), "write `ipv6:[::1]:50051`");
    assert_eq!(remedy("ipv6:[::1]"), "write `ipv6:[::1]:50051`");
}

#[test]
fn two_slashes_are_answered_with_three() {
    let error = Target::parse("dns://orders:50051").unwrap_err();
    assert_eq!(
        error.to_string(),
        "target `dns://orders:50051`: `orders:50051` stands where only a name server or nothing can stand; \
         write `dns:///orders:50051`"
    );
    assert_eq!(problem("dns+srv://_grpc._tcp.a").remedy(), "write `dns+srv:///_grpc._tcp.a`");
    assert_eq!(problem("unix://run/x").remedy(), "write `unix:/run/x`");
    assert_eq!(problem("file://host/x").remedy(), "write `file:/host/x`");
}

#[test]
fn unknown_schemes_are_answered_with_the_nearest() {
    let remedy = |text: &str| problem(text).remedy();
    assert_eq!(remedy("dsn:///orders:1"), "write `dns:///orders:1`");
    assert_eq!(remedy("http://orders:1/"), "write `dns:///orders:1`");
    assert_eq!(remedy("xds:///orders"), "use one of dns, dns+srv, ipv4, ipv6, unix, file");
    assert_eq!(problem("xds:orders"), TargetProblem::InvalidPort { port: "orders".into() });
}

#[test]
fn services_have_no_port() {
    let name = "_grpc._tcp.orders.svc";
    let parsed = Target::parse(&format!("dns+srv://10.0.0.10/{name}")).unwrap();
    assert_eq!(parsed, Target::Srv { authority: "10.0.0.10:53".parse().ok(), name: name.into() });
    assert_eq!(Target::parse("dns+srv:a.b"), Ok(Target::Srv { authority: None, name: "a.b".into() }));
    assert_eq!(
        problem("dns+srv:///a.b:1"),
        TargetProblem::PortOnService { suggestion: "dns+srv:///a.b".into() }
    );
    assert_eq!(problem("dns+srv:///"), TargetProblem::MissingHost);
}

#[test]
fn paths_are_absolute_or_relative() {
    for text in ["unix:/run/x", "unix:///run/x"] {
        assert_eq!(Target::parse(text), Ok(Target::Unix("/run/x".into())));
    }
    assert_eq!(Target::parse("unix:x"), Ok(Target::Unix("x".into())));
    assert_eq!(Target::parse("file:lists/a b.yaml"), Ok(Target::File("lists/a b.yaml".into())));
    assert_eq!(Target::parse("file:////x").unwrap(), Target::File("//x".into()));
    for text in ["unix:", "unix://", "unix:///", "file:", "file:/etc/"] {
        assert!(matches!(problem(text), TargetProblem::MissingPath { .. }), "{text}");
    }
    let socket = |bytes: usize| format!("unix:/{}", "x".repeat(bytes - 1));
    assert!(Target::parse(&socket(MAX_UNIX_PATH_BYTES)).is_ok());
    assert_eq!(problem(&socket(108)), TargetProblem::PathTooLong { bytes: 108 });
    assert!(Target::parse(&socket(108).replace("unix", "file")).is_ok(), "files may have longer paths");
}

#[test]
fn refuses_what_is_no_host_name() {
    let long = format!("{}.a", "x".repeat(64));
    let many = "abc.".repeat(64);
    for host in ["a..b", ".a", "-a", "a-", "a_b!", "ü", &long, &many, "a/b"] {
        let text = format!("dns:///{host}:1");
        assert!(matches!(problem(&text), TargetProblem::InvalidHost { .. }), "{text}");
    }
    for text in ["dns:", "dns:///", "dns:///:1", ":1", "."] {
        assert_eq!(problem(text), TargetProblem::MissingHost, "{text}");
    }
    for port in ["", "0", "65536", "+1", "x", "-1"] {
        assert_eq!(problem(&format!("a:{port}")), TargetProblem::InvalidPort { port: port.into() });
    }
    assert_eq!(problem(""), TargetProblem::Empty);
    for text in [" a", "a ", "a\nb", "file:/x\0"] {
        assert_eq!(problem(text), TargetProblem::Blank);
    }
    assert!(Target::parse(&format!("{}:1", "x".repeat(63))).is_ok());
}

fn socket_address(ip: impl Strategy<Value = IpAddr>) -> impl Strategy<Value = SocketAddr> {
    (ip, 1..=u16::MAX).prop_map(SocketAddr::from)
}

fn v4() -> impl Strategy<Value = SocketAddr> {
    socket_address(any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()))
}

fn v6() -> impl Strategy<Value = SocketAddr> {
    socket_address(any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()))
}

fn name() -> impl Strategy<Value = String> {
    "([a-z0-9_]([a-zA-Z0-9_-]{0,20}[a-z0-9])?\\.){0,3}[a-z][a-z0-9]{0,10}\\.?"
}

fn target() -> impl Strategy<Value = Target> {
    let authority = || proptest::option::of(prop_oneof![v4(), v6()]);
    let host =
        prop_oneof![name(), v4().prop_map(|a| a.ip().to_string()), v6().prop_map(|a| a.ip().to_string())];
    let path = "/{0,3}[a-z ./:,\\[\\]-]{0,40}[a-z]".prop_map(PathBuf::from);
    prop_oneof![
        (authority(), host, 1..=u16::MAX).prop_map(|(authority, host, port)| Target::Dns {
            authority,
            host,
            port
        }),
        (authority(), name()).prop_map(|(authority, name)| Target::Srv { authority, name }),
        proptest::collection::vec(v4(), 1..5).prop_map(Target::Ip),
        proptest::collection::vec(v6(), 1..5).prop_map(Target::Ip),
        path.clone().prop_filter("blank", |p| !p.to_str().unwrap().starts_with(' ')).prop_map(Target::Unix),
        path.prop_map(Target::File),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(target in target()) {
        prop_assert_eq!(Target::parse(&target.to_string()), Ok(target));
    }

    #[test]
    fn any_text_is_refused_or_has_a_canonical_form(text in "\\PC{0,60}|(dns|dns\\+srv|ipv4|ipv6|unix|file):\\PC{0,40}") {
        if let Ok(target) = Target::parse(&text) {
            let canonical = target.to_string();
            prop_assert_eq!(Target::parse(&canonical).map(|again| again.to_string()), Ok(canonical));
        }
    }
}
