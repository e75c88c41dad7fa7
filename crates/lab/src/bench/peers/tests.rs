use super::results::Settings;
use super::*;
use std::collections::BTreeMap;

fn spread(samples: &[f64]) -> Spread {
    Spread { samples: samples.to_vec() }
}

fn peer(contender: Contender, cpu: f64) -> PeerResults {
    let mut results = PeerResults::new(contender, "1.0".to_owned());
    let loads = Load::CPU.iter().map(Load::to_string).chain([Client::H2load.to_string()]);
    for load in loads {
        results.cpu_us_per_call.insert(load, spread(&[cpu, cpu * 1.1, cpu * 0.9]));
    }
    results.latency_p50_us = spread(&[100.0 + cpu, 103.0 + cpu, 90.0 + cpu]);
    results.latency_p99_us = spread(&[400.0 + 10.0 * cpu, 9000.0, 390.0 + 10.0 * cpu]);
    results.stream_mb_per_cpu_second = BTreeMap::from([("download".to_owned(), spread(&[10_000.0 / cpu]))]);
    results
}

fn results() -> Results {
    let mut ours = peer(Contender::Evenkeel, 4.0);
    ours.syscalls_per_call = spread(&[0.08, 0.1]);
    ours.memory = Some(Memory {
        rest_mib: 9.0,
        idle_connections: 10_000,
        per_idle_connection_bytes: 2048.0,
        live_calls: 5000,
        per_live_call_bytes: 1500.0,
    });
    ours.endpoints = Some(EndpointCost {
        few: 3,
        few_us_per_call: spread(&[50.0, 60.0]),
        many: 10_000,
        many_us_per_call: spread(&[55.0, 55.0]),
    });
    let mut nginx = peer(Contender::Nginx, 30.0);
    nginx.faults.push("churn: {\"grpc-status 14\": 3}".to_owned());
    Results {
        settings: Settings {
            unix_time: 1_700_000_000,
            processor: "some processor".to_owned(),
            kernel: "6.1".to_owned(),
            cores: 2,
            load_average: "2.00".to_owned(),
            rounds: 3,
            block_seconds: 2.0,
            short_blocks: 3,
            short_block_seconds: 1.0,
            rate: 2000.0,
        },
        direct_p50_us: spread(&[60.0]),
        direct_p99_us: spread(&[300.0]),
        peers: vec![ours, peer(Contender::Haproxy, 14.0), nginx, peer(Contender::Relay, 3.0)],
        skipped: vec![Skipped {
            name: "envoy-nghttp2".to_owned(),
            reason: "envoy is not installed".to_owned(),
        }],
        clients: vec![
            ForeignClient {
                load: Client::Grpcio.to_string(),
                presence: Presence::Missing("grpcio is not installed (cargo xtask peers)".to_owned()),
            },
            ForeignClient {
                load: Client::H2load.to_string(),
                presence: Presence::Version("1.52.0".to_owned()),
            },
        ],
    }
}

#[test]
fn the_table_shows_medians_bounds_and_what_is_missing() {
    insta::assert_snapshot!(markdown(&results()));
}

#[test]
fn a_bound_is_of_the_best_rival_and_can_be_missed() {
    let verdicts = verdicts(&results());
    let find = |claim: &str| verdicts.iter().find(|verdict| verdict.claim == claim).unwrap();
    let best = find("CPU per call at 1 x 100, of best peer");
    assert!((best.measured.unwrap() - 4.0 / 14.0).abs() < 1e-9);
    assert_eq!(best.is_kept(), Some(true));
    let relay = find("CPU per call at 10 x 10, of L4 relay");
    assert!((relay.measured.unwrap() - 4.0 / 3.0).abs() < 1e-9);
    assert_eq!(relay.is_kept(), Some(false));
    assert_eq!(find("CPU per call at churn, of Envoy's better codec").is_kept(), None);
    assert_eq!(find("bytes per CPU second, one large download, of HAProxy").is_kept(), Some(true));
    assert_eq!(find("memory per live call, bytes").is_kept(), Some(false));
}

#[test]
fn a_bound_on_the_load_of_a_client_that_is_absent_says_so() {
    let mut results = results();
    let find = |results: &Results| {
        let of_best = |verdict: &Verdict| verdict.claim == "CPU per call at 1 x 40 by grpcio, of best peer";
        verdicts(results).into_iter().find(of_best).unwrap()
    };
    let absent = find(&results);
    assert_eq!((absent.bound, absent.is_kept()), (0.6, None));
    assert_eq!(absent.missing.unwrap(), "grpcio is not installed (cargo xtask peers)");
    results.clients[0].presence = Presence::Version("1.85.1".to_owned());
    for (name, cpu) in [("evenkeel", 12.0), ("haproxy", 20.0), ("nginx", 30.0)] {
        let peer = results.peers.iter_mut().find(|peer| peer.name == name).unwrap();
        peer.cpu_us_per_call.insert(Client::Grpcio.to_string(), spread(&[cpu]));
    }
    let measured = find(&results);
    assert_eq!((measured.measured, measured.is_kept(), measured.missing), (Some(0.6), Some(true), None));
}

#[test]
fn the_median_is_of_the_middle_and_the_lower_quartile_of_the_lower_half() {
    assert_eq!(spread(&[]).median(), None);
    assert_eq!(spread(&[3.0, 1.0, 2.0]).median(), Some(2.0));
    assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
    assert_eq!(spread(&[4.0, 1.0]).range(), Some((1.0, 4.0)));
    assert_eq!(spread(&[]).lower_quartile(), None);
    assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).lower_quartile(), Some(1.0));
    assert_eq!(spread(&[5.0, 4.0, 1.0, 2.0, 3.0]).lower_quartile(), Some(2.0));
}

#[test]
fn results_are_read_back_from_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docs/run.json");
    write_files(&results(), &path).unwrap();
    let read: Results = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(read, results());
    assert_eq!(std::fs::read_to_string(path.with_extension("md")).unwrap(), markdown(&results()));
}
