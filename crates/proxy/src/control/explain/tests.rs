//! What is told of a configuration file.

use serde_json::{Value, json};

use super::{Explanation, InquiryError, InquiryFields, explain_file};

/// What a call with these header fields would get from the only route, to a cluster of three endpoints.
fn explained(route: &str, cluster: &str, headers: &[&str]) -> Value {
    let headers = headers.iter().map(|&header| header.into()).collect();
    let told = told_of(route, cluster, InquiryFields { headers, ..InquiryFields::default() });
    serde_json::to_value(told.unwrap()).unwrap()
}

fn told_of(route: &str, cluster: &str, asked: InquiryFields) -> Result<Explanation, InquiryError> {
    let target = "ipv4:127.0.0.1:1,127.0.0.1:2,127.0.0.1:3";
    let text = format!(
        "listeners: [{{address: '127.0.0.1:50051', routes: [{{cluster: orders, {route}}}]}}]\n\
         clusters: [{{name: orders, target: '{target}', {cluster}}}]\n"
    );
    let config =
        evenkeel_config::parse("text", &text).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    explain_file(&config, &InquiryFields { method: "/a.B/C".into(), ..asked })
}

#[test]
fn a_call_that_is_answered_on_purpose_is_told_its_answer_and_no_endpoint() {
    let told = explained("fault: {abort: {code: INTERNAL}}", "", &[]);
    assert_eq!(told["refused"], json!({ "status": "Internal", "message": "fault filter abort" }));
    assert_eq!(told["faults"], json!({ "abort": { "status": "Internal", "percent": 100.0 } }));
    assert_eq!(told["clusters"], json!([]));
}

#[test]
fn faults_of_a_part_of_the_calls_are_told_with_the_part_and_the_endpoints_as_well() {
    let route = "fault: {delay: {fixed: 1500ms, percent: 10}, abort: {code: INTERNAL, percent: 99.9999}}";
    let told = explained(route, "", &[]);
    let faults = json!({
        "delay": { "millis": 1500, "percent": 10.0 },
        "abort": { "status": "Internal", "percent": 99.9999 },
    });
    assert_eq!((&told["faults"], &told["refused"]), (&faults, &Value::Null));
    assert_eq!(told["clusters"][0]["endpoints"].as_array().map(Vec::len), Some(3));
    assert_eq!(explained("", "", &[])["faults"], Value::Null);
}

#[test]
fn a_fault_that_the_call_asks_for_is_told_where_the_route_allows_it() {
    let header = ["x-evenkeel-fault-abort=14", "x-evenkeel-fault-delay-ms=7"];
    let told = explained("fault: {by_header: true}", "", &header);
    assert_eq!(told["refused"]["status"], "Unavailable");
    assert_eq!(told["faults"]["delay"], json!({ "millis": 7, "percent": 100.0 }));
    let told = explained("fault: {by_header: true}", "", &[]);
    assert_eq!((&told["refused"], &told["faults"]), (&Value::Null, &Value::Null));
    let told = explained("fault: {abort: {code: INTERNAL, percent: 1}}", "", &header);
    assert_eq!((&told["refused"], &told["faults"]["abort"]["status"]), (&Value::Null, &json!("Internal")));
}

/// Without the address the answer would be that of the next source, which no call on TCP comes to.
#[test]
fn what_is_made_of_the_clients_address_is_not_told_without_it() {
    let by_address = "policy: maglev, hash_by: [source_ip]";
    let limited = "rate_limit: {per_client: {by: [source_ip], requests: 2}}";
    for (route, cluster, of) in [
        ("", by_address, "the call's key at cluster orders"),
        (limited, "", "what tells clients apart under the route's rate limit"),
        (&format!("{limited}, fault: {{abort: {{code: INTERNAL}}}}"), "", "what tells clients apart"),
    ] {
        let text = told_of(route, cluster, InquiryFields::default()).unwrap_err().to_string();
        assert!(text.starts_with(of) && text.contains("--peer-ip"), "{text}");
        let with_address = InquiryFields { peer_ip: Some("10.0.0.7".into()), ..InquiryFields::default() };
        assert!(told_of(route, cluster, with_address).is_ok());
    }
    let named = "policy: maglev, hash_by: [{metadata: x-user}, source_ip]";
    assert_eq!(explained("", named, &["x-user=anna"])["clusters"][0]["key"], "metadata x-user");
    assert_eq!(explained("fault: {abort: {code: INTERNAL}}", by_address, &[])["clusters"], json!([]));
}

#[test]
fn a_key_that_insists_on_an_endpoint_with_an_open_breaker_is_told_which() {
    let cluster = |affinity: &str| {
        format!(
            "policy: {{maglev: {{{affinity}}}}}, hash_by: [{{metadata: x-user}}], \
             circuit_breakers: {{per_endpoint: {{max_requests: 0}}}}"
        )
    };
    let outcome = |affinity: &str, headers: &[&str]| {
        let told = explained("", &cluster(affinity), headers);
        let cluster = &told["clusters"][0];
        (cluster["outcome"].as_str().unwrap().to_owned(), cluster["key_endpoint"].as_str().map(str::to_owned))
    };
    let (told, own) = outcome("when_unavailable: fail", &["x-user=anna"]);
    let own = own.unwrap();
    assert_eq!(
        told,
        format!(
            "it fails with UNAVAILABLE: the circuit breaker of {own}, the endpoint of the call's key, is open, and with \
             `when_unavailable: fail` no other may take it"
        )
    );
    let of_each = "it fails with UNAVAILABLE: the circuit breaker of each endpoint is open";
    assert_eq!(outcome("", &["x-user=anna"]).0, of_each);
    assert_eq!(outcome("when_unavailable: fail", &[]).0, of_each, "a call without a key insists on nothing");
}

/// What is told by this file of a call with these users.
fn of_users(text: &str, users: &[&str]) -> Value {
    let config =
        evenkeel_config::parse("text", text).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let asked = InquiryFields {
        method: "/a.B/C".into(),
        headers: users.iter().map(|user| format!("x-user={user}")).collect(),
        ..InquiryFields::default()
    };
    serde_json::to_value(explain_file(&config, &asked).unwrap()).unwrap()
}

#[test]
fn keys_and_clients_are_told_by_what_the_client_sent_whatever_the_route_makes_of_it() {
    let text = "listeners:\n\
        - address: '127.0.0.1:50051'\n  \
          routes:\n  \
          - split: [{cluster: a, weight: 1}, {cluster: b, weight: 1}]\n    \
            sticky_by: x-user\n    \
            rate_limit: {per_client: {by: [{metadata: x-user}], requests: 1}}\n    \
            request_metadata: {set: {x-user: ours}}\n\
        clusters:\n\
        - {name: a, target: 'ipv4:127.0.0.1:1,127.0.0.1:2', policy: maglev, hash_by: [{metadata: x-user}]}\n\
        - {name: b, target: 'ipv4:127.0.0.1:3,127.0.0.1:4', policy: maglev, hash_by: [{metadata: x-user}]}\n";
    let anna = of_users(text, &["anna"]);
    assert_eq!(anna["split"]["key"], "anna");
    assert_eq!(of_users(text, &["anna", "ben"])["split"]["key"], "anna,ben");
    let without = text.replace("request_metadata: {set: {x-user: ours}}", "");
    for user in ["anna", "ben", "ours", "carl"] {
        assert_eq!(of_users(text, &[user]), of_users(&without, &[user]), "{user}");
    }
    assert_eq!(
        of_users(text, &[])["clusters"][0]["key_hash"],
        Value::Null,
        "no client sent what the route sets"
    );
}

#[test]
fn an_empty_value_is_no_key() {
    let told = explained("", "policy: maglev, hash_by: [{metadata: x-user}]", &["x-user="]);
    assert_eq!(told["clusters"][0]["key_hash"], Value::Null);
    let told = explained(
        "",
        "policy: maglev, hash_by: [{metadata: x-user}, {metadata: x-other}]",
        &["x-user=", "x-other=a"],
    );
    assert_eq!(told["clusters"][0]["key"], "metadata x-other");
    let text = "listeners: [{address: '127.0.0.1:50051', routes: [{split: [{cluster: a, weight: 1}, \
                {cluster: b, weight: 1}], sticky_by: x-user}]}]\n\
                clusters: [{name: a, target: 'ipv4:127.0.0.1:1'}, {name: b, target: 'ipv4:127.0.0.1:2'}]\n";
    let split = |user: &str| {
        let mut told = of_users(text, &[user]);
        told["split"].take()
    };
    assert_eq!((&split("")["key"], &split("")["chosen"]), (&Value::Null, &Value::Null), "chance decides");
    assert_eq!(split("anna")["key"], "anna");
}
