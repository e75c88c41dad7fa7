//! Calls with the same key meet the same backend, and backends say how much load they have.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evenkeel_balance::health_check::{HealthStatus, UnhealthyReason};
use evenkeel_balance::{
    Address, Affinity, EndpointSet, LoadReport, LoadSource, LoadWeightConfig, Policy, PrequalConfig,
    ProbeSource, RingSize, SlowStart, TableSize,
};
use evenkeel_grpc::load_report::{LATENCY_MS, REQUESTS_IN_FLIGHT};
use evenkeel_grpc::{Code, encode_binary_value};
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::affinity::{CookieSource, HashPlan, KeySource};
use evenkeel_proxy::worker::mirror::Mirror;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::rewrite::{MetadataChange, Rewrite};
use evenkeel_proxy::worker::route::RouteActions;
use evenkeel_proxy::worker::snapshot::Cluster;
use evenkeel_proxy::worker::{PeerName, TransportEnd};
use evenkeel_telemetry::{ClusterEvent, LoadReported};

use self::peers::{End, World};

const BACKENDS: u16 = 10;

fn ring_hash(affinity: Affinity) -> Policy {
    Policy::RingHash { size: RingSize::default(), affinity }
}

fn maglev(affinity: Affinity) -> Policy {
    Policy::Maglev { size: TableSize::default(), affinity }
}

fn world(policy: Policy, sources: &[KeySource]) -> World {
    let plan = HashPlan::new(sources.iter().cloned());
    World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), BACKENDS, |cluster, _| {
        (cluster.policy, cluster.hash_plan) = (policy, plan);
    })
}

fn client_id() -> KeySource {
    KeySource::Metadata(b"x-client-id"[..].into())
}

/// Makes a call with these fields, and tells which backend got it; `None` if none did.
fn call(world: &mut World, client: usize, fields: &[(&str, &str)]) -> Option<usize> {
    let served = |world: &World| -> Vec<usize> {
        world.backends.iter().map(|backend| world.peers[backend].1.served).collect()
    };
    let (before, now) = (served(world), world.now);
    let stream = world.peer(client).begin(now, fields);
    world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
    world.turns(3);
    let after = served(world);
    let got: Vec<usize> = (0..after.len()).filter(|backend| after[*backend] > before[*backend]).collect();
    assert!(got.len() <= 1, "one call, one backend");
    got.first().copied()
}

/// The backend of each of so many clients.
fn homes(world: &mut World, client: usize, count: usize) -> BTreeMap<String, usize> {
    let home = |number: usize| {
        let name = format!("client-{number}");
        let home = call(world, client, &[("x-client-id", &name)]).unwrap();
        (name, home)
    };
    (0..count).map(home).collect()
}

/// Lists all endpoints but these.
fn list_without(world: &mut World, gone: &[usize]) {
    let left = (0..usize::from(BACKENDS)).filter(|backend| !gone.contains(backend));
    let address = |backend: usize| Address::Tcp(([127, 0, 0, 1], backend as u16 + 1).into());
    let listed: Vec<_> = left.map(|backend| (address(backend), 1)).collect();
    world.change_cluster(|cluster| {
        let next = match &cluster.endpoints {
            Some(before) => before.updated(&listed),
            None => EndpointSet::new(&listed),
        };
        cluster.endpoints = Some(Arc::new(next.prepared_for(cluster.policy)));
    });
    world.turns(3);
}

#[test]
fn the_same_key_meets_the_same_backend_whichever_connection_it_comes_from() {
    for policy in [ring_hash(Affinity::Rehash), maglev(Affinity::Rehash)] {
        let mut world = world(policy, &[client_id()]);
        let clients = [world.client(), world.client()];
        let first = homes(&mut world, clients[0], 100);
        assert_eq!(homes(&mut world, clients[1], 100), first, "{policy:?}");
        assert_eq!(first.values().collect::<BTreeSet<_>>().len(), 10, "all backends are somebody's");
    }
}

#[test]
fn a_call_without_a_key_goes_anywhere() {
    let mut world = world(maglev(Affinity::Rehash), &[client_id()]);
    let client = world.client();
    for fields in [&[][..], &[("x-client-id", "")]] {
        let met: BTreeSet<_> = (0..100).map(|_| call(&mut world, client, fields).unwrap()).collect();
        assert_eq!(met.len(), 10, "{fields:?}");
    }
}

/// A route's change of requests that hides the key from backends.
fn hiding() -> RouteActions {
    let request = MetadataChange::default().remove("x-client-id");
    RouteActions { rewrite: Rewrite { request, ..Rewrite::default() }, ..RouteActions::default() }
}

#[test]
fn the_key_is_what_the_client_sent_whatever_the_route_makes_of_it() {
    let plan = || HashPlan::new([client_id()]);
    let mut plain = world(maglev(Affinity::Rehash), &[client_id()]);
    let mut hidden =
        World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), BACKENDS, |cluster, route| {
            (cluster.policy, cluster.hash_plan) = (maglev(Affinity::Rehash), plan());
            route.actions = Some(Arc::new(hiding()));
        });
    let clients = [plain.client(), hidden.client()];
    assert_eq!(homes(&mut hidden, clients[1], 100), homes(&mut plain, clients[0], 100));
    let backend = hidden.backend;
    assert!(hidden.peer(backend).asked_with.iter().all(|(name, _)| name != "x-client-id"));
}

/// The copies go to the calls' own cluster, so that both are counted at one backend.
#[test]
fn the_key_of_a_copy_is_what_the_client_sent_too() {
    let mut world =
        World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), BACKENDS, |cluster, route| {
            (cluster.policy, cluster.hash_plan) = (maglev(Affinity::Rehash), HashPlan::new([client_id()]));
            let mirror = Some(Mirror { cluster: 0, part: 1_000_000 });
            route.actions = Some(Arc::new(RouteActions { mirror, ..hiding() }));
        });
    let client = world.client();
    for number in 0..20 {
        let before: Vec<_> = world.backends.iter().map(|backend| world.peers[backend].1.served).collect();
        let home = call(&mut world, client, &[("x-client-id", &format!("client-{number}"))]).unwrap();
        assert_eq!(world.peers[&world.backends[home]].1.served, before[home] + 2, "client {number}");
    }
}

#[test]
fn a_call_that_waits_keeps_its_key_when_a_reload_leaves_the_key_as_it_was() {
    let mut world =
        World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), BACKENDS, |cluster, route| {
            (cluster.policy, cluster.hash_plan) = (ring_hash(Affinity::Rehash), HashPlan::new([client_id()]));
            cluster.endpoints = None;
            route.actions = Some(Arc::new(hiding()));
        });
    let client = world.client();
    let now = world.now;
    for _ in 0..10 {
        let stream = world.peer(client).begin(now, &[("x-client-id", "anna")]);
        world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
    }
    world.turns(3);
    world.worker_may_connect = true;
    world.change_cluster(|cluster| cluster.policy = maglev(Affinity::Rehash));
    list_without(&mut world, &[]);
    let served: Vec<usize> = world.backends.iter().map(|backend| world.peers[backend].1.served).collect();
    assert_eq!(served.iter().filter(|count| **count > 0).collect::<Vec<_>>(), [&10], "{served:?}");
}

#[test]
fn only_the_clients_of_a_backend_that_leaves_move_and_they_come_home_with_it() {
    for (policy, needless_max) in [(ring_hash(Affinity::Rehash), 0), (maglev(Affinity::Rehash), 20)] {
        let mut world = world(policy, &[client_id()]);
        let client = world.client();
        let before = homes(&mut world, client, 1000);
        // A backend whose share is not above the mean: at most 1/n of the clients have to move.
        let share = |backend: usize| before.values().filter(|home| **home == backend).count();
        let gone = (0..10).find(|backend| share(*backend) <= 100).unwrap();
        list_without(&mut world, &[gone]);
        let after = homes(&mut world, client, 1000);
        let moved: Vec<_> = before.iter().filter(|(name, home)| after[*name] != **home).collect();
        let needless = moved.iter().filter(|(_, home)| **home != gone).count();
        println!("{policy:?}: {} of 1000 clients moved, {needless} of them needlessly", moved.len());
        assert_eq!(moved.len() - needless, share(gone));
        assert!(needless <= needless_max, "{needless} moved needlessly");
        assert!(moved.len() <= 100 + needless_max);

        world.worker_may_connect = true;
        list_without(&mut world, &[]);
        assert_eq!(homes(&mut world, client, 1000), before);
    }
}

#[test]
fn where_sessions_must_not_move_calls_of_a_lost_backend_fail() {
    let mut world = world(ring_hash(Affinity::Fail), &[client_id()]);
    let client = world.client();
    let home = call(&mut world, client, &[("x-client-id", "anna")]).unwrap();
    let other = (0..50).find(|n| call(&mut world, client, &[("x-client-id", &n.to_string())]) != Some(home));
    let lost = world.peers[&world.backends[home]].0;
    world.refused.push(home as u16 + 1);
    world.worker.ended(world.now, lost, TransportEnd::Reset);
    // A second lies between the beginnings of two attempts to connect.
    world.now += Duration::from_secs(2);
    world.turns(3);
    world.peer(client).ends.clear();
    assert_eq!(call(&mut world, client, &[("x-client-id", "anna")]), None);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
    let ended_with = world.peer(client).ended_with.clone();
    let message = &ended_with.iter().find(|(name, _)| name == "grpc-message").unwrap().1;
    let expected = "no healthy upstream: the endpoint of the call's key in cluster test cannot take it, and with \
                    `when_unavailable: fail` no other may; the newest failure: ";
    assert!(message.starts_with(expected), "{message}");
    let other = other.unwrap().to_string();
    assert!(call(&mut world, client, &[("x-client-id", &other)]).is_some(), "others are not concerned");
}

/// Begins a call with this key whose message is this byte, and lets the worker send it on.
fn begin(world: &mut World, client: usize, key: &str, byte: u8) {
    let now = world.now;
    let stream = world.peer(client).begin(now, &[("x-client-id", key)]);
    world.peer(client).http2.send_data(now, stream, &[0, 0, 0, 0, 1, byte], true).unwrap();
    world.turns(2);
}

/// Lets a backend that was silent answer its newest call.
fn answer_newest(world: &mut World, backend: usize) {
    let now = world.now;
    let peer = world.peer(backend);
    peer.is_silent = false;
    let newest = *peer.begun.last().unwrap();
    peer.answer(now, newest);
    // It is over on its side too, before another may be begun.
    peer.take(now, &[]);
    peer.is_silent = true;
    world.turns(4);
}

#[test]
fn a_call_does_not_wait_for_the_key_of_one_before_it() {
    let mut world = world(ring_hash(Affinity::Fail), &[client_id()]);
    let client = world.client();
    let homes = homes(&mut world, client, 20);
    let (first, full) = homes.iter().next().unwrap();
    let (second, free) = homes.iter().find(|(_, home)| *home != full).unwrap();
    world.reconnect(Limits { max_concurrent_streams: 1, ..Limits::mesh() });
    let (full, free) = (world.backends[*full], world.backends[*free]);
    for backend in [full, free] {
        world.peer(backend).is_silent = true;
    }
    for (key, byte) in [(first, b'1'), (second, b'1'), (first, b'2'), (second, b'2'), (first, b'3')] {
        begin(&mut world, client, key, byte);
    }
    let begun = |world: &World, backend| world.peers[&backend].1.begun.len();
    assert_eq!((begun(&world, full), begun(&world, free)), (1, 1), "the others wait");
    answer_newest(&mut world, free);
    assert_eq!((begun(&world, full), begun(&world, free)), (1, 2));
    // The order of arrival is kept.
    for expected in [b'2', b'3'] {
        answer_newest(&mut world, full);
        let peer = world.peer(full);
        let newest = peer.begun.last().unwrap().id();
        assert_eq!(peer.asked[&newest], expected);
    }
    assert_eq!(world.worker.usage().pending, 0);
}

#[test]
fn the_address_of_a_client_is_its_key_whatever_the_port() {
    let mut world = world(maglev(Affinity::Rehash), &[client_id(), KeySource::SourceIp]);
    let client = |world: &mut World, address: &str| {
        world.client_of(PeerName::Ip(address.parse::<SocketAddr>().unwrap()))
    };
    let homes: Vec<_> = (0..20)
        .map(|number| {
            let mut home = |port| {
                let client = client(&mut world, &format!("10.0.0.{number}:{port}"));
                call(&mut world, client, &[]).unwrap()
            };
            let first = home(1);
            assert_eq!(home(2), first);
            first
        })
        .collect();
    assert!(homes.iter().collect::<BTreeSet<_>>().len() > 5);
}

#[test]
fn a_client_without_a_cookie_is_given_one_that_leads_to_the_same_backend() {
    let cookie = CookieSource::given("sid", Duration::from_secs(60), Some("/pkg.Service"));
    let mut world = world(maglev(Affinity::Rehash), &[client_id(), KeySource::Cookie(cookie)]);
    let client = world.client();
    let set_cookie = |world: &mut World| {
        let fields = world.peer(client).answered_with.iter();
        let cookies = fields.filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.clone());
        let mut cookies: Vec<String> = cookies.collect();
        assert!(cookies.len() <= 1);
        cookies.pop()
    };
    let mut given = BTreeSet::new();
    for _ in 0..20 {
        let home = call(&mut world, client, &[]);
        let text = set_cookie(&mut world).unwrap();
        let value = text.strip_prefix("sid=\"").and_then(|rest| rest.split_once('"')).unwrap();
        assert_eq!((value.0.len(), value.1), (16, "; Max-Age=60; Path=/pkg.Service; HttpOnly"));
        let back = format!("a=b; sid=\"{}\"", value.0);
        for _ in 0..3 {
            assert_eq!(call(&mut world, client, &[("cookie", &back)]), home);
            assert_eq!(set_cookie(&mut world), None, "it has one");
        }
        given.insert(value.0.to_owned());
    }
    assert_eq!(given.len(), 20, "each is another");
    call(&mut world, client, &[("x-client-id", "anna")]);
    assert_eq!(set_cookie(&mut world), None, "another source decides");
}

/// It never met the one that is gone, and has nothing to lose.
#[test]
fn a_client_without_a_cookie_is_given_one_that_leads_to_a_backend_which_serves() {
    for affinity in [Affinity::Fail, Affinity::Rehash] {
        let cookie = CookieSource::given("sid", Duration::from_secs(60), None);
        let mut world = world(maglev(affinity), &[KeySource::Cookie(cookie)]);
        let client = world.client();
        let down: Vec<usize> = (0..usize::from(BACKENDS)).filter(|backend| backend % 3 > 0).collect();
        let now = world.now;
        world.change_cluster(|cluster| {
            let endpoints = cluster.endpoints.as_ref().unwrap().endpoints();
            let unhealthy = HealthStatus::Unhealthy(UnhealthyReason::NotServing);
            down.iter().for_each(|backend| endpoints[*backend].note_health(unhealthy, now));
        });
        for _ in 0..40 {
            let home = call(&mut world, client, &[]).unwrap();
            assert!(!down.contains(&home), "{affinity:?}");
            let answered = &world.peer(client).answered_with;
            let text = answered.iter().find(|(name, _)| name == "set-cookie").unwrap().1.clone();
            let value = text.split(';').next().unwrap().to_owned();
            assert_eq!(call(&mut world, client, &[("cookie", &value)]), Some(home), "{affinity:?}");
        }
    }
}

#[test]
fn calls_that_wait_while_the_policy_changes_have_their_key_then() {
    let mut world =
        World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), BACKENDS, |cluster, _| {
            cluster.endpoints = None;
        });
    let client = world.client();
    let now = world.now;
    for _ in 0..5 {
        let stream = world.peer(client).begin(now, &[("x-client-id", "anna")]);
        world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
    }
    world.turns(3);
    world.worker_may_connect = true;
    world.change_cluster(|cluster| {
        cluster.policy = maglev(Affinity::Rehash);
        cluster.hash_plan = HashPlan::new([client_id()]);
    });
    list_without(&mut world, &[]);
    let served: Vec<usize> = world.backends.iter().map(|backend| world.peers[backend].1.served).collect();
    assert_eq!(served.iter().filter(|count| **count > 0).collect::<Vec<_>>(), [&5], "{served:?}");
}

/// A report of this utilization, and 100 requests per second.
fn report(utilization: f64) -> String {
    let number = |tag: u8, number: f64| [&[tag][..], &number.to_le_bytes()].concat();
    encode_binary_value(&[number(0x31, 100.0), number(0x49, utilization)].concat())
}

fn say(world: &mut World, backend: usize, report: &str) {
    let backend = world.backends[backend];
    let peer = world.peer(backend);
    let field = peer.fields.store.intern(b"endpoint-load-metrics-bin", report.as_bytes());
    peer.trailers.push_id(&mut peer.fields.store, field, true);
}

#[test]
fn backends_that_report_less_load_get_more_calls() {
    let config = LoadWeightConfig { blackout_period: Duration::ZERO, ..LoadWeightConfig::default() };
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 2, |cluster, _| {
        cluster.policy = Policy::LoadWeightedRoundRobin(config);
    });
    let client = world.client();
    say(&mut world, 0, &report(0.9));
    say(&mut world, 1, &report(0.3));
    // A weight is looked at once a second, when its endpoint's turn comes.
    for _ in 0..60 {
        call(&mut world, client, &[]);
        world.now += Duration::from_millis(100);
    }
    let mut calls = [0; 2];
    for _ in 0..400 {
        calls[call(&mut world, client, &[]).unwrap()] += 1;
    }
    assert!((295..=305).contains(&calls[1]), "{calls:?}, weights 1 to 3");
    assert_eq!(world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(LoadReported::Taken)), 460);
}

#[test]
fn reports_that_make_no_sense_are_counted_and_no_more() {
    let config = LoadWeightConfig { blackout_period: Duration::ZERO, ..LoadWeightConfig::default() };
    for (text, outcome) in [
        (report(-1.0), LoadReported::Ignored),
        (report(f64::NAN), LoadReported::Ignored),
        ("@@".to_owned(), LoadReported::Malformed),
        ("A".repeat(5_000), LoadReported::Malformed),
    ] {
        let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 2, |cluster, _| {
            cluster.policy = Policy::LoadWeightedRoundRobin(config);
        });
        let client = world.client();
        say(&mut world, 0, &text);
        for _ in 0..20 {
            call(&mut world, client, &[]);
        }
        let counted = |outcome| world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(outcome));
        let of_all: u64 = LoadReported::ALL.iter().map(|outcome| counted(*outcome)).sum();
        assert_eq!((counted(outcome), of_all), (10, 10), "{text:.20}");
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 20]);
    }
}

#[test]
fn weights_follow_reports_apart_from_calls_and_what_calls_report_is_not_looked_at() {
    let source = LoadSource::OutOfBand { period: Duration::from_secs(10) };
    let config = LoadWeightConfig { blackout_period: Duration::ZERO, source, ..LoadWeightConfig::default() };
    let mut set = None;
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 2, |cluster, _| {
        cluster.policy = Policy::LoadWeightedRoundRobin(config);
        set = cluster.endpoints.clone();
    });
    let client = world.client();
    // The first would be the less loaded one by what its calls say.
    say(&mut world, 0, &report(0.1));
    say(&mut world, 1, "@@");
    for (endpoint, utilization) in set.unwrap().endpoints().iter().zip([0.9, 0.3]) {
        let load = LoadReport { utilization, requests_per_second: 100.0, errors_per_second: 0.0 };
        assert!(endpoint.note_load(&load, &config, world.now).is_some());
    }
    for _ in 0..60 {
        call(&mut world, client, &[]);
        world.now += Duration::from_millis(100);
    }
    let mut calls = [0; 2];
    for _ in 0..400 {
        calls[call(&mut world, client, &[]).unwrap()] += 1;
    }
    assert!((295..=305).contains(&calls[1]), "{calls:?}, weights 1 to 3");
    let counted = |outcome| world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(outcome));
    assert_eq!(LoadReported::ALL.iter().map(|outcome| counted(*outcome)).sum::<u64>(), 0);
}

#[test]
fn a_metric_that_is_asked_for_stands_for_utilization() {
    let config = LoadWeightConfig { blackout_period: Duration::ZERO, ..LoadWeightConfig::default() };
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), 2, |cluster, _| {
        cluster.policy = Policy::LoadWeightedRoundRobin(config);
        cluster.utilization_metrics = ["mem_utilization".parse().unwrap()].into();
    });
    let client = world.client();
    let number = |tag: u8, number: f64| [&[tag][..], &number.to_le_bytes()].concat();
    for (backend, memory) in [(0, 0.9), (1, 0.3)] {
        // The same processor load, and different memory.
        let bytes = [number(0x31, 100.0), number(0x09, 0.5), number(0x11, memory)].concat();
        say(&mut world, backend, &encode_binary_value(&bytes));
    }
    for _ in 0..60 {
        call(&mut world, client, &[]);
        world.now += Duration::from_millis(100);
    }
    let mut calls = [0; 2];
    for _ in 0..400 {
        calls[call(&mut world, client, &[]).unwrap()] += 1;
    }
    assert!((295..=305).contains(&calls[1]), "{calls:?}, weights 1 to 3");
}

#[test]
fn reports_are_not_looked_at_where_nobody_asks_for_them() {
    let mut world = world(Policy::RoundRobin, &[]);
    let client = world.client();
    say(&mut world, 0, "@@");
    for _ in 0..20 {
        call(&mut world, client, &[]);
    }
    let counted = |outcome| world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(outcome));
    assert_eq!(LoadReported::ALL.iter().map(|outcome| counted(*outcome)).sum::<u64>(), 0);
}

/// A report of so many requests in flight, which took so long, as prequal's endpoints write it.
fn busy(requests_in_flight: f64, latency_ms: f64) -> String {
    let mut report = Vec::new();
    for (name, value) in [(REQUESTS_IN_FLIGHT, requests_in_flight), (LATENCY_MS, latency_ms)] {
        let mut entry = vec![0x0a, name.len() as u8];
        entry.extend_from_slice(name.as_bytes());
        entry.push(0x11);
        entry.extend_from_slice(&value.to_le_bytes());
        report.extend_from_slice(&[0x42, entry.len() as u8]);
        report.extend_from_slice(&entry);
    }
    encode_binary_value(&report)
}

#[test]
fn prequal_goes_by_what_backends_say_of_requests_that_are_not_the_proxys() {
    // With the default of a second, reports of an endpoint without calls get too old, and it is tried again.
    let config = PrequalConfig { max_age: Duration::from_secs(60), ..PrequalConfig::default() };
    let mut world = world(Policy::Prequal(config), &[]);
    let client = world.client();
    // All take as long; one has hundred requests of others in flight, and is hot.
    (0..10).for_each(|backend| say(&mut world, backend, &busy(if backend == 3 { 100.0 } else { 1.0 }, 10.0)));
    let mut calls = [0; 10];
    for call_number in 0..900 {
        let met = call(&mut world, client, &[]).unwrap();
        // Until then nobody may have been told to ask those that had nothing to answer yet.
        if call_number >= 400 {
            calls[met] += 1;
        }
        world.now += Duration::from_millis(1);
    }
    assert!(calls[3] <= 5, "{calls:?}: a tenth of its share of 500 calls at most, where 50 are a fair share");
    let taken = world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(LoadReported::Taken));
    assert_eq!(taken, 900, "each answer had a report");
}

#[test]
fn a_latency_that_is_too_long_to_be_true_attracts_no_calls() {
    let config = PrequalConfig { max_age: Duration::from_secs(60), ..PrequalConfig::default() };
    let mut world = world(Policy::Prequal(config), &[]);
    let client = world.client();
    (0..10).for_each(|backend| say(&mut world, backend, &busy(1.0, if backend == 3 { 1e308 } else { 10.0 })));
    let mut calls = [0; 10];
    for call_number in 0..900 {
        let met = call(&mut world, client, &[]).unwrap();
        if call_number >= 400 {
            calls[met] += 1;
        }
        world.now += Duration::from_millis(1);
    }
    assert!(calls[3] <= 5, "{calls:?}: a tenth of its share of 500 calls at most, where 50 are a fair share");
    let taken = world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(LoadReported::Taken));
    assert_eq!(taken, 900, "what is clamped is taken");
}

#[test]
fn prequal_counts_reports_that_do_not_say_what_it_asks_for() {
    for (text, outcome) in [
        (report(0.5), LoadReported::Ignored),
        (busy(-1.0, 10.0), LoadReported::Ignored),
        (busy(f64::NAN, 10.0), LoadReported::Ignored),
        (busy(f64::INFINITY, 10.0), LoadReported::Ignored),
        (busy(1.0, -1.0), LoadReported::Ignored),
        (busy(1.0, f64::NAN), LoadReported::Ignored),
        (busy(1.0, f64::INFINITY), LoadReported::Ignored),
        ("@@".to_owned(), LoadReported::Malformed),
        (busy(1e300, 1e308), LoadReported::Taken),
    ] {
        let mut world = world(Policy::Prequal(PrequalConfig::default()), &[]);
        let client = world.client();
        (0..10).for_each(|backend| say(&mut world, backend, &text));
        for _ in 0..20 {
            call(&mut world, client, &[]);
        }
        let counted = |outcome| world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(outcome));
        let of_all: u64 = LoadReported::ALL.iter().map(|outcome| counted(*outcome)).sum();
        assert_eq!((counted(outcome), of_all), (20, 20), "{text:.20}");
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 20]);
    }
}

#[test]
fn prequal_by_its_own_knowledge_looks_at_no_report() {
    let own = PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() };
    let mut world = world(Policy::Prequal(own), &[]);
    let client = world.client();
    say(&mut world, 0, "@@");
    for _ in 0..100 {
        call(&mut world, client, &[]);
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 100]);
    let counted = |outcome| world.telemetry.snapshot().cluster_event(ClusterEvent::LoadReport(outcome));
    assert_eq!(LoadReported::ALL.iter().map(|outcome| counted(*outcome)).sum::<u64>(), 0);
}

#[test]
fn an_endpoint_that_is_new_gets_its_share_slowly() {
    let slow_start = SlowStart { window: Duration::from_secs(100), ..SlowStart::default() };
    let adjust = |cluster: &mut Cluster, _: &mut _| {
        (cluster.policy, cluster.slow_start) = (Policy::WeightedRoundRobin, Some(slow_start));
    };
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), BACKENDS, adjust);
    let client = world.client();
    list_without(&mut world, &[9]);
    world.now += Duration::from_secs(200);
    world.worker_may_connect = true;
    list_without(&mut world, &[]);
    let share = |world: &mut World| (0..910).filter(|_| call(world, client, &[]).unwrap() == 9).count();
    let early = share(&mut world);
    assert!((8..=12).contains(&early), "a tenth of its weight: 10 of 910 calls, not {early}");
    world.now += Duration::from_secs(200);
    for _ in 0..20 {
        call(&mut world, client, &[]);
    }
    let late = share(&mut world);
    assert!((89..=93).contains(&late), "91 of 910, not {late}");
}
