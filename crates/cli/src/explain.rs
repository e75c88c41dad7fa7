//! `evenkeel explain`: which route, cluster, group and endpoint a call would get, which limits it would meet, and why.

use std::process::ExitCode;

use anyhow::Context;
use evenkeel_proxy::control::{ConfigSource, InquiryFields, explain_file};
use serde_json::Value;

use crate::admin::exchange;
use crate::args::ExplainArgs;

/// Endpoints that are printed of one cluster; `--json` has all.
const ENDPOINTS_PRINTED_MAX: usize = 50;

/// Asks a proxy, or looks into a file, and prints the answer.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let asked = InquiryFields {
        method: args.method.clone(),
        headers: args.headers.clone(),
        authority: args.authority.clone(),
        peer_ip: args.peer_ip.clone(),
        listener: args.listener.clone(),
    };
    let text = match &args.config {
        Some(path) => {
            let config = ConfigSource::file(path.clone(), args.zone.clone()).load()?;
            serde_json::to_string_pretty(&explain_file(&config, &asked)?)? + "\n"
        }
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(exchange(&args.admin, "GET", &format!("/explain?{}", query(&asked))))?
        }
    };
    if args.json {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let answer: Value =
        serde_json::from_str(&text).context("the answer is no JSON: is that the proxy's admin interface?")?;
    print!("{}", describe(&answer));
    Ok(ExitCode::SUCCESS)
}

/// The question as the query of a URL.
fn query(asked: &InquiryFields) -> String {
    let headers = asked.headers.iter().map(|header| ("header", header));
    let authority = Some(&asked.authority).filter(|authority| !authority.is_empty());
    [("method", &asked.method)]
        .into_iter()
        .chain(headers)
        .chain(authority.map(|authority| ("authority", authority)))
        .chain(asked.peer_ip.iter().map(|peer| ("peer_ip", peer)))
        .chain(asked.listener.iter().map(|listener| ("listener", listener)))
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}

/// Writes everything but what never means anything in a URL (RFC 3986 section 2.3) as `%XX`.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// An explanation for people.
fn describe(answer: &Value) -> String {
    let mut out = format!(
        "{} at listener {}, by {}\n\nroutes\n",
        text(&answer["method"]),
        text(&answer["listener"]),
        text(&answer["source"])
    );
    for route in list(&answer["routes"]) {
        let to: Vec<&str> = list(&route["to"]).iter().map(text).collect();
        let why = route["why"].as_str().map_or("takes the call".to_owned(), |why| format!("no: {why}"));
        out += &format!("  {} to {}: {why}\n", route["number"], to.join(", "));
    }
    if list(&answer["routes"]).is_empty() {
        out += "  none was looked at\n";
    }
    if !list(&answer["limits"]).is_empty() {
        out += &format!("\nlimits of the route\n{}", describe_limits(&answer["limits"]));
    }
    out += &describe_faults(&answer["faults"]);
    if answer["refused"].is_object() {
        let refused = &answer["refused"];
        out += &format!("\nanswered with {}: {}\n", text(&refused["status"]), text(&refused["message"]));
    }
    if answer["split"].is_object() {
        out += &describe_split(&answer["split"]);
    }
    if answer["mirror"].is_object() {
        let mirror = &answer["mirror"];
        out += &format!("\nmirror: {} % to {}\n", number(&mirror["percent"]), text(&mirror["cluster"]));
    }
    for cluster in list(&answer["clusters"]) {
        out += &describe_cluster(cluster);
    }
    out
}

fn describe_faults(faults: &Value) -> String {
    let mut out = String::new();
    let (delay, abort) = (&faults["delay"], &faults["abort"]);
    if delay.is_object() {
        let (percent, millis) = (number(&delay["percent"]), &delay["millis"]);
        out += &format!("  {percent} % of such calls wait {millis} ms before they go to a backend\n");
    }
    if abort.is_object() {
        let (percent, status) = (number(&abort["percent"]), text(&abort["status"]));
        out += &format!("  {percent} % of such calls are answered with {status} instead\n");
    }
    if out.is_empty() { out } else { format!("\nfaults of the route\n{out}") }
}

fn describe_split(split: &Value) -> String {
    let mut out = "\nsplit".to_owned();
    match (split["sticky_by"].as_str(), split["key"].as_str()) {
        (Some(name), Some(key)) => out += &format!(" by {name} {key:?}: {}\n", text(&split["chosen"])),
        (Some(name), None) => out += &format!(" by chance: the call has no {name}\n"),
        _ => out += " by chance\n",
    }
    for share in list(&split["shares"]) {
        let weight = share["weight"].as_u64().map(|weight| format!(" (weight {weight})"));
        let version = share["version"].as_str().map(|version| format!(" ({version})"));
        let (percent, what) = (number(&share["percent"]), weight.or(version).unwrap_or_default());
        out += &format!("  {}: {percent:.1} %{what}\n", text(&share["cluster"]));
    }
    out
}

/// Limits in the order in which a call meets them.
fn describe_limits(limits: &Value) -> String {
    let line = |limit: &Value| {
        let verdict = match limit["passes"] == Value::Bool(true) {
            true => "lets it through".to_owned(),
            false => format!("does not let it through: {}", text(&limit["above"])),
        };
        format!("  {} {verdict} ({})\n", text(&limit["limit"]), text(&limit["state"]))
    };
    list(limits).iter().map(line).collect()
}

/// Priorities and localities, each with what it gets and why.
fn describe_groups(groups: &Value) -> String {
    let line = |group: &Value| {
        let locality = group["locality"].as_str().map_or(String::new(), |locality| format!(" in {locality}"));
        let percent = number(&group["load_percent"]);
        format!(
            "  priority {}{locality}: {percent:.1} % of the calls: {}\n",
            group["priority"],
            text(&group["why"])
        )
    };
    list(groups).iter().map(line).collect()
}

/// What else is known of an endpoint: slow start, and circuit breakers that are open.
fn describe_hindrances(endpoint: &Value) -> String {
    let mut out = String::new();
    if endpoint["slow_start"].is_object() {
        out += &format!(", slow start at {:.0} %", 100.0 * number(&endpoint["slow_start"]["share"]));
    }
    for breaker in
        list(&endpoint["circuit_breakers"]).iter().filter(|breaker| breaker["open"] == Value::Bool(true))
    {
        let (limit, used, max) = (text(&breaker["limit"]), &breaker["used"], &breaker["max"]);
        out += &format!(", {limit} is open with {used} of {max}");
    }
    out
}

fn describe_cluster(cluster: &Value) -> String {
    let mut out = format!("\ncluster {}: {}", text(&cluster["name"]), text(&cluster["policy"]));
    if let Some(key) = cluster["key"].as_str() {
        out += &format!("; key: {key}");
    }
    if let Some(hash) = cluster["key_hash"].as_str() {
        out += &format!(", hash {hash}");
    }
    if let Some(endpoint) = cluster["key_endpoint"].as_str() {
        out += &format!(", whose own endpoint is {endpoint}");
    }
    if let Some(rule) = cluster["when_unavailable"].as_str().filter(|rule| *rule != "rehash") {
        out += &format!("; when_unavailable: {rule}");
    }
    out.push('\n');
    if let Some(note) = cluster["note"].as_str() {
        out += &format!("  ({note})\n");
    }
    out += &describe_limits(&cluster["limits"]);
    out += &describe_groups(&cluster["groups"]);
    let endpoints = list(&cluster["endpoints"]);
    let width = endpoints.iter().map(|endpoint| text(&endpoint["address"]).len()).max().unwrap_or(0);
    for endpoint in endpoints.iter().take(ENDPOINTS_PRINTED_MAX) {
        let why: Vec<&str> = list(&endpoint["why"]).iter().map(|why| text(&why["text"])).collect();
        let is_eligible = endpoint["eligible"] == Value::Bool(true);
        let mut state = if is_eligible { "eligible" } else { "not eligible" }.to_owned();
        if !why.is_empty() {
            let despite = endpoint["despite"]["text"].as_str().map(|text| format!(", as {text}, although"));
            let some = if is_eligible { ", but not for every worker:" } else { ":" };
            state += &format!("{} {}", despite.as_deref().unwrap_or(some), why.join("; "));
        }
        state += &describe_hindrances(endpoint);
        let (address, percent) = (text(&endpoint["address"]), number(&endpoint["percent"]));
        out += &format!("  {address:width$} {percent:5.1} %  {} in flight, {state}\n", endpoint["in_flight"]);
    }
    if endpoints.len() > ENDPOINTS_PRINTED_MAX {
        out += &format!("  and {} more; --json has all\n", endpoints.len() - ENDPOINTS_PRINTED_MAX);
    }
    out + &format!("  => {}\n", text(&cluster["outcome"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_the_url() {
        let asked = InquiryFields {
            method: "/a.B/C".to_owned(),
            headers: vec!["k=v w&x=1%é".to_owned()],
            peer_ip: Some("::1".to_owned()),
            ..InquiryFields::default()
        };
        assert_eq!(query(&asked), "method=%2Fa.B%2FC&header=k%3Dv%20w%26x%3D1%25%C3%A9&peer_ip=%3A%3A1");
    }

    #[test]
    fn an_explanation_reads_from_route_to_endpoint() {
        let answer = serde_json::json!({
            "source": "the running proxy", "method": "/a.B/C", "listener": "127.0.0.1:50051",
            "routes": [
                { "number": 0, "to": ["x"], "matched": false, "why": "the service is not a.C" },
                { "number": 1, "to": ["stable", "next"], "matched": true },
            ],
            "limits": [{
                "limit": "client_rate", "passes": true, "above": "RESOURCE_EXHAUSTED",
                "state": "one call each 50ms of this client, told by metadata x-user, 50 at once after a rest; 49 left",
            }],
            "faults": {
                "delay": { "millis": 250, "percent": 12.5 },
                "abort": { "status": "INTERNAL", "percent": 0.5 },
            },
            "split": {
                "sticky_by": "x-user", "key": "anna", "chosen": "stable",
                "shares": [
                    { "cluster": "stable", "percent": 90.0, "version": "stable" },
                    { "cluster": "next", "percent": 9.5, "version": "canary" },
                    { "cluster": "old", "weight": 1, "percent": 0.5 },
                ],
            },
            "clusters": [{
                "name": "stable", "policy": "maglev", "key": "metadata x-user", "key_hash": "00ff", "endpoint": "1.2.3.4:5",
                "key_endpoint": "1.2.3.4:5", "when_unavailable": "fail",
                "outcome": "maglev sends it to 1.2.3.4:5",
                "limits": [{ "limit": "max_requests", "passes": false, "state": "9 of 9 attempts under way", "above": "UNAVAILABLE" }],
                "groups": [
                    { "priority": 0, "locality": "eu/a", "load_percent": 70.0, "why": "1 of 2 endpoints are available" },
                    { "priority": 1, "load_percent": 30.0, "why": "it gets what is left" },
                ],
                "endpoints": [
                    { "address": "1.2.3.4:5", "percent": 100.0, "in_flight": 2, "eligible": true, "why": [],
                      "circuit_breakers": [{ "limit": "max_requests", "used": 2, "max": 2, "open": true }] },
                    {
                        "address": "1.2.3.4:50", "percent": 0.0, "in_flight": 0, "eligible": false,
                        "why": [{ "text": "outlier detection ejected it" }],
                    },
                    {
                        "address": "1.2.3.4:7", "percent": 0.0, "in_flight": 0, "eligible": true,
                        "despite": { "text": "no other endpoint can take calls" },
                        "why": [{ "text": "its active health checks fail" }],
                    },
                ],
            }],
        });
        let expected = "/a.B/C at listener 127.0.0.1:50051, by the running proxy\n\n\
            routes\n\
            \x20 0 to x: no: the service is not a.C\n\
            \x20 1 to stable, next: takes the call\n\n\
            limits of the route\n\
            \x20 client_rate lets it through (one call each 50ms of this client, told by metadata x-user, 50 at once after a rest; \
            49 left)\n\n\
            faults of the route\n\
            \x20 12.5 % of such calls wait 250 ms before they go to a backend\n\
            \x20 0.5 % of such calls are answered with INTERNAL instead\n\n\
            split by x-user \"anna\": stable\n\
            \x20 stable: 90.0 % (stable)\n\
            \x20 next: 9.5 % (canary)\n\
            \x20 old: 0.5 % (weight 1)\n\n\
            cluster stable: maglev; key: metadata x-user, hash 00ff, whose own endpoint is 1.2.3.4:5; \
            when_unavailable: fail\n\
            \x20 max_requests does not let it through: UNAVAILABLE (9 of 9 attempts under way)\n\
            \x20 priority 0 in eu/a: 70.0 % of the calls: 1 of 2 endpoints are available\n\
            \x20 priority 1: 30.0 % of the calls: it gets what is left\n\
            \x20 1.2.3.4:5  100.0 %  2 in flight, eligible, max_requests is open with 2 of 2\n\
            \x20 1.2.3.4:50   0.0 %  0 in flight, not eligible: outlier detection ejected it\n\
            \x20 1.2.3.4:7    0.0 %  0 in flight, eligible, as no other endpoint can take calls, although its active health checks fail\n\
            \x20 => maglev sends it to 1.2.3.4:5\n";
        assert_eq!(describe(&answer), expected);
    }
}
