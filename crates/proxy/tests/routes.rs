//! What a route does to its calls, among peers.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use std::sync::Arc;

use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::overload::Accountant;
use evenkeel_proxy::worker::rewrite::{MetadataChange, Rewrite};
use evenkeel_proxy::worker::route::{RouteActions, RouteTable};
use evenkeel_proxy::worker::snapshot::Listener;

use peers::{End, World};

/// A world whose only route does this.
fn world(actions: RouteActions) -> World {
    World::with_backends(&Accountant::new(1 << 30), Limits::edge(), 1, |_, route| {
        route.actions = Some(Arc::new(actions));
    })
}

/// Values of a field.
fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
}

fn rewriting() -> World {
    let change = || MetadataChange::default().set("x-set", "ours").add("x-add", "ours").remove("x-remove");
    let rewrite = Rewrite {
        request: change(),
        response: MetadataChange::default().add("x-begun", "1").remove("x-remove"),
        trailers: MetadataChange::default().add("x-ended", "1"),
    };
    world(RouteActions { rewrite })
}

#[test]
fn metadata_is_changed_on_the_way_to_the_backend() {
    let mut world = rewriting();
    let client = world.client();
    let (now, backend) = (world.now, world.backend);
    // Twice: the second is sent by reference to the backend's table.
    for _ in 0..2 {
        let fields = [("x-set", "theirs"), ("x-add", "theirs"), ("x-remove", "1"), ("x-set", "more")];
        let stream = world.peer(client).begin(now, &fields);
        world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
        world.turns(3);
        let asked = &world.peer(backend).asked_with;
        assert_eq!(values(asked, "x-set"), ["ours"]);
        assert_eq!(values(asked, "x-add"), ["theirs", "ours"]);
        assert!(values(asked, "x-remove").is_empty());
        assert_eq!(values(asked, ":path"), ["/pkg.Service/Method"]);
    }
    assert_eq!(world.peer(client).ends, [End::Status(Code::Ok); 2]);
    world.close_clients();
}

#[test]
fn metadata_is_changed_on_the_way_to_the_client() {
    let mut world = rewriting();
    let client = world.client();
    world.call(client, b'a', 10);
    world.turns(3);
    let peer = world.peer(client);
    assert_eq!(values(&peer.answered_with, "x-begun"), ["1"]);
    assert!(values(&peer.answered_with, "x-ended").is_empty());
    assert_eq!(values(&peer.ended_with, "x-ended"), ["1"]);
    assert!(values(&peer.ended_with, "x-begun").is_empty());
    world.close_clients();
}

#[test]
fn an_answer_of_our_own_is_changed_as_a_whole() {
    let mut world = rewriting();
    let client = world.client();
    let now = world.now;
    world.peer(client).begin(now, &[("grpc-timeout", "1m")]);
    world.turns(3);
    let peer = world.peer(client);
    assert_eq!(peer.ends, [End::Status(Code::DeadlineExceeded)]);
    assert_eq!(values(&peer.ended_with, "x-begun"), ["1"]);
    assert_eq!(values(&peer.ended_with, "x-ended"), ["1"]);
    world.close_clients();
}

#[test]
fn a_call_keeps_the_changes_that_it_began_with_over_a_reload() {
    let mut world = rewriting();
    let client = world.client();
    let (now, backend) = (world.now, world.backend);
    let stream = world.peer(client).begin(now, &[]);
    world.turns(2);
    let listener = Listener::new("test", Limits::edge(), RouteTable::to_cluster(0));
    world.reload(listener);
    world.peer(client).http2.send_data(now, stream, b"\0\0\0\0\0", true).unwrap();
    world.turns(3);
    assert_eq!(values(&world.peer(client).ended_with, "x-ended"), ["1"]);
    world.call(client, b'a', 10);
    world.turns(3);
    assert!(values(&world.peer(client).ended_with, "x-ended").is_empty());
    assert!(values(&world.peer(backend).asked_with, "x-set").is_empty());
    world.close_clients();
}
