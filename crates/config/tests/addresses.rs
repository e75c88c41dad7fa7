//! Addresses and paths that two keys name.

use evenkeel_config::parse;

const GOOD: &str = "listeners: [{address: '0.0.0.0:50051', routes: [{cluster: orders}]}]
clusters: [{name: orders, target: 'dns:///orders:50051'}]
";

#[test]
fn what_is_taken_is_a_port_or_a_path() {
    let help = |address: &str| {
        let text = format!("admin: {{address: '{address}'}}\n{}", GOOD.replace("0.0.0.0:50051", address));
        parse("text", &text).unwrap_err().errors()[0].fault.help()
    };
    assert_eq!(help("127.0.0.1:50051").as_deref(), Some("give each its own port"));
    assert_eq!(help("unix:/run/evenkeel").as_deref(), Some("give each its own path"));
}

/// The codes of all that is wrong, with the path of each.
fn faults(text: &str) -> Vec<(&'static str, String)> {
    let Err(errors) = parse("text", text) else { return Vec::new() };
    errors.errors().iter().map(|error| (error.fault.code(), error.place.path.clone())).collect()
}

#[test]
fn an_address_is_the_same_in_both_families() {
    let second = "{address: '[::ffff:127.0.0.1]:50051', routes: [{cluster: orders}]}";
    let text =
        GOOD.replace("0.0.0.0:50051", "127.0.0.1:50051").replace("}]}]\n", &format!("}}]}}, {second}]\n"));
    assert_eq!(faults(&text), [("address_taken", "listeners[1].address".to_owned())]);
    assert_eq!(faults(&text.replace("ffff:127.0.0.1", "ffff:127.0.0.2")), []);
    let admin = format!("admin: {{address: '[::ffff:127.0.0.1]:50051'}}\n{GOOD}");
    assert_eq!(faults(&admin), [("address_taken", "admin.address".to_owned())]);
}

#[test]
fn no_call_comes_back_to_the_cluster_that_it_came_from() {
    // A listener that leads elsewhere, one with a route to `one`, another with this route, and what two clusters are.
    let text = |second: &str, one: &str, two: &str| {
        format!(
            "listeners:\n\
             - {{address: '127.0.0.1:3', routes: [{{cluster: other}}]}}\n\
             - {{address: '127.0.0.1:1', routes: [{{cluster: one}}]}}\n\
             - {{address: 'unix:/run/second', routes: [{second}]}}\n\
             clusters:\n\
             - {{name: one, target: {one}}}\n\
             - {{name: two, target: {two}}}\n\
             - {{name: other, target: b}}\n"
        )
    };
    let at = |path: &str| ("loop", format!("clusters[{path}"));
    let (elsewhere, to_one, to_two) = ("'ipv4:10.0.0.1:1'", "{cluster: one}", "{cluster: two}");
    for (second, one, two, expected) in [
        (to_two, "'ipv4:127.0.0.1:1'", elsewhere, vec![at("0].target")]),
        // What is sent to no address in particular comes to the loopback interface.
        (to_two, "'ipv4:0.0.0.0:1'", elsewhere, vec![at("0].target")]),
        (to_two, "'ipv6:[::]:1'", elsewhere, vec![]),
        (
            to_two,
            "['dns:///a:1', {target: 'ipv4:127.0.0.1:1', priority: 1}]",
            elsewhere,
            vec![at("0].target[1]")],
        ),
        // One of several addresses, which another listener has.
        (to_two, "'ipv4:10.0.0.1:1,127.0.0.1:3,127.0.0.1:1'", elsewhere, vec![at("0].target")]),
        // One listener hands its calls to the other, which leads elsewhere.
        (to_two, "'unix:/run/second'", elsewhere, vec![]),
        (to_one, "'unix:/run/second'", elsewhere, vec![at("0].target")]),
        (to_two, "'unix:/run/second'", "'ipv4:127.0.0.1:1'", vec![at("0].target"), at("1].target")]),
        (
            "{split: [{cluster: two, weight: 1}, {cluster: one, weight: 1}]}",
            "'unix:/run/second'",
            elsewhere,
            vec![at("0].target")],
        ),
        ("{cluster: two, mirror: {cluster: one}}", "'unix:/run/second'", elsewhere, vec![at("0].target")]),
        // Copies have an authority of their own.
        (
            "{match: {authority: x}, cluster: two, mirror: {cluster: one}}, {cluster: two}",
            "'unix:/run/second'",
            elsewhere,
            vec![],
        ),
        // Nothing leads to it, or it gets no calls.
        (to_one, elsewhere, "'unix:/run/second'", vec![]),
        (to_two, "['dns:///a:1', {target: 'ipv4:127.0.0.1:1', weight: 0}]", elsewhere, vec![]),
    ] {
        assert_eq!(faults(&text(second, one, two)), expected, "{second}, {one}, {two}");
    }
    let errors = parse("text", &text(to_two, "'ipv4:127.0.0.1:1'", elsewhere)).unwrap_err();
    let related = errors.errors()[0].related.as_ref().map(|place| place.path.as_str());
    assert_eq!(related, Some("listeners[1].address"));
}

/// Each case: the routes of one listener, those of another, and what is told.
type Cases<'a> = &'a [(&'a str, &'a str, Vec<(&'a str, String)>)];

/// Looks at two listeners with such routes, to which `to_one` and `to_two` lead.
fn check_loops(cases: Cases<'_>) {
    for (one, two, expected) in cases {
        let text = format!(
            "listeners:\n\
             - {{address: '127.0.0.1:1', routes: [{one}]}}\n\
             - {{address: '127.0.0.1:2', routes: [{two}]}}\n\
             clusters:\n\
             - {{name: to_one, target: 'ipv4:127.0.0.1:1'}}\n\
             - {{name: to_two, target: 'ipv4:127.0.0.1:2'}}\n\
             - {{name: back, target: 'ipv4:10.0.0.1:1'}}\n\
             - {{name: other, target: 'ipv4:10.0.0.2:1'}}\n"
        );
        assert_eq!(faults(&text), *expected, "{one}; {two}");
    }
}

/// Both clusters lead calls round.
fn both() -> Vec<(&'static str, String)> {
    ["0", "1"].map(|place| ("loop", format!("clusters[{place}].target"))).to_vec()
}

#[test]
fn two_listeners_may_hand_each_other_calls_that_do_not_come_back() {
    check_loops(&[
        ("{cluster: to_two}", "{cluster: to_one}", both()),
        (
            "{match: {service: s}, cluster: to_two}, {match: {service: t}, cluster: back}",
            "{match: {service: s}, cluster: back}, {match: {service: t}, cluster: to_one}",
            vec![],
        ),
        // The first route that fits takes the call.
        (
            "{match: {service: s}, cluster: to_two}",
            "{match: {service: s}, cluster: back}, {cluster: to_one}",
            vec![],
        ),
        ("{match: {service: s}, cluster: to_two}", "{match: {service_prefix: s}, cluster: to_one}", both()),
        (
            "{match: {service: s}, cluster: to_two}",
            "{match: {service: s, method: m}, cluster: to_one}",
            both(),
        ),
        (
            "{match: {service: s, method: n}, cluster: to_two}",
            "{match: {service: s, method: m}, cluster: to_one}",
            vec![],
        ),
        ("{match: {path_regex: '/s.*'}, cluster: to_two}", "{match: {service: s}, cluster: to_one}", both()),
        (
            "{match: {metadata: [{name: x, exact: a}]}, cluster: to_two}",
            "{match: {metadata: [{name: x, exact: b}]}, cluster: to_one}",
            vec![],
        ),
        ("{match: {metadata: [{name: x, exact: a}]}, cluster: to_two}", "{cluster: to_one}", both()),
        // What changes calls on their way may end it.
        (
            "{match: {metadata: [{name: hop, present: true}]}, cluster: back}, {cluster: to_two, request_metadata: {set: {hop: h}}}",
            "{cluster: to_one}",
            vec![],
        ),
        ("{match: {authority: a}, cluster: to_two}", "{match: {authority: b}, cluster: to_one}", vec![]),
        (
            "{match: {authority: [a, c]}, cluster: to_two}",
            "{match: {authority: [b, 'c:1']}, cluster: to_one}",
            both(),
        ),
        (
            r"{match: {service: a.S, method: M}, cluster: to_two}",
            r"{match: {path_regex: '/b\..*'}, cluster: to_one}, {cluster: back}",
            vec![],
        ),
        // What went past an expression does not meet it.
        (
            r"{match: {path_regex: '/a\.b\..*'}, cluster: back}, {match: {service_prefix: a.}, cluster: to_two}",
            r"{match: {path_regex: '/a\.b\..*'}, cluster: to_one}, {cluster: back}",
            vec![],
        ),
    ]);
}

#[test]
fn shares_and_copies_lead_round_as_far_as_they_get_calls() {
    check_loops(&[
        ("{cluster: to_two}", "{split: [{cluster: to_one, weight: 0}, {cluster: back, weight: 1}]}", vec![]),
        (
            "{cluster: to_two}",
            "{split: [{cluster: to_one, weight: 0}, {cluster: back, weight: 1}], canary: {stable: back, canary: to_one}}",
            both(),
        ),
        ("{cluster: to_two}", "{cluster: back, mirror: {cluster: to_one, percent: 0}}", vec![]),
        ("{cluster: to_two}", "{cluster: back, mirror: {cluster: to_one, percent: 1}}", both()),
        (
            "{cluster: to_two}",
            "{split: [{cluster: to_one, weight: 0}, {cluster: back, weight: 1}, {cluster: other, weight: 0}], canary: {stable: back, canary: other}}",
            vec![],
        ),
    ]);
}

#[test]
fn what_is_written_is_no_other_file_and_no_socket() {
    let text = |top: &str| {
        format!(
            "{top}\n\
             listeners: [{{address: 'unix:/run/listener', routes: [{{cluster: a}}]}}]\n\
             clusters:\n\
             - {{name: a, target: ['file:/etc/list.yaml', {{target: 'unix:/run/backend', priority: 1}}]}}\n"
        )
    };
    for (path, other) in [
        ("/etc/list.yaml", "clusters[0].target[0]"),
        ("/run/backend", "clusters[0].target[1]"),
        ("/run/listener", "listeners[0].address"),
        ("/run/admin", "admin.address"),
        ("/var/log/calls", "access_log"),
        ("/etc//list.yaml", "clusters[0].target[0]"),
    ] {
        let files =
            format!("access_log: /var/log/calls\nadmin: {{address: 'unix:/run/admin'}}\nstate_file: {path}");
        let errors = parse("text", &text(&files)).unwrap_err();
        let error = &errors.errors()[0];
        let related = error.related.as_ref().map(|place| place.path.as_str());
        assert_eq!(errors.errors().len(), 1, "{errors}");
        assert_eq!(
            (error.fault.code(), error.place.path.as_str(), related),
            ("same_path", "state_file", Some(other))
        );
    }
    assert_eq!(faults(&text("access_log: /etc/list.yaml")), [("same_path", "access_log".to_owned())]);
    for files in ["state_file: /var/state\naccess_log: /var/log/calls", "state_file: off\naccess_log: stdout"]
    {
        assert_eq!(faults(&text(files)), [], "{files}");
    }
}
