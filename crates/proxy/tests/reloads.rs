//! What calls see of configurations that follow each other: those that wait go on waiting, and new ones wait for connections.

mod peers;

use std::sync::Arc;

use evenkeel_balance::{EndpointSet, Policy};
use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::overload::Accountant;

use self::peers::{End, World};

fn world(backends: u16) -> (World, usize) {
    let mut world = World::with_backends(&Accountant::new(u64::MAX), Limits::edge(), backends, |_, _| {});
    let client = world.client();
    (world, client)
}

#[test]
fn a_call_waits_for_discovery_however_often_the_policy_goes_back_and_forth() {
    let (mut world, client) = world(1);
    let endpoints = world.snapshot.clusters[0].endpoints.clone();
    // A cluster of another policy asks discovery anew, and has no answer at first.
    world.change_cluster(|cluster| cluster.endpoints = None);
    world.change_cluster(|cluster| (cluster.policy, cluster.endpoints) = (Policy::Random, None));
    world.call(client, b'S', 10);
    for policy in [Policy::RoundRobin, Policy::Random, Policy::RoundRobin, Policy::Random] {
        world.turns(3);
        world.change_cluster(|cluster| cluster.policy = policy);
        world.turns(3);
        assert_eq!((world.peer(client).ends.len(), world.worker.call_count()), (0, 1), "{policy:?}");
    }
    world.change_cluster(|cluster| cluster.endpoints = endpoints);
    world.worker_may_connect = true;
    world.turns(5);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok)]);
    world.close_clients();
}

#[test]
fn no_call_fails_when_the_policy_changes_while_endpoints_answer() {
    let policies =
        [Policy::PickFirst { shuffle: false }, Policy::PickFirst { shuffle: true }, Policy::Random];
    for policy in policies {
        let (mut world, client) = world(2);
        world.worker_may_connect = true;
        for policy in [policy, Policy::RoundRobin, policy] {
            world.change_cluster(|cluster| cluster.policy = policy);
            for _ in 0..5 {
                world.call(client, b'S', 10);
                world.turns(1);
            }
        }
        world.turns(5);
        assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 15], "{policy:?}");
        world.close_clients();
    }
}

#[test]
fn a_call_that_waits_for_ready_does_not_wait_for_a_cluster_that_is_taken_away() {
    let (mut world, client) = world(1);
    world.change_cluster(|cluster| {
        (cluster.wait_for_ready, cluster.endpoints) = (true, Some(Arc::new(EndpointSet::new(&[]))));
    });
    world.call(client, b'S', 10);
    world.turns(30);
    assert_eq!((world.peer(client).ends.len(), world.worker.call_count()), (0, 1));
    world.change_cluster(|cluster| cluster.name = "other".into());
    world.turns(3);
    assert_eq!(world.peer(client).ends, [End::Status(Code::Unavailable)]);
}
