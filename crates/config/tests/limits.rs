//! What the keys mean that bound what is let through.

use core::time::Duration;

use evenkeel_balance::limit::{AdaptiveConfig, BreakerLimits, MinRtt, RateLimit};
use evenkeel_config::{CircuitBreakers, Cluster, Config, ConfigErrors, HashBy, RouteRateLimit, parse};

/// A configuration whose only route and cluster have these keys besides what they need.
fn config(route: &str, cluster: &str) -> Result<Config, ConfigErrors> {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a, {route}}}]}}]\n\
         clusters: [{{name: a, target: 'ipv4:127.0.0.1:2', {cluster}}}]\n"
    );
    parse("text", &text)
}

fn cluster(keys: &str) -> Cluster {
    config("", keys).unwrap_or_else(|errors| panic!("{}", errors.render(false))).clusters.remove(0)
}

fn rate_limit(keys: &str) -> Option<RouteRateLimit> {
    let config = config(keys, "").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    config.listeners[0].routes[0].rate_limit.clone()
}

#[test]
fn without_a_key_nothing_is_limited_and_an_empty_mapping_has_the_defaults() {
    let none = cluster("");
    assert_eq!((none.circuit_breakers, none.adaptive_concurrency, none.wait_for_ready), (None, None, false));
    let off = cluster("circuit_breakers: off, adaptive_concurrency: off");
    assert_eq!((off.circuit_breakers, off.adaptive_concurrency), (None, None));
    let on = cluster("circuit_breakers: {}, adaptive_concurrency: {}, wait_for_ready: true");
    let (cluster, endpoint) = (BreakerLimits::of_cluster(), BreakerLimits::of_endpoint());
    assert_eq!(on.circuit_breakers, Some(CircuitBreakers { cluster, endpoint }));
    let adaptive = on.adaptive_concurrency.unwrap();
    assert_eq!((adaptive.config, adaptive.queue, on.wait_for_ready), (AdaptiveConfig::default(), true, true));
    assert_eq!(rate_limit(""), None);
}

#[test]
fn a_bound_is_a_number_or_off_for_the_cluster_and_for_each_endpoint() {
    let breakers = config(
        "retry: {}",
        "circuit_breakers: {max_connections: 9, max_pending: off, max_requests: 0, max_retries: 7, \
         per_endpoint: {max_connections: 4, max_requests: off, max_retries: 7}}",
    );
    let CircuitBreakers { cluster, endpoint } = breakers.unwrap().clusters[0].circuit_breakers.unwrap();
    let of = |limits: BreakerLimits| {
        [limits.max_connections, limits.max_pending, limits.max_requests, limits.max_retries]
    };
    assert_eq!(of(cluster), [Some(9), None, Some(0), Some(7)]);
    assert_eq!(of(endpoint), [Some(4), None, None, Some(7)]);
}

#[test]
fn the_latency_without_a_queue_is_given_or_measured() {
    let min_rtt = |keys: &str| {
        cluster(&format!("adaptive_concurrency: {{{keys}}}")).adaptive_concurrency.unwrap().config.min_rtt
    };
    assert_eq!(min_rtt("min_rtt: 5ms"), MinRtt::Fixed(Duration::from_millis(5)));
    let measured = MinRtt::Measured { interval: Duration::from_secs(30), jitter_percent: 0, requests: 9 };
    assert_eq!(min_rtt("measure_interval: 30s, measure_jitter_percent: 0, measure_requests: 9"), measured);
    let initial = |keys: &str| {
        cluster(&format!("adaptive_concurrency: {{{keys}}}"))
            .adaptive_concurrency
            .unwrap()
            .config
            .initial_limit
    };
    assert_eq!((initial("min_limit: 50"), initial("max_limit: 10")), (50, 10), "the default moves along");
}

#[test]
fn a_rate_has_its_requests_as_burst_unless_one_is_given() {
    let limit = rate_limit("rate_limit: {requests: 100}").unwrap();
    let route = limit.route.unwrap();
    assert_eq!(route.limit, RateLimit::new(100, Duration::from_secs(1), 100).unwrap());
    assert_eq!(limit.clients, None);
    let limit = rate_limit(
        "rate_limit: {per_client: {by: [{metadata: x-id}, source_ip], requests: 6, per: 1m, burst: 2, max_keys: 8}}",
    )
    .unwrap();
    let clients = limit.clients.unwrap();
    assert_eq!(clients.rate.limit, RateLimit::new(6, Duration::from_secs(60), 2).unwrap());
    assert_eq!((clients.by, clients.max_keys), (vec![HashBy::Metadata("x-id".into()), HashBy::SourceIp], 8));
    assert_eq!(limit.route, None);
}

#[test]
fn what_is_printed_can_be_read_and_means_the_same() {
    let route = "rate_limit: {requests: 5, burst: 9, per_client: {by: [source_ip], requests: 1}}";
    for keys in [
        "circuit_breakers: {max_requests: 5, per_endpoint: {max_requests: 5}}, adaptive_concurrency: {}",
        "circuit_breakers: {}, adaptive_concurrency: {min_rtt: 3ms, queue: false}, wait_for_ready: true",
    ] {
        let written = config(route, keys).unwrap();
        let printed = serde_json::to_string(&written).unwrap();
        assert_eq!(parse("printed", &printed).unwrap(), written);
    }
}

#[test]
fn what_cannot_be_is_told() {
    for (route, cluster, expected) in [
        ("", "circuit_breakers: {max_connections: 0}", "at least 1, at most 1000000"),
        ("", "circuit_breakers: {max_requests: 10, per_endpoint: {max_requests: 11}}", "above"),
        ("", "circuit_breakers: {per_endpoint: {max_pending: 1}}", "max_pending"),
        ("", "adaptive_concurrency: {min_limit: 0}", "at least 1, at most 1000000"),
        ("", "adaptive_concurrency: {min_limit: 20, max_limit: 10}", "min_limit"),
        ("", "adaptive_concurrency: {min_limit: 2000}", "max_limit"),
        ("", "adaptive_concurrency: {initial_limit: 2}", "min_limit"),
        ("", "adaptive_concurrency: {min_rtt: 5ms, measure_requests: 5}", "measure_requests"),
        ("rate_limit: {}", "", "per_client"),
        ("rate_limit: {burst: 5, per_client: {by: [source_ip], requests: 1}}", "", "requests"),
        ("rate_limit: {requests: 0}", "", "at least 1, at most 1000000000"),
        ("rate_limit: {requests: 1000000000, per: 1ms}", "", "1000000000 per 1s"),
        ("rate_limit: {per_client: {by: [], requests: 1}}", "", "by"),
        ("rate_limit: {per_client: {requests: 1}}", "", "by"),
        ("rate_limit: {per_client: {by: [{cookie: {name: a, ttl: 1h}}], requests: 1}}", "", "ttl"),
        (
            "rate_limit: {per_client: {by: [source_ip], requests: 1, max_keys: 7}}",
            "",
            "at least 8, at most 1048576",
        ),
    ] {
        let errors = config(route, cluster).unwrap_err().render(false).to_string();
        assert!(errors.contains(expected), "{route} {cluster}: {errors}");
    }
}

#[test]
fn defaults_do_no_harm_beside_the_bounds_that_other_keys_set() {
    let endpoint = |keys: &str| cluster(keys).circuit_breakers.unwrap().endpoint.max_requests;
    assert_eq!(endpoint("circuit_breakers: {}"), Some(1024));
    assert_eq!(endpoint("circuit_breakers: {max_requests: 5000}"), Some(1024));
    // Never reached, and written out it is the same.
    assert_eq!(endpoint("circuit_breakers: {max_requests: 5}"), Some(1024));
    assert_eq!(
        endpoint("circuit_breakers: {max_requests: 5, per_endpoint: {max_requests: 1024}}"),
        Some(1024)
    );
    for keys in ["circuit_breakers: {max_requests: 5}", "circuit_breakers: {max_requests: 0}"] {
        let written = config("", keys).unwrap();
        let printed = serde_json::to_string(&written).unwrap();
        assert_eq!(parse("printed", &printed), Ok(written), "{printed}");
    }
    let text = "listeners: [{address: '127.0.0.1:1', limits: {max_header_list_size: 4KiB}, routes: [{cluster: a}]}]\n\
                clusters: [{name: a, target: 'ipv4:127.0.0.1:2'}]\n";
    let written = parse("text", text).unwrap();
    assert_eq!(written.listeners[0].limits.max_header_field_size, 4096);
    let printed = serde_json::to_string(&written).unwrap();
    assert_eq!(parse("printed", &printed), Ok(written), "{printed}");
}
