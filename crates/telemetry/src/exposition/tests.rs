use evenkeel_grpc::Code;

use super::*;
use crate::{
    CallEnd, ClusterEvent, ClusterStats, EndpointStats, Event, HealthCheckResult, LoadReported,
    LoadStreamEnded, MAX_CLUSTER_SERIES, MAX_METHODS, Messages, MethodId, Options, RateLimited, Refused,
    Reload, ResponseFlag, RetryReason, RouteEvent, Shed, Side, Telemetry, TransparentRetry, WorkerStats,
};

const RULES: &[&str] = &["stream_id", "abuse", "stream_id"];

fn telemetry() -> Telemetry {
    Telemetry::new(Options { version: "0.1.0", protocol_rules: RULES })
}

fn end(code: Code, millis: u64, request: u64, response: u64) -> CallEnd {
    CallEnd::new(code, Duration::from_millis(millis), Messages { request, response })
}

fn call(worker: &WorkerStats, method: MethodId, end: &CallEnd) {
    worker.call_started(method);
    worker.call_finished(method, end);
}

/// Telemetry on which two workers have counted one of each thing at least, and the handles that keep its series alive.
struct Busy {
    telemetry: Telemetry,
    _cluster: ClusterStats,
    _endpoints: [EndpointStats; 3],
}

fn busy() -> Busy {
    let telemetry = telemetry();
    let (a, b) = (telemetry.add_worker(), telemetry.add_worker());
    let get = telemetry.methods().register("ecommerce.orders.OrderService", "GetOrder");
    let watch = telemetry.methods().register("ecommerce.orders.OrderService", "WatchOrders");
    a.count(Event::ConnectionOpened);
    b.add(Event::ConnectionOpened, 2);
    a.count(Event::ConnectionClosed);
    b.count(Event::ConnectionRefused(Refused::ProcessLimit));
    a.count(Event::Http1Request);
    b.count(Event::NonGrpcRequest);
    a.count(Event::LocalReply(ResponseFlag::NoRoute));
    a.add(Event::Shed(Shed::ResetStream), 3);
    a.count(Event::DrainAbortedStream);
    a.add(Event::BytesRead(Side::Downstream), 1_000);
    b.add(Event::BytesWritten(Side::Upstream), 2_000);
    a.count(Event::Flush(Side::Upstream));
    b.count(Event::Wakeup);
    a.protocol_error("stream_id");
    b.protocol_error("abuse");
    b.protocol_error("a rule of tomorrow");
    call(&a, get, &end(Code::Ok, 4, 1, 1));
    call(&b, get, &end(Code::Ok, 40, 1, 1));
    call(&b, get, &end(Code::DeadlineExceeded, 11_000, 1, 0));
    call(&a, watch, &end(Code::Ok, 700, 1, 30));
    b.call_started(watch);
    call(&a, MethodId::UNKNOWN, &end(Code::Unimplemented, 0, 1, 0));

    let cluster = telemetry.cluster("orders");
    cluster.resolver_updated(1, Duration::from_secs(10));
    cluster.resolver_failed(1);
    cluster.health_checked(HealthCheckResult::Serving);
    cluster.health_checked(HealthCheckResult::Serving);
    cluster.health_checked(HealthCheckResult::TimedOut);
    cluster.load_reported(LoadReported::Taken);
    cluster.load_reported(LoadReported::Ignored);
    cluster.load_stream_ended(LoadStreamEnded::Failed);
    let (one, two) = (cluster.endpoint("127.0.0.2:50051"), cluster.endpoint("127.0.0.3:50051"));
    let (one_by_a, one_by_b, two_by_b) = (one.attach(), one.attach(), two.attach());
    for stats in [&one_by_a, &one_by_b] {
        stats.connect_succeeded();
        stats.call_started();
        stats.call_finished(&end(Code::Ok, 3, 1, 1));
    }
    one_by_b.call_started();
    one_by_b.disconnected();
    two_by_b.connect_failed();
    two_by_b.call_started();
    two_by_b.reset();
    two_by_b.call_finished(&end(Code::Unavailable, 0, 1, 0));
    telemetry.control().config_reloaded(Reload::Accepted);
    telemetry.control().set_config_generation(2);
    telemetry.access_log().written.add(6);
    telemetry.access_log().dropped.add(1);
    let of_worker = cluster.attach();
    of_worker.set_pending(5);
    of_worker.count(ClusterEvent::TransparentRetry(TransparentRetry::GoAway));
    of_worker.count(ClusterEvent::PendingOverflow);
    of_worker.count(ClusterEvent::LocalReply(ResponseFlag::UpstreamConnectFailure));
    Busy { telemetry, _cluster: of_worker, _endpoints: [one_by_a, one_by_b, two_by_b] }
}

fn place(endpoint: &str, locality: &str) -> PlacementSample {
    let (cluster, endpoint) = ("orders".into(), format!("127.0.0.{endpoint}:50051"));
    PlacementSample { cluster, endpoint, priority: "1", locality: locality.into(), weight: "3".into() }
}

fn scrape() -> Scrape {
    let clusters = [
        (ClusterGauge::Endpoints, "READY", 1),
        (ClusterGauge::Endpoints, "TRANSIENT_FAILURE", 1),
        (ClusterGauge::Endpoints, "READY", 1),
        (ClusterGauge::EndpointsByHealth, "healthy", 2),
        (ClusterGauge::EndpointsByHealth, "unhealthy", 1),
        (ClusterGauge::EndpointsWithheld, "ejected", 1),
        (ClusterGauge::EndpointsAtLimit, "max_requests", 1),
        (ClusterGauge::LimitUsed, "max_requests", 7),
        (ClusterGauge::LimitMax, "max_requests", 1_024),
        (ClusterGauge::WorkersInPanic, "0", 2),
        (ClusterGauge::RetryTokens, "", 9),
        (ClusterGauge::EndpointsInSlowStart, "", 1),
        (ClusterGauge::EndpointsInSlowStart, "", 2),
    ]
    .map(|(family, label, value)| GaugeSample { family, cluster: "orders".into(), label, value });
    let process = ProcessSample {
        cpu_seconds: 12.25,
        resident_bytes: 9_000_000,
        virtual_bytes: 800_000_000,
        open_files: 25,
        open_files_max: Some(1_048_576),
        start_time_seconds: 1_795_000_000.5,
        threads: 4,
    };
    let buffered = BufferedSample { bytes: 123_456, limit: Some(4_000_000_000), replay: 65_536 };
    Scrape {
        now: Duration::from_millis(12_500),
        clusters: clusters.into(),
        process: Some(process),
        buffered,
        canaries: Vec::new(),
        placements: vec![place("2", "eu/a\"b/"), place("9", "of one that has no series")],
    }
}

#[test]
fn open_metrics_text() {
    insta::assert_snapshot!(render(busy().telemetry.snapshot(), scrape(), Format::OpenMetrics));
}

#[test]
fn classic_text() {
    insta::assert_snapshot!(render(busy().telemetry.snapshot(), scrape(), Format::ClassicText));
}

/// The values of the series whose line begins with `series`.
fn values(text: &str, series: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| line.starts_with(series));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
}

#[test]
fn the_counts_of_a_worker_that_ended_stay_and_the_next_worker_adds_to_them() {
    let telemetry = telemetry();
    for _ in 0..3 {
        let worker = telemetry.add_worker();
        call(&worker, MethodId::OTHER, &end(Code::Ok, 1, 1, 1));
        worker.count(Event::Wakeup);
    }
    let snapshot = telemetry.snapshot();
    assert_eq!(snapshot.event(Event::Wakeup), 3);
    assert_eq!(snapshot.methods[0].totals.started, 3);
    assert_eq!(snapshot.calls().ended(), 3);
}

#[test]
fn what_happens_in_one_cluster_is_not_counted_in_another() {
    let telemetry = telemetry();
    let worker = telemetry.add_worker();
    let clusters = ["billing", "orders"].map(|name| telemetry.cluster(name).attach());
    let [_, orders] = &clusters;
    orders.add(ClusterEvent::Retry(RetryReason::Status), 3);
    orders.count(ClusterEvent::OutlierReturned);
    orders.count(ClusterEvent::LocalReply(ResponseFlag::UpstreamTimeout));
    worker.count(Event::LocalReply(ResponseFlag::NoRoute));
    let routes = [0, 1, 2].map(|place| telemetry.route("127.0.0.1:1", place));
    let events = [routes[0].events(), routes[1].events()];
    events[1].count(RouteEvent::RateLimited(RateLimited::Client));
    let text = render(telemetry.snapshot(), Scrape::default(), Format::ClassicText);
    let of = |family: &str, cluster: &str, label: &str| {
        values(&text, &format!("{family}_total{{cluster=\"{cluster}\"{label}}}"))
    };
    let status = ",reason=\"status\"";
    assert_eq!(of("evenkeel_retries", "orders", status), [3]);
    assert_eq!(of("evenkeel_retries", "billing", status), [0], "there before the first");
    assert_eq!(of("evenkeel_retries", "orders", ",reason=\"reset\""), [0]);
    assert_eq!(of("evenkeel_outlier_returns", "orders", ""), [1]);
    assert_eq!(of("evenkeel_outlier_returns", "billing", ""), [0]);
    let late = ",response_flag=\"UT\"";
    assert_eq!(of("evenkeel_local_replies", "orders", late), [1]);
    assert_eq!(of("evenkeel_local_replies", "billing", late), [0]);
    let of_route = |place: usize| {
        let labels = format!("{{listener=\"127.0.0.1:1\",route=\"{place}\",limit=\"client_rate\"}}");
        values(&text, &format!("evenkeel_rate_limited_calls_total{labels}"))
    };
    assert_eq!(
        [0, 1, 2].map(of_route),
        [vec![0], vec![1], vec![]],
        "only what acts has series of what it does"
    );
    // Those that no route took are of no cluster.
    assert_eq!(values(&text, "evenkeel_local_replies_total{response_flag=\"NR\"}"), [1]);
    assert_eq!(of("evenkeel_local_replies", "orders", ",response_flag=\"NR\""), [0]);
}

#[test]
fn each_route_counts_its_calls_over_all_workers_and_the_next_with_its_row_begins_at_0() {
    let telemetry = telemetry();
    let workers = [telemetry.add_worker(), telemetry.add_worker()];
    let of_routes = || {
        let text = render(telemetry.snapshot(), Scrape::default(), Format::ClassicText);
        values(&text, "evenkeel_route_calls_total")
    };
    let [first, second] = [0, 1].map(|place| telemetry.route("127.0.0.1:1", place));
    workers.iter().for_each(|worker| worker.route_took(&first));
    workers[1].route_took(&second);
    assert_eq!(of_routes(), [2, 1]);
    drop(first);
    assert_eq!(of_routes(), [1]);
    let third = telemetry.route("127.0.0.1:2", 0);
    assert_eq!(of_routes(), [1, 0]);
    workers[0].route_took(&third);
    assert_eq!(of_routes(), [1, 1]);
    let [worker, _] = workers;
    drop(worker);
    telemetry.add_worker().route_took(&third);
    assert_eq!(of_routes(), [1, 2], "what a worker counted that ended stays");
}

#[test]
fn the_last_method_is_counted_under_its_name_and_the_next_under_other() {
    let telemetry = telemetry();
    let worker = telemetry.add_worker();
    for number in 2..=MAX_METHODS {
        let method = telemetry.methods().register("s", &format!("m{number}"));
        worker.call_started(method);
    }
    let text = render(telemetry.snapshot(), Scrape::default(), Format::ClassicText);
    let series = |service: &str, method: &str| {
        format!(
            r#"grpc_server_started_total{{grpc_type="unary",grpc_service="{service}",grpc_method="{method}"}}"#
        )
    };
    assert_eq!(values(&text, &series("s", "m1023")), [1]);
    assert_eq!(values(&text, &series("s", "m1024")), [] as [u64; 0]);
    assert_eq!(values(&text, &series("other", "other")), [1]);
    assert_eq!(values(&text, "evenkeel_methods_overflow_total"), [1]);
    assert_eq!(values(&text, "grpc_server_started_total").len(), MAX_METHODS - 1);
}

#[test]
fn names_cannot_break_out_of_their_label() {
    let telemetry = telemetry();
    telemetry.methods().register("a\"} 1\nevil 1 #\\", "Get");
    let text = render(telemetry.snapshot(), Scrape::default(), Format::ClassicText);
    assert!(text.contains(r#"grpc_service="a\"} 1\nevil 1 #\\","#), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("evil")));
}

#[test]
fn clusters_beyond_the_bound_share_a_state_series() {
    let sample = |n: usize| GaugeSample {
        family: ClusterGauge::Endpoints,
        cluster: format!("c{n:03}"),
        label: "READY",
        value: 1,
    };
    let scrape = Scrape { clusters: (0..MAX_CLUSTER_SERIES + 2).map(sample).collect(), ..Scrape::default() };
    let text = render(telemetry().snapshot(), scrape, Format::ClassicText);
    assert_eq!(values(&text, "evenkeel_endpoints{").len(), MAX_CLUSTER_SERIES + 1);
    assert_eq!(values(&text, r#"evenkeel_endpoints{cluster="c255""#), [1]);
    assert_eq!(values(&text, r#"evenkeel_endpoints{cluster="other""#), [2]);
}

#[test]
fn what_the_system_does_not_say_is_left_out() {
    let text = render(telemetry().snapshot(), Scrape::default(), Format::OpenMetrics);
    assert!(!text.contains("\nprocess_"), "{text}");
    let process = scrape().process.map(|process| ProcessSample { open_files_max: None, ..process });
    let text = render(telemetry().snapshot(), Scrape { process, ..Scrape::default() }, Format::OpenMetrics);
    assert!(text.contains("process_open_fds 25\n") && !text.contains("process_max_fds"), "{text}");
}

/// What Prometheus refuses a whole scrape for.
fn assert_unambiguous(text: &str) {
    let (mut seen, mut families) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family), "family twice: {line}");
        } else if !line.starts_with('#') {
            assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "series twice: {line}");
        }
    }
    assert!(seen.len() > 100);
}

#[test]
fn no_series_and_no_family_appears_twice() {
    let busy = busy();
    let telemetry = &busy.telemetry;
    let worker = telemetry.add_worker();
    let names = ["other", "unknown"];
    names.iter().for_each(|name| worker.call_started(telemetry.methods().register(name, name)));
    let clusters = names.map(|name| telemetry.cluster(name));
    let _endpoints = clusters.each_ref().map(|cluster| cluster.endpoint("other").attach());
    assert_unambiguous(&render(telemetry.snapshot(), scrape(), Format::OpenMetrics));
    assert_unambiguous(&render(telemetry.snapshot(), scrape(), Format::ClassicText));
}

#[test]
fn a_rule_called_other_makes_no_second_series() {
    let telemetry = Telemetry::new(Options { version: "0", protocol_rules: &["other", "abuse"] });
    telemetry.add_worker().protocol_error("other");
    assert_eq!(telemetry.snapshot().protocol_errors, [("abuse", 0), ("other", 1)]);
}

#[test]
fn a_canary_has_its_weight_and_one_state() {
    let canary = CanarySample {
        name: "orders-next".into(),
        weight_percent: 20.0,
        state: "running",
        states: &["idle", "running"],
    };
    let scrape = Scrape { canaries: vec![canary], ..Scrape::default() };
    let text = render(telemetry().snapshot(), scrape, Format::ClassicText);
    for line in [
        "evenkeel_canary_weight_percent{canary=\"orders-next\"} 20.0",
        "evenkeel_canary_state{canary=\"orders-next\",state=\"idle\"} 0",
        "evenkeel_canary_state{canary=\"orders-next\",state=\"running\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!render(telemetry().snapshot(), Scrape::default(), Format::ClassicText).contains("canary"));
}
