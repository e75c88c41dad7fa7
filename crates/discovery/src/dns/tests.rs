//! Resolving over real sockets against the scripted name server.
//!
//! Intervals are short, not paused: with paused time the answer from a socket would race the clock.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use evenkeel_config::Target;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::watch::Receiver;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::testing::{DnsServer, Failure, Record, RecordType, Transport};
use crate::{ResolveError, ResolveOptions, ResolverState, SearchList, Watch, watch};

/// Far beyond what any step takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

const QUICK: Duration = Duration::from_millis(5);

const HOUR: Duration = Duration::from_secs(3_600);

/// Four octets of an address on loopback: 127.0.0.`last`.
fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// An address of the documentation prefix.
fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// Asks only `server`, again and again without pause.
fn quick(server: &DnsServer) -> ResolveOptions {
    ResolveOptions {
        max_refresh: QUICK,
        min_refresh: QUICK,
        nameservers: Some(vec![server.address()]),
        search: Some(SearchList::default()),
        hosts_file: None,
        ..ResolveOptions::default()
    }
}

fn host(name: &str) -> Target {
    Target::Dns { authority: None, host: name.into(), port: 50051 }
}

fn service(name: &str) -> Target {
    Target::Srv { authority: None, name: name.into() }
}

fn start(target: &Target, options: &ResolveOptions) -> (Watch, Receiver<ResolverState>) {
    let watch = watch(target, options, SmallRng::seed_from_u64(1));
    let receiver = watch.subscribe();
    (watch, receiver)
}

async fn until(
    receiver: &mut Receiver<ResolverState>,
    done: impl FnMut(&ResolverState) -> bool,
) -> ResolverState {
    let reached = timeout(PATIENCE, receiver.wait_for(done)).await;
    reached.expect("the state is reached in time").expect("the watch lives").clone()
}

/// The addresses with their weights where they are not 1, in order.
fn shown(state: &ResolverState) -> Vec<String> {
    let endpoint = |spec: &evenkeel_balance::EndpointSpec| match spec.weight {
        1 => spec.address.to_string(),
        weight => format!("{} x{weight}", spec.address),
    };
    state.endpoints.as_deref().unwrap_or_default().iter().map(endpoint).collect()
}

fn resolved(state: &ResolverState) -> bool {
    state.successes > 0
}

fn failed(state: &ResolverState) -> bool {
    state.error.is_some()
}

#[tokio::test]
async fn either_family_alone_is_enough() {
    let server = DnsServer::start().await.unwrap();
    server.set("four.test.", [v4(2), v4(3)], 60);
    server.set("six.test.", [v6(1)], 60);
    let (_four, mut receiver) = start(&host("four.test."), &quick(&server));
    assert_eq!(shown(&until(&mut receiver, resolved).await), ["127.0.0.2:50051", "127.0.0.3:50051"]);
    let (_six, mut receiver) = start(&host("six.test."), &quick(&server));
    let state = until(&mut receiver, resolved).await;
    assert_eq!(shown(&state), ["[2001:db8::1]:50051"]);
    assert!(state.error.is_none());
}

#[tokio::test]
async fn both_families_are_interleaved() {
    let server = DnsServer::start().await.unwrap();
    let records: [Record; 4] = [v4(2).into(), v4(3).into(), v4(2).into(), v6(1).into()];
    server.set("orders.test.", records, 60);
    let (_watch, mut receiver) = start(&host("orders.test."), &quick(&server));
    let state = until(&mut receiver, resolved).await;
    assert_eq!(shown(&state), ["[2001:db8::1]:50051", "127.0.0.2:50051", "127.0.0.3:50051"]);
}

#[tokio::test]
async fn a_large_answer_comes_over_tcp_and_is_bounded() {
    let server = DnsServer::start().await.unwrap();
    let addresses = (0..300_u16).map(|n| Ipv4Addr::from(0x7f01_0000 + u32::from(n)));
    server.set("large.test.", addresses, 60);
    let (_watch, mut receiver) = start(&host("large.test."), &quick(&server));
    assert_eq!(shown(&until(&mut receiver, resolved).await).len(), 300);
    assert!(server.queries().iter().any(|query| query.transport == Transport::Tcp));

    let options = ResolveOptions { max_addresses: 299, ..quick(&server) };
    let (_bounded, mut receiver) = start(&host("large.test."), &options);
    let endpoints = until(&mut receiver, resolved).await.endpoints.unwrap();
    assert_eq!((endpoints.len(), endpoints.left_out()), (299, 1));
}

#[tokio::test]
async fn answers_are_not_cached_and_rotation_is_no_change() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [v4(2), v4(3), v4(4)], 3_600);
    server.set_rotate(true);
    let (_watch, mut receiver) = start(&host("orders.test."), &quick(&server));
    let state = until(&mut receiver, |state| state.successes >= 5).await;
    assert!(server.count("orders.test.", RecordType::A) >= 5);
    assert_eq!((state.generation, state.failures), (1, 0));

    server.set("orders.test.", [v4(2), v4(5)], 0);
    let state = until(&mut receiver, |state| state.generation == 2).await;
    assert_eq!(shown(&state).len(), 2);
    assert!(shown(&state).contains(&"127.0.0.5:50051".to_owned()));
}

#[tokio::test]
async fn a_request_resolves_again_before_the_ttl_is_over() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [v4(2)], 3_600);
    let options = ResolveOptions { max_refresh: HOUR, ..quick(&server) };
    let (watch, mut receiver) = start(&host("orders.test."), &options);
    until(&mut receiver, resolved).await;
    server.set("orders.test.", [v4(3)], 3_600);
    watch.resolve_now().request();
    let state = until(&mut receiver, |state| state.generation == 2).await;
    assert_eq!(shown(&state), ["127.0.0.3:50051"]);
    assert_eq!(server.count("orders.test.", RecordType::A), 2);
}

#[tokio::test]
async fn a_name_that_does_not_exist_yet_is_reported_and_found_later() {
    let server = DnsServer::start().await.unwrap();
    let (_watch, mut receiver) = start(&host("orders.test."), &quick(&server));
    let state = until(&mut receiver, failed).await;
    assert!(state.endpoints.is_none());
    assert_eq!(
        state.error.unwrap().to_string(),
        "cannot resolve \"orders.test.\": no such name (NXDOMAIN); check its spelling and the search domains"
    );
    server.set("orders.test.", [v4(2)], 60);
    let state = until(&mut receiver, resolved).await;
    assert!(state.error.is_none());
    assert_eq!(shown(&state), ["127.0.0.2:50051"]);
}

#[tokio::test]
async fn a_name_without_addresses_is_told_from_one_that_does_not_exist() {
    let server = DnsServer::start().await.unwrap();
    server.fail("orders.test.", Failure::NoData);
    let (_watch, mut receiver) = start(&host("orders.test."), &quick(&server));
    let error = until(&mut receiver, failed).await.error.unwrap();
    assert!(
        matches!(&*error, ResolveError::NoRecords { name, records: "A or AAAA" } if name == "orders.test.")
    );
}

#[tokio::test]
async fn errors_of_the_name_server_keep_the_last_good_list_and_name_its_answer() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [v4(2)], 60);
    let options = ResolveOptions { query_timeout: Duration::from_millis(200), ..quick(&server) };
    let (_watch, mut receiver) = start(&host("orders.test."), &options);
    until(&mut receiver, resolved).await;
    let answers = [
        (Failure::ServFail, "the name server answered SERVFAIL for \"orders.test.\""),
        (Failure::Refused, "the name server answered REFUSED for \"orders.test.\""),
        (Failure::Silence, "no name server answered within 200ms; check that they can be reached"),
        (Failure::NxDomain, "no such name (NXDOMAIN); check its spelling and the search domains"),
    ];
    for (failure, sentence) in answers {
        server.fail("orders.test.", failure);
        let expected = format!("cannot resolve \"orders.test.\": {sentence}");
        let is_expected =
            |state: &ResolverState| state.error.as_ref().is_some_and(|error| error.to_string() == expected);
        assert_eq!(shown(&until(&mut receiver, is_expected).await), ["127.0.0.2:50051"]);
    }
}

#[tokio::test]
async fn garbage_is_a_failure_like_any_other() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [v4(2)], 60);
    let options = ResolveOptions { query_timeout: Duration::from_millis(200), ..quick(&server) };
    let (_watch, mut receiver) = start(&host("orders.test."), &options);
    until(&mut receiver, resolved).await;
    server.fail("orders.test.", Failure::Garbage);
    let state = until(&mut receiver, failed).await;
    assert_eq!(shown(&state), ["127.0.0.2:50051"]);
    server.set("orders.test.", [v4(3)], 60);
    until(&mut receiver, |state| shown(state) == ["127.0.0.3:50051"]).await;
}

#[tokio::test]
async fn a_name_that_stays_empty_is_given_up_in_the_end() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [v4(2)], 60);
    let options = ResolveOptions { keep_empty_for: 10 * QUICK, ..quick(&server) };
    let (_watch, mut receiver) = start(&host("orders.test."), &options);
    until(&mut receiver, resolved).await;
    server.fail("orders.test.", Failure::NxDomain);
    assert_eq!(shown(&until(&mut receiver, failed).await), ["127.0.0.2:50051"]);
    let state = until(&mut receiver, |state| shown(state).is_empty()).await;
    assert_eq!(state.generation, 2);
    assert!(state.failures >= 2 && state.endpoints.is_some());
}

#[tokio::test]
async fn a_family_without_answer_is_remembered_and_one_said_to_be_gone_is_dropped() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [Record::A(v4(2)), Record::Aaaa(v6(1))], 60);
    let (_watch, mut receiver) = start(&host("orders.test."), &quick(&server));
    until(&mut receiver, |state| shown(state).len() == 2).await;

    server.fail_kind("orders.test.", RecordType::AAAA, Failure::ServFail);
    let asked = server.count("orders.test.", RecordType::AAAA);
    let before = until(&mut receiver, resolved).await.successes;
    timeout(PATIENCE, server.received("orders.test.", RecordType::AAAA, asked + 3)).await.unwrap();
    let state = until(&mut receiver, |state| state.successes > before + 1).await;
    assert_eq!((shown(&state).len(), state.failures, state.generation), (2, 0, 1));

    server.set("orders.test.", [v4(2)], 60);
    let state = until(&mut receiver, |state| state.generation == 2).await;
    assert_eq!(shown(&state), ["127.0.0.2:50051"]);
}

#[tokio::test]
async fn an_alias_is_followed() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [Record::Cname("orders.elsewhere.test.".into())], 60);
    server.set("orders.elsewhere.test.", [v4(2)], 60);
    let (_watch, mut receiver) = start(&host("orders.test."), &quick(&server));
    assert_eq!(shown(&until(&mut receiver, resolved).await), ["127.0.0.2:50051"]);
}

#[tokio::test]
async fn a_relative_name_is_completed_and_never_mixes_two_names() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.shop.test.", [v4(2)], 60);
    server.set("orders.test.", [v6(9)], 60);
    let search =
        SearchList { domains: vec!["none.test".into(), "shop.test".into(), "test".into()], ndots: 5 };
    let options = ResolveOptions { search: Some(search), ..quick(&server) };
    let (_watch, mut receiver) = start(&host("orders"), &options);
    assert_eq!(shown(&until(&mut receiver, resolved).await), ["127.0.0.2:50051"]);
    assert_eq!(server.count("orders.test.", RecordType::AAAA), 0);

    let (_absolute, mut receiver) = start(&host("orders."), &options);
    let error = until(&mut receiver, failed).await.error.unwrap();
    assert!(matches!(&*error, ResolveError::NoSuchName { name } if name == "orders."));
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_its_changes_are_seen() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [v4(2)], 60);
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.7 orders.test # a comment\n::1 orders.test\n").unwrap();
    let options = ResolveOptions { hosts_file: Some(hosts.clone()), ..quick(&server) };
    let (_watch, mut receiver) = start(&host("orders.test"), &options);
    let state = until(&mut receiver, resolved).await;
    assert_eq!(shown(&state), ["[::1]:50051", "127.0.0.7:50051"]);
    assert!(server.queries().is_empty());

    fs::remove_file(&hosts).unwrap();
    until(&mut receiver, |state| shown(state) == ["127.0.0.2:50051"]).await;
}

/// RFC 6761 section 6.3.
#[tokio::test]
async fn localhost_is_never_asked_for() {
    let server = DnsServer::start().await.unwrap();
    let search = SearchList { domains: vec!["test".into()], ndots: 5 };
    let options = ResolveOptions { search: Some(search), ..quick(&server) };
    let (_watch, mut receiver) = start(&host("localhost"), &options);
    assert_eq!(shown(&until(&mut receiver, resolved).await), ["[::1]:50051", "127.0.0.1:50051"]);
    assert!(server.queries().is_empty());
}

#[tokio::test]
async fn the_name_server_in_the_target_is_asked_before_others() {
    let (named, other) = (DnsServer::start().await.unwrap(), DnsServer::start().await.unwrap());
    named.set("orders.test.", [v4(2)], 60);
    let target = Target::Dns { authority: Some(named.address()), host: "orders.test.".into(), port: 1 };
    let (_watch, mut receiver) = start(&target, &quick(&other));
    assert_eq!(shown(&until(&mut receiver, resolved).await), ["127.0.0.2:1"]);
    assert!(other.queries().is_empty());
}

#[tokio::test]
async fn what_cannot_be_a_name_is_reported() {
    let server = DnsServer::start().await.unwrap();
    let (_watch, mut receiver) = start(&host("orders..test"), &quick(&server));
    let error = until(&mut receiver, failed).await.error.unwrap();
    assert!(matches!(&*error, ResolveError::InvalidName { name, .. } if name == "orders..test"));
    assert!(server.queries().is_empty());
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
    Record::Srv { priority, weight, port, target: target.into() }
}

const SERVICE: &str = "_grpc._tcp.orders.test.";

#[tokio::test]
async fn a_service_gives_ports_and_weights_of_its_best_priority_in_one_question() {
    let server = DnsServer::start().await.unwrap();
    server.set("a.test.", [Record::A(v4(2)), Record::Aaaa(v6(1))], 60);
    server.set("b.test.", [v4(3)], 60);
    server.set("spare.test.", [v4(4)], 60);
    let records = [srv(2, 9, 9, "spare.test."), srv(1, 3, 50051, "a.test."), srv(1, 0, 50052, "b.test.")];
    server.set(SERVICE, records, 60);
    let (_watch, mut receiver) = start(&service(SERVICE), &quick(&server));
    let state = until(&mut receiver, resolved).await;
    assert_eq!(shown(&state), ["[2001:db8::1]:50051 x3", "127.0.0.2:50051 x3", "127.0.0.3:50052"]);
    assert_eq!(server.count("a.test.", RecordType::A), 0);
}

#[tokio::test]
async fn targets_without_addresses_in_the_answer_are_looked_up() {
    let server = DnsServer::start().await.unwrap();
    server.set_without_glue(true);
    server.set("a.test.", [v4(2)], 60);
    server.set("b.test.", [v4(3)], 60);
    server.set(SERVICE, [srv(0, 1, 1, "a.test."), srv(0, 1, 2, "b.test."), srv(0, 1, 3, "gone.test.")], 60);
    let (_watch, mut receiver) = start(&service(SERVICE), &quick(&server));
    assert_eq!(shown(&until(&mut receiver, resolved).await), ["127.0.0.2:1", "127.0.0.3:2"]);

    server.fail("b.test.", Failure::ServFail);
    let asked = server.count("b.test.", RecordType::A);
    timeout(PATIENCE, server.received("b.test.", RecordType::A, asked + 3)).await.unwrap();
    assert_eq!(shown(&receiver.borrow()), ["127.0.0.2:1", "127.0.0.3:2"], "no answer keeps what is known");
    server.fail("b.test.", Failure::NxDomain);
    until(&mut receiver, |state| shown(state) == ["127.0.0.2:1"]).await;
}

#[tokio::test]
async fn a_service_that_is_said_to_be_unavailable_has_no_records() {
    let server = DnsServer::start().await.unwrap();
    server.set(SERVICE, [srv(0, 0, 0, ".")], 60);
    let (_watch, mut receiver) = start(&service(SERVICE), &quick(&server));
    let error = until(&mut receiver, failed).await.error.unwrap();
    assert!(matches!(&*error, ResolveError::NoRecords { records: "SRV", .. }), "{error}");
}

#[tokio::test]
async fn a_flapping_name_never_loses_its_endpoints() {
    let server = DnsServer::start().await.unwrap();
    server.set("orders.test.", [v4(2)], 0);
    let options = ResolveOptions { query_timeout: Duration::from_millis(100), ..quick(&server) };
    let (_watch, mut receiver) = start(&host("orders.test."), &options);
    until(&mut receiver, resolved).await;
    for round in 0..24_u8 {
        match round % 6 {
            0 => server.fail("orders.test.", Failure::NxDomain),
            1 => server.set("orders.test.", [v4(3), v4(4)], 0),
            2 => server.fail("orders.test.", Failure::ServFail),
            3 => server.set("orders.test.", [v4(2)], 0),
            4 => server.fail("orders.test.", Failure::NoData),
            _ => server.fail_kind("orders.test.", RecordType::A, Failure::Silence),
        }
        let asked = server.count("orders.test.", RecordType::A);
        timeout(PATIENCE, server.received("orders.test.", RecordType::A, asked + 2)).await.unwrap();
        assert!(!shown(&receiver.borrow_and_update()).is_empty(), "round {round}");
    }
    server.set("orders.test.", [v4(9)], 0);
    until(&mut receiver, |state| shown(state) == ["127.0.0.9:50051"]).await;
}

#[tokio::test]
async fn dropping_the_watch_ends_all_its_tasks() {
    let server = DnsServer::start().await.unwrap();
    // Over TCP, which takes tasks of the resolver library's own.
    server.set("large.test.", (0..300_u16).map(|n| Ipv4Addr::from(0x7f01_0000 + u32::from(n))), 60);
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let (watch, mut receiver) = start(&host("large.test."), &quick(&server));
    until(&mut receiver, resolved).await;
    assert!(metrics.num_alive_tasks() > before);
    drop(watch);
    let ended = async {
        while receiver.changed().await.is_ok() {}
        // The server's side of the connection ends when it sees the other side close.
        while metrics.num_alive_tasks() > before {
            yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("all tasks end");
}

#[tokio::test]
async fn targets_that_name_addresses_are_resolved_at_once() {
    let options = ResolveOptions { hosts_file: None, ..ResolveOptions::default() };
    let addresses = ["127.0.0.2:1", "[::1]:2", "127.0.0.2:1"].map(|address| address.parse().unwrap());
    let literal = |host: &str| Target::Dns { authority: None, host: host.into(), port: 3 };
    let cases: [(Target, &[&str]); 4] = [
        (Target::Ip(addresses.to_vec()), &["127.0.0.2:1", "[::1]:2"]),
        (Target::Unix("/run/orders.sock".into()), &["unix:/run/orders.sock"]),
        (literal("10.0.0.1"), &["10.0.0.1:3"]),
        (literal("::1"), &["[::1]:3"]),
    ];
    for (target, expected) in cases {
        let (watch, receiver) = start(&target, &options);
        assert_eq!(shown(&watch.state()), expected);
        assert!(receiver.has_changed().unwrap(), "open, with something to read");
        drop(watch);
        assert!(receiver.has_changed().is_err(), "closed");
    }
}
