//! The reference gives the bounds and defaults that are in force.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use core::fmt::Display;
use core::time::Duration;
use std::fs;

use evenkeel_balance::BoundedLoad;
use evenkeel_config::bounds::{self, Bounds};

/// What the reference says under this heading.
fn section(heading: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let reference = fs::read_to_string(path).unwrap();
    reference.split(heading).nth(1).unwrap().split("\n### ").next().unwrap().to_owned()
}

/// Cells of the line that explains a key: its default and its bounds.
fn cells(key: &str) -> (String, String) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let reference = fs::read_to_string(path).unwrap();
    let start = format!("| `{key}` |");
    let line = reference.lines().find(|line| line.starts_with(&start) && line.matches(" |").count() >= 4);
    let cells: Vec<&str> =
        line.unwrap_or_else(|| panic!("{key} has no line")).split('|').map(str::trim).collect();
    (cells[3].to_owned(), cells[4].to_owned())
}

fn check<T: Copy>(key: &str, bounds: Bounds<T>, print: impl Fn(T) -> String) {
    let (default, range) = cells(key);
    let first = default.split([';', ',']).next().unwrap();
    assert_eq!(first, print(bounds.default), "default of {key}");
    assert_eq!(range, format!("{} to {}", print(bounds.min), print(bounds.max)), "bounds of {key}");
}

fn plain<T: Display + Copy>(key: &str, bounds: Bounds<T>) {
    check(key, bounds, |value| value.to_string());
}

fn duration(key: &str, bounds: Bounds<Duration>) {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    check(key, bounds, |value| {
        let millis = value.as_millis();
        let unit = units.iter().find(|(factor, _)| millis >= *factor && millis % factor == 0);
        unit.map_or("0s".to_owned(), |(factor, unit)| format!("{}{unit}", millis / factor))
    });
}

fn size(key: &str, bounds: Bounds<u32>) {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
    check(key, bounds, |value| {
        let unit = units.iter().find(|(factor, _)| value >= *factor && value % factor == 0);
        unit.map_or("0B".to_owned(), |(factor, unit)| format!("{}{unit}", value / factor))
    });
}

#[test]
fn retries_are_as_in_the_reference() {
    plain("max_attempts", bounds::RETRY_MAX_ATTEMPTS);
    duration("initial_backoff", bounds::RETRY_INITIAL_BACKOFF);
    duration("max_backoff", bounds::RETRY_MAX_BACKOFF);
    plain("backoff_multiplier", bounds::RETRY_BACKOFF_MULTIPLIER);
    plain("percent", bounds::RETRY_BUDGET_PERCENT);
    plain("min_concurrency", bounds::RETRY_BUDGET_MIN_CONCURRENCY);
}

#[test]
fn outlier_detection_is_as_in_the_reference() {
    plain("consecutive_failures", bounds::OUTLIER_CONSECUTIVE_FAILURES);
    duration("interval", bounds::OUTLIER_INTERVAL);
    duration("base_ejection_time", bounds::OUTLIER_BASE_EJECTION);
    duration("max_ejection_time", bounds::OUTLIER_MAX_EJECTION);
    plain("max_ejection_percent", bounds::OUTLIER_MAX_EJECTION_PERCENT);
    plain("trial_successes", bounds::OUTLIER_TRIAL_SUCCESSES);
    duration("trial_timeout", bounds::OUTLIER_TRIAL_TIMEOUT);
    plain("consecutive_enforcement_percent", bounds::OUTLIER_ENFORCEMENT_PERCENT);
    plain("enforcement_percent", bounds::OUTLIER_ENFORCEMENT_PERCENT);
    plain("chance_exponent", bounds::OUTLIER_CHANCE_EXPONENT);
    let section = section("### `outlier_detection`");
    let jitter = bounds::OUTLIER_JITTER;
    let cells = format!("| {} | {} to {} |", jitter.default, jitter.min, jitter.max);
    assert!(section.lines().any(|line| line.starts_with("| `jitter` |") && line.ends_with(&cells)));
}

#[test]
fn health_checks_are_as_in_the_reference() {
    plain("unhealthy_threshold", bounds::HEALTH_UNHEALTHY_THRESHOLD);
    plain("healthy_threshold", bounds::HEALTH_HEALTHY_THRESHOLD);
    let section = section("### `health_check`");
    for (key, default, range) in
        [("interval", "5s", "10ms to 1h"), ("timeout", "1s", "10ms to 1m"), ("jitter", "0.2", "0 to 1")]
    {
        let line = section.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).unwrap();
        assert!(line.contains(&format!("| {default}")) && line.ends_with(&format!("| {range} |")), "{line}");
    }
    assert_eq!(bounds::HEALTH_INTERVAL.min, Duration::from_millis(10));
    assert_eq!(bounds::HEALTH_TIMEOUT.max, Duration::from_secs(60));
}

#[test]
fn counts_are_as_in_the_reference() {
    plain("max_concurrent_streams", bounds::EDGE_MAX_CONCURRENT_STREAMS);
    assert_eq!(cells("max_concurrent_streams").0, "100; `mesh`: 1024");
    assert_eq!(bounds::MESH_MAX_CONCURRENT_STREAMS.default, 1024);
    plain("max_headers_count", bounds::MAX_HEADERS_COUNT);
    plain("max_connections_per_worker", bounds::MAX_CONNECTIONS_PER_WORKER);
    plain("max_pending", bounds::MAX_PENDING);
    plain("max_connections_per_endpoint", bounds::MAX_CONNECTIONS_PER_ENDPOINT);
    plain("max_endpoints_per_worker", bounds::MAX_ENDPOINTS_PER_WORKER);
    plain("multiplier", bounds::BACKOFF_MULTIPLIER);
    plain("jitter", bounds::BACKOFF_JITTER);
    plain("weight", bounds::WEIGHT);
    plain("entries_per_endpoint", bounds::RING_ENTRIES);
    plain("max_ring_size", bounds::RING_SIZE);
    plain("table_size", bounds::MAGLEV_TABLE_SIZE);
    plain("error_utilization_penalty", bounds::ERROR_UTILIZATION_PENALTY);
    plain("aggression", bounds::SLOW_START_AGGRESSION);
    plain("min_weight", bounds::SLOW_START_MIN_WEIGHT);
    plain("overprovisioning_factor", bounds::OVERPROVISIONING);
    plain("panic_threshold", bounds::PANIC_THRESHOLD);
    plain("min_cluster_size", bounds::ZONE_MIN_CLUSTER_SIZE);
    plain("routing_enabled", bounds::ZONE_ROUTING_ENABLED);
    plain("priority", bounds::PRIORITY);
    assert_eq!(cells("locality_weights").1, format!("up to {}", bounds::MAX_LOCALITIES));
    for (key, min, max) in [
        ("min_ring_size", bounds::RING_SIZE.min, bounds::RING_SIZE.max),
        ("bounded_load", BoundedLoad::MIN_PERCENT, BoundedLoad::MAX_PERCENT),
        ("size", bounds::SUBSET_SIZE.min, bounds::SUBSET_SIZE.max),
        ("client_index", bounds::SUBSET_CLIENT_INDEX.min, bounds::SUBSET_CLIENT_INDEX.max),
    ] {
        assert_eq!(cells(key).1, format!("{min} to {max}"), "{key}");
    }
    let names = cells("metric_names_for_computing_utilization");
    assert_eq!(names.1, format!("up to {}", bounds::MAX_UTILIZATION_METRICS));
    assert_eq!(cells("hash_by").1, format!("up to {}", bounds::MAX_HASH_BY));
    assert_eq!(cells("workers").1, format!("{} to {}", bounds::WORKERS.min, bounds::WORKERS.max));
    for (key, max) in [
        ("listeners", bounds::MAX_LISTENERS),
        ("clusters", bounds::MAX_CLUSTERS),
        ("routes", bounds::MAX_ROUTES),
        ("authority", bounds::MAX_AUTHORITIES),
    ] {
        assert_eq!(cells(key).1, format!("1 to {max}"), "{key}");
    }
}

#[test]
fn durations_are_as_in_the_reference() {
    duration("idle_timeout", bounds::IDLE_TIMEOUT);
    duration("connect_timeout", bounds::CONNECT_TIMEOUT);
    duration("stall_timeout", bounds::STALL_TIMEOUT);
    for (key, default, bounds) in [
        ("max_stream_duration", "none", bounds::STREAM_DURATION),
        ("stream_idle_timeout", "none", bounds::STREAM_IDLE_TIMEOUT),
    ] {
        assert_eq!(cells(key), (default.to_owned(), "1s to 365d".to_owned()), "{key}");
        assert_eq!((bounds.min, bounds.max), (Duration::from_secs(1), Duration::from_secs(365 * 86_400)));
    }
    for (key, bounds) in [
        ("max_connection_age", bounds::MAX_CONNECTION_AGE),
        ("max_connection_age_grace", bounds::MAX_CONNECTION_AGE_GRACE),
    ] {
        assert_eq!(cells(key), ("off".to_owned(), "1s to 30d".to_owned()), "{key}");
        assert_eq!((bounds.min, bounds.max), (Duration::from_secs(1), Duration::from_secs(30 * 86_400)));
    }
    duration("base_interval", bounds::BACKOFF_BASE_INTERVAL);
    duration("max_interval", bounds::BACKOFF_MAX_INTERVAL);
    duration("min_refresh", bounds::DNS_MIN_REFRESH);
    duration("max_refresh", bounds::DNS_MAX_REFRESH);
    duration("pre_drain", bounds::DRAIN_PRE_DRAIN);
    duration("spread", bounds::DRAIN_SPREAD);
    duration("grace", bounds::DRAIN_GRACE);
    duration("decay", bounds::PEAK_EWMA_DECAY);
    duration("blackout_period", bounds::LOAD_BLACKOUT_PERIOD);
    duration("weight_expiration_period", bounds::LOAD_EXPIRATION_PERIOD);
    duration("weight_update_period", bounds::LOAD_UPDATE_PERIOD);
    duration("oob_reporting_period", bounds::LOAD_REPORTING_PERIOD);
    duration("window", bounds::SLOW_START_WINDOW);
    assert_eq!(cells("ttl"), ("none".to_owned(), "0s to 365d".to_owned()));
    assert_eq!(bounds::COOKIE_TTL.max, Duration::from_secs(365 * 86_400));
    assert_eq!(cells("timeout"), ("none".to_owned(), "1ms to 365d".to_owned()));
    assert_eq!(bounds::ROUTE_TIMEOUT.min, Duration::from_millis(1));
    assert_eq!(bounds::ROUTE_TIMEOUT.max, Duration::from_secs(365 * 86_400));
}

#[test]
fn the_memory_limit_is_as_in_the_reference() {
    check("memory", bounds::OVERLOAD_MEMORY_PERCENT, |percent| format!("{percent}%"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    assert!(fs::read_to_string(path).unwrap().contains("a size from 16MiB to 4096GiB"));
    assert_eq!(bounds::OVERLOAD_MEMORY_BYTES.min, 16 << 20);
    assert_eq!(bounds::OVERLOAD_MEMORY_BYTES.max, 4096 << 30);
}

#[test]
fn sizes_are_as_in_the_reference() {
    size("per_call", bounds::REPLAY_PER_CALL);
    size("per_process", bounds::REPLAY_PER_PROCESS);
    size("initial_stream_window_size", bounds::INITIAL_STREAM_WINDOW_SIZE);
    size("initial_connection_window_size", bounds::INITIAL_CONNECTION_WINDOW_SIZE);
    size("max_header_list_size", bounds::MAX_HEADER_LIST_SIZE);
    size("max_header_field_size", bounds::MAX_HEADER_FIELD_SIZE);
}
