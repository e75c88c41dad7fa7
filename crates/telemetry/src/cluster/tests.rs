use evenkeel_grpc::Code;

use super::*;
use crate::call::{CallEnd, Messages};
use crate::event::{ClusterEvent, RetryReason};

fn end() -> CallEnd {
    CallEnd::new(Code::Ok, Duration::from_millis(1), Messages { request: 1, response: 1 })
}

/// (cluster, endpoint, calls started) of every sample.
fn started(clusters: &Clusters) -> Vec<(String, String, u64)> {
    let mut all = Vec::new();
    for cluster in clusters.samples() {
        for endpoint in cluster.endpoints {
            all.push((cluster.name.to_string(), endpoint.address.into(), endpoint.totals.calls.started));
        }
    }
    all
}

fn triple(cluster: &str, endpoint: &str, count: u64) -> (String, String, u64) {
    (cluster.into(), endpoint.into(), count)
}

#[test]
fn an_endpoint_is_the_sum_of_its_workers() {
    let clusters = Clusters::default();
    let endpoint = clusters.cluster("orders").endpoint("127.0.0.2:1");
    let (a, b) = (endpoint.attach(), endpoint.attach());
    a.connect_succeeded();
    a.call_started();
    a.call_finished(&end());
    b.connect_succeeded();
    b.connect_failed();
    b.call_started();
    b.call_started();
    b.reset();
    b.disconnected();
    let totals = endpoint.totals();
    assert_eq!((totals.calls.started, totals.calls.ended(), totals.calls.in_flight()), (3, 1, 2));
    assert_eq!((totals.connects_succeeded, totals.connects_failed), (2, 1));
    assert_eq!((totals.disconnections, totals.resets, totals.connections_active()), (1, 1, 1));
}

#[test]
fn waiting_calls_are_the_sum_of_the_workers_that_are_there() {
    let clusters = Clusters::default();
    let cluster = clusters.cluster("orders");
    let pending = || clusters.samples()[0].pending;
    let (a, b) = (cluster.attach(), cluster.attach());
    assert_eq!(pending(), 0);
    a.set_pending(3);
    b.set_pending(2);
    assert_eq!(pending(), 5);
    a.set_pending(1);
    assert_eq!(pending(), 3);
    drop(b);
    assert_eq!(pending(), 1, "a worker that is gone has no calls");
    let successor = cluster.attach();
    assert_eq!(pending(), 1);
    drop((a, successor, cluster));
    assert!(clusters.samples().is_empty());
}

#[test]
fn events_are_the_sum_of_a_clusters_workers_and_of_no_other() {
    let clusters = Clusters::default();
    let [orders, billing] = ["orders", "billing"].map(|name| clusters.cluster(name));
    let (a, b, other) = (orders.attach(), orders.attach(), billing.attach());
    let retried = ClusterEvent::Retry(RetryReason::Status);
    a.count(retried);
    b.add(retried, 2);
    other.count(ClusterEvent::PendingOverflow);
    assert_eq!((orders.counts().get(retried), billing.counts().get(retried)), (3, 0));
    assert_eq!(billing.counts().get(ClusterEvent::PendingOverflow), 1);
    drop(a);
    orders.attach().count(retried);
    assert_eq!(orders.counts().get(retried), 4, "a worker's successor goes on from its counts");
}

#[test]
fn a_cluster_that_everyone_forgot_begins_anew_and_those_beyond_the_bound_keep_their_sum() {
    let clusters = Clusters::default();
    let retried = ClusterEvent::Retry(RetryReason::Reset);
    let held: Vec<_> = (0..MAX_CLUSTER_SERIES).map(|n| clusters.cluster(&n.to_string())).collect();
    clusters.cluster("x").attach().count(retried);
    clusters.cluster("y").attach().count(retried);
    assert_eq!(
        clusters.samples().last().map(|last| (&*last.name, last.events.get(retried))),
        Some(("other", 2))
    );
    held[0].attach().count(retried);
    assert_eq!(clusters.samples()[0].events.get(retried), 1);
    drop(held);
    assert_eq!(clusters.samples().len(), 1, "of all the series those of other are left");
    assert_eq!(clusters.cluster("0").counts().get(retried), 0);
}

#[test]
fn the_same_address_is_the_same_endpoint_in_one_cluster_only() {
    let clusters = Clusters::default();
    let (a, b) = (clusters.cluster("a"), clusters.cluster("b"));
    let endpoint = a.endpoint("127.0.0.2:1");
    assert!(Arc::ptr_eq(&endpoint, &a.endpoint("127.0.0.2:1")));
    assert!(!Arc::ptr_eq(&endpoint, &b.endpoint("127.0.0.2:1")));
    assert!(Arc::ptr_eq(&a, &clusters.cluster("a")));
}

#[test]
fn series_end_with_the_last_holder() {
    let clusters = Clusters::default();
    let cluster = clusters.cluster("orders");
    let endpoint = cluster.endpoint("127.0.0.2:1");
    let stats = endpoint.attach();
    drop(endpoint);
    stats.call_started();
    assert_eq!(started(&clusters), [triple("orders", "127.0.0.2:1", 1)], "a worker still counts");
    drop(stats);
    assert_eq!(started(&clusters), []);
    assert_eq!(clusters.samples().len(), 1);
    drop(cluster);
    assert_eq!(clusters.samples(), []);
}

#[test]
fn the_last_place_is_given_and_the_next_endpoint_counts_under_other_for_good() {
    let clusters = Clusters::default();
    let cluster = clusters.cluster("orders");
    let mut named: Vec<_> = (0..MAX_ENDPOINT_SERIES).map(|n| cluster.endpoint(&format!("e{n}"))).collect();
    let (x, y) = (cluster.endpoint("x"), cluster.endpoint("y"));
    x.attach().call_started();
    y.attach().call_started();
    let all = started(&clusters);
    assert_eq!(all.len(), MAX_ENDPOINT_SERIES + 1);
    assert_eq!(all.last(), Some(&triple("orders", "other", 2)));

    // A place becomes free: `x` stays under "other", a newcomer takes the place.
    named.pop();
    assert_eq!(started(&clusters).len(), MAX_ENDPOINT_SERIES);
    x.attach().call_started();
    let newcomer = cluster.endpoint("newcomer");
    newcomer.attach().call_started();
    let all = started(&clusters);
    assert_eq!(all.len(), MAX_ENDPOINT_SERIES + 1);
    assert_eq!(all.last(), Some(&triple("orders", "other", 3)));
    assert!(all.contains(&triple("orders", "newcomer", 1)));

    // "Other" never goes back, even when its endpoints are gone.
    drop((x, y));
    assert_eq!(started(&clusters).last(), Some(&triple("orders", "other", 3)));
}

#[test]
fn endpoints_that_nobody_holds_are_dropped_even_if_nothing_scrapes() {
    let clusters = Clusters::default();
    let cluster = clusters.cluster("orders");
    for n in 0..100_000 {
        cluster.endpoint(&n.to_string()).attach().call_started();
    }
    assert!(lock(&cluster.endpoints).by_address.len() <= 64);
}

#[test]
fn clusters_beyond_the_bound_share_other() {
    let clusters = Clusters::default();
    let held: Vec<_> = (0..MAX_CLUSTER_SERIES).map(|n| clusters.cluster(&n.to_string())).collect();
    assert_eq!(clusters.samples().len(), MAX_CLUSTER_SERIES);
    let (x, y) = (clusters.cluster("x"), clusters.cluster("y"));
    assert!(Arc::ptr_eq(&x, &y));
    let endpoint = x.endpoint("127.0.0.2:1");
    endpoint.attach().call_started();
    assert_eq!(started(&clusters), [triple("other", "127.0.0.2:1", 1)]);
    drop(held);
    assert!(!Arc::ptr_eq(&x, &clusters.cluster("z")), "places are free again");
}

#[test]
fn a_cluster_or_endpoint_called_other_makes_no_second_series() {
    let clusters = Clusters::default();
    let cluster = clusters.cluster("other");
    let endpoint = cluster.endpoint("other");
    endpoint.attach().call_started();
    assert_eq!(started(&clusters), [triple("other", "other", 1)]);
}

#[test]
fn the_resolver_keeps_the_time_of_its_last_answer() {
    let clusters = Clusters::default();
    let cluster = clusters.cluster("orders");
    cluster.resolver_failed(1);
    assert_eq!(cluster.resolver().last_success_at, None);
    cluster.resolver_updated(1, Duration::from_secs(3));
    cluster.resolver_failed(1);
    let expected = ResolverTotals { updates: 1, failures: 2, last_success_at: Some(Duration::from_secs(3)) };
    assert_eq!(cluster.resolver(), expected);
    cluster.resolver_ended();
    assert_eq!(cluster.resolver(), ResolverTotals { last_success_at: None, ..expected });
}
